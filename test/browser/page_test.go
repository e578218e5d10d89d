package browser_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

func card(integration string) string { return `.card[data-integration="` + integration + `"]` }
func row(integration string) string  { return `.connection[data-integration="` + integration + `"]` }

// shows waits until the text is in the first element that selector finds.
func (b *tab) shows(selector, text string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`document.querySelector(%s)?.innerText.includes(%s)`, quoted(selector), quoted(text)))
}

// focus moves the keyboard to the one element.
func focus(selector string) chromedp.Action[chromedp.Void] {
	return chromedp.Focus(chromedp.CSS(selector), chromedp.NodeVisible)
}

// load opens the page and waits until it has been filled.
func (b *tab) load(d *dev) {
	b.t.Helper()
	b.do("load", chromedp.Navigate(d.origin+"/"))
	b.until(`document.querySelectorAll(".card").length > 0`)
}

// consent connects by the provider's page.
func (b *tab) consent(integration string) {
	b.t.Helper()
	b.click(card(integration) + " .foot button")
	b.click(`button[value="allow"]`)
	b.shows(row(integration)+" .pill", "Active")
}

// generation is that of the integration's first connection.
func (b *tab) generation(integration string) int {
	b.t.Helper()
	return evaluate[int](b, `Number(document.querySelector(`+quoted(row(integration)+" .generation")+`).innerText)`)
}

func TestEveryProviderIsConnectedByClicking(t *testing.T) {
	d := startDev(t, "20")
	b := open(t, 1280, 900, false)
	b.load(d)
	b.shows("#empty", "Nothing is connected yet")
	byCode := []string{"askfred", "freeagent", "redbooth", "fflogs", "fflogs-pkce"}
	byOne := []string{"whenfresh", "whenfresh-machine", "fflogs-client"}
	for _, integration := range byCode {
		b.consent(integration)
		b.shows("#toasts", "is connected for Ada")
	}
	for _, integration := range byOne {
		b.click(card(integration) + " .foot button")
		b.shows(row(integration)+" .pill", "Active")
	}
	for _, integration := range append(byCode, byOne...) {
		b.click(row(integration) + ` [data-do="call"]`)
		b.shows(row(integration)+" .result h4", "200 from ")
		b.shows(row(integration)+" .result p", "With token ")
	}
	b.shows("#calls", "confirms that it was Ada who consented")
	before := b.generation("redbooth")
	b.until(fmt.Sprintf(`Number(document.querySelector(%s).innerText) > %d`, quoted(row("redbooth")+" .generation"), before))
	b.shows(row("redbooth")+" .last", "Refreshed")
	b.holdsNoToken(d)
	for integration, receipt := range map[string]string{
		"askfred":   "Revoked at the provider, and proved: afterwards it refused the refresh token.",
		"redbooth":  "The provider offers no revocation",
		"whenfresh": "The provider offers no revocation",
	} {
		b.click(row(integration) + ` [data-do="disconnect"]`)
		b.shows("#ended", receipt)
		b.until(`document.querySelector(` + quoted(row(integration)) + `) === null`)
	}
	b.isQuiet()
}

// holdsNoToken looks for every access token of the person in all that the page holds.
func (b *tab) holdsNoToken(d *dev) {
	b.t.Helper()
	page := evaluate[string](b, `document.documentElement.outerHTML`)
	var list struct{ Items []struct{ ID string } }
	d.get(b.t, "/v1/connections?owner=ada&limit=100", &list)
	if len(list.Items) == 0 {
		b.t.Error("nothing is connected")
	}
	for _, c := range list.Items {
		var token struct {
			AccessToken string `json:"access_token"`
		}
		d.get(b.t, "/v1/connections/"+c.ID+"/token?min_ttl_s=0", &token)
		if token.AccessToken == "" || strings.Contains(page, token.AccessToken) {
			b.t.Errorf("connection %s: the page holds its access token", c.ID)
		}
	}
}

func (d *dev) get(t *testing.T, path string, v any) {
	t.Helper()
	d.send(t, http.MethodGet, path, "", v)
}

// send calls the API and decodes the answer, which has to be one of success, into v unless
// that is nil.
func (d *dev) send(t *testing.T, method, path, body string, v any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, d.origin+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+d.key)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	said, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 300 {
		t.Fatalf("%s %s: %d, %v, %s", method, path, res.StatusCode, err, said)
	}
	if v != nil {
		if err := json.Unmarshal(said, v); err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
	}
}

// Any provider of the catalogue is there to be rehearsed, with all that the page does.
func TestAProviderOfTheCatalogueIsRehearsed(t *testing.T) {
	d := startDev(t, "120", "--providers", "xero,notion,slack")
	b := open(t, 1280, 900, false)
	b.load(d)
	b.shows(card("xero"), "the old one works for another 30 minutes")
	for _, integration := range []string{"xero", "notion", "slack"} {
		b.consent(integration)
		b.click(row(integration) + ` [data-do="call"]`)
		b.shows(row(integration)+" .result h4", "200 from ")
	}
	b.click(row("notion") + ` [data-do="refresh"]`)
	b.shows("#toasts", "is refreshed: generation 2")
	b.click(row("xero") + " .break summary")
	b.click(row("xero") + ` [data-do="lost_answer"]`)
	b.shows("#toasts", "will act on the next token request and never answer")
	b.click(row("xero") + ` [data-do="refresh"]`)
	// It takes the old token again, so the loss is soon made good.
	b.until(`Number(document.querySelector(` + quoted(row("xero")+" .generation") + `).innerText) === 2`)
	b.click(row("slack") + " .break summary")
	b.click(row("slack") + ` [data-do="revoke_access"]`)
	b.shows("#toasts", "all access was taken back")
	b.click(row("slack") + ` [data-do="refresh"]`)
	b.shows(row("slack")+" .pill", "Needs the user")
	b.click(row("xero") + ` [data-do="disconnect"]`)
	b.shows("#ended", "Revoked at the provider")
	b.isQuiet()
}

func TestRecoveryCanBeWatched(t *testing.T) {
	d := startDev(t, "120")
	b := open(t, 1280, 900, true)
	b.load(d)
	b.consent("askfred")
	b.click(row("askfred") + " .break summary")
	b.click(row("askfred") + ` [data-do="lost_answer"]`)
	b.shows("#toasts", "will act on the next token request and never answer")
	b.click(row("askfred") + ` [data-do="refresh"]`)
	b.shows(row("askfred")+" .pill", "Recovering")
	b.shows(row("askfred")+" .last", "The provider’s answer was lost")

	b.consent("redbooth")
	b.click(row("redbooth") + " .break summary")
	b.click(row("redbooth") + ` [data-do="revoke_access"]`)
	b.shows("#toasts", "all access was taken back")
	b.click(row("redbooth") + ` [data-do="refresh"]`)
	b.shows(row("redbooth")+" .pill", "Needs the user")
	b.shows(row("redbooth")+" .reason", "Only a new consent helps")
	id := evaluate[string](b, `document.querySelector(`+quoted(row("redbooth"))+`).dataset.connection`)
	b.click(row("redbooth") + ` [data-do="reconnect"]`)
	b.click(`button[value="allow"]`)
	b.shows(row("redbooth")+" .pill", "Active")
	if again := evaluate[string](b, `document.querySelector(`+quoted(row("redbooth"))+`).dataset.connection`); again != id {
		t.Errorf("reconnected as %s, want %s", again, id)
	}
	b.isQuiet()
}

func TestTheUserMayRefuse(t *testing.T) {
	d := startDev(t, "120")
	b := open(t, 1280, 900, false)
	b.load(d)
	b.click(card("redbooth") + " .foot button")
	b.click(`button[value="deny"]`)
	b.shows("#toasts", "You did not allow it. Nothing was connected.")
	if hash := evaluate[string](b, "location.hash"); hash != "" {
		t.Errorf("the address still ends in %s", hash)
	}
	b.isQuiet()
}

func TestPeopleHaveTheirOwnConnections(t *testing.T) {
	d := startDev(t, "120")
	b := open(t, 1280, 900, false)
	b.load(d)
	b.consent("freeagent")
	b.do("choose Grace by keyboard", focus(`#people input:checked`), chromedp.KeyEvent(kb.ArrowRight))
	b.shows("#empty", "Nothing is connected yet")
	b.do("choose Ada by keyboard", chromedp.KeyEvent(kb.ArrowLeft))
	b.shows(row("freeagent")+" .pill", "Active")
	b.isQuiet()
}

func TestPageIsUsableWithoutAMouse(t *testing.T) {
	d := startDev(t, "120")
	b := open(t, 1280, 900, false)
	b.load(d)
	b.do("connect by keyboard", focus(card("whenfresh")+" .foot button"), chromedp.KeyEvent(kb.Enter))
	b.shows(row("whenfresh")+" .pill", "Active")
	b.do("open the menu", focus(row("whenfresh")+" .break summary"), chromedp.KeyEvent(kb.Enter))
	b.until(`document.querySelector(".break[open]") !== null`)
	b.do("close the menu", chromedp.KeyEvent(kb.Escape))
	b.until(`document.querySelector(".break[open]") === null && document.activeElement.matches(".break summary")`)
	b.do("call by keyboard", focus(row("whenfresh")+` [data-do="call"]`), chromedp.KeyEvent(kb.Enter))
	b.until(`document.activeElement.matches(".result")`)
	for _, nameless := range evaluate[[]string](b, namelessControls) {
		t.Errorf("has no name for a screen reader: %s", nameless)
	}
	b.do("disconnect by keyboard", focus(row("whenfresh")+` [data-do="disconnect"]`), chromedp.KeyEvent(kb.Enter))
	b.until(`document.activeElement.matches("#ended h3")`)
	b.isQuiet()
}

// namelessControls are the controls and landmarks without an accessible name.
const namelessControls = `[...document.querySelectorAll("button, a, summary, input, section, aside, main [tabindex='0']")]
	.filter((e) => e.checkVisibility())
	.filter((e) => !(e.innerText.trim() || e.getAttribute("aria-label") || e.labels?.[0]?.innerText.trim() ||
		document.getElementById(e.getAttribute("aria-labelledby") ?? "")?.innerText.trim()))
	.map((e) => e.outerHTML.slice(0, 120))`

func TestPageIsReadableAtEveryWidthAndInBothSchemes(t *testing.T) {
	d := startDev(t, "120")
	for _, dark := range []bool{false, true} {
		b := open(t, 1280, 900, dark)
		b.load(d)
		if !dark {
			b.consent("askfred")
			b.click(card("fflogs-client") + " .foot button")
			b.shows(row("fflogs-client")+" .pill", "Active")
			b.click(card("whenfresh") + " .foot button")
			b.click(row("whenfresh") + ` [data-do="disconnect"]`)
			b.shows("#ended", "offers no revocation")
		}
		b.click(row("askfred") + ` [data-do="call"]`)
		b.shows(row("askfred")+" .result h4", "200 from ")
		b.click(row("askfred") + " .history summary")
		for _, width := range []int64{1280, 768, 390, 320} {
			b.do("resize", chromedp.EmulateViewport(width, 900))
			if wide := evaluate[int64](b, "document.documentElement.scrollWidth"); wide > width {
				t.Errorf("at %d px the page is %d px wide", width, wide)
			}
			for _, faint := range evaluate[[]string](b, faintTexts) {
				t.Errorf("at %d px, dark %v: too little contrast: %s", width, dark, faint)
			}
		}
		b.isQuiet()
	}
}

// faintTexts are the visible texts with a contrast under 4.5 to the nearest ground that
// is painted behind them (WCAG 2.2, 1.4.3). Everything here is opaque.
const faintTexts = `(() => {
	const numbers = (c) => c.match(/[\d.]+/g).map(Number);
	const light = (c) => numbers(c).slice(0, 3).map((v) => v / 255)
		.map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
		.reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
	const ground = (e) => {
		for (; e; e = e.parentElement) {
			const c = getComputedStyle(e).backgroundColor;
			if ((numbers(c)[3] ?? 1) > 0) return c;
		}
		return "rgb(255, 255, 255)";
	};
	const faint = new Set();
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walk.nextNode()) {
		const e = walk.currentNode.parentElement;
		if (!walk.currentNode.data.trim() || !e.checkVisibility() || e.closest(".bumped, .toasts, script, template")) continue;
		const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
		const contrast = (a + 0.05) / (b + 0.05);
		if (contrast < 4.5) faint.add(contrast.toFixed(2) + " " + e.className + ": " + e.innerText.slice(0, 40));
	}
	return [...faint];
})()`

func TestPageSaysWhenItsBackendIsGone(t *testing.T) {
	d := startDev(t, "120")
	b := open(t, 1280, 900, false)
	b.load(d)
	b.until(`document.querySelector("#banner").hidden`)
	d.stop()
	b.shows("#banner", "does not answer")
}
