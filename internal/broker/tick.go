package broker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"

	"github.com/evergrant/evergrant/internal/circuit"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/metric"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/schedule"
	"github.com/evergrant/evergrant/internal/secret"
)

const (
	tickWorkers = 64  // refreshes of one process at once, as a measure for its parts
	tickPage    = 100 // ids read at once
	cursorAhead = 5   // minutes by which the cursor may be ahead before it is reset
	auditEvery  = 24 * 60
	auditPages  = 200 // pages of the audit in one tick: a million connections take some 50 ticks
)

// TickReport is what a tick did.
type TickReport struct {
	Minute   int64          // unix minute
	Outcomes map[string]int // refreshes by outcome
	Chunked  int            // refreshes handed to the queue
	Owed     int            // refreshes left to the next tick
	Todo     int            // unfinished disconnects and sessions taken up
	Whole    bool           // everything was looked at, and the cursor moved
	Reset    bool           // the cursor stood in the future and was set back
}

// Tick does what is due at a minute: the schedule's slots since the last tick, what
// was put off, what is unfinished, and the circuits' probes. The minute is the
// event's, never the clock's. A tick that is doubled or overlaps repeats reads at
// most. The cursor moves once every id that is due was refreshed, put onto the queue,
// or noted as owed; where the store or the queue takes none of it, it stays, and the
// next tick goes on.
func (b *Broker) Tick(ctx context.Context, minute int64) (TickReport, error) {
	rep := TickReport{Minute: minute, Outcomes: map[string]int{}}
	progress, err := b.Store.Progress(ctx)
	if err != nil {
		return rep, err
	}
	cursor := progress.Minute
	from := cursor
	if cursor > minute+cursorAhead {
		b.Log.Error("the schedule's cursor stands in the future and is set back", "cursor", cursor, "minute", minute)
		rep.Reset, from = true, 0
	}
	b.notePlace(ctx)
	if err := b.Keys.Load(ctx, secret.PurposeToken); err != nil {
		b.Log.Warn("data key", "error", err.Error()) // a warm one serves on; this follows a rotation
	}
	run := b.newTick(ctx, minute, true)
	defer run.stop()
	failed := []error{run.due(from, minute)}
	run.flush()
	run.start()
	failed = append(failed, b.todo(ctx, run, from, minute), b.tendCircuits(ctx, run, minute))
	audited, err := b.audit(ctx, run, progress.Audit)
	failed = append(failed, err)
	run.flush()
	run.group.Wait()
	if audited != progress.Audit && ctx.Err() == nil {
		failed = append(failed, b.Store.MoveAudit(ctx, audited))
	}
	run.flush() // what there was no time for
	failed = append(failed, run.settle())
	b.flushStats(ctx)
	rep.Outcomes, rep.Todo, rep.Chunked, rep.Owed = run.outcomes, run.todo, run.chunked, run.owedAll
	if err := errors.Join(append(failed, ctx.Err())...); err != nil {
		return rep, err
	}
	if cursor < minute || rep.Reset {
		rep.Whole, err = b.Store.MoveCursor(ctx, cursor, minute)
	}
	return rep, err
}

// Due refreshes what exact timers call for now. It returns when all of them ended.
func (b *Broker) Due(ctx context.Context) {
	run := b.newTick(ctx, b.now()/60, false)
	defer run.stop()
	run.start()
	for _, t := range b.timers.take(b.now()) {
		run.enqueue(job{id: t.id, integration: t.integration, minute: run.minute, why: refresh.Timer})
	}
	run.group.Wait()
}

// Start rebuilds the timers from the store.
func (b *Broker) Start(ctx context.Context) error {
	for after := ""; ; {
		page, err := b.Store.Due(ctx, schedule.Timer, "", after, tickPage)
		if err != nil {
			return err
		}
		for _, id := range page.Keys {
			if rec, err := b.Store.Get(ctx, id); err == nil {
				b.timers.file(rec, b.margin(rec))
			}
		}
		if after = page.Next; after == "" {
			return nil
		}
	}
}

// RefreshAll refreshes connections that fell due at a minute, given by id. An error
// says that some could not be looked at: they are all to be given again, since those
// that were refreshed are then found fresh. What only must wait, for a provider's
// pause or the next minute's budget, is owed to the ticks and no error.
func (b *Broker) RefreshAll(ctx context.Context, ids []string, minute int64) error {
	run := b.newTick(ctx, minute, false)
	defer run.stop()
	run.start()
	for _, id := range ids {
		run.enqueue(job{id: id, minute: minute, why: refresh.Slot})
	}
	run.group.Wait()
	b.flushStats(ctx)
	return errors.Join(run.settle(), ctx.Err())
}

// ReplayRescue carries out one rescue record: tokens that the store would not take
// when they came. It reports whether the record is done with; after an error it must
// be kept and tried again.
func (b *Broker) ReplayRescue(ctx context.Context, id string, payload []byte) (bool, error) {
	done, err := b.driver.Replay(ctx, id, payload)
	if errors.Is(err, item.ErrTooLarge) {
		b.Log.Error("a rescued token is set aside: what is stored for its connection is too large; make it smaller, then replay the rescue",
			"connection", id, "error", err.Error())
	}
	return done, err
}

// queries is how many partitions are asked for at once. Nearly all are empty, and a full
// hour looks into thousands: one after the other would take a tick minutes on DynamoDB.
const queries = 32

// inParallel calls do for every partition and joins what failed.
func inParallel(partitions []string, do func(partition string) error) error {
	var (
		group  sync.WaitGroup
		mu     sync.Mutex
		failed []error // guarded by mu
		slots  = make(chan struct{}, queries)
	)
	for _, p := range partitions {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			if err := do(p); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, err)
			}
		})
	}
	group.Wait()
	if len(failed) > 3 { // an outage fails them all alike
		failed = append(failed[:3], fmt.Errorf("and %d more", len(failed)-3))
	}
	return errors.Join(failed...)
}

// longGap is the gap in minutes above which walking each partition of it would cost
// more than looking at every connection: a day has some twenty thousand of them.
const longGap = 24 * 60

// due finds what fell due since the cursor, 0 for absent.
func (t *ticking) due(from, minute int64) error {
	if minute-from > longGap {
		return t.all()
	}
	return inParallel(schedule.Walk(min(from, minute-1), minute), func(p string) error { return t.walk(p, "") })
}

// all finds every connection that may be refreshed, each slot of its own or not: those
// that are fresh cost one read.
func (t *ticking) all() error {
	var failed []error
	for _, i := range t.b.Settings.Integrations {
		for _, s := range []connection.Status{connection.Active, connection.Connecting} {
			q := item.Query{Index: item.IndexByIntegration, Hash: i.Name, Prefix: string(s) + "#", Limit: tickPage}
			failed = append(failed, t.each(q))
		}
	}
	return errors.Join(failed...)
}

func (t *ticking) each(q item.Query) error {
	for {
		page, err := t.b.Store.Connections.Query(t.ctx, q)
		if err != nil {
			return err
		}
		for _, id := range page.Keys {
			t.enqueue(job{id: id, integration: q.Hash, minute: t.minute, why: refresh.Slot})
		}
		if q.After = page.Next; q.After == "" {
			return nil
		}
	}
}

// walk finds what is in a partition of the schedule, of one integration alone where it
// is named.
func (t *ticking) walk(partition, integration string) error {
	due := schedule.DueMinute(partition, t.minute)
	for after := ""; ; {
		page, err := t.b.Store.Due(t.ctx, partition, integration, after, tickPage)
		if err != nil {
			return err
		}
		for n, id := range page.Keys {
			j := job{id: id, integration: integration, minute: due, why: refresh.Slot}
			if n < len(page.Ranges) {
				j.integration, _, _ = strings.Cut(page.Ranges[n], "#") // "integration#id"
			}
			t.enqueue(j)
		}
		if after = page.Next; after == "" {
			return nil
		}
	}
}

// todo takes up what a crash or an outage left unfinished.
func (b *Broker) todo(ctx context.Context, t *ticking, from, minute int64) error {
	return inParallel(schedule.Todos(from, minute), func(p string) error {
		return errors.Join(
			b.each(ctx, b.Store.Connections, p, func(id string) { t.aside(id, func() { t.takeUp(id) }) }),
			b.each(ctx, b.Store.Authorizations, p, func(hash string) { t.aside(hash, func() { t.finishSession(hash) }) }))
	})
}

func (b *Broker) each(ctx context.Context, table item.Table, partition string, do func(key string)) error {
	for after := ""; ; {
		page, err := table.Query(ctx, item.Query{Index: item.IndexTodo, Hash: partition, After: after, Limit: tickPage})
		if err != nil {
			return err
		}
		for _, key := range page.Keys {
			do(key)
		}
		if after = page.Next; after == "" {
			return nil
		}
	}
}

func (t *ticking) took() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.todo++
}

// takeUp goes on with what is filed under a key of the table connections.
func (t *ticking) takeUp(key string) {
	b := t.b
	if _, is := circuit.ClientOf(key); validID(key, "conn_") || is {
		if b.events != nil {
			if _, err := b.events.Resume(t.ctx, key); err != nil {
				b.Log.Warn("events", "item", key, "error", err.Error())
			}
		}
		t.finishConnection(key)
	} else if b.TakeUp != nil {
		b.TakeUp(t.ctx, key)
	}
}

// finishConnection goes on with a disconnect whose revocation is pending, or with an
// import that is not proved.
func (t *ticking) finishConnection(id string) {
	if !validID(id, "conn_") {
		return
	}
	rec, err := t.b.Store.Get(t.ctx, id)
	if err != nil {
		return
	}
	switch {
	case rec.Status == connection.Disconnected && rec.Revocation == "pending":
		t.took()
		t.b.driver.Disconnect(t.ctx, id, disconnectTime)
	case rec.Status == connection.Connecting:
		t.enqueue(job{id: id, integration: rec.Integration, minute: t.minute, why: refresh.Slot})
	}
}

// sessionGiveUp is how long an exchanged session is tried, s; its tokens are kept
// seven days.
const sessionGiveUp = 7 * 24 * 3600

// finishSession goes on with a session whose answer is safe but not yet a connection,
// or whose older connections are not yet superseded.
func (t *ticking) finishSession(hash string) {
	b := t.b
	sess, err := b.Store.GetSession(t.ctx, hash)
	if err != nil || sess.Todo == "" {
		return
	}
	t.took()
	now := b.now()
	if now-sess.ExchangedAt >= sessionGiveUp {
		_ = b.Store.PostponeSession(t.ctx, hash, sess.Todo, "")
		return
	}
	rep, err := b.driver.Finish(t.ctx, sess)
	if err != nil {
		b.Log.Warn("finish session", "integration", sess.Integration, "error", err.Error())
	} else if rep.Outcome != refresh.IdentityPending && rep.Outcome != refresh.Unfinished {
		return
	}
	wait := min(max(60, (now-sess.ExchangedAt)/4), 600)
	_ = b.Store.PostponeSession(t.ctx, hash, sess.Todo, schedule.TodoPartition(hash, now+wait))
}

// tendCircuits probes the open circuits whose time has come, with one connection
// each, and walks the slots that were missed by those that have closed.
func (b *Broker) tendCircuits(ctx context.Context, t *ticking, minute int64) error {
	var group sync.WaitGroup
	var mu sync.Mutex
	var failed []error       // guarded by mu
	open := map[string]int{} // circuits, by integration; guarded by mu
	for n := range b.Settings.Integrations {
		i := &b.Settings.Integrations[n]
		open[i.Name] = 0
		for k := range i.Clients {
			group.Go(func() { // a probe may hang
				is, err := b.tendCircuit(ctx, t, i, &i.Clients[k], minute)
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, err)
				if is {
					open[i.Name]++
				}
			})
		}
	}
	group.Wait()
	for name, n := range open {
		b.measure(metric.CircuitsOpen, name, "", float64(n))
	}
	return errors.Join(failed...)
}

// tendCircuit reports whether the client's circuit is open afterwards.
func (b *Broker) tendCircuit(ctx context.Context, t *ticking, i *config.Integration, c *config.Client, minute int64) (open bool, err error) {
	gen, err := b.Secrets.Generation(ctx, c)
	if err != nil {
		b.Log.Warn("client secret", "integration", i.Name, "client", c.Name, "error", err.Error())
		return false, nil // it stays suspended; the slots of the others go on
	}
	client := circuit.Client{Integration: i.Name, Name: c.Name, Generation: gen}
	status, err := b.circuits.Status(ctx, client)
	if err != nil {
		return false, err
	}
	if status.Open {
		if took, err := b.circuits.TakeProbe(ctx, client); err != nil || !took {
			return true, err
		}
		b.probe(ctx, i, c, client)
		if status, err = b.circuits.Status(ctx, client); err != nil || status.Open {
			return true, err
		}
	}
	if status.WalkFrom == 0 || status.PausedUntil > b.now() {
		return false, nil
	}
	err = inParallel(schedule.Walk(status.WalkFrom-1, minute), func(p string) error { return t.walk(p, i.Name) })
	if err != nil {
		return false, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.walked = append(t.walked, walked{client, status})
	return false, nil
}

// probe sends one refresh through an open circuit: of any active connection of the
// client, another one each time, since the one before may have been at fault itself.
func (b *Broker) probe(ctx context.Context, i *config.Integration, c *config.Client, client circuit.Client) {
	page, err := b.Store.Connections.Query(ctx, item.Query{
		Index: item.IndexByIntegration, Hash: i.Name, Prefix: string(connection.Active) + "#", Limit: tickPage,
	})
	if err != nil {
		return
	}
	for _, n := range rand.Perm(len(page.Keys)) {
		rec, err := b.Store.Get(ctx, page.Keys[n])
		if err != nil || rec.ClientID != c.ClientID || !rec.Refreshable() {
			continue
		}
		if b.refreshOne(ctx, refresh.Input{ID: rec.ID, Why: refresh.Forced, Probe: true}).Sent > 0 {
			return
		}
	}
	if err := b.circuits.GiveBack(ctx, client); err != nil {
		b.Log.Warn("circuit", "integration", i.Name, "error", err.Error())
	}
}

// audit goes on with the walk that looks at every connection once a day and files those
// anew that the schedule has lost: index rows that never came, a period that no longer
// fits the life, or a token that has run out though nothing is filed for it. It returns
// how far it came, which counts once everything that it began has ended.
func (b *Broker) audit(ctx context.Context, t *ticking, before connection.Audit) (connection.Audit, error) {
	at := before
	if at.After == "" {
		day := t.minute / auditEvery
		if at.Day == day {
			return at, nil
		}
		at.Day = day
	}
	for range auditPages {
		page, err := b.Store.Connections.Scan(ctx, at.After, tickPage)
		if errors.Is(err, item.ErrBadCursor) { // of another store: this table was moved
			return connection.Audit{}, nil
		} else if err != nil {
			return before, err
		}
		for _, id := range page.Keys {
			if validID(id, "conn_") {
				t.aside(id, func() { b.auditOne(t, id) })
			}
		}
		if !t.timeLeft() { // some of the page may not have been begun
			break
		}
		before = connection.Audit{Day: at.Day, After: page.Next}
		if at = before; at.After == "" {
			break
		}
	}
	return before, nil
}

func (b *Broker) auditOne(t *ticking, id string) {
	rec, err := b.Store.Get(t.ctx, id)
	if err == nil && len(rec.Outbox.Waiting) > 0 && b.events != nil {
		_, err = b.events.Resume(t.ctx, id) // should the tick's list have lost it
	}
	if err != nil || rec.Status != connection.Active || (rec.Refresh == "" && rec.Grant != string(provider.GrantClientCredentials)) {
		return
	}
	i, ok := b.Settings.Integration(rec.Integration)
	if !ok {
		return
	}
	b.warn(t.ctx, i, rec)
	now := b.now()
	want := b.plan(i).Partition(rec.ID, rec.Life())
	waiting := rec.RetryAt > now-hour && rec.Sched == schedule.RetryPartition(rec.ID, rec.RetryAt)
	if want != rec.Sched && !waiting {
		if _, err := b.Store.Write(t.ctx, id, connection.Reschedule{Gen: rec.Gen, Old: rec.Sched, Sched: want}); err != nil {
			b.Log.Warn("audit", "connection", id, "error", err.Error())
		}
		b.Log.Info("audit", "connection", id, "from", rec.Sched, "to", want)
	}
	if want != "" && want != schedule.Timer && !b.plan(i).ForIdle() && rec.ExpiresAt != 0 && rec.ExpiresAt < now {
		t.enqueue(job{id: id, integration: rec.Integration, minute: t.minute, why: refresh.Slot})
	}
}
