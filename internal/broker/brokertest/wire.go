package brokertest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/provider"
)

// line is one process's way to the provider.
type line struct {
	base http.RoundTripper
	p    *Process
}

func (t line) RoundTrip(r *http.Request) (*http.Response, error) {
	t.p.alive()
	kind, err := kindOfRequest(r)
	if err != nil {
		return nil, err
	}
	call := func() (*http.Response, error) {
		res, err := t.base.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		if kind == OnSend || kind == OnExchange {
			return t.p.World.watch.answer(res)
		}
		return res, nil
	}
	t.p.mu.Lock()
	do := next(t.p.onWire, kind)
	t.p.mu.Unlock()
	if do == nil {
		return call()
	}
	return do(call)
}

// kindOfRequest reads a request's form; its body is put back, and can still be sent once
// only.
func kindOfRequest(r *http.Request) (string, error) {
	if r.Body == nil || r.Method != http.MethodPost {
		return OnIdentity, nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return "", err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return "", err
	}
	switch form.Get("grant_type") {
	case "refresh_token":
		return OnSend, nil
	case "authorization_code":
		return OnExchange, nil
	case "":
		return OnRevocation, nil
	}
	return Other, nil
}

// answer reads what a token answer holds, before anybody does.
func (o *watch) answer(res *http.Response) (*http.Response, error) {
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	res.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), failing{err}))
	var a struct {
		AccessToken  string `json:"access_token"`
		RefreshToken string `json:"refresh_token"`
		Error        string `json:"error"`
	}
	_ = json.Unmarshal(body, &a)
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, t := range []string{a.AccessToken, a.RefreshToken} {
		if t != "" {
			o.secrets = append(o.secrets, t)
		}
	}
	if a.Error == "invalid_grant" {
		o.refusals++
	}
	return res, nil
}

// failing is the end of a body that broke off.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	return 0, io.EOF
}

// Rewrite changes a token answer before anybody reads it. change is given the members
// of the object.
func Rewrite(change func(m map[string]any)) Fault[*http.Response] {
	return func(call func() (*http.Response, error)) (*http.Response, error) {
		res, err := call()
		if err != nil {
			return res, err
		}
		var m map[string]any
		if err := json.NewDecoder(res.Body).Decode(&m); err != nil {
			return nil, err
		}
		change(m)
		body, err := json.Marshal(m)
		if err != nil {
			return nil, err
		}
		return WithBody(res, body), nil
	}
}

// WithBody is the answer with another body.
func WithBody(res *http.Response, body []byte) *http.Response {
	res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	res.Header.Del("Content-Length")
	return res
}

// AtEndpoint has a process speak to another token endpoint than the simulator's.
func AtEndpoint(endpoint string) func(*broker.Config) {
	return func(c *broker.Config) { c.Settings.Integrations[0].Entry.TokenEndpoint = endpoint }
}

// OverTransport has a process speak through another transport.
func (w *World) OverTransport(tr http.RoundTripper) func(*broker.Config) {
	return func(c *broker.Config) {
		c.Provider = &provider.Client{Transport: tr, AllowLoopback: true, Now: w.Now}
	}
}
