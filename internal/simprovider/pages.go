package simprovider

import (
	"bytes"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// pageTemplates are the pages that a person sees. They load nothing from elsewhere
// and run no script.
const pageTemplates = `
{{define "head"}}<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}} (simulated)</title>
<style>
:root { color-scheme: light dark; --edge: light-dark(#d7dbe2, #3a404b); --soft: light-dark(#5b6472, #a2abba); --go: #1f6feb; }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.5rem;
  font: 16px/1.5 system-ui, sans-serif; background: light-dark(#f3f5f8, #14171c); color: light-dark(#1c2128, #e8ebf0); }
main { width: 100%; max-width: 27rem; padding: 2rem; border: 1px solid var(--edge); border-radius: 14px;
  background: light-dark(#fff, #1c2027); }
h1 { margin: 0 0 1rem; font-size: 1.35rem; line-height: 1.3; }
p { margin: 0 0 1rem; } ul { margin: 0 0 1rem; padding-left: 1.2rem; }
.tag { margin: 0 0 .4rem; font-size: .78rem; letter-spacing: .06em; text-transform: uppercase; color: var(--soft); }
.soft { color: var(--soft); font-size: .9rem; overflow-wrap: anywhere; }
label { display: block; margin-bottom: .3rem; font-weight: 600; }
select, button, code.token { font: inherit; border-radius: 9px; border: 1px solid var(--edge); }
select { width: 100%; padding: .55rem; margin-bottom: 1.2rem; background: transparent; color: inherit; }
option { color: #1c2128; background: #fff; }
.row { display: flex; gap: .7rem; }
button { flex: 1; padding: .6rem 1rem; cursor: pointer; background: transparent; color: inherit; }
button.go { background: var(--go); border-color: var(--go); color: #fff; font-weight: 600; }
:focus-visible { outline: 3px solid var(--go); outline-offset: 2px; }
code.token { display: block; padding: .7rem; margin-bottom: 1rem; max-height: 8rem; overflow: auto;
  word-break: break-all; user-select: all; font: .8rem/1.5 ui-monospace, monospace; }
</style>
</head>
<body><main>
<p class="tag">{{.Title}}, simulated</p>{{end}}

{{define "consent"}}{{template "head" .}}
<h1>Allow “{{.ClientID}}” to use your {{.Title}} account?</h1>
{{if .Scopes}}<p>It asks for:</p>
<ul>{{range .Scopes}}<li>{{.}}</li>{{end}}</ul>
{{else}}<p>It will act for you at {{.Title}} until you take this back.</p>
{{end}}<form method="post" action="{{.Action}}">
{{range .Hidden}}<input type="hidden" name="{{.Name}}" value="{{.Value}}">
{{end}}<label for="user">Signed in as</label>
<select id="user" name="user">{{range .Users}}<option value="{{.Login}}">{{.Name}} ({{.Login}})</option>{{end}}</select>
<div class="row">
<button type="submit" name="decision" value="deny">Deny</button>
<button class="go" type="submit" name="decision" value="allow">Allow</button>
</div>
</form>
<p class="soft" style="margin: 1.2rem 0 0">You will go back to {{.Target}}</p>
</main></body></html>
{{end}}

{{define "error"}}{{template "head" .}}
<h1>This request cannot be answered</h1>
<p>{{.Problem}}</p>
<p class="soft">The browser is not sent back, since it is not certain where it came from.</p>
</main></body></html>
{{end}}

{{define "tokens"}}{{template "head" .}}
<h1>My Tokens</h1>
<p>A fresh refresh token for {{.User.Name}}. It is shown this once.</p>
<code class="token" id="refresh_token" tabindex="0">{{.Token}}</code>
<p class="soft">client_id: {{.ClientID}}</p>
<form method="get" action="{{.Action}}">
<label for="user">Another account</label>
<select id="user" name="user">{{range .Users}}<option value="{{.Login}}">{{.Name}} ({{.Login}})</option>{{end}}</select>
<div class="row"><button class="go" type="submit">Show a token</button></div>
</form>
</main></body></html>
{{end}}
`

// field is a hidden form field.
type field struct{ Name, Value string }

// page is what the templates show.
type page struct {
	Title, ClientID, Target, Action, Problem, Token string
	Scopes                                          []string
	Hidden                                          []field
	Users                                           []User
	User                                            User
}

func (sv *service) page(status int, name string, p page) answer {
	p.Title, p.Users = sv.d.title, Users()
	var b bytes.Buffer
	if err := sv.pages.ExecuteTemplate(&b, name, p); err != nil {
		return textAnswer(http.StatusInternalServerError, "The simulator could not show its page.\n")
	}
	// No form-action here: browsers apply it to the redirect that follows the form.
	return newAnswer(status, "text/html; charset=utf-8", b.Bytes()).
		with("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'").
		with("Referrer-Policy", "no-referrer")
}

// consentPage asks the user. The form repeats the parameters of the request.
func (sv *service) consentPage(q *request, a authorization) answer {
	p := page{ClientID: a.client.ID, Action: q.http.URL.EscapedPath(), Scopes: strings.Fields(a.scope)}
	if u, err := url.Parse(a.redirectURI); err == nil {
		p.Target = u.Scheme + "://" + u.Host
	}
	for _, values := range []url.Values{q.query, q.form} {
		for name := range values {
			p.Hidden = append(p.Hidden, field{Name: name, Value: q.param(name)})
		}
	}
	slices.SortFunc(p.Hidden, func(a, b field) int { return strings.Compare(a.Name, b.Name) })
	p.Hidden = slices.DeleteFunc(slices.Compact(p.Hidden), func(f field) bool {
		return f.Name == "user" || f.Name == "decision"
	})
	return sv.page(http.StatusOK, "consent", p)
}

func (sv *service) errorPage(problem string) answer {
	return sv.page(http.StatusBadRequest, "error", page{Problem: problem})
}
