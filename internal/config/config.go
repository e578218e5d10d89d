package config

import (
	"slices"
	"strings"

	"github.com/evergrant/evergrant/internal/provider"
)

// Config is a checked configuration. It is read-only once made and may be used
// concurrently.
type Config struct {
	// PublicURL is the origin under which browsers reach Evergrant, without a
	// trailing slash: https, or http on loopback. Empty: the entrance knows its own
	// (the gateway's domain name on AWS).
	PublicURL string
	// Deployment is bound into every sealed value, so that records copied into
	// another deployment do not open there. "evergrant" where the file names none;
	// never change it once connections are stored.
	Deployment   string
	Integrations []Integration // sorted by name; at least one
	APIKeys      []APIKey      // in the order of the file
	IAMCallers   []IAMCaller   // in the order of the file
	// Webhooks are told of events by serve; functions on AWS put them onto the bus.
	Webhooks []Webhook // in the order of the file
	// Pages is how the pages look that people see on their way through a connect.
	Pages Pages
}

// Pages is how our own pages look and read. The zero Pages name no application.
type Pages struct {
	Name  string // of the application, for people
	Logo  string // a data: URI of an image, so that no page loads anything; "" for none
	Color string // #rrggbb; "" for ours
	Home  string // where the pages' button leads, https or loopback; "" for no button
	// Messages are the texts that replace those of package wording, by key.
	Messages map[string]string
}

// Webhook is an endpoint that is told of events.
type Webhook struct {
	URL string // https, or http on loopback
	// Secret signs each message. During a change of it PreviousSecret, else the zero
	// SecretRef, signs too, so that receivers may know either.
	Secret, PreviousSecret SecretRef
	Events                 []string // types; none: all
	AllowPrivate           bool     // the URL may lead into private networks
}

// RefreshMode says when an integration's connections are refreshed.
type RefreshMode string

// The refresh modes.
const (
	RefreshAhead     RefreshMode = "ahead"     // before they expire; the default
	RefreshOnDemand  RefreshMode = "on_demand" // when a token is asked for
	RefreshKeepalive RefreshMode = "keepalive" // only so often that the refresh token does not idle out
)

// Binding says what ties a consent to the person in front of the browser.
type Binding string

// The bindings.
const (
	BindingConfirm Binding = "confirm" // the application's backend confirms who came back; the default
	BindingCookie  Binding = "cookie"  // a cookie alone; weaker, see Config.Warnings
)

// Connect says who may open the authorize route.
type Connect string

// The ways to connect.
const (
	ConnectSession Connect = "session" // with a session that the backend made; the default
	ConnectPublic  Connect = "public"  // anybody, with binding confirm
)

// ClientState says whether a client still makes new connections.
type ClientState string

// The client states.
const (
	ClientCurrent  ClientState = "current"  // exactly one in each integration
	ClientDraining ClientState = "draining" // serves the connections that it made, makes none
)

// Integration is the application's registration at one provider.
type Integration struct {
	Name string // ^[a-z0-9][a-z0-9-]{0,62}$; stands in URLs and keys
	// Provider is the catalogue's id; for an inline provider the id it gives, or
	// else the integration's name.
	Provider string
	Entry    provider.Entry
	Clients  []Client // in the order of the file; exactly one is current
	Scopes   []string // asked for by default
	// ReturnTo are the patterns that AllowsReturnTo matches.
	ReturnTo []string
	Refresh  RefreshMode
	Binding  Binding
	Connect  Connect
	// MaxConcurrent is how many refreshes of this integration one process has under
	// way at once; 0: as many as what is due needs, up to 256.
	MaxConcurrent int
	// MaxPerMinute is how many refreshes the schedule sends in a minute, all processes
	// together; 0: no limit.
	MaxPerMinute int
	// MinInterval is how many seconds lie at least between two refreshes of one
	// connection that callers force; 0: none. DefaultMinInterval where the file says
	// nothing.
	MinInterval int
	// Variables are the values of {variable} in the provider's URLs. One that is
	// absent comes from the entry's defaults or from the connection.
	Variables map[string]string
	// AllowPrivate admits provider endpoints on private networks, which the dialer
	// otherwise refuses. Dangerous where anybody else may choose a host.
	AllowPrivate bool
}

// DefaultMinInterval is Integration.MinInterval where the file says nothing, s. A token
// that is refused ten seconds after it was fetched is not refused for its age.
const DefaultMinInterval = 10

// Client is one registration of an integration. A token belongs to the client that
// got it, and to no other.
type Client struct {
	Name     string // pattern as for integrations; "default" in the plain form
	ClientID string
	Secret   SecretRef // the zero SecretRef: a public client
	// KeyID names the client's key to a provider that takes private_key_jwt; "" for none.
	KeyID string
	State ClientState
}

// Integration returns the one of that name. The comparison is exact, so a name from
// a URL needs no other check.
func (c *Config) Integration(name string) (*Integration, bool) {
	n, ok := slices.BinarySearchFunc(c.Integrations, name, func(i Integration, name string) int {
		return strings.Compare(i.Name, name)
	})
	if !ok {
		return nil, false
	}
	return &c.Integrations[n], true
}

// Current returns the client that makes new connections. There always is one in an
// integration that Read returned; in another one it may be nil.
func (i *Integration) Current() *Client {
	n := slices.IndexFunc(i.Clients, func(c Client) bool { return c.State == ClientCurrent })
	if n < 0 {
		return nil
	}
	return &i.Clients[n]
}

// ClientByID returns the client with that client id. A connection is bound to its
// client by id: names may be given anew, and a connection whose id is gone from the
// configuration sends nothing.
func (i *Integration) ClientByID(clientID string) (*Client, bool) {
	n := slices.IndexFunc(i.Clients, func(c Client) bool { return c.ClientID == clientID })
	if n < 0 {
		return nil, false
	}
	return &i.Clients[n], true
}

// Public reports whether the client has no secret (RFC 6749 section 2.1).
func (c *Client) Public() bool { return c.Secret.IsZero() }

// RedirectURI is the redirect URI to register at the provider. publicURL is
// Config.PublicURL, or the origin that the entrance knows.
func (i *Integration) RedirectURI(publicURL string) string {
	return strings.TrimSuffix(publicURL, "/") + "/callback/" + i.Name
}

// RegisteredURI is RedirectURI for people who register it, "" where no browser comes back
// since the provider has no consent.
func (i *Integration) RegisteredURI(publicURL string) string {
	if !i.Entry.Offers(provider.GrantAuthorizationCode) {
		return ""
	}
	return i.RedirectURI(publicURL)
}
