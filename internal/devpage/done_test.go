package devpage_test

import (
	"encoding/json"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/wire"
)

// asApplication is curl with the page's key.
func (p *person) asApplication(address, body string, answer any) {
	p.t.Helper()
	r, err := http.NewRequest(http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+p.key.Reveal())
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if err := json.NewDecoder(res.Body).Decode(answer); err != nil || res.StatusCode >= 400 {
		p.t.Fatalf("%s: %d, %v", address, res.StatusCode, err)
	}
}

// The walk of the README: a link made by curl, a consent, and the command that the
// last page shows.
func TestTheLastPageShowsWhatToRun(t *testing.T) {
	p := newStack(t).browser()
	var made wire.NewSession
	p.asApplication(p.origin+"/v1/connect-sessions", `{"integration":"redbooth","owner":"user-42","return_to":"`+p.origin+`/app/done"}`, &made)
	consent, _ := p.get(made.AuthorizeURL)
	form := consent.Query()
	form.Set("decision", "allow")
	end, page := p.read(p.client.PostForm(consent.String(), form))
	if end.Path != "/app/done" {
		t.Fatalf("ended at %s", end)
	}
	command := html.UnescapeString(regexp.MustCompile(`(?s)<code id="command">(.*?)</code>`).FindStringSubmatch(page)[1])
	parts := regexp.MustCompile(`^curl -s \$EVERGRANT_URL(/\S+) -H "Authorization: Bearer \$EVERGRANT_API_KEY" -H 'Content-Type: application/json' -d '(\{.*\})'$`).FindStringSubmatch(command)
	if parts == nil {
		t.Fatalf("the page shows %s", command)
	}
	var c wire.Connection
	p.asApplication(p.origin+parts[1], parts[2], &c)
	if c.Owner != "user-42" || c.Status != "active" {
		t.Errorf("connected %+v", c)
	}
	if strings.Contains(page, p.key.Reveal()) {
		t.Error("the page holds the key")
	}
}

func TestTheLastPageShowsNothingOfItsOwn(t *testing.T) {
	p := newStack(t).browser()
	good := url.Values{"evergrant_session": {"cs_0123456789"}, "evergrant_confirm": {"abc"}}
	for name, c := range map[string]struct{ parameter, value, want string }{
		"a denial":           {"evergrant_error", "access_denied", "access_denied"},
		"an error in prose":  {"evergrant_error", "Call 555-1234", "begin with a connect session"},
		"a session's script": {"evergrant_session", "cs_<script>", "begin with a connect session"},
		"a session's path":   {"evergrant_session", "../../healthz", "begin with a connect session"},
		"a shell's command":  {"evergrant_confirm", "abc';reboot;'", "begin with a connect session"},
		"a variable":         {"evergrant_confirm", "$HOME", "begin with a connect session"},
		"a line":             {"evergrant_confirm", "abc\n", "begin with a connect session"},
	} {
		q := url.Values{}
		if c.parameter != "evergrant_error" {
			q.Set("evergrant_session", good.Get("evergrant_session"))
			q.Set("evergrant_confirm", good.Get("evergrant_confirm"))
		}
		q.Set(c.parameter, c.value)
		_, page := p.get(p.origin + "/app/done?" + q.Encode())
		if !strings.Contains(page, c.want) || strings.Contains(page, "curl") || c.want != c.value && strings.Contains(page, c.value) {
			t.Errorf("%s: %s", name, page)
		}
	}
	if _, page := p.get(p.origin + "/app/done?" + good.Encode()); !strings.Contains(page, "cs_0123456789/confirm") {
		t.Errorf("the good ones: %s", page)
	}
}
