package browser_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// console opens the console and signs in with dev's key, as an operator does.
func (b *tab) console(d *dev) {
	b.t.Helper()
	b.do("open the console", chromedp.Navigate(d.origin+"/console"))
	b.until(`document.querySelector("#key") !== null`)
	b.enter("#key", d.key+kb.Enter)
	b.shows("h1", "Overview")
}

// enter types into the one field.
func (b *tab) enter(selector, text string) {
	b.t.Helper()
	b.do("type into "+selector, chromedp.SendKeys(chromedp.CSS(selector), text, chromedp.NodeVisible))
}

// clear empties the one field.
func (b *tab) clear(selector string) {
	b.t.Helper()
	evaluate[string](b, `document.querySelector(`+quoted(selector)+`).value = ""`)
}

// choose takes an option of a select, as a person does.
func (b *tab) choose(selector, value string) {
	b.t.Helper()
	evaluate[bool](b, `(() => { const s = document.querySelector(`+quoted(selector)+`); s.value = `+quoted(value)+`; return s.dispatchEvent(new Event("change", { bubbles: true })); })()`)
}

// goes clicks on a link of the navigation.
func (b *tab) goes(name string) {
	b.t.Helper()
	b.click(`#nav a[href="#/` + strings.ToLower(strings.Replace(name, "Overview", "", 1)) + `"]`)
	b.shows("h1", name)
}

func key(name string) string { return `[data-key="` + name + `"]` }

// connectedBy makes a connection in the console; the user opens the link in a browser of
// their own, and tells the operator the code of the last page.
func (b *tab) connectedBy(user *tab, integration, owner string) {
	b.t.Helper()
	b.goes("Connect")
	b.choose(key("integration"), integration)
	b.enter(key("owner"), owner)
	b.click(key("make"))
	b.shows("h2", "1. Open the link")
	user.do("open the link", chromedp.Navigate(evaluate[string](b, `document.querySelector('[data-key="open-link"]').href`)))
	user.click(`button[value="allow"]`)
	user.shows("h1", "One step left")
	b.shows("#step", "The consent is given")
	b.enter("#code", user.text("code.code"))
	b.click(key("confirm"))
	b.shows("h1", owner)
	b.shows(".pill", "Active")
}

// The whole of a connection's life, seen and done in the console alone: nothing here
// speaks to the API but the pages.
func TestAConnectionsLifeInTheConsole(t *testing.T) {
	d := startDev(t, "20")
	b, user := open(t, 1280, 900, false), open(t, 390, 800, false)
	b.console(d)
	b.shows(".charts", "No refresh yet")
	b.connectedBy(user, "redbooth", "tenant-7")
	b.until(`Number(document.querySelector(".generation").innerText) > 1`)
	b.shows(".timeline", "Refreshed")
	before := evaluate[int](b, `Number(document.querySelector(".generation").innerText)`)
	b.click(key("refresh"))
	b.until(fmt.Sprintf(`Number(document.querySelector(".generation").innerText) > %d`, before))
	b.goes("Connections")
	b.choose(key("integration"), "redbooth")
	b.shows(`tr[data-connection] th`, "tenant-7")
	b.click(`tr[data-connection] th a`)
	b.shows("h1", "tenant-7")
	b.click(key("disconnect"))
	b.shows("dialog h2", "Disconnect ")
	b.click(key("keep"))
	b.until(`document.querySelector("dialog") === null && document.activeElement.dataset.key === "disconnect"`)
	b.click(key("disconnect"))
	b.click(key("end"))
	b.shows("#receipt", "Disconnected; the provider offers no revocation")
	b.until(`document.activeElement.id === "receipt"`)
	b.keepsNothing(d)
	b.isQuiet()
	user.isQuiet()
}

// keepsNothing looks for the key wherever a page could have left it.
func (b *tab) keepsNothing(d *dev) {
	b.t.Helper()
	left := evaluate[string](b, `JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href, document.documentElement.outerHTML])`)
	if strings.Contains(left, d.key) || strings.Contains(left, strings.TrimPrefix(d.key, "evg_")) {
		b.t.Error("the page keeps the API key")
	}
	b.do("load again", chromedp.Reload())
	b.until(`document.querySelector("#key")?.value === ""`)
}

func TestTheConsoleReconnectsWhatItsUserEnded(t *testing.T) {
	d := startDev(t, "120")
	b, user, app := open(t, 1280, 900, true), open(t, 800, 600, false), open(t, 1280, 900, false)
	app.load(d)
	app.consent("redbooth")
	b.console(d)
	b.goes("Connections")
	b.choose(key("integration"), "redbooth")
	b.click(`tr[data-connection] th a`)
	id := evaluate[string](b, `location.hash.split("/").at(-1)`)
	app.click(row("redbooth") + " .break summary")
	app.click(row("redbooth") + ` [data-do="revoke_access"]`)
	app.shows("#toasts", "all access was taken back")
	b.click(key("refresh"))
	b.shows(".pill", "Needs the user")
	b.shows(".notice", "A new consent continues this connection")
	b.click(key("reconnect"))
	b.shows("h1", "Reconnect")
	b.click(key("make"))
	b.shows("h2", "1. Open the link")
	user.do("open the link", chromedp.Navigate(evaluate[string](b, `document.querySelector('[data-key="open-link"]').href`)))
	user.click(`button[value="allow"]`)
	user.shows("h1", "One step left")
	b.enter("#code", "BBBB-BBBB"+kb.Enter)
	b.shows(`.card [role="alert"]`, "left")
	b.clear("#code")
	b.enter("#code", strings.ToLower(user.text("code.code"))+kb.Enter)
	b.shows("h1", "ada")
	b.shows(".pill", "Active")
	if again := evaluate[string](b, `location.hash.split("/").at(-1)`); again != id {
		t.Errorf("reconnected as %s, want %s", again, id)
	}
}

func TestTheConsoleListsAPageAtATime(t *testing.T) {
	d := startDev(t, "120")
	b := open(t, 1280, 900, false)
	b.console(d)
	for n := range 27 {
		d.importMachine(t, fmt.Sprintf("owner-%02d", n))
	}
	b.goes("Connections")
	b.choose(key("integration"), "whenfresh-machine")
	b.shows(".more", "25 shown")
	b.click(key("more"))
	b.shows(".more", "27 connections")
	b.choose(key("status"), "needs_reauth")
	b.shows(".empty", "Nothing matches")
	b.click(key("clear"))
	b.enter(key("owner"), "owner-13"+kb.Enter)
	b.shows(".more", "1 connection")
	b.click(`tr[data-connection] th a`)
	b.shows("h1", "owner-13")
	id := evaluate[string](b, `location.hash.split("/").at(-1)`)
	b.goes("Connections")
	b.enter(key("owner"), id+kb.Enter)
	b.shows("h1", "owner-13")
	b.isQuiet()
}

func (d *dev) importMachine(t *testing.T, owner string) {
	t.Helper()
	d.send(t, "POST", "/v1/connections", `{"integration":"whenfresh-machine","grant_type":"client_credentials","owner":"`+owner+`"}`, nil)
}

func TestTheConsoleSaysWhatIsWrong(t *testing.T) {
	d := startDev(t, "120")
	b := open(t, 1280, 900, false)
	b.do("open the console", chromedp.Navigate(d.origin+"/console"))
	b.until(`document.querySelector("#key") !== null`)
	b.enter("#key", "evg_nobody"+kb.Enter)
	b.shows(".notice", "does not know this key")
	b.clear("#key")
	b.enter("#key", d.key+kb.Enter)
	b.shows("h1", "Overview")
	evaluate[string](b, `location.hash = "#/connections/conn_nothing"`)
	b.shows(".notice.bad", "connection")
	b.goes("Connections")
	b.shows(".empty", "Nothing is connected yet")
	d.stop()
	b.shows("#stale", "does not answer")
}
