package simprovider_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/simprovider"
)

func (s *sim) faultsURL(provider string) string {
	root, _, _ := strings.Cut(s.Endpoints(provider)["token_endpoint"], "/sim/")
	return root + "/sim/" + provider + "/faults"
}

func (s *sim) fault(provider, body string) {
	s.t.Helper()
	if r := s.do(http.MethodPost, s.faultsURL(provider), body, nil); r.status != http.StatusOK {
		s.t.Fatalf("fault %s: %d %s", body, r.status, r.body)
	}
}

// tryRefresh refreshes at Redbooth once; the error is that of the connection.
func (s *sim) tryRefresh(token string) (reply, error) {
	s.t.Helper()
	v := form("grant_type", "refresh_token", "refresh_token", token, "client_id", clientID, "client_secret", clientSecret)
	return s.send(http.MethodPost, s.Endpoints("redbooth")["token_endpoint"], v.Encode(),
		http.Header{"Content-Type": {"application/x-www-form-urlencoded"}})
}

func TestFaultsOfTheWire(t *testing.T) {
	for kind, acts := range map[string]bool{"lost_answer": true, "reset_before": false} {
		t.Run(kind, func(t *testing.T) {
			s := start(t)
			_, refresh := s.connect("redbooth")
			s.fault("redbooth", `{"on":"token","kind":"`+kind+`"}`)
			if r, err := s.tryRefresh(refresh); err == nil {
				t.Fatalf("the client got an answer: %d %s", r.status, r.body)
			}
			if s.live("redbooth", refresh) == acts {
				t.Errorf("acted: %v", !acts)
			}
			// Not one repeat on the wire, and the fault is used up.
			if n := s.Requests("redbooth")["refresh_token"]; n != 1 {
				t.Errorf("%d requests", n)
			}
			if r, err := s.tryRefresh(refresh); err != nil || (r.status == http.StatusOK) == acts {
				t.Errorf("next: %d %v", r.status, err)
			}
		})
	}
}

func TestHang(t *testing.T) {
	for kind, acts := range map[string]bool{"hang": false, "hang_after": true} {
		t.Run(kind, func(t *testing.T) {
			s := start(t)
			_, refresh := s.connect("redbooth")
			s.must(s.AddFault("redbooth", simprovider.Fault{On: "token", Kind: kind}))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() { // gives up once the request has had its effect
				defer cancel()
				tick := time.NewTicker(time.Millisecond)
				defer tick.Stop()
				for ctx.Err() == nil {
					info, _ := s.Lookup("redbooth", refresh)
					if s.Requests("redbooth")["refresh_token"] == 1 && info.Live != acts {
						return
					}
					<-tick.C
				}
			}()
			v := form("grant_type", "refresh_token", "refresh_token", refresh, "client_id", clientID, "client_secret", clientSecret)
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Endpoints("redbooth")["token_endpoint"], strings.NewReader(v.Encode()))
			s.must(err)
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			if res, err := s.http.Do(req); err == nil {
				res.Body.Close()
				t.Fatal("the client got an answer")
			}
			if s.live("redbooth", refresh) == acts {
				t.Errorf("acted: %v", !acts)
			}
		})
	}
}

func TestFaultsOfTheAnswer(t *testing.T) {
	s := start(t)
	_, refresh := s.connect("redbooth")

	s.fault("redbooth", `{"on":"token","kind":"status","status":500,"count":2}`)
	for range 2 {
		if r := s.refresh("redbooth", refresh); r.status != 500 || !s.live("redbooth", refresh) {
			t.Errorf("status: %d", r.status)
		}
	}
	s.fault("redbooth", `{"on":"token","kind":"status_after"}`)
	if r := s.refresh("redbooth", refresh); r.status != http.StatusBadGateway || s.live("redbooth", refresh) {
		t.Errorf("status_after: %d", r.status)
	}

	_, refresh = s.connect("redbooth")
	s.fault("redbooth", `{"on":"token","kind":"malformed"}`)
	if r := s.refresh("redbooth", refresh); r.status != 200 || json.Valid([]byte(r.body)) || s.live("redbooth", refresh) {
		t.Errorf("malformed: %d %s", r.status, r.body)
	}

	_, refresh = s.connect("redbooth")
	s.fault("redbooth", `{"on":"token","kind":"no_refresh_token"}`)
	r := s.refresh("redbooth", refresh)
	if r.has("refresh_token") || !s.live("redbooth", r.field("access_token")) || r.number("expires_in") != 7200 {
		t.Errorf("no_refresh_token: %s", r.body)
	}

	s.fault("redbooth", `{"on":"identity","kind":"status","status":200,"body":"{\"id\":1002}"}`)
	me := s.do(http.MethodGet, s.Endpoints("redbooth")["identity.endpoint"], "", bearer(r.field("access_token")))
	if me.number("id") != 1002 || me.has("username") {
		t.Errorf("lying identity: %s", me.body)
	}

	started := time.Now()
	s.fault("redbooth", `{"on":"api","kind":"delay","delay_s":1}`)
	if c := s.call("redbooth", r.field("access_token")); c.status != 200 || time.Since(started) < time.Second {
		t.Errorf("delay: %d after %v", c.status, time.Since(started))
	}
}

// Faults strike only where they are told to.
func TestFaultPlaces(t *testing.T) {
	s := start(t)
	_, refresh := s.connect("askfred")
	s.fault("askfred", `{"on":"token","grant":"authorization_code","kind":"status"}`)
	r := s.refresh("askfred", refresh)
	s.want("refresh beside a fault of the exchange", r, 200, "")
	access := r.field("access_token")
	if r := s.exchange("askfred", s.consent("askfred", "bob")); r.status != http.StatusServiceUnavailable {
		t.Errorf("exchange: %d", r.status)
	}
	s.fault("askfred", `{"on":"revoke","kind":"status","status":429}`)
	if r := s.revoke(access); r.status != 429 || r.field("error") == "" || !s.live("askfred", access) {
		t.Errorf("revoke: %d", r.status)
	}
	s.fault("askfred", `{"on":"authorize","kind":"status"}`)
	if r := s.do(http.MethodGet, s.authorizeURL("askfred"), "", nil); r.status != http.StatusServiceUnavailable {
		t.Errorf("authorize: %d", r.status)
	}
	s.fault("askfred", `{"on":"api","kind":"status","status":429,"retry_after_s":7,"count":-1}`)
	for range 3 {
		if r := s.call("askfred", access); r.status != 429 || r.header.Get("Retry-After") != "7" {
			t.Errorf("api: %d %q", r.status, r.header.Get("Retry-After"))
		}
	}
	var list struct {
		Items    []simprovider.Fault `json:"items"`
		Requests map[string]int      `json:"requests"`
	}
	got := s.do(http.MethodGet, s.faultsURL("askfred"), "", nil)
	s.must(json.Unmarshal([]byte(got.body), &list))
	if len(list.Items) != 1 || list.Items[0].Count != -1 || list.Requests["identity"] != 3 || list.Requests["refresh_token"] != 1 {
		t.Errorf("list: %s", got.body)
	}
	if r := s.do(http.MethodDelete, s.faultsURL("askfred"), "", nil); r.status != 200 {
		t.Errorf("DELETE: %d", r.status)
	}
	if r := s.call("askfred", access); r.status != 200 {
		t.Errorf("after DELETE: %d", r.status)
	}
}

func TestFaultRevokeUser(t *testing.T) {
	s := start(t)
	for _, p := range simprovider.Providers() {
		access, refresh := s.connect(p)
		s.fault(p, `{"kind":"revoke_user","user":"bob"}`)
		if !s.live(p, access) {
			t.Errorf("%s: alice's token died of bob", p)
		}
		s.fault(p, `{"kind":"revoke_user","user":"alice"}`)
		if s.live(p, access) || s.live(p, refresh) {
			t.Errorf("%s: still alive", p)
		}
	}
}

func TestBadFaults(t *testing.T) {
	s := start(t)
	for _, body := range []string{
		``, `[]`, `{}`, `{"on":"token"}`, `{"on":"token","kind":"fire"}`, `{"on":"moon","kind":"status"}`, `{"kind":"status"}`,
		`{"on":"token","kind":"status","status":99}`, `{"on":"token","kind":"status","count":-2}`,
		`{"on":"token","kind":"delay","delay_s":601}`, `{"on":"api","kind":"status","grant":"refresh_token"}`,
		`{"on":"api","kind":"no_refresh_token"}`, `{"kind":"revoke_user","user":"carol"}`,
		`{"on":"token","kind":"status","colour":"red"}`, `{"on":"token","kind":"status"} {}`,
	} {
		if r := s.do(http.MethodPost, s.faultsURL("askfred"), body, nil); r.status != http.StatusBadRequest {
			t.Errorf("%s: %d", body, r.status)
		}
	}
	if r := s.do(http.MethodPut, s.faultsURL("askfred"), "{}", nil); r.status != http.StatusMethodNotAllowed {
		t.Errorf("PUT: %d", r.status)
	}
	s.must(s.AddFault("askfred", simprovider.Fault{On: "api", Kind: "status"}))
	s.must(s.ClearFaults("askfred"))
	access, _ := s.connect("askfred")
	if r := s.call("askfred", access); r.status != 200 {
		t.Errorf("a cleared fault struck: %d", r.status)
	}
}

// 429 in each service's own form.
func TestTooManyRequests(t *testing.T) {
	form := map[string]struct{ kind, retryAfter string }{
		"askfred":   {"application/json", ""},
		"freeagent": {"text/plain", "60"},
		"whenfresh": {"application/json", ""},
		"redbooth":  {"text/plain", ""},
		"fflogs":    {"application/json", ""},
	}
	s := start(t)
	for p, want := range form {
		access, _ := s.connect(p)
		s.must(s.AddFault(p, simprovider.Fault{On: "api", Kind: "status", Status: 429}))
		r := s.call(p, access)
		if r.status != 429 || !strings.HasPrefix(r.header.Get("Content-Type"), want.kind) || r.header.Get("Retry-After") != want.retryAfter {
			t.Errorf("%s: %d %v %s", p, r.status, r.header, r.body)
		}
	}
}
