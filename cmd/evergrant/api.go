package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/wire"
)

// Server says which Evergrant a command speaks to, and how it prints.
type Server struct {
	URL     string `default:"${server}" env:"EVERGRANT_URL" help:"Evergrant's address."`
	KeyFile string `placeholder:"FILE" env:"EVERGRANT_KEY_FILE" help:"File with the API key. Else EVERGRANT_API_KEY, else the key of evergrant dev."`
	JSON    bool   `help:"Print JSON."`
}

// defaultServer is where evergrant dev and serve listen unless told otherwise.
const defaultServer = "http://127.0.0.1:8080"

const (
	// apiTime bounds a call: more than the slowest answer of the server takes.
	apiTime = 100 * time.Second
	// maxAnswer bounds what is read of one, in bytes.
	maxAnswer = 8 << 20
)

// api is Evergrant's HTTP API as a client sees it.
type api struct {
	base   string
	key    secret.Text
	client *http.Client
}

// connect returns the API of the server that the flags and the environment name.
func (s Server) connect(p *process) (*api, error) {
	u, err := url.Parse(s.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && isLoopback(u.Hostname())) {
		return nil, usagef("--url must be an https address, or http on this machine")
	}
	key, err := s.apiKey(p)
	if err != nil {
		return nil, err
	}
	return newAPI(strings.TrimSuffix(s.URL, "/"), key), nil
}

func newAPI(base string, key secret.Text) *api {
	return &api{base: base, key: key, client: &http.Client{
		Timeout: apiTime,
		// The API never redirects; following one would carry the key elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (s Server) apiKey(p *process) (secret.Text, error) {
	if s.KeyFile != "" {
		key, err := readSecretFile(s.KeyFile)
		if err != nil {
			return key, err
		}
		return checkedKey(key, s.KeyFile)
	}
	if text := p.getenv("EVERGRANT_API_KEY"); text != "" {
		return checkedKey(secret.New(strings.TrimSpace(text)), "EVERGRANT_API_KEY")
	}
	if s.URL == defaultServer {
		key, err := readSecretFile(filepath.Join(devDataFolder(), devKeyFile))
		if !errors.Is(err, fs.ErrNotExist) {
			return key, err
		}
	}
	return secret.Text{}, fmt.Errorf("an API key is needed: set EVERGRANT_API_KEY or --key-file (evergrant dev prints its own; evergrant keys new makes one for serve)%s%s",
		mistakenKey(p.getenv("EVERGRANT_KEY")), s.silence(p.ctx))
}

// mistakenKey is a hint for who has put an API key where serve looks for its wrapping key.
func mistakenKey(wrapping string) string {
	if !strings.HasPrefix(wrapping, "evg_") {
		return ""
	}
	return "\nEVERGRANT_KEY is the wrapping key of serve, and an API key stands there: put it into EVERGRANT_API_KEY."
}

// silence is a hint where nothing takes a connection at an address of this machine: then
// a key would not help either.
func (s Server) silence(ctx context.Context) string {
	u, err := url.Parse(s.URL)
	if err != nil || u.Scheme != "http" {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return "\nNothing answers at " + s.URL + ": evergrant dev starts a server to try things with; --url names another."
	}
	_ = conn.Close() // nothing was said
	return ""
}

// checkedKey refuses what can be no API key and says where it stands, never what it is:
// a line break in it would only fail later, as a header that cannot be sent.
func checkedKey(key secret.Text, where string) (secret.Text, error) {
	text := key.Reveal()
	switch {
	case text == "":
		return key, fmt.Errorf("%s holds nothing but blanks: it should hold an API key, evg_…", where)
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		return key, fmt.Errorf("%s holds a blank, a line break or another character that no API key has: it should hold one key, evg_…, and nothing else", where)
	}
	return key, nil
}

// readSecretFile reads a file that nobody but its owner may read.
func readSecretFile(path string) (secret.Text, error) {
	f, err := openSecretFile(path)
	if err != nil {
		return secret.Text{}, err
	}
	defer func() { _ = f.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(f, maxAnswer))
	if err != nil {
		return secret.Text{}, err
	}
	return secret.New(strings.TrimSpace(string(text))), nil
}

// writeNewSecretFile writes a secret into a file that was not there, which nobody but its
// owner may read.
func writeNewSecretFile(path string, text secret.Text) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text.Reveal() + "\n")
	return errors.Join(err, f.Close())
}

// openSecretFile opens such a file. A wider one is refused and not mended: it may have
// been read already.
func openSecretFile(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		err = fmt.Errorf("%s is open to others than its owner (mode %04o); if nobody else has read it: chmod 600 %s", path, info.Mode().Perm(), path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// apiError is a problem that the server answered with.
type apiError struct {
	wire.Problem
	retryAfter time.Duration // 0 where the server names none
}

func (e apiError) Error() string {
	s := fmt.Sprintf("%s (%d): %s", e.Code, e.Status, e.Detail)
	if e.Reason != "" {
		s += " (reason: " + e.Reason + ")"
	}
	if e.MissingScope != "" {
		s += " (missing: " + e.MissingScope + ")"
	}
	if e.retryAfter > 0 {
		s += " (again in " + span(e.retryAfter) + ")"
	}
	if e.Code == "unauthorized" {
		s += "\nIs the API key that of this server? See EVERGRANT_API_KEY and --key-file."
	}
	if e.RequestID != "" {
		s += "\nrequest id: " + e.RequestID
	}
	return s
}

// call makes one request and decodes its answer into out, unless out is nil. A
// problem is an apiError.
func (a *api) call(ctx context.Context, method, path string, in, out any) error {
	_, err := a.callStatus(ctx, method, path, in, out)
	return err
}

// callStatus is call, and tells the status of a good answer.
func (a *api) callStatus(ctx context.Context, method, path string, in, out any) (int, error) {
	body := []byte(nil)
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return 0, err
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, a.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Authorization", "Bearer "+a.key.Reveal())
	r.Header.Set("User-Agent", "evergrant/"+version())
	if in != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := a.client.Do(r)
	if err != nil {
		return 0, a.unreachable(err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read to its end, or is given up
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, a.unreachable(err)
	}
	if resp.StatusCode >= 300 {
		return 0, problemOf(resp, answer)
	}
	if out == nil {
		return resp.StatusCode, nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return 0, fmt.Errorf("%s does not answer as Evergrant does: is --url right?", a.base)
	}
	return resp.StatusCode, nil
}

func problemOf(resp *http.Response, answer []byte) error {
	var e apiError
	if json.Unmarshal(answer, &e.Problem) != nil || e.Code == "" {
		return fmt.Errorf("%s answered %d, and not as Evergrant does: is --url right?", resp.Request.URL.Host, resp.StatusCode)
	}
	if s, err := strconv.ParseInt(resp.Header.Get("Retry-After"), 10, 32); err == nil && s > 0 {
		e.retryAfter = secondsOf(s)
	}
	return e
}

// unreachable tells what came of the connection, without the URL's path and query.
func (a *api) unreachable(err error) error {
	if e := new(url.Error); errors.As(err, &e) {
		err = e.Err
	}
	hint := ""
	if e := new(net.OpError); errors.As(err, &e) && errors.Is(err, syscall.ECONNREFUSED) {
		hint = "\nIs it running? evergrant dev starts one to try things with; --url names another."
	}
	return fmt.Errorf("%s cannot be reached: %w%s", a.base, err, hint)
}

// show prints v as JSON where that is asked for, else what text prints.
func (s Server) show(p *process, v any, text func()) error {
	if s.JSON {
		return p.printJSON(v)
	}
	text()
	return nil
}

// Target is one connection of a server.
type Target struct {
	Server
	ID string `arg:"" help:"The connection, conn_…"`
}

// open returns the server's API and the connection's path in it.
func (t Target) open(p *process) (*api, string, error) {
	path, err := connectionPath(t.ID)
	if err != nil {
		return nil, "", err
	}
	a, err := t.connect(p)
	return a, path, err
}

// connectionPath is the path of a connection in the API. An id that could be no id is
// refused here, with better words than the server's.
func connectionPath(id string) (string, error) {
	if !strings.HasPrefix(id, "conn_") || url.PathEscape(id) != id {
		return "", usagef("%q is no connection id: those begin with conn_ (evergrant list shows them)", id)
	}
	return "/v1/connections/" + id, nil
}

// isLoopback reports whether host is this machine, by name or address.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}
