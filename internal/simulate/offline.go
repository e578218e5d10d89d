package simulate

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/evergrant/evergrant/internal/refresh"
	"github.com/evergrant/evergrant/internal/schedule"
)

// offline is the token endpoint of every provider of a year, as a RoundTripper.
type offline struct {
	run *yearRun

	mu        sync.Mutex
	accounts  []account // guarded by mu, as is all below
	requests  int64
	minute    int64 // of the tick under way, unix
	catching  bool
	counts    Counts
	late      [2]Distribution // running, catching up
	perSecond map[int64]int64 // of this tick, by unix s
	peak      [2]int64
}

// account is what the provider knows of one connection's grant.
type account struct {
	id             string
	kind           Kind
	live, previous int  // refresh tokens that are taken
	disturbed      bool // its last request failed, so that the next one is no slot's
}

func newOffline(run *yearRun) *offline {
	return &offline{run: run, accounts: make([]account, run.Connections), perSecond: map[int64]int64{}}
}

// grant makes account i and returns its first refresh token.
func (o *offline) grant(i int, k Kind) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.accounts[i] = account{kind: k, live: 1, disturbed: true} // an import's first refresh is no slot's
	return token(i, 1)
}

func token(i, n int) string { return fmt.Sprintf("rt.%d.%d", i, n) }

// begin says that a tick begins.
func (o *offline) begin(minute int64, catching bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.minute, o.catching = minute, catching
	clear(o.perSecond)
}

// RoundTrip implements http.RoundTripper.
func (o *offline) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	parts := strings.Split(form.Get("refresh_token"), ".")
	if len(parts) != 3 {
		return response(r, http.StatusBadRequest, `{"error":"invalid_request"}`), nil
	}
	i, _ := strconv.Atoi(parts[1])
	n, _ := strconv.Atoi(parts[2])
	return o.refresh(r, i, n)
}

func (o *offline) refresh(r *http.Request, i, n int) (*http.Response, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.requests++
	o.counts.Requests++
	salt := uint64(o.requests)
	a := &o.accounts[i]
	o.note(a)
	o.run.clock.Add(latency(uint64(i), salt) / workers)
	what := trouble.fate(uint64(i), salt)
	a.disturbed = what != answered
	switch {
	case what == turnedAway:
		o.counts.NotActed++
		return response(r, http.StatusTooManyRequests, `{"error":"slow_down"}`), nil
	case n != a.live && n != a.previous:
		return response(r, http.StatusBadRequest, `{"error":"invalid_grant"}`), nil
	case what == lost:
		o.counts.Lost++
		o.run.clock.Add(refresh.SendTime / workers)
		if a.kind.Rotates {
			a.previous, a.live = n, a.live+1
		}
		return nil, io.ErrUnexpectedEOF
	}
	rotated := ""
	if a.kind.Rotates {
		a.previous, a.live = 0, a.live+1 // the new pair is used at once
		rotated = fmt.Sprintf(`,"refresh_token":%q`, token(i, a.live))
	}
	return response(r, http.StatusOK, fmt.Sprintf(`{"access_token":"at.%d.%d","token_type":"Bearer","expires_in":%d%s}`, i, salt, a.kind.Life, rotated)), nil
}

// note counts when a request came, and how late that is after its slot.
func (o *offline) note(a *account) {
	now := o.run.clock.Load() / millisecond
	k := 0
	if o.catching {
		k = 1
	}
	o.perSecond[now]++
	if a.id == "" {
		return // an import
	}
	o.peak[k] = max(o.peak[k], o.perSecond[now])
	if a.disturbed {
		return
	}
	period := schedule.Plan{}.Period(a.kind.Life)
	o.late[k].Add(now - slotOf(fmt.Sprintf("%d#%d#0", period, schedule.Phase(a.id, period)), o.minute))
}

// report adds what was counted.
func (o *offline) report(r *Report) {
	r.add(o.counts)
	r.Late.Merge(&o.late[0])
	r.Catching.Merge(&o.late[1])
	r.Peak, r.PeakCatching = o.peak[0], o.peak[1]
}

func response(r *http.Request, status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)),
		ContentLength: int64(len(body)), Request: r, ProtoMajor: 1, ProtoMinor: 1,
	}
}
