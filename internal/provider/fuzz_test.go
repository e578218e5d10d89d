package provider_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/secret"
)

// FuzzTokenAnswer holds what must be true of any answer whatsoever.
func FuzzTokenAnswer(f *testing.F) {
	for _, file := range loadVectors(f) {
		for _, v := range file.Vectors {
			if v.HTTP != nil && len(v.HTTP.body()) < 1<<12 {
				h := v.HTTP.header()
				f.Add(string(v.Grant), v.HTTP.Status, v.HTTP.body(), h.Get("Content-Encoding"), h.Get("WWW-Authenticate"), h.Get("Retry-After"), v.Hints.TokenPath)
			}
		}
	}
	f.Fuzz(func(t *testing.T, grant string, status int, body []byte, encoding, challenge, retry, path string) {
		e := provider.Entry{TokenPath: path, DeadRefreshErrors: []string{"invalid_request@401~dead"}, ScopeSeparator: ","}
		req := provider.Request{Grant: provider.Grant(grant), RefreshToken: secret.New("the-sent-one")}
		o := provider.Outcome{Status: status, Body: body, Header: http.Header{
			"Content-Encoding": {encoding}, "Www-Authenticate": {challenge}, "Retry-After": {retry},
		}}
		checkInvariants(t, req, provider.Classify(e, req, o, time.Unix(1_795_262_400, 0)))
	})
}

func checkInvariants(t *testing.T, req provider.Request, a provider.Answer) {
	t.Helper()
	if !slices.Contains([]provider.Verdict{
		provider.VerdictOK, provider.VerdictRetry, provider.VerdictConfigError, provider.VerdictNeedsReauth, provider.VerdictMalformed,
	}, a.Verdict) {
		t.Errorf("verdict %q", a.Verdict)
	}
	if req.Grant == provider.GrantRefreshToken && a.RefreshToken.IsZero() {
		t.Error("the refresh token is gone")
	}
	if !a.RefreshTokenArrived && req.Grant == provider.GrantRefreshToken && a.RefreshToken != req.RefreshToken {
		t.Error("without a new refresh token the sent one must stay, as the same value")
	}
	if req.Grant == provider.GrantClientCredentials && !a.RefreshToken.IsZero() {
		t.Error("client_credentials keeps no refresh token")
	}
	if (a.Verdict == provider.VerdictOK) != (a.AccessToken.Len() > 0 && a.TokenType == "Bearer") {
		t.Errorf("verdict %s with an access token of %d bytes", a.Verdict, a.AccessToken.Len())
	}
	for _, tok := range []secret.Text{a.AccessToken, a.RefreshToken, a.IDToken} {
		for _, b := range []byte(tok.Reveal()) {
			if b < 0x20 || b > 0x7e {
				t.Errorf("a token holds byte %#x", b)
			}
		}
	}
	if a.Verdict == provider.VerdictMalformed && !a.ResponseLost {
		t.Error("malformed, and not lost")
	}
	if a.RetryAfter != provider.NoRetryAfter && (a.Verdict != provider.VerdictRetry || a.RetryAfter < 0 || a.RetryAfter > 3600) {
		t.Errorf("verdict %s, retry after %d", a.Verdict, a.RetryAfter)
	}
	if a.ExpiresIn < 0 || a.ExpiresIn > 631152000 || len([]rune(a.Detail)) > 200 || len(a.Error) > 256 {
		t.Errorf("out of bounds: life %d, detail of %d, error of %d", a.ExpiresIn, len(a.Detail), len(a.Error))
	}
}
