package connection_test

import (
	"context"
	"errors"
	"testing"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
)

// sessionTable is as much of an item.Table as sessions need.
type sessionTable struct {
	item.Table
	items map[string]item.Item
}

func (t *sessionTable) Get(_ context.Context, key string) (item.Item, error) {
	return t.items[key].Clone(), nil
}

func (t *sessionTable) Update(_ context.Context, key string, u item.Update) (item.Result, error) {
	if err := u.Check(item.AuthorizationIndexes()); err != nil {
		return item.Result{}, err
	}
	next, applied := u.Apply(t.items[key])
	if applied {
		t.items[key] = next
	}
	return item.Result{Applied: applied, Item: next.Clone()}, nil
}

func (t *sessionTable) Delete(_ context.Context, key string, conds ...item.Cond) (item.Result, error) {
	old := t.items[key]
	if old == nil || !item.Hold(old, conds) {
		return item.Result{Item: old}, nil
	}
	delete(t.items, key)
	return item.Result{Applied: true, Item: old}, nil
}

const sessionKey = "hash of the session"

// sessions is a store with one session in the given state, from second 100 to 1000.
func sessions(t *testing.T, state connection.SessionState) connection.Store {
	t.Helper()
	s := connection.Store{Authorizations: &sessionTable{items: map[string]item.Item{}}}
	err := s.CreateSession(t.Context(), connection.Session{Hash: sessionKey, Integration: "acme", Owner: "o", State: state, CreatedAt: 100, ExpiresAt: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func take(confirm string) connection.Take {
	return connection.Take{ID: "take", Until: 260, Client: "main", ClientID: "c1", Owner: "o", Connection: "conn_new", Confirm: confirm}
}

// Which states an opening, a taker and a code may move on from.
func TestSessionTransitions(t *testing.T) {
	for state, want := range map[connection.SessionState][3]bool{ // opening, take by the callback, take by a confirmation
		connection.SessionOpen:        {true, true, false},
		connection.SessionAuthorizing: {true, true, false},
		connection.SessionAwaiting:    {false, false, true},
		connection.SessionFailed:      {true, true, false},
		connection.SessionExchanged:   {true, false, false}, // only in name: nothing is exchanged here
		connection.SessionConnected:   {true, false, false},
	} {
		for i, act := range []func(connection.Store, int64) (connection.SessionResult, error){
			func(s connection.Store, now int64) (connection.SessionResult, error) {
				sess, err := s.GetSession(t.Context(), sessionKey)
				if err != nil {
					return connection.SessionResult{}, err
				}
				return s.OpenSession(t.Context(), sess, now)
			},
			func(s connection.Store, now int64) (connection.SessionResult, error) {
				return s.TakeCode(t.Context(), sessionKey, take(""), now)
			},
			func(s connection.Store, now int64) (connection.SessionResult, error) {
				return s.TakeCode(t.Context(), sessionKey, take("confirm"), now)
			},
		} {
			if i == 0 && (state == connection.SessionExchanged || state == connection.SessionConnected) {
				continue // those are kept by exchanged_at, see below
			}
			for now, lives := range map[int64]bool{200: true, 1000: false} {
				res, err := act(sessions(t, state), now)
				if err != nil || res.Applied != (want[i] && lives) {
					t.Errorf("%s, act %d at %d: applied %v, %v", state, i, now, res.Applied, err)
				}
			}
		}
	}
}

func TestExchangeIsOneTakersAlone(t *testing.T) {
	ctx := t.Context()
	s := sessions(t, connection.SessionAwaiting)
	if res, err := s.TakeCode(ctx, sessionKey, take("confirm"), 200); err != nil || !res.Applied || res.Session.Take != take("confirm") {
		t.Fatalf("%+v, %v", res, err)
	}
	second := take("confirm")
	second.ID = "second"
	if res, _ := s.TakeCode(ctx, sessionKey, second, 200); res.Applied || res.Session.Take.ID != "take" {
		t.Fatal("taken twice")
	}
	if res, _ := s.SaveExchanged(ctx, sessionKey, connection.Exchanged{Take: "second", Tokens: "x", Todo: "todo#1#0"}); res.Applied {
		t.Fatal("another's answer is kept")
	}
	// The session's own time is over, the take's is not: it is still kept.
	res, err := s.SaveExchanged(ctx, sessionKey, connection.Exchanged{Take: "take", Tokens: "sealed", Seq: 4, At: 1200, Todo: "todo#20#0"})
	if err != nil || !res.Applied || res.Session.Seq != 4 || res.Session.ExchangedAt != 1200 || res.Session.Expired(1<<40) {
		t.Fatalf("%+v, %v", res, err)
	}
	for name, act := range map[string]func() (connection.SessionResult, error){
		"opening":       func() (connection.SessionResult, error) { return s.OpenSession(ctx, res.Session, 300) },
		"take":          func() (connection.SessionResult, error) { return s.TakeCode(ctx, sessionKey, second, 300) },
		"failed take":   func() (connection.SessionResult, error) { return s.FailTake(ctx, sessionKey, "take", "x") },
		"failure":       func() (connection.SessionResult, error) { return s.FailSession(ctx, sessionKey, "x", 300) },
		"another's end": func() (connection.SessionResult, error) { return s.EndSession(ctx, sessionKey, "second", "", "", 1300) },
		"await confirm": func() (connection.SessionResult, error) { return s.AwaitConfirm(ctx, res.Session, "code", 300) },
		"a second answer": func() (connection.SessionResult, error) {
			return s.SaveExchanged(ctx, sessionKey, connection.Exchanged{Take: "take", Tokens: "other", Todo: "todo#21#0"})
		},
	} {
		if res, err := act(); err != nil || res.Applied {
			t.Errorf("%s: applied %v, %v", name, res.Applied, err)
		}
	}
	end, err := s.EndSession(ctx, sessionKey, "take", "conn_new", "", 1300)
	if err != nil || !end.Applied || end.Session.State != connection.SessionConnected || end.Session.Tokens != "" || end.Session.Todo != "todo#20#0" {
		t.Fatalf("%+v, %v", end, err)
	}
	if res, _ := s.OpenSession(ctx, end.Session, 300); res.Applied {
		t.Error("a connected session is opened again")
	}
}

// A take that was never finished reads as failed, and its late answer is dropped once
// the link was opened again.
func TestStuckTake(t *testing.T) {
	ctx := t.Context()
	s := sessions(t, connection.SessionOpen)
	taken, err := s.TakeCode(ctx, sessionKey, take(""), 200)
	if err != nil || !taken.Applied {
		t.Fatal(taken, err)
	}
	if taken.Session.Stuck(259) || !taken.Session.Stuck(260) {
		t.Error("stuck at the wrong time")
	}
	if res, _ := s.OpenSession(ctx, taken.Session, 259); res.Applied {
		t.Error("opened while it is exchanged")
	}
	if res, err := s.OpenSession(ctx, taken.Session, 260); err != nil || !res.Applied {
		t.Errorf("not opened: %v", err)
	}
	if res, _ := s.SaveExchanged(ctx, sessionKey, connection.Exchanged{Take: "take", Tokens: "late", Todo: "todo#1#0"}); res.Applied {
		t.Error("a late answer is kept")
	}
}

// States and codes are taken once, in time, by whom they belong to.
func TestOneUseRecords(t *testing.T) {
	ctx := t.Context()
	s := sessions(t, connection.SessionOpen)
	put := func() {
		t.Helper()
		st := connection.State{Hash: "st", Session: sessionKey, Integration: "acme", Client: "main", ClientID: "c1", Cookie: "ck", Verifier: "v", RedirectURI: "r", CreatedAt: 100, ExpiresAt: 1000}
		code := connection.Code{Hash: "co", Session: sessionKey, Client: "main", ClientID: "c1", Code: "sealed", State: "st", RedirectURI: "r", CreatedAt: 100, ExpiresAt: 160}
		if err := errors.Join(s.PutState(ctx, st), s.PutCode(ctx, code)); err != nil {
			t.Fatal(err)
		}
	}
	put()
	_, late := s.TakeState(ctx, "st", 1000)
	_, lateCode := s.SpendCode(ctx, "co", sessionKey, 160)
	_, foreign := s.SpendCode(ctx, "co", "another session", 150)
	_, wrongKind := s.TakeState(ctx, sessionKey, 150)
	for name, err := range map[string]error{"late": late, "late code": lateCode, "foreign": foreign, "wrong kind": wrongKind} {
		if !errors.Is(err, connection.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if st, err := s.TakeState(ctx, "st", 999); err != nil || st.Verifier != "v" || st.Cookie != "ck" {
		t.Errorf("%+v, %v", st, err)
	}
	if c, err := s.SpendCode(ctx, "co", sessionKey, 159); err != nil || c.Code != "sealed" || c.State != "st" {
		t.Errorf("%+v, %v", c, err)
	}
	_, again := s.TakeState(ctx, "st", 150)
	_, codeAgain := s.SpendCode(ctx, "co", sessionKey, 150)
	if !errors.Is(again, connection.ErrNotFound) || !errors.Is(codeAgain, connection.ErrNotFound) {
		t.Error("used twice")
	}
}

func TestExternalIDAndCursor(t *testing.T) {
	ctx := t.Context()
	s := connection.Store{Connections: &sessionTable{items: map[string]item.Item{}}}
	claim := func(id, over, want string) {
		t.Helper()
		if got, err := s.ClaimExternal(ctx, "acme", "ext", id, over); err != nil || got != want {
			t.Errorf("%s over %q: holds %s, %v", id, over, got, err)
		}
	}
	claim("conn_1", "", "conn_1")
	claim("conn_2", "", "conn_1")
	claim("conn_2", "conn_1", "conn_2")
	claim("conn_3", "conn_1", "conn_2")
	for _, c := range []struct {
		from, to int64
		moved    bool
	}{{0, 10, true}, {0, 11, false}, {10, 11, true}, {10, 11, false}} {
		if moved, err := s.MoveCursor(ctx, c.from, c.to); err != nil || moved != c.moved {
			t.Errorf("%+v: %v, %v", c, moved, err)
		}
	}
	if p, err := s.Progress(ctx); p.Minute != 11 || err != nil {
		t.Errorf("cursor %d, %v", p.Minute, err)
	}
}
