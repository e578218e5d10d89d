package browser_test

import (
	"flag"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/evergrant/evergrant/internal/broker/brokertest"
	"github.com/evergrant/evergrant/internal/console"
	"github.com/evergrant/evergrant/internal/httpapi"
	"github.com/evergrant/evergrant/internal/simprovider"
)

var pictures = flag.Bool("pictures", false, "write the pictures of docs/images")

// A screen is how a person looks at a page.
type screen struct {
	name          string
	width, height int64
	dark          bool
}

func screens() []screen {
	return []screen{
		{"desktop", 1280, 860, false}, {"desktop-dark", 1280, 860, true}, {"tablet", 768, 1000, false}, {"phone", 360, 760, false}, {"phone-dark", 360, 760, true},
	}
}

// brand is an application's, as its configuration says it. The logo is an SVG.
const brand = `
pages:
  name: Acme Books
  color: "#1d4fd7"
  home: https://app.example.com/settings
  logo: "data:image/svg+xml;base64,PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciIHZpZXdCb3g9IjAgMCAzMiAzMiI+PHBhdGggZmlsbD0iIzFkNGZkNyIgZD0iTTQgNmEyIDIgMCAwIDEgMi0yaDl2MjRINmEyIDIgMCAwIDEtMi0yem0xMy0yaDlhMiAyIDAgMCAxIDIgMnYyMGEyIDIgMCAwIDEtMiAyaC05eiIvPjwvc3ZnPg=="
`

// newDay is a deployment that has been at work for the last 22 hours. Meanwhile one
// provider was away, and one of its users took the access back.
func newDay(t *testing.T) *brokertest.World {
	t.Helper()
	const hours = 22
	now := time.Now().Truncate(time.Minute)
	w := brokertest.New(t, brokertest.Options{Start: now.Add(-hours * time.Hour), Integrations: `
  askfred: {client_id: app, client_secret: "${env:CLIENT_SECRET}", binding: cookie}
  freeagent: {client_id: app, client_secret: "${env:CLIENT_SECRET}", binding: cookie}
  redbooth: {client_id: app, client_secret: "${env:CLIENT_SECRET}", binding: cookie}
  whenfresh: {}
`})
	var ids []string
	for n, owner := range []string{"acme-gmbh", "borealis", "cirrus-labs", "dune-and-co", "elm-street", "fjord-as"} {
		user := []string{"alice", "bob"}[n/2%2]
		ids = append(ids, w.ConnectAs("askfred", user, owner))
		ids = append(ids, w.ConnectAs([]string{"redbooth", "freeagent"}[n%2], user, owner))
	}
	troubles := []func(){
		func() {
			w.Must(w.Sim.AddFault("redbooth", simprovider.Fault{On: "token", Kind: "status", Status: 503, Count: 9}))
		},
		func() { w.Sim.RevokeUser("redbooth", "alice") },
	}
	begin, late := w.Unix(), []int64{1, 2, 1, 6, 1, 14, 3} // s after its minute
	for n := 0; w.Unix() < now.Unix(); n++ {
		w.AdvanceTo(min(soonest(w, ids)+late[n%len(late)], now.Unix()))
		w.Home.TickNow()
		if len(troubles) > 0 && w.Unix() > begin+int64(18-4*len(troubles))*3600 {
			troubles[0]()
			troubles = troubles[1:]
		}
	}
	w.Settings.PublicURL = "https://auth.example.com"
	w.Restart()
	return w
}

// soonest is when the next of the connections is refreshed, or half an hour from now.
func soonest(w *brokertest.World, ids []string) int64 {
	next := w.Unix() + 1800
	for _, id := range ids {
		v, err := w.Home.Get(w.T.Context(), brokertest.Caller(), id)
		w.Must(err)
		if v.NextRefreshAt > w.Unix() {
			next = min(next, v.NextRefreshAt)
		}
	}
	return next
}

// What axe finds is a failure, in each size and scheme, and nothing is wider than the
// screen. With -pictures docs/images is written.
func TestTheConsoleIsAccessibleOnEveryScreen(t *testing.T) {
	axe := axeSource(t)
	w := newDay(t)
	front := httptest.NewServer(console.Before(httpapi.New(w.HTTP(w.Home))))
	t.Cleanup(front.Close)
	d := &dev{origin: front.URL, key: w.Key("all")}
	for _, s := range screens() {
		b := open(t, s.width, s.height, s.dark)
		look := func(name string) {
			b.check(axe, name+" on "+s.name, s.width)
			b.picture(name + "-" + s.name)
		}
		b.do("open the console", chromedp.Navigate(d.origin+"/console"))
		b.until(`document.querySelector("#key") !== null`)
		look("console-sign-in")
		b.console(d)
		b.until(`document.querySelectorAll("svg.chart").length === 2 && [...document.querySelectorAll('td[data-label="Need their user"]')].every((e) => e.innerText !== "–")`)
		look("console-overview")
		b.goes("Connections")
		look("console-connections-first")
		b.choose(key("integration"), "redbooth")
		b.shows(".list", "Needs the user")
		look("console-connections")
		b.choose(key("status"), "held")
		b.shows(".empty", "Nothing matches")
		look("console-connections-none")
		b.click(key("clear"))
		b.click(`tr[data-connection]:has(.pill.good) th a`)
		b.until(`document.querySelector(".timeline") !== null`)
		look("console-connection")
		b.click(key("disconnect"))
		look("console-disconnect")
		b.click(key("keep"))
		b.goes("Connect")
		look("console-connect-form")
		b.enter(key("owner"), "tenant-9")
		b.click(key("make"))
		b.shows("h2", "1. Open the link")
		b.enter("#code", "BBBB-BBBB"+kb.Enter)
		b.shows(`.card [role="alert"]`, "left")
		look("console-connect")
	}
}

// The pages of people who connect, likewise.
func TestPagesOfPeopleAreAccessibleOnEveryScreen(t *testing.T) {
	axe := axeSource(t)
	for _, branded := range []bool{true, false} {
		name, more := "page-plain", ""
		if branded {
			name, more = "page", brand
		}
		w := brokertest.New(t, brokertest.Options{More: more, Integrations: `
  askfred: {client_id: app, client_secret: "${env:CLIENT_SECRET}", binding: cookie}
  redbooth: {client_id: app, client_secret: "${env:CLIENT_SECRET}"}
`})
		for _, s := range screens() {
			b := open(t, s.width, s.height, s.dark)
			for _, page := range peoplesPages() {
				page.show(w, b)
				b.shows("h1", page.heading)
				b.check(axe, name+" "+page.name+" on "+s.name, s.width)
				b.picture(name + "-" + page.name + "-" + s.name)
			}
		}
	}
}

type peoplesPage struct {
	name, heading string
	show          func(w *brokertest.World, b *tab)
}

func peoplesPages() []peoplesPage {
	link := func(w *brokertest.World, integration string) string {
		body := `{"integration":"` + integration + `","owner":"tenant"}`
		return w.Call("all", "POST", "/v1/connect-sessions", body).Want(w.T, 201, "").JSON(w.T)["authorize_url"].(string)
	}
	through := func(integration, decision string) func(w *brokertest.World, b *tab) {
		return func(w *brokertest.World, b *tab) {
			b.do("open the link", chromedp.Navigate(link(w, integration)))
			b.until(`document.querySelector("#user") !== null`)
			b.click(`button[value="` + decision + `"]`)
		}
	}
	return []peoplesPage{
		{"connected", "AskFRED is connected", through("askfred", "allow")},
		{"code", "One step left", through("redbooth", "allow")},
		{"denied", "You did not allow the connection", through("redbooth", "deny")},
		{"expired", "This link has expired", func(w *brokertest.World, b *tab) {
			b.do("open", chromedp.Navigate(w.Origin+"/authorize/redbooth?session=cs_old"))
		}},
		{"start-again", "Please start again", func(w *brokertest.World, b *tab) {
			b.do("open", chromedp.Navigate(w.Origin+"/callback/redbooth?code=x&state=old"))
		}},
		{"not-registered", "Redbooth cannot be connected yet", func(w *brokertest.World, b *tab) {
			b.do("open the link", chromedp.Navigate(link(w, "redbooth")))
			b.until(`document.querySelector("#user") !== null`)
			back := b.stopped("alice")
			q := back.Query()
			q.Del("code")
			q.Set("error", "invalid_request")
			q.Set("error_description", "The redirect URI does not match.")
			back.RawQuery = q.Encode()
			b.do("come back", chromedp.Navigate(back.String()))
		}},
	}
}

// axeSource is axe-core, as make reference-axe fetched it.
func axeSource(t *testing.T) string {
	t.Helper()
	path := os.Getenv("EVERGRANT_AXE")
	if path == "" {
		t.Skip("needs axe-core: set EVERGRANT_AXE to the path of axe.min.js (make reference-axe fetches it)")
	}
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(source)
}

// check runs axe on what is shown.
func (b *tab) check(axe, what string, width int64) {
	b.t.Helper()
	if wide := evaluate[int64](b, "document.documentElement.scrollWidth"); wide > width {
		b.t.Errorf("%s is %d px wide on a screen of %d", what, wide, width)
	}
	evaluate[bool](b, axe+"; true")
	evaluate[bool](b, `(window.found = null, axe.run({ resultTypes: ["violations"] }).then((r) => { window.found = r.violations.flatMap((v) => v.nodes.map((n) => v.id + ": " + n.html.slice(0, 160) + " " + n.failureSummary)); }), true)`)
	b.until("window.found !== null")
	for _, violation := range evaluate[[]string](b, "window.found") {
		b.t.Errorf("%s: axe says %s", what, violation)
	}
}

// shown are the pictures that the documents show.
func shown() []string {
	return []string{
		"console-overview-desktop", "console-overview-tablet", "console-overview-phone", "console-connections-desktop", "console-connections-phone",
		"console-connection-desktop-dark", "console-connection-phone", "console-connect-desktop",
		"page-connected-phone", "page-code-phone", "page-not-registered-phone",
	}
}

// picture writes what is shown to docs/images, with -pictures.
func (b *tab) picture(name string) {
	b.t.Helper()
	if !*pictures || !slices.Contains(shown(), name) {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(filepath.Join("../../docs/images", name+".png"), png, 0o644)
	}
	if err != nil {
		b.t.Error(err)
	}
}
