// Making a connection: a link for the person whose account it is, and the short code that
// they come back with.

import { get, post } from "./api.js";
import { copy, fill, h, relative, toast, when } from "./dom.js";
import { empty, failure, isByConsent, isByMachine } from "./parts.js";

export const title = "Connect";

const steps = {
  open: "Waiting for the link to be opened.",
  authorizing: "The link was opened. Waiting for the consent.",
  awaiting_confirm: "The consent is given. Type the code that the last page shows.",
  exchanging: "Getting the tokens…",
  failed: "That attempt came to nothing. The link can be opened again.",
  expired: "The link has expired. Make a new one.",
};

export function view(main, { query, integrations, signal, go, fail }) {
  const again = query.get("connection") ?? "", list = integrations().filter((i) => isByConsent(i) || isByMachine(i));
  const place = h("div", {});
  let session = null, shown = "";
  fill(main, h("div", { class: "head" }, h("h1", { tabindex: -1 }, again ? "Reconnect" : "Connect")),
    h("p", { class: "lead" }, again
      ? "The same user consents once more, and the connection goes on under its id."
      : "Your application makes connect sessions by itself. Here you make one by hand: for a first try, or for a user who is on the phone."), place);
  if (!list.length) {
    fill(place, empty("Nothing can be connected here", "The integrations that this key sees begin by an import: evergrant import on the command line."));
    return null;
  }
  fill(place, form(query, again ? list.filter((i) => i.name === query.get("integration")) : list, again, submit));

  async function submit(integration, owner, node) {
    const i = list.find((x) => x.name === integration);
    try {
      if (!isByConsent(i)) {
        const made = await post("/v1/connections", { integration, owner, grant_type: "client_credentials" });
        toast(`${i.display_name} is connected.`);
        go(`/connections/${made.id}`);
        return;
      }
      session = await post("/v1/connect-sessions", again ? { integration, owner, connection_id: again } : { integration, owner });
      shown = "";
      fill(place, waiting(i, owner));
      place.querySelector("h2").focus();
    } catch (problem) {
      if (!fail(problem)) fill(node, failure(problem));
    }
  }

  function waiting(i, owner) {
    const said = h("div", { role: "alert" });
    const code = h("input", { id: "code", name: "code", autocomplete: "off", autocapitalize: "characters", spellcheck: "false", maxlength: 20, placeholder: "BCDF-GHJK", required: true, "aria-describedby": "code-help" });
    return h("div", { class: "steps" },
      h("section", { class: "card", "aria-labelledby": "link-title" }, h("h2", { id: "link-title", tabindex: -1 }, "1. Open the link"),
        h("p", {}, `It is for ${owner}, at ${i.display_name}, and works until `, when(session.expires_at), " (", relative(session.expires_at), "). Whoever has it can connect an account in their name: send it to nobody else."),
        h("p", { class: "with-copy link" }, h("code", {}, session.authorize_url), copy(session.authorize_url, "the link")),
        h("p", { class: "actions" }, h("a", { class: "button go", href: session.authorize_url, target: "_blank", rel: "noopener noreferrer", "data-key": "open-link" }, "Open it here"))),
      h("section", { class: "card", "aria-labelledby": "code-title" }, h("h2", { id: "code-title" }, "2. Type the code"),
        h("p", { id: "step", class: "step", role: "status" }, steps.open),
        h("form", {
          class: "filters",
          async onsubmit(event) {
            event.preventDefault();
            fill(said);
            try {
              const made = await post(`/v1/connect-sessions/${session.id}/confirm`, { confirm: code.value.trim(), owner });
              toast(`${i.display_name} is connected.`);
              go(`/connections/${made.id}`);
            } catch (problem) {
              if (!fail(problem)) fill(said, failure(problem));
            }
          },
        }, h("label", {}, h("span", {}, "Code"), code), h("button", { type: "submit", class: "go", "data-key": "confirm" }, "Confirm")),
        h("p", { id: "code-help", class: "soft" }, "Eight letters. The last page shows them to whoever consented; by telling you the code they say that it was them."), said));
  }

  return async function update() {
    if (!session) return;
    const s = await get(`/v1/connect-sessions/${session.id}`, {}, signal);
    if (s.status === shown) return;
    shown = s.status;
    if (s.status === "connected" && s.connection_id) {
      go(`/connections/${s.connection_id}`);
      return;
    }
    fill(document.getElementById("step"), steps[s.status] ?? s.status);
  };
}

function form(query, list, again, submit) {
  const said = h("div", { role: "alert" });
  return h("form", {
    class: "card stack",
    async onsubmit(event) {
      event.preventDefault();
      fill(said);
      const { integration, owner } = event.target.elements;
      await submit(integration.value, owner.value.trim(), said);
    },
  },
  h("label", {}, h("span", {}, "Integration"), h("select", { name: "integration", "data-key": "integration" },
    list.map((i) => h("option", { value: i.name, selected: i.name === query.get("integration") }, i.display_name === i.name ? i.name : `${i.name} (${i.display_name})`)))),
  h("label", {}, h("span", {}, "Owner"), h("input", { name: "owner", value: query.get("owner") ?? "", required: true, readonly: again !== "", maxlength: 256, autocomplete: "off", spellcheck: "false", "data-key": "owner", "aria-describedby": "owner-help" })),
  h("p", { id: "owner-help", class: "soft" }, "Your application's own id of the user or tenant."),
  h("p", { class: "actions" }, h("button", { type: "submit", class: "go", "data-key": "make" }, "Continue"), h("a", { class: "button", href: again ? `#/connections/${again}` : "#/connections", "data-key": "cancel" }, "Cancel")), said);
}
