package doctor_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/doctor"
	"github.com/evergrant/evergrant/internal/wire"
)

// deployed is a deployment as a stranger sees it; change alters an answer that is well.
func deployed(t *testing.T, change func(w http.ResponseWriter, r *http.Request) bool) *httptest.Server {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", today.Format(http.TimeFormat))
		for name, value := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"} {
			w.Header().Set(name, value)
		}
		switch {
		case change != nil && change(w, r):
		case r.URL.Path == "/healthz":
			_, _ = w.Write([]byte(`{"status":"ok","version":"v1.2.3","store":"ok"}`))
		case strings.HasPrefix(r.URL.Path, "/callback/"):
			w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
			w.WriteHeader(http.StatusBadRequest)
		case strings.HasPrefix(r.URL.Path, "/iam/"):
			w.WriteHeader(http.StatusForbidden)
		default:
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(server.Close)
	return server
}

func visit(t *testing.T, server *httptest.Server, now time.Time, redirectURI string) []doctor.Finding {
	t.Helper()
	client := server.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return doctor.Visitor{Client: client, Now: func() time.Time { return now }}.
		Visit(t.Context(), server.URL, []wire.Integration{{Name: "askfred", RedirectURI: redirectURI}, {Name: "machine"}})
}

func TestADeploymentIsLookedAtFromOutside(t *testing.T) {
	server := deployed(t, nil)
	all := visit(t, server, today, server.URL+"/callback/askfred")
	for _, level := range []doctor.Level{doctor.Problem, doctor.Warning} {
		if doctor.Count(all, level) != 0 {
			t.Errorf("a deployment in good health:\n%s", list(all))
		}
	}
	has(t, all, doctor.Fine, "server", "v1.2.3")
	has(t, all, doctor.Fine, "tls", "TLS 1.3")
	has(t, all, doctor.Fine, "clock", "agrees")
	has(t, all, doctor.Fine, "guard", "/iam/v1/integrations refuses")
	has(t, all, doctor.Note, "redirect_uri", server.URL+"/callback/askfred")
	has(t, all, doctor.Fine, "redirect_uri", "answered by Evergrant's page")
}

func TestWhatIsWrongWithADeploymentIsSeenFromOutside(t *testing.T) {
	for name, x := range map[string]struct {
		path         string
		answer       func(http.ResponseWriter)
		check, words string
	}{
		"other server":    {"/healthz", func(w http.ResponseWriter) { _, _ = w.Write([]byte("<html>")) }, "server", "something else"},
		"no guard":        {"/v1/integrations", func(w http.ResponseWriter) { w.WriteHeader(http.StatusOK) }, "guard", "HTTP status 200"},
		"no signature":    {"/iam/v1/integrations", func(w http.ResponseWriter) { w.WriteHeader(http.StatusOK) }, "guard", "HTTP status 200"},
		"redirect":        {"/callback/askfred", func(w http.ResponseWriter) { w.WriteHeader(http.StatusMovedPermanently) }, "redirect_uri", "redirected elsewhere"},
		"gateway's 404":   {"/callback/askfred", func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) }, "redirect_uri", "HTTP status 404"},
		"lost the policy": {"/callback/askfred", func(w http.ResponseWriter) { callback(w, "Referrer-Policy", "") }, "redirect_uri", "without Referrer-Policy"},
		"cached":          {"/callback/askfred", func(w http.ResponseWriter) { callback(w, "Cache-Control", "max-age=60") }, "redirect_uri", "without Cache-Control"},
	} {
		t.Run(name, func(t *testing.T) {
			server := deployed(t, func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == x.path {
					x.answer(w)
				}
				return r.URL.Path == x.path
			})
			has(t, visit(t, server, today, server.URL+"/callback/askfred"), doctor.Problem, x.check, x.words)
		})
	}
}

// callback is our own page with one header changed on the way.
func callback(w http.ResponseWriter, header, value string) {
	w.Header().Set("Content-Security-Policy", "frame-ancestors 'none'")
	w.Header().Set(header, value)
	w.WriteHeader(http.StatusBadRequest)
}

func TestTheWayToADeploymentIsJudged(t *testing.T) {
	server := deployed(t, nil)
	end := server.Certificate().NotAfter
	uri := server.URL + "/callback/askfred"
	has(t, visit(t, server, end.Add(-10*24*time.Hour), uri), doctor.Problem, "tls", "ends in 10 days")
	has(t, visit(t, server, today.Add(time.Hour), uri), doctor.Problem, "clock", "its gateway is")
	// The name localhost is another than the certificate's: what browsers refuse is refused.
	elsewhere := strings.Replace(uri, "127.0.0.1", "localhost", 1)
	all := visit(t, server, today, elsewhere)
	has(t, all, doctor.Warning, "redirect_uri", "another address")
	has(t, all, doctor.Problem, "redirect_uri", "certificate")
	server.Close()
	has(t, visit(t, server, today, uri), doctor.Problem, "server", "cannot be reached")
}

func TestAnOriginIsOne(t *testing.T) {
	for address, want := range map[string]string{
		"https://a.example": "https://a.example", "https://a.example/": "https://a.example", "http://127.0.0.1:8080": "http://127.0.0.1:8080",
		"https://a.example/prod": "", "https://u@a.example": "", "https://a.example?x=1": "", "ftp://a.example": "", "a.example": "", "": "",
	} {
		if got, ok := doctor.Origin(address); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v", address, got, ok)
		}
	}
}

func TestAStackIsJudged(t *testing.T) {
	well := func() doctor.Stack {
		return doctor.Stack{
			Name: "evergrant", Schedules: map[string]string{"Tick": "ENABLED"},
			Alarms: map[string]*doctor.Alarm{"NoTickAlarm": {"OK", true, 1}, "ErrorsAlarm": {"INSUFFICIENT_DATA", true, 1}},
		}
	}
	for _, f := range well().Findings() {
		if f.Level != doctor.Fine {
			t.Errorf("a stack in good health: %+v", f)
		}
	}
	for name, x := range map[string]struct {
		change       func(*doctor.Stack)
		level        doctor.Level
		check, words string
	}{
		"disabled":    {func(s *doctor.Stack) { s.Schedules["Tick"] = "DISABLED" }, doctor.Problem, "schedule", "Tick is disabled"},
		"deleted":     {func(s *doctor.Stack) { s.Schedules["Tick"] = "" }, doctor.Problem, "schedule", "Tick was deleted"},
		"none":        {func(s *doctor.Stack) { s.Schedules = nil }, doctor.Problem, "schedule", "no schedule"},
		"no alarms":   {func(s *doctor.Stack) { s.Alarms = nil }, doctor.Problem, "alarms", "no alarms"},
		"alarm gone":  {func(s *doctor.Stack) { s.Alarms["NoTickAlarm"] = nil }, doctor.Problem, "alarms", "deleted: NoTickAlarm"},
		"alarm rings": {func(s *doctor.Stack) { s.Alarms["NoTickAlarm"].State = "ALARM" }, doctor.Problem, "alarms", "ring: NoTickAlarm"},
		"no topic":    {func(s *doctor.Stack) { s.Alarms["NoTickAlarm"].Actions = 0 }, doctor.Warning, "alarms", "nobody: NoTickAlarm"},
		"muted":       {func(s *doctor.Stack) { s.Alarms["ErrorsAlarm"].Enabled = false }, doctor.Warning, "alarms", "nobody: ErrorsAlarm"},
		"unsettled":   {func(s *doctor.Stack) { s.Unsettled = []string{"Dashboard"} }, doctor.Warning, "stack", "Dashboard"},
	} {
		t.Run(name, func(t *testing.T) {
			s := well()
			x.change(&s)
			has(t, s.Findings(), x.level, x.check, x.words)
		})
	}
}
