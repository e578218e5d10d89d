package refresh_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/simprovider"
)

// withIDToken puts an ID token into every token answer.
type withIDToken struct{ http.RoundTripper }

func (w withIDToken) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.RoundTripper.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	answer := map[string]any{}
	if json.Unmarshal(body, &answer) == nil {
		answer["id_token"] = "a.b.c"
		if body, err = json.Marshal(answer); err != nil {
			return nil, err
		}
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp.Header.Del("Content-Length")
	return resp, nil
}

// idWorld is a provider that tells the account by an ID token alone. says is what the
// verifier finds.
type idWorld struct {
	*world
	says provider.Account
	fail error
	seen []provider.IDToken
}

func newIDWorld(t *testing.T) *idWorld {
	w := &idWorld{world: newWorld(t, "immediate"), says: provider.Account{ID: "user-7", Name: "Ada"}}
	w.entry.Identity, w.entry.UserinfoEndpoint = provider.Identity{}, ""
	w.entry.Issuer, w.entry.JWKSURI = "https://issuer.example", "https://issuer.example/keys"
	w.Provider = &provider.Client{Transport: withIDToken{http.DefaultTransport}, AllowLoopback: true, Now: w.clock}
	w.IDTokens = func(_ context.Context, _ provider.Entry, t provider.IDToken) (provider.Account, error) {
		w.seen = append(w.seen, t)
		return w.says, w.fail
	}
	return w
}

// consentWith runs a consent with a nonce's hash.
func (w *idWorld) consentWith(nonce string, sess connection.Session) refresh.ConsentReport {
	w.t.Helper()
	code := refresh.Code{Code: secret.New(w.code("alice", clientOne)), RedirectURI: callback, Nonce: nonce}
	rep, err := w.Connect(context.Background(), sess, w.take(clientOne), w.link(clientOne), code, true)
	w.must(err)
	return rep
}

func TestAnIDTokenTellsTheAccount(t *testing.T) {
	w := newIDWorld(t)
	rep := w.consentWith("hash", w.session(nil))
	w.expectConsent(rep, refresh.Connected, "")
	r := w.record(rep.Result)
	if r.AccountID != "user-7" || r.AccountName != "Ada" {
		t.Errorf("account %q %q", r.AccountID, r.AccountName)
	}
	if s := w.seen[0]; s.Raw.Reveal() != "a.b.c" || s.ClientID != clientOne || s.Nonce != "hash" || !s.At.Equal(w.clock()) {
		t.Errorf("verified with %+v", s)
	}
	// It is the account of reconnects too, and what supersedes.
	w.expectConsent(w.consentWith("hash", w.session(w.reconnecting(rep.Result))), refresh.Connected, "")
	w.says.ID = "user-8"
	apart := w.consentWith("hash", w.session(w.reconnecting(rep.Result)))
	w.expectConsent(apart, refresh.MismatchKept, "account_mismatch")
}

// An ID token proves nothing that was asked for without a nonce, or where an endpoint
// tells the account.
func TestAnIDTokenIsNotAlwaysLookedAt(t *testing.T) {
	w := newIDWorld(t)
	rep := w.consentWith("", w.session(nil))
	w.expectConsent(rep, refresh.Connected, "")
	w.entry.JWKSURI = ""
	w.expectConsent(w.consentWith("hash", w.session(nil)), refresh.Connected, "")
	w.entry.JWKSURI = "https://issuer.example/keys"
	w.entry.Identity = provider.Identity{Endpoint: w.sim.Endpoints(sim)["identity.endpoint"], IDField: "id"}
	asked := w.consentWith("hash", w.session(nil))
	w.expectConsent(asked, refresh.Connected, "")
	if len(w.seen) != 0 || w.record(rep.Result).AccountID != "" || w.record(asked.Result).AccountID != "1001" {
		t.Errorf("looked at %d times; accounts %q and %q", len(w.seen), w.record(rep.Result).AccountID, w.record(asked.Result).AccountID)
	}
}

// A token that cannot be believed fails no connect, leaves a note, and proves nothing
// at a reconnect: that one is kept apart at once.
func TestARefusedIDTokenProvesNothing(t *testing.T) {
	w := newIDWorld(t)
	known := w.consentWith("hash", w.session(nil)).Result
	w.fail = errors.New("forged")
	rep := w.consentWith("hash", w.session(nil))
	w.expectConsent(rep, refresh.Connected, "")
	r := w.record(rep.Result)
	if entries := r.Journal.Entries(); r.AccountID != "" || entries[len(entries)-1].Outcome != connection.OutcomeIDTokenRefused || !errors.Is(rep.Err, w.fail) {
		t.Errorf("account %q, journal %v, error %v", r.AccountID, entries, rep.Err)
	}
	w.checkLive(rep.Result)
	before := w.record(known)
	w.expectConsent(w.consentWith("hash", w.session(w.reconnecting(known))), refresh.MismatchKept, "account_mismatch")
	if after := w.record(known); after.TokenID != before.TokenID || after.Gen != before.Gen {
		t.Error("the connection changed")
	}
	w.fault(simprovider.Fault{On: "token", Kind: "no_refresh_token"})
	w.expectConsent(w.consentWith("hash", w.session(w.reconnecting(rep.Result))), refresh.NoRefreshToken, "no_refresh_token")
}

// Keys that cannot be read now leave a reconnect waiting: the token lies sealed in its
// session and is looked at again, as of the time when it came.
func TestAnIDTokenWaitsForItsKeys(t *testing.T) {
	w := newIDWorld(t)
	known := w.consentWith("hash", w.session(nil)).Result
	w.fail = provider.ErrKeysUnavailable
	sess := w.session(w.reconnecting(known))
	began := w.clock()
	w.expectConsent(w.consentWith("hash", sess), refresh.IdentityPending, "")
	w.advance(20 * time.Minute)
	w.fail = nil
	rep, err := w.Finish(context.Background(), w.stored(sess))
	w.must(err)
	w.expectConsent(rep, refresh.Connected, "")
	last := w.seen[len(w.seen)-1]
	if rep.Result != known || last.Raw.Reveal() != "a.b.c" || last.Nonce != "hash" || !last.At.Equal(began) {
		t.Errorf("joined %s, verified with %+v", rep.Result, last)
	}
}
