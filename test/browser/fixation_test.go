package browser_test

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/evergrant/evergrant/internal/broker/brokertest"
)

// fixation is an application with two people in front of it, Mallory and Victor, each in
// a browser with a profile of its own. Mallory wants Victor's account at the provider to
// end up with Mallory's owner, or Mallory's account with Victor's. At the provider Mallory
// is alice, and Victor is bob.
type fixation struct {
	*brokertest.World
	integration     string
	app             string // origin of the application
	mallory, victor *tab
}

// newFixation is one in a mode: confirm with Redbooth, cookie with AskFRED.
func newFixation(t *testing.T, mode string) *fixation {
	t.Helper()
	if os.Getenv("EVERGRANT_CHROMIUM") == "" {
		t.Skip("needs a browser: set EVERGRANT_CHROMIUM to the path of Chromium (make reference-chromium finds one)")
	}
	f := &fixation{integration: map[string]string{"confirm": "redbooth", "cookie": "askfred"}[mode]}
	app := httptest.NewServer(http.HandlerFunc(f.serveApp))
	t.Cleanup(app.Close)
	f.app = app.URL
	f.World = brokertest.New(t, brokertest.Options{Integrations: fmt.Sprintf(`
  %s: {client_id: app, client_secret: "${env:CLIENT_SECRET}", binding: %s, return_to: ["%s/back"]}
`, f.integration, mode, f.app)})
	f.mallory, f.victor = open(t, 800, 600, false), open(t, 800, 600, false)
	return f
}

// serveApp is the application: /login?user= begins its session in a browser, and /back is
// where connects return to. It confirms for whoever is logged in, as an application must.
func (f *fixation) serveApp(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	show := func(format string, args ...any) {
		_, _ = io.WriteString(w, "<!doctype html><title>App</title><h1>"+html.EscapeString(fmt.Sprintf(format, args...))+"</h1>")
	}
	if r.URL.Path == "/login" {
		http.SetCookie(w, &http.Cookie{Name: "app_user", Value: q.Get("user"), Path: "/", HttpOnly: true})
		show("Hello %s", q.Get("user"))
		return
	}
	user, err := r.Cookie("app_user")
	switch {
	case r.URL.Path != "/back" || err != nil:
		http.NotFound(w, r)
	case q.Get("evergrant_confirm") != "":
		body := fmt.Sprintf(`{"confirm":%q,"owner":%q}`, q.Get("evergrant_confirm"), user.Value)
		res, err := http.DefaultClient.Do(f.Request("all", http.MethodPost, "/v1/connect-sessions/"+q.Get("evergrant_session")+"/confirm", body))
		if err != nil {
			show("Error: %v", err)
			return
		}
		_ = res.Body.Close()
		show("Confirmed for %s: %d", user.Value, res.StatusCode)
	case q.Get("evergrant_connection") != "":
		show("Connected, as seen by %s", user.Value)
	default:
		show("Not connected: %s", q.Get("evergrant_error"))
	}
}

// link makes a connect link for an owner, who is logged in to the application by b.
func (f *fixation) link(b *tab, owner string) string {
	f.T.Helper()
	b.do("log in", chromedp.Navigate(f.app+"/login?user="+owner))
	body := fmt.Sprintf(`{"integration":%q,"owner":%q,"return_to":%q}`, f.integration, owner, f.app+"/back")
	return f.Call("all", http.MethodPost, "/v1/connect-sessions", body).Want(f.T, http.StatusCreated, "").JSON(f.T)["authorize_url"].(string)
}

// allow has the user consent on the provider's page, which b shows.
func (b *tab) allow(user string) {
	b.t.Helper()
	b.until(`document.querySelector("#user") !== null`)
	evaluate[string](b, `document.querySelector("#user").value = `+quoted(user))
	b.click(`button[value="allow"]`)
}

// stopped lets the user consent and stops the browser before it opens our callback, whose
// address it returns.
func (b *tab) stopped(user string) *url.URL {
	b.t.Helper()
	b.do("hold callbacks", command(fetch.Enable, fetch.EnableParams{Patterns: []*fetch.RequestPattern{{URLPattern: "*/callback/*"}}}))
	b.allow(user)
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	var held *fetch.EventRequestPaused
	for held == nil {
		select {
		case <-again.C:
		case <-ctx.Done():
			b.t.Fatal("no callback came")
		}
		b.mu.Lock()
		held, b.held = b.held, nil
		b.mu.Unlock()
	}
	b.do("stop the callback", command(fetch.FailRequest, fetch.FailRequestParams{RequestID: held.RequestID, ErrorReason: network.ErrorReasonAborted}),
		command(fetch.Disable, cdp.Empty{}))
	u, err := url.Parse(held.Request.URL)
	if err != nil {
		b.t.Fatal(err)
	}
	return u
}

// opens has the browser open an address and waits for a page with this heading.
func (b *tab) opens(address, heading string) {
	b.t.Helper()
	b.do("open an address", chromedp.Navigate(address))
	b.shows("h1", heading)
}

// want fails unless each owner has a connection to the account of this user at the
// provider, "" for none at all.
func (f *fixation) want(accounts map[string]string) {
	f.T.Helper()
	for owner, want := range accounts {
		var list struct{ Items []struct{ ID string } }
		f.Must(json.Unmarshal([]byte(f.Call("all", http.MethodGet, "/v1/connections?owner="+owner, "").Want(f.T, http.StatusOK, "").Body), &list))
		var got []string
		for _, c := range list.Items {
			_, token := f.Tokens(c.ID)
			info, _ := f.Sim.Lookup(f.integration, token)
			got = append(got, info.User)
		}
		if strings.Join(got, " ") != want {
			f.T.Errorf("%s is connected to the accounts %q, want %q", owner, got, want)
		}
	}
}

// What each mode stops, with two real browsers. docs/security.md tells it in words.
func TestFixationInTwoBrowsers(t *testing.T) {
	for _, mode := range []string{"confirm", "cookie"} {
		t.Run(mode, func(t *testing.T) {
			f := newFixation(t, mode)
			f.noAttack(mode)
			f.forwardedLink(mode)
			f.forwardedPage()
			f.forwardedCallback()
			f.swapped(mode)
			f.CheckSecrets()
		})
	}
}

func (f *fixation) noAttack(mode string) {
	f.T.Helper()
	f.victor.do("open the link", chromedp.Navigate(f.link(f.victor, "victor-0")))
	f.victor.allow("bob")
	f.victor.shows("h1", map[string]string{"confirm": "Confirmed for victor-0: 200", "cookie": "Connected, as seen by victor-0"}[mode])
	f.want(map[string]string{"victor-0": "bob"})
}

// Victor opens Mallory's link and consents. Confirm mode asks the application who that
// was; cookie mode does not, and Victor's account is Mallory's then.
func (f *fixation) forwardedLink(mode string) {
	f.T.Helper()
	f.link(f.victor, "victor-1")
	link := f.link(f.mallory, "mallory-1")
	f.victor.do("open the forwarded link", chromedp.Navigate(link))
	f.victor.allow("bob")
	if mode == "confirm" {
		f.victor.shows("h1", "Confirmed for victor-1: 403")
		f.want(map[string]string{"mallory-1": "", "victor-1": ""})
		return
	}
	f.victor.shows("h1", "Connected, as seen by victor-1")
	f.want(map[string]string{"mallory-1": "bob", "victor-1": ""})
}

// Mallory opens the link first, so that the cookie is in Mallory's browser, and forwards
// the provider's page.
func (f *fixation) forwardedPage() {
	f.T.Helper()
	f.link(f.victor, "victor-2")
	f.mallory.do("open the link", chromedp.Navigate(f.link(f.mallory, "mallory-2")))
	f.mallory.until(`document.querySelector("#user") !== null`)
	page := evaluate[string](f.mallory, "location.href")
	f.victor.do("open the provider's page", chromedp.Navigate(page))
	f.victor.allow("bob")
	f.victor.shows("h1", "Please start again")
	f.want(map[string]string{"mallory-2": "", "victor-2": ""})
}

// Mallory consents and forwards the address of the callback instead of opening it. It is
// spent by Victor's browser, for Mallory too.
func (f *fixation) forwardedCallback() {
	f.T.Helper()
	f.link(f.victor, "victor-3")
	f.mallory.do("open the link", chromedp.Navigate(f.link(f.mallory, "mallory-3")))
	callback := f.mallory.stopped("alice").String()
	f.victor.opens(callback, "Please start again")
	f.mallory.opens(callback, "Please start again")
	f.want(map[string]string{"mallory-3": "", "victor-3": ""})
}

// Both are on their way back. Each gets the other's code under the state of their own
// browser: cookie and state are right, and PKCE tells that the code is not.
func (f *fixation) swapped(mode string) {
	f.T.Helper()
	var callbacks []*url.URL
	for n, b := range []*tab{f.victor, f.mallory} {
		b.do("open the link", chromedp.Navigate(f.link(b, []string{"victor-4", "mallory-4"}[n])))
		callbacks = append(callbacks, b.stopped([]string{"bob", "alice"}[n]))
	}
	of := func(code, state int) string {
		u, q := *callbacks[0], callbacks[state].Query()
		q.Set("code", callbacks[code].Query().Get("code"))
		u.RawQuery = q.Encode()
		return u.String()
	}
	refused := map[string][]string{
		"confirm": {"Confirmed for victor-4: 409", "Confirmed for mallory-4: 409"},
		"cookie":  {"Not connected: restart_connect", "Not connected: restart_connect"},
	}[mode]
	f.victor.opens(of(1, 0), refused[0])
	f.mallory.opens(of(0, 1), refused[1])
	f.want(map[string]string{"mallory-4": "", "victor-4": ""})
}
