package modelcheck

import (
	"slices"
	"time"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/refresh"
)

type (
	nextFunc    = func(refresh.State, refresh.Result) (refresh.State, refresh.Effect)
	consentFunc = func(refresh.ConsentState, refresh.ConsentResult) (refresh.ConsentState, refresh.ConsentEffect)
)

// A Mistake is planted around the machines: around a call of Next, in a write as it
// is rendered, in what a machine is told, or in what the driver does with an effect.
// The zero Mistake is none.
type Mistake struct {
	Name string
	Text string
	// Scenario is a small one that shows it, or Timed where time does.
	Scenario Scenario
	Timed    Timed

	next    func(nextFunc) nextFunc
	consent func(consentFunc) consentFunc
	edit    func(w connection.Write, old item.Item, u item.Update) item.Update
	facts   func(*refresh.Facts)
	profile func(*provider.Profile) // as a disconnect is told

	wireRepeats, exposes, noRescue, opensAny, takesAnyway, busyIsDone bool
}

// Mistakes are the mistakes that the check must catch, each with the smallest
// scenario that was found to show it.
func Mistakes() []Mistake {
	return slices.Concat(claimMistakes(), saveMistakes(), verdictMistakes(), otherMistakes(), timedMistakes())
}

func claimMistakes() []Mistake {
	return []Mistake{
		{
			Name: "M_NOGEN", Text: "a claim that does not ask for the generation",
			Scenario: Scenario{Mode: Immediate, Rounds: 1},
			edit: onWrite(func(_ connection.Claim, _ item.Item, u item.Update) item.Update {
				return without(u, "gen")
			}),
		},
		{
			Name: "M_NOBASE", Text: "an expired attempt is taken over as if nothing had been sent",
			Scenario: Scenario{Mode: Immediate, Rounds: 1},
			edit: onWrite(func(_ connection.Claim, _ item.Item, u item.Update) item.Update {
				return unset(u, "doubt_at")
			}),
		},
		{
			Name: "M_DOUBTREAD", Text: "the doubt of the read, not of the item that the claim returned",
			Scenario: Scenario{Mode: Immediate, Rounds: 1, Faults: 1},
			next: onClaim(func(s refresh.State, r refresh.Result) refresh.Result {
				if s.Core.Attempt.ID == "" {
					r.Core.DoubtAt = s.Core.DoubtAt
				}
				return r
			}),
		},
		{
			Name: "M_ALLOLD", Text: "a claim that its own repeat refused is taken for somebody else's",
			Scenario: Scenario{Mode: Immediate, Rounds: 1, Faults: 1},
			next: onClaim(func(_ refresh.State, r refresh.Result) refresh.Result {
				if !r.Applied {
					r.Core.Attempt.ID = "another"
				}
				return r
			}),
		},
		{
			Name: "M_RESTORE", Text: "a restored table is refreshed as if it were current",
			Scenario: Scenario{Mode: Immediate, Rounds: 2, Workers: 1, Restore: true},
			next: func(next nextFunc) nextFunc {
				return func(s refresh.State, r refresh.Result) (refresh.State, refresh.Effect) {
					s, e := next(s, r)
					e.Claim.Older = false
					return s, e
				}
			},
		},
		{
			Name: "M_UNROTATE", Text: "the profile says that nothing rotates, so a connection that did is not claimed",
			Scenario: Scenario{Mode: Sometimes, Rounds: 1, Rotated: true},
			next: func(next nextFunc) nextFunc {
				return func(s refresh.State, r refresh.Result) (refresh.State, refresh.Effect) {
					r.Core.Rotates = false
					return next(s, r)
				}
			},
		},
	}
}

func saveMistakes() []Mistake {
	return []Mistake{
		{
			Name: "M_LEASE", Text: "a save that asks for its lease",
			Scenario: Scenario{Mode: Immediate, Rounds: 1},
			edit: onWrite(func(w connection.Save, _ item.Item, u item.Update) item.Update {
				u.If = append(u.If, item.Eq("attempt.id", w.SaveID))
				return u
			}),
		},
		{
			Name: "M_SAVEACTIVE", Text: "a save that asks for status active, and so cannot heal",
			Scenario: Scenario{Mode: Immediate, Rounds: 1, ShortHorizon: true},
			edit: onWrite(func(_ connection.Save, _ item.Item, u item.Update) item.Update {
				u.If = append(u.If, item.Eq("status", string(connection.Active)))
				return u
			}),
		},
		{
			Name: "M_EXPOSE", Text: "an access token is handed out before it is saved",
			Scenario: Scenario{Mode: OnUse, Rounds: 1}, exposes: true,
		},
		{
			Name: "M_SAVEID", Text: "a save that its own repeat refused: the tokens are revoked",
			Scenario: Scenario{Mode: Immediate, Rounds: 1, Faults: 1},
			next:     revokeInstead(refresh.Saved),
		},
		{
			Name: "M_LOSER", Text: "who was overtaken revokes its tokens",
			Scenario: Scenario{Mode: OnUse, Rounds: 1, RevokesGrant: true},
			next:     revokeInstead(refresh.Overtaken),
		},
		{
			Name: "M_DROPRT", Text: "no refresh token in the answer, so the stored one goes",
			Scenario: Scenario{Mode: None, Rounds: 1},
			edit: onWrite(func(w connection.Save, _ item.Item, u item.Update) item.Update {
				if !w.Rotated {
					u = unset(u, "rt")
					u.Remove = append(u.Remove, "rt")
				}
				return u
			}),
		},
		{
			Name: "M_STOREDISC", Text: "a save that does not mind a disconnect",
			Scenario: Scenario{Mode: Immediate, Rounds: 1, Disconnect: true},
			edit: onWrite(func(_ connection.Save, old item.Item, u item.Update) item.Update {
				if old.String("status") == string(connection.Disconnected) && old.Bytes("rt") != "" {
					u.If = nil
				}
				return u
			}),
		},
		{
			Name: "M_NORESCUE", Text: "the store does not answer, and the tokens are given up",
			Scenario: Scenario{Mode: Immediate, Rounds: 1, Faults: 1}, noRescue: true,
		},
		{
			Name: "M_RECONDUP", Text: "a reconnect that is written unfenced",
			Scenario: Scenario{Mode: Immediate, Rounds: 1, Faults: 1, Workers: 1, Consents: []Consent{{}}},
			edit: onWrite(func(_ connection.Consent, _ item.Item, u item.Update) item.Update {
				return without(u, "gen", "consent_seq")
			}),
		},
		{
			Name: "M_GENBUMP", Text: "a reconnect without a refresh token moves the generation",
			Scenario: Scenario{Mode: Immediate, Rounds: 1, Workers: 1, Identity: true, Consents: []Consent{{NoRefreshToken: true}}},
			edit: onWrite(func(w connection.ConsentAccess, old item.Item, u item.Update) item.Update {
				at, _ := unseal(w.Tokens.Access, place{})
				rt, _ := unseal(old.Bytes("rt"), place{})
				u = unset(u, "at")
				u.Set = append(
					u.Set, item.Put("gen", w.Gen+1), item.Put("tok_gen", w.Gen+1), item.Put("at", seal(at, place{"at", connectionID, w.Gen + 1})),
					item.Put("rt", seal(rt, place{"rt", connectionID, w.Gen + 1})))
				return u
			}),
		},
		{
			Name: "M_OPENANY", Text: "a value that was sealed for an older generation is opened",
			Scenario: Scenario{Mode: Immediate, Rounds: 2, Workers: 1, Tamper: true}, opensAny: true,
		},
	}
}

func verdictMistakes() []Mistake {
	return []Mistake{
		{
			Name: "M_BUSYREVOKED", Text: "a 429 is taken for a refusal",
			Scenario: Scenario{Mode: Immediate, Rounds: 1, Faults: 1},
			next: func(next nextFunc) nextFunc {
				return func(s refresh.State, r refresh.Result) (refresh.State, refresh.Effect) {
					if r.Answer.Verdict == provider.VerdictRetry && !r.Answer.ResponseLost {
						r.Answer.Verdict = provider.VerdictNeedsReauth
					}
					return next(s, r)
				}
			},
		},
		{
			Name: "M_BUSYCLEARS", Text: "a 429 clears the doubt",
			Scenario: Scenario{Mode: Immediate, Rounds: 2, Faults: 2},
			edit: onWrite(func(w connection.Later, _ item.Item, u item.Update) item.Update {
				if w.Doubt == 0 && w.Failed {
					u.Remove = append(u.Remove, "doubt_at", "doubt_sent")
				}
				return u
			}),
		},
		{
			Name: "M_LOSTREVOKED", Text: "a lost answer is not marked",
			Scenario: Scenario{Mode: Immediate, Rounds: 1, Faults: 1},
			edit: onWrite(func(w connection.Later, _ item.Item, u item.Update) item.Update {
				if w.Doubt != 0 {
					u = unset(u, "doubt_at", "doubt_sent")
				}
				return u
			}),
		},
		{
			Name: "M_VERDICTGEN", Text: "a verdict that does not ask for its attempt",
			Scenario: Scenario{Mode: Immediate, Rounds: 1},
			edit: onWrite(func(_ connection.Verdict, _ item.Item, u item.Update) item.Update {
				return without(u, "attempt.id")
			}),
		},
		{
			Name: "M_EARLY", Text: "a verdict in doubt before the horizon",
			Scenario: Scenario{Mode: Immediate, Rounds: 1},
			facts:    func(f *refresh.Facts) { f.Horizon = 0 },
		},
		{
			Name: "M_ERASE", Text: "needs_reauth takes the tokens away",
			Scenario: Scenario{Mode: Immediate, Rounds: 1, Revoke: true},
			edit: onWrite(func(_ connection.Verdict, _ item.Item, u item.Update) item.Update {
				u.Remove = append(u.Remove, "at", "rt")
				return u
			}),
		},
		{
			Name: "M_FAMREPLAY", Text: "a token in doubt is sent at once where reuse ends the grant",
			Scenario: Scenario{Mode: Family, Rounds: 1},
			facts:    func(f *refresh.Facts) { f.Profile.LostAnswer = provider.SendNow },
		},
		{
			Name: "M_WIRE", Text: "the transport repeats a request whose answer was cut off",
			Scenario: Scenario{Mode: Immediate, Rounds: 1, Faults: 1}, wireRepeats: true,
		},
	}
}

func otherMistakes() []Mistake {
	return []Mistake{
		{
			Name: "M_TAKE", Text: "a code is exchanged by who did not get its session",
			Scenario:    Scenario{Mode: None, Status: absent, Consents: []Consent{{Fresh: true}, {Fresh: true}}},
			takesAnyway: true,
		},
		{
			Name: "M_SUPERSEDE", Text: "a connect supersedes without asking which is older",
			Scenario: Scenario{Mode: None, Status: absent, Identity: true, Consents: []Consent{{Fresh: true}, {Fresh: true, Session: 1, At: 1}}},
			edit: onWrite(func(_ connection.Supersede, _ item.Item, u item.Update) item.Update {
				return without(u, "consented_at")
			}),
		},
		{
			Name: "M_ACCOUNT", Text: "a reconnect does not look whose account it is",
			Scenario: Scenario{Mode: Immediate, Identity: true, Consents: []Consent{{NoRefreshToken: true, Account: 1}}},
			consent: func(next consentFunc) consentFunc {
				return func(s refresh.ConsentState, r refresh.ConsentResult) (refresh.ConsentState, refresh.ConsentEffect) {
					if r.Account.ID != "" {
						r.Account.ID = account(0)
					}
					return next(s, r)
				}
			},
		},
		{
			Name: "M_RECEIPT", Text: "a receipt that denies a refresh under way without looking",
			Scenario: Scenario{Mode: Immediate, Rounds: 1, Workers: 1, Disconnect: true},
			edit: onWrite(func(_ connection.Tombstone, _ item.Item, u item.Update) item.Update {
				return without(u, "attempt", "doubt_at")
			}),
		},
		{
			Name: "M_TOMBDUP", Text: "a tombstone that is written unfenced",
			Scenario: Scenario{Mode: Immediate, Disconnect: true, Faults: 1, Consents: []Consent{{}}},
			edit: onWrite(func(_ connection.Tombstone, _ item.Item, u item.Update) item.Update {
				return without(u, "disconnect_gen")
			}),
		},
		{
			Name: "M_PROOFMARK", Text: "a proof is sent without a mark",
			Scenario: Scenario{Mode: Immediate, Disconnect: true, RevokesNothing: true, Faults: 1},
			edit: onWrite(func(_ connection.Proving, _ item.Item, u item.Update) item.Update {
				return unset(u, "proving")
			}),
		},
		{
			Name: "M_NOPROOF", Text: "a revocation is believed without proof",
			Scenario: Scenario{Mode: Immediate, Disconnect: true, RevokesNothing: true},
			profile:  func(p *provider.Profile) { p.ProofSafe = false },
		},
	}
}

func timedMistakes() []Mistake {
	return []Mistake{
		{
			Name: "M_HORIZONSENT", Text: "the horizon is counted from the send, not from the doubt's discovery",
			Timed: Timed{Mode: Immediate, Life: 3600, Hours: 1, Faults: 2},
			next: func(next nextFunc) nextFunc {
				return func(s refresh.State, r refresh.Result) (refresh.State, refresh.Effect) {
					if r.Core.DoubtSent != 0 {
						r.Core.DoubtAt = r.Core.DoubtSent
					}
					return next(s, r)
				}
			},
		},
		{
			Name: "M_HORIZONSHORT", Text: "a horizon shorter than the rescue queue's pause",
			Timed: Timed{Mode: Immediate, Life: 3600, Hours: 1, Faults: 2},
			facts: func(f *refresh.Facts) { f.Horizon = redelivery / 2 },
		},
		{
			Name: "M_KEEPDOUBT", Text: "a takeover keeps the date of an older doubt",
			Timed: Timed{Mode: Family, Life: 3600, Hours: 1, Faults: 2},
			edit: onWrite(func(w connection.Claim, _ item.Item, u item.Update) item.Update {
				if w.Over != "" {
					u = unset(u, "doubt_at")
					u.Set = append(u.Set, item.Keep("doubt_at", w.Now))
				}
				return u
			}),
		},
		{
			Name: "M_BUSYDONE", Text: "the tick's cursor moves past a connection that was busy",
			Timed: Timed{Mode: Immediate, Life: 3600, Hours: 2, Faults: 1}, busyIsDone: true,
		},
	}
}

// onWrite edits the writes of one kind.
func onWrite[W connection.Write](edit func(W, item.Item, item.Update) item.Update) func(connection.Write, item.Item, item.Update) item.Update {
	return func(w connection.Write, old item.Item, u item.Update) item.Update {
		if w, ok := w.(W); ok {
			return edit(w, old, u)
		}
		return u
	}
}

// without leaves out the conditions on some paths.
func without(u item.Update, paths ...string) item.Update {
	u.If = slices.DeleteFunc(slices.Clone(u.If), func(c item.Cond) bool { return slices.Contains(paths, c.Path) })
	return u
}

// unset leaves out some assignments.
func unset(u item.Update, names ...string) item.Update {
	u.Set = slices.DeleteFunc(slices.Clone(u.Set), func(a item.Assign) bool { return slices.Contains(names, a.Name) })
	return u
}

// onClaim edits the result of a claim that was won: s is the state before, which holds
// the item as it was read.
func onClaim(edit func(refresh.State, refresh.Result) refresh.Result) func(nextFunc) nextFunc {
	return func(next nextFunc) nextFunc {
		return func(s refresh.State, r refresh.Result) (refresh.State, refresh.Effect) {
			to, e := next(s, r)
			if to.Claimed && !s.Claimed {
				return next(s, edit(s, r))
			}
			return to, e
		}
	}
}

// revokeInstead revokes the tokens of a refused save that ends so.
func revokeInstead(o refresh.Outcome) func(nextFunc) nextFunc {
	return func(next nextFunc) nextFunc {
		return func(s refresh.State, r refresh.Result) (refresh.State, refresh.Effect) {
			to, e := next(s, r)
			if e.Kind == refresh.EffectDone && e.Outcome == o && s.Outcome != o && !r.Applied {
				e = refresh.Effect{Kind: refresh.EffectRevoke}
			}
			return to, e
		}
	}
}

// Run explores the mistake's scenario with the mistake planted.
func (m Mistake) Run() Result {
	if m.Timed != (Timed{}) {
		return m.Timed.run(m, time.Time{})
	}
	return explore(m.Scenario, m, time.Time{})
}
