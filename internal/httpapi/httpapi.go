package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/config"
)

// Config is what the handlers need.
type Config struct {
	// Broker does what is asked. Required.
	Broker *broker.Broker
	// Keys is the configuration: API keys, IAM callers and the public URL. Required.
	Keys *config.Config
	// Log gets one line a request. Required.
	Log *slog.Logger
	// Now is the clock. Required.
	Now func() time.Time
	// Version is what /healthz shows.
	Version string

	// Origin is the origin that the entrance knows, without a trailing slash. It is
	// asked where Keys.PublicURL is empty; one of the two is needed.
	Origin func(*http.Request) string
	// RequestID is the entrance's id of a request. Nil, or an empty answer: a random
	// one.
	RequestID func(*http.Request) string
	// IAMCaller is the ARN of the caller that the gateway has authenticated. Nil:
	// there is no such gateway, and /iam/v1 answers 404.
	IAMCaller func(*http.Request) (arn string, ok bool)

	// Catalog is what /v1/providers shows. The zero Catalog: the entries of the
	// configured integrations, since a function on AWS does not carry the catalogue.
	Catalog config.Catalog
	// Metrics is what /metrics shows, with its media type, in a text format that
	// Prometheus reads. Nil: the route answers 404.
	Metrics func() (kind string, text []byte, err error)
	// Admin holds what the operator's routes do, by the last part of their path:
	// rotate-key, rescue-replay, chunk-replay, webhook-replay, webhook-dead-letters,
	// restore, export. What a function returns becomes the JSON of the answer. The route of an absent one answers 404.
	Admin map[string]func(context.Context) (any, error)
}

// Commands are the operator's commands that every deployment has.
func Commands(b *broker.Broker) map[string]func(context.Context) (any, error) {
	return map[string]func(context.Context) (any, error){
		"rotate-key": func(ctx context.Context) (any, error) { return b.RotateKeys(ctx) },
		"export":     func(ctx context.Context) (any, error) { return b.Export(ctx) },
	}
}

// New returns the handler of every route.
func New(cfg Config) http.Handler {
	f := newFace(cfg)
	f.addAuthorize()
	f.addCallback()
	f.addAPI()
	return f
}

// NewAuthorize returns the handler of /authorize/{integration}.
func NewAuthorize(cfg Config) http.Handler {
	f := newFace(cfg)
	f.addAuthorize()
	return f
}

// NewCallback returns the handler of /callback/{integration}.
func NewCallback(cfg Config) http.Handler {
	f := newFace(cfg)
	f.addCallback()
	return f
}

// NewAPI returns the handler of /v1, /iam/v1, /oauth/token and /healthz.
func NewAPI(cfg Config) http.Handler {
	f := newFace(cfg)
	f.addAPI()
	return f
}
