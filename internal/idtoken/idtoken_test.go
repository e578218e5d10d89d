package idtoken_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/idtoken"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/secret"
)

const (
	clientID = "client-1"
	nonce    = "the nonce that was sent"
)

func at() time.Time { return time.Unix(1_800_000_000, 0) }

// world is a provider with two keys, and whoever else might sign.
type world struct {
	rsa     *rsa.PrivateKey
	ec      *ecdsa.PrivateKey
	foreign *rsa.PrivateKey
	server  *httptest.Server
	reads   atomic.Int32
	answer  atomic.Pointer[http.HandlerFunc] // in place of the key set
	entry   provider.Entry
	verify  provider.VerifyIDToken
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{}
	var err [3]error
	w.rsa, err[0] = rsa.GenerateKey(rand.Reader, 2048)
	w.foreign, err[1] = rsa.GenerateKey(rand.Reader, 2048)
	w.ec, err[2] = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if e := errors.Join(err[:]...); e != nil {
		t.Fatal(e)
	}
	w.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.reads.Add(1)
		if h := w.answer.Load(); h != nil {
			(*h)(rw, r)
			return
		}
		if r.URL.Path != "/keys" {
			t.Errorf("%s was read", r.URL.Path)
		}
		_ = json.NewEncoder(rw).Encode(map[string]any{"keys": []any{
			map[string]any{"kty": "oct", "kid": "shared", "k": "c2VjcmV0"},
			jwk(&w.rsa.PublicKey, "rsa-1"),
			ecJWK(t, &w.ec.PublicKey, "ec-1"),
		}})
	}))
	t.Cleanup(w.server.Close)
	w.entry = provider.Entry{ID: "acme", Issuer: w.server.URL, JWKSURI: w.server.URL + "/keys"}
	w.verify = idtoken.By(&provider.Client{AllowLoopback: true})
	return w
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func jwk(k *rsa.PublicKey, kid string) map[string]any {
	return map[string]any{"kty": "RSA", "kid": kid, "use": "sig", "n": b64(k.N.Bytes()), "e": b64(big.NewInt(int64(k.E)).Bytes())}
}

func ecJWK(t *testing.T, k *ecdsa.PublicKey, kid string) map[string]any {
	t.Helper()
	point, err := k.Bytes() // 4, x, y
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{"kty": "EC", "kid": kid, "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])}
}

func (w *world) claims() map[string]any {
	return map[string]any{
		"iss": w.server.URL, "sub": "user-7", "aud": clientID, "nonce": nonce, "name": "Ada\nLovelace",
		"iat": at().Unix(), "exp": at().Unix() + 300,
	}
}

func part(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b64(b)
}

// jwt signs claims; sign gets the text to be signed.
func jwt(t *testing.T, header, claims map[string]any, sign func([]byte) []byte) secret.Text {
	t.Helper()
	text := part(t, header) + "." + part(t, claims)
	return secret.New(text + "." + b64(sign([]byte(text))))
}

func rs256(t *testing.T, k *rsa.PrivateKey) func([]byte) []byte {
	return func(text []byte) []byte {
		sum := sha256.Sum256(text)
		sig, err := rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
}

func es256(t *testing.T, k *ecdsa.PrivateKey) func([]byte) []byte {
	return func(text []byte) []byte {
		sum := sha256.Sum256(text)
		r, s, err := ecdsa.Sign(rand.Reader, k, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}
}

func hs256(key []byte) func([]byte) []byte {
	return func(text []byte) []byte {
		m := hmac.New(sha256.New, key)
		m.Write(text)
		return m.Sum(nil)
	}
}

func (w *world) check(raw secret.Text) (provider.Account, error) {
	return w.verify(context.Background(), w.entry, provider.IDToken{Raw: raw, ClientID: clientID, Nonce: provider.NonceHash(nonce), At: at()})
}

// good signs claims as the provider does.
func (w *world) good(t *testing.T, claims map[string]any) secret.Text {
	t.Helper()
	return jwt(t, map[string]any{"alg": "RS256", "kid": "rsa-1"}, claims, rs256(t, w.rsa))
}

func TestATokenOfTheIssuerTellsTheAccount(t *testing.T) {
	w := newWorld(t)
	for name, raw := range map[string]secret.Text{
		"RS256":            w.good(t, w.claims()),
		"RS256 without id": jwt(t, map[string]any{"alg": "RS256"}, w.claims(), rs256(t, w.rsa)),
		"ES256":            jwt(t, map[string]any{"alg": "ES256", "kid": "ec-1"}, w.claims(), es256(t, w.ec)),
	} {
		a, err := w.check(raw)
		if err != nil || a != (provider.Account{ID: "user-7", Name: "Ada Lovelace"}) {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	if n := w.reads.Load(); n != 1 {
		t.Errorf("the keys were read %d times, want once", n)
	}
}

// mutant declares a change that takes the defence of a threat out; tools/mutants reads it.
func mutant(_, _, _, _ string) bool { return true }

var _ = mutant("T46", "internal/idtoken/idtoken.go", `ClientID: t.ClientID, SupportedSigningAlgs: algorithms(),`, `ClientID: t.ClientID, InsecureSkipSignatureCheck: true,`)

func TestThreat_T46_a_forged_ID_token_is_refused(t *testing.T) {
	w := newWorld(t)
	der, err := x509.MarshalPKIXPublicKey(&w.rsa.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	header := func(more ...string) map[string]any {
		h := map[string]any{"alg": "RS256", "kid": "rsa-1"}
		for n := 0; n+1 < len(more); n += 2 {
			h[more[n]] = more[n+1]
		}
		return h
	}
	embedded := header()
	embedded["jwk"] = jwk(&w.foreign.PublicKey, "rsa-1")
	good := w.good(t, w.claims()).Reveal()
	first, rest, _ := strings.Cut(good, ".")
	_, signature, _ := strings.Cut(rest, ".")
	other := w.claims()
	other["sub"] = "somebody else"
	for name, raw := range map[string]secret.Text{
		"none":                     jwt(t, header("alg", "none"), w.claims(), func([]byte) []byte { return nil }),
		"NONE":                     jwt(t, header("alg", "NONE"), w.claims(), func([]byte) []byte { return nil }),
		"HS256 with the PEM":       jwt(t, header("alg", "HS256"), w.claims(), hs256(public)),
		"HS256 with the DER":       jwt(t, header("alg", "HS256"), w.claims(), hs256(der)),
		"HS256 with a key of type": jwt(t, header("alg", "HS256", "kid", "shared"), w.claims(), hs256([]byte("secret"))),
		"foreign key":              jwt(t, header(), w.claims(), rs256(t, w.foreign)),
		"embedded key":             jwt(t, embedded, w.claims(), rs256(t, w.foreign)),
		"jku":                      jwt(t, header("jku", w.server.URL+"/evil", "kid", "evil"), w.claims(), rs256(t, w.foreign)),
		"x5u":                      jwt(t, header("x5u", w.server.URL+"/evil", "kid", "evil"), w.claims(), rs256(t, w.foreign)),
		"kid as a path":            jwt(t, header("kid", "../../../../dev/null"), w.claims(), hs256(nil)),
		"kid as a statement":       jwt(t, header("kid", "x' UNION SELECT 'secret"), w.claims(), hs256([]byte("secret"))),
		"claims exchanged":         secret.New(first + "." + part(t, other) + "." + signature),
		"no signature":             secret.New(first + "." + part(t, w.claims()) + "."),
		"two parts":                secret.New(first + "." + part(t, w.claims())),
		"empty":                    secret.New(""),
		"no token":                 secret.New("eyJ.x.y"),
		"too large":                secret.New(good + strings.Repeat("A", 32<<10)),
	} {
		a, err := w.check(raw)
		if err == nil || errors.Is(err, provider.ErrKeysUnavailable) || a != (provider.Account{}) {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
}

var (
	_ = mutant("T47", "internal/idtoken/idtoken.go", `ClientID: t.ClientID, SupportedSigningAlgs:`, `SkipClientIDCheck: true, SupportedSigningAlgs:`)
	_ = mutant("T47", "internal/idtoken/idtoken.go", `SkipExpiryCheck: true,`, `SkipExpiryCheck: true, SkipIssuerCheck: true,`)
	_ = mutant("T47", "internal/idtoken/idtoken.go", `case c.AuthorizedParty != "" && c.AuthorizedParty != t.ClientID:`, `case c.AuthorizedParty == "x":`)
	_ = mutant("T47", "internal/idtoken/idtoken.go", `[]byte(t.Nonce)) != 1:`, `[]byte(t.Nonce)) > 1:`)
	_ = mutant("T47", "internal/idtoken/idtoken.go", `|| !token.Expiry.After(early):`, `|| early.IsZero():`)
	_ = mutant("T47", "internal/idtoken/idtoken.go", `skew = time.Minute`, `skew = time.Hour`)
)

func TestThreat_T47_the_claims_of_an_ID_token_are_checked(t *testing.T) {
	w := newWorld(t)
	now := at().Unix()
	for _, c := range []struct {
		name string
		ok   bool
		set  map[string]any
	}{
		{"as it should be", true, nil},
		{"a list of one audience", true, map[string]any{"aud": []string{clientID}}},
		{"two audiences and azp", true, map[string]any{"aud": []string{clientID, "b"}, "azp": clientID}},
		{"expired within the skew", true, map[string]any{"exp": now - 59}},
		{"issued ahead within the skew", true, map[string]any{"iat": now + 60}},
		{"valid from within the skew", true, map[string]any{"nbf": now + 60}},

		{"another audience", false, map[string]any{"aud": "client-2"}},
		{"no audience", false, map[string]any{"aud": nil}},
		{"two audiences without azp", false, map[string]any{"aud": []string{clientID, "b"}}},
		{"azp of another", false, map[string]any{"azp": "client-2"}},
		{"another issuer", false, map[string]any{"iss": "https://evil.example"}},
		{"the issuer with a slash", false, map[string]any{"iss": w.server.URL + "/"}},
		{"no issuer", false, map[string]any{"iss": nil}},
		{"expired", false, map[string]any{"exp": now - 60}},
		{"no expiry", false, map[string]any{"exp": nil}},
		{"issued in the future", false, map[string]any{"iat": now + 61}},
		{"no time of issue", false, map[string]any{"iat": nil}},
		{"not valid yet", false, map[string]any{"nbf": now + 61}},
		{"another nonce", false, map[string]any{"nonce": "another"}},
		{"no nonce", false, map[string]any{"nonce": nil}},
		{"the nonce's hash", false, map[string]any{"nonce": provider.NonceHash(nonce)}},
		{"no subject", false, map[string]any{"sub": nil}},
		{"a subject of two lines", false, map[string]any{"sub": "a\nb"}},
		{"a long subject", false, map[string]any{"sub": strings.Repeat("a", 257)}},
		{"claims kept elsewhere", true, map[string]any{
			"_claim_names": map[string]any{"x": "src"}, "_claim_sources": map[string]any{"src": map[string]any{"endpoint": w.server.URL + "/evil"}},
		}},
	} {
		claims := w.claims()
		for k, v := range c.set {
			claims[k] = v
			if v == nil {
				delete(claims, k)
			}
		}
		a, err := w.check(w.good(t, claims))
		if (err == nil) != c.ok || (a.ID == "user-7") != c.ok || errors.Is(err, provider.ErrKeysUnavailable) {
			t.Errorf("%s: %+v, %v", c.name, a, err)
		}
	}
}

func TestWithoutANonceNothingIsBelieved(t *testing.T) {
	w := newWorld(t)
	claims := w.claims()
	for _, sent := range []string{"", nonce} {
		claims["nonce"] = sent
		if a, err := w.verify(t.Context(), w.entry, provider.IDToken{Raw: w.good(t, claims), ClientID: clientID, At: at()}); err == nil {
			t.Errorf("%+v", a)
		}
	}
}

func TestKeysThatCannotBeReadAreNoVerdict(t *testing.T) {
	w := newWorld(t)
	raw := w.good(t, w.claims())
	for name, answer := range map[string]http.HandlerFunc{
		"an error":   func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusBadGateway) },
		"a redirect": func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, "/evil", http.StatusFound) },
		"a page":     func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "<html>") },
		"too much":   func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(make([]byte, 3<<20)) },
	} {
		w.answer.Store(&answer)
		if a, err := w.check(raw); !errors.Is(err, provider.ErrKeysUnavailable) {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	// Addresses are judged as for every request: this client admits no loopback.
	guarded := idtoken.By(&provider.Client{})
	w.answer.Store(nil)
	before := w.reads.Load()
	_, err := guarded(t.Context(), w.entry, provider.IDToken{Raw: raw, ClientID: clientID, Nonce: provider.NonceHash(nonce), At: at()})
	if !errors.Is(err, provider.ErrKeysUnavailable) || w.reads.Load() != before {
		t.Errorf("keys on loopback: %v", err)
	}
	if _, err := w.check(raw); err != nil {
		t.Errorf("once the keys are there: %v", err)
	}
}

func TestErrorsHoldNothingOfTheToken(t *testing.T) {
	w := newWorld(t)
	claims := w.claims()
	claims["iss"], claims["aud"], claims["sub"] = "CANARY-iss", "CANARY-aud", "CANARY-sub"
	_, err := w.check(w.good(t, claims))
	if err == nil || strings.Contains(err.Error(), "CANARY") {
		t.Errorf("%v", err)
	}
}

// FuzzToken: whatever arrives is refused, and nothing panics.
func FuzzToken(f *testing.F) {
	f.Add("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.")
	f.Add("eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYS0xIn0.e30.AA")
	f.Add(`{"payload":"e30","signatures":[{"protected":"eyJhbGciOiJSUzI1NiJ9","signature":"AA"}]}`)
	f.Add("a.b.c.d.e")
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, `{"keys":[]}`) }))
	f.Cleanup(server.Close)
	verify := idtoken.By(&provider.Client{AllowLoopback: true})
	e := provider.Entry{ID: "acme", Issuer: server.URL, JWKSURI: server.URL}
	f.Fuzz(func(t *testing.T, raw string) {
		if a, err := verify(t.Context(), e, provider.IDToken{Raw: secret.New(raw), ClientID: clientID, Nonce: provider.NonceHash(nonce), At: at()}); err == nil {
			t.Errorf("%q tells the account %q", raw, a.ID)
		}
	})
}
