package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// oidcScript is the server's program; the tests use the same one.
const oidcScript = "test/oidc/server.mjs"

// oidcCallback is where its codes would go. Nothing listens there.
const oidcCallback = "http://127.0.0.1:9/callback/soak"

// oidcServer is a running oidc-provider.
type oidcServer struct {
	issuer string
	people int
}

// startOIDC runs oidc-provider until ctx ends, and stands the site before it.
func (s *site) startOIDC(ctx context.Context, root, reference string) (*oidcServer, error) {
	settings, err := json.Marshal(map[string]any{
		"clients": []any{map[string]any{
			"client_id": "soak", "token_endpoint_auth_method": "none", "application_type": "native", "redirect_uris": []string{oidcCallback},
		}},
		"access_token_ttl_s": int(s.life / time.Second), "rotate": s.policy.Rotates,
	})
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, filepath.Join(reference, "bin", "node"), filepath.Join(root, oidcScript), string(settings))
	command.Env = append(os.Environ(), "NODE_ENV=production", "EVERGRANT_OIDC_PROVIDER="+reference)
	if _, err := command.StdinPipe(); err != nil { // it ends when this closes, at the latest with us
		return nil, err
	}
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("oidc-provider: %w", err)
	}
	go func() { <-ctx.Done(); _ = command.Wait() }() // it was killed by then
	var ready struct{ Issuer string }
	scan := bufio.NewScanner(out)
	if !scan.Scan() || json.Unmarshal(scan.Bytes(), &ready) != nil {
		return nil, errors.New("oidc-provider did not say that it is ready")
	}
	target, err := url.Parse(ready.Issuer)
	if err != nil {
		return nil, err
	}
	s.next, s.tokenPath, s.clientID = httputil.NewSingleHostReverseProxy(target), "/token", "soak"
	return &oidcServer{issuer: ready.Issuer}, nil
}

// issue lets a new person consent, and returns the refresh token.
func (o *oidcServer) issue() (string, error) {
	o.people++
	jar, err := cookiejar.New(nil)
	if err != nil {
		return "", err
	}
	browser := &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), oidcCallback) {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	verifier := rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(verifier))
	answer, err := browser.Get(o.issuer + "/auth?" + url.Values{
		"client_id": {"soak"}, "response_type": {"code"}, "redirect_uri": {oidcCallback}, "scope": {"openid offline_access"}, "prompt": {"consent"},
		"login_hint": {fmt.Sprintf("person-%d", o.people)}, "code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}.Encode())
	if err != nil {
		return "", fmt.Errorf("consent at oidc-provider: %w", err)
	}
	defer func() { _ = answer.Body.Close() }() // a redirect has none
	back, err := answer.Location()
	if err != nil {
		return "", fmt.Errorf("consent at oidc-provider: status %d", answer.StatusCode)
	}
	return o.exchange(back.Query().Get("code"), verifier)
}

func (o *oidcServer) exchange(code, verifier string) (string, error) {
	answer, err := http.PostForm(o.issuer+"/token", url.Values{
		"grant_type": {"authorization_code"}, "client_id": {"soak"}, "code": {code}, "code_verifier": {verifier}, "redirect_uri": {oidcCallback},
	})
	if err != nil {
		return "", fmt.Errorf("code exchange at oidc-provider: %w", err)
	}
	defer func() { _ = answer.Body.Close() }() // it was read
	var pair struct {
		RefreshToken string `json:"refresh_token"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&pair); err != nil || pair.RefreshToken == "" {
		return "", fmt.Errorf("code exchange at oidc-provider: status %d", answer.StatusCode)
	}
	return pair.RefreshToken, nil
}
