package provider_test

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/provider"
)

// fixed answers every request alike.
type fixed struct {
	status   int
	body     []byte
	encoding string
}

func (f fixed) RoundTrip(r *http.Request) (*http.Response, error) {
	h := http.Header{}
	if f.encoding != "" {
		h.Set("Content-Encoding", f.encoding)
	}
	return &http.Response{StatusCode: f.status, Header: h, Body: io.NopCloser(bytes.NewReader(f.body)), Request: r}, nil
}

// FuzzDiscovery: whatever a discovery document says, no endpoint comes of it that secrets
// may not be sent to, and no error holds text of it.
func FuzzDiscovery(f *testing.F) {
	f.Add(200, []byte(`{"issuer":"https://a.example","token_endpoint":"https://a.example/t","jwks_uri":"https://a.example/k"}`), "")
	f.Add(200, []byte(`{"token_endpoint":"http://a.example/t"}`), "")
	f.Add(200, []byte(`{"token_endpoint":"https://u:p@a.example/t","revocation_endpoint":"javascript:x"}`), "")
	f.Add(200, []byte(`{"authorization_endpoint":"https://a.example/a#f","code_challenge_methods_supported":["S256",1,{}]}`), "gzip")
	f.Add(302, []byte(`{}`), "")
	f.Add(200, []byte("\ufeff{\"token_endpoint\":\"//a.example\"}"), "")
	f.Fuzz(func(t *testing.T, status int, body []byte, encoding string) {
		c := &provider.Client{Transport: fixed{status, body, encoding}}
		m, err := c.Discover(t.Context(), "https://provider.example/.well-known/openid-configuration")
		if err != nil {
			if strings.Contains(err.Error(), "\n") || len(err.Error()) > 300 {
				t.Errorf("the error is made of the document: %q", err)
			}
			return
		}
		for _, endpoint := range []string{m.AuthorizationEndpoint, m.TokenEndpoint, m.RevocationEndpoint, m.UserinfoEndpoint, m.JWKSURI} {
			if endpoint == "" {
				continue
			}
			if u, err := url.Parse(endpoint); err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
				t.Errorf("taken as an endpoint: %q", endpoint)
			}
		}
	})
}

// FuzzDocument: no answer is longer than a document may be, and none but 200 counts.
func FuzzDocument(f *testing.F) {
	f.Add(200, []byte("{}"), "")
	f.Add(200, []byte{0x1f, 0x8b, 8, 0}, "gzip")
	f.Add(301, []byte("{}"), "")
	f.Fuzz(func(t *testing.T, status int, body []byte, encoding string) {
		c := &provider.Client{Transport: fixed{status, body, encoding}}
		b, err := c.Document(t.Context(), "https://provider.example/keys")
		if err == nil && (status != http.StatusOK || len(b) > 1<<20) {
			t.Errorf("status %d, %d bytes", status, len(b))
		}
	})
}
