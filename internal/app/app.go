// Package app provides what the functions on AWS have in common: their settings, read
// from the environment here and nowhere else, the packaged configuration, and the
// parts that every one of them needs.
//
// Each function has a room of its own below this one, which puts its broker together.
// The adapters that only some functions need are built there, so that no function
// carries a client of a service that it does not call.
//
// Nothing is fetched before the first request asks for it: neither data keys nor
// client secrets. A missing parameter then fails the requests that need it, with its
// name in the log, and no others.
package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/evergrant/evergrant/internal/awsjson"
	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/dynamostore"
	"github.com/evergrant/evergrant/internal/egress"
	"github.com/evergrant/evergrant/internal/events"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/kmskey"
	"github.com/evergrant/evergrant/internal/metric/emf"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/secret"
)

// Parts are what a function is made of. Whoever tests one may replace parts before
// it hands them to a room.
type Parts struct {
	Env      Env
	Settings *config.Config
	Store    connection.Store // on DynamoDB
	Wrapper  secret.KeyWrapper
	Log      *slog.Logger
	Now      func() time.Time
	// IDTokens makes the verifier of ID tokens; set by the rooms that exchange codes.
	IDTokens func(*provider.Client) provider.VerifyIDToken
	// Events is told what becomes of connections; set by the rooms that write them.
	Events events.Sink
	// Metrics goes into the function's log. Call FlushMetrics at the end of each invocation.
	Metrics *emf.Writer

	http *http.Client
}

// FromEnvironment makes the parts of what this process finds around it. It asks
// nothing over the network. The error tells everything that is missing or wrong at
// once, for the operator to mend, and holds no secret.
func FromEnvironment(log *slog.Logger) (Parts, error) {
	executable, err := os.Executable()
	if err != nil {
		return Parts{}, fmt.Errorf("find the folder of the binary: %w", err)
	}
	e, err := ReadEnv(os.Getenv, executable)
	settings, mistakes := ReadSettings(e)
	if err := errors.Join(err, mistakes); err != nil {
		return Parts{}, err
	}
	return Assemble(e, settings, log), nil
}

// NewLog is the log of a function: JSON, one line an event, on standard output, which
// Lambda takes to CloudWatch.
func NewLog() *slog.Logger { return slog.New(slog.NewJSONHandler(os.Stdout, nil)) }

// ReadSettings reads the packaged configuration, with the public URL of e over its own.
func ReadSettings(e Env) (*config.Config, error) {
	data, err := os.ReadFile(e.ConfigFile)
	if err != nil {
		return nil, fmt.Errorf("no configuration is packaged (%w): make it by \"evergrant config build\", or name it by EVERGRANT_CONFIG", err)
	}
	settings, err := config.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.ConfigFile, err)
	}
	if e.PublicURL == "" && strings.HasPrefix(settings.PublicURL, "http://") {
		return nil, fmt.Errorf("%s: public_url is on loopback, where no user reaches a function: leave it out, or set EVERGRANT_PUBLIC_URL", e.ConfigFile)
	}
	settings.PublicURL = cmp.Or(e.PublicURL, settings.PublicURL)
	return settings, unreadableSecrets(settings)
}

// unreadableSecrets names the references that a function cannot follow. They would
// show at the first refresh otherwise, hours later.
func unreadableSecrets(settings *config.Config) error {
	var wrong []error
	for _, i := range settings.Integrations {
		for _, c := range i.Clients {
			switch c.Secret.Kind() {
			case config.SecretNone, config.SecretSSM, config.SecretSecretsManager:
			default:
				wrong = append(wrong, fmt.Errorf("integration %s, client %s: the client secret %s cannot be read by a function: use ${ssm:…} or ${secretsmanager:…}", i.Name, c.Name, c.Secret))
			}
		}
	}
	return errors.Join(wrong...)
}

// callTimeout bounds one attempt at AWS, over connecting, TLS, headers and body. The
// SDK has no bound of its own; what a whole call may take is the caller's to say.
const callTimeout = 5 * time.Second

// Assemble makes the parts that need nothing but settings.
func Assemble(e Env, settings *config.Config, log *slog.Logger) Parts {
	p := Parts{Env: e, Settings: settings, Log: log, Now: time.Now, http: &http.Client{
		Timeout:       callTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			// As many as refreshes run at once: each of them talks to one table.
			MaxIdleConnsPerHost: 64, IdleConnTimeout: 50 * time.Second, TLSHandshakeTimeout: callTimeout,
		},
	}}
	tables := dynamodb.NewFromConfig(p.AWS(DynamoDB))
	p.Store = connection.Store{
		Connections:    dynamostore.New(tables, e.ConnectionsTable, item.ConnectionIndexes()),
		Authorizations: dynamostore.New(tables, e.AuthorizationsTable, item.AuthorizationIndexes()),
	}
	p.Metrics = emf.New(os.Stdout, e.Deployment, time.Now)
	p.Wrapper = kmskey.New(awsjson.New(p.AWS(KMS), awsjson.KMS()), e.KMSKey, e.Deployment)
	return p
}

// attempts and backoff: of three tries with at most a second between, all that matter
// fit into the seconds that the protocol gives a write.
const (
	attempts = 3
	backoff  = time.Second
)

// AWS is the configuration of a client of that service. It is written out rather than
// loaded: everything that the SDK's loader would look for is known, and looking costs
// a cold start more than everything else in it.
func (p Parts) AWS(s Service) aws.Config {
	c := aws.Config{
		Region: p.Env.Region, Credentials: p.Env.Credentials, HTTPClient: p.http,
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = attempts, backoff })
		},
	}
	if address := p.Env.Endpoints[s]; address != "" {
		c.BaseEndpoint = &address
	}
	return c
}

// Broker makes the use cases of these parts. gateway says that an answer is waited for
// by an API Gateway, for 30 s. A function that neither exchanges codes nor refreshes
// passes a nil resolver and a nil rescuer.
func (p Parts) Broker(resolve config.Resolver, rescue refresh.Rescuer, gateway bool) *broker.Broker {
	c := p.config(resolve, rescue)
	c.Gateway = gateway
	return broker.New(c)
}

// tickTime is half of the refresh function's minute: what is begun in it can end in the
// other half. tickSpread leaves a little of it over.
const (
	tickTime   = 30 * time.Second
	tickSpread = 25 * time.Second
)

// Scheduler makes the use cases for the function that the schedule wakes. What is too
// much for one invocation goes to chunks; see broker.Config.
func (p Parts) Scheduler(resolve config.Resolver, rescue refresh.Rescuer, chunks func(context.Context, string, int64, []string) error) *broker.Broker {
	c := p.config(resolve, rescue)
	c.Chunks, c.TickTime, c.Spread = chunks, tickTime, tickSpread
	return broker.New(c)
}

func (p Parts) config(resolve config.Resolver, rescue refresh.Rescuer) broker.Config {
	c := broker.Config{
		Settings: p.Settings, Secrets: config.NewSecrets(resolve, p.Now), Store: p.Store,
		Keys:     secret.NewKeyring(p.Env.Deployment, p.Wrapper, p.Store),
		Provider: egress.New(p.Settings, p.Now, "evergrant/"+Version()), Rescue: rescue, Now: p.Now, Log: p.Log, Epoch: p.Env.Epoch, Place: "table " + p.Env.ConnectionsTable, Metrics: p.Metrics,
		Events: p.Events,
	}
	if p.IDTokens != nil {
		c.IDTokens = p.IDTokens(c.Provider)
	}
	return c
}

// FlushMetrics writes what was measured since the last time.
func (p Parts) FlushMetrics() {
	if err := p.Metrics.Flush(); err != nil {
		p.Log.Warn("metrics", "error", err.Error())
	}
}

// Version is that of the module which this binary was built from.
func Version() string {
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" && b.Main.Version != "(devel)" {
		return b.Main.Version
	}
	return "devel"
}
