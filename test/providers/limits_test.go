package providers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/provider"
)

// profile is what is trusted of the entry.
func (a *act) profile() provider.Profile { return a.entry.Profile(provider.GrantAuthorizationCode) }

// toldLife is for how long, s, an access token is good as far as it is told: by the answer,
// which goes before the entry; 0 where neither tells.
func (a *act) toldLife() int64 {
	for _, quirk := range a.entry.ResponseQuirks {
		switch name, field, _ := strings.Cut(quirk, ":"); {
		case a.byHand:
		case name == "expires_in_missing", name == "expires_in_zero_means_never",
			name == "absolute_expiry_field" && !slices.Contains([]string{"expires_at", "expires_on"}, field):
			return a.entry.AccessTokenTTL
		}
	}
	return int64(a.life / time.Second)
}

// lives compares the end that is stored with what was told.
func (a *act) lives(id string) error {
	r, want := a.Record(id), a.toldLife()
	if want != 0 {
		want += r.IssuedAt
	}
	if r.ExpiresAt != want {
		return fmt.Errorf("the access token of %d ends at %d, by what was told at %d", r.IssuedAt, r.ExpiresAt, want)
	}
	return nil
}

// tooYoung has a caller report a token that the provider would not refresh yet.
func (a *act) tooYoung() error {
	if a.entry.MinimumTokenAge == 0 || !a.refreshes() {
		return nil
	}
	id, err := a.connect()
	if err != nil {
		return err
	}
	sent := a.Sim.Requests(a.id)
	if forced := a.Home.Force(id); brokertest.Code(forced) != broker.ProviderUnavailable {
		return fmt.Errorf("a token without age: %w", forced)
	}
	if now := a.Sim.Requests(a.id); now["refresh_token"]+now["other"] != sent["refresh_token"]+sent["other"] {
		return errors.New("a token without age was sent to be refreshed")
	}
	a.Advance(time.Duration(a.entry.MinimumTokenAge) * time.Second)
	return a.Home.Force(id)
}

// crowded has as many owners connect as the provider keeps refresh tokens of one user, and
// one more.
func (a *act) crowded() error {
	limit := int(a.entry.Refresh.ConcurrentLimit)
	if limit == 0 || !a.refreshes() || a.byHand {
		return nil
	}
	a.Sim.RevokeUser(a.id, "alice") // what was connected before counts too
	a.UserEnded()
	var ids []string
	for n := range limit + 1 {
		id, err := a.connectAs(fmt.Sprintf("owner-%d", n))
		if err != nil {
			return err
		}
		if ids = append(ids, id); n == limit-1 {
			a.fit()
			if err := a.Home.Force(ids[0]); err != nil {
				return fmt.Errorf("the oldest of %d: %w", limit, err)
			}
		}
	}
	a.fit()
	if err := a.endedFor(ids[0], a.Home.Force(ids[0])); err != nil {
		return fmt.Errorf("the oldest of %d: %w", limit+1, err)
	}
	return a.Home.Force(ids[1])
}

// runsOut lets a grant end by the time that it has: counted from the consent, however
// often it is used, and from its last use. Either is told before.
func (a *act) runsOut() error {
	p := a.profile()
	if a.byHand || !a.refreshes() || a.entry.Refresh.Credential != "" || p.AbsoluteLifetime+p.IdleLifetime == 0 {
		return nil // where an access token is its own refresh token, its own life counts
	}
	if p.AbsoluteLifetime > 0 {
		if err := a.ages(p); err != nil {
			return fmt.Errorf("absolute lifetime: %w", err)
		}
	}
	if p.IdleLifetime > 0 && (p.AbsoluteLifetime == 0 || p.IdleLifetime < p.AbsoluteLifetime) {
		if err := a.idles(p.IdleLifetime); err != nil {
			return fmt.Errorf("idle lifetime: %w", err)
		}
	}
	return nil
}

const dayS = 86400

// ages uses a grant to its very end.
func (a *act) ages(p provider.Profile) error {
	id, err := a.connect()
	if err != nil {
		return err
	}
	end := a.Record(id).ConsentedAt + p.AbsoluteLifetime
	if err := a.warned(a.Home, id, end, func(at int64) error { return a.useUntil(id, at, p.IdleLifetime) }); err != nil {
		return err
	}
	a.AdvanceTo(end - 60)
	if err := a.Home.Force(id); err != nil {
		return fmt.Errorf("a minute before its end: %w", err)
	}
	a.Advance(2 * time.Minute)
	return a.endedFor(id, a.Home.Force(id))
}

// useUntil refreshes a connection until a time, so that it never idles.
func (a *act) useUntil(id string, at, idle int64) error {
	for idle > 0 && a.Unix()+idle/2 < at {
		a.AdvanceTo(a.Unix() + idle/2)
		if err := a.Home.Force(id); err != nil {
			return fmt.Errorf("in use: %w", err)
		}
	}
	a.AdvanceTo(at)
	return nil
}

// idles uses a grant just in time, and then not at all.
func (a *act) idles(idle int64) error {
	id, err := a.connect()
	if err != nil {
		return err
	}
	for range 2 { // each use begins the time anew
		a.AdvanceTo(a.Record(id).IssuedAt + idle - 60)
		if err := a.Home.Force(id); err != nil {
			return fmt.Errorf("a minute before its end: %w", err)
		}
	}
	// The schedule uses it in time; where it may not, the end is told.
	quiet := *a.Settings
	quiet.Integrations = slices.Clone(quiet.Integrations)
	quiet.Integrations[0].Refresh = config.RefreshOnDemand
	unused := a.Start(a.secrets, func(c *broker.Config) { c.Settings = &quiet })
	end := a.Record(id).IssuedAt + idle
	if err := a.warned(unused, id, end, func(at int64) error { a.AdvanceTo(at); return nil }); err != nil {
		return err
	}
	a.AdvanceTo(end + 60)
	return a.endedFor(id, a.Home.Force(id))
}

// warned goes on to the last week before an end, or the last quarter of a shorter time,
// and looks whether it is told then, and not a day before. goOn moves the clock.
func (a *act) warned(by *brokertest.Process, id string, end int64, goOn func(at int64) error) error {
	v, err := by.Get(context.Background(), brokertest.Caller(), id)
	if err != nil {
		return err
	}
	if v.ReconnectBy != end {
		return fmt.Errorf("reconnect_by is %d, by the entry %d", v.ReconnectBy, end)
	}
	first := end - min(7*dayS, (end-a.Unix())/4)
	first += (dayS - first%dayS) % dayS // it is looked for at midnight
	if first-dayS <= a.Unix() {
		return nil // shorter than what is looked for once a day
	}
	for _, look := range []struct {
		at   int64
		told bool
	}{{first - dayS, false}, {first, true}} {
		if err := goOn(look.at); err != nil {
			return err
		}
		by.TickNow()
		if told := slices.Contains(a.Told(id), "connection.reconnect_soon"); told != look.told {
			return fmt.Errorf("%d s before its end reconnect_soon is told: %v", end-look.at, told)
		}
	}
	return nil
}

// endedFor judges a refresh of a grant that is no more.
func (a *act) endedFor(id string, forced error) error {
	r := a.Record(id)
	if len(a.entry.RetryStatus) > 0 {
		// This provider does not tell a dead grant from trouble of its own.
		if forced == nil || r.Status != connection.Active {
			return fmt.Errorf("it is %s %s: %w", r.Status, r.Reason, forced)
		}
		return nil
	}
	if r.Status != connection.NeedsReauth || brokertest.Code(forced) != broker.NeedsReauth {
		return fmt.Errorf("it is %s %s, not needs_reauth: %v", r.Status, r.Reason, forced)
	}
	return nil
}
