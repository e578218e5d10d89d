package webhook_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/evergrant/evergrant/internal/boltstore"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/metric"
	"github.com/evergrant/evergrant/internal/schedule"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/webhook"
	"github.com/evergrant/evergrant/internal/wire"
)

// mutant declares a change that takes the defence of a row out; tools/mutants reads it.
func mutant(_, _, _, _ string) bool { return true }

func whsec(c byte) string {
	return "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{c}, 32))
}

// message is one request as it came.
type message struct {
	header http.Header
	body   []byte
	event  wire.Event
}

// receiver is an endpoint over TLS, or without.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	answer func(w http.ResponseWriter, r *http.Request) // guarded by mu; nil: 204
	got    chan message
}

func newReceiver(t *testing.T, start func(http.Handler) *httptest.Server) *receiver {
	t.Helper()
	r := &receiver{got: make(chan message, 100)}
	r.Server = start(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, _ := io.ReadAll(q.Body)
	m := message{header: q.Header, body: body}
	var hook wire.Webhook
	_ = json.Unmarshal(body, &hook)
	m.event = hook.Data
	r.mu.Lock()
	answer := r.answer
	r.mu.Unlock()
	r.got <- m
	if answer != nil {
		answer(w, q)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (r *receiver) answers(f func(w http.ResponseWriter, q *http.Request)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

func status(code int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = w.Write([]byte("CANARY-body"))
	}
}

// next waits for one message.
func (r *receiver) next(t *testing.T) message {
	t.Helper()
	select {
	case m := <-r.got:
		return m
	case <-t.Context().Done():
		t.Fatal("no message")
		return message{}
	}
}

// bench is a sender over a table in a file, on a clock that is set.
type bench struct {
	t       *testing.T
	table   item.Table
	changed chan struct{}
	log     *lines
	tls     *tls.Config

	mu  sync.Mutex
	now time.Time // guarded by mu
	// counts is how often each outcome was measured, by integration; guarded by mu.
	counts map[string]int

	*webhook.Sender
	stop func()
}

type lines struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newBench(t *testing.T, endpoints ...webhook.Endpoint) *bench {
	t.Helper()
	db, err := boltstore.Open(filepath.Join(t.TempDir(), "store"), boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	changed := make(chan struct{}, 1)
	b := &bench{t: t, table: noted{db.Connections(), changed}, changed: changed, log: &lines{}, now: time.Now().Truncate(time.Second), counts: map[string]int{}, stop: func() {}}
	t.Cleanup(func() {
		b.stop()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	b.restart(endpoints...)
	return b
}

// restart ends the sender's process and begins another one over the same table.
func (b *bench) restart(endpoints ...webhook.Endpoint) {
	b.stop()
	ctx, cancel := context.WithCancel(context.Background())
	s := webhook.New(webhook.Config{
		Endpoints: endpoints, Table: b.table, Now: b.clock, Log: slog.New(slog.NewTextHandler(b.log, nil)), UserAgent: "evergrant/test", TLS: b.tls,
		Observe: b.count,
	})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Run(ctx)
	}()
	b.Sender = s
	b.stop = func() {
		cancel()
		<-ended
	}
}

func (b *bench) count(m metric.Metric, p metric.Point, v float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts[m.Spec().Name+" "+p.Integration+" "+p.Outcome] += int(v)
}

func (b *bench) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *bench) advance(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

// tick takes up what is filed for the minutes since a time, as the tick does.
func (b *bench) tick(since time.Time) {
	b.t.Helper()
	for _, p := range schedule.Todos(since.Unix()/60, b.clock().Unix()/60) {
		page, err := b.table.Query(b.t.Context(), item.Query{Index: item.IndexTodo, Hash: p, Limit: 100})
		if err != nil {
			b.t.Fatal(err)
		}
		for _, key := range page.Keys {
			b.TakeUp(b.t.Context(), key)
		}
	}
}

// rows are what is filed, by key.
func (b *bench) rows() map[string]item.Item {
	b.t.Helper()
	page, err := b.table.Scan(b.t.Context(), "", 1000)
	if err != nil {
		b.t.Fatal(err)
	}
	rows := map[string]item.Item{}
	for _, key := range page.Keys {
		if rows[key], err = b.table.Get(b.t.Context(), key); err != nil {
			b.t.Fatal(err)
		}
	}
	return rows
}

// until waits for the rows to be as they should: the sender writes them after it was
// answered.
func (b *bench) until(what string, ok func(rows map[string]item.Item) bool) {
	b.t.Helper()
	end := time.After(20 * time.Second)
	for !ok(b.rows()) {
		select {
		case <-b.changed:
		case <-end:
			b.t.Fatalf("%s: %v\n%s", what, b.rows(), b.log)
		}
	}
}

// noted is a table that says when something was written.
type noted struct {
	item.Table
	changed chan struct{}
}

func (n noted) note() {
	select {
	case n.changed <- struct{}{}:
	default: // who waits will look anyway
	}
}

func (n noted) Update(ctx context.Context, key string, u item.Update) (item.Result, error) {
	defer n.note()
	return n.Table.Update(ctx, key, u)
}

func (n noted) Delete(ctx context.Context, key string, conds ...item.Cond) (item.Result, error) {
	defer n.note()
	return n.Table.Delete(ctx, key, conds...)
}

func (b *bench) empty(rows map[string]item.Item) bool { return len(rows) == 0 }

func tries(n int64) func(map[string]item.Item) bool {
	return func(rows map[string]item.Item) bool {
		for _, i := range rows {
			if i.Int("tries") != n {
				return false
			}
		}
		return len(rows) > 0
	}
}

func known(secrets ...string) func(context.Context) ([]secret.Text, error) {
	return func(context.Context) ([]secret.Text, error) {
		var all []secret.Text
		for _, s := range secrets {
			all = append(all, secret.New(s))
		}
		return all, nil
	}
}

func event(n string) wire.Event {
	reason := "revoked"
	return wire.Event{
		ID: "evt_" + n, Type: "connection.needs_reauth", At: time.Unix(1_700_000_000, 0).UTC(), Sequence: 3, ConnectionID: "conn_1", Owner: "alice",
		Integration: "acme", Client: "default", Status: "needs_reauth", Reason: &reason,
	}
}

func (b *bench) send(list ...wire.Event) {
	b.t.Helper()
	if n, err := b.Send(b.t.Context(), list); n != len(list) || err != nil {
		b.t.Fatal(n, err)
	}
}

var (
	_ = mutant("T57", "internal/webhook/webhook.go", `hook.Sign(id, at, []byte(body))`, `hook.Sign("", at, []byte(body))`)
	_ = mutant("T57", "internal/webhook/webhook.go", `at := s.Now()`, `at := time.Unix(1, 0)`)
	_ = mutant("T57", "internal/webhook/webhook.go", `req.Header.Set(standardwebhooks.HeaderWebhookID, id)`, `req.Header.Set(standardwebhooks.HeaderWebhookID, id+at.String())`)
)

// The receiver can tell our messages from forged ones, and from old ones that somebody
// sends again: by the specification's own library.
func TestThreat_T57_receivers_can_tell_forged_and_replayed_webhooks(t *testing.T) {
	r := newReceiver(t, httptest.NewServer)
	b := newBench(t, webhook.Endpoint{URL: r.URL, Secrets: known(whsec('a'))})
	hook, err := standardwebhooks.NewWebhook(whsec('a'))
	if err != nil {
		t.Fatal(err)
	}
	began := b.clock()
	b.advance(-10 * time.Minute)
	r.answers(status(500))
	b.send(event("1"))
	old := r.next(t)
	b.until("the failure is written", tries(1))
	if err := hook.Verify(old.body, old.header); !errors.Is(err, standardwebhooks.ErrMessageTooOld) {
		t.Errorf("ten minutes old: %v", err)
	}
	b.advance(10 * time.Minute)
	r.answers(nil)
	b.tick(began.Add(-11 * time.Minute))
	m := r.next(t)
	if err := hook.Verify(m.body, m.header); err != nil {
		t.Errorf("sent again: %v", err)
	}
	if id := m.header.Get("webhook-id"); id != "evt_1" || id != old.header.Get("webhook-id") || !bytes.Equal(m.body, old.body) {
		t.Errorf("a repeat cannot be known: %v", m.header)
	}
	b.until("delivered", b.empty)

	forged := bytes.Replace(m.body, []byte("alice"), []byte("mallory"), 1)
	if hook.Verify(forged, m.header) == nil {
		t.Error("another body passes")
	}
	for _, name := range []string{"webhook-id", "webhook-timestamp"} {
		h := m.header.Clone()
		h.Set(name, h.Get(name)+"0")
		if hook.VerifyIgnoringTimestamp(m.body, h) == nil {
			t.Errorf("another %s passes", name)
		}
	}
	other, _ := standardwebhooks.NewWebhook(whsec('b'))
	if other.Verify(m.body, m.header) == nil {
		t.Error("another secret passes")
	}
}

var (
	_ = mutant("T58", "internal/config/readwebhook.go", `case u.Scheme != "https" && !(u.Scheme == "http" && loopbackURL(s)):`, `case u.Scheme == "":`)
	_ = mutant("T58", "internal/webhook/webhook.go", `return http.ErrUseLastResponse }`, `return nil }`)
	_ = mutant("T58", "internal/webhook/webhook.go", `AllowPrivate: e.AllowPrivate`, `AllowPrivate: true`)
	_ = mutant("T58", "internal/webhook/webhook.go", `Timeout: timeout,`, `Timeout: 0,`)
)

// A webhook leads to where it is configured to and nowhere else, and does not wait long.
func TestThreat_T58_webhooks_reach_nothing_but_their_endpoint(t *testing.T) {
	t.Run("https only", func(t *testing.T) {
		for url, good := range map[string]bool{
			"http://app.example.com/": false, "ftp://app.example.com/": false, "http://10.0.0.1/": false, "https://user:x@app.example.com/": false,
			"https://app.example.com/": true, "http://127.0.0.1:3000/": true,
		} {
			text := "integrations:\n  whenfresh: {}\nwebhooks:\n  - {url: \"" + url + "\", secret: \"${env:A}\"}\n"
			if _, err := yamlfile.Parse([]byte(text)); (err == nil) != good {
				t.Errorf("%s: %v", url, err)
			}
		}
	})
	t.Run("no redirects", func(t *testing.T) {
		inner := newReceiver(t, httptest.NewServer)
		r := newReceiver(t, httptest.NewServer)
		r.answers(func(w http.ResponseWriter, q *http.Request) {
			http.Redirect(w, q, inner.URL, http.StatusTemporaryRedirect)
		})
		b := newBench(t, webhook.Endpoint{URL: r.URL, Secrets: known(whsec('a'))})
		b.send(event("1"))
		b.until("the failure is written", tries(1))
		if len(inner.got) != 0 {
			t.Error("a redirect was followed")
		}
	})
	t.Run("addresses", func(t *testing.T) {
		inner := newReceiver(t, httptest.NewTLSServer)
		port := inner.URL[strings.LastIndexByte(inner.URL, ':'):]
		for _, host := range []string{"10.0.0.1", "192.168.1.1", "169.254.169.254", "[fd00:ec2::254]", "0.0.0.0", "[::7f00:1]", "100.64.0.1"} {
			b := newBench(t, webhook.Endpoint{URL: "https://" + host + port + "/", Secrets: known(whsec('a'))})
			b.send(event("1"))
			b.until("refused", tries(1))
			for _, i := range b.rows() {
				if !strings.Contains(i.String("error"), "address") {
					t.Errorf("%s: %s", host, i.String("error"))
				}
			}
		}
		if len(inner.got) != 0 {
			t.Error("something of this machine was reached")
		}
	})
	t.Run("five seconds", func(t *testing.T) {
		release := make(chan struct{})
		r := newReceiver(t, httptest.NewServer)
		r.answers(func(_ http.ResponseWriter, q *http.Request) {
			select {
			case <-release:
			case <-q.Context().Done():
			}
		})
		t.Cleanup(func() { close(release) })
		b := newBench(t, webhook.Endpoint{URL: r.URL, Secrets: known(whsec('a'))})
		b.send(event("1"))
		b.until("given up for now", tries(1))
	})
}

func TestMessages(t *testing.T) {
	r := newReceiver(t, httptest.NewTLSServer)
	roots := x509.NewCertPool()
	roots.AddCert(r.Certificate())
	b := newBench(t)
	b.tls = &tls.Config{RootCAs: roots}
	b.restart(webhook.Endpoint{URL: r.URL + "/hook?key=SECRET-in-url", Secrets: known(whsec('a'))})
	b.send(event("1"))
	m := r.next(t)
	want := `{"type":"connection.needs_reauth","timestamp":"2023-11-14T22:13:20Z","data":{"id":"evt_1","type":"connection.needs_reauth","at":"2023-11-14T22:13:20Z",` +
		`"sequence":3,"connection_id":"conn_1","owner":"alice","integration":"acme","client":"default","status":"needs_reauth","reason":"revoked"}}`
	if diff := cmp.Diff(want, string(m.body)); diff != "" {
		t.Error(diff)
	}
	if m.header.Get("Content-Type") != "application/json" || m.header.Get("User-Agent") != "evergrant/test" {
		t.Error(m.header)
	}
	b.until("delivered", b.empty)
}

// While a secret is changed, a receiver may know the new one or the one before.
func TestTwoSecretsSign(t *testing.T) {
	r := newReceiver(t, httptest.NewServer)
	b := newBench(t, webhook.Endpoint{URL: r.URL, Secrets: known(whsec('n'), whsec('o'))})
	b.send(event("1"))
	m := r.next(t)
	for _, s := range []string{whsec('n'), whsec('o')} {
		hook, err := standardwebhooks.NewWebhook(s)
		if err != nil || hook.Verify(m.body, m.header) != nil {
			t.Errorf("who knows one of them cannot verify: %v", err)
		}
	}
	b.until("delivered", b.empty)
}

func TestOnlyWhatIsAskedFor(t *testing.T) {
	r, all := newReceiver(t, httptest.NewServer), newReceiver(t, httptest.NewServer)
	b := newBench(t,
		webhook.Endpoint{URL: r.URL, Events: []string{"connection.created"}, Secrets: known(whsec('a'))},
		webhook.Endpoint{URL: all.URL, Secrets: known(whsec('a'))})
	created := event("2")
	created.Type = "connection.created"
	b.send(event("1"), created)
	b.until("delivered", b.empty)
	if len(r.got) != 1 || len(all.got) != 2 || r.next(t).event.ID != "evt_2" {
		t.Errorf("%d and %d messages", len(r.got), len(all.got))
	}
}

// What an endpoint does not take is tried ever less often for three days, over restarts,
// and then kept among the dead letters until it is sent anew.
func TestRetriesOverRestartsUntilItIsGivenUp(t *testing.T) {
	r := newReceiver(t, httptest.NewServer)
	r.answers(status(503))
	e := webhook.Endpoint{URL: r.URL + "/SECRET-path", Secrets: known(whsec('a'))}
	b := newBench(t, e)
	b.send(event("1"))
	r.next(t)
	b.until("the first try", tries(1))
	began := b.clock()
	for n, minutes := range []int64{1, 5, 30, 120, 300, 600, 840, 1200, 1440} {
		since := b.clock()
		b.restart(e)
		b.advance(time.Duration(minutes)*time.Minute - time.Second)
		b.tick(since.Add(-10 * time.Minute))
		b.advance(time.Minute + time.Second)
		b.tick(since)
		r.next(t)
		b.until("the next try", tries(int64(n+2)))
		if len(r.got) != 0 {
			t.Fatalf("try %d came twice, or too early", n+2)
		}
	}
	if days := b.clock().Sub(began).Hours() / 24; days < 3 || days > 3.5 {
		t.Errorf("given up after %.1f days", days)
	}
	for range 3 {
		b.advance(24 * time.Hour)
		b.tick(b.clock().Add(-24 * time.Hour))
	}
	list, err := b.DeadLetters(t.Context())
	if err != nil || len(list.Items) != 1 || len(r.got) != 0 {
		t.Fatal(list, err, len(r.got))
	}
	got := list.Items[0]
	got.At = time.Time{}
	if diff := cmp.Diff(wire.DeadLetter{ID: "evt_1", Type: "connection.needs_reauth", Endpoint: r.URL, Tries: 10, Error: "status 503"}, got); diff != "" {
		t.Error(diff)
	}
	r.answers(nil)
	if out, err := b.Replay(t.Context()); err != nil || out.Replayed != 1 {
		t.Fatal(out, err)
	}
	if m := r.next(t); m.event.ID != "evt_1" {
		t.Error(m.event)
	}
	b.until("delivered", b.empty)
	if text := b.log.String(); strings.Contains(text, "SECRET") || strings.Contains(text, "CANARY") {
		t.Error(text)
	}
	b.stop()
	if diff := cmp.Diff(map[string]int{"Webhooks acme failed": 9, "Webhooks acme dead": 1, "Webhooks acme delivered": 1}, b.counts); diff != "" {
		t.Error(diff)
	}
}

// The process ends between the delivery and its note, or before the first try: another
// one sends it.
func TestAnotherProcessGoesOn(t *testing.T) {
	r := newReceiver(t, httptest.NewServer)
	e := webhook.Endpoint{URL: r.URL, Secrets: known(whsec('a'))}
	b := newBench(t, e)
	b.stop()
	b.stop = func() {}
	b.send(event("1"))
	b.send(event("1")) // the outbox delivers it again: it is one message
	if n := len(b.rows()); n != 1 || len(r.got) != 0 {
		t.Fatalf("%d rows", n)
	}
	b.restart(e)
	since := b.clock()
	b.advance(2 * time.Minute)
	b.tick(since)
	if m := r.next(t); m.event.ID != "evt_1" {
		t.Error(m.event)
	}
	b.until("delivered", b.empty)
}

func TestGivenUpAtOnce(t *testing.T) {
	r := newReceiver(t, httptest.NewServer)
	r.answers(status(410))
	b := newBench(t, webhook.Endpoint{URL: r.URL, Secrets: known(whsec('a'))})
	b.send(event("1"))
	b.until("gone", func(rows map[string]item.Item) bool {
		for _, i := range rows {
			return i.String("todo") == "dead"
		}
		return false
	})
	// A month later it is deleted.
	if n, err := b.Sweep(t.Context()); n != 0 || err != nil {
		t.Error(n, err)
	}
	b.advance(31 * 24 * time.Hour)
	if n, err := b.Sweep(t.Context()); n != 1 || err != nil || len(b.rows()) != 0 {
		t.Error(n, err)
	}
}

func TestEndpointThatIsGone(t *testing.T) {
	r := newReceiver(t, httptest.NewServer)
	r.answers(status(500))
	b := newBench(t, webhook.Endpoint{URL: r.URL, Secrets: known(whsec('a'))})
	b.send(event("1"))
	b.until("tried", tries(1))
	b.restart()
	since := b.clock()
	b.advance(3 * time.Minute)
	b.tick(since)
	list, err := b.DeadLetters(t.Context())
	if err != nil || len(list.Items) != 1 || !strings.Contains(list.Items[0].Error, "configuration") {
		t.Fatal(list, err)
	}
	if out, err := b.Replay(t.Context()); err != nil || out.Replayed != 0 || out.Pending != 1 {
		t.Error(out, err)
	}
}

// Secrets that cannot be used are told of, without a word of them, and the message waits.
func TestSecretsThatCannotSign(t *testing.T) {
	for text, good := range map[string]bool{
		whsec('a'): true, "whsec_": false, "": false, "CANARY": false, "whsec_CANARY!": false, strings.TrimPrefix(whsec('a'), "whsec_"): false,
		"whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 23)): false, "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 65)): false,
	} {
		if err := webhook.CheckSecret(secret.New(text)); (err == nil) != good || err != nil && strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%d bytes: %v", len(text), err)
		}
	}
	r := newReceiver(t, httptest.NewServer)
	b := newBench(t, webhook.Endpoint{URL: r.URL, Secrets: known("CANARY")})
	b.send(event("1"))
	b.until("not signed", tries(1))
	if len(r.got) != 0 || strings.Contains(b.log.String(), "CANARY") {
		t.Error("something was sent, or the secret logged")
	}
}

// An endpoint that hangs holds up no other.
func TestEndpointsDoNotWaitForEachOther(t *testing.T) {
	release := make(chan struct{})
	slow, quick := newReceiver(t, httptest.NewServer), newReceiver(t, httptest.NewServer)
	slow.answers(func(http.ResponseWriter, *http.Request) { <-release })
	b := newBench(t, webhook.Endpoint{URL: slow.URL, Secrets: known(whsec('a'))}, webhook.Endpoint{URL: quick.URL, Secrets: known(whsec('a'))})
	for n := range 10 {
		b.send(event(string(rune('a' + n))))
	}
	for range 10 {
		quick.next(t)
	}
	if n := len(slow.got); n > 4 {
		t.Errorf("%d messages at once", n)
	}
	close(release)
}

func TestForeignKeysAreLeftAlone(t *testing.T) {
	b := newBench(t)
	for _, key := range []string{"conn_1", "circuit#a#b", "hook#", "hook#x"} {
		if _, err := b.table.Update(t.Context(), key, item.Update{Target: item.Any, Set: []item.Assign{item.Put("todo", "todo#1#0")}}); err != nil {
			t.Fatal(err)
		}
		b.TakeUp(t.Context(), key)
	}
	for key, i := range b.rows() {
		if i.String("todo") != "todo#1#0" {
			t.Errorf("%s: %v", key, i)
		}
	}
}
