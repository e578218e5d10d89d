package faults_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/connection"
	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/schedule"
	"github.com/evergrant/evergrant/internal/simprovider"
)

var _ = mutant("F53", "internal/provider/trace.go", `case t.wrote.Load() || !t.began.Load():`, `case t.wrote.Load() || t.began.Load():`)

func TestFault_F53_what_never_left_is_put_off_without_doubt(t *testing.T) {
	nowhere := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("no name server")
	}}
	for name, endpoint := range map[string]string{
		"name not found": "https://provider.invalid/oauth/token",
		"refused":        "http://127.0.0.1:1/oauth/token",
		"TLS":            "", // the simulator speaks none
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "immediate")
			id := w.Connect("alice")
			if endpoint == "" {
				endpoint = strings.Replace(w.Sim.Endpoints(brokertest.Integration)["token_endpoint"], "http:", "https:", 1)
			}
			p := w.Start(w.OverTransport(provider.NewTransport(provider.TransportOptions{AllowLoopback: true, Resolver: nowhere})), brokertest.AtEndpoint(endpoint))
			w.WantCode(p.Force(id), "provider_unavailable")
			r := w.Record(id)
			if r.Status != connection.Active || r.DoubtAt != 0 || r.Attempt.ID != "" || r.Failures != 1 || !schedule.IsRetry(r.Sched) {
				t.Fatalf("%+v", r.Core)
			}
			w.WantSent(0)
			w.Settle(id)
		})
	}
}

// rawServer answers below HTTP: answer is given each whole request and the number of
// requests that came before on its connection, and writes what it likes. Where it
// reports false the connection is cut.
type rawServer struct {
	url string

	mu       sync.Mutex
	requests int // guarded by mu
}

func newRawServer(t *testing.T, answer func(c net.Conn, r *http.Request, before int) bool) *rawServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &rawServer{url: "http://" + l.Addr().String() + "/oauth/token"}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer func() { _ = c.Close() }()
				in := bufio.NewReader(c)
				for n := 0; ; n++ {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					body, err := io.ReadAll(r.Body)
					if err != nil {
						return
					}
					r.Body = io.NopCloser(strings.NewReader(string(body)))
					s.mu.Lock()
					s.requests++
					s.mu.Unlock()
					if !answer(c, r, n) {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait()
	})
	return s
}

func (s *rawServer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

var _ = mutant("F54", "internal/provider/classify.go", `lost := o.Failure == FailureTimeout || o.Failure == FailureResetAfter`, `lost := o.Failure == FailureTimeout`)

func TestFault_F54_a_broken_answer_is_doubted_and_never_repeated_on_the_wire(t *testing.T) {
	const body = `{"access_token":"new","token_type":"bearer","expires_in":3600,"refresh_token":"newer"}`
	for name, answer := range map[string]string{
		"reset":          "",
		"half a header":  "HTTP/1.1 200 OK\r\nContent-Ty",
		"half a body":    fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body[:30]),
		"length too low": fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", 30, body),
		"bad gzip":       "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nzzzz",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "on_use")
			id := w.Connect("alice")
			s := newRawServer(t, func(c net.Conn, _ *http.Request, _ int) bool {
				_, _ = io.WriteString(c, answer)
				return false
			})
			if w.Start(brokertest.AtEndpoint(s.url)).Force(id) == nil {
				t.Fatal("it is taken for an answer")
			}
			if s.count() != 1 {
				t.Errorf("%d requests on the wire", s.count())
			}
			if r := w.Record(id); r.DoubtAt == 0 || r.Attempt.ID != "" || r.Status != connection.Active || r.Gen != 1 {
				t.Fatalf("%+v", r.Core)
			}
			w.Settle(id)
		})
	}
}

var _ = mutant("F55", "internal/provider/transport.go", `DisableKeepAlives:      true,`, `DisableKeepAlives:      false,`)

func TestFault_F55_no_request_goes_out_on_a_connection_that_may_be_closing(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.Connect("alice")
	upstream := w.Sim.Endpoints(brokertest.Integration)["token_endpoint"]
	s := newRawServer(t, func(c net.Conn, r *http.Request, before int) bool {
		if before > 0 {
			return false // it was closing this connection just then
		}
		res, err := http.Post(upstream, r.Header.Get("Content-Type"), r.Body)
		if err != nil {
			return false
		}
		defer func() { _ = res.Body.Close() }()
		body, err := io.ReadAll(res.Body)
		_, _ = fmt.Fprintf(c, "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", res.Status, len(body), body)
		return err == nil
	})
	p := w.Start(brokertest.AtEndpoint(s.url))
	for n := range 3 {
		w.Must(p.Force(id))
		if s.count() != n+1 {
			t.Fatalf("%d requests after %d refreshes", s.count(), n+1)
		}
	}
	w.WantSent(3)
	w.Check(id)
}

var _ = mutant("F56", "internal/provider/transport.go", "\tt.Protocols.SetHTTP1(true)\n", "\tt.Protocols.SetHTTP1(true)\n\tt.Protocols.SetHTTP2(true)\n")

func TestFault_F56_streams_that_a_server_refuses_do_not_exist(t *testing.T) {
	w := newWorld(t, "immediate")
	id := w.Connect("alice")
	var spoken []int
	ts := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		spoken = append(spoken, r.ProtoMajor)
		w.Sim.ServeHTTP(rw, r)
	}))
	ts.EnableHTTP2 = true
	ts.StartTLS()
	defer ts.Close()
	tr := provider.NewTransport(provider.TransportOptions{AllowLoopback: true, TLS: ts.Client().Transport.(*http.Transport).TLSClientConfig})
	w.Must(w.Start(w.OverTransport(tr), brokertest.AtEndpoint(ts.URL+"/sim/"+brokertest.Integration+"/oauth/token")).Force(id))
	if len(spoken) != 1 || spoken[0] != 1 {
		t.Errorf("spoken: HTTP/%v", spoken)
	}
	w.WantSent(1)
	w.Check(id)
}

var (
	_ = mutant("F57", "internal/provider/classify.go", "\tif req.Grant == GrantRefreshToken {\n\t\tc.answer.RefreshToken = req.RefreshToken\n", "\tif req.Grant == GrantRefreshToken && o.Failure != \"\" {\n\t\tc.answer.RefreshToken = req.RefreshToken\n")
	_ = mutant("F57", "internal/provider/classify.go", `if legalToken(o.text("refresh_token"), 0x20) {`, `if o.text("refresh_token") != "" {`)
)

func TestFault_F57_no_answer_takes_the_refresh_token_away(t *testing.T) {
	for name, c := range map[string]struct {
		given any // nil: absent
		twice bool
		doubt bool
	}{
		"absent": {}, "empty": {given: ""}, "null": {given: nil}, "false": {given: false},
		"the same": {given: "same"}, "illegal": {given: "a\x01b", doubt: true}, "a number": {given: 7, doubt: true}, "twice": {twice: true, doubt: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "immediate")
			// The provider keeps the refresh token, which nobody told us of.
			w.Must(w.Sim.SetPolicy(brokertest.Integration, simprovider.Policy{KeepsOldAccess: true}))
			id := w.Connect("alice")
			_, old := w.Tokens(id)
			p := w.Start()
			p.OnWire(brokertest.OnSend, 1, brokertest.Rewrite(func(m map[string]any) {
				delete(m, "refresh_token")
				switch {
				case c.given == "same":
					m["refresh_token"] = old
				case c.given != nil:
					m["refresh_token"] = c.given
				}
			}))
			if c.twice {
				p.Heal()
				p.OnWire(brokertest.OnSend, 1, func(call func() (*http.Response, error)) (*http.Response, error) {
					res, err := call()
					if err != nil {
						return res, err
					}
					return brokertest.WithBody(res, []byte(`{"access_token":"at","token_type":"bearer","refresh_token":"one","refresh_token":"two"}`)), nil
				})
			}
			err := p.Force(id)
			if (err != nil) != c.twice {
				t.Errorf("refresh: %v", err)
			}
			if _, rt := w.Tokens(id); rt != old {
				t.Errorf("the refresh token is %q", rt)
			}
			if r := w.Record(id); (r.DoubtAt != 0) != c.doubt {
				t.Errorf("doubt at %d", r.DoubtAt)
			}
			w.Check(id)
			w.settleAtSlot(id)
		})
	}
}
