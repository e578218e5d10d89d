// The list of connections: by integration, status, owner or id, a page at a time.

import { get } from "./api.js";
import { fill, h } from "./dom.js";
import { accountOf, beads, empty, loading, nextOf, pill, statusOf } from "./parts.js";
import { outcomeOf, statuses } from "./words.js";

export const title = "Connections";
const pageSize = 25;
const isID = (text) => /^conn_[A-Za-z0-9_-]{1,80}$/.test(text);

export function view(main, { query, integrations, signal, go }) {
  const filter = { integration: query.get("integration") ?? "", status: query.get("status") ?? "", owner: query.get("owner") ?? "" };
  // The API lists the connections of an integration or of an owner.
  if (!filter.integration && !filter.owner) filter.integration = integrations()[0]?.name ?? "";
  const list = h("div", { class: "list" }, loading()), pages = [];
  fill(main, h("div", { class: "head" }, h("h1", { tabindex: -1 }, "Connections"),
    h("a", { class: "button go", href: `#/connect${filter.integration ? `?integration=${encodeURIComponent(filter.integration)}` : ""}`, "data-key": "connect" }, "Connect")),
  search(filter, integrations(), go), list);
  if (!integrations().length) {
    fill(list, empty("This key sees no integration", "Its entry in the configuration names which ones it may use."));
    return null;
  }

  const load = (cursor) => get("/v1/connections", { ...filter, limit: pageSize, cursor }, signal);
  const show = () => {
    const items = pages.flatMap((p) => p.items), next = pages.at(-1).next;
    fill(list, items.length ? [table(items), more(items.length, next)] : nothing(filter));
  };
  const more = (shown, next) => h("p", { class: "more", role: "status" }, h("span", { class: "soft" }, next ? `${shown} shown` : shown === 1 ? "1 connection" : `${shown} connections`),
    next && h("button", {
      type: "button", "data-key": "more",
      async onclick(event) {
        event.currentTarget.setAttribute("aria-busy", "true");
        try {
          pages.push(await load(next));
        } finally {
          show();
        }
      },
    }, "Show more"));

  return async function update() {
    // What was read further down stays as it is: a page that moves under one's eyes is worse.
    pages[0] = await load("");
    if (pages.length > 1 && pages[0].next === null) pages.length = 1;
    show();
  };
}

function search(filter, list, go) {
  const submit = (form) => {
    const owner = form.elements.owner.value.trim(), next = new URLSearchParams();
    if (isID(owner)) {
      go(`/connections/${owner}`);
      return;
    }
    for (const name of ["integration", "status"]) if (form.elements[name].value) next.set(name, form.elements[name].value);
    if (owner) next.set("owner", owner);
    go("/connections", next);
  };
  const changed = (event) => submit(event.target.form);
  return h("form", { class: "filters bar-of-filters", role: "search", onsubmit(event) { event.preventDefault(); submit(event.target); } },
    h("label", {}, h("span", {}, "Integration"), h("select", { name: "integration", "data-key": "integration", onchange: changed },
      h("option", { value: "", disabled: !filter.owner }, "All, by owner"), list.map((i) => h("option", { value: i.name, selected: i.name === filter.integration }, i.name)))),
    h("label", {}, h("span", {}, "Status"), h("select", { name: "status", "data-key": "status", onchange: changed },
      h("option", { value: "" }, "Any"), Object.entries(statuses).map(([value, [label]]) => h("option", { value, selected: value === filter.status }, label)))),
    h("label", { class: "wide-field" }, h("span", {}, "Owner or connection id"),
      h("input", { name: "owner", type: "search", value: filter.owner, autocomplete: "off", spellcheck: "false", maxlength: 256, "data-key": "owner" })),
    h("button", { type: "submit", "data-key": "search" }, "Search"));
}

function nothing(filter) {
  if (filter.status || filter.owner) {
    return empty("Nothing matches", filter.owner ? `${filter.owner} has no such connection. An owner is matched as a whole.` : "No connection has this status.",
      h("a", { class: "button", href: `#/connections?integration=${encodeURIComponent(filter.integration)}`, "data-key": "clear" }, "Clear the search"));
  }
  return empty("Nothing is connected yet", "Connect an account here, or have your application's backend make a connect session.",
    h("a", { class: "button go", href: `#/connect?integration=${encodeURIComponent(filter.integration)}`, "data-key": "first" }, "Connect"));
}

function table(items) {
  return h("table", { class: "rows" },
    h("thead", {}, h("tr", {}, ["Owner", "Integration", "Status", "Last outcome", "Next refresh"].map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, items.map(row)));
}

function row(c) {
  const last = c.journal.at(-1);
  return h("tr", { "data-connection": c.id },
    h("th", { scope: "row" }, h("a", { href: `#/connections/${c.id}`, "data-key": c.id }, c.owner), h("span", { class: "soft" }, accountOf(c) || `${c.id.slice(0, 13)}…`)),
    h("td", { "data-label": "Integration" }, c.integration),
    h("td", { "data-label": "Status" }, pill(statusOf(c))),
    h("td", { "data-label": "Last outcome" }, h("span", { class: "outcome" }, h("span", {}, last ? outcomeOf(last.outcome)[0] : "–"), beads(c))),
    h("td", { "data-label": "Next refresh" }, nextOf(c)));
}
