package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
	"github.com/evergrant/evergrant/internal/console"
	"github.com/evergrant/evergrant/internal/secret"
)

// serveCommand runs the broker in one process.
type serveCommand struct {
	Config  string `short:"c" default:"evergrant.yaml" env:"EVERGRANT_CONFIG" help:"The configuration; see evergrant config check."`
	Data    string `short:"d" required:"" env:"EVERGRANT_DATA" help:"Folder of the store, the wrapping key and the rescue log. Back up the key apart from the rest."`
	Listen  string `short:"l" default:"127.0.0.1:8080" env:"EVERGRANT_LISTEN" help:"Address to listen on. TLS is for a proxy before it."`
	Console bool   `default:"true" negatable:"" env:"EVERGRANT_CONSOLE" help:"Serve the operator's console at /console. It asks for an API key."`
	LogLevel
}

// LogLevel is the flag of the commands that log.
type LogLevel struct {
	LogLevel slog.Level `default:"info" env:"EVERGRANT_LOG_LEVEL" help:"Least level of the log on stderr: debug, info, warn, error."`
}

func (l LogLevel) logger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l.LogLevel}))
}

// Run serves until the process is told to end.
func (c *serveCommand) Run(p *process) error {
	noCoreDump()
	settings, err := yamlfile.Load(c.Config)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return listenError(err)
	}
	defer func() { _ = listener.Close() }() // closed by the server already, but for a failed start
	if settings, err = withOrigin(settings, listener.Addr()); err != nil {
		return err
	}
	log := c.logger(p.stderr)
	n, err := openNode(nodeConfig{
		Settings: settings, Data: c.Data, WrappingKey: secret.New(p.getenv("EVERGRANT_KEY")),
		Secrets: config.FileResolver(p.getenv, os.ReadFile), Now: time.Now, Log: log,
	})
	if err != nil {
		return err
	}
	for _, text := range append(settings.Warnings(), n.unready(p.ctx)...) {
		log.Warn(text)
	}
	s := servers{ctx: p.ctx}
	handler := n.handler
	if c.Console {
		handler = console.Before(handler)
	}
	s.add(listener, handler)
	p.printf("ready: http://%s\n", listener.Addr())
	return errors.Join(s.wait(n), n.close())
}

// withOrigin gives the configuration an origin where it names none: on loopback the
// listening address is what browsers use.
func withOrigin(c *config.Config, addr net.Addr) (*config.Config, error) {
	if c.PublicURL != "" {
		return c, nil
	}
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || !tcp.IP.IsLoopback() {
		return nil, errors.New("public_url is missing in the configuration: name the https origin under which browsers reach this server, such as https://auth.example.com")
	}
	own := *c
	own.PublicURL = "http://" + addr.String()
	return &own, nil
}

// noAPIKeys warns of a configuration in which no caller stands.
const noAPIKeys = "no api_keys in the configuration: nobody can call the API. evergrant keys new makes one." // #nosec G101 -- words, not a key

// unready is what keeps a configuration from working, though the server can start:
// one integration's missing secret is no reason to let the others' tokens expire.
func (n *node) unready(ctx context.Context) []string {
	var list []string
	if len(n.Settings.APIKeys) == 0 {
		list = append(list, noAPIKeys)
	}
	for _, i := range n.Settings.Integrations {
		for k := range i.Clients {
			if _, err := n.secrets.Get(ctx, &i.Clients[k]); err != nil {
				list = append(list, fmt.Sprintf("integration %s is suspended: %v", i.Name, err))
			}
		}
	}
	for _, w := range n.Settings.Webhooks {
		if _, err := n.signedWith(ctx, w); err != nil {
			list = append(list, fmt.Sprintf("a webhook cannot be signed, and what it is to be told waits: %v", err))
		}
	}
	return list
}

// The limits of a server. An answer may have to wait for a token request with its
// save (protocol times: 15 s + 8 s + 4 s) or for a disconnect's provider calls (20 s).
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second
	writeTimeout      = 90 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 64 << 10
	shutdownTimeout   = time.Minute
)

// servers are the listeners of one process. They all end with ctx, or with the first
// that fails.
type servers struct {
	ctx    context.Context
	all    []*http.Server
	failed chan error
}

func (s *servers) add(l net.Listener, h http.Handler) {
	if s.failed == nil {
		s.failed = make(chan error, 4) // one for each listener that a command may have
	}
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // its lines hold text of clients
	}
	s.all = append(s.all, srv)
	go func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- err
		}
	}()
}

// wait runs the node beside the servers until the end, and then lets requests and
// refreshes under way finish: what a provider has answered is to be saved.
func (s *servers) wait(n *node) error {
	ctx, cancel := context.WithCancel(s.ctx)
	ran := make(chan struct{})
	go func() {
		defer close(ran)
		n.run(ctx)
	}()
	var err error
	select {
	case <-s.ctx.Done():
	case err = <-s.failed:
	}
	cancel()
	s.stop()
	<-ran
	return err
}

// stop takes no new requests and lets those under way end.
func (s *servers) stop() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), shutdownTimeout)
	defer cancel()
	for _, srv := range s.all {
		if err := srv.Shutdown(ctx); err != nil {
			_ = srv.Close() // a client that will not let go
		}
	}
}

// listenError says what to do about an address that cannot be had.
func listenError(err error) error {
	return fmt.Errorf("%w: choose another address with --listen, or end what is using this one", err)
}
