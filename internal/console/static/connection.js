// One connection: how it stands, what happened to it, and what can be done.

import { ask, get, post } from "./api.js";
import { copy, fill, find, h, now, relative, toast, when } from "./dom.js";
import { accountOf, fact, isByConsent, loading, nextOf, pill, statusOf } from "./parts.js";
import { outcomeOf, reasons, receiptText } from "./words.js";

// What the API tells a backend, for an operator.
const said = {
  needs_reauth: "The provider refused. The user has to connect again.",
  provider_unavailable: "No token came back. The connection is kept, and the schedule tries again.",
  refresh_in_progress: "A refresh of it is under way already.",
  rate_limited: "It was refreshed a moment ago.",
};

export const title = "Connection";

export function view(main, { id, integrations, signal, fail }) {
  const place = h("div", {}, loading());
  fill(main, place);
  let shown = "", at = 0;

  async function update() {
    const c = await get(`/v1/connections/${id}`, {}, signal), text = JSON.stringify(c), first = shown === "";
    if (text === shown && now() - at < 10000) return; // only the relative times have changed
    shown = text;
    at = now();
    fill(place, page(c, integrations().find((i) => i.name === c.integration), act));
    if (first) place.querySelector("h1").focus({ preventScroll: true });
  }

  // act does something on a click and shows what became of the connection.
  async function act(button, work) {
    if (button.getAttribute("aria-busy") === "true") return;
    button.setAttribute("aria-busy", "true");
    try {
      const done = await work();
      await update();
      toast(done);
      find(place, "receipt")?.focus({ preventScroll: true });
    } catch (problem) {
      if (!fail(problem)) {
        toast(said[problem.code] ?? problem.message, true);
        await update().catch(() => {});
      }
    } finally {
      button.removeAttribute("aria-busy");
    }
  }

  return update;
}

function page(c, integration, act) {
  const usable = c.status === "active" || c.status === "connecting";
  const why = reasons[c.reason] ?? "";
  return [
    h("p", { class: "crumbs" }, h("a", { href: `#/connections?integration=${encodeURIComponent(c.integration)}`, "data-key": "back" }, `Connections of ${c.integration}`)),
    h("div", { class: "head" },
      h("div", {}, h("h1", { tabindex: -1 }, c.owner), h("p", { class: "soft" }, [integration?.display_name ?? c.integration, accountOf(c)].filter(Boolean).join(" · "))),
      pill(statusOf(c))),
    why && h("p", { class: c.status === "needs_reauth" ? "notice bad" : "notice" }, why),
    c.receipt && h("p", { class: "notice", id: "receipt", tabindex: -1, "data-key": "receipt" }, receiptText(c.receipt), " ", when(c.receipt.disconnected_at)),
    c.missing_scope && h("p", { class: "notice wait" }, "The user did not grant ", h("code", {}, c.missing_scope), ". A reconnect asks again."),
    c.status !== "disconnected" && h("div", { class: "actions" },
      c.status === "needs_reauth" && integration && isByConsent(integration) && reconnect(c, "go"),
      usable && h("button", { type: "button", "data-key": "refresh", class: "go", onclick: (e) => act(e.currentTarget, () => refresh(c)) }, "Refresh now"),
      c.status === "held" && h("button", { type: "button", "data-key": "activate", class: "go", onclick: (e) => act(e.currentTarget, () => activate(c)) }, "Activate"),
      usable && integration && isByConsent(integration) && reconnect(c, ""),
      h("button", { type: "button", "data-key": "disconnect", class: "danger", onclick: (e) => confirmEnd(c, e.currentTarget, act) }, "Disconnect…")),
    h("div", { class: "columns" },
      h("section", { class: "card", "aria-labelledby": "facts-title" }, h("h2", { id: "facts-title" }, "How it stands"), facts(c)),
      h("section", { class: "card", "aria-labelledby": "journal-title" }, h("h2", { id: "journal-title" }, "What happened"), journal(c))),
  ];
}

function reconnect(c, kind) {
  const to = new URLSearchParams({ integration: c.integration, connection: c.id, owner: c.owner });
  return h("a", { class: `button ${kind}`, href: `#/connect?${to}`, "data-key": "reconnect" }, "Reconnect");
}

// The answer holds the access token, which is of no use here and is dropped.
async function refresh(c) {
  const { generation } = await post(`/v1/connections/${c.id}/refresh`, { if_generation: c.generation });
  return `Refreshed: generation ${generation}.`;
}

async function activate(c) {
  await post(`/v1/connections/${c.id}/activate`);
  return "Activated. It is refreshed from now on.";
}

function facts(c) {
  const gone = c.status === "disconnected" || c.status === "needs_reauth";
  return h("dl", { class: "facts" },
    fact("Connection", h("span", { class: "with-copy" }, h("code", {}, c.id), copy(c.id, "the connection's id"))),
    fact("Integration", c.integration), fact("Client", h("code", {}, c.client)),
    c.account && fact("Account", accountOf(c), c.account.name && h("span", { class: "soft block" }, c.account.id)),
    fact("Generation", h("span", { class: "generation" }, String(c.generation))),
    fact("Next refresh", gone ? "–" : nextOf(c), c.next_refresh_at && !gone && h("span", { class: "soft block" }, when(c.next_refresh_at))),
    fact("Access token ends", gone ? "–" : c.expires_at ? [relative(c.expires_at), h("span", { class: "soft block" }, when(c.expires_at))] : "not known"),
    c.reconnect_by && fact("The user has to connect again by", when(c.reconnect_by), Date.parse(c.reconnect_by) - now() < 7 * 86400e3 && h("span", { class: "soft block" }, relative(c.reconnect_by))),
    fact("Granted scope", c.granted_scope || c.requested_scope ? h("code", {}, c.granted_scope || c.requested_scope) : "none named"),
    Object.entries(c.tags).length > 0 && fact("Tags", Object.entries(c.tags).map(([name, value]) => h("span", { class: "tag" }, `${name}: ${value}`))),
    Object.entries(c.fields).map(([name, value]) => fact(name, h("code", {}, value))),
    fact("Connected", when(c.created_at)));
}

function journal(c) {
  if (!c.journal.length) return h("p", { class: "soft" }, "Nothing yet.");
  return h("ol", { class: "timeline" }, c.journal.toReversed().map((e) => {
    const [label, kind] = outcomeOf(e.outcome);
    // A refresh notes the generation with which it began.
    const generation = e.outcome === "saved" ? `generation ${e.generation + 1}` : "";
    return h("li", { class: kind }, h("b", {}, label), h("span", { class: "soft" }, [generation, e.took_ms ? `${e.took_ms} ms` : ""].filter(Boolean).join(" · ")), when(e.at));
  }));
}

// confirmEnd asks once more, in words that say what will be gone.
function confirmEnd(c, button, act) {
  const name = accountOf(c) || c.owner;
  const dialog = h("dialog", { "aria-labelledby": "end-title", "aria-describedby": "end-text" },
    h("form", { method: "dialog" },
      h("h2", { id: "end-title" }, `Disconnect ${name}?`),
      h("p", { id: "end-text" }, `Evergrant revokes the access at ${c.integration} where the provider can, and erases the tokens. It cannot be undone: ${c.owner} would have to connect again.`),
      h("p", { class: "actions" },
        h("button", { value: "no", "data-key": "keep", autofocus: true }, "Keep it"),
        h("button", { value: "yes", class: "danger solid", "data-key": "end" }, "Disconnect"))));
  dialog.addEventListener("close", () => {
    dialog.remove();
    const again = find(document.getElementById("main"), "disconnect") ?? button;
    again.focus();
    if (dialog.returnValue !== "yes") return;
    act(again, async () => {
      await ask("DELETE", `/v1/connections/${c.id}`);
      return "Disconnected.";
    });
  });
  document.body.append(dialog);
  dialog.showModal();
}
