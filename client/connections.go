package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/evergrant/evergrant/internal/wire"
)

// What requests and answers are made of, as docs/http.md tells them.
type (
	// SessionRequest says what a connect session is for. Integration and Owner are required.
	SessionRequest = wire.SessionRequest
	// NewSession is a connect session that was made. Its AuthorizeURL is for the user's browser.
	NewSession = wire.NewSession
	// Session is how far a connect session has come.
	Session = wire.Session
	// Connection is a connection without its tokens.
	Connection = wire.Connection
	// Account is whose account at the provider is connected.
	Account = wire.Account
	// Entry is one outcome in a connection's journal.
	Entry = wire.Entry
	// Receipt says how a connection ended.
	Receipt = wire.Receipt
)

// sessionPath and connectionPath keep an id of a caller's caller from becoming another path.
func sessionPath(id string) string    { return "/v1/connect-sessions/" + url.PathEscape(id) }
func connectionPath(id string) string { return "/v1/connections/" + url.PathEscape(id) }

// CreateSession begins to connect an owner: send the user to the AuthorizeURL of the answer.
func (c *Client) CreateSession(ctx context.Context, in SessionRequest) (NewSession, error) {
	var out NewSession
	err := c.repeated(ctx, func() error {
		return c.call(ctx, http.MethodPost, "/v1/connect-sessions", nil, in, &out)
	})
	return out, err
}

// Reconnect makes a session in which the owner of a connection consents again, after a
// NeedsReauthError or a MissingScopeError. The connection and its id stay. Of in, Integration,
// Owner and ConnectionID are filled in.
func (c *Client) Reconnect(ctx context.Context, connectionID string, in SessionRequest) (NewSession, error) {
	conn, err := c.Connection(ctx, connectionID)
	if err != nil {
		return NewSession{}, err
	}
	in.Integration, in.Owner, in.ConnectionID = conn.Integration, conn.Owner, conn.ID
	return c.CreateSession(ctx, in)
}

// Session says how far a connect session has come.
func (c *Client) Session(ctx context.Context, id string) (Session, error) {
	var out Session
	err := c.repeated(ctx, func() error {
		return c.call(ctx, http.MethodGet, sessionPath(id), nil, nil, &out)
	})
	return out, err
}

// Confirm finishes a connect: id and confirm are evergrant_session and evergrant_confirm of the
// address to which the browser came back, owner is who is logged in to the application in that
// browser, never what its query says.
func (c *Client) Confirm(ctx context.Context, id string, confirm Secret, owner string) (Connection, error) {
	var out Connection
	err := c.repeated(ctx, func() error {
		in := wire.ConfirmRequest{Confirm: confirm.Reveal(), Owner: owner}
		return c.call(ctx, http.MethodPost, sessionPath(id)+"/confirm", nil, in, &out)
	})
	if err == nil {
		c.forget(out.ID) // a reconnect has brought other tokens
	}
	return out, err
}

// Import brings in tokens that were got elsewhere, or a connection without a user.
type Import struct {
	Integration, Owner string // required
	// RefreshToken is required unless ClientCredentials is set.
	RefreshToken      Secret
	ClientCredentials bool
	AccessToken       Secret
	ExpiresAt         time.Time // of AccessToken; zero: unknown
	Client            string    // name of the client that got the tokens; "": the current one
	Scope             string    // blanks between the scopes
	// ExternalID is unique in its integration: the same one again returns the connection that
	// it made. Without one an import is sent once and never repeated.
	ExternalID string
	// Hold stores the tokens and refreshes nothing until Activate.
	Hold bool
	Tags map[string]string
}

// Import stores the tokens and refreshes them once, which proves them. A connection whose
// Status is connecting is stored while the provider is away; it is refreshed later.
func (c *Client) Import(ctx context.Context, in Import) (Connection, error) {
	body := wire.ImportRequest{
		Integration: in.Integration, Owner: in.Owner, RefreshToken: in.RefreshToken.Reveal(), AccessToken: in.AccessToken.Reveal(),
		Client: in.Client, Scope: in.Scope, ExternalID: in.ExternalID, Hold: in.Hold, Tags: in.Tags,
	}
	if in.ClientCredentials {
		body.GrantType = wire.ClientCredentials
	}
	if !in.ExpiresAt.IsZero() {
		body.ExpiresAt = &in.ExpiresAt
	}
	var out Connection
	once := func() error { return c.call(ctx, http.MethodPost, "/v1/connections", nil, body, &out) }
	if in.ExternalID == "" {
		return out, once()
	}
	err := c.repeated(ctx, once)
	return out, err
}

// Connection shows a connection.
func (c *Client) Connection(ctx context.Context, id string) (Connection, error) {
	return c.onConnection(ctx, http.MethodGet, connectionPath(id), nil)
}

// SetTags replaces the tags of a connection.
func (c *Client) SetTags(ctx context.Context, id string, tags map[string]string) (Connection, error) {
	if tags == nil {
		tags = map[string]string{}
	}
	return c.onConnection(ctx, http.MethodPatch, connectionPath(id), wire.TagsRequest{Tags: tags})
}

// Activate makes a held connection Evergrant's to refresh.
func (c *Client) Activate(ctx context.Context, id string) (Connection, error) {
	return c.onConnection(ctx, http.MethodPost, connectionPath(id)+"/activate", nil)
}

func (c *Client) onConnection(ctx context.Context, method, path string, in any) (Connection, error) {
	var out Connection
	err := c.repeated(ctx, func() error { return c.call(ctx, method, path, nil, in, &out) })
	return out, err
}

// Disconnect revokes the tokens of a connection at the provider and erases them. Where Revoked
// of the receipt is pending, the provider did not answer yet and is asked again.
func (c *Client) Disconnect(ctx context.Context, id string) (Receipt, error) {
	c.forget(id)
	var out Receipt
	err := c.repeated(ctx, func() error {
		return c.call(ctx, http.MethodDelete, connectionPath(id), nil, nil, &out)
	})
	c.forget(id) // whoever asked meanwhile
	return out, err
}

// Filter says which connections to list. Owner or Integration is required.
type Filter struct {
	Owner, Integration string
	Status             string            // "": any
	Tags               map[string]string // all must match
	PageSize           int               // connections a request, 1 to 100; 0: 20
}

// Connections lists connections, page by page as they are ranged over. After an error it ends.
func (c *Client) Connections(ctx context.Context, f Filter) iter.Seq2[Connection, error] {
	return func(yield func(Connection, error) bool) {
		query := f.query()
		for {
			var page wire.List[Connection]
			err := c.repeated(ctx, func() error {
				return c.call(ctx, http.MethodGet, "/v1/connections", query, nil, &page)
			})
			if err != nil {
				yield(Connection{}, err)
				return
			}
			for _, conn := range page.Items {
				if !yield(conn, nil) {
					return
				}
			}
			if page.Next == nil {
				return
			}
			query.Set("cursor", *page.Next)
		}
	}
}

func (f Filter) query() url.Values {
	query := url.Values{}
	for name, value := range map[string]string{"owner": f.Owner, "integration": f.Integration, "status": f.Status} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for name, value := range f.Tags {
		query.Set("tag."+name, value)
	}
	if f.PageSize > 0 {
		query.Set("limit", strconv.Itoa(f.PageSize))
	}
	return query
}
