package broker_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/provider"
)

// A nonce goes along where an ID token is asked for, another one with each opening; of
// it the store holds a hash.
func TestANonceGoesAlongWithOpenID(t *testing.T) {
	for more, asks := range map[string]bool{`"scopes": ["openid", "read"],`: true, `"scopes": ["read"],`: false} {
		w := newWorld(t, more)
		b := w.start()
		const origin = "https://auth.example.com"
		sess, err := b.CreateSession(t.Context(), caller(), broker.SessionRequest{Origin: origin, Integration: "one", Owner: "tenant"})
		w.Must(err)
		seen := map[string]bool{}
		for range 2 {
			opened, err := b.Authorize(t.Context(), broker.AuthorizeRequest{Origin: origin, Integration: "one", Session: sess.ID})
			w.Must(err)
			to, err := url.Parse(opened.Location)
			w.Must(err)
			nonce, state := to.Query().Get("nonce"), to.Query().Get("state")
			if opened.Status != http.StatusFound || (nonce != "") != asks || asks && (len(nonce) < 43 || seen[nonce]) {
				t.Fatalf("%s: %s", more, opened.Location)
			}
			seen[nonce] = true
			st, err := w.Store.TakeState(t.Context(), connection.Hash(state), w.Unix())
			w.Must(err)
			if asks && st.Nonce != provider.NonceHash(nonce) || !asks && st.Nonce != "" {
				t.Errorf("%s: kept %q", more, st.Nonce)
			}
		}
	}
}
