package modelcheck

import (
	"time"

	"github.com/evergrant/evergrant/internal/connection"
)

// A Proof is a row of the table: scenarios of one mode and one bound, all of which
// must hold, and the good ends that they must reach between them, or they would prove
// an empty world.
type Proof struct {
	Title     string
	Mode      Mode
	Rounds    int // of each worker
	Faults    int
	Reach     Witness
	Scenarios []Scenario
	Timed     []Timed
}

// Run explores the scenarios of p. A deadline of zero is none.
func (p Proof) Run(deadline time.Time) Result {
	var r Result
	for _, s := range p.Scenarios {
		r = r.add(Explore(s, deadline))
		if r.Broken != "" {
			return r
		}
	}
	for _, t := range p.Timed {
		r = r.add(t.Run(deadline))
	}
	if missing := p.Reach &^ r.Reached; missing != 0 && !r.CutOff && r.Broken == "" {
		r.Broken = "never reached: " + missing.String()
	}
	return r
}

// A Bound says how far a suite goes.
type Bound int

// The bounds.
const (
	Small Bound = iota // one round and one fault: seconds
	Full               // one round and two faults, two rounds and one: minutes
)

// Suite is every proof of a bound: first what each mode must withstand, those that take
// longest first, and last the finest and longest, which a slow machine may cut off.
func Suite(b Bound) []Proof {
	faults := 1
	var out []Proof
	if b == Full {
		faults = 2
		for _, mode := range []Mode{Immediate, Family} {
			out = append(out, everything("everything, two rounds", mode, 2, 1, true))
		}
	}
	for mode := None; mode <= OnUse; mode++ {
		out = append(out, everything("everything", mode, 1, faults, true))
	}
	out = append(out, healing(faults)...)
	out = append(out, imports(faults)...)
	out = append(out, consenting(faults)...)
	out = append(out, ending(faults)...)
	out = append(out, keeping(faults)...)
	out = append(out, keepingTime(faults)...)
	if b == Full {
		for _, mode := range []Mode{Grace, OnUse, Immediate, None} {
			out = append(out, everything("everything, step by step", mode, 1, 1, false))
		}
		out = append(out, everything("everything, step by step", Family, 1, 2, false))
	}
	return out
}

// everything is two workers, a reconnect, a disconnect and the user's own revocation,
// under each kind of provider.
func everything(title string, mode Mode, rounds, faults int, coarse bool) Proof {
	p := Proof{
		Title: title, Mode: mode, Rounds: rounds, Faults: faults,
		Reach: RefreshedTwice | SaidRevoked | Disconnected | Reconnected | Replayed | Exchanged,
	}
	if mode != None {
		p.Reach |= SaidLost
	}
	s := Scenario{
		Mode: mode, Rounds: rounds, Faults: faults, Coarse: coarse, Consents: []Consent{{}}, Disconnect: true, Revoke: true,
	}
	for _, s.RevokesGrant = range []bool{false, true} {
		for _, s.EndsFormer = range []bool{false, true} {
			p.Scenarios = append(p.Scenarios, s)
		}
	}
	return p
}

// healing: the horizon was too short after all, and a late save heals the verdict.
func healing(faults int) []Proof {
	var out []Proof
	for _, mode := range []Mode{Immediate, Grace, OnUse} {
		p := Proof{Title: "a late save heals", Mode: mode, Rounds: 1, Faults: faults, Reach: Replayed}
		if mode == Immediate {
			p.Reach |= Healed
		}
		p.Scenarios = []Scenario{{Mode: mode, Rounds: 1, Faults: faults, ShortHorizon: true, Disconnect: true, Coarse: true}}
		out = append(out, p)
	}
	return out
}

// imports: a connection that another broker may have refreshed, proved by its first
// refresh, refused, held, activated and disconnected.
func imports(faults int) []Proof {
	var out []Proof
	for _, mode := range []Mode{None, Immediate, Family} {
		p := Proof{Title: "imports: connecting, held", Mode: mode, Rounds: 1, Faults: faults, Reach: Imported | Disconnected}
		for _, status := range []connection.Status{connection.Connecting, connection.Held} {
			p.Scenarios = append(p.Scenarios, Scenario{
				Mode: mode, Rounds: 1, Faults: faults, Status: status, Activate: true, Disconnect: true, Revoke: true,
			})
		}
		out = append(out, p)
	}
	return out
}

// consenting: sessions. Two confirms at once, two connects of one account at once, and
// reconnects that bring another account, another client or no refresh token.
func consenting(faults int) []Proof {
	fresh := func(session int, at uint8) Consent { return Consent{Fresh: true, Session: session, At: at} }
	take := Proof{Title: "one code, two takers, and the tick", Mode: Immediate, Faults: faults, Reach: Exchanged}
	for _, ends := range []bool{false, true} {
		take.Scenarios = append(
			take.Scenarios,
			Scenario{Mode: Immediate, Faults: faults, Status: absent, Identity: true, EndsFormer: ends, Consents: []Consent{fresh(0, 0), fresh(0, 0)}},
			Scenario{Mode: Immediate, Faults: faults, Identity: true, EndsFormer: ends, Disconnect: true, Consents: []Consent{{}, {}}},
		)
	}
	supersede := Proof{Title: "two connects of one account", Mode: OnUse, Faults: faults, Reach: Exchanged | Superseded}
	for _, at := range []uint8{0, 1} {
		supersede.Scenarios = append(supersede.Scenarios, Scenario{
			Mode: OnUse, Faults: faults, Identity: true, Consents: []Consent{fresh(0, 0), fresh(1, at)},
		})
	}
	accounts := Proof{Title: "accounts, clients, no refresh token", Mode: Immediate, Rounds: 1, Faults: 1, Reach: Exchanged | Reconnected}
	for _, c := range []Consent{
		{NoRefreshToken: true},
		{NoRefreshToken: true, Client: 1},
		{NoRefreshToken: true, Account: 1},
		{Account: 1},
		{Client: 1},
		{Account: 1, AllowAccountChange: true},
		{NoRefreshToken: true, Account: 1, AllowAccountChange: true},
	} {
		accounts.Scenarios = append(accounts.Scenarios, Scenario{
			Mode: Immediate, Rounds: 1, Workers: 1, Faults: 1, Identity: true, Disconnect: true, Consents: []Consent{c},
		})
	}
	both := Proof{Title: "two reconnects of two clients", Mode: Immediate, Rounds: 1, Faults: 1, Reach: Exchanged | Reconnected}
	both.Scenarios = []Scenario{{
		Mode: Immediate, Rounds: 1, Workers: 1, Faults: 1, Identity: true, Consents: []Consent{{Client: 1}, {Session: 1, NoRefreshToken: true}},
	}}
	return []Proof{take, supersede, accounts, both}
}

// ending: the disconnect, step by step, at providers that revoke a token, a grant, or
// nothing at all.
func ending(faults int) []Proof {
	var out []Proof
	for _, mode := range []Mode{Immediate, Family, OnUse} {
		p := Proof{Title: "disconnect, step by step", Mode: mode, Rounds: 1, Faults: faults, Reach: Disconnected}
		s := Scenario{Mode: mode, Rounds: 1, Faults: faults, Workers: 1, Disconnect: true, Revoke: true}
		grant, nothing, none := s, s, s
		grant.RevokesGrant, none.NoRevocation = true, true
		nothing.RevokesNothing, nothing.Faults = true, 1
		p.Scenarios = []Scenario{s, grant, nothing, none}
		out = append(out, p)
	}
	return out
}

// keeping: what is remembered about tokens. A connection that once rotated, a table
// that was restored, values sealed anew or put back by somebody.
func keeping(faults int) []Proof {
	rotates := Proof{Title: "rotates against its profile", Mode: Sometimes, Rounds: 2, Faults: 1, Reach: RefreshedTwice | SaidLost}
	rotates.Scenarios = []Scenario{
		{Mode: Sometimes, Rounds: 2, Faults: 1, Rotated: true, Disconnect: true, Coarse: true},
		{Mode: Sometimes, Rounds: 2, Workers: 1, Faults: 0},
	}
	out := []Proof{rotates}
	for _, mode := range []Mode{Immediate, Grace, Family, OnUse} {
		out = append(out, Proof{
			Title: "a restored table", Mode: mode, Rounds: 2, Faults: 1, Reach: Restored | RefreshedTwice,
			Scenarios: []Scenario{{Mode: mode, Rounds: 2, Faults: 1, Restore: true, Revoke: true}},
		})
	}
	return append(out, Proof{
		Title: "sealed anew, put back", Mode: Immediate, Rounds: 2, Faults: faults, Reach: Resealed | RefreshedTwice,
		Scenarios: []Scenario{
			{Mode: Immediate, Rounds: 2, Workers: 1, Faults: faults, Reseal: true, Disconnect: true},
			{Mode: Immediate, Rounds: 2, Workers: 1, Faults: faults, Tamper: true},
		},
	})
}

// keepingTime: the promises that need a clock. Two hours of a connection whose tokens
// live for one.
func keepingTime(faults int) []Proof {
	var out []Proof
	for mode := None; mode <= OnUse; mode++ {
		p := Proof{
			Title: "under a clock", Mode: mode, Faults: faults, Reach: RefreshedTwice | Replayed,
			Timed: []Timed{{Mode: mode, Life: 3600, Hours: 2, Faults: faults}},
		}
		if mode == Immediate || mode == Family {
			p.Reach |= SaidLost
		}
		out = append(out, p)
	}
	return out
}
