package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/evergrant/evergrant/internal/secret"
	"github.com/evergrant/evergrant/internal/wire"
)

// What each reader makes of a good source is the same three imports.
func TestReaders(t *testing.T) {
	end := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	want := []wire.ImportRequest{
		{Integration: "acme", Owner: "ada", ExternalID: "1", RefreshToken: "rt-1", AccessToken: "at-1", ExpiresAt: &end, Scope: "read write", Variables: map[string]string{"shop": "north"}},
		{Integration: "acme", Owner: "grace", ExternalID: "2", RefreshToken: "rt,2"},
		{Integration: "other", Owner: "3", ExternalID: "3", RefreshToken: "rt-3"},
	}
	for name, c := range map[string]struct {
		read rowReader
		text string
	}{
		"csv": {readCSV, "\ufeffintegration,owner,external_id,refresh_token,access_token,expires_at,scope,variable.shop\n" +
			"acme,ada,1,rt-1,at-1,2026-03-01T12:00:00Z,read write,north\n" +
			"acme,grace,2,\"rt,2\",,,,\n\nother,3,3,rt-3,,,,\n"},
		"jsonl": {readJSONL, `{"integration":"acme","owner":"ada","external_id":"1","refresh_token":"rt-1","access_token":"at-1","expires_at":"2026-03-01T12:00:00Z","scope":"read write","variables":{"shop":"north"}}` + "\n\n" +
			`{"integration":"acme","owner":"grace","external_id":"2","refresh_token":"rt,2"}` + "\n" +
			`{"integration":"other","owner":"3","external_id":"3","refresh_token":"rt-3"}`},
		"nango": {nango(map[string]string{"acme-prod": "acme"}, []string{"shop"}), `[` +
			`{"id":1,"connection_id":"1","provider_config_key":"acme-prod","provider":"acme","connection_config":{"shop":"north","n":1},"metadata":{"a":1},"end_user":{"id":"ada","email":null},` +
			`"credentials":{"type":"OAUTH2","access_token":"at-1","refresh_token":"rt-1","expires_at":"2026-03-01T12:00:00.512Z","raw":{"scope":"read write","expires_in":3600}}},` +
			`{"connection_id":"2","provider_config_key":"acme-prod","end_user":null,"tags":{"end_user_id":"grace"},"credentials":{"type":"OAUTH2","refresh_token":"rt,2","raw":{}}}]` + "\n" +
			`{"connections":[{"connection_id":"3","provider_config_key":"other","credentials":{"type":"OAUTH2","refresh_token":"rt-3","expires_at":null,"raw":{"scope":7}}}]}`},
	} {
		rows, err := c.read(strings.NewReader(c.text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got []wire.ImportRequest
		for _, r := range rows {
			if r.problem != "" {
				t.Errorf("%s: %s: %s", name, r.place, r.problem)
			}
			got = append(got, r.in)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// What cannot be read is told by its place, and without a word of what stands there.
func TestReadersTellWhereAndNotWhat(t *testing.T) {
	const token = "CANARY-rt"
	for name, c := range map[string]struct {
		read        rowReader
		text, place string
		says        string
	}{
		"json":           {readJSONL, "{}\n{\"refresh_token\": \"" + token + "\" x}", "line 2", "broken at byte"},
		"unknown member": {readJSONL, `{"refreshToken":"` + token + `"}`, "line 1", "refreshToken"},
		"type":           {readJSONL, `{"owner":["` + token + `"]}`, "line 1", "owner has the wrong type"},
		"behind":         {readJSONL, `{"owner":"a"} "` + token + `"`, "line 1", "behind"},
		"columns":        {readCSV, "owner,refresh_token\na," + token + ",x\n", "line 2", "number of columns"},
		"time":           {readCSV, "owner,expires_at\na," + token + "\n", "line 2", "expires_at"},
		"no oauth":       {nango(nil, nil), `{"connection_id":"1","credentials":{"type":"API_KEY","apiKey":"` + token + `"}}`, "connection 1", "no OAuth 2.0"},
		"its own client": {nango(nil, nil), `{"connection_id":"1","credentials":{"type":"OAUTH2","refresh_token":"` + token + `","config_override":{"client_id":"x"}}}`, "connection 1", "client of its own"},
		"machine":        {nango(nil, nil), `{"connection_id":"1","credentials":{"type":"OAUTH2_CC","token":"` + token + `"}}`, "connection 1", "client credentials"},
		"no connection":  {nango(nil, nil), `{"connection_id":7,"x":"` + token + `"}`, "connection 1", "no connection"},
	} {
		rows, err := c.read(strings.NewReader(c.text))
		if err != nil || len(rows) == 0 {
			t.Errorf("%s: %d rows, %v", name, len(rows), err)
			continue
		}
		last := rows[len(rows)-1]
		if last.place != c.place || !strings.Contains(last.problem, c.says) || last.remedy == "" || strings.Contains(last.problem+last.remedy, token) {
			t.Errorf("%s: %s: %q (%q)", name, last.place, last.problem, last.remedy)
		}
	}
	for name, c := range map[string]struct {
		read rowReader
		text string
	}{
		"unknown column": {readCSV, "owner," + token + "\n"}, "quotes": {readCSV, "owner\n\"" + token + "\"x\n"}, "nothing": {readCSV, ""},
		"broken export": {nango(nil, nil), `{"a": ` + token}, "a line without an end": {readJSONL, token + strings.Repeat("x", maxRow)},
	} {
		if _, err := c.read(strings.NewReader(c.text)); err == nil || strings.Contains(err.Error(), token) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzReaders(f *testing.F) {
	f.Add("integration,owner\na,b\n")
	f.Add(`{"owner":"a"}`)
	f.Add(`[{"credentials":{"type":"OAUTH2"}}]`)
	f.Fuzz(func(t *testing.T, text string) {
		for _, read := range []rowReader{readCSV, readJSONL, nango(map[string]string{"a": "b"}, []string{"shop"})} {
			rows, err := read(strings.NewReader(text))
			for _, r := range rows {
				if r.place == "" || err != nil {
					t.Errorf("rows with %v, one without a place: %+v", err, r.place)
				}
			}
		}
	})
}

// importServer is a server as an import sees it, whose answers a test decides.
type importServer struct {
	answer func(n int, in wire.ImportRequest) (status int, body any, header http.Header)

	mu   sync.Mutex // guards what follows
	sent []wire.ImportRequest
}

func (s *importServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v1/integrations" {
		_ = json.NewEncoder(w).Encode(wire.List[wire.Integration]{Items: []wire.Integration{{Name: "acme", Clients: []wire.Client{{Name: "default"}}}}})
		return
	}
	var in wire.ImportRequest
	_ = json.NewDecoder(r.Body).Decode(&in)
	s.mu.Lock()
	s.sent = append(s.sent, in)
	n := len(s.sent)
	s.mu.Unlock()
	status, body, header := s.answer(n, in)
	if status == 0 {
		panic(http.ErrAbortHandler) // the connection breaks
	}
	for name := range header {
		w.Header().Set(name, header.Get(name))
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// imports runs an import of rows against the server, with pauses that take no time, and
// returns the report and the pauses.
func (s *importServer) imports(t *testing.T, rows []row, c importCommand) (importReport, []time.Duration, error) {
	t.Helper()
	srv := httptest.NewServer(s)
	defer srv.Close()
	a := newAPI(srv.URL, secret.New("evg_key"))
	p := &process{ctx: t.Context(), stdout: io.Discard, stderr: io.Discard}
	if err := c.check(p, a, rows); err != nil {
		t.Fatal(err)
	}
	run := importing{importCommand: &c, api: a, rows: rows, report: importReport{Statuses: map[string]int{}}}
	var pauses []time.Duration
	clock := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var mu sync.Mutex // guards pauses and clock
	run.bulk = func(total int) *bulk {
		b := newBulk(p, total, 1)
		b.now = func() time.Time { mu.Lock(); defer mu.Unlock(); return clock }
		b.pause = func(_ context.Context, d time.Duration) error {
			mu.Lock()
			defer mu.Unlock()
			pauses, clock = append(pauses, d), clock.Add(d)
			return nil
		}
		return b
	}
	err := run.run(p)
	return run.report, pauses, err
}

func someRows(n int) []row {
	var rows []row
	for k := range n {
		rows = append(rows, row{place: fmt.Sprintf("line %d", k+1), in: wire.ImportRequest{
			Integration: "acme", Owner: "ada", ExternalID: fmt.Sprint(k), RefreshToken: fmt.Sprintf("CANARY-rt-%d", k),
		}})
	}
	return rows
}

func created(status string) (int, any, http.Header) {
	return http.StatusCreated, wire.Connection{ID: "conn_x", Status: status}, nil
}

func problemAnswer(status int, code string, after string) (int, any, http.Header) {
	h := http.Header{}
	if after != "" {
		h.Set("Retry-After", after)
	}
	return status, wire.Problem{Code: code, Status: status, Detail: "as it is"}, h
}

// The server's wish to wait is kept by all, an outage is borne, and each is sent until it
// is answered.
func TestAnImportWaitsAndGoesOn(t *testing.T) {
	s := &importServer{answer: func(n int, _ wire.ImportRequest) (int, any, http.Header) {
		switch n {
		case 2:
			return problemAnswer(429, "rate_limited", "37")
		case 4, 5:
			return 0, nil, nil
		case 6:
			return problemAnswer(503, "provider_unavailable", "5")
		}
		return created("held")
	}}
	report, pauses, err := s.imports(t, someRows(3), importCommand{Hold: true})
	if err != nil || report.Imported != 3 || report.Failed != 0 || report.Statuses["held"] != 3 || len(s.sent) != 7 {
		t.Fatalf("%+v, %v, %d requests", report, err, len(s.sent))
	}
	want := []time.Duration{37 * time.Second, retryPause, 2 * retryPause, 5 * time.Second}
	if diff := cmp.Diff(want, pauses); diff != "" {
		t.Error(diff)
	}
	for _, in := range s.sent {
		if !in.Hold {
			t.Error("one was sent without hold")
		}
	}
}

func TestAnImportGivesUp(t *testing.T) {
	away := &importServer{answer: func(n int, _ wire.ImportRequest) (int, any, http.Header) {
		if n == 1 {
			return created("held")
		}
		return 0, nil, nil
	}}
	report, _, err := away.imports(t, someRows(5), importCommand{Hold: true})
	if err == nil || !strings.Contains(err.Error(), "no good answer for 2m00s") || report.Imported != 1 || report.Left != 4 {
		t.Errorf("%+v, %v", report, err)
	}
	if strings.Contains(err.Error(), "CANARY") {
		t.Error("a token stands in the error")
	}
	wrongKey := &importServer{answer: func(int, wire.ImportRequest) (int, any, http.Header) { return problemAnswer(401, "unauthorized", "") }}
	report, _, err = wrongKey.imports(t, someRows(5), importCommand{TakeOver: true})
	if !errors.As(err, new(apiError)) || report.Left != 5 || len(wrongKey.sent) != 1 {
		t.Errorf("%+v, %v, %d requests", report, err, len(wrongKey.sent))
	}
}

// One that is refused is told with what to do, and keeps none of the others.
func TestAnImportTellsWhatFailed(t *testing.T) {
	s := &importServer{answer: func(_ int, in wire.ImportRequest) (int, any, http.Header) {
		switch in.ExternalID {
		case "1":
			return problemAnswer(422, "token_refused", "")
		case "2":
			return http.StatusOK, wire.Connection{ID: "conn_x", Status: "active"}, nil
		}
		return created("active")
	}}
	rows := someRows(8)
	rows[3].in.ExternalID = "0"
	rows[4].in.RefreshToken = rows[0].in.RefreshToken
	rows[5].in.Integration = "nobody"
	rows[6].in.ExternalID = ""
	rows[7].in.Client = "old"
	report, _, err := s.imports(t, rows, importCommand{TakeOver: true})
	if err != nil || report.Imported != 1 || report.Existed != 1 || report.Failed != 6 || len(s.sent) != 3 {
		t.Fatalf("%+v, %v, %d requests", report, err, len(s.sent))
	}
	text := fmt.Sprint(report)
	for _, want := range []string{"line 2", "token_refused", "line 4", "stands in line 1 too", "line 5", "destroy it", "line 6", "no such integration", "line 7", "no external_id", "line 8", "no client"} {
		if !strings.Contains(text, want) {
			t.Errorf("the report says nothing of %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "CANARY") {
		t.Error("a token stands in the report")
	}
}

func TestTheLineOfProgress(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	b := &bulk{total: 200, done: 50, failed: 2, began: now.Add(-10 * time.Second), now: func() time.Time { return now }}
	if got, want := b.line(), "[######..................] 50 of 200, 2 failed, 5 a second, 30s left"; got != want {
		t.Errorf("%q, not %q", got, want)
	}
	b.open = now.Add(20 * time.Second)
	if got := b.line(); !strings.HasSuffix(got, "the server asks to wait 20s") {
		t.Errorf("%q", got)
	}
}
