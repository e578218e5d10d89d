package refresh_test

import (
	"math/rand/v2"
	"testing"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/schedule"
	"github.com/evergrant/evergrant/internal/secret"
)

// next is refresh.Next, or a planted mistake around it: last is the effect whose result r is.
type next func(last refresh.Effect, s refresh.State, r refresh.Result) (refresh.State, refresh.Effect)

func faithful(_ refresh.Effect, s refresh.State, r refresh.Result) (refresh.State, refresh.Effect) {
	return refresh.Next(s, r)
}

// event is one effect and what came of it.
type event struct {
	effect refresh.Effect
	result refresh.Result
}

// run drives a machine to its end; env says what comes of each effect.
func run(step next, in refresh.Input, start int64, env func(refresh.Effect) refresh.Result) []event {
	var trace []event
	s, r, last := refresh.Begin(in), refresh.Result{Now: start}, refresh.Effect{}
	for range 200 {
		var e refresh.Effect
		s, e = step(last, s, r)
		if e.Kind == refresh.EffectDone {
			return append(trace, event{effect: e})
		}
		r, last = env(e), e
		trace = append(trace, event{e, r})
	}
	return trace
}

const (
	start   = int64(1_772_366_400_000) // ms
	attempt = "mine"
)

func profileOf(name string) provider.Profile {
	if name == "unknown" {
		return provider.Entry{}.Profile(provider.GrantRefreshToken)
	}
	facts, _ := profile(name)
	return provider.Entry{Refresh: facts}.Profile(provider.GrantRefreshToken)
}

func coreAt(now int64) connection.Core {
	return connection.Core{
		ID: "conn_1", Grant: "authorization_code", Status: connection.Active, Gen: 7, TokGen: 7, Access: "a", Refresh: "r",
		IssuedAt: now - 1800, ExpiresAt: now + 1800,
	}
}

// The outcomes by profile, row by row: of one attempt that finds the connection so, and
// gets this answer (the second one to a resend).
func TestOutcomesByProfile(t *testing.T) {
	now := start / 1000
	ok := provider.Answer{Verdict: provider.VerdictOK, AccessToken: secret.New("n"), RefreshToken: secret.New("m")}
	busy := provider.Answer{Verdict: provider.VerdictRetry, RetryAfter: provider.NoRetryAfter}
	lost := provider.Answer{Verdict: provider.VerdictRetry, ResponseLost: true, RetryAfter: provider.NoRetryAfter}
	half := provider.Answer{Verdict: provider.VerdictMalformed, ResponseLost: true}
	refused := provider.Answer{Verdict: provider.VerdictNeedsReauth}
	client := provider.Answer{Verdict: provider.VerdictConfigError}
	type c = connection.Core
	fresh := func(*c) {}
	crashed := func(c *c) {
		c.Attempt = connection.Attempt{ID: "gone", BaseGen: 7, LeaseUntil: now - 5, Since: now - 90}
	}
	doubt := func(c *c) { c.DoubtAt, c.DoubtSent = now-100, now-110 }
	old := func(c *c) { c.DoubtAt, c.DoubtSent, c.ExpiresAt = now-400, now-410, now-1 }
	const (
		saved, later, lostIt, verdict, held, park, refusal = refresh.Saved, refresh.NotActed, refresh.Doubted, refresh.Verdict, refresh.HeldBack, refresh.Parked, refresh.Refused
	)
	columns := []string{"none", "immediate", "on_use", "grace", "family", "unknown"}
	for _, row := range []struct {
		name   string
		found  func(*c)
		answer []provider.Answer
		want   [6]refresh.Outcome
	}{
		{"ok", fresh, []provider.Answer{ok}, [6]refresh.Outcome{saved, saved, saved, saved, saved, saved}},
		{"retry, not acted", fresh, []provider.Answer{busy}, [6]refresh.Outcome{later, later, later, later, later, later}},
		{"lost answer", fresh, []provider.Answer{lost, lost}, [6]refresh.Outcome{lostIt, lostIt, lostIt, lostIt, lostIt, lostIt}},
		{"malformed answer", fresh, []provider.Answer{half, half}, [6]refresh.Outcome{lostIt, lostIt, lostIt, lostIt, lostIt, lostIt}},
		{"lost answer, resent", fresh, []provider.Answer{lost, ok}, [6]refresh.Outcome{lostIt, lostIt, lostIt, saved, lostIt, lostIt}},
		{"lost answer, the resend refused", fresh, []provider.Answer{lost, refused}, [6]refresh.Outcome{lostIt, lostIt, lostIt, held, lostIt, lostIt}},
		{"refused client", fresh, []provider.Answer{client}, [6]refresh.Outcome{refusal, refusal, refusal, refusal, refusal, refusal}},
		{"in doubt, sent again", doubt, []provider.Answer{ok}, [6]refresh.Outcome{saved, saved, saved, park, park, park}},
		{"crash found", crashed, []provider.Answer{ok}, [6]refresh.Outcome{saved, saved, saved, park, park, park}},
		{"crash found, refused", crashed, []provider.Answer{refused}, [6]refresh.Outcome{held, held, held, park, park, park}},
		{"invalid_grant, no doubt", fresh, []provider.Answer{refused}, [6]refresh.Outcome{verdict, verdict, verdict, verdict, verdict, verdict}},
		{"invalid_grant, doubt", doubt, []provider.Answer{refused}, [6]refresh.Outcome{held, held, held, park, park, park}},
		{"invalid_grant, old doubt", old, []provider.Answer{refused}, [6]refresh.Outcome{verdict, verdict, verdict, verdict, verdict, verdict}},
	} {
		for i, column := range columns {
			core := coreAt(now)
			row.found(&core)
			answers := row.answer
			trace := run(faithful, refresh.Input{ID: core.ID, Why: refresh.Forced, Attempt: attempt}, start, func(e refresh.Effect) refresh.Result {
				r := refresh.Result{Now: start, Left: 60_000, Found: true, Applied: true, Core: core}
				switch e.Kind {
				case refresh.EffectRead:
					r.Facts = refresh.Facts{ClientKnown: true, Profile: profileOf(column), SendTime: refresh.SendTime, Horizon: refresh.Horizon}
				case refresh.EffectClaim:
					core.Attempt = e.Claim.Attempt
					if e.Claim.Over != "" && core.DoubtAt == 0 {
						core.DoubtAt, core.DoubtSent = e.Claim.Now, e.Claim.Sent
					}
					r.Core = core
				case refresh.EffectSend:
					r.Answer, answers = answers[0], answers[1:]
				}
				return r
			})
			if got := trace[len(trace)-1].effect.Outcome; got != row.want[i] {
				t.Errorf("%s, %s: outcome %d, want %d", row.name, column, got, row.want[i])
			}
		}
	}
}

// A verdict in doubt blames nobody; one without doubt says revoked.
func TestBackoff(t *testing.T) {
	now := start / 1000
	for _, c := range []struct {
		failures, expires int64
		jitter            float64
		want              int64
	}{
		{0, 0, 0, 1},
		{0, 0, 0.999, 15},
		{3, 0, 0.999, 120},
		{50, 0, 0.999, 900},
		{50, now + 1200, 0.999, 900},
		{50, now + 400, 0.999, 250},
		{50, now - 10, 0.999, 900},
	} {
		core := coreAt(now)
		core.Failures, core.ExpiresAt = c.failures, c.expires
		if c.expires != 0 {
			core.IssuedAt = c.expires - 1800
		}
		trace := run(faithful, refresh.Input{ID: core.ID, Why: refresh.Forced, Attempt: attempt, Jitter: c.jitter}, start, func(e refresh.Effect) refresh.Result {
			r := refresh.Result{Now: start, Left: 60_000, Found: true, Applied: true, Core: core}
			r.Facts = refresh.Facts{ClientKnown: true, Profile: profileOf("none"), SendTime: refresh.SendTime, Horizon: refresh.Horizon}
			r.Answer = provider.Answer{Verdict: provider.VerdictRetry, RetryAfter: provider.NoRetryAfter}
			return r
		})
		later := trace[len(trace)-2].effect.Later
		if got := later.RetryAt - now; got != c.want || later.Sched != schedule.RetryPartition(core.ID, later.RetryAt) {
			t.Errorf("%+v: put off by %d s to %s", c, got, later.Sched)
		}
	}
}

// random is an environment that answers as any store, provider and neighbour might.
type random struct {
	*rand.Rand
	now  int64
	core connection.Core
}

func (x *random) one(of ...int64) int64 { return of[x.IntN(len(of))] }

func (x *random) flip() bool { return x.IntN(2) == 0 }

func newRandom(seed uint64) *random {
	x := &random{Rand: rand.New(rand.NewPCG(seed, 1)), now: start}
	now := start / 1000
	x.core = coreAt(now)
	x.core.ExpiresAt = now + x.one(-100, 300, 1800)
	x.core.DoubtAt = x.one(0, 0, now-10, now-1000)
	x.core.DisconnectGen = x.one(0, 9)
	if x.core.DoubtAt != 0 {
		x.core.DoubtSent = x.one(0, x.core.DoubtAt-20)
	}
	if x.flip() {
		x.core.Attempt = connection.Attempt{ID: "other", BaseGen: 7, LeaseUntil: now + x.one(-50, 20), Since: now - 100}
	}
	if x.IntN(6) == 0 {
		x.core.Status = connection.Connecting
	}
	return x
}

func (x *random) answer() provider.Answer {
	switch x.IntN(7) {
	case 0, 1:
		return provider.Answer{Verdict: provider.VerdictOK, AccessToken: secret.New("n"), RefreshToken: secret.New("m"), RefreshTokenArrived: true}
	case 2:
		return provider.Answer{Verdict: provider.VerdictRetry, RetryAfter: x.one(provider.NoRetryAfter, 60)}
	case 3:
		return provider.Answer{Verdict: provider.VerdictRetry, ResponseLost: true, RetryAfter: provider.NoRetryAfter}
	case 4:
		return provider.Answer{Verdict: provider.VerdictMalformed, ResponseLost: true, RefreshTokenArrived: x.flip()}
	case 5:
		return provider.Answer{Verdict: provider.VerdictConfigError}
	}
	return provider.Answer{Verdict: provider.VerdictNeedsReauth}
}

func (x *random) perform(e refresh.Effect) refresh.Result {
	x.now += x.one(0, 100, 5000)
	r := refresh.Result{Now: x.now, Left: x.one(1000, 20_000, 31_000, 60_000), Found: true, Core: x.core, Failed: x.IntN(5) == 0}
	switch e.Kind {
	case refresh.EffectRead:
		names := []string{"none", "immediate", "on_use", "grace", "family", "unknown"}
		p := profileOf(names[x.IntN(len(names))])
		p.RevokePerToken = x.flip()
		r.Facts = refresh.Facts{
			ClientKnown: x.IntN(9) != 0, CircuitOpen: x.IntN(5) == 0, Profile: p, SendTime: refresh.SendTime, Horizon: refresh.Horizon, Epoch: x.one(0, 0, 1),
		}
	case refresh.EffectClaim:
		return x.claim(e, r)
	case refresh.EffectSend:
		r.Failed, r.Answer, r.Brake = false, x.answer(), x.IntN(6) == 0
	case refresh.EffectSave:
		r.Applied = !r.Failed && x.flip()
		r.Found = x.IntN(6) != 0
		r.Core.SaveID = []string{"", attempt, "another"}[x.IntN(3)]
		r.Core.Status = []connection.Status{connection.Active, connection.NeedsReauth, connection.Disconnected}[x.IntN(3)]
		if x.flip() {
			r.Core.Reason = connection.Superseded
		}
	}
	return r
}

// claim may find that a neighbour was there first, or left a doubt since the read.
func (x *random) claim(e refresh.Effect, r refresh.Result) refresh.Result {
	if x.IntN(4) == 0 {
		x.core.DoubtAt = x.now / 1000
	}
	if x.core.DoubtAt == 0 && (e.Claim.Over != "" || e.Claim.Older) {
		x.core.DoubtAt, x.core.DoubtSent = e.Claim.Now, e.Claim.Sent
	}
	r.Core = x.core
	switch x.IntN(4) {
	case 0: // a neighbour was faster
		r.Core.Attempt = connection.Attempt{ID: "neighbour"}
	case 1: // our own repeat
		r.Core.Attempt = e.Claim.Attempt
	default:
		r.Applied, r.Core.Attempt = true, e.Claim.Attempt
	}
	x.core.Attempt = r.Core.Attempt
	return r
}

// violated names the first rule that a trace breaks, "" for none.
func violated(trace []event) string {
	var (
		facts           refresh.Facts
		seen, core      connection.Core // as read, as claimed
		found           connection.Core // by a refused save
		claimed, ready  bool
		sends           int
		lost, refusedUs bool
		answer, before  refresh.Result
		rescues         int
		own, saved      bool
	)
	for _, ev := range trace {
		e, r := ev.effect, ev.result
		switch e.Kind {
		case refresh.EffectRead:
			facts, seen, core = r.Facts, r.Core, r.Core
		case refresh.EffectPrepare:
			ready = !r.Failed && r.Left >= refresh.SendTime+refresh.SaveTime+refresh.RescueTime+refresh.Slack
		case refresh.EffectClaim:
			if e.Claim.Gen != seen.Gen || e.Claim.Over != seen.Attempt.ID || e.Claim.Older != (seen.RestoreEpoch < facts.Epoch) {
				return "a claim is for what was read"
			}
			claimed = !r.Failed && (r.Applied || r.Core.Attempt.ID == attempt)
			core, refusedUs = r.Core, claimed && !r.Applied
		case refresh.EffectSend:
			rotates := facts.Profile.Rotation != provider.RotationNone
			wait := max(core.DoubtAt+facts.Horizon, core.ExpiresAt-600)
			switch {
			case !ready:
				return "nothing is sent without time and key"
			case rotates && !claimed:
				return "nothing is sent without a claim"
			case facts.Profile.LostAnswer == provider.Wait && core.DoubtAt != 0 && before.Now/1000 < wait:
				return "a token in doubt is not sent promptly where that may end the grant"
			case sends > 0 && (facts.Profile.LostAnswer != provider.GraceResend || !lost):
				return "nothing is sent twice but a lost answer in grace"
			case sends > 0 && answer.Left < refresh.SendTime+refresh.SaveTime+refresh.RescueTime:
				return "a resend needs a whole attempt's time"
			}
			sends++
			answer = r
			lost = lost || r.Answer.ResponseLost && r.Answer.Verdict != provider.VerdictOK
		case refresh.EffectSave:
			if answer.Answer.Verdict != provider.VerdictOK && !answer.Answer.RefreshTokenArrived {
				return "only an answer is saved"
			}
			own = !r.Failed && !r.Applied && r.Found && r.Core.SaveID == attempt
			saved = !r.Failed && (r.Applied || own)
			found = r.Core
			if !r.Found {
				found = connection.Core{}
			}
		case refresh.EffectRescue:
			rescues++
		case refresh.EffectRevoke:
			superseded := found.Status == connection.Disconnected && found.Reason == connection.Superseded
			perToken := facts.Profile.RevokePerToken && seen.Gen < found.DisconnectGen
			if own || superseded || (found.Status != connection.Disconnected && found.Status != "" && !perToken) {
				return "a loser revokes nothing"
			}
		case refresh.EffectVerdict:
			doubt := core.DoubtAt != 0 || lost
			switch {
			case answer.Answer.Verdict != provider.VerdictNeedsReauth:
				return "only a refusal is a verdict"
			case (answer.Brake || facts.CircuitOpen) && core.Status != connection.Connecting:
				return "no verdict in a storm or by a probe"
			case e.Verdict.Reason == connection.Revoked && doubt:
				return "what is in doubt was not revoked for certain"
			case e.Verdict.Reason == connection.LostResponse && (core.DoubtAt == 0 || answer.Now/1000 < core.DoubtAt+refresh.Horizon):
				return "no verdict in doubt before the horizon"
			case claimed && e.Verdict.Attempt != attempt, e.Verdict.Gen != seen.Gen:
				return "a verdict asks for the attempt and the generation"
			}
		case refresh.EffectLater:
			if lost && claimed && e.Later.Doubt == 0 {
				return "a lost answer is a doubt"
			}
			if answer.Answer.Verdict == provider.VerdictConfigError && e.Later.Failed {
				return "a refused client is no failure of the connection"
			}
			if answer.Answer.Verdict != provider.VerdictOK && answer.Answer.RefreshTokenArrived && answer.Answer.ResponseLost {
				return "a refresh token that came is saved"
			}
		case refresh.EffectDone:
			switch {
			case refusedUs && e.Outcome == refresh.Busy:
				return "a claim refused by itself is ours"
			case own && e.Outcome != refresh.Saved && e.Outcome != refresh.Doubted:
				return "a save refused by itself is ours"
			case e.Outcome == refresh.Saved && !saved:
				return "nothing is done before it is saved"
			case e.Outcome == refresh.LostTokens && rescues == 0:
				return "nothing is lost without a rescue"
			}
		}
		if e.Kind != refresh.EffectSend {
			before = r
		}
	}
	return ""
}

// traces runs random attempts until one breaks a rule.
func traces(step next, n int) (broken string) {
	for seed := range uint64(n) {
		x := newRandom(seed)
		in := refresh.Input{ID: x.core.ID, Why: refresh.Forced, Attempt: attempt, Probe: x.flip()}
		if broken = violated(run(step, in, x.now, x.perform)); broken != "" {
			return broken
		}
	}
	return ""
}

func TestRandomAttemptsKeepTheRules(t *testing.T) {
	if broken := traces(faithful, 100_000); broken != "" {
		t.Fatalf("broken: %s", broken)
	}
}

// Each mistake is planted around the machine; the rules must notice it.
func TestPlantedMistakesAreNoticed(t *testing.T) {
	after := func(kind refresh.Kind, change func(*refresh.Result)) next {
		return func(last refresh.Effect, s refresh.State, r refresh.Result) (refresh.State, refresh.Effect) {
			if last.Kind == kind {
				change(&r)
			}
			return refresh.Next(s, r)
		}
	}
	before := func(kind refresh.Kind, change func(*refresh.Effect)) next {
		return func(_ refresh.Effect, s refresh.State, r refresh.Result) (refresh.State, refresh.Effect) {
			s, e := refresh.Next(s, r)
			if e.Kind == kind {
				change(&e)
			}
			return s, e
		}
	}
	for name, mistake := range map[string]next{
		"doubt taken from the read": func(last refresh.Effect, s refresh.State, r refresh.Result) (refresh.State, refresh.Effect) {
			if last.Kind == refresh.EffectClaim {
				r.Core.DoubtAt = s.Core.DoubtAt
			}
			return refresh.Next(s, r)
		},
		"expired attempt ignored":           after(refresh.EffectRead, func(r *refresh.Result) { r.Core.Attempt = connection.Attempt{} }),
		"restored table taken as current":   after(refresh.EffectRead, func(r *refresh.Result) { r.Facts.Epoch = 0 }),
		"429 taken for revoked":             after(refresh.EffectSend, func(r *refresh.Result) { busyIsRevoked(&r.Answer) }),
		"lost answer taken for not acted":   after(refresh.EffectSend, func(r *refresh.Result) { r.Answer.ResponseLost = false }),
		"lost answer not marked":            before(refresh.EffectLater, func(e *refresh.Effect) { e.Later.Doubt = 0 }),
		"verdict before the horizon":        after(refresh.EffectRead, func(r *refresh.Result) { r.Facts.Horizon = 0 }),
		"prompt replay where families end":  after(refresh.EffectRead, func(r *refresh.Result) { r.Facts.Profile.LostAnswer = provider.SendNow }),
		"sent with too little time left":    after(refresh.EffectPrepare, func(r *refresh.Result) { r.Left = 1 << 40 }),
		"resent with too little time left":  after(refresh.EffectSend, func(r *refresh.Result) { r.Left = 1 << 40 }),
		"data key fetched after the send":   after(refresh.EffectPrepare, func(r *refresh.Result) { r.Failed = false }),
		"claim without generation":          before(refresh.EffectClaim, func(e *refresh.Effect) { e.Claim.Gen = 0 }),
		"verdict without attempt":           before(refresh.EffectVerdict, func(e *refresh.Effect) { e.Verdict.Attempt = "" }),
		"item as found unread at a claim":   after(refresh.EffectClaim, func(r *refresh.Result) { r.Found = r.Applied }),
		"item as found unread at a save":    after(refresh.EffectSave, func(r *refresh.Result) { r.Core.SaveID = "" }),
		"storm brake ignored":               after(refresh.EffectSend, func(r *refresh.Result) { r.Brake = false }),
		"probe's refusal taken for revoked": after(refresh.EffectRead, func(r *refresh.Result) { r.Facts.CircuitOpen = false }),
		"loser revokes":                     instead(refresh.Overtaken, refresh.Effect{Kind: refresh.EffectRevoke}),
		"refresh token of a bad answer dropped": after(refresh.EffectSend, func(r *refresh.Result) {
			r.Answer.RefreshTokenArrived = false
		}),
		"exposed before it is saved": func(last refresh.Effect, s refresh.State, r refresh.Result) (refresh.State, refresh.Effect) {
			if last.Kind == refresh.EffectSend && r.Answer.Verdict == provider.VerdictOK {
				return s, refresh.Effect{Kind: refresh.EffectDone, Outcome: refresh.Saved}
			}
			return refresh.Next(s, r)
		},
		"no rescue": func(last refresh.Effect, s refresh.State, r refresh.Result) (refresh.State, refresh.Effect) {
			if last.Kind == refresh.EffectSave && r.Failed {
				return s, refresh.Effect{Kind: refresh.EffectDone, Outcome: refresh.LostTokens}
			}
			return refresh.Next(s, r)
		},
		"sent without a claim": func(_ refresh.Effect, s refresh.State, r refresh.Result) (refresh.State, refresh.Effect) {
			s, e := refresh.Next(s, r)
			if e.Kind == refresh.EffectDone && e.Outcome == refresh.Busy {
				return s, refresh.Effect{Kind: refresh.EffectSend}
			}
			return s, e
		},
	} {
		if traces(mistake, 100_000) == "" {
			t.Errorf("%s: not noticed", name)
		}
	}
}

// instead does something where the machine would end with an outcome.
func instead(o refresh.Outcome, e refresh.Effect) next {
	return func(_ refresh.Effect, s refresh.State, r refresh.Result) (refresh.State, refresh.Effect) {
		s, done := refresh.Next(s, r)
		if done.Kind == refresh.EffectDone && done.Outcome == o {
			return s, e
		}
		return s, done
	}
}

func busyIsRevoked(a *provider.Answer) {
	if a.Verdict == provider.VerdictRetry && !a.ResponseLost {
		a.Verdict = provider.VerdictNeedsReauth
	}
}
