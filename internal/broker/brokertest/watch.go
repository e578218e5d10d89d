package brokertest

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/item"
	"github.com/evergrant/evergrant/internal/secret"
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
	if s == "" {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.secrets = append(o.secrets, s)
}

// Handed notes a token that was handed out.
func (w *World) Handed(v broker.TokenView, err error) (broker.TokenView, error) {
	w.watch.mu.Lock()
	defer w.watch.mu.Unlock()
	if err == nil {
		w.watch.handed = append(w.watch.handed, v.AccessToken.Reveal())
	}
	return v, err
}

// observed carries out a write and looks at what it changed. Writes of one world are
// serial here, so that before and after belong together.
func (w *World) observed(ctx context.Context, base item.Table, key string, u item.Update) (item.Result, error) {
	if !strings.HasPrefix(key, "conn_") {
		return base.Update(ctx, key, u)
	}
	now := w.Unix()
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
	o.tells(id, old, now)
	if status(now) == connection.NeedsReauth && status(old) != connection.NeedsReauth {
		o.verdicts++
		o.revoked = o.revoked || now.String("reason") == string(connection.Revoked)
	}
	if now.Bytes("at") != old.Bytes("at") || now.Bytes("rt") != old.Bytes("rt") {
		o.stored[id] = append(o.stored[id], sealed{now.Int("tok_gen"), now.Bytes("at"), now.Bytes("rt")})
	}
}

// Check is what must hold at the end of every row: the invariants, and no secret in any
// log or stored value. Each of the connections named must be active, and able to go on.
func (w *World) Check(ids ...string) {
	w.T.Helper()
	for _, id := range ids {
		if r := w.Record(id); r.Status != connection.Active || !w.Live(id) {
			w.T.Errorf("S1: %s is %s %s, refresh token live: %v", id, r.Status, r.Reason, w.Live(id))
		}
	}
	w.checkInvariants(w.Keyring())
	w.CheckSecrets()
}

func (w *World) checkInvariants(k *secret.Keyring) {
	w.T.Helper()
	w.watch.mu.Lock()
	defer w.watch.mu.Unlock()
	kept := map[string]bool{}
	for id, writes := range w.watch.stored {
		var before []string
		for _, s := range writes {
			kept[w.opened(k, id, s.gen, "at", s.at)] = true
			rt := w.opened(k, id, s.gen, "rt", s.rt)
			if slices.Contains(before, rt) && before[len(before)-1] != rt {
				w.T.Errorf("S6: %s went back to a refresh token of before", id)
			}
			if rt != "" {
				before = append(before, rt)
			}
		}
	}
	for _, t := range w.watch.handed {
		if !kept[t] {
			w.T.Error("S2: an access token was handed out that was never stored")
		}
	}
	for _, b := range w.watch.broken {
		w.T.Error(b)
	}
	if w.watch.revoked && !w.watch.ended {
		w.T.Error("S3: revoked, and nobody ended it")
	}
	if w.watch.verdicts > w.watch.refusals {
		w.T.Errorf("S10: %d verdicts on %d refusals", w.watch.verdicts, w.watch.refusals)
	}
}

// CheckSecrets looks for whatever was noted as a secret where none may stand.
func (w *World) CheckSecrets() {
	w.T.Helper()
	w.WantNoSecrets("the log", w.Log.String())
	for key, i := range w.Items() {
		w.WantNoSecrets(key, fmt.Sprint(map[string]item.Value(i)))
	}
}

// WantNoSecrets fails where a text holds a secret in clear; what is its name.
func (w *World) WantNoSecrets(what, text string) {
	w.T.Helper()
	w.watch.mu.Lock()
	defer w.watch.mu.Unlock()
	for _, s := range w.watch.secrets {
		if strings.Contains(text, s) {
			w.T.Errorf("%s holds a secret of %d bytes in clear", what, len(s))
		}
	}
}

// Items are all items of both tables, by their keys.
func (w *World) Items() map[string]item.Item {
	w.T.Helper()
	all := map[string]item.Item{}
	for _, t := range []item.Table{w.Store.Connections, w.Store.Authorizations} {
		for after := ""; ; {
			page, err := t.Scan(context.Background(), after, 100)
			w.Must(err)
			for _, key := range page.Keys {
				all[key], err = t.Get(context.Background(), key)
				w.Must(err)
			}
			if after = page.Next; after == "" {
				break
			}
		}
	}
	return all
}

// LiveTokens is how many of all the tokens that the provider ever gave it would still
// take.
func (w *World) LiveTokens() int {
	w.watch.mu.Lock()
	defer w.watch.mu.Unlock()
	n := 0
	for _, s := range w.watch.secrets {
		if info, known := w.Sim.Lookup(Integration, s); known && info.Live {
			n++
		}
	}
	return n
}

// Forgive takes an observation back that the row explains.
func (w *World) Forgive(prefix string) {
	w.watch.mu.Lock()
	defer w.watch.mu.Unlock()
	var left []string
	for _, b := range w.watch.broken {
		if !strings.HasPrefix(b, prefix) {
			left = append(left, b)
		}
	}
	w.watch.broken = left
}

// EndGrant ends the grant of one connection at the provider.
func (w *World) EndGrant(id string) {
	w.T.Helper()
	_, rt := w.Tokens(id)
	form := url.Values{"token": {rt}, "client_id": {ClientID}, "client_secret": {ClientSecret}}
	res, err := http.PostForm(w.Sim.Endpoints(Integration)["revocation_endpoint"], form)
	w.Must(err)
	w.Must(res.Body.Close())
	w.UserEnded()
}

// UserEnded says that somebody but us ended a grant, so that a verdict may say so.
func (w *World) UserEnded() {
	w.watch.mu.Lock()
	defer w.watch.mu.Unlock()
	w.watch.ended = true
}

// WantActive fails unless the connection stands as it was, untouched by any verdict.
func (w *World) WantActive(ids ...string) {
	w.T.Helper()
	for _, id := range ids {
		if r := w.Record(id); r.Status != connection.Active {
			w.T.Fatalf("%s is %s %s\n%s", id, r.Status, r.Reason, w.Tail())
		}
	}
}

// Tail is the end of the log.
func (w *World) Tail() string {
	l := strings.SplitAfter(w.Log.String(), "\n")
	return strings.Join(l[max(0, len(l)-12):], "")
}

// WantSent fails unless so many refresh requests reached the simulator.
func (w *World) WantSent(n int) {
	w.T.Helper()
	if got := w.Sent("refresh_token"); got != n {
		w.T.Fatalf("%d refresh requests, want %d\n%s", got, n, w.Tail())
	}
}

// WantAllDead fails where the provider would still take a token that it gave.
func (w *World) WantAllDead() {
	w.T.Helper()
	if n := w.LiveTokens(); n > 0 {
		w.T.Errorf("%d tokens live on", n)
	}
}
