// Package webhook tells endpoints of events: signed messages in the form of Standard
// Webhooks (https://www.standardwebhooks.com), for a deployment in one process.
//
// Each event is one row for each endpoint that asks for it, in the table that holds what
// the event is about: durable before the event leaves its outbox, and gone once the
// endpoint has taken it. So a restart loses nothing. A row is tried at once, then ever
// less often for three days; the tick finds those whose time has come. What is given up
// stays among the dead letters, to be read and sent anew, for a month.
//
// An endpoint gets no more than a few messages at a time, each has five seconds, and one
// that hangs holds up no other.
package webhook

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/evergrant/evergrant/internal/events"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/metric"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/schedule"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/wire"
)

const (
	timeout = 5 * time.Second // of one try, its answer read
	atOnce  = 4               // messages on their way to one endpoint
	backlog = 256             // messages that wait for that in memory; the others wait in the table
	maxBody = 64 << 10        // bytes of an answer that are read
)

// pauses are the minutes before each further try. They are those that the specification
// recommends, but for the seconds of its first one: the tick comes once a minute. After
// the last try, 75 hours from the first one, a message is given up.
func pauses() []int64 { return []int64{1, 5, 30, 120, 300, 600, 840, 1200, 1440} }

// deadAge is how long a dead letter is kept, s.
const deadAge = 30 * 24 * 3600

// dead is the partition of the index todo that holds the dead letters. No tick walks it.
const dead = "dead"

// Endpoint is one URL that is told of events.
type Endpoint struct {
	URL    string   // https, or http on loopback
	Events []string // types; none: all
	// Secrets reads what messages are signed with, each of them by all: one, or the new
	// and the previous one while the secret is changed. Their form is whsec_ and base64.
	Secrets func(ctx context.Context) ([]secret.Text, error)
	// AllowPrivate lets the URL lead into private networks.
	AllowPrivate bool
}

func (e Endpoint) wants(typ string) bool { return len(e.Events) == 0 || slices.Contains(e.Events, typ) }

// id names the endpoint in keys. The URL may hold what admits a request, so that it
// stands in no key.
func (e Endpoint) id() string {
	sum := sha256.Sum256([]byte(e.URL))
	return hex.EncodeToString(sum[:8])
}

// shown is the part of the URL that may be shown.
func (e Endpoint) shown() string {
	u, err := url.Parse(e.URL)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// Config is what a Sender is made of. All fields are required but those that say
// otherwise.
type Config struct {
	Endpoints []Endpoint
	Table     item.Table // connections
	Now       func() time.Time
	Log       *slog.Logger
	UserAgent string
	// Observe, where set, takes what the sender measures of itself. It is called concurrently.
	Observe func(m metric.Metric, p metric.Point, v float64)
	// TLS is for tests with their own root; nil: the system's.
	TLS *tls.Config
}

// Sender is the events.Sink of webhooks. It may be used concurrently. Nothing is sent
// before Run.
type Sender struct {
	Config
	lanes map[string]*lane // by the endpoint's id
}

var _ events.Sink = (*Sender)(nil)

// lane is one endpoint with what waits for it in this process.
type lane struct {
	Endpoint
	client  *http.Client
	waiting chan string // keys

	mu      sync.Mutex
	running map[string]bool // keys that wait or are on their way; guarded by mu
}

// New returns a Sender.
func New(c Config) *Sender {
	s := &Sender{Config: c, lanes: map[string]*lane{}}
	for _, e := range c.Endpoints {
		transport := provider.NewTransport(provider.TransportOptions{AllowLoopback: onLoopback(e.URL), AllowPrivate: e.AllowPrivate, TLS: c.TLS})
		s.lanes[e.id()] = &lane{Endpoint: e, waiting: make(chan string, backlog), running: map[string]bool{}, client: &http.Client{
			Transport: transport, Timeout: timeout,
			// A redirect would carry the message where nobody has configured it.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}}
	}
	return s
}

func onLoopback(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

const prefix = "hook#"

func keyOf(endpoint, event string) string { return prefix + endpoint + "#" + event }

// endpointOf is the endpoint's id in a key; false for a key that is not ours.
func endpointOf(key string) (string, bool) {
	rest, ok := strings.CutPrefix(key, prefix)
	id, _, found := strings.Cut(rest, "#")
	return id, ok && found
}

func eventOf(key string) string {
	_, id, _ := strings.Cut(strings.TrimPrefix(key, prefix), "#")
	return id
}

// The attributes of a row, beside todo.
const (
	aType  = "event" // type of the event
	aBody  = "body"  // the message
	aHost  = "host"  // of the endpoint, as it is shown
	aMade  = "made"  // unix s
	aNext  = "next"  // unix s: not before
	aTries = "tries" // so far
	aError = "error" // of the last try
	aDead  = "died"  // unix s
	todo   = "todo"  // where the tick finds it, or dead
	minute = int64(60)
)

// Send implements events.Sink: it files a message for each endpoint that asks for the
// event. They are sent by Run.
func (s *Sender) Send(ctx context.Context, list []wire.Event) (int, error) {
	for n, e := range list {
		body, err := json.Marshal(wire.Webhook{Type: e.Type, Timestamp: e.At, Data: e})
		if err != nil {
			return n, err
		}
		for id, l := range s.lanes {
			if !l.wants(e.Type) {
				continue
			}
			key := keyOf(id, e.ID)
			now := s.Now().Unix()
			_, err := s.Table.Update(ctx, key, item.Update{Target: item.Absent, Set: []item.Assign{
				item.Put(aType, e.Type), item.Put(aBody, string(body)), item.Put(aHost, l.shown()), item.Put(aMade, now),
				item.Put(aTries, int64(0)), item.Put(todo, schedule.TodoPartition(key, now+minute)),
			}})
			if err != nil {
				return n, fmt.Errorf("file a webhook: %w", err)
			}
			l.push(key)
		}
	}
	return len(list), nil
}

// push has a message sent soon. False: too many wait already.
func (l *lane) push(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running[key] {
		return true
	}
	select {
	case l.waiting <- key:
		l.running[key] = true
		return true
	default:
		return false
	}
}

func (l *lane) done(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.running, key)
}

// Run sends what is filed, until ctx ends; then what is on its way is broken off, and
// tried again by the next process.
func (s *Sender) Run(ctx context.Context) {
	var group sync.WaitGroup
	for _, l := range s.lanes {
		for range atOnce {
			group.Go(func() {
				for {
					select {
					case key := <-l.waiting:
						s.try(ctx, l, key)
						l.done(key)
					case <-ctx.Done():
						return
					}
				}
			})
		}
	}
	group.Wait()
}

// TakeUp goes on with a message that the tick found on its list. Keys that are not ours
// are left alone.
func (s *Sender) TakeUp(ctx context.Context, key string) {
	id, ours := endpointOf(key)
	if !ours {
		return
	}
	l := s.lanes[id]
	if l != nil && l.push(key) {
		return
	}
	i, err := s.Table.Get(ctx, key)
	if err != nil || i == nil || i.String(todo) == dead {
		return
	}
	if l == nil {
		s.count(i, outcomeDead)
		s.write(ctx, key, given(i, s.Now().Unix(), i.Int(aTries), "its endpoint is no longer in the configuration"))
		return
	}
	s.write(ctx, key, item.Update{ // no room now, which is no try
		If: []item.Cond{item.Eq(todo, i.String(todo))}, Set: []item.Assign{item.Put(todo, schedule.TodoPartition(key, s.Now().Unix()+minute))},
	})
}

// given is the write that gives a message up.
func given(i item.Item, now, tries int64, why string) item.Update {
	return item.Update{
		If: []item.Cond{item.Eq(todo, i.String(todo)), item.Eq(aTries, i.Int(aTries))},
		Set: []item.Assign{
			item.Put(todo, dead), item.Put(aDead, now), item.Put(aTries, tries), item.Put(aError, why),
		},
	}
}

// try sends one message once. A crash after the endpoint took it, and before the row is
// gone, sends it again.
func (s *Sender) try(ctx context.Context, l *lane, key string) {
	i, err := s.Table.Get(ctx, key)
	if err != nil {
		s.Log.Warn("webhook", "endpoint", l.shown(), "error", err.Error())
		return
	}
	now := s.Now().Unix()
	if i == nil || i.String(todo) == dead || i.Int(aNext) > now {
		return
	}
	id := eventOf(key)
	over, err := s.post(ctx, l, id, i.String(aBody))
	if err == nil {
		s.count(i, outcomeDelivered)
		if _, err := s.Table.Delete(context.WithoutCancel(ctx), key); err != nil {
			s.Log.Warn("webhook", "endpoint", l.shown(), "event", id, "error", err.Error())
		}
		return
	}
	if ctx.Err() != nil {
		return // this process ends, which is no fault of the endpoint
	}
	tries := i.Int(aTries) + 1
	s.Log.Warn("webhook", "endpoint", l.shown(), "event", id, "tries", tries, "error", err.Error())
	if wait := pauses(); !over && tries <= int64(len(wait)) {
		s.count(i, outcomeFailed)
		next := now + wait[tries-1]*minute
		s.write(ctx, key, item.Update{
			If: []item.Cond{item.Eq(todo, i.String(todo)), item.Eq(aTries, tries-1)},
			Set: []item.Assign{
				item.Put(aTries, tries), item.Put(aNext, next), item.Put(aError, err.Error()), item.Put(todo, schedule.TodoPartition(key, next)),
			},
		})
		return
	}
	s.count(i, outcomeDead)
	s.Log.Error("a webhook is given up", "endpoint", l.shown(), "event", id, "tries", tries)
	s.write(ctx, key, given(i, now, tries, err.Error()))
}

// The outcomes of a try, for the measurement.
const (
	outcomeDelivered = "delivered"
	outcomeFailed    = "failed" // and tried again
	outcomeDead      = "dead"
)

// count measures what came of a message.
func (s *Sender) count(i item.Item, outcome string) {
	if s.Observe == nil {
		return
	}
	var message wire.Webhook
	_ = json.Unmarshal([]byte(i.String(aBody)), &message) // our own; without it no integration is named
	s.Observe(metric.Webhooks, metric.Point{Integration: message.Data.Integration, Outcome: outcome}, 1)
}

func (s *Sender) write(ctx context.Context, key string, u item.Update) {
	if _, err := s.Table.Update(ctx, key, u); err != nil {
		s.Log.Warn("webhook", "error", err.Error()) // it stands where it stood, and is found there
	}
}

// post sends one message. over says that trying again is of no use. Errors hold neither
// the URL nor anything of the answer's body.
func (s *Sender) post(ctx context.Context, l *lane, id, body string) (over bool, err error) {
	at := s.Now()
	signature, err := sign(ctx, l.Endpoint, id, at, body)
	if err != nil {
		return false, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.URL, bytes.NewReader([]byte(body)))
	if err != nil {
		return true, errors.New("the URL cannot be used")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", s.UserAgent)
	req.Header.Set(standardwebhooks.HeaderWebhookID, id)
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
	req.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	res, err := l.client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // its own text holds the URL
		}
		return false, fmt.Errorf("post: %w", err)
	}
	defer func() { _ = res.Body.Close() }() // its status is all that counts
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxBody))
	switch {
	case res.StatusCode >= 200 && res.StatusCode < 300:
		return false, nil
	case res.StatusCode == http.StatusGone: // "the endpoint wants no more", by the specification
		return true, errors.New("status 410: the endpoint takes no more messages")
	case res.StatusCode >= 300 && res.StatusCode < 400:
		return false, fmt.Errorf("status %d: redirects are not followed", res.StatusCode)
	}
	return false, fmt.Errorf("status %d", res.StatusCode)
}

// sign returns the signatures by all secrets of the endpoint, for receivers that know
// one of them.
func sign(ctx context.Context, e Endpoint, id string, at time.Time, body string) (string, error) {
	secrets, err := e.Secrets(ctx)
	if err != nil {
		return "", err
	}
	var all []string
	for _, text := range secrets {
		hook, err := signer(text)
		if err != nil {
			return "", err
		}
		signature, err := hook.Sign(id, at, []byte(body))
		if err != nil {
			return "", errors.New("the message cannot be signed")
		}
		all = append(all, signature)
	}
	if len(all) == 0 {
		return "", errors.New("there is no secret to sign with")
	}
	return strings.Join(all, " "), nil
}

// The bounds of a secret, bytes, as the specification has them.
const (
	secretLeast = 24
	secretMost  = 64
)

// CheckSecret reports what is wrong with a signing secret. The error holds nothing of it.
func CheckSecret(text secret.Text) error {
	_, err := signer(text)
	return err
}

func signer(text secret.Text) (*standardwebhooks.Webhook, error) {
	encoded, found := strings.CutPrefix(text.Reveal(), "whsec_")
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !found || err != nil || len(key) < secretLeast || len(key) > secretMost {
		return nil, fmt.Errorf("a webhook's secret must be whsec_ and the base64 of %d to %d random bytes", secretLeast, secretMost)
	}
	return standardwebhooks.NewWebhookRaw(key)
}
