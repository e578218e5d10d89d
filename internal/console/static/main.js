// The console: sign-in, navigation, and the loop that keeps a view up to date. Where the
// operator is stands in the address's fragment, which never leaves the browser.

import { get, setKey, signedIn } from "./api.js";
import { fill, h } from "./dom.js";
import { failure, loading } from "./parts.js";
import * as overview from "./overview.js";
import * as connections from "./connections.js";
import * as connection from "./connection.js";
import * as connect from "./connect.js";

const main = document.getElementById("main"), nav = document.getElementById("nav"), session = document.getElementById("session");

// How often each view looks again, in ms.
const pages = [
  { path: /^\/$/, view: overview, every: 30000, name: "Overview" },
  { path: /^\/connections$/, view: connections, every: 10000, name: "Connections" },
  { path: /^\/connections\/(conn_[A-Za-z0-9_-]{1,80})$/, view: connection, every: 3000, name: "Connections" },
  { path: /^\/connect$/, view: connect, every: 1500, name: "Connect" },
];
const tabs = [["Overview", "#/"], ["Connections", "#/connections"], ["Connect", "#/connect"]];

let integrations = [];
let current = null; // { abort, timer } of the view that is shown

function go(path, query = new URLSearchParams()) {
  const text = query.toString();
  location.hash = `#${path}${text ? `?${text}` : ""}`;
}

function leave() {
  current?.abort.abort();
  clearTimeout(current?.timer);
  current = null;
  document.querySelector("dialog")?.remove();
}

// fail takes a problem that ends the session, and says whether it was one.
function fail(problem) {
  if (problem.status !== 401) return false;
  signOut("The server does not take this key any more.");
  return true;
}

function show() {
  leave();
  if (!signedIn()) {
    signIn();
    return;
  }
  const [path, search = ""] = (location.hash.slice(1) || "/").split("?");
  const page = pages.find((p) => p.path.test(path)) ?? pages[0];
  const abort = new AbortController(), here = { abort, timer: 0 };
  current = here;
  document.title = `${page.view.title} · Evergrant`;
  fill(nav, tabs.map(([name, href]) => h("a", { href, "aria-current": name === page.name ? "page" : null }, name)));
  const parts = { query: new URLSearchParams(search), id: page.path.exec(path)?.[1], integrations: () => integrations, signal: abort.signal, go, fail };
  const update = page.view.view(main, parts);
  here.again = () => run(here, update, page.every, false);
  scrollTo(0, 0);
  main.querySelector("h1")?.focus({ preventScroll: true });
  if (update) run(here, update, page.every, true);
  else here.again = () => {};
}

// run updates a view, again and again while it is looked at. A first failure takes the
// view's place; a later one leaves what is shown and says so above it.
async function run(here, update, every, first) {
  try {
    // What is selected would be lost, and nobody sees what is hidden.
    if (!first && (document.hidden || !getSelection().isCollapsed)) return;
    await update();
    first = false;
    document.getElementById("failed")?.remove();
    stale(null);
  } catch (problem) {
    if (problem.name === "AbortError" || here !== current || fail(problem)) return;
    if (problem.status === undefined) throw problem;
    if (first) {
      document.getElementById("failed")?.remove();
      main.querySelector(".loading")?.remove();
      main.append(h("div", { id: "failed" }, failure(problem, show)));
      return;
    }
    stale(problem);
  } finally {
    if (here === current && !here.abort.signal.aborted) here.timer = setTimeout(() => run(here, update, every, first), every);
  }
}

function stale(problem) {
  const old = document.getElementById("stale");
  if (!problem) {
    old?.remove();
    return;
  }
  const text = `${problem.message} What you see may be old; the console keeps trying.`;
  if (old) old.textContent = text;
  else main.prepend(h("p", { id: "stale", class: "notice wait", role: "status" }, text));
}

function signOut(message = "") {
  setKey("");
  integrations = [];
  leave();
  signIn(message);
}

function signIn(message = "") {
  nav.hidden = session.hidden = true;
  document.title = "Evergrant console";
  const said = h("div", { role: "alert" }, message && h("p", { class: "notice" }, message));
  const key = h("input", { id: "key", name: "key", type: "password", autocomplete: "off", spellcheck: "false", required: true, "aria-describedby": "key-help" });
  const button = h("button", { type: "submit", class: "go", "data-key": "enter" }, "Open the console");
  fill(main, h("form", {
    class: "card stack sign-in",
    async onsubmit(event) {
      event.preventDefault();
      button.setAttribute("aria-busy", "true");
      setKey(key.value.trim());
      try {
        ({ items: integrations } = await get("/v1/integrations"));
        nav.hidden = session.hidden = false;
        fill(session, h("button", { type: "button", class: "quiet", "data-key": "leave", onclick: () => signOut() }, "Forget the key"));
        show();
      } catch (problem) {
        setKey("");
        fill(said, problem.status === 401 ? h("p", { class: "notice bad" }, "The server does not know this key. Paste the whole of it, from evg_ on.") : failure(problem));
        key.focus();
      } finally {
        button.removeAttribute("aria-busy");
      }
    },
  },
  h("h1", { tabindex: -1 }, "Console"),
  h("p", {}, "See what is alive and what needs a person."),
  h("label", {}, h("span", {}, "API key"), key),
  h("p", { id: "key-help", class: "soft" }, "With the scopes connect, token and manage. It stays in this page's memory: not in a cookie, not in storage, gone when the page is closed or loaded again. ",
    "A new one: ", h("code", {}, "evergrant keys new console"), "."),
  h("p", { class: "actions" }, button), said));
  key.focus();
}

// Circuits change by themselves: the integrations are read again now and then.
setInterval(async () => {
  if (!signedIn() || document.hidden) return;
  try {
    ({ items: integrations } = await get("/v1/integrations"));
  } catch (problem) {
    if (problem.status !== undefined) fail(problem);
  }
}, 30000);

addEventListener("hashchange", show);
document.addEventListener("visibilitychange", () => {
  if (document.hidden || !current) return;
  clearTimeout(current.timer);
  current.again();
});
fill(main, loading());
show();
