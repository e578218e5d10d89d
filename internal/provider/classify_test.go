package provider_test

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/evergrant/evergrant/internal/provider"
	"github.com/evergrant/evergrant/internal/secret"
	"github.com/google/go-cmp/cmp"
)

func testNow() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) }

// refreshed classifies an answer to a refresh with "old" and tells what came of
// it in one line: verdict, lost, error, the refresh token kept.
func refreshed(e provider.Entry, status int, body string, h http.Header) string {
	req := provider.Request{Grant: provider.GrantRefreshToken, RefreshToken: secret.New("old")}
	a := provider.Classify(e, req, provider.Outcome{Status: status, Body: []byte(body), Header: h}, testNow())
	line := string(a.Verdict)
	if a.ResponseLost {
		line += " lost"
	}
	if a.Error != "" {
		line += " error=" + a.Error
	}
	return line + " rt=" + a.RefreshToken.Reveal()
}

func TestErrorCodesAreFoundWhereProvidersPutThem(t *testing.T) {
	nested := provider.Entry{TokenPath: "data.user"}
	for _, c := range []struct {
		name   string
		entry  provider.Entry
		status int
		body   string
		want   string
	}{
		{"string code of an object first", provider.Entry{}, 400, `{"error":{"type":"T","code":"C","status":"S"}}`, "config_error error=C rt=old"},
		{"then its status", provider.Entry{}, 400, `{"error":{"type":"T","code":7,"status":"S"}}`, "config_error error=S rt=old"},
		{"then its integer code", provider.Entry{}, 400, `{"error":{"type":"T","code":7}}`, "config_error error=7 rt=old"},
		{"then its type", provider.Entry{}, 400, `{"error":{"type":"T","code":7.5}}`, "config_error error=T rt=old"},
		{"integer error", provider.Entry{}, 200, `{"error":190,"access_token":"at"}`, "config_error error=190 rt=old"},
		{"error zero is none", provider.Entry{}, 200, `{"error":0.0,"access_token":"at"}`, "ok rt=old"},
		{"error true has no code", provider.Entry{}, 200, `{"error":true,"access_token":"at"}`, "malformed lost rt=old"},
		{"error list has no code", provider.Entry{}, 200, `{"error":["x"],"access_token":"at"}`, "malformed lost rt=old"},
		{"overlong error has no code", provider.Entry{}, 200, `{"error":"` + strings.Repeat("x", 257) + `","access_token":"at"}`, "malformed lost rt=old"},
		{"longest code", provider.Entry{}, 400, `{"error":"` + strings.Repeat("x", 256) + `"}`, "config_error error=" + strings.Repeat("x", 256) + " rt=old"},
		{"nested error", nested, 200, `{"data":{"user":{"error":"invalid_grant"}}}`, "needs_reauth error=invalid_grant rt=old"},
		{"top before nested", nested, 200, `{"error":"invalid_scope","data":{"user":{"error":"invalid_grant"}}}`, "config_error error=invalid_scope rt=old"},
		{"nested path broken by a list", nested, 200, `{"data":[{"user":{"error":"invalid_grant"}}]}`, "malformed lost rt=old"},
		{"errors list", provider.Entry{}, 401, `{"success":false,"errors":[{"errorType":"invalid_grant","message":"gone"}]}`, "needs_reauth error=invalid_grant rt=old"},
		{"status word", provider.Entry{}, 400, `{"status":"Failure"}`, "config_error rt=old"},
		{"status digits", provider.Entry{}, 400, `{"status":"400"}`, "config_error rt=old"},
		{"integer code on success", provider.Entry{}, 200, `{"code":40001}`, "config_error error=40001 rt=old"},
		{"good integer code on success", provider.Entry{}, 200, `{"code":200,"error_code":0}`, "malformed lost rt=old"},
		{"integer code with an HTTP error", provider.Entry{}, 400, `{"code":40001}`, "config_error rt=old"},
		{"other places count not beside a token", provider.Entry{}, 200, `{"code":"oops","access_token":"at"}`, "ok rt=old"},
		{"but beside an empty one", provider.Entry{}, 200, `{"code":"oops","access_token":""}`, "config_error error=oops rt=old"},
		{"garbage after it", provider.Entry{}, 400, `{"error":"invalid_grant"}}`, "config_error rt=old"},
		{"form", provider.Entry{}, 400, "error=invalid_grant&error_description=gone", "needs_reauth error=invalid_grant rt=old"},
		{"form with a bad escape", provider.Entry{}, 400, "error=invalid_grant&x=%zz", "config_error rt=old"},
		{"form with a blank", provider.Entry{}, 400, "error=invalid_grant &x=1", "config_error rt=old"},
		{"words with an equals sign", provider.Entry{}, 400, "status=down", "config_error rt=old"},
		{"new refresh token beside an error", provider.Entry{}, 200, `{"error":"invalid_grant","refresh_token":"new"}`, "needs_reauth error=invalid_grant rt=new"},
		{"not beside an HTTP error", provider.Entry{}, 400, `{"error":"invalid_grant","refresh_token":"new"}`, "needs_reauth error=invalid_grant rt=old"},
		{"retry before dead", provider.Entry{RetryErrors: []string{"INVALID_GRANT~busy"}}, 400, `{"error":"invalid_grant","message":"Too BUSY"}`, "retry error=invalid_grant rt=old"},
		{"dead before retry", provider.Entry{DeadRefreshErrors: []string{"slow_down"}}, 400, `{"error":"slow_down"}`, "needs_reauth error=slow_down rt=old"},
		{"text in the error object", provider.Entry{DeadRefreshErrors: []string{"x@400~gone"}}, 400, `{"error":{"code":"x","message":"All gone"}}`, "needs_reauth error=x rt=old"},
		{"text absent", provider.Entry{DeadRefreshErrors: []string{"x@400~gone"}}, 400, `{"error":{"code":"x"},"hint":"gone"}`, "config_error error=x rt=old"},
	} {
		if got := refreshed(c.entry, c.status, c.body, nil); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestChallengeNamesTheErrorOnlyAsAParameter(t *testing.T) {
	for challenge, want := range map[string]string{
		`Bearer error="invalid_grant"`:                                   "needs_reauth error=invalid_grant rt=old",
		`Basic realm="x", Bearer realm="y",ERROR = "invalid_grant"`:      "needs_reauth error=invalid_grant rt=old",
		`Bearer error_description="say error=\"invalid_grant\" if"`:      "config_error error=invalid_client rt=old",
		`Bearer error_description=" error=", error="invalid_\request"`:   "config_error error=invalid_request rt=old",
		`Bearer xerror="invalid_grant"`:                                  "config_error error=invalid_client rt=old",
		`Bearer error=""`:                                                "config_error error=invalid_client rt=old",
		"Bearer error=\"inv\u00e9\"":                                     "config_error error=invalid_client rt=old",
		`Bearer error="` + strings.Repeat("x", 257) + `"`:                "config_error error=invalid_client rt=old",
		`Bearer realm="unterminated, error=invalid_grant`:                "config_error error=invalid_client rt=old",
		`Bearer error_uri="https://a/?error=invalid_grant", error="b d"`: "config_error error=b d rt=old",
	} {
		h := http.Header{"Www-Authenticate": {challenge}}
		if got := refreshed(provider.Entry{}, 401, "", h); got != want {
			t.Errorf("%s: got %s, want %s", challenge, got, want)
		}
	}
	two := http.Header{"Www-Authenticate": {`Basic realm="a"`, `Bearer error="token_revoked"`}}
	if got, want := refreshed(provider.Entry{}, 400, "", two), "needs_reauth error=token_revoked rt=old"; got != want {
		t.Errorf("second header: got %s, want %s", got, want)
	}
	if got, want := refreshed(provider.Entry{}, 400, `{"error":"invalid_scope"}`, two), "config_error error=invalid_scope rt=old"; got != want {
		t.Errorf("the body goes first: got %s, want %s", got, want)
	}
}

func TestTokensAreTakenFromOnePlace(t *testing.T) {
	e := provider.Entry{TokenPath: "user"}
	for body, want := range map[string]string{
		`{"access_token":"bot","refresh_token":"bot-rt","user":{"access_token":"at"}}`:                      "ok rt=old",
		`{"access_token":"bot","refresh_token":"bot-rt","user":{"access_token":"at","refresh_token":"rt"}}`: "ok rt=rt",
		`{"access_token":"bot","refresh_token":"bot-rt","user":{"access_token":null,"refresh_token":"rt"}}`: "ok rt=rt",
		`{"access_token":"bot","refresh_token":"bot-rt","user":{"refresh_token":"r\n"}}`:                    "ok rt=bot-rt",
		`{"access_token":"bot","user":{"refresh_token":"r\n"}}`:                                             "ok lost rt=old",
		`{"access_token":"bot","user":{"access_token":""}}`:                                                 "malformed lost rt=old",
		`{"access_token":"at","refresh_token":"a","refresh_token":"b"}`:                                     "malformed lost rt=old",
		`{"access_token":"at","refresh_token":"a","refresh\u005ftoken":"b"}`:                                "malformed lost rt=old",
		`{"access_token":"at","x":{"refresh_token":"a","refresh_token":"b"}}`:                               "ok rt=old",
		`{"access_token":"at","refresh_token":false}`:                                                       "ok rt=old",
		`{"access_token":"at","refresh_token":true}`:                                                        "ok lost rt=old",
		`{"access_token":"at","refresh_token":"with a blank"}`:                                              "ok rt=with a blank",
		`{"access_token":"at","refresh_token":"` + strings.Repeat("r", 65537) + `"}`:                        "ok lost rt=old",
		`{"access_token":"at","refresh_token":"new","expires_in":1}{}`:                                      "malformed lost rt=new",
		`{"access_token":"at","refresh_token":"new"` + "}\x00":                                              "malformed lost rt=new",
		`{"access_token":"at","refresh_token":"new",}`:                                                      "malformed lost rt=old",
		`{"access_token":"at","refresh_token":"new","n":01}`:                                                "malformed lost rt=old",
		`{"access_token":"at","refresh_token":"new","n":NaN}`:                                               "malformed lost rt=old",
		`{'access_token':'at'}`: "malformed lost rt=old",
		` {"access_token":"at","refresh_token":"new","x":"\ud800"} `: "ok rt=new",
		`ok {"access_token":"at"}`:                                   "malformed lost rt=old",
		`access_token=at&refresh_token=r%20t&refresh_token=`:         "malformed lost rt=old",
		`access_token=at&refresh_token=r+t`:                          "ok rt=r t",
		"\n\ufeff" + `{"access_token":"at"}`:                         "ok rt=old",
		`{"access_token":"at","x":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `,"refresh_token":"new"}`: "ok rt=new",
		`{"access_token":"at","x":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `,"refresh_token":"new"}`: "malformed lost rt=old",
	} {
		if got := refreshed(e, 200, body, nil); got != want {
			t.Errorf("%.90s: got %.60s, want %.60s", body, got, want)
		}
	}
}

func TestLifeOfAnAccessToken(t *testing.T) {
	for body, want := range map[string]int64{
		`"expires_in":" 3600 "`:                                    3600,
		`"expires_in":"+3.6e3"`:                                    3600,
		`"expires_in":1.9`:                                         1,
		`"expires_in":0.9`:                                         0,
		`"expires_in":631152000`:                                   631152000,
		`"expires_in":631152001`:                                   0,
		`"expires_in":1e400`:                                       0,
		`"expires_in":"0x10"`:                                      0,
		`"expires_in":"1_000"`:                                     0,
		`"expires_in":"inf"`:                                       0,
		`"expires_in":[3600]`:                                      0,
		`"expires_in":0,"expires":60`:                              60,
		`"expires_in":"x","expires_at":"2026-11-21T12:00:30Z"`:     30,
		`"expires_at":"2026-11-21T13:00:30.9+01:00"`:               30,
		`"expires_at":"2026-11-21t12:00:30z"`:                      0,
		`"expires_at":"2026-11-21T12:00:30,5Z"`:                    0,
		`"expires_at":"2026-11-21 12:00:30Z"`:                      0,
		`"expires_at":"2026-11-21T12:00:30"`:                       0,
		`"expires_at":"1795262460.5"`:                              60,
		`"expires_at":1795262000,"expires_on":1795262430000`:       30,
		`"ext_expires_in":60,"refresh_expires_in":60`:              0,
		`"created_at":1,"issued_at":"1795262400000","expires":"5"`: 5,
	} {
		a := provider.Classify(provider.Entry{}, provider.Request{Grant: provider.GrantClientCredentials},
			provider.Outcome{Status: 200, Body: []byte(`{"access_token":"at",` + body + `}`)}, testNow())
		if a.Verdict != provider.VerdictOK || a.ExpiresIn != want {
			t.Errorf("%s: %s, %d s, want %d s", body, a.Verdict, a.ExpiresIn, want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for value, want := range map[string]int64{
		"":                                 -1,
		" 7 ":                              7,
		"0":                                0,
		"99999999999999999999999":          3600,
		"1.5":                              -1,
		"+5":                               -1,
		"Sat, 21 Nov 2026 12:00:09 GMT":    9,
		"Saturday, 21-Nov-26 12:00:09 GMT": 9,
		"Sat Nov 21 12:00:09 2026":         9,
		"Sat, 21 Nov 2026 11:00:00 GMT":    0,
		"Sat, 21 Nov 2026 15:00:00 GMT":    3600,
	} {
		a := provider.Classify(provider.Entry{}, provider.Request{Grant: provider.GrantClientCredentials},
			provider.Outcome{Status: 429, Header: http.Header{"Retry-After": {value}}}, testNow())
		if a.RetryAfter != want {
			t.Errorf("%q: %d, want %d", value, a.RetryAfter, want)
		}
	}
}

func TestScopeFallsBackToWhatWasAsked(t *testing.T) {
	for body, want := range map[string]string{
		`"scope":"b a b"`:           "b a",
		`"scope":["a","","a","b"]`:  "a b",
		`"scope":"","scopes":["x"]`: "x",
		`"scope":7`:                 "asked more",
		`"scope":[]`:                "asked more",
		`"scope":" \t "`:            "asked more",
	} {
		a := provider.Classify(provider.Entry{}, provider.Request{Grant: provider.GrantClientCredentials, Scope: []string{"asked", "more asked"}},
			provider.Outcome{Status: 200, Body: []byte(`{"access_token":"at",` + body + `}`)}, testNow())
		if !a.ScopeKnown || a.Scope != want {
			t.Errorf("%s: %q, want %q", body, a.Scope, want)
		}
	}
	comma := provider.Entry{ScopeSeparator: ","}
	a := provider.Classify(comma, provider.Request{Grant: provider.GrantClientCredentials},
		provider.Outcome{Status: 200, Body: []byte(`{"access_token":"at","scope":" a , b,,a"}`)}, testNow())
	if a.Scope != "a b" {
		t.Errorf("comma: %q", a.Scope)
	}
}

var _ = mutant("T30", "internal/provider/classify.go", `if s[i] < lowest || s[i] > 0x7e {`, `if s[i] > 0x7e {`)

// What would split a header of whoever sends the token on is no token (RFC 6750 section
// 2.1 and RFC 9110 section 5.5); a space may stand in a refresh token alone, which goes
// into no header.
func TestThreat_T30_a_token_holds_legal_characters_only(t *testing.T) {
	for name, c := range map[string]struct{ body, want string }{
		"line break":       {`{"access_token":"at\r\nX-Evil: 1"}`, "malformed lost rt=old"},
		"line feed":        {`{"access_token":"at\n"}`, "malformed lost rt=old"},
		"tab":              {`{"access_token":"a\tt"}`, "malformed lost rt=old"},
		"NUL":              {`{"access_token":"a\u0000t"}`, "malformed lost rt=old"},
		"space":            {`{"access_token":"a t"}`, "malformed lost rt=old"},
		"DEL":              {`{"access_token":"a\u007ft"}`, "malformed lost rt=old"},
		"not ASCII":        {`{"access_token":"\u00e4t"}`, "malformed lost rt=old"},
		"refresh token":    {`{"access_token":"at","refresh_token":"new\r\n"}`, "ok lost rt=old"},
		"legal":            {`{"access_token":"!~","refresh_token":"new"}`, "ok rt=new"},
		"space in refresh": {`{"access_token":"at","refresh_token":"n w"}`, "ok rt=n w"},
	} {
		if got := refreshed(provider.Entry{}, 200, c.body, nil); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

func TestDetailShowsNoSecretAndNoControls(t *testing.T) {
	req := provider.Request{
		Grant:        provider.GrantAuthorizationCode,
		Code:         secret.New("CANARY/code"),
		CodeVerifier: secret.New("CANARY-verifier"),
	}
	body := `{"error":"bad CANARY/code","error_description":"x\u0007\u202e\r\n CANARY%2Fcode CANARY/code CANARY-verifier new-rt ` + strings.Repeat("é", 300) + `","refresh_token":"new-rt"}`
	a := provider.Classify(provider.Entry{}, req, provider.Outcome{Status: 200, Body: []byte(body)}, testNow())
	if strings.Contains(a.Detail+a.Error, "CANARY") || strings.Contains(a.Detail, "new-rt") {
		t.Errorf("detail %q, error %q", a.Detail, a.Error)
	}
	if strings.ContainsAny(a.Detail, "\a\r\n\u202e") || len([]rune(a.Detail)) != 200 {
		t.Errorf("detail %q", a.Detail)
	}
}

func TestKeptFieldsMustMatchTheirPattern(t *testing.T) {
	e := provider.Entry{Keep: []provider.Keep{
		{From: "token", Field: "instance_url", As: "instance", Pattern: `https://[a-z.]+`},
		{From: "token", Field: "team.id", Pattern: `T\d+`},
		{From: "token", Field: "bad", Pattern: `[a-z]+`},
		{From: "token", Field: "hook", Pattern: `.+`, Secret: true},
		{From: "callback", Field: "realmId", As: "realm", Pattern: `\d{1,20}`},
	}}
	body := `{"access_token":"at","instance_url":"https://na.example","team":{"id":"T1"},"bad":"x\ny","hook":"s3cret","realmId":"1"}`
	a := provider.Classify(e, provider.Request{Grant: provider.GrantAuthorizationCode}, provider.Outcome{Status: 200, Body: []byte(body)}, testNow())
	if diff := cmp.Diff(`{"instance":"https://na.example","team.id":"T1"}`, a.Fields); diff != "" {
		t.Error(diff)
	}
	if got := a.SecretFields.Reveal(); got != `{"hook":"s3cret"}` {
		t.Errorf("secret fields %s", got)
	}
	fields, _, err := e.CallbackFields(map[string][]string{"realmId": {"42"}, "hook": {"x"}})
	if err != nil || fields != `{"realm":"42"}` {
		t.Errorf("callback fields %s, %v", fields, err)
	}
	if _, _, err := e.CallbackFields(map[string][]string{"realmId": {"42\n"}}); err == nil {
		t.Error("a realm with a line break was taken")
	}
}

func gzipIsBoundedAfterDecompression(t *testing.T) {
	zip := func(body string) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write([]byte(body))
		_ = z.Close()
		return b.String()
	}
	h := http.Header{"Content-Encoding": {" GZip "}}
	good := zip(`{"access_token":"at","refresh_token":"new"}`)
	for name, c := range map[string]struct{ body, want string }{
		"good":      {good, "ok rt=new"},
		"cut":       {good[:len(good)-1], "malformed lost rt=old"},
		"bad sum":   {good[:len(good)-8] + "12345678", "malformed lost rt=old"},
		"and after": {good + "x", "malformed lost rt=old"},
		"bomb":      {zip(`{"access_token":"at","x":"` + strings.Repeat("0", 8<<20) + `"}`), "malformed lost rt=old"},
	} {
		if got := refreshed(provider.Entry{}, 200, c.body, h); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}
