package config_test

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/config/yamlfile"
	"github.com/evergrant/evergrant/internal/provider"
)

func load(t *testing.T, path string) *config.Config {
	t.Helper()
	c, err := yamlfile.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sameRef compares what is in references; none of the compared ones is a literal.
var sameRef = cmp.Comparer(func(a, b config.SecretRef) bool { return a.Kind() == b.Kind() && a.Name() == b.Name() })

func TestFileIsRead(t *testing.T) {
	c := load(t, "testdata/full.yaml")
	if c.PublicURL != "https://auth.example.com" || c.Deployment != "production" {
		t.Errorf("got %q, %q", c.PublicURL, c.Deployment)
	}
	var names []string
	for _, i := range c.Integrations {
		names = append(names, i.Name+" "+i.Provider)
	}
	want := []string{"acme acme", "askfred askfred", "books freeagent", "books-sandbox freeagent", "machine whenfresh", "whenfresh whenfresh"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	books, ok := c.Integration("books")
	if !ok || books.Current().Name != "new" || books.RedirectURI(c.PublicURL+"/") != "https://auth.example.com/callback/books" {
		t.Errorf("got %+v", books)
	}
	if old, ok := books.ClientByID("books-old"); !ok || old.State != config.ClientDraining {
		t.Errorf("got %+v, %v", old, ok)
	}
	if _, ok := books.ClientByID("old"); ok {
		t.Error("a client was found by its name")
	}
	for _, name := range []string{"", "Books", "books/", "book", "boo*"} {
		if _, ok := c.Integration(name); ok {
			t.Errorf("found %q", name)
		}
	}
	whenfresh, _ := c.Integration("whenfresh")
	if id := whenfresh.Current().ClientID; id != whenfresh.Entry.PublicClientID || id == "" || !whenfresh.Current().Public() {
		t.Errorf("the provider's public client id is not used: %q", id)
	}
	askfred, _ := c.Integration("askfred")
	if askfred.Refresh != config.RefreshAhead || askfred.Binding != config.BindingConfirm || askfred.Connect != config.ConnectSession {
		t.Errorf("defaults: %+v", askfred)
	}
}

func TestExtendingKeepsTheRestOfTheEntry(t *testing.T) {
	c := load(t, "testdata/full.yaml")
	sandbox, _ := c.Integration("books-sandbox")
	plain, err := provider.Lookup("freeagent")
	if err != nil {
		t.Fatal(err)
	}
	got := sandbox.Entry
	if got.TokenEndpoint != "https://api.sandbox.freeagent.com/v2/token_endpoint" || got.Refresh.Rotation != "always" {
		t.Errorf("not overridden: %+v", got)
	}
	if got.Refresh.Supported != plain.Refresh.Supported || got.CodeReuseStatus != plain.CodeReuseStatus {
		t.Error("what was not named has changed")
	}
	if _, ok := got.Evidence["token_endpoint"]; ok {
		t.Error("the evidence of a value that was replaced still stands")
	}
	if _, ok := got.Evidence["refresh.rotation"]; ok {
		t.Error("the evidence of a nested value that was replaced still stands")
	}
	if _, ok := got.Evidence["token_endpoint_auth_method"]; !ok {
		t.Error("the evidence of a value that stands has gone")
	}
}

func TestCompiledFormIsTheSameConfiguration(t *testing.T) {
	for _, path := range []string{"testdata/full.yaml", "testdata/rest.yaml"} {
		t.Run(path, func(t *testing.T) { sameWhenCompiled(t, load(t, path)) })
	}
}

func sameWhenCompiled(t *testing.T, c *config.Config) {
	data, err := c.Compile()
	if err != nil {
		t.Fatal(err)
	}
	back, err := config.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	for n := range c.Integrations {
		c.Integrations[n].Entry = c.Integrations[n].Entry.WithoutSources()
	}
	if diff := cmp.Diff(c, back, sameRef); diff != "" {
		t.Errorf("-file +compiled:\n%s", diff)
	}
	again, err := back.Compile()
	if err != nil || string(again) != string(data) {
		t.Errorf("compiled twice it differs, %v", err)
	}
	var shape map[string]any
	if err := json.Unmarshal(data, &shape); err != nil || shape["integrations"].(map[string]any)[c.Integrations[0].Name].(map[string]any)["provider"].(map[string]any)["token_endpoint"] == "" {
		t.Errorf("no entry is inlined, %v", err)
	}
	fromYAML, err := yamlfile.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c, fromYAML, sameRef); diff != "" {
		t.Errorf("-file +read as YAML:\n%s", diff)
	}
}

// TestFilesSayEverything: what is in no test file, the compiled form could lose unseen.
func TestFilesSayEverything(t *testing.T) {
	set := map[string]bool{}
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Slice:
			for n := range v.Len() {
				walk(v.Index(n))
			}
		case reflect.Struct:
			if v.Type().PkgPath() != reflect.TypeFor[config.Config]().PkgPath() {
				return
			}
			for field, value := range v.Fields() {
				if name := v.Type().Name() + "." + field.Name; field.IsExported() {
					set[name] = set[name] || !value.IsZero()
					walk(value)
				}
			}
		}
	}
	for _, path := range []string{"testdata/full.yaml", "testdata/rest.yaml"} {
		walk(reflect.ValueOf(*load(t, path)))
	}
	for name, is := range set {
		if !is {
			t.Errorf("no file of testdata sets %s", name)
		}
	}
}

// TestChangedCompiledFormIsCheckedAgain: whoever edits the packaged file gets the mistakes told.
func TestChangedCompiledFormIsCheckedAgain(t *testing.T) {
	c := load(t, "testdata/full.yaml")
	data, err := c.Compile()
	if err != nil {
		t.Fatal(err)
	}
	for old, changed := range map[string]string{`"refresh":"ahead"`: `"refresh":"never"`, `"integrations":{`: `"integration":{`, `"checked":"sha256:`: `"checked":"sha256:00`} {
		text := strings.Replace(string(data), old, changed, 1)
		if text == string(data) {
			t.Fatalf("the compiled form has no %s", old)
		}
		back, err := config.Parse([]byte(text))
		var mistakes config.Mistakes
		if changed == `"checked":"sha256:00` { // only the hash is wrong
			for n := range c.Integrations {
				c.Integrations[n].Entry = c.Integrations[n].Entry.WithoutSources()
			}
			if diff := cmp.Diff(c, back, sameRef); diff != "" || err != nil {
				t.Errorf("checked again, %v:\n%s", err, diff)
			}
		} else if !errors.As(err, &mistakes) {
			t.Errorf("%s is taken: %v", changed, err)
		}
	}
}

// TestUntouchedCompiledFormIsBelieved: it was checked when it was made. What is wrong here
// would be found by a second look.
func TestUntouchedCompiledFormIsBelieved(t *testing.T) {
	data, err := load(t, "testdata/full.yaml").Compile()
	if err != nil {
		t.Fatal(err)
	}
	start := strings.Index(string(data), `","`) + 2
	body := strings.Replace(string(data[start:]), `"refresh":"ahead"`, `"refresh":"believed"`, 1)
	for _, end := range []string{"", "\n"} { // as a file may end
		text := fmt.Sprintf(`{"checked":"sha256:%x",%s%s`, sha256.Sum256([]byte(body)), body, end)
		c, err := config.Parse([]byte(text))
		if err != nil || !slices.ContainsFunc(c.Integrations, func(i config.Integration) bool { return i.Refresh == "believed" }) {
			t.Errorf("it was checked again: %v", err)
		}
	}
}

var _ = mutant("T70", "internal/config/compile.go", `if client.Secret.Kind() == SecretLiteral {`, `if client.Secret.Kind() == SecretLiteral && client.ClientID == "" {`)

func TestThreat_T70_a_literal_secret_is_not_packaged(t *testing.T) {
	c := load(t, "testdata/loopback.yaml")
	data, err := c.Compile()
	if err == nil || data != nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %s, %v", data, err)
	}
}

func TestWarnings(t *testing.T) {
	var got []string
	for _, path := range []string{"testdata/loopback.yaml", "testdata/full.yaml", "testdata/weak.yaml"} {
		c := load(t, path)
		got = append(got, "# "+path)
		got = append(got, c.Warnings()...)
		got = append(got, c.BuildWarnings()...)
	}
	want, err := os.ReadFile("testdata/warnings.txt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), strings.Join(got, "\n")+"\n"); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestCompiledMistakesHavePlaces(t *testing.T) {
	for text, want := range map[string]string{
		``:                                      "1:1: is not JSON: it ends too early",
		`{"a":`:                                 "1:6: is not JSON: it ends too early",
		"{\n  \"ä\" 1}":                         "2:7: is not JSON: invalid character '1' after object key",
		`{} {}`:                                 "1:4: there is something after the end of the JSON value",
		"\xff":                                  "1:1: is not UTF-8",
		`[]`:                                    "1:1: must be a mapping (key: value), and is a list",
		"{\n \"x\": 1,\n \"integrations\": {}}": "2:2: x: is not a known key\n3:2: integrations: is empty; name at least one integration",
		`{"integrations": {"askfred": {"client_id": "x", "client_id": "y", "provider": "askfred"}}}`: "1:49: integrations.askfred.client_id: is given twice; the first one is in line 1\n" +
			"1:67: integrations.askfred.provider: must be a mapping with the provider's fields: the compiled form holds them; run evergrant config build again",
		strings.Repeat(`[`, 100):                       "1:34: values stand too deep in each other",
		strings.Repeat(" ", config.MaxSize+1):          "1:1: is larger than 1 MiB",
		`{"integrations": {"a": {"allow_private": 1}}`: "1:45: is not JSON: it ends too early",
	} {
		_, err := config.Parse([]byte(text))
		var mistakes config.Mistakes
		if !errors.As(err, &mistakes) || err.Error() != want {
			t.Errorf("%.80q:\ngot  %v\nwant %s", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, path := range []string{"testdata/full.yaml", "testdata/weak.yaml"} {
		c, err := yamlfile.Load(path)
		if err != nil {
			f.Fatal(err)
		}
		data, err := c.Compile()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"integrations":{"a":{"client_id":"x","provider":{"token_endpoint":"http://127.0.0.1/","token_endpoint_auth_method":"none"}}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := config.Parse(data)
		var mistakes config.Mistakes
		if err != nil && (!errors.As(err, &mistakes) || len(mistakes) == 0 || c != nil) {
			t.Fatalf("not Mistakes: %v", err)
		}
		for _, m := range mistakes {
			if m.Line < 1 || m.Column < 1 || m.Text == "" {
				t.Errorf("no place or no text: %+v", m)
			}
		}
		if err != nil {
			return
		}
		compiled, err := c.Compile()
		if err != nil {
			return // a literal secret
		}
		back, err := config.Parse(compiled)
		if err != nil {
			t.Fatalf("the compiled form is refused: %v\n%s", err, compiled)
		}
		if again, err := back.Compile(); err != nil || string(again) != string(compiled) {
			t.Errorf("compiled again it differs, %v", err)
		}
	})
}

func TestBudgets(t *testing.T) {
	const file = `{"integrations": {"a": {"client_id": "x", %s "provider": {"token_endpoint": "https://a.example/t", "authorization_endpoint": "https://a.example/a", "token_endpoint_auth_method": "none", "pkce": "S256"}}}}`
	c, err := config.Parse(fmt.Appendf(nil, file, `"max_concurrent": 8, "max_per_minute": 300,`))
	if err != nil || c.Integrations[0].MaxConcurrent != 8 || c.Integrations[0].MaxPerMinute != 300 {
		t.Fatalf("%+v, %v", c, err)
	}
	b, err := c.Compile()
	if again, err2 := config.Parse(b); err != nil || err2 != nil || again.Integrations[0].MaxPerMinute != 300 || again.Integrations[0].MaxConcurrent != 8 {
		t.Errorf("compiled: %v, %v", err, err2)
	}
	for _, text := range []string{`"max_concurrent": 0,`, `"max_concurrent": 1001,`, `"max_per_minute": 1.5,`, `"max_per_minute": -1,`, `"max_concurrent": "8",`} {
		if _, err := config.Parse(fmt.Appendf(nil, file, text)); err == nil || !strings.Contains(err.Error(), "number") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
