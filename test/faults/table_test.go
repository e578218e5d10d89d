package faults_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"time"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
)

var (
	errStore     = errors.New("the store does not answer")
	errThrottled = errors.New("the store's capacity is exceeded")
)

// The kinds of calls that a fault can strike: writes of a connection and of a session
// by their names in the protocol, the reads, and the requests to a provider.
const (
	anyWrite     = "any write"
	onClaim      = "claim"
	onRelease    = "release"
	onLater      = "later" // not acted, doubt, hold and park
	onSave       = "save"
	onVerdict    = "verdict"
	onNumber     = "consent number"
	onConsent    = "consent"
	onAccess     = "consent without refresh token"
	onCreate     = "create"
	onTombstone  = "tombstone"
	onErase      = "erase"
	onTake       = "take"
	onExchanged  = "exchanged"
	onEnd        = "end of session"
	onGet        = "get"
	onQuery      = "query"
	onSend       = "refresh request"
	onExchange   = "exchange request"
	onRevocation = "revocation request"
	onIdentity   = "identity request"
	other        = "other"
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
		{sets("save_id"), onSave},
		{sets("attempt"), onClaim},
		{sets("disconnected_at"), onTombstone},
		{sets("proof"), onErase},
		{value("status") == string(connection.NeedsReauth), onVerdict},
		{sets("consent_seq") && sets("gen") && u.Target == item.Existing, onConsent},
		{sets("consent_seq") && u.Target == item.Existing, onAccess},
		{u.Target == item.Absent && sets("status"), onCreate},
		{sets("consent_next"), onNumber},
		{sets("retry_at"), onLater},
		{len(u.Set) == 0 && slices.Equal(u.Remove, []string{"attempt"}), onRelease},
		{value("state") == string(connection.SessionExchanging), onTake},
		{value("state") == string(connection.SessionExchanged), onExchanged},
		{slices.Contains(u.Remove, "tokens"), onEnd},
	} {
		if k.is {
			return k.kind
		}
	}
	return other
}

// A fault is what befalls one call. call carries it out as it would be without; a fault
// may leave that out, do it twice, or do something else before or after.
type fault[R any] func(call func() (R, error)) (R, error)

// The faults of a write; see also process.crashBefore and process.crashAfter.
func failBefore(func() (item.Result, error)) (item.Result, error) { return item.Result{}, errStore }

func throttle(func() (item.Result, error)) (item.Result, error) { return item.Result{}, errThrottled }

func loseAnswer(call func() (item.Result, error)) (item.Result, error) {
	_, _ = call()
	return item.Result{}, errStore
}

// repeat is a write whose answer is lost on the wire and which the SDK sends again:
// only the second answer is seen.
func repeat(call func() (item.Result, error)) (item.Result, error) {
	_, _ = call()
	return call()
}

// repeatAfter is repeat with something in between, as another process does it.
func repeatAfter(meanwhile func()) fault[item.Result] {
	return func(call func() (item.Result, error)) (item.Result, error) {
		_, _ = call()
		meanwhile()
		return call()
	}
}

// after lets something happen just before the call.
func after[R any](meanwhile func()) fault[R] {
	return func(call func() (R, error)) (R, error) {
		meanwhile()
		return call()
	}
}

// slow lets each call take so long by the clock.
func (w *world) slow(d time.Duration) fault[item.Result] {
	return func(call func() (item.Result, error)) (item.Result, error) {
		w.advance(d)
		return call()
	}
}

// strikes are the faults that still await their call, by kind.
type strikes[R any] struct {
	kind string
	left int // calls; negative: all
	do   fault[R]
}

// next takes the first strike of one of the kinds, nil for none.
func next[R any](list []strikes[R], kinds ...string) fault[R] {
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
	p    *process
}

var _ item.Table = table{}

func (t table) Get(ctx context.Context, key string) (item.Item, error) {
	if err := t.p.reads(onGet); err != nil {
		return nil, err
	}
	return t.base.Get(ctx, key)
}

func (t table) Query(ctx context.Context, q item.Query) (item.Page, error) {
	if err := t.p.reads(onQuery); err != nil {
		return item.Page{}, err
	}
	return t.base.Query(ctx, q)
}

func (t table) Scan(ctx context.Context, after string, limit int) (item.Page, error) {
	if err := t.p.reads(onQuery); err != nil {
		return item.Page{}, err
	}
	return t.base.Scan(ctx, after, limit)
}

func (t table) Update(ctx context.Context, key string, u item.Update) (item.Result, error) {
	return t.p.writes(kindOf(u), func() (item.Result, error) {
		if ctx.Err() != nil {
			return item.Result{}, ctx.Err()
		}
		return t.p.w.observed(ctx, t.base, key, u)
	})
}

func (t table) Delete(ctx context.Context, key string, conds ...item.Cond) (item.Result, error) {
	return t.p.writes(other, func() (item.Result, error) { return t.base.Delete(ctx, key, conds...) })
}

func (p *process) reads(kind string) error {
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

func (p *process) writes(kind string, call func() (item.Result, error)) (item.Result, error) {
	p.alive()
	p.mu.Lock()
	do := next(p.onStore, kind, anyWrite)
	p.mu.Unlock()
	if do == nil {
		return call()
	}
	return do(call)
}

// alive holds the calling goroutine for ever, once its process has crashed: no deferred
// code of it runs before the test is over.
func (p *process) alive() {
	select {
	case <-p.died:
		<-p.w.over
		runtime.Goexit()
	default:
	}
}

// die is the crash of the process.
func (p *process) die() {
	p.once.Do(func() { close(p.died) })
	p.alive()
}

// crashBefore stops the process where a call was about to be made, crashAfter where it
// was carried out and the answer had come.
func crashBefore[R any](p *process) fault[R] {
	return func(func() (R, error)) (r R, err error) {
		p.die()
		return r, err
	}
}

func crashAfter[R any](p *process) fault[R] {
	return func(call func() (R, error)) (R, error) {
		r, err := call()
		p.die()
		return r, err
	}
}
