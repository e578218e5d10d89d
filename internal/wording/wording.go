package wording

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Page names a page. It has a title and a text.
type Page string

// The pages.
const (
	Connected        Page = "connected"
	TypeCode         Page = "type_code" // a code to type where the person began; knows Values.Duration
	AlreadyConnected Page = "already_connected"
	Connecting       Page = "connecting"

	Denied          Page = "denied"            // the person said no
	StartAgain      Page = "start_again"       // a callback without a state that is alive
	ExpiredLink     Page = "expired_link"      // a link whose session is over
	BrokenLink      Page = "broken_link"       // a link that is not as it was made
	OtherAccount    Page = "other_account"     // a reconnect of another account
	NoLastingAccess Page = "no_lasting_access" // no refresh token came
	Refused         Page = "refused"           // the provider refused, nobody knows why
	NotRegistered   Page = "not_registered"    // the provider refused the application's registration
	Suspended       Page = "suspended"         // so it did before, and nobody is sent there now
	ProviderAway    Page = "provider_away"
	TooMany         Page = "too_many" // tries from one network
	Busy            Page = "busy"     // tries of all
	Failed          Page = "failed"   // our own mistake
)

// The texts besides those of pages.
const (
	lang     = "lang"
	dir      = "dir"
	app      = "app" // what {app} stands for where the configuration has no name
	minute   = "minute"
	minutes  = "minutes"
	maxRunes = 600
)

// Label names a text that stands on several pages.
type Label string

// The labels.
const (
	Home        Label = "home"         // the button that leads back
	Quote       Label = "quote"        // a provider's own words; knows Values.Words
	QuoteFrom   Label = "quote_from"   // whose they are
	RedirectURI Label = "redirect_uri" // above the address to register
	Help        Label = "help"         // above what support asks for
)

// Values are what a text may name, as they may be put into a page: escaped.
type Values struct {
	App      string // "" for the wording's own
	Provider string
	Words    string
	Duration string
}

//go:embed messages.json
var file []byte

// File is messages.json: the English wording, to begin a translation with.
func File() []byte { return slices.Clone(file) }

// Wording is a whole set of texts. It is read-only and may be used concurrently.
type Wording struct{ texts map[string]string }

// English is the wording of messages.json, with replacements for some or all of its texts.
// Each of them must have passed Check.
func English(replacements map[string]string) Wording {
	w := Wording{texts: map[string]string{}}
	if err := json.Unmarshal(file, &w.texts); err != nil {
		panic(err) // it is embedded: the build is wrong
	}
	maps.Copy(w.texts, replacements)
	return w
}

// Keys are the names of all texts, sorted.
func Keys() []string { return slices.Sorted(maps.Keys(English(nil).texts)) }

// Missing are the keys that a translation lacks, sorted; none where the replacements are
// in English too.
func Missing(replacements map[string]string) []string {
	var list []string
	if l := replacements[lang]; l == "" || l == "en" || strings.HasPrefix(l, "en-") {
		return nil
	}
	for _, key := range Keys() {
		if _, ok := replacements[key]; !ok && key != dir {
			list = append(list, key)
		}
	}
	return list
}

// Check says what is wrong with a text for a key. The words continue a sentence that
// begins with the key.
func Check(key, text string) error {
	switch {
	case text == "" || utf8.RuneCountInString(text) > maxRunes:
		return fmt.Errorf("must be a text of 1 to %d characters", maxRunes)
	case strings.ContainsFunc(text, unicode.IsControl):
		return fmt.Errorf("must be one line without control characters")
	case key == lang && !regexp.MustCompile(`^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$`).MatchString(text):
		return fmt.Errorf("must be a language tag, such as de or pt-BR")
	case key == dir && text != "ltr" && text != "rtl":
		return fmt.Errorf("must be ltr or rtl")
	}
	known := names(key)
	for _, name := range regexp.MustCompile(`\{[^{}]*\}?|\}`).FindAllString(text, -1) {
		if !slices.Contains(known, name) {
			return fmt.Errorf("may hold %s, and not %s", orNothing(known), name)
		}
	}
	return nil
}

// names are the {names} that the text of a key may hold.
func names(key string) []string {
	switch key {
	case lang, dir, app, minute:
		return nil
	case minutes:
		return []string{"{n}"}
	case string(Quote):
		return []string{"{words}"}
	case string(Home), string(Help):
		return []string{"{app}"}
	case string(TypeCode) + ".text":
		return []string{"{app}", "{provider}", "{duration}"}
	}
	page, _, _ := strings.Cut(key, ".")
	switch Page(page) {
	case StartAgain, ExpiredLink, BrokenLink, AlreadyConnected, Connecting, TooMany, Busy, Failed:
		return []string{"{app}"} // there may be no provider, or nobody vouches for it
	}
	return []string{"{app}", "{provider}"}
}

func orNothing(names []string) string {
	if len(names) == 0 {
		return "no {name}"
	}
	return strings.Join(names, ", ")
}

// Language is the page's language tag (RFC 5646) and its direction, ltr or rtl.
func (w Wording) Language() (tag, direction string) { return w.texts[lang], w.texts[dir] }

// Title is that of a page. Like all texts it comes with escape applied to the wording's
// own words; the values are escaped already.
func (w Wording) Title(p Page, v Values, escape func(string) string) string {
	return w.fill(string(p)+".title", v, escape)
}

// Text says what happened on a page and what to do.
func (w Wording) Text(p Page, v Values, escape func(string) string) string {
	return w.fill(string(p)+".text", v, escape)
}

// Label is a text that stands on several pages.
func (w Wording) Label(l Label, v Values, escape func(string) string) string {
	return w.fill(string(l), v, escape)
}

// Duration is a length of time for people: s seconds, in whole minutes.
func (w Wording) Duration(s int64) string {
	if s < 120 {
		return w.texts[minute]
	}
	return strings.ReplaceAll(w.texts[minutes], "{n}", fmt.Sprint(s/60))
}

// fill replaces all names at once, so that a value which looks like a name stays as it is.
func (w Wording) fill(key string, v Values, escape func(string) string) string {
	if v.App == "" {
		v.App = escape(w.texts[app])
	}
	return strings.NewReplacer(
		"{app}", v.App, "{provider}", v.Provider, "{words}", v.Words, "{duration}", v.Duration,
	).Replace(escape(w.texts[key]))
}
