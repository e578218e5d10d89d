package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/simprovider"
	"github.com/evergrant/evergrant/internal/wire"
)

// life is one connection's, driven through the public API alone: what the demo asserts
// is what an application sees.
type life struct {
	*stage
	s    simulated
	says dialectSays
	who  *person
	conn wire.Connection
	// reconnected: the step had its user consent again, as it must be there.
	reconnected bool
}

// connect makes the connection by the dialect's grant.
func (l *life) connect() (string, error) {
	conn, err := l.connectOwner("ada", "")
	if err != nil {
		return "", err
	}
	if conn.Status != "active" {
		return "", fmt.Errorf("the new connection is %s", statusOf(conn))
	}
	l.conn = conn
	return "", nil
}

// connectOwner connects an owner, or reconnects the connection in place.
func (l *life) connectOwner(owner, connection string) (conn wire.Connection, err error) {
	if l.s.grant == provider.GrantAuthorizationCode {
		return l.connectByCode(owner, connection)
	}
	in := wire.ImportRequest{Integration: l.s.name, Owner: owner}
	if l.s.grant == provider.GrantClientCredentials {
		in.GrantType = wire.ClientCredentials
	} else {
		in.RefreshToken = l.sims.IssueRefreshToken(l.s.provider, l.who.login)
	}
	err = l.api.call(l.ctx, http.MethodPost, "/v1/connections", in, &conn)
	return conn, err
}

func (l *life) connectByCode(owner, connection string) (conn wire.Connection, err error) {
	request := wire.SessionRequest{Integration: l.s.name, Owner: owner, ReturnTo: demoReturn, ConnectionID: connection}
	var session wire.NewSession
	if err := l.api.call(l.ctx, http.MethodPost, "/v1/connect-sessions", request, &session); err != nil {
		return conn, err
	}
	back, err := l.who.consent(l.ctx, session.AuthorizeURL, demoReturn)
	if err != nil {
		return conn, err
	}
	q := back.Query()
	if code := q.Get("evergrant_error"); code != "" {
		return conn, fmt.Errorf("the browser came back with %s", code)
	}
	confirm := wire.ConfirmRequest{Confirm: q.Get("evergrant_confirm"), Owner: owner}
	err = l.api.call(l.ctx, http.MethodPost, "/v1/connect-sessions/"+q.Get("evergrant_session")+"/confirm", confirm, &conn)
	return conn, err
}

func (l *life) path() string { return "/v1/connections/" + l.conn.ID }

// look reads the connection as it is now.
func (l *life) look() error { return l.api.call(l.ctx, http.MethodGet, l.path(), nil, &l.conn) }

func (l *life) token() (t wire.Token, err error) {
	err = l.api.call(l.ctx, http.MethodGet, l.path()+"/token", nil, &t)
	return t, err
}

// refreshNow reports the stored generation as refused, as after a 401.
func (l *life) refreshNow() error {
	return l.api.call(l.ctx, http.MethodPost, l.path()+"/refresh", wire.RefreshRequest{IfGeneration: l.conn.Generation}, nil)
}

// accepts makes the provider's example call and reports whether the token was good.
func (l *life) accepts(t wire.Token) (bool, error) {
	example, err := l.sims.Example(l.s.provider, string(l.s.grant))
	if err != nil {
		return false, err
	}
	r, err := http.NewRequestWithContext(l.ctx, example.Method, example.URL, strings.NewReader(example.Body))
	if err != nil {
		return false, err
	}
	r.Header.Set("Authorization", "Bearer "+t.AccessToken)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "evergrant-demo")
	resp, err := l.who.client.Do(r)
	if err != nil {
		return false, errors.New("the provider's API cannot be reached")
	}
	defer func() { _ = resp.Body.Close() }() // read below
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)); err != nil {
		return false, errors.New("the provider's API broke off")
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return true, nil
	case http.StatusUnauthorized:
		return false, nil
	default:
		return false, fmt.Errorf("the provider's API answered %d", resp.StatusCode)
	}
}

// expect checks what the provider says to a token.
func (l *life) expect(t wire.Token, good bool, which string) error {
	got, err := l.accepts(t)
	switch {
	case err != nil:
		return err
	case got && !good:
		return fmt.Errorf("the provider still takes %s", which)
	case !got && good:
		return fmt.Errorf("the provider refuses %s", which)
	}
	return nil
}

// works reads a token and calls the provider with it.
func (l *life) works() (wire.Token, error) {
	t, err := l.token()
	if err != nil {
		return t, err
	}
	return t, l.expect(t, true, "the token that was handed out")
}

func (l *life) call() (string, error) {
	_, err := l.works()
	return "", err
}

// refresh lets the schedule come and replace the token, looks at the old one, and then
// lets a token run out, which the next read must make good.
func (l *life) refresh() (string, error) {
	old, err := l.works()
	if err != nil {
		return "", err
	}
	if err := l.look(); err != nil {
		return "", err
	}
	before := l.conn
	if before.NextRefreshAt == nil {
		return "", errors.New("the connection has no next refresh")
	}
	if err := l.tickAt(*before.NextRefreshAt); err != nil {
		return "", err
	}
	if err := l.look(); err != nil {
		return "", err
	}
	renewed, err := l.works()
	switch {
	case err != nil:
		return "", err
	case l.conn.Generation != before.Generation+1:
		return "", fmt.Errorf("the generation went from %d to %d", before.Generation, l.conn.Generation)
	case renewed.AccessToken == old.AccessToken || renewed.TokenID == old.TokenID:
		return "", errors.New("the token did not change")
	case old.ExpiresAt == nil || !l.clock.Now().Before(*old.ExpiresAt):
		return "", errors.New("the refresh came after the old token's end")
	}
	early := old.ExpiresAt.Sub(l.clock.Now())
	if err := l.expect(old, !l.says.oldAccessDies, "the token before it"); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s before the token's end; the old one %s", span(early), map[bool]string{true: "died", false: "lives on"}[l.says.oldAccessDies]),
		l.readAfterExpiry(renewed)
}

// readAfterExpiry lets the schedule sleep over a token's end.
func (l *life) readAfterExpiry(t wire.Token) error {
	l.clock.set(t.ExpiresAt.Add(time.Second))
	if err := l.expect(t, false, "an expired token"); err != nil {
		return err
	}
	_, err := l.works()
	return err
}

// maxRounds is more ticks than any recovery takes.
const maxRounds = 8

// lostAnswer has the provider act on a refresh and cut the connection.
func (l *life) lostAnswer() (string, error) {
	if err := l.look(); err != nil {
		return "", err
	}
	before, grant := l.conn.Generation, string(provider.GrantRefreshToken)
	if l.s.grant == provider.GrantClientCredentials {
		grant = string(l.s.grant)
	}
	if err := l.sims.AddFault(l.s.provider, simprovider.Fault{On: "token", Kind: "lost_answer", Grant: grant}); err != nil {
		return "", err
	}
	began, sent := l.clock.Now(), l.sims.Requests(l.s.provider)[grant]
	var problem apiError
	if err := l.refreshNow(); err != nil && !errors.As(err, &problem) {
		return "", err
	}
	if problem.Code == "" && l.sims.Requests(l.s.provider)[grant] < sent+2 {
		return "", errors.New("the lost answer was not noticed")
	}
	if err := l.settle(before); err != nil {
		return "", err
	}
	took := span(l.clock.Now().Sub(began))
	if !l.says.spendsAtOnce {
		if l.conn.Status != "active" || l.conn.Generation != before+1 {
			return "", fmt.Errorf("not recovered: %s, generation %d after %d", statusOf(l.conn), l.conn.Generation, before)
		}
		_, err := l.works()
		return "recovered by itself after " + took, err
	}
	return l.reconnectLost(took)
}

// settle ticks at the times that the connection names until it is decided.
func (l *life) settle(before int64) error {
	for range maxRounds {
		if err := l.look(); err != nil {
			return err
		}
		if l.conn.Generation > before || l.conn.Status != "active" {
			return nil
		}
		next := l.clock.Now().Add(time.Minute)
		if l.conn.NextRefreshAt != nil && l.conn.NextRefreshAt.After(l.clock.Now()) {
			next = *l.conn.NextRefreshAt
		}
		if err := l.tickAt(next); err != nil {
			return err
		}
	}
	return errors.New("not decided after " + fmt.Sprint(maxRounds) + " tries")
}

// reconnectLost: where the server has spent the refresh token, its new pair is gone
// with the answer. That is not the user's doing, must not be taken for it, and must
// heal in place.
func (l *life) reconnectLost(took string) (string, error) {
	if l.conn.Status != "needs_reauth" || text(l.conn.Reason) != "lost_response" {
		return "", fmt.Errorf("the spent token should have ended as needs_reauth (lost_response), and it is %s", statusOf(l.conn))
	}
	again, err := l.connectOwner(l.conn.Owner, l.conn.ID)
	if err != nil {
		return "", fmt.Errorf("reconnect: %w", err)
	}
	if again.ID != l.conn.ID || again.Status != "active" {
		return "", fmt.Errorf("reconnect: %s is %s", again.ID, statusOf(again))
	}
	l.reconnected = true
	_, err = l.works()
	return "the provider had spent the token: known as lost_response after " + took + ", reconnected in place", err
}

// revoked has the user take the access back at the provider.
func (l *life) revoked() (string, error) {
	if l.s.grant == provider.GrantClientCredentials {
		return "", notApplicable("no user gave this access, so none can take it back")
	}
	if err := l.look(); err != nil {
		return "", err
	}
	l.sims.RevokeUser(l.s.provider, l.who.login)
	var problem apiError
	if err := l.refreshNow(); !errors.As(err, &problem) || problem.Code != "needs_reauth" || problem.Reason != "revoked" {
		return "", fmt.Errorf("the refresh should have been answered by needs_reauth (revoked), and was by: %w", orFine(err))
	}
	if err := l.look(); err != nil {
		return "", err
	}
	if l.conn.Status != "needs_reauth" || text(l.conn.Reason) != "revoked" {
		return "", fmt.Errorf("the connection is %s", statusOf(l.conn))
	}
	return "", nil
}

var errFine = errors.New("a good answer")

// orFine is err, or says that there was none.
func orFine(err error) error {
	if err == nil {
		return errFine
	}
	return err
}

// disconnect ends a second connection, since the first one has nothing left to end.
func (l *life) disconnect() (string, error) {
	conn, err := l.connectOwner("grace", "")
	if err != nil {
		return "", fmt.Errorf("connect: %w", err)
	}
	l.conn = conn
	t, err := l.works()
	if err != nil {
		return "", err
	}
	var receipt wire.Receipt
	if err := l.api.call(l.ctx, http.MethodDelete, l.path(), nil, &receipt); err != nil {
		return "", err
	}
	revoked, proof := "unsupported", "none"
	if l.says.revokes {
		revoked, proof = "at_provider", "refresh_refused"
	}
	if receipt.Revoked != revoked || receipt.Proof != proof {
		return "", fmt.Errorf("the receipt says revoked: %s, proof: %s; it should say %s, %s", receipt.Revoked, receipt.Proof, revoked, proof)
	}
	var problem apiError
	if _, err := l.token(); !errors.As(err, &problem) || problem.Status != http.StatusGone {
		return "", fmt.Errorf("a read after the disconnect should be answered by 410, and was by: %w", orFine(err))
	}
	return "revoked: " + receipt.Revoked + ", proof: " + receipt.Proof, l.expect(t, !l.says.revokes, "the last token")
}
