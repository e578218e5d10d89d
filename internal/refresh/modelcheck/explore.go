package modelcheck

import (
	"fmt"
	"hash/maphash"
	"time"
)

// A Result is what came of exploring a scenario.
//
// States counts the worlds seen. They are told apart by 64-bit hashes under a random
// seed: among n worlds the chance that any two share one, and a part is not looked at,
// is below n*n/2^65 (n = 100 million: 1 in 3,700), and another run has another seed.
type Result struct {
	States  int
	Steps   int
	Took    time.Duration
	Reached Witness
	// Broken names the invariant that does not hold, "" if all do; Trace is the way there.
	Broken string
	Trace  []string
	// CutOff: the time was over before everything was seen. That proves nothing.
	CutOff bool
}

// add joins the results of two scenarios that are reported as one.
func (r Result) add(o Result) Result {
	r.States += o.States
	r.Steps += o.Steps
	r.Took += o.Took
	r.Reached |= o.Reached
	r.CutOff = r.CutOff || o.CutOff
	if r.Broken == "" {
		r.Broken, r.Trace = o.Broken, o.Trace
	}
	return r
}

// Explore goes through every world of the scenario, or until the deadline (zero: none),
// or until an invariant breaks. It is not safe for a scenario whose bounds exceed those
// of a world.
func Explore(s Scenario, deadline time.Time) Result { return explore(s, Mistake{}, deadline) }

func explore(s Scenario, planted Mistake, deadline time.Time) Result {
	m := newModel(s, planted)
	began := time.Now()
	first := m.begin()
	seen := newHashSet()
	seed := maphash.MakeSeed()
	seen.add(maphash.Comparable(seed, first))
	// The stack holds the way to the present world, marked as expanded, and between
	// its steps the worlds that are still to be looked at.
	stack := []successor{{world: first, label: label{what: "in the beginning"}}}
	r := Result{States: 1}
	for looks := 1; len(stack) > 0; looks++ {
		top := &stack[len(stack)-1]
		if top.expanded {
			stack = stack[:len(stack)-1]
			continue
		}
		top.expanded = true
		m.broken = ""
		m.checkRest(&top.world)
		if m.broken != "" {
			r.Broken, r.Trace = m.broken, m.trace(stack, "")
			break
		}
		here := top.world
		for _, next := range m.steps(&here) {
			r.Steps++
			if next.broken != "" {
				r.Broken, r.Trace = next.broken, m.trace(stack, next.label.String())
				stack = stack[:0]
				break
			}
			if seen.add(maphash.Comparable(seed, next.world)) {
				r.States++
				stack = append(stack, next)
			}
		}
		if looks&0x3fff == 0 && !deadline.IsZero() && time.Now().After(deadline) {
			r.CutOff = true
			break
		}
	}
	r.Reached, r.Took = m.reached, time.Since(began)
	return r
}

// trace tells the way to the top of the stack, with each step's item.
func (m *model) trace(stack []successor, last string) []string {
	var out []string
	for _, s := range stack {
		if s.expanded {
			c := &m.items.all[s.world.item[0]]
			out = append(out, fmt.Sprintf("%-70s %s %s gen %d rt %d attempt %s doubt %v", s.label, c.Status, c.Reason, c.Gen, c.rt, c.Attempt.ID, c.DoubtAt != 0))
		}
	}
	if last != "" {
		out = append(out, last)
	}
	return out
}

// A hashSet is a set of 64-bit hashes, eight bytes each, open addressed.
type hashSet struct {
	slots []uint64
	n     int
}

func newHashSet() *hashSet { return &hashSet{slots: make([]uint64, 1<<12)} }

// add adds h and reports whether it is new.
func (s *hashSet) add(h uint64) bool {
	if h == 0 {
		h = 1 // 0 marks a free slot
	}
	if !s.put(h) {
		return false
	}
	s.n++
	if s.n*4 > len(s.slots)*3 {
		old := s.slots
		s.slots = make([]uint64, 2*len(old))
		for _, h := range old {
			if h != 0 {
				s.put(h)
			}
		}
	}
	return true
}

func (s *hashSet) put(h uint64) bool {
	mask := uint64(len(s.slots) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		switch s.slots[i] {
		case h:
			return false
		case 0:
			s.slots[i] = h
			return true
		}
	}
}
