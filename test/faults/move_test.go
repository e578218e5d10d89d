package faults_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/secret"
)

// rotating is a token endpoint at which each refresh token serves once.
type rotating struct {
	mu      sync.Mutex // guards what follows
	current map[string]bool
	sent    int
	reused  int
}

func (p *rotating) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent++
	token := r.PostForm.Get("refresh_token")
	if !p.current[token] {
		p.reused++
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprint(w, `{"error":"invalid_grant"}`)
		return
	}
	delete(p.current, token)
	next := fmt.Sprintf("CANARY-rt-%d", p.sent)
	p.current[next] = true
	_, _ = fmt.Fprintf(w, `{"access_token":"CANARY-at-%d","refresh_token":"%s","token_type":"Bearer","expires_in":3600}`, p.sent, next)
}

func (p *rotating) counts() (sent, reused int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent, p.reused
}

const movingEntry = `
  NAME:
    client_id: app
    client_secret: "${env:CLIENT_SECRET}"
    provider: {authorization_endpoint: ORIGIN/auth, token_endpoint: ORIGIN/token, token_endpoint_auth_method: client_secret_post, pkce: S256,
      refresh: {supported: true, rotation: always, previous_token: dies_at_once, reuse: REUSE}}
`

// TestMovingThereAndBack takes connections from a deployment on bbolt to another one, which
// is on bbolt and on DynamoDB Local, and back. No refresh token is ever sent twice, whoever
// activates what; an export that is older than what is stored changes nothing.
func TestMovingThereAndBack(t *testing.T) {
	brokertest.OnStores(t, func(t *testing.T, store connection.Store) {
		p := &rotating{current: map[string]bool{}}
		srv := httptest.NewServer(p)
		t.Cleanup(srv.Close)
		entries := ""
		for name, reuse := range map[string]string{"acme": "rejected", "wary": "revokes_family"} {
			entries += strings.NewReplacer("NAME", name, "ORIGIN", srv.URL, "REUSE", reuse).Replace(movingEntry)
		}
		here := brokertest.New(t, brokertest.Options{Integrations: entries})
		there := brokertest.New(t, brokertest.Options{Integrations: entries, Store: store})
		m := &move{t: t, caller: brokertest.Caller()}
		var err error
		m.private, m.public, err = secret.NewTransferKey()
		here.Must(err)

		acme, wary := m.imported(here, p, "acme", 3), m.imported(here, p, "wary", 1)
		if out := m.out(here, "acme"); len(out) != 0 {
			t.Fatalf("%d connections leave that are refreshed here", len(out))
		}
		ids := append(acme, wary...)
		m.hold(here, ids)
		first := append(m.out(here, "acme"), m.out(here, "wary")...)
		if len(first) != len(ids) {
			t.Fatalf("%d of %d leave", len(first), len(ids))
		}
		m.in(there, first, "")
		m.in(there, first, "") // a repeat
		sent, _ := p.counts()
		for _, id := range ids {
			was, is := here.Record(id), there.Record(id)
			if is.Status != connection.Held || is.Gen != was.Gen || is.Owner != was.Owner || is.DoubtAt == 0 || is.ExternalID != was.ExternalID {
				t.Errorf("%s arrived as %s of generation %d, after %d", id, is.Status, is.Gen, was.Gen)
			}
			token, err := there.Home.Token(t.Context(), m.caller, id, 60, nil)
			here.Must(err)
			if old, err := here.Home.Token(t.Context(), m.caller, id, 60, nil); err != nil || !old.AccessToken.Equal(token.AccessToken) {
				t.Errorf("%s hands out another access token there", id)
			}
		}
		m.activate(there, ids)
		for _, id := range acme {
			if rec := there.Record(id); rec.Status != connection.Active || rec.Gen != 3 || rec.DoubtAt != 0 {
				t.Errorf("%s is %s of generation %d", id, rec.Status, rec.Gen)
			}
		}
		// Where a spent token ends the grant nothing is sent in doubt, while the access token serves.
		if rec := there.Record(wary[0]); rec.Status != connection.Active || rec.Gen != 2 || rec.DoubtAt == 0 {
			t.Errorf("wary: %s of generation %d, doubt %d", rec.Status, rec.Gen, rec.DoubtAt)
		}
		if now, _ := p.counts(); now != sent+len(acme) {
			t.Errorf("%d requests for %d activations", now-sent, len(acme))
		}
		m.in(there, first[:len(acme)], broker.InvalidRequest) // the old export, over what lives

		// And back: the held ones here are older, and are replaced.
		m.hold(there, acme)
		m.in(here, m.out(there, "acme"), "")
		m.in(here, first[:len(acme)], broker.InvalidRequest) // older than what is held
		m.activate(here, acme)
		for _, id := range acme {
			if rec := here.Record(id); rec.Status != connection.Active || rec.Gen != 4 {
				t.Errorf("%s came back as %s of generation %d", id, rec.Status, rec.Gen)
			}
		}
		if _, reused := p.counts(); reused != 0 {
			t.Errorf("%d refresh tokens were sent twice", reused)
		}
	})
}

type move struct {
	t       *testing.T
	caller  broker.Caller
	private secret.Text
	public  string
}

func (m *move) imported(w *brokertest.World, p *rotating, integration string, n int) (ids []string) {
	m.t.Helper()
	for k := range n {
		token := fmt.Sprintf("CANARY-%s-%d", integration, k)
		p.mu.Lock()
		p.current[token] = true
		p.mu.Unlock()
		r, err := w.Home.Import(m.t.Context(), m.caller, broker.ImportRequest{Integration: integration, Owner: "tenant", ExternalID: fmt.Sprint(k), RefreshToken: secret.New(token)})
		w.Must(err)
		ids = append(ids, r.ID)
	}
	return ids
}

func (m *move) hold(w *brokertest.World, ids []string) {
	m.t.Helper()
	for _, id := range ids {
		v, err := w.Home.Hold(m.t.Context(), m.caller, id)
		w.Must(err)
		if v.Status != connection.Held {
			m.t.Errorf("%s is %s", id, v.Status)
		}
	}
}

func (m *move) activate(w *brokertest.World, ids []string) {
	m.t.Helper()
	for _, id := range ids {
		_, err := w.Home.Activate(m.t.Context(), m.caller, id)
		w.Must(err)
	}
}

// out reads all pages of what leaves.
func (m *move) out(w *brokertest.World, integration string) (all []broker.MovedOut) {
	m.t.Helper()
	for cursor := ""; ; {
		page, next, err := w.Home.MoveOut(m.t.Context(), m.caller, integration, m.public, cursor)
		w.Must(err)
		for _, o := range page {
			if strings.Contains(string(o.Sealed), "CANARY") {
				m.t.Error("a token leaves in clear")
			}
		}
		all = append(all, page...)
		if cursor = next; cursor == "" {
			return all
		}
	}
}

// in brings connections in; want is the problem that each must meet, "" for none.
func (m *move) in(w *brokertest.World, all []broker.MovedOut, want broker.Code) {
	m.t.Helper()
	for _, o := range all {
		text, err := secret.OpenTransfer(m.private, o.ID, o.Sealed)
		w.Must(err)
		_, err = w.Home.MoveIn(m.t.Context(), m.caller, text)
		if got := problemOf(err); got != want {
			m.t.Errorf("%s: %v, not %q", o.ID, err, want)
		}
	}
}

func problemOf(err error) broker.Code {
	if err == nil {
		return ""
	}
	if e, ok := err.(*broker.Error); ok {
		return e.Code
	}
	return "other"
}
