// Package oidc_test takes `evergrant serve` through all of its life against panva's
// oidc-provider: an authorization server that we did not write, with rotation and
// detection of reuse. It runs the programs themselves and speaks to Evergrant by its
// public HTTP API alone.
package oidc_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/wire"
)

func TestAgainstOIDCProvider(t *testing.T) {
	s := newStage(t)
	// One sentence takes more than a minute, in which the others are tried.
	t.Run("after a lost answer", func(t *testing.T) {
		t.Parallel()
		s.aLostAnswerIsWaitedOut(t)
	})
	t.Run("meanwhile", func(t *testing.T) {
		t.Parallel()
		for _, try := range []struct {
			sentence string
			test     func(*testing.T)
		}{
			{"every kind of client connects", s.everyKindOfClientConnects},
			{"cookie mode connects without a confirmation", s.cookieModeConnects},
			{"endpoints are found by discovery", s.endpointsAreDiscovered},
			{"an ID token tells the account", s.anIDTokenTellsTheAccount},
			{"client credentials need no user", s.clientCredentials},
			{"a person may refuse", s.aPersonMayRefuse},
			{"a state serves once, in its own browser", s.aStateServesOnce},
			{"a callback of another issuer is refused", s.anotherIssuerIsRefused},
			{"a wrong owner cannot confirm", s.aWrongOwnerCannotConfirm},
			{"a refresh rotates, and a stolen token ends the grant", s.aRefreshRotates},
			{"fifty callers make one refresh, and no reader waits", s.fiftyCallersMakeOneRefresh},
			{"tokens are refreshed ahead, by nobody's call", s.tokensAreRefreshedAhead},
			{"a lost answer costs nothing where nothing rotates", s.aLostAnswerIsAskedForAgain},
			{"a wrong secret suspends the integration, and the right one heals it", s.aWrongSecretSuspends},
			{"a person may revoke, and consent again", s.aPersonMayRevoke},
			{"another account is kept apart", s.anotherAccountIsKeptApart},
			{"a disconnect proves itself", s.aDisconnectProvesItself},
			{"a connection survives kill -9", s.aConnectionSurvivesKill9},
		} {
			t.Run(try.sentence, try.test)
		}
	})
}

func (s *stage) everyKindOfClientConnects(t *testing.T) {
	for _, c := range []client{basicClient(), postClient(), publicClient()} {
		t.Run(c.Method, func(t *testing.T) {
			r := s.trial(t, s.rotating, c)
			connected := r.connect(t, "alice")
			if connected.GrantedScope != "openid read" || connected.MissingScope != "" {
				t.Errorf("granted is %q, missing %q", connected.GrantedScope, connected.MissingScope)
			}
			first := r.works(t, connected.ID, "alice")
			second, problem := r.refresh(t, connected.ID, first.Generation)
			if problem != nil {
				t.Fatalf("refresh: %s", problem.Code)
			}
			if r.works(t, connected.ID, "alice").AccessToken != second.AccessToken || second.AccessToken == first.AccessToken {
				t.Error("the refresh did not change the token")
			}
			r.proxy.spentOnce(t)
		})
	}
}

func (s *stage) cookieModeConnects(t *testing.T) {
	r := s.trial(t, s.rotating, basicClient(), cookieMode)
	connected := r.connect(t, "alice")
	r.works(t, connected.ID, "alice")
	for _, form := range r.proxy.sent() {
		if form.Get("code_verifier") == "" {
			t.Error("the code was exchanged without a verifier")
		}
	}
}

func (s *stage) endpointsAreDiscovered(t *testing.T) {
	r := s.trial(t, s.rotating, basicClient(), func(_, provider map[string]any) {
		for _, known := range []string{"issuer", "authorization_endpoint", "token_endpoint", "revocation_endpoint", "identity"} {
			delete(provider, known)
		}
		provider["discovery_url"] = s.rotating.issuer + "/.well-known/openid-configuration"
	})
	connected, problem := r.consent(t, wire.SessionRequest{LoginHint: "alice"})
	if problem != nil {
		t.Fatalf("connect: %s: %s", problem.Code, problem.Detail)
	}
	r.works(t, connected.ID, "alice")
}

// idTokenOnly leaves the server's keys as the one way to the account.
func idTokenOnly(_, provider map[string]any) {
	delete(provider, "identity")
	provider["jwks_uri"] = provider["issuer"].(string) + "/jwks"
}

func (s *stage) anIDTokenTellsTheAccount(t *testing.T) {
	for _, binding := range []option{func(_, _ map[string]any) {}, cookieMode} {
		r := s.trial(t, s.rotating, basicClient(), idTokenOnly, binding)
		connected := r.connect(t, "alice") // checks the account
		again, problem := r.reconnect(t, connected.ID, "alice")
		if problem != nil || again.ID != connected.ID {
			t.Fatalf("the same person's reconnect: %v", problem)
		}
	}
	// A token signed by other keys than those proves nothing: the person is connected,
	// and nobody knows as whom.
	r := s.trial(t, s.rotating, basicClient(), idTokenOnly, func(_, provider map[string]any) {
		provider["jwks_uri"] = s.brief.issuer + "/token" // answers JSON that holds no key
	})
	connected, problem := r.consent(t, wire.SessionRequest{LoginHint: "alice"})
	if problem != nil {
		t.Fatalf("connect: %s: %s", problem.Code, problem.Detail)
	}
	if connected.Account != nil {
		t.Errorf("the account is %v", connected.Account)
	}
	r.works(t, connected.ID, "alice")
}

func (s *stage) clientCredentials(t *testing.T) {
	r := s.trial(t, s.rotating, machineClient())
	made := must[wire.Connection](t, r, http.MethodPost, "/v1/connections",
		wire.ImportRequest{Integration: integrationName, Owner: owner, GrantType: wire.ClientCredentials})
	if made.Status != "active" {
		t.Fatalf("the connection is %s", made.Status)
	}
	if token := r.token(t, made.ID); !s.rotating.active(t, r.client, token.AccessToken) {
		t.Error("the server does not know the token")
	}
}

func (s *stage) aPersonMayRefuse(t *testing.T) {
	r := s.trial(t, s.rotating, basicClient())
	session := r.session(t, wire.SessionRequest{LoginHint: "deny"})
	back := newBrowser(t).follow(t, session.AuthorizeURL, returnTo)
	if said := back.Query().Get("evergrant_error"); said != "access_denied" {
		t.Errorf("the browser came back with the error %q", said)
	}
	if strings.Contains(back.RawQuery, "refused") {
		t.Error("the server's own words went to the application")
	}
	if sent := r.proxy.sent(); len(sent) != 0 {
		t.Errorf("%d token requests were sent", len(sent))
	}
	// The link may be opened again by somebody who thought better of it.
	if state := must[wire.Session](t, r, http.MethodGet, "/v1/connect-sessions/"+session.ID, nil); state.Status == "connected" {
		t.Errorf("the session is %s", state.Status)
	}
}

// toCallback lets a browser consent, and stops it before it opens the callback.
func (r *trial) toCallback(t *testing.T, b *browser, session wire.NewSession) *url.URL {
	t.Helper()
	return b.follow(t, session.AuthorizeURL, r.url+"/callback/")
}

// isPageOf4xx checks that a callback ends on a page of ours, with no way back into the
// application.
func isPageOf4xx(t *testing.T, b *browser, callback *url.URL) {
	t.Helper()
	if status, location, _ := b.open(t, callback.String()); status/100 != 4 || location != "" {
		t.Errorf("the callback answered %d and sent the browser to %q, want a page with an error", status, location)
	}
}

func (s *stage) aStateServesOnce(t *testing.T) {
	r := s.trial(t, s.rotating, basicClient(), cookieMode)
	mine, session := newBrowser(t), r.session(t, wire.SessionRequest{LoginHint: "alice"})
	callback := r.toCallback(t, mine, session)
	mine.follow(t, callback.String(), returnTo)
	isPageOf4xx(t, mine, callback)
	if sent := r.proxy.sent(); len(sent) != 1 {
		t.Errorf("%d token requests were sent", len(sent))
	}

	stolen := r.toCallback(t, newBrowser(t), r.session(t, wire.SessionRequest{LoginHint: "alice"}))
	isPageOf4xx(t, newBrowser(t), stolen)
	foreign := newBrowser(t) // with a cookie of its own, of another opening
	r.toCallback(t, foreign, r.session(t, wire.SessionRequest{LoginHint: "alice"}))
	isPageOf4xx(t, foreign, r.toCallback(t, newBrowser(t), r.session(t, wire.SessionRequest{LoginHint: "alice"})))
	forged := *callback
	forged.RawQuery = url.Values{"code": {"c"}, "state": {"of nobody"}, "iss": {s.rotating.issuer}}.Encode()
	isPageOf4xx(t, mine, &forged)
	if sent := r.proxy.sent(); len(sent) != 1 {
		t.Errorf("%d token requests were sent", len(sent))
	}
}

func (s *stage) anotherIssuerIsRefused(t *testing.T) {
	r := s.trial(t, s.rotating, basicClient())
	for _, iss := range []string{"http://127.0.0.1:1", s.rotating.issuer + "/", ""} {
		b, session := newBrowser(t), r.session(t, wire.SessionRequest{LoginHint: "alice"})
		callback := r.toCallback(t, b, session)
		query := callback.Query()
		if query.Get("iss") != s.rotating.issuer {
			t.Fatal("the server sent no iss")
		}
		query.Set("iss", iss)
		if iss == "" {
			query.Del("iss")
		}
		callback.RawQuery = query.Encode()
		if said := b.follow(t, callback.String(), returnTo).Query().Get("evergrant_error"); said != "issuer_mismatch" {
			t.Errorf("with iss %q the browser came back with the error %q", iss, said)
		}
	}
	if sent := r.proxy.sent(); len(sent) != 0 {
		t.Errorf("%d token requests were sent", len(sent))
	}
}

func (s *stage) aWrongOwnerCannotConfirm(t *testing.T) {
	r := s.trial(t, s.rotating, basicClient())
	session := r.session(t, wire.SessionRequest{LoginHint: "alice"})
	back := newBrowser(t).follow(t, session.AuthorizeURL, returnTo).Query()
	_, problem := try[wire.Connection](t, r, http.MethodPost, "/v1/connect-sessions/"+session.ID+"/confirm",
		wire.ConfirmRequest{Confirm: back.Get("evergrant_confirm"), Owner: "tenant-2"})
	refused(t, problem, "forbidden")
	_, problem = r.confirm(t, session, back.Get("evergrant_confirm"))
	refused(t, problem, "restart_connect")
	again := newBrowser(t).follow(t, session.AuthorizeURL, returnTo).Query().Get("evergrant_confirm")
	first, problem := r.confirm(t, session, again)
	if problem != nil {
		t.Fatalf("confirm after the link was opened again: %s", problem.Code)
	}
	if second, problem := r.confirm(t, session, again); problem != nil || second.ID != first.ID {
		t.Errorf("the same confirmation repeated gave another answer")
	}
	if sent := r.proxy.sent(); len(sent) != 1 {
		t.Errorf("%d token requests were sent", len(sent))
	}
}

func (s *stage) aRefreshRotates(t *testing.T) {
	r := s.trial(t, s.rotating, basicClient())
	id := r.connect(t, "alice").ID
	spent := r.proxy.last(t).Refresh
	first := r.token(t, id)
	second, problem := r.refresh(t, id, first.Generation)
	if problem != nil {
		t.Fatalf("refresh: %s", problem.Code)
	}
	if second.Generation != first.Generation+1 || second.TokenID == first.TokenID || r.proxy.last(t).Refresh == spent {
		t.Errorf("after generation %d came %d; the token id is %s after %s", first.Generation, second.Generation, second.TokenID, first.TokenID)
	}
	// Who comes late with the same news gets what is stored.
	if late, problem := r.refresh(t, id, first.Generation); problem != nil || late.AccessToken != second.AccessToken {
		t.Error("a late caller was not given the stored token")
	}
	if sent := r.proxy.refreshed(); len(sent) != 1 || sent[0] != spent {
		t.Errorf("%d refresh requests were sent, want one with the first refresh token", len(sent))
	}
	r.works(t, id, "alice")

	if code := s.rotating.spend(t, r.client, spent); code != "invalid_grant" {
		t.Fatalf("the server answered %q to the spent token", code)
	}
	_, problem = r.refresh(t, id, second.Generation)
	refused(t, problem, "needs_reauth")
	if problem.Reason != "revoked" {
		t.Errorf("the reason is %s", problem.Reason)
	}
	r.proxy.spentOnce(t)
}

func (s *stage) fiftyCallersMakeOneRefresh(t *testing.T) {
	r := s.trial(t, s.rotating, basicClient())
	id := r.connect(t, "alice").ID
	stored := r.token(t, id)
	held := newGate()
	r.proxy.next(fault{hold: held})
	path := "/v1/connections/" + id
	fresh := make(chan string, 1)
	go func() {
		fresh <- r.outcome(http.MethodPost, path+"/refresh", wire.RefreshRequest{IfGeneration: stored.Generation})
	}()
	<-held.arrived

	// All of them have their answer before the refresh has its own: it is let go last.
	outcomes := make(chan string)
	for range 25 {
		go func() { outcomes <- r.outcome(http.MethodGet, path+"/token", nil) }()
		go func() {
			outcomes <- r.outcome(http.MethodPost, path+"/refresh", wire.RefreshRequest{IfGeneration: stored.Generation})
		}()
	}
	count := map[string]int{}
	for range 50 {
		count[<-outcomes]++
	}
	if count[stored.AccessToken] != 25 || count["refresh_in_progress"] != 25 {
		t.Errorf("not every reader got the stored token, and every other caller the word to wait: %d and %d of 25", count[stored.AccessToken], count["refresh_in_progress"])
	}
	close(held.open)
	if got := <-fresh; got != r.proxy.last(t).Access {
		t.Error("the one that refreshed was not given the new token")
	}
	if sent := r.proxy.refreshed(); len(sent) != 1 {
		t.Errorf("%d refresh requests were sent", len(sent))
	}
	r.isActive(t, id, stored.Generation+1)
	r.works(t, id, "alice")
}

// outcome is the access token or the problem code that a request was answered with.
func (r *trial) outcome(method, path string, body any) string {
	var token wire.Token
	problem, err := r.request(method, path, body, &token)
	switch {
	case err != nil:
		return err.Error()
	case problem != nil:
		return problem.Code
	}
	return token.AccessToken
}

func (s *stage) tokensAreRefreshedAhead(t *testing.T) {
	r := s.trial(t, s.brief, basicClient())
	id := r.connect(t, "alice").ID
	eventually(t, 3*briefLife*time.Second, "two refreshes", func() bool { return r.connection(t, id).Generation >= 3 })
	r.proxy.spentOnce(t)
	if c := r.connection(t, id); c.Status != "active" || c.NextRefreshAt == nil || c.ExpiresAt == nil || !c.NextRefreshAt.Before(*c.ExpiresAt) {
		t.Errorf("the connection is %s, expires at %v and is refreshed next at %v", c.Status, c.ExpiresAt, c.NextRefreshAt)
	}
	r.works(t, id, "alice")
}

func (s *stage) aLostAnswerIsAskedForAgain(t *testing.T) {
	for _, c := range []struct {
		lost  string
		fault fault
	}{
		{"the answer is lost", fault{drop: true}},
		{"a gateway says 503", fault{status: http.StatusServiceUnavailable}},
	} {
		t.Run(c.lost, func(t *testing.T) {
			r := s.trial(t, s.constant, basicClient())
			id := r.connect(t, "alice").ID
			stored := r.works(t, id, "alice")
			r.proxy.next(c.fault)
			_, problem := r.refresh(t, id, stored.Generation)
			refused(t, problem, "provider_unavailable")
			r.isActive(t, id, stored.Generation)
			if r.works(t, id, "alice").AccessToken != stored.AccessToken {
				t.Error("the stored token is not handed out any more")
			}
			if _, problem := r.refresh(t, id, stored.Generation); problem != nil {
				t.Fatalf("the next refresh: %s", problem.Code)
			}
			r.isActive(t, id, stored.Generation+1)
			r.works(t, id, "alice")
			if sent := r.proxy.refreshed(); len(sent) != 2 || sent[0] != sent[1] {
				t.Errorf("%d refresh requests were sent, want two with the same token", len(sent))
			}
		})
	}
}

// aLostAnswerIsWaitedOut is the case in which something has to be lost: the server has
// rotated, nobody knows the new refresh token, and the old one sent again ends the
// grant. What is left to do is to use the access token as long as it lives, and then to
// say so.
func (s *stage) aLostAnswerIsWaitedOut(t *testing.T) {
	r := s.trial(t, s.brief, basicClient())
	id := r.connect(t, "alice").ID
	stored := r.works(t, id, "alice")
	r.proxy.next(fault{drop: true})
	_, problem := r.refresh(t, id, stored.Generation)
	refused(t, problem, "provider_unavailable")
	if r.works(t, id, "alice").AccessToken != stored.AccessToken {
		t.Error("the stored token is not handed out any more")
	}
	r.isActive(t, id, stored.Generation)

	eventually(t, 2*briefLife*time.Second, "the end of the access token", func() bool { return r.tokenRefused(t, id) != nil })
	refused(t, r.tokenRefused(t, id), "provider_unavailable")
	r.isActive(t, id, stored.Generation)
	if sent := r.proxy.refreshed(); len(sent) != 1 {
		t.Fatalf("%d refresh requests were sent while it was not known what became of the first", len(sent))
	}

	eventually(t, 2*time.Minute, "a verdict", func() bool { return r.connection(t, id).Status != "active" })
	c := r.connection(t, id)
	if c.Status != "needs_reauth" || c.Reason == nil || *c.Reason != "lost_response" {
		t.Fatalf("the connection is %s for the reason %v", c.Status, c.Reason)
	}
	if sent := r.proxy.refreshed(); len(sent) != 2 {
		t.Errorf("%d refresh requests were sent, want the lost one and one that asks", len(sent))
	}
	again, problem := r.reconnect(t, id, "alice")
	if problem != nil || again.ID != id {
		t.Fatalf("the reconnect ended with %v", problem)
	}
	r.works(t, id, "alice")
}

func (s *stage) aWrongSecretSuspends(t *testing.T) {
	r := s.trial(t, s.rotating, basicClient())
	id := r.connect(t, "alice").ID
	stored := r.works(t, id, "alice")

	r.integration["client_secret"] = "of last year"
	r.restart(t)
	for range 2 {
		_, problem := r.refresh(t, id, stored.Generation)
		refused(t, problem, "integration_suspended")
	}
	if sent := r.proxy.refreshed(); len(sent) != 1 {
		t.Errorf("%d refresh requests were sent with the wrong secret", len(sent))
	}
	r.isActive(t, id, stored.Generation)
	if r.works(t, id, "alice").AccessToken != stored.AccessToken {
		t.Error("the stored token is not handed out any more")
	}
	list := must[wire.List[wire.Integration]](t, r, http.MethodGet, "/v1/integrations", nil)
	if len(list.Items) != 1 || list.Items[0].Status != "suspended" {
		t.Errorf("the integrations are %+v", list.Items)
	}
	// Nobody is sent to a consent that could not be finished.
	_, problem := try[wire.NewSession](t, r, http.MethodPost, "/v1/connect-sessions", wire.SessionRequest{Integration: integrationName, Owner: owner, LoginHint: "bob"})
	refused(t, problem, "integration_suspended")

	r.integration["client_secret"] = r.client.Secret
	r.restart(t)
	// The first tick may be probing at this moment: then this call is refused once more.
	eventually(t, 10*time.Second, "the right secret heals", func() bool {
		_, problem := r.refresh(t, id, stored.Generation)
		return problem == nil
	})
	r.isActive(t, id, stored.Generation+1)
	r.works(t, id, "alice")
	eventually(t, 10*time.Second, "the circuit closes after its probe was saved", func() bool {
		list = must[wire.List[wire.Integration]](t, r, http.MethodGet, "/v1/integrations", nil)
		return len(list.Items) == 1 && list.Items[0].Status == "ok"
	})
}

func (s *stage) aPersonMayRevoke(t *testing.T) {
	r := s.trial(t, s.rotating, basicClient())
	id := r.connect(t, "alice").ID
	token := r.works(t, id, "alice")
	s.rotating.revoke(t, r.client, r.proxy.last(t).Refresh)
	if status, _ := s.rotating.userinfo(t, token.AccessToken); status != http.StatusUnauthorized {
		t.Fatalf("the server's API answered %d to the revoked token", status)
	}
	_, problem := r.refresh(t, id, token.Generation)
	refused(t, problem, "needs_reauth")
	if problem.Reason != "revoked" {
		t.Errorf("the reason is %s", problem.Reason)
	}
	refused(t, r.tokenRefused(t, id), "needs_reauth")

	again, problem := r.reconnect(t, id, "alice")
	if problem != nil {
		t.Fatalf("the reconnect: %s", problem.Code)
	}
	if again.ID != id || again.Status != "active" || again.Generation <= token.Generation {
		t.Errorf("the reconnect gave the connection %s, %s in generation %d", again.ID, again.Status, again.Generation)
	}
	r.works(t, id, "alice")
	r.proxy.spentOnce(t)
}

func (s *stage) anotherAccountIsKeptApart(t *testing.T) {
	r := s.trial(t, s.rotating, basicClient())
	id := r.connect(t, "alice").ID
	stored := r.works(t, id, "alice")
	_, problem := r.reconnect(t, id, "bob")
	refused(t, problem, "account_mismatch")
	if problem.ConnectionID == "" || problem.ConnectionID == id {
		t.Fatalf("the other account is kept as connection %q", problem.ConnectionID)
	}
	if after := r.works(t, id, "alice"); after.TokenID != stored.TokenID {
		t.Error("the connection has another token")
	}
	r.works(t, problem.ConnectionID, "bob")
	// Each goes on by itself.
	for account, of := range map[string]string{"alice": id, "bob": problem.ConnectionID} {
		if _, problem := r.refresh(t, of, r.token(t, of).Generation); problem != nil {
			t.Errorf("refresh of %s: %s", account, problem.Code)
		}
		r.works(t, of, account)
	}
	r.proxy.spentOnce(t)
}

func (s *stage) aDisconnectProvesItself(t *testing.T) {
	r := s.trial(t, s.rotating, basicClient())
	id := r.connect(t, "alice").ID
	r.works(t, id, "alice")
	given := r.proxy.last(t)
	for what, token := range map[string]string{"access": given.Access, "refresh": given.Refresh} {
		if !s.rotating.active(t, r.client, token) {
			t.Fatalf("the %s token is not active", what)
		}
	}
	receipt := must[wire.Receipt](t, r, http.MethodDelete, "/v1/connections/"+id, nil)
	if receipt.Revoked != "at_provider" || receipt.Proof != "refresh_refused" || receipt.InFlight {
		t.Errorf("the receipt says %+v", receipt)
	}
	for what, token := range map[string]string{"access": given.Access, "refresh": given.Refresh} {
		if s.rotating.active(t, r.client, token) {
			t.Errorf("the %s token is still active", what)
		}
	}
	refused(t, r.tokenRefused(t, id), "disconnected")
	if c := r.connection(t, id); c.Status != "disconnected" || c.Receipt == nil || c.Receipt.Proof != receipt.Proof {
		t.Errorf("the connection is %s with the receipt %+v", c.Status, c.Receipt)
	}
}

func (s *stage) aConnectionSurvivesKill9(t *testing.T) {
	for _, at := range []struct {
		does    string
		server  *server
		rotates bool
	}{{"the server rotates", s.rotating, true}, {"the refresh token stays", s.constant, false}} {
		t.Run(at.does, func(t *testing.T) {
			r := s.trial(t, at.server, basicClient())
			id := r.connect(t, "alice").ID
			r.process.kill()
			r.start(t)
			stored, problem := r.refresh(t, id, r.works(t, id, "alice").Generation)
			if problem != nil {
				t.Fatalf("refresh: %s", problem.Code)
			}
			r.proxy.spentOnce(t)

			r.killWhileRefreshing(t, id, stored.Generation)
			r.start(t)
			r.isActive(t, id, stored.Generation)
			if r.works(t, id, "alice").AccessToken != stored.AccessToken {
				t.Error("another token is handed out")
			}
			_, problem = r.refresh(t, id, stored.Generation)
			if at.rotates {
				// Whoever held the claim may still be about to save, for all that is known.
				refused(t, problem, "refresh_in_progress")
				r.proxy.spentOnce(t)
				return
			}
			if problem != nil {
				t.Fatalf("refresh: %s", problem.Code)
			}
			r.isActive(t, id, stored.Generation+1)
			r.works(t, id, "alice")
		})
	}
}

// killWhileRefreshing kills Evergrant when the server has acted and its answer is on
// its way.
func (r *trial) killWhileRefreshing(t *testing.T, id string, generation int64) {
	t.Helper()
	held := newGate()
	r.proxy.next(fault{hold: held})
	asked := make(chan error, 1)
	go func() {
		_, err := r.request(http.MethodPost, "/v1/connections/"+id+"/refresh", wire.RefreshRequest{IfGeneration: generation}, nil)
		asked <- err
	}()
	<-held.arrived
	r.process.kill()
	if err := <-asked; err == nil {
		t.Error("a killed server answered")
	}
}
