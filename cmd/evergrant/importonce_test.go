package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/secret"
)

// What could not be looked up by an external id may have been stored: a second copy of a
// rotating token kills the first.
func TestAnImportWithoutExternalIDIsNotSentAgainAfterA500(t *testing.T) {
	n := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		w.Header().Set("Content-Type", "application/problem+json")
		if n == 1 { // stored, and the store's answer was lost
			w.WriteHeader(500)
			_, _ = w.Write([]byte(`{"status":500,"code":"internal","detail":"ask again"}`))
			return
		}
		w.WriteHeader(201)
		_, _ = w.Write([]byte(`{"id":"conn_2","status":"active"}`))
	}))
	defer s.Close()
	p, _, _ := running(t)
	c := importCommand{From: "env"}
	run := importing{importCommand: &c, api: newAPI(s.URL, secret.New("evg_x")), rows: []row{{place: "the environment"}}, report: importReport{Statuses: map[string]int{}}}
	run.rows[0].in.Integration, run.rows[0].in.Owner, run.rows[0].in.RefreshToken = "a", "o", "rt"
	run.bulk = func(total int) *bulk {
		b := newBulk(p, total, 1)
		b.pause = func(context.Context, time.Duration) error { return nil }
		return b
	}
	err := run.run(p)
	if n > 1 {
		t.Errorf("the same refresh token without an external id was posted %d times: %v %+v", n, err, run.report)
	}
}
