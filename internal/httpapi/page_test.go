package httpapi_test

import (
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/httpapi"
	"github.com/evergrant/evergrant/internal/wording"
)

func TestPageIsTheApplicationsOwn(t *testing.T) {
	look := config.Pages{
		Name: "Acme & Co", Logo: "data:image/png;base64,AAAA", Color: "#ffe600", Home: "https://app.example.com/?a=1&b=2",
		Messages: map[string]string{
			"lang": "ar", "dir": "rtl", "connected.title": "{provider} متصل", "connected.text": "يمكنك العودة إلى {app}.", "home": "<{app}>",
		},
	}
	page := httpapi.Markup(look, broker.Page{Says: wording.Connected, Provider: "FreeAgent"})
	for _, want := range []string{
		`<html lang="ar" dir="rtl">`, `<title>FreeAgent متصل</title>`, `<h1>FreeAgent متصل</h1>`, `<p>يمكنك العودة إلى Acme &amp; Co.</p>`,
		`<header><img src="data:image/png;base64,AAAA" alt=""><span>Acme &amp; Co</span></header>`, `:root{--brand:#ffe600;--on-brand:#000}`,
		`<a href="https://app.example.com/?a=1&amp;b=2" rel="noreferrer">&lt;Acme &amp; Co&gt;</a>`, `<main class="good">`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s:\n%s", want, page)
		}
	}
	if strings.Contains(page, "<footer>") {
		t.Error("a page of success asks for help")
	}
	plain := httpapi.Markup(config.Pages{}, broker.Page{Says: wording.Connected, Provider: "FreeAgent"})
	for _, no := range []string{"<header", "<img", "<a ", "--brand:"} {
		if strings.Contains(plain, no) {
			t.Errorf("the page of nobody in particular holds %s", no)
		}
	}
}

// What a person reads of each error that the entrance or a use case ends in, and what
// support is told.
func TestErrorsHaveTheirPages(t *testing.T) {
	w := newWorld(t)
	for path, want := range map[string]struct {
		status        int
		title, detail string
	}{
		"/authorize/nothing?session=cs_x":    {404, "This link does not work", "not_found · "},
		"/authorize/freeagent":               {400, "This link does not work", "The link names no session."},
		"/authorize/freeagent?session=cs_x":  {409, "This link has expired", "restart_connect · "},
		"/authorize/freeagent?session=a&b=%": {400, "This link does not work", "The query is not encoded correctly."},
		"/callback/freeagent?code=x":         {409, "Please start again", "restart_connect · "},
	} {
		g := w.Browser().Open(w.Origin + path)
		for _, text := range []string{"<h1>" + want.title + "</h1>", want.detail, "If you ask for help"} {
			if g.Status != want.status || !strings.Contains(g.Body, text) {
				t.Errorf("%s: %d, and the page lacks %q", path, g.Status, text)
			}
		}
	}
}

func TestTextOnAnyColorCanBeRead(t *testing.T) {
	for color, want := range map[string]string{"#000000": "#fff", "#ffffff": "#000", "#1d4fd7": "#fff", "#ffe600": "#000", "#1d7a4a": "#fff", "#777777": "#000"} {
		if got := httpapi.InkOn(color); got != want {
			t.Errorf("on %s: %s, want %s", color, got, want)
		}
	}
}
