package broker_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/secret"
)

var _ = mutant("T61", "internal/broker/budget.go", `err := b.spendOf(ctx, "import:"+c.Name, most)`, `err := b.spendOf(ctx, "import:"+c.Name, most*100)`)

// A caller may import so many in a minute, in all processes together, and others are not
// held up. What is imported at once is due at many minutes, not at one.
func TestThreat_T61_imports_are_rationed_and_spread(t *testing.T) {
	w := newWorld(t, "")
	first, second := w.start(), w.start()
	c, other := caller(), caller()
	c.ImportsPerMinute, other.Name = 40, "other"
	n := 0
	bring := func(b *broker.Broker, c broker.Caller, hold bool) (string, error) {
		n++
		r, err := b.Import(t.Context(), c, broker.ImportRequest{Integration: "one", Owner: "tenant", Hold: hold, RefreshToken: secret.New(fmt.Sprintf("rt-%d", n))})
		return r.ID, err
	}
	minutes := map[string]bool{}
	var held string
	for k := range 40 {
		id, err := bring([]*broker.Broker{first, second}[k%2], c, k == 0)
		w.Must(err)
		if k == 0 {
			held = id
			continue
		}
		minutes[w.Record(id).Sched] = true // "period#phase#shard"
	}
	if len(minutes) < 15 {
		t.Errorf("39 imports are due at %d minutes of the hour", len(minutes))
	}
	sent := w.a.requests()
	for _, b := range []*broker.Broker{first, second} {
		_, err := bring(b, c, false)
		e, ok := errors.AsType[*broker.Error](err)
		if !ok || e.Code != broker.RateLimited || e.RetryAfter < 1 || e.RetryAfter > 60 {
			t.Fatalf("one more: %v", err)
		}
		if _, err := b.Activate(t.Context(), c, held); codeOf(err) != broker.RateLimited {
			t.Errorf("an activation: %v", err)
		}
	}
	if w.a.requests() != 0 || sent != 39 {
		t.Errorf("%d requests, and then more", sent)
	}
	_, err := bring(second, other, false)
	w.Must(err)
	w.Advance(time.Minute)
	_, err = bring(first, c, false)
	w.Must(err)
	_, err = second.Activate(t.Context(), c, held)
	w.Must(err)
}

// A provider without refresh tokens gives nothing that could be sent: its access token is
// stored and handed out, and nothing is proved by it. So it is once it was held.
func TestImportWithoutRefreshTokens(t *testing.T) {
	sent := 0
	provider := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { sent++ }))
	t.Cleanup(provider.Close)
	w := brokertest.New(t, brokertest.Options{Integrations: strings.ReplaceAll(`
  acme:
    client_id: app
    client_secret: "${env:CLIENT_SECRET}"
    provider: {authorization_endpoint: ORIGIN/auth, token_endpoint: ORIGIN/token, token_endpoint_auth_method: client_secret_post, pkce: S256, refresh: {supported: false}}
`, "ORIGIN", provider.URL)})
	for _, hold := range []bool{false, true} {
		for _, with := range []broker.ImportRequest{{}, {RefreshToken: secret.New("rt")}, {RefreshToken: secret.New("rt"), AccessToken: secret.New("at")}} {
			with.Integration, with.Owner, with.Hold = "acme", "tenant", hold
			if _, err := w.Home.Import(t.Context(), brokertest.Caller(), with); codeOf(err) != broker.InvalidRequest {
				t.Errorf("hold %v: an import with a refresh token, or with none: %v", hold, err)
			}
		}
		got, err := w.Home.Import(t.Context(), brokertest.Caller(), broker.ImportRequest{
			Integration: "acme", Owner: "tenant", AccessToken: secret.New("at"), ExpiresAt: w.Clock.Now().Unix() + 3600, Hold: hold,
		})
		w.Must(err)
		if hold {
			if got.Status != connection.Held {
				t.Errorf("imported as %s", got.Status)
			}
			_, err = w.Home.Activate(t.Context(), brokertest.Caller(), got.ID)
			w.Must(err)
		}
		rec := w.Record(got.ID)
		if rec.Status != connection.Active || rec.Sched != "" || rec.Todo != "" {
			t.Errorf("hold %v: %s, filed under %q and %q", hold, rec.Status, rec.Sched, rec.Todo)
		}
		token, err := w.Home.Token(t.Context(), brokertest.Caller(), got.ID, 60, nil)
		w.Must(err)
		if token.AccessToken.Reveal() != "at" {
			t.Error("another token is handed out")
		}
	}
	if sent != 0 {
		t.Errorf("%d requests", sent)
	}
}

// While a connection is held its grant lives on elsewhere: a repeat of its import brings
// the newer tokens. Once it is activated a repeat changes nothing.
func TestAHeldImportTakesNewerTokens(t *testing.T) {
	w := newWorld(t, "")
	b := w.start()
	bring := func(refreshToken, accessToken string) broker.ImportResult {
		r, err := b.Import(t.Context(), caller(), broker.ImportRequest{
			Integration: "one", Owner: "tenant", ExternalID: "x", Hold: true, RefreshToken: secret.New(refreshToken), AccessToken: secret.New(accessToken),
			ExpiresAt: w.Clock.Now().Unix() + 3600,
		})
		w.Must(err)
		return r
	}
	first := bring("rt-1", "at-1")
	again := bring("rt-2", "at-2")
	if again.ID != first.ID || !again.Existed || again.Gen != 1 {
		t.Fatalf("%s, generation %d", again.ID, again.Gen)
	}
	if first.TookTokens || !again.TookTokens || bring("rt-2", "at-2").TookTokens {
		t.Error("that newer tokens came is told of the first import or of a mere repeat, or is not told")
	}
	token, err := b.Token(t.Context(), caller(), first.ID, 60, nil)
	w.Must(err)
	if token.AccessToken.Reveal() != "at-2" || w.a.requests() != 0 {
		t.Error("the older access token is handed out, or something was sent")
	}
	_, err = b.Activate(t.Context(), caller(), first.ID)
	w.Must(err)
	if n := w.a.sent["rt-2"]; n != 1 || w.a.requests() != 1 {
		t.Errorf("the newer token was sent %d times", n)
	}
	before := w.Record(first.ID)
	if r := bring("rt-3", "at-3"); r.ID != first.ID || r.TookTokens || r.Status != connection.Active || w.Record(first.ID).Refresh != before.Refresh {
		t.Error("a repeat changed a connection that goes on by itself")
	}
}

// A repeat is found without counting: an import that goes on where it stopped spends its
// minute on what is left.
func TestARepeatIsNotRationed(t *testing.T) {
	w := newWorld(t, "")
	b, c := w.start(), caller()
	c.ImportsPerMinute = 2
	bring := func(id string) error {
		_, err := b.Import(t.Context(), c, broker.ImportRequest{Integration: "one", Owner: "tenant", ExternalID: id, RefreshToken: secret.New("rt-" + id)})
		return err
	}
	w.Must(bring("a"))
	w.Must(bring("b"))
	if err := bring("c"); codeOf(err) != broker.RateLimited {
		t.Fatalf("a third one: %v", err)
	}
	w.Must(bring("a"))
	w.Must(bring("b"))
	if w.a.requests() != 2 {
		t.Error("a repeat was sent")
	}
}
