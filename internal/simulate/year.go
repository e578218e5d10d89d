package simulate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/secret"
)

// Year is a simulation of the whole broker: its ticks, audits, circuits, sealing and
// token requests, over a table in memory and a provider without a network. Once in 30
// days the ticks stop for half an hour.
type Year struct {
	Connections int
	Days        int
}

// kinds are long lives for the most part: there are half a million ticks to be paid for.
func (y Year) kinds() []Kind { return kinds(4, 10, 986) }

const (
	yearBegin   = 29_600_000 * 60
	outageEvery = 30 * 24 * 60 // minutes
	yearOwner   = "tenant"
)

// yearRun is a year under way.
type yearRun struct {
	Year
	clock    atomic.Int64 // ms
	broker   *broker.Broker
	table    *Table
	provider *offline
	report   *Report
	expired  []int64 // when tokens ran out that were replaced later, unix s; the table's lock guards it
	outages  []outage
}

func (run *yearRun) now() time.Time { return time.UnixMilli(run.clock.Load()) }

// Run simulates the year.
func (y Year) Run() (*Report, error) {
	began := time.Now()
	run := &yearRun{Year: y, table: NewTable(item.ConnectionIndexes()), report: &Report{
		Name: fmt.Sprintf("%d days of the whole broker", y.Days), Connections: y.Connections, Span: time.Duration(y.Days) * 24 * time.Hour,
		Kinds: y.kinds(), Outcomes: map[string]int64{}, Assumptions: []string{
			"one process of 64 refreshes at once",
			"the provider answers in 50 to 200 ms, and the clock moves by a 64th of it",
			fmt.Sprintf("of a million requests %d turned away, %d answers lost", trouble.TurnedAway, trouble.Lost),
			fmt.Sprintf("a 30-minute outage every %d days", min(outageEvery/1440, y.Days)),
		},
	}}
	run.clock.Store(yearBegin * millisecond)
	if err := run.open(); err != nil {
		return nil, err
	}
	ctx := context.Background()
	if err := run.importAll(ctx); err != nil {
		return nil, err
	}
	if err := run.ticks(ctx); err != nil {
		return nil, err
	}
	run.finish()
	run.report.Took = time.Since(began)
	return run.report, nil
}

// open makes the broker.
func (run *yearRun) open() error {
	settings, err := run.settings()
	if err != nil {
		return err
	}
	run.provider = newOffline(run)
	run.table.changed = run.watch
	store := connection.Store{Connections: run.table, Authorizations: NewTable(item.AuthorizationIndexes())}
	resolve := func(context.Context, config.SecretRef) (secret.Text, error) { return secret.New("client secret"), nil }
	run.broker = broker.New(broker.Config{
		Settings: settings, Secrets: config.NewSecrets(resolve, run.now), Store: store, Rescue: noRescue{}, Now: run.now,
		Keys: secret.NewKeyring("simulated", plainKeys{}, store), Log: slog.New(slog.DiscardHandler),
		Provider: &provider.Client{Transport: run.provider, Now: run.now},
		Pause: func(_ context.Context, d time.Duration) error {
			run.clock.Add(d.Milliseconds() / workers)
			return nil
		},
	})
	return nil
}

// settings are one integration for each kind.
func (run *yearRun) settings() (*config.Config, error) {
	integrations := map[string]any{}
	for _, k := range run.kinds() {
		rotation, previous := "none", ""
		if k.Rotates {
			rotation, previous = "always", "dies_on_first_use_of_new"
		}
		refresh := map[string]any{"supported": true, "rotation": rotation}
		if previous != "" {
			refresh["previous_token"], refresh["reuse"] = previous, "rejected"
		}
		integrations[integrationOf(k)] = map[string]any{
			"client_id": "app", "client_secret": "${env:CLIENT_SECRET}",
			"provider": map[string]any{
				"token_endpoint": "https://" + hostOf(k) + "/token", "token_endpoint_auth_method": "client_secret_post",
				"grant_types_supported": []string{"refresh_token"}, "refresh": refresh,
			},
		}
	}
	file, err := json.Marshal(map[string]any{"deployment": "simulated", "public_url": "https://simulated.example", "integrations": integrations})
	if err != nil {
		return nil, err
	}
	return yamlfile.Parse(file) // JSON is YAML
}

func hostOf(k Kind) string { return integrationOf(k) + ".example" }

// importAll brings the connections in, all at once: it is their ids that spread them.
func (run *yearRun) importAll(ctx context.Context) error {
	caller := broker.Caller{Name: "simulation", Rights: config.Rights{Allow: []string{config.ScopeManage}, Integrations: []string{"*"}, Owners: []string{"*"}, ImportsPerMinute: 1_000_000}}
	left, kind, all := 0, -1, run.kinds()
	for i := range run.Connections {
		for left == 0 && kind < len(all)-1 {
			kind++
			left = all[kind].Share * run.Connections / 1000
		}
		left--
		res, err := run.broker.Import(ctx, caller, broker.ImportRequest{
			Integration: integrationOf(all[kind]), Owner: yearOwner, RefreshToken: secret.New(run.provider.grant(i, all[kind])),
		})
		if err != nil {
			return fmt.Errorf("import %d: %w", i, err)
		}
		run.provider.accounts[i].id = res.ID
	}
	return nil
}

// ticks runs the ticks of the year, but for those of the outages.
func (run *yearRun) ticks(ctx context.Context) error {
	first := run.clock.Load()/60_000 + 1
	last := first + int64(run.Days)*24*60
	cursor, every := first-1, min(outageEvery, last-first)
	for minute := first; minute < last; minute++ {
		if into := (minute - first) % every; into >= every/2 && into < every/2+outageTime {
			if into == every/2 {
				from := minute * 60_000
				run.outages = append(run.outages, outage{from, from + outageTime*60*millisecond})
			}
			continue
		}
		if run.clock.Load() >= (minute+1)*60_000 {
			continue // the tick before took so long that this one's minute is over
		}
		run.clock.Store(max(run.clock.Load(), minute*60_000))
		catching := minute > cursor+1
		run.provider.begin(minute, catching)
		rep, err := run.broker.Tick(ctx, minute)
		if err != nil {
			return fmt.Errorf("tick of minute %d: %w", minute, err)
		}
		run.count(rep, minute-cursor-1)
		if catching && len(run.outages) > 0 {
			until := run.outages[len(run.outages)-1].to
			run.report.CaughtUp = max(run.report.CaughtUp, time.Duration(run.clock.Load()-until)*time.Millisecond)
		}
		cursor = minute
	}
	return nil
}

func (run *yearRun) count(rep broker.TickReport, missed int64) {
	run.report.Ticks++
	run.report.Missed += missed
	for name, n := range rep.Outcomes {
		run.report.Outcomes[name] += int64(n)
	}
}

// watch notes what each save of a connection replaced.
func (run *yearRun) watch(key string, before, after item.Item) {
	if !strings.HasPrefix(key, "conn_") || before == nil {
		return
	}
	if after.String("status") == string(connection.NeedsReauth) && before.String("status") != string(connection.NeedsReauth) {
		run.report.Reauth++
	}
	if after.Int("gen") == before.Int("gen") {
		return
	}
	run.report.Refreshes++
	if at := before.Int("expires_at"); at != 0 && at < run.clock.Load()/millisecond {
		run.expired = append(run.expired, at)
	}
}

// finish joins what was counted, and counts the tokens that stand expired.
func (run *yearRun) finish() {
	r, now := run.report, run.clock.Load()/millisecond
	for _, i := range run.table.items {
		if at := i.Int("expires_at"); i.String("status") == string(connection.Active) && at < now {
			run.expired = append(run.expired, at)
		}
	}
	for _, at := range run.expired {
		if run.inOutage(at * millisecond) {
			r.ExpiredOutage++
		} else {
			r.ExpiredRunning++
		}
	}
	r.Counts.add(run.table.meter.Counts)
	r.Steps = run.table.calls.Load()
	run.provider.report(r)
}

// inOutage reports whether a moment lies in an outage or in the twenty minutes after it,
// which is the margin of the shorter lives.
func (run *yearRun) inOutage(ms int64) bool {
	for _, o := range run.outages {
		if ms >= o.from && ms < o.to+20*60*millisecond {
			return true
		}
	}
	return false
}

// noRescue is a rescue that is never needed: the table does not fail.
type noRescue struct{}

// Put implements refresh.Rescuer.
func (noRescue) Put(context.Context, string, []byte) error {
	return errors.New("nothing can be rescued here")
}

// Holds implements refresh.Rescuer.
func (noRescue) Holds(string) bool { return false }

// plainKeys stands for a key service: it wraps nothing.
type plainKeys struct{}

// Wrap implements secret.KeyWrapper.
func (plainKeys) Wrap(_ context.Context, _ secret.Purpose, plain []byte) ([]byte, error) {
	return plain, nil
}

// Unwrap implements secret.KeyWrapper.
func (plainKeys) Unwrap(_ context.Context, _ secret.Purpose, wrapped []byte) ([]byte, error) {
	return wrapped, nil
}
