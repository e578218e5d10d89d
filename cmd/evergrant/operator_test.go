package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// answering is a server that gives the answers one after the other, and notes what it
// was asked.
func answering(t *testing.T, answers ...string) (Server, *[]string) {
	t.Helper()
	asked := &[]string{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.Method+" "+r.URL.RequestURI())
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintln(w, answers[len(*asked)-1])
	}))
	t.Cleanup(s.Close)
	return Server{URL: s.URL}, asked
}

func running(t *testing.T) (p *process, out, says *bytes.Buffer) {
	out, says = &bytes.Buffer{}, &bytes.Buffer{}
	return &process{ctx: t.Context(), stdout: out, stderr: says, getenv: func(string) string { return "evg_x" }}, out, says
}

// TestReplayGoesOnUntilTheEnd, and says when something is left.
func TestReplayGoesOnUntilTheEnd(t *testing.T) {
	s, asked := answering(t, `{"replayed":600,"pending":0,"more":true}`, `{"replayed":7,"pending":0,"more":false}`)
	p, out, _ := running(t)
	if err := (&chunksReplayCommand{s}).Run(p); err != nil || out.String() != "replayed: 607, still pending: 0\n" {
		t.Errorf("%q, %v", out, err)
	}
	if !slices.Equal(*asked, []string{"POST /v1/admin/chunk-replay", "POST /v1/admin/chunk-replay"}) {
		t.Errorf("asked %v", *asked)
	}
	s, asked = answering(t, `{"replayed":1,"pending":2,"more":false}`)
	s.JSON = true
	p, out, _ = running(t)
	if err := (&rescueReplayCommand{s}).Run(p); err == nil || !strings.Contains(err.Error(), "2 could not") || !strings.Contains(out.String(), `"pending": 2`) {
		t.Errorf("%q, %v", out, err)
	}
	if !slices.Equal(*asked, []string{"POST /v1/admin/rescue-replay"}) {
		t.Errorf("asked %v", *asked)
	}
}

// TestResealFollowsTheCursor to its end, tells how far it is, and fails where something
// cannot be opened.
func TestResealFollowsTheCursor(t *testing.T) {
	s, asked := answering(t,
		`{"resealed":1000,"current":5,"busy":0,"failed":0,"next":"a+b"}`, `{"resealed":20,"current":0,"busy":1,"failed":0,"next":null}`,
		`{"resealed":0,"current":0,"busy":0,"failed":3,"next":null}`)
	p, out, says := running(t)
	p.terminal = true
	if err := (&resealCommand{s}).Run(p); err != nil || out.String() != "sealed anew: 1020, under the newest key already: 5, busy: 1, cannot be opened: 0\n" {
		t.Errorf("%q, %v", out, err)
	}
	if !slices.Equal(*asked, []string{"POST /v1/admin/reseal", "POST /v1/admin/reseal?cursor=a%2Bb"}) || !strings.Contains(says.String(), "1005 connections so far") {
		t.Errorf("asked %v, said %q", *asked, says)
	}
	if err := (&resealCommand{s}).Run(p); err == nil || !strings.Contains(err.Error(), "3 connections") {
		t.Errorf("%v", err)
	}
}

func TestRotateKey(t *testing.T) {
	s, asked := answering(t, `{"flow":2,"token":3}`)
	p, out, _ := running(t)
	if err := (&rotateKeyCommand{s}).Run(p); err != nil || !strings.HasPrefix(out.String(), "Data keys that seal from now on: flow 2, token 3.") {
		t.Errorf("%q, %v", out, err)
	}
	if !slices.Equal(*asked, []string{"POST /v1/admin/rotate-key"}) {
		t.Errorf("asked %v", *asked)
	}
}
