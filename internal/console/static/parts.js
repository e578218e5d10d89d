// Parts that several views share.

import { h, relative } from "./dom.js";
import { statuses, outcomeOf } from "./words.js";

export function pill([label, kind]) {
  return h("span", { class: `pill ${kind}` }, label);
}

// statusOf is a connection's status; one whose last requests came to nothing is on its way.
export function statusOf(c) {
  const last = c.journal.at(-1)?.outcome;
  if (c.status === "active" && last && outcomeOf(last)[1] === "wait") return ["Recovering", "wait"];
  if (c.status === "disconnected" && c.reason === "superseded") return ["Superseded", "off"];
  return statuses[c.status] ?? [c.status, "off"];
}

// beads are the journal at a glance, for eyes; the last outcome stands beside them.
export function beads(c) {
  return h("span", { class: "beads", "aria-hidden": "true" }, c.journal.slice(-8).map((e) => h("span", { class: `bead ${outcomeOf(e.outcome)[1]}` })));
}

export const accountOf = (c) => (c.account ? c.account.name ?? c.account.id : "");

export function nextOf(c) {
  if (c.next_refresh_at) return relative(c.next_refresh_at);
  return c.status === "active" ? "when asked for" : "–";
}

export function empty(title, text, ...actions) {
  return h("div", { class: "empty" }, h("h2", {}, title), h("p", {}, text), actions.length ? h("p", { class: "actions" }, actions) : null);
}

// failure is a problem in place of what it kept from being shown.
export function failure(problem, retry) {
  const hint = problem.code === "forbidden" ? "The key that you pasted lacks a right. The console needs the scopes connect, token and manage." : "";
  return h("div", { class: "notice bad", role: "alert" },
    h("p", {}, h("b", {}, problem.message), hint && ` ${hint}`),
    problem.requestID && h("p", { class: "soft" }, "Request ", h("code", {}, problem.requestID)),
    retry && h("p", { class: "actions" }, h("button", { type: "button", onclick: retry, "data-key": "retry" }, "Try again")));
}

export function loading() {
  return h("div", { class: "loading", role: "status" }, h("span", { class: "sr" }, "Loading"), [1, 2, 3].map(() => h("span", { class: "bone", "aria-hidden": "true" })));
}

export function fact(term, ...value) {
  return h("div", {}, h("dt", {}, term), h("dd", {}, value));
}

export const isByConsent = (i) => i.grants.length === 0 || i.grants.includes("authorization_code");
export const isByMachine = (i) => i.grants.includes("client_credentials");
