package sigv4_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/evergrant/evergrant/client"
	"github.com/evergrant/evergrant/client/sigv4"
)

// What arrives is signed for API Gateway in its region, under /iam/v1, over the body that was
// sent: the same signature comes of the arrived request.
func TestRequestsAreSigned(t *testing.T) {
	own := aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "secret-key", SessionToken: "session"}
	var paths []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.Method+" "+r.URL.Path)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if got, want := r.Header.Get("Authorization"), expected(t, r, body, own); got != want {
			t.Errorf("%s %s is signed\n%s, want\n%s", r.Method, r.URL, got, want)
		}
		if strings.Contains(r.Header.Get("Authorization"), "Bearer") {
			t.Error("a key is sent as well")
		}
		_, _ = io.WriteString(w, `{"id":"cs_1","authorize_url":"u","access_token":"a","token_id":"1"}`)
	}))
	defer server.Close()
	provider := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return own, nil })
	c, err := client.New(server.URL, "", client.Options{Sign: sigv4.Signer(provider, "eu-west-1")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Token(t.Context(), "conn_1", client.TokenOptions{Need: []string{"a b", "ü"}}); err != nil {
		t.Error(err)
	}
	if _, err := c.CreateSession(t.Context(), client.SessionRequest{Integration: "askfred", Owner: "alice"}); err != nil {
		t.Error(err)
	}
	if got := strings.Join(paths, ", "); got != "GET /iam/v1/connections/conn_1/token, POST /iam/v1/connect-sessions" {
		t.Errorf("requests: %s", got)
	}
}

func expected(t *testing.T, r *http.Request, body []byte, c aws.Credentials) string {
	t.Helper()
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		t.Fatal(err)
	}
	own, err := http.NewRequest(r.Method, "http://"+r.Host+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range signedHeaders(r) {
		if name != "host" && name != "content-length" {
			own.Header.Set(name, r.Header.Get(name))
		}
	}
	hash := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(t.Context(), c, own, hex.EncodeToString(hash[:]), "execute-api", "eu-west-1", at); err != nil {
		t.Fatal(err)
	}
	return own.Header.Get("Authorization")
}

func signedHeaders(r *http.Request) []string {
	_, after, _ := strings.Cut(r.Header.Get("Authorization"), "SignedHeaders=")
	names, _, _ := strings.Cut(after, ",")
	return strings.Split(names, ";")
}
