package broker

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/secret"
)

// StandIn is a stand-in refresh token as its makers see it; its text is told once.
type StandIn struct {
	ID         string
	Name       string
	CreatedBy  string // name of the caller
	CreatedAt  int64  // unix s
	WithClient bool   // its user must show the client secret that was made with it
}

// NewStandIn is one just made.
type NewStandIn struct {
	StandIn
	Token secret.Text // the refresh token to put into other software
	// ClientSecret goes with it where it was asked for; its client id is the stand-in's
	// id. Empty otherwise.
	ClientSecret secret.Text
}

const (
	maxStandIns = 50 // of a connection
	// Two texts that cannot be taken for each other, nor for an API key.
	standInText   = "evgst_"
	clientText    = "evgcs_"
	standInName   = 64 // bytes
	standInMinTTL = 60 // s: as for a token read
)

// CreateStandIn makes a stand-in refresh token for a connection.
func (b *Broker) CreateStandIn(ctx context.Context, c Caller, id, name string, withClient bool) (NewStandIn, error) {
	rec, refused := b.record(ctx, c, id)
	switch {
	case refused != nil:
		return NewStandIn{}, refused
	case rec.Status == connection.Disconnected:
		return NewStandIn{}, b.readable(rec)
	case name == "" || len(name) > standInName || !utf8.ValidString(name) || hasControl(name):
		return NewStandIn{}, fail(InvalidRequest, "name must be 1 to %d bytes of text without control characters: say what will use the stand-in", standInName)
	}
	all, err := b.Store.StandIns(ctx, id, maxStandIns)
	switch {
	case err != nil:
		return NewStandIn{}, internal(err)
	case len(b.current(ctx, all, rec)) >= maxStandIns:
		return NewStandIn{}, fail(InvalidRequest, "a connection has %d stand-ins at most: revoke one that is not used any more", maxStandIns)
	}
	made := NewStandIn{Token: secret.New(standInText + randomText().Reveal())}
	st := connection.StandIn{
		ID: connection.StandInID(made.Token.Reveal()), Connection: id, Name: name, Key: c.Name, DisconnectGen: rec.DisconnectGen, CreatedAt: b.now(),
	}
	if withClient {
		made.ClientSecret = secret.New(clientText + randomText().Reveal())
		st.Client = connection.Hash(made.ClientSecret.Reveal())
	}
	if st.Seal, err = b.sealStandIn(ctx, st); err != nil {
		return NewStandIn{}, internal(err)
	}
	if err := b.Store.PutStandIn(ctx, st); err != nil {
		return NewStandIn{}, internal(err)
	}
	b.Log.Info("stand-in made", "connection", id, "stand_in", st.ID, "caller", c.Name)
	made.StandIn = viewStandIn(st)
	return made, nil
}

// current are those of the connection as it is; the others are over, and are cleared away.
func (b *Broker) current(ctx context.Context, all []connection.StandIn, rec connection.Record) []connection.StandIn {
	var list []connection.StandIn
	for _, st := range all {
		if st.DisconnectGen == rec.DisconnectGen {
			list = append(list, st)
		} else if _, err := b.Store.DropStandIn(ctx, rec.ID, st.ID); err != nil {
			b.Log.Warn("stand-in", "connection", rec.ID, "error", err.Error())
		}
	}
	return list
}

func standInPlace(id string) secret.Place {
	return secret.Place{Table: "standins", ID: id, Field: "bound"}
}

func (b *Broker) sealStandIn(ctx context.Context, st connection.StandIn) (item.Bytes, error) {
	if err := b.loadKey(ctx); err != nil {
		return "", err
	}
	sealed, err := b.Keys.Seal(secret.PurposeToken, standInPlace(st.ID), secret.New(st.Bound()))
	return item.Bytes(sealed), err
}

// genuine reports whether the row says what was sealed when it was made.
func (b *Broker) genuine(ctx context.Context, st connection.StandIn) error {
	if err := b.loadKey(ctx); err != nil {
		return &Error{Code: ProviderUnavailable, Detail: "the key that opens the tokens cannot be had now; ask again", RetryAfter: 5, Err: err}
	}
	bound, err := b.Keys.Open(ctx, secret.PurposeToken, standInPlace(st.ID), []byte(st.Seal))
	if err != nil {
		return internal(fmt.Errorf("stand-in %s: %w", st.ID, err))
	}
	if !bound.Equal(secret.New(st.Bound())) {
		return ErrStandIn
	}
	return nil
}

func viewStandIn(st connection.StandIn) StandIn {
	return StandIn{ID: st.ID, Name: st.Name, CreatedBy: st.Key, CreatedAt: st.CreatedAt, WithClient: st.Client != ""}
}

// StandIns lists the stand-ins of a connection.
func (b *Broker) StandIns(ctx context.Context, c Caller, id string) ([]StandIn, error) {
	rec, refused := b.record(ctx, c, id)
	if refused != nil {
		return nil, refused
	}
	all, err := b.Store.StandIns(ctx, id, maxStandIns)
	if err != nil {
		return nil, internal(err)
	}
	list := []StandIn{}
	for _, st := range all {
		if st.DisconnectGen == rec.DisconnectGen {
			list = append(list, viewStandIn(st))
		}
	}
	return list, nil
}

// RevokeStandIn ends a stand-in. An access token that it was given lives on until it
// expires: it is the connection's.
func (b *Broker) RevokeStandIn(ctx context.Context, c Caller, id, standIn string) error {
	if _, refused := b.record(ctx, c, id); refused != nil {
		return refused
	}
	dropped := false
	if validID(standIn, "st_") {
		var err error
		if dropped, err = b.Store.DropStandIn(ctx, id, standIn); err != nil {
			return internal(err)
		}
	}
	if !dropped {
		return fail(NotFound, "the connection has no such stand-in")
	}
	b.Log.Info("stand-in revoked", "connection", id, "stand_in", standIn, "caller", c.Name)
	return nil
}

// dropStandIns clears away the stand-ins of a connection that was disconnected. They
// are over already, by its DisconnectGen; a row that stays is litter and nothing more.
func (b *Broker) dropStandIns(ctx context.Context, id string) {
	all, err := b.Store.StandIns(ctx, id, maxStandIns)
	for _, st := range all {
		if err == nil {
			_, err = b.Store.DropStandIn(ctx, id, st.ID)
		}
	}
	if err != nil {
		b.Log.Warn("disconnect", "connection", id, "error", err.Error())
	}
}

// StandInRequest is a refresh by somebody who holds a stand-in.
type StandInRequest struct {
	Token secret.Text
	// ClientID and ClientSecret are what the caller shows of itself. They matter only
	// where the stand-in was made with a client.
	ClientID     string
	ClientSecret secret.Text
	Scopes       []string // that the token must have
}

// The refusals of a stand-in that the API's codes do not tell apart.
var (
	ErrStandIn       = errors.New("no such stand-in")
	ErrStandInClient = errors.New("the stand-in's client is not who asks")
)

// StandInToken hands out the access token of the stand-in's connection, with the
// stand-in's id. The refusals are ErrStandIn, ErrStandInClient and an *Error.
//
// Who asks speaks OAuth and knows nothing of ours, least of all that a refresh under
// way passes in a second. So, unlike a token read, it waits for that.
func (b *Broker) StandInToken(ctx context.Context, r StandInRequest) (TokenView, StandIn, error) {
	st, rec, err := b.standIn(ctx, r)
	if err != nil {
		return TokenView{}, viewStandIn(st), err
	}
	for n := 0; ; n++ {
		t, err := b.token(ctx, rec, standInMinTTL, r.Scopes)
		busy, ok := errors.AsType[*Error](err)
		if !ok || busy.Code != RefreshInProgress || n == len(standInWaits()) {
			return t, viewStandIn(st), err
		}
		if err := b.driver.Wait(ctx, standInWaits()[n]); err != nil {
			return TokenView{}, viewStandIn(st), busy
		}
		if st, rec, err = b.standIn(ctx, r); err != nil {
			return TokenView{}, viewStandIn(st), err
		}
	}
}

// standInWaits are the pauses between looks at a connection that another one is
// refreshing. Together they last longer than most refreshes and well under the 30 s of
// a gateway, a refresh of its own at the end included.
func standInWaits() []time.Duration {
	waits := []time.Duration{50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond}
	for range 12 {
		waits = append(waits, 800*time.Millisecond)
	}
	return waits
}

// standIn finds the stand-in and its connection.
func (b *Broker) standIn(ctx context.Context, r StandInRequest) (connection.StandIn, connection.Record, error) {
	if !strings.HasPrefix(r.Token.Reveal(), standInText) {
		return connection.StandIn{}, connection.Record{}, ErrStandIn
	}
	st, err := b.Store.StandIn(ctx, connection.StandInID(r.Token.Reveal()))
	switch {
	case errors.Is(err, connection.ErrNotFound):
		return st, connection.Record{}, ErrStandIn
	case err != nil:
		return st, connection.Record{}, internal(err)
	}
	if err := b.genuine(ctx, st); err != nil {
		return st, connection.Record{}, err
	}
	if st.Client != "" && !sameClient(st, r) {
		return st, connection.Record{}, ErrStandInClient
	}
	rec, err := b.Store.Get(ctx, st.Connection)
	switch {
	case errors.Is(err, connection.ErrNotFound):
		return st, rec, ErrStandIn
	case err != nil:
		return st, rec, internal(err)
	case rec.DisconnectGen != st.DisconnectGen:
		return st, rec, ErrStandIn
	}
	return st, rec, nil
}

// sameClient compares hashes, in constant time.
func sameClient(st connection.StandIn, r StandInRequest) bool {
	shown := []byte(connection.Hash(r.ClientSecret.Reveal()))
	return r.ClientID == st.ID && subtle.ConstantTimeCompare(shown, []byte(st.Client)) == 1
}
