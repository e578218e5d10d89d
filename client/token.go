package client

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/evergrant/evergrant/internal/wire"
)

// Token is an access token.
type Token struct {
	AccessToken Secret
	TokenType   string // Bearer, as a rule
	// ID changes when the access token does and never else. It says nothing about the token.
	ID         string
	Generation int64
	// ExpiresAt is zero where the provider does not tell.
	ExpiresAt time.Time
	// UseUntil is when to ask Evergrant again. It is before ExpiresAt where a refresh ends the
	// token, and zero where ExpiresAt is: the provider's 401 is the signal then.
	UseUntil time.Time
	Scope    []string
	// Fields are what the provider told besides, such as a realm or the address of an
	// instance, the secret ones too.
	Fields map[string]Secret
	// BaseURLs are where the provider's API is, for this connection; empty: not known. A {name}
	// that is left is for the caller to fill in.
	BaseURLs []string

	api *wire.TokenAPI
}

// TokenOptions say what a token has to be good for. The zero TokenOptions ask for nothing.
type TokenOptions struct {
	// Need are scopes without which the token is of no use: a MissingScopeError says that the
	// user did not grant them.
	Need []string
	// MinTTL is how long the token has to last at least, in whole seconds up to a day; never
	// more than half of its life is demanded. Zero: a minute.
	MinTTL time.Duration
}

// Token returns the access token of a connection: from the cache until its use_until, else from
// Evergrant. However many goroutines ask at once, one request is made.
func (c *Client) Token(ctx context.Context, connectionID string, options TokenOptions) (Token, error) {
	return c.token(ctx, keyOf(connectionID, options))
}

// TokenSource is Token in the form of golang.org/x/oauth2. A token's Expiry is its UseUntil.
// Its requests are made under ctx. There is no need for oauth2.ReuseTokenSource around it.
func (c *Client) TokenSource(ctx context.Context, connectionID string) oauth2.TokenSource {
	return tokenSource{ctx, c, connectionID}
}

// tokenSource keeps the context of its maker, since Token of the interface takes none.
type tokenSource struct {
	ctx context.Context
	c   *Client
	id  string
}

func (s tokenSource) Token() (*oauth2.Token, error) {
	t, err := s.c.Token(s.ctx, s.id, TokenOptions{})
	if err != nil {
		return nil, err
	}
	return &oauth2.Token{AccessToken: t.AccessToken.Reveal(), TokenType: t.TokenType, Expiry: t.UseUntil}, nil
}

// cellKey is what a cached token is kept by.
type cellKey struct {
	connection string
	need       string // blanks between the scopes, sorted
	minTTL     time.Duration
}

func keyOf(connectionID string, o TokenOptions) cellKey {
	return cellKey{connectionID, strings.Join(slices.Compact(slices.Sorted(slices.Values(o.Need))), " "), o.MinTTL.Truncate(time.Second)}
}

// cell is one cached token.
type cell struct {
	token Token
	held  bool // token is one
	// refused: the provider refused token, so that it is to be reported and not handed out.
	refused bool
	// quietUntil: a token that had just been refreshed was refused as well, so that the
	// provider's API has another reason. Until then a refusal is not reported again: each
	// report would be a refresh in vain.
	quietUntil time.Time
	flight     *flight
}

// flight is one request for a token that any number of callers wait for. All but done is guarded
// by the client's mutex until done is closed.
type flight struct {
	done    chan struct{}
	cancel  context.CancelFunc
	waiting int
	token   Token
	err     error
}

// maxCells bounds the cache: at a kilobyte or two each, some tens of megabytes.
const maxCells = 10_000

// quiet is how long a refusal that a refresh did not heal is not reported again.
const quiet = time.Minute

func (c *Client) token(ctx context.Context, key cellKey) (Token, error) {
	var t Token
	err := c.repeated(ctx, func() (err error) {
		t, err = c.join(ctx, key)
		return err
	})
	return t, err
}

// join returns the cached token, or waits for the one request for it.
func (c *Client) join(ctx context.Context, key cellKey) (Token, error) {
	c.mu.Lock()
	l := c.cellOf(key)
	if l.fresh(c.options.now(), key.minTTL) {
		defer c.mu.Unlock()
		return l.token, nil
	}
	f := l.flight
	if f == nil {
		f = c.launch(ctx, key, l)
	}
	f.waiting++
	c.mu.Unlock()

	select {
	case <-f.done:
		return f.token, f.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.waiting--; f.waiting == 0 {
		f.cancel() // nobody waits any more
		if l.flight == f {
			l.flight = nil
		}
	}
	return Token{}, &UnreachableError{Err: context.Cause(ctx), final: true}
}

// fresh reports whether the cached token may be handed out.
func (l *cell) fresh(now time.Time, minTTL time.Duration) bool {
	if !l.held || l.refused {
		return false
	}
	lasts := l.token.ExpiresAt.IsZero() || minTTL == 0 || !now.Add(minTTL).After(l.token.ExpiresAt)
	return lasts && (l.token.UseUntil.IsZero() || now.Before(l.token.UseUntil))
}

// launch begins the request for a token. It belongs to all who wait for it, so it does not end
// with the context of the first.
func (c *Client) launch(ctx context.Context, key cellKey, l *cell) *flight {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight{done: make(chan struct{}), cancel: cancel}
	l.flight = f
	refused, old := l.refused, l.token
	go func() {
		defer cancel()
		var t Token
		var err error
		if refused {
			t, err = c.refresh(ctx, key.connection, old)
		} else {
			t, err = c.get(ctx, key)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		f.token, f.err = t, err
		if l.flight == f {
			l.flight = nil
		}
		if err == nil {
			// What was refused while a read was under way stays refused, if it is what came.
			l.refused = !refused && l.refused && l.token.ID == t.ID
			l.token, l.held = t, true
		}
		close(f.done)
	}()
	return f
}

// get asks for the token.
func (c *Client) get(ctx context.Context, key cellKey) (Token, error) {
	query := url.Values{}
	if key.minTTL > 0 {
		query.Set("min_ttl_s", strconv.FormatInt(int64(key.minTTL/time.Second), 10))
	}
	if key.need != "" {
		query.Set("need", key.need)
	}
	var w wire.Token
	err := c.call(ctx, http.MethodGet, connectionPath(key.connection)+"/token", query, nil, &w)
	return tokenOf(w), err
}

// refresh reports a token that the provider refused, and returns what is stored then.
func (c *Client) refresh(ctx context.Context, connectionID string, refused Token) (Token, error) {
	var w wire.Token
	in := wire.RefreshRequest{IfGeneration: refused.Generation, IfTokenID: refused.ID}
	err := c.call(ctx, http.MethodPost, connectionPath(connectionID)+"/refresh", nil, in, &w)
	return tokenOf(w), err
}

func tokenOf(w wire.Token) Token {
	t := Token{
		AccessToken: NewSecret(w.AccessToken), TokenType: w.TokenType, ID: w.TokenID, Generation: w.Generation,
		ExpiresAt: timeOf(w.ExpiresAt), UseUntil: timeOf(w.UseUntil), Scope: strings.Fields(w.Scope), Fields: map[string]Secret{},
		api: w.API,
	}
	for name, value := range w.Fields {
		t.Fields[name] = NewSecret(value)
	}
	if w.API != nil {
		t.BaseURLs = w.API.BaseURLs
	}
	return t
}

func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// refuse marks t as refused by the provider, so that the next to ask has it refreshed. It
// reports whether another token may help: not where the one before was refused likewise.
func (c *Client) refuse(key cellKey, t Token) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.cellOf(key)
	if l.held && l.token.ID == t.ID {
		if c.options.now().Before(l.quietUntil) {
			return false
		}
		l.refused = true
	}
	return true
}

// hush notes that a token was refused that had replaced a refused one.
func (c *Client) hush(key cellKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cellOf(key).quietUntil = c.options.now().Add(quiet)
}

// forget drops what is cached of a connection.
func (c *Client) forget(connectionID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.cells, func(k cellKey, _ *cell) bool { return k.connection == connectionID })
}

// cellOf finds or makes the cell of a key. The caller holds mu.
func (c *Client) cellOf(key cellKey) *cell {
	l := c.cells[key]
	if l == nil {
		if len(c.cells) >= maxCells {
			c.evict()
		}
		l = &cell{}
		c.cells[key] = l
	}
	return l
}

// evict drops some idle cell, of those that it meets first one that is not fresh if it can.
func (c *Client) evict() {
	var idle *cellKey
	met := 0
	for k, l := range c.cells { // in no order
		if l.flight != nil {
			continue
		}
		idle = &k
		if met++; met == 10 || !l.fresh(c.options.now(), k.minTTL) {
			break
		}
	}
	if idle != nil {
		delete(c.cells, *idle)
	}
}
