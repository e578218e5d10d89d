package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/wire"
)

// TestReviveGoesOnUntilTheEnd: a server that ran out of time is asked again, and the
// counts are added up.
func TestReviveGoesOnUntilTheEnd(t *testing.T) {
	answers := []string{
		`{"recovered":11,"refused":1,"reopened":500,"more":true,"stopped":null}`,
		`{"recovered":11,"refused":0,"reopened":20,"more":false,"stopped":null}`,
		`{"recovered":0,"refused":3,"reopened":0,"more":false,"stopped":"the provider still refuses"}`,
	}
	var asked []wire.ReviveRequest
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in wire.ReviveRequest
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || r.URL.Path != "/v1/admin/revive" {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		asked = append(asked, in)
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintln(w, answers[len(asked)-1])
	}))
	defer s.Close()
	var out bytes.Buffer
	p := &process{ctx: t.Context(), stdout: &out, stderr: &out, getenv: func(string) string { return "evg_x" }}
	c := reviveCommand{Server: Server{URL: s.URL}, Integration: "askfred", Since: "2026-03-01T13:00:00+01:00"}
	if err := c.Run(p); err != nil || out.String() != "recovered: 22, reopened for the schedule: 520, refused again: 1\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
	if len(asked) != 2 || asked[1].Integration != "askfred" || !asked[1].Since.Equal(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)) {
		t.Errorf("asked %+v", asked)
	}
	if err := c.Run(p); err == nil {
		t.Error("a stop is no success")
	}
	c.Since = "yesterday"
	if err := c.Run(p); !errors.As(err, new(usageError)) {
		t.Errorf("since: %v", err)
	}
}

func TestSinceWhen(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	if got, err := sinceWhen("3h", now); err != nil || !got.Equal(now.Add(-3*time.Hour)) {
		t.Errorf("%s, %v", got, err)
	}
}
