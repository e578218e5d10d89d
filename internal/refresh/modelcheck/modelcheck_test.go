package modelcheck

import (
	"strings"
	"testing"
	"time"
)

func TestProtocolHolds(t *testing.T) {
	for _, p := range Suite(Small) {
		t.Run(strings.ReplaceAll(p.Title, " ", "-")+"/"+p.Mode.String(), func(t *testing.T) {
			t.Parallel()
			r := p.Run(time.Time{})
			if r.Broken != "" {
				t.Fatalf("%s\n%s", r.Broken, strings.Join(r.Trace, "\n"))
			}
			t.Logf("%d states in %v: %s", r.States, r.Took.Round(time.Millisecond), r.Reached)
		})
	}
}

// A mistake counts as caught only if the same scenario holds without it. Under a clock
// the suite itself shows that.
func TestMistakesAreCaught(t *testing.T) {
	for _, m := range Mistakes() {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			if m.Timed == (Timed{}) {
				if r := Explore(m.Scenario, time.Time{}); r.Broken != "" {
					t.Fatalf("without the mistake: %s\n%s", r.Broken, strings.Join(r.Trace, "\n"))
				}
			}
			r := m.Run()
			if r.Broken == "" {
				t.Fatalf("%s: not caught in %d states", m.Text, r.States)
			}
			if len(r.Trace) < 2 {
				t.Errorf("caught without a trace")
			}
			t.Logf("caught after %d states: %s", r.States, r.Broken)
		})
	}
}

// The number of worlds is a fact about the protocol, and two runs must agree on it.
func TestExplorationIsDeterministic(t *testing.T) {
	s := Scenario{Mode: Grace, Rounds: 1, Faults: 1}
	a, b := Explore(s, time.Time{}), Explore(s, time.Time{})
	if a.States != b.States || a.Steps != b.Steps || a.Reached != b.Reached {
		t.Errorf("first %d states and %d steps, then %d and %d", a.States, a.Steps, b.States, b.Steps)
	}
}

func TestCutOffIsNoProof(t *testing.T) {
	p := Proof{Reach: Healed, Scenarios: []Scenario{{Mode: Grace, Rounds: 1, Faults: 2, Disconnect: true, Revoke: true, Consents: []Consent{{}}}}}
	r := p.Run(time.Unix(1, 0))
	if !r.CutOff || r.Broken != "" {
		t.Errorf("cut off %v, broken %q", r.CutOff, r.Broken)
	}
}

func TestUnreachedEndFailsAProof(t *testing.T) {
	p := Proof{Reach: Disconnected, Scenarios: []Scenario{{Mode: None, Rounds: 1}}}
	if r := p.Run(time.Time{}); r.Broken != "never reached: disconnected" {
		t.Errorf("broken %q", r.Broken)
	}
}

func TestSealedValueOpensAtItsPlaceOnly(t *testing.T) {
	at := place{"rt", connectionID, 3}
	sealed := seal(7, at)
	for _, p := range []place{{"at", connectionID, 3}, {"rt", "other", 3}, {"rt", connectionID, 4}, {}} {
		if got, ok := unseal(sealed, p); ok || got != 7 {
			t.Errorf("at %v: token %d, opens %v", p, got, ok)
		}
	}
	if got, ok := unseal(sealed, at); !ok || got != 7 {
		t.Errorf("at its place: token %d, opens %v", got, ok)
	}
}

func TestMirroredWorldsAreOne(t *testing.T) {
	var a world
	a.workers[0] = worker{node: 5, attempt: 1, waits: 1}
	a.workers[1] = worker{node: 9, attempt: 2, waits: 1}
	a.network[0] = request{worker: 0, attempt: 1, send: 1, token: 1}
	a.network[2] = request{worker: 1, attempt: 2, send: 1, token: 1}
	b := a
	b.workers[0], b.workers[1] = a.workers[1], a.workers[0]
	b.network[2] = request{worker: 1, attempt: 1, send: 1, token: 1}
	b.network[0] = request{worker: 0, attempt: 2, send: 1, token: 1}
	a.settle()
	b.settle()
	if a != b {
		t.Errorf("%+v\n%+v", a, b)
	}
}

func TestHashSetKeepsWhatItHolds(t *testing.T) {
	s := newHashSet()
	const n = 20_000
	for i := range uint64(n) {
		if !s.add(i * 0x9e3779b97f4a7c15) {
			t.Fatalf("%d is new", i)
		}
	}
	for i := range uint64(n) {
		if s.add(i * 0x9e3779b97f4a7c15) {
			t.Fatalf("%d was there", i)
		}
	}
	if s.n != n {
		t.Errorf("%d of %d", s.n, n)
	}
}
