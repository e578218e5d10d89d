package simulate

import (
	"fmt"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/schedule"
	"github.com/evergrant/evergrant/internal/secret"
)

// worker drives refreshes over the fleet: half of those that run at once.
type worker struct {
	meter
	fleet   *fleet
	trouble Trouble
	lanes   lanes
	token   secret.Text

	late, catching Distribution
	outcomes       map[refresh.Outcome]int64
	perSecond      []int64
	perMinute      []int64  // greatest lateness, s
	expired        []expiry // of tokens that were replaced later
}

func newWorker(f *fleet, d Day) *worker {
	return &worker{
		meter: meter{indexes: item.ConnectionIndexes()}, fleet: f, trouble: d.Trouble, lanes: make(lanes, workers/lots*d.Processes),
		token: secret.New("token"), outcomes: map[refresh.Outcome]int64{},
		perSecond: make([]int64, d.Hours*3600), perMinute: make([]int64, d.Hours*60),
	}
}

// work refreshes its part of a tick's tasks and returns when the last one ended, ms.
func (w *worker) work(tasks []task, lot int, minute int64, catching bool) (int64, error) {
	clear(w.lanes)
	var end int64
	for k := lot; k < len(tasks); k += lots {
		t := tasks[k]
		one := refreshing{worker: w, task: t, now: max(t.at, w.lanes[0]), catchingUp: catching}
		if err := one.run(minute); err != nil {
			return 0, err
		}
		w.lanes.take(one.now)
		end = max(end, one.now)
	}
	return end, nil
}

// refreshing is one refresh: the driver of the step machine, over simulated effects.
type refreshing struct {
	*worker
	task
	now        int64 // ms
	catchingUp bool

	id      string
	item    item.Item
	size    int // of item
	attempt uint64
	began   int64 // ms: the last send
	answer  uint32
}

func (one *refreshing) packed() *packed { return &one.fleet.all[one.conn] }
func (one *refreshing) kind() Kind      { return one.fleet.kinds[one.packed().kind] }

// run takes the machine from effect to effect to its end.
func (one *refreshing) run(minute int64) error {
	one.id = identity(one.conn)
	one.attempt = mix(uint64(one.conn)<<32|uint64(one.packed().gen)) ^ uint64(one.now)
	in := refresh.Input{
		ID: one.id, Why: refresh.Slot, Minute: minute, Attempt: number(one.attempt), Jitter: chance(one.attempt, 3),
	}
	s, r := refresh.Begin(in), refresh.Result{Now: one.now}
	for {
		var e refresh.Effect
		s, e = refresh.Next(s, r)
		one.Steps++
		if e.Kind == refresh.EffectDone {
			one.outcomes[e.Outcome]++
			if e.Outcome == refresh.Fresh {
				return nil // nothing was written
			}
			return one.fleet.keep(one.conn, one.id, one.item)
		}
		var err error
		if r, err = one.perform(s, e); err != nil {
			return err
		}
		r.Now, r.Left = one.now, 1<<40
	}
}

func (one *refreshing) perform(s refresh.State, e refresh.Effect) (refresh.Result, error) {
	switch e.Kind {
	case refresh.EffectRead:
		return one.read()
	case refresh.EffectPrepare:
		return refresh.Result{}, nil
	case refresh.EffectPause:
		one.now += e.Pause
		return refresh.Result{}, nil
	case refresh.EffectClaim:
		return one.write(e.Claim)
	case refresh.EffectSend:
		return refresh.Result{Answer: one.send()}, nil
	case refresh.EffectSave:
		return one.save(s)
	case refresh.EffectPark, refresh.EffectLater:
		e.Later.Journal = one.journal(e.Note)
		return one.write(e.Later)
	case refresh.EffectVerdict:
		one.Reauth++
		e.Verdict.Journal = one.journal(e.Note)
		return one.write(e.Verdict)
	}
	return refresh.Result{}, fmt.Errorf("effect %d of connection %s has no place in this simulation", e.Kind, one.id)
}

// profile is what the catalogue would say of the simulated provider.
func (k Kind) profile() provider.Profile {
	if !k.Rotates {
		return provider.Profile{Grant: provider.GrantRefreshToken, Rotation: provider.RotationNone, LostAnswer: provider.SendNow, AfterGrace: provider.SendNow}
	}
	return provider.Profile{
		Grant: provider.GrantRefreshToken, Rotation: provider.RotationAlways, LostAnswer: provider.SendNow, AfterGrace: provider.SendNow, OldAccessDies: true,
	}
}

func (one *refreshing) read() (refresh.Result, error) {
	one.now += readTime
	one.item = one.fleet.item(one.conn, one.id)
	one.size = one.item.Size()
	rec, err := connection.FromItem(one.id, one.item)
	return refresh.Result{Found: true, Core: rec.Core, Facts: refresh.Facts{
		ClientKnown: true, Profile: one.kind().profile(), SendTime: refresh.SendTime, Horizon: refresh.Horizon,
	}}, err
}

// write applies a write of the protocol to the item.
func (one *refreshing) write(w connection.Write) (refresh.Result, error) {
	one.now += writeTime
	next, applied := w.Update().Apply(one.item)
	size := next.Size()
	one.meter.write(one.id, one.item, next, applied, one.size, size)
	one.item, one.size = next, size
	rec, err := connection.FromItem(one.id, next)
	return refresh.Result{Applied: applied, Found: true, Core: rec.Core}, err
}

func (one *refreshing) journal(o connection.Outcome) connection.Journal {
	return connection.Journal(one.item.Bytes("journal")).Add(connection.Entry{
		At: one.now / millisecond, Outcome: o, Gen: one.item.Int("gen"), Millis: one.now - one.began,
	})
}

// send is one request: the provider takes the newest refresh token, and the one before
// until the newest pair was used. Here a pair is used as soon as its answer came.
func (one *refreshing) send() provider.Answer {
	one.began = one.now
	one.Requests++
	one.time()
	p, sent := one.packed(), unsealed(one.item.Bytes("rt"))
	salt := uint64(one.Requests) ^ one.attempt
	one.now += latency(one.attempt, salt)
	answer := provider.Answer{RetryAfter: provider.NoRetryAfter, RefreshToken: one.token}
	switch one.trouble.fate(one.attempt, salt) {
	case turnedAway:
		one.NotActed++
		answer.Verdict, answer.RetryAfter = provider.VerdictRetry, 30
		return answer
	case lost:
		one.Lost++
		one.now = one.began + refresh.SendTime
		if one.kind().Rotates && (sent == p.live || sent == p.previous) {
			p.previous, p.live = sent, p.live+1
		}
		answer.Verdict, answer.ResponseLost = provider.VerdictRetry, true
		return answer
	}
	if sent != p.live && sent != p.previous {
		answer.Verdict, answer.Error = provider.VerdictNeedsReauth, "invalid_grant"
		return answer
	}
	answer.Verdict, answer.AccessToken, answer.TokenType, answer.ExpiresIn = provider.VerdictOK, one.token, "Bearer", one.kind().Life
	if one.kind().Rotates {
		p.previous, p.live = 0, p.live+1
		answer.RefreshTokenArrived = true
	}
	one.answer = p.live
	return answer
}

// time notes when a request began.
func (one *refreshing) time() {
	second := one.now/millisecond - dayBegin
	if second >= int64(len(one.perSecond)) {
		return // the last tick may end after the run
	}
	one.perSecond[second]++
	if one.slot == 0 {
		return
	}
	late := one.now/millisecond - one.slot
	one.perMinute[second/60] = max(one.perMinute[second/60], late)
	if one.catchingUp {
		one.catching.Add(late)
	} else {
		one.late.Add(late)
	}
}

// save stores the answer as the driver of package refresh does, but for the sealing.
func (one *refreshing) save(s refresh.State) (refresh.Result, error) {
	expires := one.item.Int("expires_at")
	sent := one.began / millisecond
	res, err := one.write(connection.Save{
		ID: one.id, Gen: s.Core.Gen, SaveID: number(one.attempt), Rotated: s.Answer.RefreshTokenArrived,
		Tokens: connection.Tokens{
			Access: sealed(uint32(s.Core.Gen) + 1), Refresh: sealed(one.answer), TokenID: number(uint64(s.Core.Gen) + 1), TokenType: s.Answer.TokenType,
			IssuedAt: sent, ExpiresAt: sent + s.Answer.ExpiresIn,
		},
		Sched: schedule.Plan{}.Partition(one.id, s.Answer.ExpiresIn), Doubt: s.Save.Doubt, Sent: s.Save.Sent,
		Now: one.now / millisecond, Journal: one.journal(connection.OutcomeSaved),
	})
	if res.Applied {
		one.Refreshes++
		if expires < one.now/millisecond {
			one.expired = append(one.expired, expiry{one.conn, expires})
		}
	}
	return res, err
}
