package config_test

import (
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/config"
)

// mutant declares a change that takes a defence out; tools/mutants reads it.
func mutant(_, _, _, _ string) bool { return true }

var (
	_ = mutant("T18", "internal/config/returnto.go", `	if p.origin != address.origin {
		return false
	}
`, ``)
	_ = mutant("T18", "internal/config/returnto.go", `return strings.HasPrefix(address.path, p.path)`, `return strings.HasPrefix(address.path, strings.TrimSuffix(p.path, "/"))`)
	_ = mutant("T18", "internal/config/returnto.go", `if plain == "." || plain == ".." {`, `if plain == "." {`)
	_ = mutant("T18", "internal/config/returnto.go", `strings.HasPrefix(strings.ToLower(strings.TrimSpace(plain)), "evergrant_")`, `strings.HasPrefix(plain, "evergrant_")`)
)

func TestThreat_T18_a_return_address_has_one_spelling(t *testing.T) {
	i := &config.Integration{ReturnTo: []string{
		"https://app.example.com/settings/*",
		"https://app.example.com/done",
		"https://other.example.com:8443",
		"http://127.0.0.1:3000/*",
		"http://[::1]:3000/done",
		"http://localhost/done",
	}}
	allowed := []string{
		"https://app.example.com/settings/",
		"https://app.example.com/settings/connections",
		"https://app.example.com/settings/a/b/c",
		"https://app.example.com/settings/a?tab=1&next=/x//y",
		"https://app.example.com/settings/a%20b",
		"https://app.example.com/settings/...",
		"https://app.example.com/settings/.hidden",
		"https://app.example.com/settings/a;v=1",
		"https://app.example.com/done",
		"https://app.example.com/done?x=%C3%A4",
		"https://app.example.com/done?u=https://app.example.com/",
		"https://other.example.com:8443",
		"https://other.example.com:8443/",
		"http://127.0.0.1:3000",
		"http://127.0.0.1:3000/a/b",
		"http://[::1]:3000/done",
		"http://localhost/done",
	}
	refused := []string{
		// nothing, or no address
		"", " ", "/settings/x", "//app.example.com/done", "app.example.com/done", "https:", "https://", "https:///done",
		// scheme
		"http://app.example.com/done", "HTTPS://app.example.com/done", "https:/app.example.com/done", "https:app.example.com/done",
		"javascript:alert(1)", "javascript://app.example.com/done", "JavaScript:alert(1)//https://app.example.com/done",
		"data:text/html,x", "vbscript:x", "file:///etc/passwd", "com.example.app://done", "ftp://app.example.com/done",
		"blob:https://app.example.com/done", "view-source:https://app.example.com/done",
		// host
		"https://evil.example/done", "https://app.example.com.evil.example/done", "https://evilapp.example.com/done",
		"https://APP.example.com/done", "https://app.example.com./done", "https://app.example.com:443/done",
		"https://app.example.com:8443/done", "https://app.example.com:/done", "https://app.example.com:0443/done",
		"https://app.example.com:99999/done", "https://app%2eexample.com/done", "https://app.example.com%2eevil.example/done",
		"https://аpp.example.com/done", "https://app。example.com/done", "https://app.example.com%00.evil.example/done",
		"https://[app.example.com]/done", "https://-app.example.com/done", "https://app..example.com/done",
		"http://127.1:3000/x", "http://0x7f.0.0.1:3000/x", "http://2130706433:3000/x", "http://127.0.0.1.evil.example:3000/x",
		"http://127.0.0.2:3000/x", "http://127.0.0.1:3001/x", "https://127.0.0.1:3000/x", "http://[0:0::1]:3000/done",
		"http://[::1%25lo]:3000/done", "http://[::ffff:127.0.0.1]:3000/done", "http://localhost.evil.example/done",
		// user info
		"https://app.example.com@evil.example/done", "https://user@app.example.com/done", "https://user:pw@app.example.com/done",
		"https://app.example.com%40evil.example/done", "https://evil.example#@app.example.com/done",
		// backslash, controls, blanks
		`https://app.example.com\@evil.example/done`, `https:\\app.example.com\done`, `https://app.example.com/settings\..\x`,
		"https://app.example.com/settings/%5c..%5cx", "https://app.example.com/done\r\nLocation: https://evil.example",
		"https://app.example.com/settings/%0d%0aSet-Cookie:x", "https://app.example.com/done?x=%0a", "https://app.example.com/done\t",
		"https://app.example.com/done ", " https://app.example.com/done", "\thttps://app.example.com/done",
		"ht\ntps://app.example.com/done", "https://app.example.com/done\x00", "https://app.example.com/settings/%00", "https://app.example.com/settings/%7f",
		// path
		"https://app.example.com/", "https://app.example.com", "https://app.example.com/settings", "https://app.example.com/settingsx",
		"https://app.example.com/settings-evil/x", "https://app.example.com/Settings/x", "https://app.example.com/done/", "https://app.example.com/done/x",
		"https://app.example.com/donee", "https://app.example.com//settings/x", "https://app.example.com/settings//x", "https://app.example.com/settings//evil.example",
		// dot segments, encoded or not
		"https://app.example.com/settings/../admin", "https://app.example.com/settings/..", "https://app.example.com/settings/.",
		"https://app.example.com/settings/./x", "https://app.example.com/settings/%2e%2e/admin", "https://app.example.com/settings/%2E./admin",
		"https://app.example.com/settings/.%2e", "https://app.example.com/settings/..%2fadmin", "https://app.example.com/settings/%2Fx",
		"https://app.example.com/settings/%252e%252e/admin", "https://app.example.com/settings/..;/admin", "https://app.example.com/settings/..;x=1/admin",
		"https://app.example.com/settings/%2e%2e%3b/admin",
		// the rest
		"https://app.example.com/done#top", "https://app.example.com/done#", "https://app.example.com/settings/*/../x",
		"https://app.example.com/settings/%", "https://app.example.com/settings/%2", "https://app.example.com/settings/%zz", "https://app.example.com/settings/ä",
		`https://app.example.com/settings/"x"`, "https://app.example.com/settings/<x>", "https://app.example.com/settings/{x}", "https://app.example.com/settings/[x]",
		// an answer smuggled in before ours
		"https://app.example.com/done?evergrant_confirm=x", "https://app.example.com/done?a=b&evergrant_session=x",
		"https://app.example.com/done?%65vergrant_confirm=x", "https://app.example.com/done?a=b;evergrant_confirm=x",
		"https://app.example.com/done?Evergrant_Confirm=x", "https://app.example.com/done?+evergrant_confirm=x", "https://app.example.com/done?evergrant_confirm",
		"https://app.example.com/settings/" + strings.Repeat("x", 2048),
	}
	for _, u := range allowed {
		if !i.AllowsReturnTo(u) {
			t.Errorf("refused: %q", u)
		}
	}
	for _, u := range refused {
		if i.AllowsReturnTo(u) {
			t.Errorf("allowed: %q", u)
		}
	}
	for _, u := range append(allowed, refused...) {
		if new(config.Integration).AllowsReturnTo(u) {
			t.Errorf("allowed without a list: %q", u)
		}
	}
}

var (
	_ = mutant("T19", "internal/config/returnto.go", `if !found || scheme != "https" && scheme != "http" {`, `if !found {`)
	_ = mutant("T19", "internal/config/returnto.go", `if scheme == "http" && !loopbackHost(host) {`, `if scheme == "" && !loopbackHost(host) {`)
)

// Not even a configuration that lists such an address gets a browser there.
func TestThreat_T19_a_return_address_is_https_or_on_loopback(t *testing.T) {
	for _, u := range []string{
		"javascript://app.example.com/done", "javascript:alert(1)", "data://text/html,x", "data:text/html,x", "vbscript://app.example.com/x",
		"com.example.app://done/x", "file:///etc/passwd", "ftp://app.example.com/done", "blob://app.example.com/x", "//app.example.com/done",
		"ws://127.0.0.1/done", "HTTPS://app.example.com/done", "http://app.example.com/done", "http://10.0.0.1/done", "http://[::2]/done",
	} {
		i := &config.Integration{ReturnTo: []string{u}}
		if i.AllowsReturnTo(u) {
			t.Errorf("allowed: %s", u)
		}
		c := `{"integrations": {"a": {"client_id": "x", "return_to": ["` + u + `"], "provider": {"id": "a", "authorization_endpoint": "https://a.example/a",
			"token_endpoint": "https://a.example/t", "token_endpoint_auth_method": "none", "pkce": "S256"}}}}`
		if _, err := config.Parse([]byte(c)); err == nil || !strings.Contains(err.Error(), "return_to") {
			t.Errorf("the configuration may list %s: %v", u, err)
		}
	}
	for _, u := range []string{"https://app.example.com/done", "http://127.0.0.1:3000/done", "http://localhost/done", "http://[::1]/done"} {
		if i := (&config.Integration{ReturnTo: []string{u}}); !i.AllowsReturnTo(u) {
			t.Errorf("refused: %s", u)
		}
	}
}

// Whatever is allowed must not be read as another place by net/url.
func FuzzAllowsReturnTo(f *testing.F) {
	i := &config.Integration{ReturnTo: []string{"https://app.example.com/settings/*"}}
	for _, u := range []string{"https://app.example.com/settings/x", "https://app.example.com/settings/../x", `https://app.example.com\@evil/settings/`} {
		f.Add(u)
	}
	f.Fuzz(func(t *testing.T, u string) {
		if !i.AllowsReturnTo(u) {
			return
		}
		if !strings.HasPrefix(u, "https://app.example.com/settings/") || strings.ContainsAny(u, "\\#\r\n\t ") {
			t.Errorf("allowed: %q", u)
		}
		path := cleaned(t, u)
		if !strings.HasPrefix(path+"/", "/settings/") {
			t.Errorf("allowed: %q, whose path is %q", u, path)
		}
	})
}
