package refresh_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/simprovider"
)

// story is a random life of some connections of two users under two clients.
type story struct {
	*world
	ids      []string
	sessions []connection.Session
	lies     int
}

// identity decides what the provider says of the next account: the truth, nothing, or
// somebody whom nobody knows. (That a lie names another real user cannot be seen
// through: the account's id is all the proof there is.)
func (s *story) identity(rt *rapid.T) {
	s.must(s.sim.ClearFaults(sim))
	switch rapid.SampledFrom([]string{"true", "failing", "lying"}).Draw(rt, "identity") {
	case "failing":
		s.fault(simprovider.Fault{On: "identity", Kind: "status", Count: -1})
	case "lying":
		s.lies++
		s.fault(simprovider.Fault{On: "identity", Kind: "status", Status: 200, Count: -1, Body: fmt.Sprintf(`{"id":%d}`, 9000+s.lies)})
	}
}

// consents runs one consent under random circumstances.
func (s *story) consents(rt *rapid.T, sess connection.Session) {
	user := rapid.SampledFrom([]string{"alice", "bob"}).Draw(rt, "user")
	client := rapid.SampledFrom([]string{clientOne, clientTwo}).Draw(rt, "client")
	code := s.code(user, client)
	s.identity(rt)
	if rapid.Bool().Draw(rt, "no refresh token") {
		s.fault(simprovider.Fault{On: "token", Grant: "authorization_code", Kind: "no_refresh_token"})
	}
	if rapid.Bool().Draw(rt, "a refresh in between") && sess.ConnectionID != "" {
		s.table.between = func(_ string, u item.Update) {
			if sets(u, "consent_seq") {
				s.table.between = nil
				s.Refresh(context.Background(), refresh.Input{ID: sess.ConnectionID, Why: refresh.Forced})
			}
		}
	}
	if rapid.IntRange(0, 3).Draw(rt, "crash") == 0 {
		s.table.strike = once(failAfter, func(u item.Update) bool { return sets(u, "consented_at") })
	}
	rep := s.exchange(sess, s.take(client), code, rapid.Bool().Draw(rt, "may list"))
	s.table.between, s.table.strike = nil, nil
	s.sessions = append(s.sessions, sess)
	if rep.Result != "" {
		s.ids = append(s.ids, rep.Result)
	}
}

func (s *story) steps() map[string]func(*rapid.T) {
	known := func(rt *rapid.T) string {
		if len(s.ids) == 0 {
			rt.Skip("no connection yet")
		}
		return rapid.SampledFrom(s.ids).Draw(rt, "connection")
	}
	return map[string]func(*rapid.T){
		"connect": func(rt *rapid.T) { s.consents(rt, s.session(nil)) },
		"reconnect": func(rt *rapid.T) {
			id := known(rt)
			s.consents(rt, s.session(func(sess *connection.Session) {
				s.reconnecting(id)(sess)
				sess.AllowAccountChange = rapid.Bool().Draw(rt, "allow account change")
			}))
		},
		"refresh": func(rt *rapid.T) {
			id := known(rt)
			if rapid.Bool().Draw(rt, "lost") {
				s.fault(simprovider.Fault{On: "token", Grant: "refresh_token", Kind: "lost_answer"})
			}
			s.Refresh(context.Background(), refresh.Input{ID: id, Why: refresh.Forced})
		},
		"finish": func(rt *rapid.T) {
			if len(s.sessions) == 0 {
				rt.Skip("no session yet")
			}
			s.identity(rt)
			sess := s.stored(rapid.SampledFrom(s.sessions).Draw(rt, "session"))
			if sess.Todo != "" {
				rep, err := s.Finish(context.Background(), sess)
				s.must(err)
				if rep.Result != "" {
					s.ids = append(s.ids, rep.Result)
				}
			}
		},
		"disconnect": func(rt *rapid.T) { s.Disconnect(context.Background(), known(rt), time.Minute) },
		"wait": func(rt *rapid.T) {
			s.advance(time.Duration(rapid.SampledFrom([]int{1, 60, 600, 3600}).Draw(rt, "seconds")) * time.Second)
		},
		"": s.oneAccountEach,
	}
}

// oneAccountEach fails where a record holds two tokens of different users or clients,
// or tokens of another client than the one it names.
func (s *story) oneAccountEach(rt *rapid.T) {
	for _, id := range s.ids {
		r := s.record(id)
		access, refreshToken := s.tokens(r)
		a, ok := s.sim.Lookup(sim, access)
		if access == "" {
			continue // a receipt
		}
		if !ok || a.ClientID != r.ClientID {
			rt.Fatalf("%s (%s) holds an access token of client %q, its own is %q", id, r.Status, a.ClientID, r.ClientID)
		}
		if b, _ := s.sim.Lookup(sim, refreshToken); refreshToken != "" && (a.User != b.User || a.ClientID != b.ClientID) {
			rt.Fatalf("%s (%s) holds tokens of %s by %s and %s by %s", id, r.Status, a.User, a.ClientID, b.User, b.ClientID)
		}
	}
}

func TestNoRecordHoldsTokensOfTwoAccounts(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, rapid.SampledFrom([]string{"none", "immediate", "on_use", "grace", "family"}).Draw(rt, "profile"))
		defer w.close()
		w.t = rt
		s := &story{world: w}
		rt.Repeat(s.steps())
	})
}
