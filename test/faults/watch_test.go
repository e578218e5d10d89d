package faults_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
)

// watch sees every write that is applied, every token that a provider gives and every
// token that is handed out, and says afterwards which of the protocol's invariants was
// broken.
type watch struct {
	mu       sync.Mutex
	broken   []string            // guarded by mu
	secrets  []string            // what no log and no stored value may hold in clear; guarded by mu
	refusals int                 // answers invalid_grant; guarded by mu
	verdicts int                 // guarded by mu
	revoked  bool                // one of the verdicts says that the user ended it; guarded by mu
	ended    bool                // the user did; guarded by mu
	handed   []string            // access tokens that somebody got; guarded by mu
	stored   map[string][]sealed // tokens by connection, in the order of their writes; guarded by mu
}

type sealed struct {
	gen    int64
	at, rt item.Bytes
}

func newWatch() watch { return watch{stored: map[string][]sealed{}} }

func (o *watch) secret(s string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.secrets = append(o.secrets, s)
}

// handed notes a token that was handed out.
func (w *world) handed(v broker.TokenView, err error) (broker.TokenView, error) {
	w.watch.mu.Lock()
	defer w.watch.mu.Unlock()
	if err == nil {
		w.watch.handed = append(w.watch.handed, v.AccessToken.Reveal())
	}
	return v, err
}

// observed carries out a write and looks at what it changed. Writes of one world are
// serial here, so that before and after belong together.
func (w *world) observed(ctx context.Context, base item.Table, key string, u item.Update) (item.Result, error) {
	if !strings.HasPrefix(key, "conn_") {
		return base.Update(ctx, key, u)
	}
	now := w.unix()
	w.watch.mu.Lock()
	defer w.watch.mu.Unlock()
	old, err := base.Get(ctx, key)
	if err != nil {
		return item.Result{}, err
	}
	res, err := base.Update(ctx, key, u)
	if err == nil && res.Applied {
		w.watch.look(key, old, res.Item, now)
	}
	return res, err
}

// look compares a connection before and after a write.
func (o *watch) look(id string, old, now item.Item, at int64) {
	status := func(i item.Item) connection.Status { return connection.Status(i.String("status")) }
	ended := status(now) == connection.Disconnected
	doubted := old.Int("doubt_at") == 0 && now.Int("doubt_at") != 0
	mine, theirs := now.Map("attempt").String("id"), old.Map("attempt").String("id")
	anew := now.Int("consent_seq") > old.Int("consent_seq")
	for _, b := range []struct {
		broken bool
		what   string
	}{
		{old != nil && status(old) == connection.Disconnected && !ended && !anew, "S4: stored after a disconnect"},
		{ended && old.Bytes("rt") == "" && now.Bytes("rt") != "", "S4: tokens came back to a receipt"},
		{now.Int("gen") < old.Int("gen"), "S6: the generation went back"},
		{now.Int("consent_seq") < old.Int("consent_seq"), "S5: an earlier consent won"},
		{old.Bytes("rt") != "" && now.Bytes("rt") == "" && !ended, "S7: the refresh token is gone"},
		{theirs != "" && mine != "" && mine != theirs && at < old.Map("attempt").Int("lease_until"), "S9: a live claim was taken over"},
		{doubted && theirs == "" && now.Int("restore_epoch") == old.Int("restore_epoch"), "S9: a doubt without a cause"},
		{status(old) != connection.Connecting && ended && now.String("reason") == string(connection.TokenRefused), "S10: a connection was ended like an import"},
	} {
		if b.broken {
			o.broken = append(o.broken, b.what+": "+id)
		}
	}
	if status(now) == connection.NeedsReauth && status(old) != connection.NeedsReauth {
		o.verdicts++
		o.revoked = o.revoked || now.String("reason") == string(connection.Revoked)
	}
	if now.Bytes("at") != old.Bytes("at") || now.Bytes("rt") != old.Bytes("rt") {
		o.stored[id] = append(o.stored[id], sealed{now.Int("tok_gen"), now.Bytes("at"), now.Bytes("rt")})
	}
}

// check is what must hold at the end of every row: the invariants, and no secret in any
// log or stored value. Each of the connections named must be active, and able to go on.
func (w *world) check(ids ...string) {
	w.t.Helper()
	for _, id := range ids {
		if r := w.record(id); r.Status != connection.Active || !w.live(id) {
			w.t.Errorf("S1: %s is %s %s, refresh token live: %v", id, r.Status, r.Reason, w.live(id))
		}
	}
	k := w.keys()
	w.watch.mu.Lock()
	defer w.watch.mu.Unlock()
	kept := map[string]bool{}
	for id, writes := range w.watch.stored {
		var before []string
		for _, s := range writes {
			kept[w.opened(k, id, s.gen, "at", s.at)] = true
			rt := w.opened(k, id, s.gen, "rt", s.rt)
			if slices.Contains(before, rt) && before[len(before)-1] != rt {
				w.t.Errorf("S6: %s went back to a refresh token of before", id)
			}
			if rt != "" {
				before = append(before, rt)
			}
		}
	}
	for _, t := range w.watch.handed {
		if !kept[t] {
			w.t.Error("S2: an access token was handed out that was never stored")
		}
	}
	for _, b := range w.watch.broken {
		w.t.Error(b)
	}
	if w.watch.revoked && !w.watch.ended {
		w.t.Error("S3: revoked, and nobody ended it")
	}
	if w.watch.verdicts > w.watch.refusals {
		w.t.Errorf("S10: %d verdicts on %d refusals", w.watch.verdicts, w.watch.refusals)
	}
	w.checkSecrets()
}

// checkSecrets looks for tokens, codes and client secrets where none may stand.
func (w *world) checkSecrets() {
	w.t.Helper()
	log := w.log.String()
	for _, s := range append(slices.Clone(w.watch.secrets), clientSecret) {
		if strings.Contains(log, s) {
			w.t.Errorf("the log holds a secret of %d bytes", len(s))
		}
	}
	for _, t := range []item.Table{w.base.Connections, w.base.Authorizations} {
		for after := ""; ; {
			page, err := t.Scan(context.Background(), after, 100)
			w.must(err)
			for _, key := range page.Keys {
				i, err := t.Get(context.Background(), key)
				w.must(err)
				text := fmt.Sprint(map[string]item.Value(i))
				for _, s := range w.watch.secrets {
					if strings.Contains(text, s) {
						w.t.Errorf("%s holds a secret in clear", key)
					}
				}
			}
			if after = page.Next; after == "" {
				break
			}
		}
	}
}
