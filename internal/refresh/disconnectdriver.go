package refresh

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/schedule"
	"github.com/evergrant/evergrant/internal/secret"
)

// disconnecting is one run of the disconnect machine.
type disconnecting struct {
	*Driver
	in   DisconnectInput
	rec  connection.Record
	link Link
	cred provider.Credentials

	opened          bool
	access, refresh secret.Text
	err             error
}

// DisconnectReport is one disconnect that ended, or is pending.
type DisconnectReport struct {
	Outcome DisconnectOutcome
	Record  connection.Record // the receipt
	Err     error
}

// Disconnect ends a connection: tombstone, revocation at the provider, proof, and
// the tokens' erasure. Its provider calls end after within; what is left then is
// pending and taken up by the tick.
func (d *Driver) Disconnect(ctx context.Context, id string, within time.Duration) DisconnectReport {
	run := &disconnecting{Driver: d, in: DisconnectInput{ID: id, Until: d.ms() + within.Milliseconds()}}
	ctx = context.WithoutCancel(ctx)
	s, r := BeginDisconnect(run.in), DisconnectResult{Now: d.ms()}
	for {
		var e DisconnectEffect
		s, e = NextDisconnect(s, r)
		if e.Kind == DisconnectEnd {
			if d.Done != nil && run.rec.ID != "" {
				d.Done(Report{Record: run.rec, Outcome: NotRefreshed, Why: Forced})
			}
			return DisconnectReport{Outcome: e.Outcome, Record: run.rec, Err: run.err}
		}
		r = run.perform(ctx, s, e)
		r.Now = d.ms()
	}
}

func (run *disconnecting) perform(ctx context.Context, s DisconnectState, e DisconnectEffect) DisconnectResult {
	switch e.Kind {
	case DisconnectRevokeRefresh:
		return run.revoke(ctx, s, true)
	case DisconnectRevokeAccess:
		return run.revoke(ctx, s, false)
	case DisconnectProve:
		return run.prove(ctx, s)
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	now := run.ms() / 1000
	switch e.Kind {
	case DisconnectReadItem:
		return run.read(ctx)
	case DisconnectTombstone:
		return run.write(run.Store.Write(ctx, run.in.ID, connection.Tombstone{
			ID: run.in.ID, Reason: connection.ByRequest, Todo: schedule.TodoPartition(run.in.ID, now+60), Quiet: e.Quiet, Now: now,
			DisconnectGen: e.Fence,
			Journal:       run.rec.Journal.Add(connection.Entry{At: now, Outcome: connection.OutcomeDisconnected, Gen: run.rec.Gen}),
		}))
	case DisconnectTombstoneHeld:
		return run.write(run.Store.Write(ctx, run.in.ID, connection.TombstoneHeld{ID: run.in.ID, Now: now}))
	case DisconnectKeep:
		return run.keep(ctx, s, e)
	case DisconnectMark:
		return run.write(run.Store.Write(ctx, run.in.ID, connection.Proving{Gen: e.Gen}))
	case DisconnectErase:
		return run.write(run.Store.Write(ctx, run.in.ID, connection.Erase{
			Gen: e.Gen, Revocation: e.Revoked, Proof: e.Proof, InFlight: e.Loose, Untold: len(run.rec.Outbox.Waiting) > 0,
		}))
	case DisconnectPostpone:
		return run.write(run.Store.Write(ctx, run.in.ID, connection.Postpone{
			Gen: run.rec.Gen, Todo: schedule.TodoPartition(run.in.ID, now+postponed(now-run.rec.DisconnectedAt)), InFlight: e.Loose, Proven: e.Proven,
		}))
	}
	return DisconnectResult{Failed: true}
}

// postponed is how many seconds to wait before the next try, by how long it has been
// tried: soon at first, hourly after a day.
func postponed(since int64) int64 { return min(max(60, since/8), 3600) }

func (run *disconnecting) failed(err error) DisconnectResult {
	if err != nil {
		run.err = err
	}
	return DisconnectResult{Failed: err != nil}
}

func (run *disconnecting) read(ctx context.Context) DisconnectResult {
	rec, err := run.Store.Get(ctx, run.in.ID)
	switch {
	case errors.Is(err, connection.ErrNotFound):
		return DisconnectResult{}
	case err != nil:
		return run.failed(err)
	}
	run.rec = rec
	link, known, err := run.Links(ctx, rec.Integration, rec.ClientID, rec.Fields)
	if err != nil {
		run.err = err // the tombstone is written all the same; the revocation waits
	}
	if known {
		run.link = link
	}
	return DisconnectResult{Found: true, Core: rec.Core, Profile: profileOf(run.link.Entry, rec.Grant)}
}

func (run *disconnecting) write(res connection.Result, err error) DisconnectResult {
	if err != nil {
		return run.failed(err)
	}
	if res.Found {
		run.rec = res.Record
	}
	return DisconnectResult{Applied: res.Applied, Found: res.Found, Core: res.Record.Core, Profile: profileOf(run.link.Entry, res.Record.Grant)}
}

// open has the tokens and the client at hand, once.
func (run *disconnecting) open(ctx context.Context) error {
	if run.opened {
		return nil
	}
	if run.link.Credentials == nil {
		return fmt.Errorf("client of connection %s is not in the configuration: put it back so that its tokens can be revoked", run.in.ID)
	}
	err := run.loadKey(ctx) // a proof that succeeds must be sealed
	if err != nil {
		return err
	}
	if run.cred, err = run.link.Credentials(ctx); err != nil {
		return err
	}
	if run.rec.Access != "" {
		if run.access, err = run.Keys.Open(ctx, secret.PurposeToken, AccessPlace(run.rec.ID, run.rec.TokGen), []byte(run.rec.Access)); err != nil {
			return err
		}
	}
	if run.rec.Refresh != "" {
		if run.refresh, err = run.Keys.Open(ctx, secret.PurposeToken, RefreshPlace(run.rec.ID, run.rec.TokGen), []byte(run.rec.Refresh)); err != nil {
			return err
		}
	}
	run.opened = true
	return nil
}

func (run *disconnecting) revoke(ctx context.Context, s DisconnectState, refreshToken bool) DisconnectResult {
	if run.ms() >= s.In.Until {
		return DisconnectResult{Revoke: provider.RevokeRetry}
	}
	if err := run.open(ctx); err != nil {
		res := run.failed(err)
		res.Revoke = provider.RevokeRetry
		return res
	}
	token, hint := run.access, "access_token"
	if s.Fresh {
		token = s.Answer.AccessToken // the pair that the proof brought
	}
	if refreshToken {
		token, hint = run.refresh, "refresh_token"
		if s.Fresh {
			token = s.Answer.RefreshToken
		}
	}
	if token.IsZero() {
		return DisconnectResult{}
	}
	ctx, cancel := context.WithTimeout(ctx, revokeTime)
	defer cancel()
	return DisconnectResult{Revoke: run.Provider.Revoke(ctx, run.link.Entry, run.cred, token, hint)}
}

// prove sends the refresh token once: a refusal is the proof.
func (run *disconnecting) prove(ctx context.Context, s DisconnectState) DisconnectResult {
	token := run.refresh
	if s.Fresh {
		token = s.Answer.RefreshToken
	}
	ctx, cancel := context.WithTimeout(ctx, revokeTime)
	defer cancel()
	return DisconnectResult{Answer: run.Provider.Token(ctx, run.link.Entry, run.cred, refreshRequest(run.link, run.rec.Fields, token))}
}

// keep stores the pair that a proof brought, sealed as the spent pair was.
func (run *disconnecting) keep(ctx context.Context, s DisconnectState, e DisconnectEffect) DisconnectResult {
	t, err := run.sealTokens(run.rec.ID, run.rec.TokGen, s.Answer, 0)
	if err != nil {
		return run.failed(err)
	}
	return run.write(run.Store.Write(ctx, run.in.ID, connection.Proved{Gen: e.Gen, Access: t.Access, Refresh: t.Refresh}))
}
