// The first page: what was done, how late, and which integrations need a look.

import { get } from "./api.js";
import { buckets, latenessChart, outcomeChart, ranges } from "./charts.js";
import { copy, count, fill, h, now, relative, span, when } from "./dom.js";
import { empty, isByConsent, isByMachine, loading, pill } from "./parts.js";
import { counters } from "./words.js";

// How many integrations are asked for connections that need their user: each is a request.
const asked = 24;

export const title = "Overview";

export function view(main, { query, integrations, signal, go }) {
  const range = ranges[query.get("range")] ?? ranges["1"], only = query.get("integration") ?? "";
  const figures = h("dl", { class: "figures" }), charts = h("div", { class: "charts" }, loading()), list = h("div", {});
  const waiting = new Map(); // integration -> how many need their user
  fill(main,
    h("div", { class: "head" }, h("h1", { tabindex: -1 }, "Overview"), controls(query, range, only, integrations(), go)),
    figures, charts,
    h("section", { "aria-labelledby": "integrations-title" }, h("h2", { id: "integrations-title" }, "Integrations"), list));
  showIntegrations();

  function showIntegrations() {
    fill(list, integrations().length
      ? table(integrations().filter((i) => !only || i.name === only), waiting)
      : empty("This key sees no integration", "Its entry in the configuration names which ones it may use."));
  }

  return async function update() {
    const from = new Date(Math.floor(now() / 3600e3) * 3600e3 - (range.hours - 1) * 3600e3).toISOString().replace(/\.\d+Z/, "Z");
    const stats = await get("/v1/stats", { from }, signal);
    const bars = buckets(stats.items.filter((item) => !only || item.integration === only), range, now());
    const sum = (kind) => bars.reduce((all, b) => all + b[kind], 0);
    const late = Math.max(...bars.map((b) => b.p99));
    const suspended = integrations().filter((i) => i.status === "suspended").length;
    fill(figures,
      figure("Refreshes saved", count.format(sum("good")), "good"), figure(counters.wait.label, count.format(sum("wait")), sum("wait") ? "wait" : ""),
      figure(counters.bad.label, count.format(sum("bad")), sum("bad") ? "bad" : ""), figure("99 of 100 saved within", late ? span(late * 1000) : "–", ""),
      figure("Suspended integrations", String(suspended), suspended ? "bad" : ""));
    const any = sum("good") + sum("wait") + sum("bad") > 0;
    fill(charts, any
      ? [part("Refreshes", outcomeChart(bars, range)), part("Lateness", latenessChart(bars, range))]
      : empty("No refresh yet", `Nothing was refreshed in the last ${range.label}. The first scheduled refresh shows up here within a minute or two.`));
    for (const i of integrations().slice(0, asked)) {
      const found = await get("/v1/connections", { integration: i.name, status: "needs_reauth", limit: 100 }, signal);
      waiting.set(i.name, found.next ? `${found.items.length}+` : String(found.items.length));
    }
    showIntegrations();
  };
}

function figure(label, value, kind) {
  return h("div", { class: kind }, h("dt", {}, label), h("dd", {}, value));
}

function part(name, content) {
  return h("section", { class: "card", "aria-label": name }, h("h2", {}, name), content);
}

function controls(query, range, only, list, go) {
  const set = (name, value) => {
    const next = new URLSearchParams(query);
    if (value) next.set(name, value); else next.delete(name);
    go("/", next);
  };
  return h("form", { class: "filters", "aria-label": "What is shown", onsubmit: (e) => e.preventDefault() },
    h("label", {}, h("span", {}, "Time"), h("select", { "data-key": "range", onchange: (e) => set("range", e.target.value) },
      Object.entries(ranges).map(([value, r]) => h("option", { value, selected: r === range }, r.label)))),
    h("label", {}, h("span", {}, "Integration"), h("select", { "data-key": "only", onchange: (e) => set("integration", e.target.value) },
      h("option", { value: "" }, "All"), list.map((i) => h("option", { value: i.name, selected: i.name === only }, i.name)))));
}

function table(list, waiting) {
  return h("table", { class: "rows" },
    h("thead", {}, h("tr", {}, ["Integration", "State", "Need their user", "Redirect URI to register", "Actions"].map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, list.map((i) => row(i, waiting.get(i.name)))));
}

function row(i, need) {
  const to = encodeURIComponent(i.name);
  return h("tr", { "data-integration": i.name },
    h("th", { scope: "row" }, h("a", { href: `#/connections?integration=${to}`, "data-key": `open-${i.name}` }, i.name), h("span", { class: "soft" }, i.display_name)),
    h("td", { "data-label": "State" }, state(i)),
    h("td", { "data-label": "Need their user" }, need === undefined ? "–" : need === "0" ? h("span", { class: "soft" }, "none")
      : h("a", { class: "need", href: `#/connections?integration=${to}&status=needs_reauth`, "data-key": `need-${i.name}` }, `${need} `, h("span", { class: "sr" }, `of ${i.name} need their user`))),
    h("td", { "data-label": "Redirect URI to register", class: "uri" }, isByConsent(i)
      ? h("div", { class: "with-copy" }, h("code", {}, i.redirect_uri), copy(i.redirect_uri, `the redirect URI of ${i.name}`)) : h("span", { class: "soft" }, "none: no browser comes back")),
    h("td", { class: "actions" }, (isByConsent(i) || isByMachine(i))
      && h("a", { class: "button", href: `#/connect?integration=${to}`, "aria-label": `Connect ${i.name}`, "data-key": `connect-${i.name}` }, "Connect")));
}

// state is the worst circuit of an integration's clients, and what it waits for.
function state(i) {
  const open = i.clients.filter((c) => c.circuit.state === "open");
  if (!open.length) return pill(["Sending", "good"]);
  return [pill([i.status === "suspended" ? "Suspended" : "Draining client refused", i.status === "suspended" ? "bad" : "wait"]), open.map((c) => h("span", { class: "soft block" },
    i.clients.length > 1 && `${c.name}: `, c.circuit.reason ? c.circuit.reason.replaceAll("_", " ") : "the provider refuses the client", " since ", when(c.circuit.since),
    c.circuit.next_probe_at && `; next try ${relative(c.circuit.next_probe_at)}`))];
}
