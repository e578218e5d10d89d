package brokertest

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"time"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
)

// What a store answers that is struck by a fault.
var (
	ErrStore     = errors.New("the store does not answer")
	ErrThrottled = errors.New("the store's capacity is exceeded")
)

// The kinds of calls that a fault can strike: writes of a connection and of a session
// by their names in the protocol, the reads, and the requests to a provider.
const (
	AnyWrite     = "any write"
	OnClaim      = "claim"
	OnRelease    = "release"
	OnLater      = "later" // not acted, doubt, hold and park
	OnSave       = "save"
	OnVerdict    = "verdict"
	OnNumber     = "consent number"
	OnConsent    = "consent"
	OnAccess     = "consent without refresh token"
	OnCreate     = "create"
	OnTombstone  = "tombstone"
	OnErase      = "erase"
	OnTake       = "take"
	OnExchanged  = "exchanged"
	OnEnd        = "end of session"
	OnGet        = "get"
	OnQuery      = "query"
	OnSend       = "refresh request"
	OnExchange   = "exchange request"
	OnRevocation = "revocation request"
	OnIdentity   = "identity request"
	Other        = "other"
)

// kindOf tells what a write is by what it assigns.
func kindOf(u item.Update) string {
	value := func(name string) item.Value {
		i := slices.IndexFunc(u.Set, func(a item.Assign) bool { return a.Name == name })
		if i < 0 {
			return nil
		}
		if u.Set[i].From != "" {
			return u.Set[i].From
		}
		return u.Set[i].Value
	}
	sets := func(name string) bool { return value(name) != nil }
	for _, k := range []struct {
		is   bool
		kind string
	}{
		{sets("save_id"), OnSave},
		{sets("attempt"), OnClaim},
		{sets("disconnected_at"), OnTombstone},
		{sets("proof"), OnErase},
		{value("status") == string(connection.NeedsReauth), OnVerdict},
		{sets("consent_seq") && sets("gen") && u.Target == item.Existing, OnConsent},
		{sets("consent_seq") && u.Target == item.Existing, OnAccess},
		{u.Target == item.Absent && sets("status"), OnCreate},
		{sets("consent_next"), OnNumber},
		{sets("retry_at"), OnLater},
		{len(u.Set) == 0 && slices.Equal(u.Remove, []string{"attempt"}), OnRelease},
		{value("state") == string(connection.SessionExchanging), OnTake},
		{value("state") == string(connection.SessionExchanged), OnExchanged},
		{slices.Contains(u.Remove, "tokens"), OnEnd},
	} {
		if k.is {
			return k.kind
		}
	}
	return Other
}

// A Fault is what befalls one call. call carries it out as it would be without; a fault
// may leave that out, do it twice, or do something else before or after.
type Fault[R any] func(call func() (R, error)) (R, error)

// FailBefore is a fault of a write that is never applied. See also CrashBefore and
// CrashAfter.
func FailBefore(func() (item.Result, error)) (item.Result, error) { return item.Result{}, ErrStore }

// Throttle has the store refuse the write for its load.
func Throttle(func() (item.Result, error)) (item.Result, error) { return item.Result{}, ErrThrottled }

// LoseAnswer has the write applied, and its answer lost.
func LoseAnswer(call func() (item.Result, error)) (item.Result, error) {
	_, _ = call()
	return item.Result{}, ErrStore
}

// Repeat is a write whose answer is lost on the wire and which the SDK sends again:
// only the second answer is seen.
func Repeat(call func() (item.Result, error)) (item.Result, error) {
	_, _ = call()
	return call()
}

// RepeatAfter is repeat with something in between, as another process does it.
func RepeatAfter(meanwhile func()) Fault[item.Result] {
	return func(call func() (item.Result, error)) (item.Result, error) {
		_, _ = call()
		meanwhile()
		return call()
	}
}

// After lets something happen just before the call.
func After[R any](meanwhile func()) Fault[R] {
	return func(call func() (R, error)) (R, error) {
		meanwhile()
		return call()
	}
}

// Slow lets each call take so long by the clock.
func (w *World) Slow(d time.Duration) Fault[item.Result] {
	return func(call func() (item.Result, error)) (item.Result, error) {
		w.Advance(d)
		return call()
	}
}

// strikes are the faults that still await their call, by kind.
type strikes[R any] struct {
	kind string
	left int // calls; negative: all
	do   Fault[R]
}

// next takes the first strike of one of the kinds, nil for none.
func next[R any](list []strikes[R], kinds ...string) Fault[R] {
	for n := range list {
		s := &list[n]
		if s.left != 0 && slices.Contains(kinds, s.kind) {
			s.left--
			return s.do
		}
	}
	return nil
}

// table is one process's way to a table that others use too.
type table struct {
	base item.Table
	p    *Process
}

var _ item.Table = table{}

func (t table) Get(ctx context.Context, key string) (item.Item, error) {
	if err := t.p.reads(OnGet); err != nil {
		return nil, err
	}
	return t.base.Get(ctx, key)
}

func (t table) Query(ctx context.Context, q item.Query) (item.Page, error) {
	if err := t.p.reads(OnQuery); err != nil {
		return item.Page{}, err
	}
	return t.base.Query(ctx, q)
}

func (t table) Scan(ctx context.Context, after string, limit int) (item.Page, error) {
	if err := t.p.reads(OnQuery); err != nil {
		return item.Page{}, err
	}
	return t.base.Scan(ctx, after, limit)
}

func (t table) Update(ctx context.Context, key string, u item.Update) (item.Result, error) {
	return t.p.writes(kindOf(u), func() (item.Result, error) {
		if ctx.Err() != nil {
			return item.Result{}, ctx.Err()
		}
		return t.p.World.observed(ctx, t.base, key, u)
	})
}

func (t table) Delete(ctx context.Context, key string, conds ...item.Cond) (item.Result, error) {
	return t.p.writes(Other, func() (item.Result, error) { return t.base.Delete(ctx, key, conds...) })
}

func (p *Process) reads(kind string) error {
	p.alive()
	p.mu.Lock()
	do := next(p.onStore, kind)
	p.mu.Unlock()
	if do == nil {
		return nil
	}
	_, err := do(func() (item.Result, error) { return item.Result{}, nil })
	return err
}

func (p *Process) writes(kind string, call func() (item.Result, error)) (item.Result, error) {
	p.alive()
	p.mu.Lock()
	do := next(p.onStore, kind, AnyWrite)
	p.mu.Unlock()
	if do == nil {
		return call()
	}
	return do(call)
}

// alive holds the calling goroutine for ever, once its process has crashed: no deferred
// code of it runs before the test is over.
func (p *Process) alive() {
	select {
	case <-p.died:
		<-p.World.over
		runtime.Goexit()
	default:
	}
}

// Die is the crash of the process.
func (p *Process) Die() {
	p.once.Do(func() { close(p.died) })
	p.alive()
}

// CrashBefore stops the process where a call was about to be made.
func CrashBefore[R any](p *Process) Fault[R] {
	return func(func() (R, error)) (r R, err error) {
		p.Die()
		return r, err
	}
}

// CrashAfter stops the process where a call was carried out and the answer had come.
func CrashAfter[R any](p *Process) Fault[R] {
	return func(call func() (R, error)) (R, error) {
		r, err := call()
		p.Die()
		return r, err
	}
}
