package simprovider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// The places at which a fault can strike.
const (
	onToken     = "token"
	onRevoke    = "revoke"
	onAPI       = "api"
	onIdentity  = "identity"
	onAuthorize = "authorize"
)

// The kinds of faults; the package's text says what each does.
const (
	faultLostAnswer     = "lost_answer"
	faultResetBefore    = "reset_before"
	faultHang           = "hang"
	faultHangAfter      = "hang_after"
	faultDelay          = "delay"
	faultStatus         = "status"
	faultStatusAfter    = "status_after"
	faultMalformed      = "malformed"
	faultNoRefreshToken = "no_refresh_token"
	faultRevokeUser     = "revoke_user"
)

// maxDelay bounds Fault.DelayS, in seconds.
const maxDelay = 600

// Fault makes requests to a service go wrong; the package's text tells the kinds.
type Fault struct {
	// On is the place: token, revoke, authorize, api or identity. Not needed for
	// the kind revoke_user.
	On string `json:"on,omitempty"`
	// Kind is what goes wrong. Required.
	Kind string `json:"kind"`
	// Grant restricts a fault on token to one grant_type.
	Grant string `json:"grant,omitempty"`
	// User is whose grants revoke_user ends.
	User string `json:"user,omitempty"`
	// Count is how many requests the fault strikes; 0 means 1, and -1 means all
	// until faults are cleared.
	Count int `json:"count"`
	// Status is the HTTP status of the kinds status and status_after, 200 to 599.
	Status int `json:"status,omitempty"`
	// RetryAfterS is sent as Retry-After, in seconds; 0 sends what the service
	// itself would.
	RetryAfterS int `json:"retry_after_s,omitempty"`
	// Body replaces the body of the kinds status and status_after.
	Body string `json:"body,omitempty"`
	// DelayS is how many seconds to wait before the answer or the cut, at most 600.
	DelayS int `json:"delay_s,omitempty"`
}

func (f Fault) validate() error {
	switch f.Kind {
	case faultRevokeUser:
		if _, known := userByLogin(f.User); !known {
			return errors.New("fault revoke_user: no such user")
		}
		return nil
	case faultLostAnswer, faultResetBefore, faultHang, faultHangAfter, faultDelay, faultStatus, faultStatusAfter,
		faultMalformed, faultNoRefreshToken:
	default:
		return fmt.Errorf("fault: no such kind: %q", f.Kind)
	}
	switch {
	case !slices.Contains([]string{onToken, onRevoke, onAPI, onIdentity, onAuthorize}, f.On):
		return fmt.Errorf("fault %s: no such place: %q", f.Kind, f.On)
	case f.Grant != "" && f.On != onToken, f.Kind == faultNoRefreshToken && f.On != onToken:
		return fmt.Errorf("fault %s: only on token", f.Kind)
	case f.Status != 0 && (f.Status < 200 || f.Status > 599):
		return fmt.Errorf("fault %s: status must be 200 to 599", f.Kind)
	case f.Count < -1, f.RetryAfterS < 0, f.DelayS < 0, f.DelayS > maxDelay:
		return fmt.Errorf("fault %s: a number is out of range", f.Kind)
	}
	return nil
}

func (sv *service) addFault(f Fault) error {
	if err := f.validate(); err != nil {
		return err
	}
	if f.Kind == faultRevokeUser {
		sv.endUser(f.User)
		return nil
	}
	if f.Count == 0 {
		f.Count = 1
	}
	sv.faults = append(sv.faults, &f)
	return nil
}

// takeFault returns the oldest fault that strikes this request, used up by one;
// the zero Fault is none.
func (sv *service) takeFault(rt route, q *request) Fault {
	i := slices.IndexFunc(sv.faults, func(f *Fault) bool {
		here := f.On == rt.on || f.On == onAPI && rt.on == onIdentity
		return here && (f.Grant == "" || f.Grant == q.grantType())
	})
	if i < 0 {
		return Fault{}
	}
	f := sv.faults[i]
	taken := *f
	switch f.Count {
	case -1:
	case 1:
		sv.faults = slices.Delete(sv.faults, i, i+1)
	default:
		f.Count--
	}
	return taken
}

// play answers a request under a fault; act does what the request asks for.
func (f Fault) play(w http.ResponseWriter, r *http.Request, d dialect, act func() answer) {
	var a answer
	switch f.Kind {
	case faultResetBefore, faultHang:
	case faultStatus:
		a = f.failure(d, http.StatusServiceUnavailable)
	default:
		a = act()
	}
	wait(r.Context(), f.DelayS)
	switch f.Kind {
	case faultHang, faultHangAfter:
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case faultResetBefore, faultLostAnswer:
		// net/http's own way to close the connection without an answer.
		panic(http.ErrAbortHandler)
	case faultStatusAfter:
		a = f.failure(d, http.StatusBadGateway)
	case faultMalformed:
		a.body = a.body[:len(a.body)/2]
	case faultNoRefreshToken:
		a.body = withoutRefreshToken(a.body)
	}
	a.write(w)
}

// wait blocks for some seconds, or until the client has gone.
func wait(ctx context.Context, seconds int) {
	if seconds == 0 {
		return
	}
	t := time.NewTimer(time.Duration(seconds) * time.Second)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// failure is the answer of the kinds status and status_after.
func (f Fault) failure(d dialect, status int) answer {
	if f.Status != 0 {
		status = f.Status
	}
	a := newAnswer(status, "text/html; charset=utf-8",
		[]byte("<html><body><h1>"+strconv.Itoa(status)+" "+http.StatusText(status)+"</h1></body></html>\n"))
	if status == http.StatusTooManyRequests {
		a = d.tooMany()
	}
	if f.Body != "" {
		a.body = []byte(f.Body)
		if json.Valid(a.body) {
			a.header.Set("Content-Type", "application/json; charset=utf-8")
		}
	}
	if f.RetryAfterS > 0 {
		a.header.Set("Retry-After", strconv.Itoa(f.RetryAfterS))
	}
	return a
}

// withoutRefreshToken leaves a body alone that is not a token answer.
func withoutRefreshToken(body []byte) []byte {
	var a tokenAnswer
	if json.Unmarshal(body, &a) != nil || a.AccessToken == "" {
		return body
	}
	a.RefreshToken, a.RefreshTokenExpiresIn = "", 0
	return jsonAnswer(http.StatusOK, a).body
}

// faultList is what the faults resource shows.
type faultList struct {
	Items    []*Fault       `json:"items"`
	Requests map[string]int `json:"requests"`
}

func (s *Server) serveFaults(sv *service, q *request) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch q.http.Method {
	case http.MethodGet:
	case http.MethodDelete:
		sv.faults = nil
	case http.MethodPost:
		f, err := decodeFault(q.body)
		if err == nil {
			err = sv.addFault(f)
		}
		if err != nil {
			return textAnswer(http.StatusBadRequest, err.Error()+"\n")
		}
	default:
		return textAnswer(http.StatusMethodNotAllowed, "Method Not Allowed\n").with("Allow", "GET, POST, DELETE")
	}
	return jsonAnswer(http.StatusOK, faultList{Items: append([]*Fault{}, sv.faults...), Requests: sv.requests})
}

func decodeFault(body []byte) (Fault, error) {
	var f Fault
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return Fault{}, fmt.Errorf("fault: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return Fault{}, errors.New("fault: more than one JSON value")
	}
	return f, nil
}
