package httpapi

import (
	"crypto/sha256"
	"encoding/base64"
	"html"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/evergrant/evergrant/internal/broker"
	"github.com/evergrant/evergrant/internal/config"
	"github.com/evergrant/evergrant/internal/wording"
)

// Longest shown texts, in characters before escaping: what comes from elsewhere, and
// our own sentences, into which a name from elsewhere may have been put.
const (
	maxQuote = 200
	maxOwn   = 600
)

// pageStyle is all the style of our pages but for the colors. It stands in each of them,
// and the Content-Security-Policy admits it by its hash and nothing else at all.
const pageStyle = `
:root{color-scheme:light dark;--paper:#f4f5f2;--card:#fff;--sunk:#f0f2ee;--ink:#1b211d;--soft:#5a655d;--line:#dfe3dc;--good:#1d7a4a;--wait:#8a5a00;--bad:#a6461c}
@media (prefers-color-scheme:dark){:root{--paper:#121512;--card:#1b201c;--sunk:#151a16;--ink:#e9ede8;--soft:#a3aea6;--line:#333a35;--good:#5fcf94;--wait:#e5b457;--bad:#f0996c}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;min-height:100dvh;display:grid;place-items:center;padding:1.25rem;background:var(--paper);color:var(--ink);font:1.0625rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{width:100%;max-width:30rem;padding:2rem 1.75rem;background:var(--card);border:1px solid var(--line);border-top:4px solid var(--brand,var(--tone));border-radius:14px;overflow-wrap:anywhere;--tone:var(--bad)}
main.good{--tone:var(--good)}
main.wait{--tone:var(--wait)}
header{display:flex;align-items:center;gap:.65rem;margin-bottom:1.75rem;font-weight:600}
header img{display:block;height:2rem;max-width:9rem;object-fit:contain}
h1{position:relative;margin:0 0 .75rem;padding-top:3.75rem;font-size:1.5rem;line-height:1.25;letter-spacing:-.01em;text-wrap:balance}
h1::before,h1::after{content:"";position:absolute;inset-block-start:0;inset-inline-start:0;width:2.75rem;height:2.75rem;border-radius:50%;color:var(--tone)}
h1::before{background:currentColor;opacity:.14}
h1::after{border-radius:0;background:linear-gradient(currentColor 0 64%,transparent 64% 79%,currentColor 79%) center/3px 1.2rem no-repeat}
.good h1::after{inset-block-start:.72rem;inset-inline-start:1.05rem;width:.62rem;height:1.08rem;background:none;border:solid currentColor;border-width:0 3px 3px 0;transform:rotate(45deg)}
p{margin:0 0 1rem;text-wrap:pretty}
figure{margin:1.25rem 0;padding:.15rem 0 .15rem 1rem;border-inline-start:3px solid var(--line)}
blockquote{margin:0 0 .25rem}
figcaption,footer,.label{color:var(--soft);font-size:.9rem}
.label{margin:1.25rem 0 .35rem}
code{font:.875rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
.uri,.code{display:block;padding:.65rem .8rem;border:1px solid var(--line);border-radius:8px;background:var(--sunk);user-select:all}
.code{padding:.8rem;font-size:clamp(1.35rem,7vw,1.8rem);font-weight:600;letter-spacing:.06em;text-align:center}
.home{margin-top:1.5rem}
a{display:inline-block;padding:.6rem 1.15rem;border-radius:9px;background:var(--brand,var(--ink));color:var(--on-brand,var(--card));font-weight:600;text-decoration:none}
a:hover{opacity:.88}
a:focus-visible{outline:3px solid var(--tone);outline-offset:3px}
footer{margin-top:1.75rem;padding-top:1rem;border-top:1px solid var(--line)}
footer p,footer code{display:block;margin:0 0 .2rem}
main>:last-child{margin-bottom:0}
`

// look is how the pages of one configuration look.
type look struct {
	config.Pages
	words  wording.Wording
	style  string
	policy string // the Content-Security-Policy
}

func newLook(p config.Pages) look {
	l := look{Pages: p, words: wording.English(p.Messages), style: pageStyle}
	if p.Color != "" {
		l.style += ":root{--brand:" + p.Color + ";--on-brand:" + inkOn(p.Color) + "}\n"
	}
	// The style by its hash: CSP level 3, section 2.3.1.
	sum := sha256.Sum256([]byte(l.style))
	l.policy = "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
	if p.Logo != "" {
		l.policy += "; img-src data:"
	}
	return l
}

// inkOn is black or white, whichever is better read on a color of the form #rrggbb: the
// contrast is 4.5 or more on any (WCAG 2.2, relative luminance).
func inkOn(color string) string {
	n, err := strconv.ParseUint(strings.TrimPrefix(color, "#"), 16, 32)
	if err != nil {
		return "#fff"
	}
	light := 0.0
	for shift, weight := range map[int]float64{16: 0.2126, 8: 0.7152, 0: 0.0722} {
		v := float64(n>>shift&0xff) / 255
		if v <= 0.04045 {
			v /= 12.92
		} else {
			v = math.Pow((v+0.055)/1.055, 2.4)
		}
		light += weight * v
	}
	if light > 0.179 {
		return "#000"
	}
	return "#fff"
}

// page shows p to a person. The page loads nothing, runs nothing, sends nothing and
// stands in no frame.
func (x *exchange) page(status int, p broker.Page) answer {
	header := map[string]string{
		"Content-Security-Policy": x.look.policy,
		"X-Frame-Options":         "DENY",
	}
	return answer{status: status, kind: "text/html; charset=utf-8", body: []byte(x.markup(p)), header: header}
}

// tone is the class of a page: done, to be done again, or refused.
func tone(p wording.Page) string {
	switch p {
	case wording.Connected, wording.TypeCode, wording.AlreadyConnected:
		return "good"
	case wording.Refused, wording.NotRegistered, wording.Suspended, wording.Failed, wording.NoLastingAccess:
		return "bad"
	}
	return "wait"
}

// markup writes the page. Every text goes through text or html.EscapeString, whoever it
// is from.
func (x *exchange) markup(p broker.Page) string {
	var b strings.Builder
	write := func(parts ...string) {
		for _, part := range parts {
			b.WriteString(part)
		}
	}
	l, v := x.look, x.values(p)
	lang, dir := l.words.Language()
	title := l.words.Title(p.Says, v, html.EscapeString)
	write("<!doctype html>\n<html lang=\"", html.EscapeString(lang), "\" dir=\"", html.EscapeString(dir), "\">\n<head>\n<meta charset=\"utf-8\">\n",
		"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"robots\" content=\"noindex\">\n",
		"<title>", title, "</title>\n<style>", l.style, "</style>\n</head>\n<body>\n<main class=\"", tone(p.Says), "\">\n", l.header(),
		"<h1>", title, "</h1>\n<p>", l.words.Text(p.Says, v, html.EscapeString), "</p>\n")
	if !p.Confirm.IsZero() {
		write("<code class=\"code\">", text(p.Confirm.Reveal(), maxOwn), "</code>\n")
	}
	if p.Quote != "" {
		write("<figure>\n<blockquote>", l.words.Label(wording.Quote, v, html.EscapeString), "</blockquote>\n<figcaption>",
			l.words.Label(wording.QuoteFrom, v, html.EscapeString), "</figcaption>\n</figure>\n")
	}
	if l.Home != "" {
		write("<p class=\"home\"><a href=\"", html.EscapeString(l.Home), "\" rel=\"noreferrer\">", l.words.Label(wording.Home, v, html.EscapeString), "</a></p>\n")
	}
	if p.RedirectURI != "" {
		write("<p class=\"label\">", l.words.Label(wording.RedirectURI, v, html.EscapeString), "</p>\n<code class=\"uri\">",
			text(p.RedirectURI, maxOwn), "</code>\n")
	}
	if p.Code != "" {
		write("<footer>\n<p>", l.words.Label(wording.Help, v, html.EscapeString), "</p>\n<code>", text(string(p.Code), maxQuote), " · ", text(x.id, maxQuote), "</code>\n")
		if p.Detail != "" {
			write("<p lang=\"en\" dir=\"ltr\">", text(sentence(p.Detail), maxOwn), "</p>\n")
		}
		write("</footer>\n")
	}
	write("</main>\n</body>\n</html>\n")
	return b.String()
}

// header is whose page it is.
func (l look) header() string {
	if l.Name == "" && l.Logo == "" {
		return ""
	}
	var logo string
	if l.Logo != "" {
		logo = "<img src=\"" + html.EscapeString(l.Logo) + "\" alt=\"\">"
	}
	return "<header>" + logo + "<span>" + text(l.Name, maxQuote) + "</span></header>\n"
}

// values are what the texts of a page name.
func (x *exchange) values(p broker.Page) wording.Values {
	return wording.Values{
		App: text(x.look.Name, maxQuote), Provider: text(p.Provider, maxQuote), Words: text(p.Quote, maxQuote),
		Duration: html.EscapeString(x.look.words.Duration(p.Life)),
	}
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

// errorPage is e for a person. Where the use case has not said which page it is, its code
// does.
func errorPage(x *exchange, e *broker.Error) answer {
	kind := kindOf(e.Code)
	p := broker.Page{Says: e.Page, Provider: e.Provider, Detail: e.Detail, Code: kind.code}
	if p.Says == "" {
		p.Says = pageOf(kind.code)
	}
	a := x.page(kind.status, p)
	for name, value := range errorHeader(x, e) {
		a.header[name] = value
	}
	return a
}

// pageOf is the page of an error that no use case has named one for.
func pageOf(code broker.Code) wording.Page {
	switch code {
	case broker.InvalidRequest, broker.NotFound:
		return wording.BrokenLink
	case broker.RestartConnect:
		return wording.StartAgain
	case broker.RateLimited:
		return wording.TooMany
	}
	return wording.Failed
}
