package broker_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/simprovider"
)

func failGet(func() (item.Result, error)) (item.Result, error) {
	return item.Result{}, brokertest.ErrThrottled
}

func TestTheSameAccountAtAnotherHostIsAnotherConnection(t *testing.T) {
	w := brokertest.New(t, brokertest.Options{Profile: "immediate"})
	e := &w.Settings.Integrations[0].Entry
	e.Variables = map[string]string{"host": `^[a-z]+\.example\.com$`}
	e.ConnectionVariables = []string{"host"}
	w.Restart()
	connect := func(host string) string {
		s, err := w.Home.CreateSession(t.Context(), brokertest.Caller(), broker.SessionRequest{Origin: w.Origin, Integration: brokertest.Integration, Owner: "o", Variables: map[string]string{"host": host}})
		w.Must(err)
		f := w.Open(s.ID)
		_, err = w.Home.Callback(t.Context(), w.Allow("alice", f))
		w.Must(err)
		return w.SessionOf(f).Result
	}
	prod := connect("login.example.com")
	w.Advance(time.Hour / 2)
	connect("test.example.com")
	w.Home.TickNow()
	w.Advance(2 * time.Minute)
	w.Home.TickNow()
	if r := w.Record(prod); r.Status != connection.Active {
		t.Errorf("prod: %s %s", r.Status, r.Reason)
	}
}

func TestAListFailsRatherThanHideWhatCouldNotBeRead(t *testing.T) {
	w := brokertest.New(t, brokertest.Options{Profile: "immediate"})
	id := w.Connect("alice")
	p := w.Start()
	p.OnStore(brokertest.OnGet, 1, failGet)
	page, err := p.List(t.Context(), brokertest.Caller(), broker.ListRequest{Owner: "owner-alice"})
	if err == nil {
		t.Errorf("%s vanished from a list that looks whole: %+v", id, page)
	}
}

func TestResealFailsRatherThanPassOverWhatCouldNotBeRead(t *testing.T) {
	w := brokertest.New(t, brokertest.Options{Profile: "immediate"})
	w.Connect("alice")
	p := w.Start()
	_, err := p.RotateKeys(t.Context())
	w.Must(err)
	p2 := w.Start()
	calls := 0
	p2.OnStore(brokertest.OnGet, 100, func(call func() (item.Result, error)) (item.Result, error) {
		if calls++; calls > 3 {
			return item.Result{}, brokertest.ErrThrottled
		}
		return call()
	})
	w.Must(p2.Keys.Load(t.Context(), secret.PurposeToken))
	for fails := 1; fails < 6; fails++ {
		calls = 3 - fails + 1
		rep, err := p2.Reseal(t.Context(), "")
		if err == nil && rep.Failed+rep.Busy+rep.Resealed+rep.Current == 0 {
			t.Errorf("reseal says it is through, and looked at nothing: %+v", rep)
		}
	}
}

func TestReviveFailsRatherThanPassOverWhatCouldNotBeRead(t *testing.T) {
	w := brokertest.New(t, brokertest.Options{Profile: "immediate"})
	id := w.Connect("alice")
	since := w.Unix()
	w.UserEnds("alice")
	_ = w.Home.Force(id)
	if w.Record(id).Status != connection.NeedsReauth {
		t.Fatal(w.Record(id).Status)
	}
	p := w.Start()
	p.OnStore(brokertest.OnGet, 1, failGet)
	rep, err := p.Revive(t.Context(), brokertest.Caller(), broker.ReviveRequest{Integration: brokertest.Integration, Since: since})
	if err == nil {
		t.Errorf("revive says nothing is left: %+v", rep)
	}
}

func TestCompareAndRefreshHandsOutNoTokenThatEnded(t *testing.T) {
	w := brokertest.New(t, brokertest.Options{Profile: "immediate"})
	id := w.Connect("alice")
	w.Must(w.Home.Force(id))
	w.Advance(2 * time.Hour)
	v, err := w.Home.Refresh(t.Context(), brokertest.Caller(), id, 1, "")
	w.Must(err)
	if v.ExpiresAt < w.Unix() || w.Record(id).Gen != 3 {
		t.Errorf("a token that ended %d s ago, generation %d", w.Unix()-v.ExpiresAt, w.Record(id).Gen)
	}
}

func TestAnImportThatLosesARaceTellsNothingOfAnotherOwner(t *testing.T) {
	w := brokertest.New(t, brokertest.Options{Profile: "none"})
	a, b := brokertest.Caller(), brokertest.Caller()
	a.Name, a.Owners = "a", []string{"a-*"}
	b.Name, b.Owners = "b", []string{"b-*"}
	req := func(owner, rt string) broker.ImportRequest {
		return broker.ImportRequest{Integration: brokertest.Integration, Owner: owner, ExternalID: "x", Hold: true, RefreshToken: secret.New(rt), Tags: map[string]string{"secret": owner}}
	}
	p := w.Start()
	p.OnStore(brokertest.OnCreate, 1, brokertest.After[item.Result](func() {
		_, err := w.Home.Import(t.Context(), b, req("b-1", "rt-b"))
		w.Must(err)
	}))
	if r, err := p.Import(t.Context(), a, req("a-1", "rt-a")); brokertest.Code(err) != broker.InvalidRequest {
		t.Errorf("caller of a-* is shown the connection of %s: %v, %v", r.Owner, r.Tags, err)
	}
}

func TestStandInsOfAnEndedConsentDoNotCount(t *testing.T) {
	w := brokertest.New(t, brokertest.Options{Profile: "immediate"})
	id := w.Connect("alice")
	for n := range 50 {
		_, err := w.Home.CreateStandIn(t.Context(), brokertest.Caller(), id, fmt.Sprint(n), false)
		w.Must(err)
	}
	w.Advance(10 * time.Minute)
	w.Connect("alice") // supersedes
	w.Home.TickNow()
	w.Advance(2 * time.Minute)
	w.Home.TickNow()
	w.Advance(2 * time.Minute)
	w.Reconnect(w.Home, "alice", id)
	list, err := w.Home.StandIns(t.Context(), brokertest.Caller(), id)
	w.Must(err)
	_, err = w.Home.CreateStandIn(t.Context(), brokertest.Caller(), id, "new", false)
	if err != nil {
		t.Errorf("%d are shown, and a new one is refused: %v", len(list), err)
	}
}

func TestOneOwnersGarbageForCodesStopsNobodyElse(t *testing.T) {
	w := brokertest.New(t, brokertest.Options{Profile: "immediate"})
	victim := w.Connect("alice")
	w.Advance(50 * time.Minute)
	p := w.Home
	// a provider that calls a malformed code invalid_request
	p.OnWire(brokertest.OnExchange, 3, func(call func() (*http.Response, error)) (*http.Response, error) {
		res, err := call()
		if err != nil {
			return res, err
		}
		res.StatusCode = 400
		return brokertest.WithBody(res, []byte(`{"error":"invalid_request","error_description":"malformed code"}`)), nil
	})
	for range 3 {
		f := w.Begin("bob", "")
		r := w.Allow("bob", f)
		r.Params["code"] = "garbage"
		_, _ = p.Callback(context.Background(), r)
	}
	w.Advance(11 * time.Minute)
	if _, err := p.Read(victim, 60); err != nil {
		t.Errorf("another user's read: %v", err)
	}
}

func TestAHeldImportKeepsItsClient(t *testing.T) {
	w := brokertest.New(t, brokertest.Options{Integrations: `
  askfred: {clients: [{name: new, client_id: app, client_secret: "${env:CLIENT_SECRET}"}, {name: old, state: draining, client_id: app-old, client_secret: "${env:CLIENT_SECRET}"}], binding: cookie, min_interval_s: 0}
`})
	bring := func(client string) error {
		_, err := w.Home.Import(t.Context(), brokertest.Caller(), broker.ImportRequest{Integration: brokertest.Integration, Owner: "o", ExternalID: "x", Hold: true, Client: client, RefreshToken: secret.New("rt-of-" + client)})
		return err
	}
	w.Must(bring("old"))
	w.WantCode(bring("new"), broker.InvalidRequest)
	w.Must(bring("old"))
}

func TestTheEndOfAReplacedRefreshTokenEndsNothing(t *testing.T) {
	w := brokertest.New(t, brokertest.Options{Profile: "immediate"})
	w.Home.OnWire(brokertest.OnExchange, 1, brokertest.Rewrite(func(m map[string]any) { m["refresh_token_expires_in"] = 2 * 3600 }))
	id := w.Connect("alice")
	for range 4 {
		w.Advance(50 * time.Minute)
		w.Must(w.Home.Force(id)) // each time another refresh token
	}
	rec := w.Record(id)
	w.Advance(61 * time.Minute) // one slot is missed: an outage, or nobody asked (on_demand)
	sent := w.Sent("refresh_token")
	_, err := w.Home.Read(id, 60)
	rec = w.Record(id)
	if rec.Status != connection.Active {
		t.Errorf("%s %s, %d sent, the stored refresh token is live: %v; %v", rec.Status, rec.Reason, w.Sent("refresh_token")-sent, w.Live(id), err)
	}
}

func TestAReconnectStaysAtItsHost(t *testing.T) {
	w := brokertest.New(t, brokertest.Options{Profile: "immediate"})
	e := &w.Settings.Integrations[0].Entry
	e.Identity = provider.Identity{}
	e.Variables = map[string]string{"shop": `^[a-z]+$`}
	e.ConnectionVariables = []string{"shop"}
	w.Restart()
	connect := func(user, shop, id string) (string, error) {
		s, err := w.Home.CreateSession(t.Context(), brokertest.Caller(), broker.SessionRequest{Origin: w.Origin, Integration: brokertest.Integration, Owner: "o", ConnectionID: id, Variables: map[string]string{"shop": shop}})
		if err != nil {
			return "", err
		}
		f := w.Open(s.ID)
		_, err = w.Home.Callback(t.Context(), w.Allow(user, f))
		w.Must(err)
		return w.SessionOf(f).Result, nil
	}
	id, err := connect("alice", "one", "")
	w.Must(err)
	again, err := connect("bob", "two", id)
	if brokertest.Code(err) != broker.InvalidRequest || w.Record(id).Fields["shop"] != "one" {
		t.Errorf("%q, %v; the connection of shop one is of %v", again, err, w.Record(id).Fields)
	}
}

func TestACodeIsNotSpentWhenItsExchangeCannotBegin(t *testing.T) {
	w := brokertest.New(t, brokertest.Options{Integrations: `
  askfred: {client_id: app, client_secret: "${env:CLIENT_SECRET}", min_interval_s: 0, return_to: ["http://127.0.0.1:9/back"]}
`})
	var down bool
	p := w.Start(w.SecretsFrom(&down))
	w.Serve(w.HTTP(p))
	id, link := w.Session("askfred", "ann")
	back := w.Return(w.Browser(), link, "alice")
	down = true
	a := w.Confirm("all", id, back.Get("evergrant_confirm"), "ann")
	down = false
	a = w.Confirm("all", id, back.Get("evergrant_confirm"), "ann")
	if a.Status != 200 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

// What healed within one attempt is told all the same: nobody could see else that
// answers of this provider get lost.
func TestAnAnswerThatWasAskedForAgainIsInTheJournal(t *testing.T) {
	w := brokertest.New(t, brokertest.Options{Profile: "grace"})
	id := w.Connect("alice")
	w.ProviderFault(simprovider.Fault{Kind: "lost_answer"})
	w.Must(w.Home.Force(id))
	all := w.Record(id).Journal.Entries()
	if n := len(all); n < 2 || all[n-2].Outcome != connection.OutcomeLost || all[n-1].Outcome != connection.OutcomeSaved {
		t.Errorf("%+v", all)
	}
}
