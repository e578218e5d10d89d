package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/wire"
)

// connectCommand plays the application: it makes a connect session, opens the link,
// and confirms who came back.
type connectCommand struct {
	Server
	Integration  string            `arg:"" help:"Name of the integration in the configuration."`
	Owner        string            `short:"o" required:"" help:"Whose connection it is: your application's own id."`
	ConnectionID string            `name:"connection" placeholder:"ID" help:"Reconnect this connection in place."`
	Scope        []string          `help:"Scopes to ask for; else those of the integration."`
	Tag          map[string]string `help:"Tags, NAME=VALUE."`
	ReturnPort   int               `env:"EVERGRANT_RETURN_PORT" help:"Port of 127.0.0.1 to which the browser comes back. The integration's return_to has to name it; else the code is typed over."`
	Wait         time.Duration     `default:"15m" help:"How long to wait for the consent."`
	NoBrowser    bool              `help:"For a machine without one: print the link and a QR code, and take the code that the last page shows. So it is over SSH too."`
}

// returnPorts are tried where none is told: the first free one that the server
// admits. evergrant dev admits them all.
func returnPorts() []int { return []int{8765, 8766, 8767, 8768, 8769} }

// returnPath is where the browser comes back to.
const returnPath = "/connected"

// Run connects and shows the connection.
func (c *connectCommand) Run(p *process) error {
	a, err := c.connect(p)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(p.ctx, c.Wait)
	defer cancel()
	back, session, err := c.begin(ctx, p, a)
	if err != nil {
		return a.namingIntegrations(p, c.orImport(p, a, err))
	}
	if back != nil {
		defer func() { _ = back.Close() }() // the process ends
	}
	p.sayf("Open this link to connect %s:\n\n  %s\n", clean(c.Integration), clean(session.AuthorizeURL))
	if c.elsewhere(p) {
		p.sayQR(session.AuthorizeURL)
	} else if !openBrowser(p, session.AuthorizeURL) {
		p.sayf("(No browser could be opened here.)")
	}
	confirmed := c.confirmTyped
	if back != nil {
		confirmed = func(ctx context.Context, p *process, a *api, session string) (wire.Connection, error) {
			return c.confirmReturned(ctx, p, a, session, back)
		}
	}
	x, err := confirmed(ctx, p, a, session.ID)
	if err != nil {
		return err
	}
	return c.print(p, x)
}

// orImport says by which command an integration is connected that has no consent.
func (c *connectCommand) orImport(p *process, a *api, err error) error {
	var list wire.List[wire.Integration]
	if refused := new(apiError); !errors.As(err, refused) || refused.Code != "invalid_request" || a.call(p.ctx, http.MethodGet, "/v1/integrations", nil, &list) != nil {
		return err
	}
	for _, i := range list.Items {
		if i.Name != c.Integration || i.RedirectURI != "" {
			continue
		}
		command := "evergrant import " + i.Name + " --owner " + c.Owner
		if !slices.Contains(i.Grants, "refresh_token") && slices.Contains(i.Grants, wire.ClientCredentials) {
			return fmt.Errorf("%w\nIt connects by the client's own credentials: %s --client-credentials", err, command)
		}
		return fmt.Errorf("%w\nHere that is: %s --token-file FILE", err, command)
	}
	return err
}

// elsewhere reports whether the browser is on another machine, from which it could not
// come back to an address of this one. Who names the port has seen to that.
func (c *connectCommand) elsewhere(p *process) bool {
	return c.NoBrowser || c.ReturnPort == 0 && p.getenv("SSH_CONNECTION") != ""
}

func (c *connectCommand) confirm(ctx context.Context, a *api, session string, confirm secret.Text) (wire.Connection, error) {
	var x wire.Connection
	request := wire.ConfirmRequest{Confirm: confirm.Reveal(), Owner: c.Owner}
	err := a.call(ctx, http.MethodPost, "/v1/connect-sessions/"+session+"/confirm", request, &x)
	return x, err
}

// confirmTyped takes the code that the last page shows, as often as the server lets it
// be tried.
func (c *connectCommand) confirmTyped(ctx context.Context, p *process, a *api, session string) (wire.Connection, error) {
	p.sayf("The last page shows a code. Type it here:")
	lines := linesOf(p.stdin)
	for {
		code, err := nextLine(ctx, lines)
		if err != nil {
			return wire.Connection{}, err
		}
		x, err := c.confirm(ctx, a, session, code)
		refused := new(apiError)
		if !errors.As(err, refused) || refused.Code != "invalid_request" {
			return x, err
		}
		p.sayf("%s. Type it here:", clean(refused.Detail))
	}
}

func (c *connectCommand) confirmReturned(ctx context.Context, p *process, a *api, session string, back net.Listener) (wire.Connection, error) {
	confirm, err := c.awaitReturn(ctx, p, back, session)
	if err != nil {
		return wire.Connection{}, err
	}
	return c.confirm(ctx, a, session, confirm)
}

// begin makes the session with a return address of ours, and without one where the
// integration admits none or the browser is elsewhere.
func (c *connectCommand) begin(ctx context.Context, p *process, a *api) (net.Listener, wire.NewSession, error) {
	ports := returnPorts()
	switch {
	case c.elsewhere(p):
		ports = nil
	case c.ReturnPort != 0:
		ports = []int{c.ReturnPort}
	}
	request := wire.SessionRequest{
		Integration: c.Integration, Owner: c.Owner, Scopes: c.Scope, ConnectionID: c.ConnectionID, Tags: c.Tag,
	}
	var session wire.NewSession
	var refused apiError
	for _, port := range ports {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		request.ReturnTo = "http://" + l.Addr().String() + returnPath
		err = a.call(ctx, http.MethodPost, "/v1/connect-sessions", request, &session)
		if err == nil {
			return l, session, nil
		}
		_ = l.Close() // nobody has come yet
		if !errors.As(err, &refused) || refused.Code != "invalid_request" {
			return nil, session, err
		}
		break // it is not the address that is in use, so another port is refused too
	}
	request.ReturnTo = ""
	err := a.call(ctx, http.MethodPost, "/v1/connect-sessions", request, &session)
	if err == nil && refused.Code != "" {
		p.sayf("The browser cannot come back here by itself: the integration's return_to does not name http://127.0.0.1:%d%s.", ports[0], returnPath)
	}
	return nil, session, err
}

// awaitReturn waits for the browser.
func (c *connectCommand) awaitReturn(ctx context.Context, p *process, back net.Listener, session string) (secret.Text, error) {
	p.sayf("Waiting for the consent …")
	came := make(chan url.Values, 1)
	srv := &http.Server{ReadHeaderTimeout: readHeaderTimeout, Handler: returnHandler(session, came)}
	go func() { _ = srv.Serve(back) }() // ends with the listener
	defer func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = srv.Shutdown(stop) // the page is sent by now
	}()
	select {
	case q := <-came:
		if code := q.Get("evergrant_error"); code != "" {
			return secret.Text{}, fmt.Errorf("not connected: %s", code)
		}
		return secret.New(q.Get("evergrant_confirm")), nil
	case <-ctx.Done():
		return secret.Text{}, fmt.Errorf("nobody came back from the provider in %s (--wait). Run it again, with --no-browser where the browser is on another machine", span(c.Wait))
	}
}

// returnHandler takes the one return of this session and leaves all else alone: the
// port is open to every page in the browser.
func returnHandler(session string, came chan<- url.Values) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+returnPath, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Header().Set("Content-Security-Policy", "default-src 'none'")
		q := r.URL.Query()
		if !secret.New(q.Get("evergrant_session")).Equal(secret.New(session)) {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = io.WriteString(w, "<!doctype html><html lang=en><meta name=viewport content='width=device-width'><title>Evergrant</title><h1>Back to the terminal</h1><p>You can close this window.")
		select {
		case came <- q:
		default: // a reload
		}
	})
	return mux
}

// linesOf are the lines of r, as they are typed. It reads no further than its reader
// takes them.
func linesOf(r io.Reader) <-chan string {
	lines := make(chan string)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(r); scanner.Scan(); {
			lines <- scanner.Text() // the process may end before anybody takes it
		}
	}()
	return lines
}

// nextLine waits for a line that is not blank.
func nextLine(ctx context.Context, lines <-chan string) (secret.Text, error) {
	for {
		select {
		case line, more := <-lines:
			if !more {
				return secret.Text{}, errors.New("no code was typed")
			}
			if line = strings.TrimSpace(line); line != "" {
				return secret.New(line), nil
			}
		case <-ctx.Done():
			return secret.Text{}, errors.New("no code was typed in time")
		}
	}
}

// openBrowser opens the link as far as it can: with $BROWSER, else with what the
// system has. It does not wait.
func openBrowser(p *process, link string) bool {
	name, args := p.getenv("BROWSER"), []string{link}
	if name == "" {
		switch runtime.GOOS {
		case "darwin":
			name = "open"
		case "windows":
			name, args = "rundll32", []string{"url.dll,FileProtocolHandler", link}
		default:
			name = "xdg-open"
		}
	}
	cmd := exec.CommandContext(p.ctx, name, args...) // #nosec G204 -- the user's own $BROWSER, and the link as one argument
	if err := cmd.Start(); err != nil {
		return false
	}
	go func() { _ = cmd.Wait() }() // whatever it comes to, the link stands on the terminal
	return true
}
