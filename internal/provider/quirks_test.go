package provider_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/secret"
)

func answerOf(status, body string) string {
	return "HTTP/1.1 " + status + "\r\nConnection: close\r\n\r\n" + body
}

// A provider that renews the access token itself, by GET, after an exchange of its own.
func TestAnAccessTokenThatIsRenewedItself(t *testing.T) {
	short := newWire(t, reply(answerOf("200 OK", `{"access_token":"short","user_id":"17","scope":"a"}`)))
	long := newWire(t, reply(answerOf("200 OK", `{"access_token":"long","expires_in":5184000}`)))
	e := entryAt(short.URL+"/token", "client_secret_post")
	e.SecondExchange = provider.SecondExchange{Endpoint: long.URL + "/long", Method: "GET", Params: map[string]string{
		"grant_type": "lengthen", "client_secret": "{client_secret}", "access_token": "{access_token}",
	}}
	e.RefreshEndpoint, e.RefreshMethod, e.Refresh.Credential = long.URL+"/renew", "GET", "access_token"
	e.RefreshParams = map[string]string{"grant_type": "renew", "access_token": "{refresh_token}"}
	e.TokenEndpointAuthMethodByGrant = map[provider.Grant]string{"refresh_token": "none"}
	e.Keep = []provider.Keep{{From: "token", Field: "user_id", Pattern: "^[0-9]+$"}}
	c := &provider.Client{AllowLoopback: true}
	cred := provider.Credentials{ClientID: "id", ClientSecret: secret.New("s3cret")}
	a := c.Token(t.Context(), e, cred, provider.Request{Grant: provider.GrantAuthorizationCode, Code: secret.New("c0de"), RedirectURI: "https://app.example/cb"})
	if a.Verdict != provider.VerdictOK || a.AccessToken.Reveal() != "long" || a.RefreshToken.Reveal() != "long" || !a.RefreshTokenArrived ||
		a.ExpiresIn != 5184000 || a.RefreshTokenExpiresIn != 5184000 || a.Fields != `{"user_id":"17"}` || a.Scope != "a" {
		t.Errorf("exchange: %+v", a)
	}
	a = c.Token(t.Context(), e, cred, provider.Request{Grant: provider.GrantRefreshToken, RefreshToken: secret.New("long")})
	if a.Verdict != provider.VerdictOK || a.RefreshToken.Reveal() != "long" {
		t.Errorf("renewal: %+v", a)
	}
	all := long.requests()
	if len(all) != 2 || all[0].Method != "GET" || all[0].Query != "access_token=short&client_secret=s3cret&grant_type=lengthen" {
		t.Errorf("second exchange: %+v", all)
	}
	if r := all[1]; r.Method != "GET" || r.Path != "/renew" || r.Query != "access_token=long&client_id=id&grant_type=renew" || r.Body != "" {
		t.Errorf("renewal: %+v", r)
	}
}

// A first token that cannot be made to last is no connection.
func TestASecondExchangeThatFailsEndsTheConsent(t *testing.T) {
	short := newWire(t, reply(answerOf("200 OK", `{"access_token":"short"}`)))
	long := newWire(t, reply(answerOf("400 Bad Request", `{"error":"invalid_grant","error_description":"no short"}`)))
	e := entryAt(short.URL, "none")
	e.SecondExchange = provider.SecondExchange{Endpoint: long.URL, Params: map[string]string{"t": "{access_token}"}}
	a := (&provider.Client{AllowLoopback: true}).Token(t.Context(), e, provider.Credentials{ClientID: "id"},
		provider.Request{Grant: provider.GrantAuthorizationCode, Code: secret.New("c0de")})
	if a.Verdict != provider.VerdictNeedsReauth || !a.AccessToken.IsZero() || strings.Contains(a.Detail, "short") {
		t.Errorf("%+v", a)
	}
}

func TestARefreshRepeatsTheRedirectURIWhereItMust(t *testing.T) {
	w := newWire(t, reply(goodAnswer))
	e := entryAt(w.URL, "none")
	e.RefreshSendsRedirectURI = true
	c, id := &provider.Client{AllowLoopback: true}, provider.Credentials{ClientID: "id"}
	req := refreshRequest()
	if a := c.Token(t.Context(), e, id, req); a.Verdict != provider.VerdictConfigError || !strings.Contains(a.Detail, "redirect URI") {
		t.Errorf("%+v", a)
	}
	req.RedirectURI = "https://app.example/cb"
	c.Token(t.Context(), e, id, req)
	if all := w.requests(); len(all) != 1 || all[0].Form.Get("redirect_uri") != req.RedirectURI || all[0].Form.Get("refresh_token") != "old-rt" {
		t.Errorf("%+v", all)
	}
}

func TestARetryStatusWithoutACodeMeansLater(t *testing.T) {
	for body, want := range map[string]provider.Verdict{
		``:                          provider.VerdictRetry,
		`{"error":"invalid_grant"}`: provider.VerdictNeedsReauth,
	} {
		w := newWire(t, reply(answerOf("400 Bad Request", body)))
		e := entryAt(w.URL, "none")
		e.RetryStatus = []int{400}
		if a := (&provider.Client{AllowLoopback: true}).Token(t.Context(), e, provider.Credentials{ClientID: "id"}, refreshRequest()); a.Verdict != want {
			t.Errorf("%q: %+v", body, a)
		}
	}
}

func pemOf(t *testing.T, key any) secret.Text {
	t.Helper()
	b, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return secret.New(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b})))
}

func TestPrivateKeyJWT(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	seen := map[string]bool{}
	for alg, key := range map[string]any{"ES256": ec, "RS256": rs} {
		w := newWire(t, reply(goodAnswer))
		e := entryAt(w.URL+"/token", "private_key_jwt")
		e.ClientAssertionAudience = map[string]string{"RS256": "https://issuer.example"}[alg]
		c := &provider.Client{AllowLoopback: true, Now: func() time.Time { return now }}
		cred := provider.Credentials{ClientID: "id", ClientSecret: pemOf(t, key), KeyID: "k1"}
		if a := c.Token(t.Context(), e, cred, refreshRequest()); a.Verdict != provider.VerdictOK {
			t.Fatalf("%s: %+v", alg, a)
		}
		c.Token(t.Context(), e, cred, refreshRequest())
		for _, r := range w.requests() {
			if r.Form.Get("client_secret") != "" || r.Form.Get("client_id") != "id" || r.Header.Get("Authorization") != "" ||
				r.Form.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
				t.Errorf("%s: %v", alg, r.Form)
			}
			parts := strings.Split(r.Form.Get("client_assertion"), ".")
			if len(parts) != 3 {
				t.Fatalf("%s: %v", alg, parts)
			}
			var head struct{ Alg, Kid, Typ string }
			var claims struct {
				Iss, Sub, Aud, Jti string
				Iat, Exp           int64
			}
			decodePart(t, parts[0], &head)
			decodePart(t, parts[1], &claims)
			audience := w.URL + "/token"
			if alg == "RS256" {
				audience = "https://issuer.example"
			}
			if head.Alg != alg || head.Kid != "k1" || claims.Iss != "id" || claims.Sub != "id" || claims.Aud != audience ||
				claims.Iat != now.Unix() || claims.Exp != now.Unix()+300 || len(claims.Jti) < 22 || seen[claims.Jti] {
				t.Errorf("%s: %+v %+v", alg, head, claims)
			}
			seen[claims.Jti] = true
			if !verified(t, key, parts) {
				t.Errorf("%s: the signature does not fit", alg)
			}
		}
	}
}

func decodePart(t *testing.T, part string, into any) {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
}

func verified(t *testing.T, key any, parts []string) bool {
	t.Helper()
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		t.Fatal(err)
	}
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		return len(signature) == 64 && ecdsa.Verify(&key.PublicKey, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
	case *rsa.PrivateKey:
		return rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, sum[:], signature) == nil
	}
	return false
}

func TestPrivateKeyJWTRefusesOtherKeys(t *testing.T) {
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := newWire(t, reply(goodAnswer))
	e := entryAt(w.URL, "private_key_jwt")
	for name, key := range map[string]secret.Text{
		"Ed25519": pemOf(t, edwards), "P-384": pemOf(t, other), "no PEM": secret.New("s3cret"),
		"encrypted": secret.New("-----BEGIN ENCRYPTED PRIVATE KEY-----\nczNjcmV0\n-----END ENCRYPTED PRIVATE KEY-----\n"),
		"garbage":   secret.New("-----BEGIN PRIVATE KEY-----\nczNjcmV0\n-----END PRIVATE KEY-----\n"),
	} {
		a := (&provider.Client{AllowLoopback: true}).Token(t.Context(), e, provider.Credentials{ClientID: "id", ClientSecret: key}, refreshRequest())
		if a.Verdict != provider.VerdictConfigError || strings.Contains(a.Detail, "s3cret") {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if n := len(w.requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestRevocationByTemplate(t *testing.T) {
	cred := provider.Credentials{ClientID: "id", ClientSecret: secret.New("s3cret")}
	for name, c := range map[string]struct {
		request             provider.RevocationRequest
		hint                string
		answer              string
		want                provider.RevokeResult
		line, auth, content string
	}{
		"token in the path": {
			provider.RevocationRequest{Method: "DELETE", URL: "/tokens/{refresh_token}", Auth: "none", Token: "refresh_token"},
			"refresh_token",
			answerOf("204 No Content", ""), provider.RevokeDone, "DELETE /tokens/to%2Fken", "", "",
		},
		"bearer": {
			provider.RevocationRequest{URL: "/revoke", Auth: "bearer", Token: "access_token"},
			"access_token",
			answerOf("200 OK", `{"ok":true}`), provider.RevokeDone, "POST /revoke", "Bearer to/ken", "",
		},
		"json with the client": {
			provider.RevocationRequest{
				Method: "DELETE", URL: "/apps/{client_id}/grant", Auth: "client_secret_basic", Token: "access_token", Format: "json",
				Body: map[string]string{"access_token": "{access_token}"},
			},
			"access_token",
			answerOf("404 Not Found", `{}`), provider.RevokeDone, "DELETE /apps/id/grant", "Basic aWQ6czNjcmV0", `{"access_token":"to/ken"}`,
		},
		"the grant by a kept field": {
			provider.RevocationRequest{URL: "/deauthorize", Auth: "secret_as_bearer", Token: "none", Body: map[string]string{"user": "{user_id}", "client_id": "{client_id}"}},
			"refresh_token", answerOf("200 OK", `{}`), provider.RevokeDone, "POST /deauthorize", "Bearer s3cret", "client_id=id&user=17",
		},
		"another kind of token": {
			provider.RevocationRequest{URL: "/revoke", Token: "access_token"}, "refresh_token", "", provider.RevokeUnsupported, "", "", "",
		},
		"200 with an error": {
			provider.RevocationRequest{URL: "/revoke", Auth: "bearer", Token: "access_token"},
			"access_token",
			answerOf("200 OK", `{"ok":false,"error":"not_authed"}`), provider.RevokeRefused, "POST /revoke", "Bearer to/ken", "",
		},
		"revoked before": {
			provider.RevocationRequest{URL: "/revoke", Auth: "bearer", Token: "access_token"},
			"access_token",
			answerOf("200 OK", `{"ok":false,"error":"token_revoked"}`), provider.RevokeDone, "POST /revoke", "Bearer to/ken", "",
		},
		"away": {
			provider.RevocationRequest{Method: "GET", URL: "/revoke?v=1", Auth: "client_secret_post", Token: "access_token", Body: map[string]string{"t": "{access_token}"}},
			"access_token",
			answerOf("503 Service Unavailable", ""), provider.RevokeRetry, "GET /revoke?client_id=id&client_secret=s3cret&t=to%2Fken&v=1", "", "",
		},
	} {
		w := newWire(t, reply(c.answer))
		e := entryAt(w.URL, "client_secret_post")
		e.Keep = []provider.Keep{{From: "token", Field: "user_id", Pattern: "^[0-9]+$"}}
		c.request.URL = w.URL + c.request.URL
		e.RevocationRequest = c.request
		e, err := e.Resolve(map[string]string{"user_id": "17"})
		if err != nil {
			t.Fatal(err)
		}
		if got := (&provider.Client{AllowLoopback: true}).Revoke(t.Context(), e, cred, secret.New("to/ken"), c.hint); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		all := w.requests()
		if c.line == "" {
			if len(all) != 0 {
				t.Errorf("%s: %+v", name, all)
			}
			continue
		}
		if len(all) != 1 {
			t.Fatalf("%s: %d requests", name, len(all))
		}
		r := all[0]
		line := r.Method + " " + r.Escaped
		if r.Query != "" {
			line += "?" + r.Query
		}
		if line != c.line || r.Header.Get("Authorization") != c.auth || r.Body != c.content {
			t.Errorf("%s: %s %q %q", name, line, r.Header.Get("Authorization"), r.Body)
		}
	}
}

func TestAnAccountFromATokenInThePathAndWhatIsKeptOfIt(t *testing.T) {
	w := newWire(t, reply(answerOf("200 OK", `{"hub_id":17,"accounts":[{"base":"https://eu.zone.example","key":"k3y"}]}`)))
	e := provider.Entry{
		API:      provider.API{ExtraHeaders: map[string]string{"Client-Id": "{client_id}", "X-Business": "{business_id}"}},
		Identity: provider.Identity{Endpoint: w.URL + "/tokens/{access_token}", IDField: "hub_id"},
		Keep: []provider.Keep{
			{From: "identity", Field: "accounts[0].base", As: "base", Pattern: `^https://[a-z]+\.zone\.example$`},
			{From: "identity", Field: "accounts[0].key", As: "key", Pattern: `^[a-z0-9]+$`, Secret: true},
		},
	}
	e, err := e.Resolve(map[string]string{"client_id": "id"})
	if err != nil {
		t.Fatal(err)
	}
	a, err := (&provider.Client{AllowLoopback: true}).Identity(t.Context(), e, secret.New("a/t"), "Bearer")
	if err != nil || a.ID != "17" || a.Fields != `{"base":"https://eu.zone.example"}` || a.SecretFields.Reveal() != `{"key":"k3y"}` {
		t.Errorf("%+v, %v", a, err)
	}
	r := w.requests()[0]
	if r.Escaped != "/tokens/a%2Ft" || r.Header.Get("Client-Id") != "id" || len(r.Header.Values("X-Business")) != 0 {
		t.Errorf("%+v", r)
	}
}

func TestEnvironments(t *testing.T) {
	e := lookup(t, "docusign")
	if _, err := e.In("nowhere"); err == nil || !strings.Contains(err.Error(), "it has demo") {
		t.Errorf("%v", err)
	}
	demo, err := e.In("demo")
	if err != nil || demo.TokenEndpoint == e.TokenEndpoint || demo.Refresh != e.Refresh || demo.Identity.IDField != e.Identity.IDField || demo.ID != e.ID {
		t.Errorf("%+v, %v", demo, err)
	}
	if main, err := e.In(""); err != nil || main.TokenEndpoint != e.TokenEndpoint {
		t.Errorf("%v", err)
	}
}

// A token of a sandbox has no business at the main API, and the account is not found there.
func TestAnEnvironmentSaysItsOwnHosts(t *testing.T) {
	e := lookup(t, "freeagent")
	sandbox, err := e.In("sandbox")
	if err != nil || sandbox.API.BaseURLs[0] != "https://api.sandbox.freeagent.com/v2" || sandbox.Identity.Endpoint != "https://api.sandbox.freeagent.com/v2/users/me" {
		t.Errorf("%v %q %v", sandbox.API.BaseURLs, sandbox.Identity.Endpoint, err)
	}
	e.Environments = map[string]provider.Entry{"sandbox": {TokenEndpoint: "https://api.sandbox.freeagent.com/v2/token_endpoint"}}
	text := fmt.Sprint(e.Validate())
	for _, want := range []string{"environments.sandbox.api.base_urls: is missing", "environments.sandbox.identity.endpoint: is missing"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %s", want, text)
		}
	}
}
