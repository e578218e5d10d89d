package httpapi

import (
	"crypto/sha256"
	"encoding/base64"
	"html"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/evergrant/evergrant/internal/broker"
)

// Longest shown texts, in characters before escaping: what comes from elsewhere, and
// our own sentences, into which a name from elsewhere may have been put.
const (
	maxQuote = 200
	maxOwn   = 600
)

// pageStyle is all the style of our pages. It stands in each of them, and the
// Content-Security-Policy admits it by its hash and nothing else at all.
const pageStyle = `
:root{color-scheme:light dark;--paper:#f4f5f2;--card:#fff;--ink:#1b211d;--soft:#5a655d;--line:#dfe3dc;--good:#1d7a4a;--bad:#a6461c}
@media (prefers-color-scheme:dark){:root{--paper:#121512;--card:#1b201c;--ink:#e9ede8;--soft:#a3aea6;--line:#333a35;--good:#5fcf94;--bad:#f0996c}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1.25rem;background:var(--paper);color:var(--ink);font:1.0625rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{width:100%;max-width:30rem;padding:2rem 1.75rem;background:var(--card);border:1px solid var(--line);border-top:4px solid var(--bad);border-radius:14px;overflow-wrap:anywhere}
main.good{border-top-color:var(--good)}
h1{margin:0 0 .75rem;font-size:1.45rem;line-height:1.25;text-wrap:balance}
p{margin:0 0 1rem}
figure{margin:1.25rem 0;padding:.25rem 0 .25rem 1rem;border-left:3px solid var(--line)}
blockquote{margin:0 0 .25rem}
figcaption,footer,.label{color:var(--soft);font-size:.9rem}
.label{margin:1.25rem 0 .35rem}
code{font:.9rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.uri{display:block;padding:.65rem .8rem;border:1px solid var(--line);border-radius:8px;user-select:all}
footer{margin-top:1.75rem;padding-top:1rem;border-top:1px solid var(--line)}
main>:last-child{margin-bottom:0}
`

// styleHash is pageStyle as a source of a Content-Security-Policy (CSP level 3,
// section 2.3.1).
func styleHash() string {
	sum := sha256.Sum256([]byte(pageStyle))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// page shows p to a person. The page loads nothing, runs nothing, sends nothing and
// stands in no frame.
func (x *exchange) page(status int, p broker.Page) answer {
	header := map[string]string{
		"Content-Security-Policy": "default-src 'none'; style-src " + x.style + "; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
		"X-Frame-Options":         "DENY",
	}
	return answer{status: status, kind: "text/html; charset=utf-8", body: []byte(x.markup(p)), header: header}
}

// markup writes the page. Every text goes through text or quote, whoever it is from.
func (x *exchange) markup(p broker.Page) string {
	class := ""
	if p.Code == "" {
		class = ` class="good"`
	}
	var b strings.Builder
	write := func(parts ...string) {
		for _, part := range parts {
			b.WriteString(part)
		}
	}
	write("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
		"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"robots\" content=\"noindex\">\n",
		"<title>", text(p.Title, maxOwn), "</title>\n<style>", pageStyle, "</style>\n</head>\n<body>\n<main", class, ">\n",
		"<h1>", text(p.Title, maxOwn), "</h1>\n")
	if p.Text != "" {
		write("<p>", text(sentence(p.Text), maxOwn), "</p>\n")
	}
	if p.Quote != "" {
		from := p.QuoteFrom
		if from == "" {
			from = "the provider"
		}
		write("<figure>\n<blockquote>“", text(p.Quote, maxQuote), "”</blockquote>\n<figcaption>These are the words of ",
			text(from, maxQuote), ", not ours.</figcaption>\n</figure>\n")
	}
	if !p.Confirm.IsZero() {
		write("<code class=\"uri\">", text(p.Confirm.Reveal(), maxOwn), "</code>\n")
	}
	if p.RedirectURI != "" {
		write("<p class=\"label\">If you look after this application: this redirect URI has to be registered at the provider.</p>\n<code class=\"uri\">",
			text(p.RedirectURI, maxOwn), "</code>\n")
	}
	if p.Code != "" {
		write("<footer>When you ask for help, name this: <code>", text(string(p.Code), maxQuote), "</code>, request <code>", text(x.id, maxQuote), "</code>.</footer>\n")
	}
	write("</main>\n</body>\n</html>\n")
	return b.String()
}

// sentence is s with a capital and a full stop: the use cases word their refusals as
// the API shows them.
func sentence(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	s = string(unicode.ToUpper(first)) + s[size:]
	if !strings.HasSuffix(s, ".") && !strings.HasSuffix(s, "…") {
		s += "."
	}
	return s
}

// text is s as it may stand in a page's text.
func text(s string, limit int) string { return html.EscapeString(visible(s, limit)) }

// visible is s, cut after limit characters, with what has no form of its own shown as
// an escape: controls, line ends, zero-width characters and those that turn the
// direction of what follows, by which a text can read as another than it is.
func visible(s string, limit int) string {
	var b strings.Builder
	count := 0
	for _, r := range s {
		if count == limit {
			b.WriteString("…")
			break
		}
		count++
		switch {
		case r == ' ', r != utf8.RuneError && unicode.IsGraphic(r) && !unicode.In(r, unicode.Zs, unicode.Other_Default_Ignorable_Code_Point):
			b.WriteRune(r)
		default:
			b.WriteString(escape(r))
		}
	}
	return b.String()
}

// escape spells r in ASCII, as Go and JSON do.
func escape(r rune) string {
	quoted := strconv.QuoteRuneToASCII(r)
	if r == utf8.RuneError {
		return `\ufffd`
	}
	return quoted[1 : len(quoted)-1]
}

// errorPage is e for a person. Where the use case has not said it in better words,
// its heading is that of the code.
func errorPage(x *exchange, e *broker.Error) answer {
	kind := kindOf(e.Code)
	p := broker.Page{Title: kind.heading, Text: e.Detail, Code: kind.code}
	if p.Text == "" {
		p.Text = "Go back to the application and try again."
	}
	a := x.page(kind.status, p)
	for name, value := range errorHeader(x, e) {
		a.header[name] = value
	}
	return a
}
