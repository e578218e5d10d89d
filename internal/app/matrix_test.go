package app_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evergrant/evergrant/internal/app"
	"github.com/evergrant/evergrant/internal/app/gateway"
	"github.com/evergrant/evergrant/internal/awsjson"
	"github.com/evergrant/evergrant/internal/awssecrets"
	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/console"
	"github.com/evergrant/evergrant/internal/httpapi"
	"github.com/evergrant/evergrant/internal/lambdahttp"
	"github.com/evergrant/evergrant/internal/sqsqueue"
)

// sent is one request of the matrix.
type sent struct {
	method, target string
	body           string // a body makes the request JSON unless header says otherwise
	header         http.Header
	status         int // of both answers
}

func with(pairs ...string) http.Header {
	h := http.Header{}
	for n := 0; n < len(pairs); n += 2 {
		h.Add(pairs[n], pairs[n+1])
	}
	return h
}

// matrix holds requests to every route, good and bad. CONN, SESSION and LINK stand for
// a connection, a session and its link's query.
func matrix() []sent {
	key := func(pairs ...string) http.Header { return with(append(pairs, "Authorization", "Bearer "+apiKey)...) }
	long := strings.Repeat("c0de", 1536)
	cookies := "__Host-evg-00000001=a; __Host-evg-00000002=b; __Host-evg-00000003=c; __Host-evg-00000004=d"
	return []sent{
		// Browsers.
		{"GET", "/authorize/askfred?session=LINK", "", nil, 302},
		{"GET", "/authorize/askfred?session=LINK", "", with("Cookie", cookies), 302},
		{"HEAD", "/authorize/askfred?session=LINK", "", nil, 200},
		{"HEAD", "/authorize/none", "", nil, 404},
		{"GET", "/authorize/askfred", "", nil, 400},
		{"GET", "/authorize/askfred?return_to=https://evil.example/", "", nil, 400},
		{"GET", "/authorize/askfred?session=cs_gone", "", nil, 409},
		{"GET", "/authorize/askfred?session=LINK&session=LINK", "", nil, 400},
		{"GET", "/authorize/askfred?session=%zz", "", nil, 400},
		{"GET", "/authorize/redbooth?session=LINK", "", nil, 409},
		{"GET", "/authorize/askfred?session=" + long + long, "", nil, 400},
		{"GET", "/authorize/%61skfred?session=LINK", "", nil, 404},
		{"GET", "/authorize/askfred/", "", nil, 404},
		{"GET", "/authorize/", "", nil, 404},
		{"POST", "/authorize/askfred?session=LINK", "x=1", with("Content-Type", "application/x-www-form-urlencoded"), 405},
		{"OPTIONS", "/authorize/askfred", "", nil, 405},
		{"OPTIONS", "/authorize/askfred", "", with("Access-Control-Request-Method", "GET", "Origin", "https://evil.example"), 403},
		{"GET", "/callback/askfred?code=" + long + "&state=" + strings.Repeat("s", 43), "", with("Cookie", cookies), 409},
		{"GET", "/callback/askfred?code=1&state=x&code=2", "", nil, 400},
		{"GET", "/callback/askfred?error=access_denied&error_description=%3Cscript%3E&state=x", "", nil, 409},
		{"GET", "/callback/askfred?error_description=%ff%fe&state=x", "", nil, 409},
		{"GET", "/callback/askfred?code=1;state=2", "", nil, 409},
		{"GET", "/callback/askfred", "", nil, 409},
		{"GET", "/callback/none?code=1&state=2", "", nil, 404},
		{"HEAD", "/callback/askfred?code=1&state=2", "", nil, 405},
		{"POST", "/callback/askfred", "code=1&state=2", with("Content-Type", "application/x-www-form-urlencoded"), 405},
		{"GET", "/callback/..%2Fv1", "", nil, 404},

		// The API's own ways to fail.
		{"GET", "/v1/integrations", "", nil, 401},
		{"GET", "/v1/integrations", "", with("Authorization", "Bearer evg_wrong"), 401},
		{"GET", "/v1/integrations", "", with("Cookie", "Authorization=Bearer "+apiKey), 401},
		{"GET", "/v1/integrations", "", key("Authorization", "Bearer second"), 401},
		{"GET", "/v1/integrations?access_token=" + apiKey, "", nil, 401},
		{"OPTIONS", "/v1/integrations", "", with("Access-Control-Request-Method", "GET", "Origin", "https://evil.example"), 403},
		{"DELETE", "/v1/integrations", "", key(), 405},
		{"BREW", "/v1/integrations", "", key(), 405},
		{"GET", "/v1/nothing", "", key(), 404},
		{"GET", "/v1", "", key(), 404},
		{"GET", "/v1//integrations", "", key(), 404},
		{"GET", "/v1/./integrations", "", key(), 404},
		{"GET", "/v1/connections/%63onn_1", "", key(), 404},
		{"GET", "/v1/connections/a%2Fb", "", key(), 404},
		{"GET", "/v1/connections/%C3%A9", "", key(), 404},
		{"GET", "/", "", nil, 404},
		{"GET", "/favicon.ico", "", nil, 404},

		// The API's routes.
		{"GET", "/healthz", "", nil, 200},
		{"HEAD", "/healthz", "", nil, 200},
		{"POST", "/healthz", "{}", nil, 405},
		{"GET", "/v1/openapi.json", "", nil, 200},
		{"GET", "/v1/integrations", "", key(), 200},
		{"HEAD", "/v1/integrations", "", key(), 200},
		{"GET", "/v1/providers", "", key(), 200},
		{"GET", "/v1/providers/askfred", "", key(), 200},
		{"GET", "/v1/providers/none", "", key(), 404},
		{"GET", "/v1/stats", "", key(), 200},
		{"POST", "/v1/admin/reseal", "{}", key(), 403},
		{"POST", "/v1/connect-sessions", `{"integration":"askfred","owner":"é","return_to":"https://app.example.com/x"}`, key(), 201},
		{"POST", "/v1/connect-sessions", `{"integration":"askfred","owner":"a","unknown":1}`, key(), 400},
		{"POST", "/v1/connect-sessions", `{"integration":"askfred","integration":"redbooth","owner":"a"}`, key(), 400},
		{"POST", "/v1/connect-sessions", `{"integration":"none","owner":"a"}`, key(), 404},
		{"POST", "/v1/connect-sessions", `{"owner":"a"} {}`, key(), 400},
		{"POST", "/v1/connect-sessions", strings.Repeat("[", 100), key(), 400},
		{"POST", "/v1/connect-sessions", `{"owner":"` + strings.Repeat("a", 70<<10) + `"}`, key(), 413},
		{"POST", "/v1/connect-sessions", "a=b", key("Content-Type", "application/x-www-form-urlencoded"), 415},
		{"POST", "/v1/connect-sessions", "", key(), 415},
		{"GET", "/v1/connect-sessions/SESSION", "", key(), 200},
		{"GET", "/v1/connect-sessions/cs_gone", "", key(), 404},
		{"POST", "/v1/connect-sessions/SESSION/confirm", `{"confirm":"x","owner":"tenant-7"}`, key(), 409},
		{"GET", "/v1/connections?owner=tenant-7", "", key(), 200},
		{"GET", "/v1/connections?owner=tenant-7&owner=tenant-8", "", key(), 400},
		{"GET", "/v1/connections?owner=tenant%2D7&tag.a%20b=c%26d", "", key(), 200},
		{"GET", "/v1/connections?unknown=1", "", key(), 400},
		{"GET", "/v1/connections", "", key(), 400},
		{"GET", "/v1/connections/CONN", "", key(), 200},
		{"HEAD", "/v1/connections/CONN", "", key(), 200},
		{"PATCH", "/v1/connections/CONN", `{"tags":{"plan":"pro"}}`, key(), 200},
		{"GET", "/v1/connections/CONN/token?min_ttl_s=60", "", key(), 200},
		{"GET", "/v1/connections/CONN/token?need=a+b", "", key(), 409},
		{"GET", "/v1/connections/CONN/token?min_ttl_s=-1", "", key(), 400},
		{"POST", "/v1/connections/CONN/refresh", `{"if_generation":1,"if_token_id":"0011223344556677"}`, key(), 200},
		{"POST", "/v1/connections/CONN/activate", "", key(), 200},
		{"POST", "/v1/connections/CONN/stand-ins", `{"name":""}`, key(), 400},
		{"GET", "/v1/connections/CONN/stand-ins", "", key(), 200},
		{"DELETE", "/v1/connections/CONN/stand-ins/st_none", "", key(), 404},
		{"POST", "/oauth/token", "grant_type=refresh_token&refresh_token=evgst_x", with("Content-Type", "application/x-www-form-urlencoded"), 400},
		{"POST", "/oauth/token", "grant_type=password", with("Content-Type", "application/x-www-form-urlencoded", "Authorization", "Basic eDp5"), 400},
		{"POST", "/oauth/token?refresh_token=x", "", with("Content-Type", "application/x-www-form-urlencoded"), 400},
		{"GET", "/oauth/token", "", nil, 405},
		{"GET", "/iam/oauth/token", "", nil, 404},
		{"GET", "/console", "", nil, 200},
		{"HEAD", "/console", "", nil, 200},
		{"GET", "/console/", "", nil, 308},
		{"GET", "/console/main.js", "", nil, 200},
		{"GET", "/console/icon.svg", "", nil, 200},
		{"GET", "/console/none", "", nil, 404},
		{"POST", "/console", "", nil, 405},
		{"GET", "/iam/v1/integrations", "", key(), 401},
		{"GET", "/iam/v1/nothing", "", key(), 404},
		{"GET", "/iam/healthz", "", nil, 404},
	}
}

// TestSameAnswersByServerAndByFunctions is the route matrix: each request meets the
// one handler under net/http and, through events, the functions.
func TestSameAnswersByServerAndByFunctions(t *testing.T) {
	d := onBolt(t)
	session, back := d.connect("askfred", "tenant-7")
	id := d.call(200, "POST", "/v1/connect-sessions/"+session+"/confirm", `{"confirm":"`+back.Get("evergrant_confirm")+`","owner":"tenant-7"}`)["id"].(string)
	link := d.call(201, "POST", "/v1/connect-sessions", `{"integration":"askfred","owner":"tenant-7"}`)["id"].(string)
	names := strings.NewReplacer("CONN", id, "SESSION", session, "LINK", link)

	secrets := awssecrets.New(awsjson.New(d.parts.AWS(app.SSM), awsjson.SSM()), awsjson.New(d.parts.AWS(app.SecretsManager), awsjson.SecretsManager()))
	c := gateway.Config(d.parts, d.parts.Broker(secrets, sqsqueue.NewRescue(awsjson.New(d.parts.AWS(app.SQS), awsjson.SQS()), rescueQueue), true))
	c.Origin = func(*http.Request) string { return "https://" + gatewayHost }
	c.IAMCaller = func(r *http.Request) (string, bool) {
		caller, ok := lambdahttp.IAMCaller(r.Context())
		return caller.UserARN, ok
	}
	server := httptest.NewServer(console.Before(httpapi.New(c)))
	defer server.Close()
	byServer, byFunction := d.browser(), d.browser()
	byServer.Client.Transport, byServer.Client.Jar, byFunction.Client.Jar = http.DefaultTransport, nil, nil

	for _, s := range matrix() {
		t.Run(s.method+" "+s.target[:min(len(s.target), 60)], func(t *testing.T) {
			s.target = names.Replace(s.target)
			want := s.by(t, byServer, server.URL)
			got := s.by(t, byFunction, "https://"+gatewayHost)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-server +function):\n%s", diff)
			}
			if want.Status != s.status {
				t.Errorf("status %d, want %d: %s", want.Status, s.status, want.Body)
			}
		})
	}
}

// shown is what a client can tell of an answer, apart from what is random.
type shown struct {
	Status int
	Header map[string][]string
	Body   string
}

func (s sent) by(t *testing.T, b *brokertest.Browser, origin string) shown {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), s.method, origin+s.target, strings.NewReader(s.body))
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(r.Header, s.header)
	if s.body != "" && r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/json")
	}
	a := b.Do(r)
	out := shown{a.Status, map[string][]string{}, alike(a.Body)}
	for name, values := range a.Header {
		switch name {
		case "Date", "Content-Length", "Connection": // they tell of a connection, which is the gateway's
		default:
			for _, v := range values {
				out.Header[name] = append(out.Header[name], alike(v))
			}
			slices.Sort(out.Header[name])
		}
	}
	return out
}

// alike replaces what is drawn anew for each request: its id, a session's, and state,
// verifier and cookie of an opening.
func alike(s string) string {
	for pattern, by := range map[string]string{
		`\b[A-Z2-7]{26}\b`:                      "REQUEST",
		`cs_[\w-]{43}`:                          "cs_SESSION",
		`([?&](state|code_challenge))=[\w-]+`:   "$1=RANDOM",
		`^(__Host-evg-)[\w-]{8}=[\w-]{43}(;.*)`: "$1NAME=VALUE$2",
	} {
		s = regexp.MustCompile(pattern).ReplaceAllString(s, by)
	}
	return s
}
