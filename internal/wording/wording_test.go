package wording_test

import (
	"encoding/json"
	"html"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/wording"
)

func pages() []wording.Page {
	return []wording.Page{
		wording.Connected, wording.TypeCode, wording.AlreadyConnected, wording.Connecting, wording.Denied, wording.StartAgain, wording.ExpiredLink,
		wording.BrokenLink, wording.OtherAccount, wording.NoLastingAccess, wording.Refused, wording.NotRegistered, wording.Suspended,
		wording.ProviderAway, wording.TooMany, wording.Busy, wording.Failed,
	}
}

func labels() []wording.Label {
	return []wording.Label{wording.Home, wording.Quote, wording.QuoteFrom, wording.RedirectURI, wording.Help}
}

// The file holds every text that is asked for, passes its own check and holds nothing else.
func TestTheEnglishFileIsWhole(t *testing.T) {
	var texts map[string]string
	if err := json.Unmarshal(wording.File(), &texts); err != nil {
		t.Fatal(err)
	}
	want := []string{"lang", "dir", "app", "minute", "minutes"}
	for _, p := range pages() {
		want = append(want, string(p)+".title", string(p)+".text")
	}
	for _, l := range labels() {
		want = append(want, string(l))
	}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(texts)); !slices.Equal(got, want) || !slices.Equal(got, wording.Keys()) {
		t.Errorf("the file holds\n%q, want\n%q", got, want)
	}
	for key, text := range texts {
		if err := wording.Check(key, text); err != nil {
			t.Errorf("%s %v", key, err)
		}
	}
}

// Each page says something in the end, whatever is known of the moment.
func TestNoBraceIsEverShown(t *testing.T) {
	w := wording.English(nil)
	for _, v := range []wording.Values{{Provider: "P", Words: "W", Duration: w.Duration(60)}, {App: "A", Provider: "P", Words: "W", Duration: w.Duration(600)}} {
		var shown []string
		for _, p := range pages() {
			shown = append(shown, w.Title(p, v, html.EscapeString), w.Text(p, v, html.EscapeString))
		}
		for _, l := range labels() {
			shown = append(shown, w.Label(l, v, html.EscapeString))
		}
		for _, text := range shown {
			if text == "" || strings.ContainsAny(text, "{}") || regexp.MustCompile(`(?i)\b(oauth|token|grant|client|callback|session|scope)\b`).MatchString(text) {
				t.Errorf("a person reads %q", text)
			}
		}
	}
	if one, more := w.Duration(60), w.Duration(600); one != "a minute" || more != "10 minutes" {
		t.Errorf("got %q and %q", one, more)
	}
}

// A value is put in once and never read again; our own words are escaped.
func TestValuesAreNoTexts(t *testing.T) {
	w := wording.English(map[string]string{"connected.title": `<b>{provider}</b> & {app}`})
	got := w.Title(wording.Connected, wording.Values{App: "{provider}", Provider: "{app}{words}"}, html.EscapeString)
	if got != "&lt;b&gt;{app}{words}&lt;/b&gt; &amp; {provider}" {
		t.Errorf("got %q", got)
	}
}

func TestTextsAreChecked(t *testing.T) {
	for _, c := range []struct{ key, text, want string }{
		{"connected.title", "Fertig: {provider}", ""},
		{"connected.title", "", "1 to 600 characters"},
		{"connected.title", strings.Repeat("x", 601), "1 to 600 characters"},
		{"connected.title", "a\nb", "one line"},
		{"connected.title", "{owner}", "may hold {app}, {provider}, and not {owner}"},
		{"connected.title", "{app", "and not {app"},
		{"connected.title", "app}", "and not }"},
		{"start_again.text", "{provider}", "and not {provider}"},
		{"type_code.title", "{duration}", "and not {duration}"},
		{"minute", "{n}", "may hold no {name}, and not {n}"},
		{"lang", "Deutsch, bitte", "language tag"},
		{"lang", "pt-BR", ""},
		{"dir", "up", "ltr or rtl"},
	} {
		err := wording.Check(c.key, c.text)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q: got %v, want %q", c.key, c.text, err, c.want)
		}
	}
}

func TestWhatATranslationLacks(t *testing.T) {
	if got := wording.Missing(map[string]string{"app": "Acme"}); got != nil {
		t.Errorf("in English nothing is missing, got %q", got)
	}
	whole := map[string]string{}
	for _, key := range wording.Keys() {
		whole[key] = "x"
	}
	whole["lang"] = "de"
	if got := wording.Missing(whole); got != nil {
		t.Errorf("got %q", got)
	}
	delete(whole, "help")
	if got := wording.Missing(whole); !slices.Equal(got, []string{"help"}) {
		t.Errorf("got %q", got)
	}
}
