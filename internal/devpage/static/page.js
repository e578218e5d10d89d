// The page of `evergrant dev`. It shows what its backend tells it, once a second, and
// between two answers lets the clocks run on. It holds no secret and is given none.

const $ = (id) => document.getElementById(id);
const stamp = (id) => $(id).content.firstElementChild.cloneNode(true);

// The grants, as the cards name them.
const grants = {
  authorization_code: { kind: "consent", button: "Connect", again: "Connect again" },
  refresh_token: { kind: "import", button: "Import a token", again: "Import another" },
  client_credentials: { kind: "machine", button: "Connect", again: "Connect" },
};

// What the words of the journal mean, and how good they are.
const outcomes = {
  created: ["Connected", "good"],
  consented: ["The user consented", "good"],
  saved: ["Refreshed", "good"],
  rescued: ["Stored from the rescue log", "good"],
  not_acted: ["The provider did not act; tried again later", "wait"],
  answer_lost: ["The provider’s answer was lost", "wait"],
  malformed_answer: ["The provider’s answer was broken", "wait"],
  waiting: ["Waiting before it may be tried again", "wait"],
  refusal_held: ["Refused while in doubt; held back", "wait"],
  config_error: ["The provider refused the client", "wait"],
  revoked: ["The provider ended the access", "bad"],
  lost_response: ["The new token was lost with its answer", "bad"],
  disconnected: ["Disconnected", "off"],
  unknown: ["Something happened", "off"],
};

const reasons = {
  revoked: "The user or the provider took the access back. Only a new consent helps, and it continues this connection.",
  lost_response: "An answer with a new token was lost, and the provider no longer takes the old one. A new consent helps.",
  expired: "The access has run out. A new consent helps.",
  refused_often: "The provider refused too often. A new consent helps.",
  client_changed: "The client that got these tokens is not configured any more.",
  integration_suspended: "The provider refuses this application’s registration. Its operator has to look.",
};

const revocations = {
  at_provider: "Revoked at the provider",
  unsupported: "The provider offers no revocation; the tokens are erased here",
  pending: "The revocation is tried until it is done",
  none: "There was nothing to revoke",
};

const failures = {
  access_denied: "You did not allow it. Nothing was connected.",
  account_mismatch: "That is another account than before; it was not joined with this connection.",
  no_refresh_token: "The provider gave no lasting access. Nothing was connected.",
  forbidden: "The link was made for somebody else. Nothing was connected.",
  restart_connect: "That took too long or was used before. Please connect again.",
  link_used: "That link was used before. Please connect again.",
};

// ---- Time ----

let ahead = 0; // ms by which the server's clock is ahead of ours
const now = () => Date.now() + ahead;
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hour12: false });

// at is a moment: its time, and its day too unless it is close.
function at(iso) {
  const t = Date.parse(iso);
  return (Math.abs(t - now()) < 20 * 3600e3 ? clock : day).format(t);
}

// left is a length of time, in ms, in at most two units.
function left(ms) {
  const s = Math.max(0, Math.ceil(ms / 1000));
  const [d, h, m] = [Math.floor(s / 86400), Math.floor((s % 86400) / 3600), Math.floor((s % 3600) / 60)];
  if (d > 0) return `${d} d ${h} h`;
  if (h > 0) return `${h} h ${m} min`;
  return `${m}:${String(s % 60).padStart(2, "0")}`;
}

// ---- Small changes to the document: nothing is touched that is as it should be ----

function text(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

function show(node, visible) {
  if (node.hidden === visible) node.hidden = !visible;
}

function attribute(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

// line makes list hold exactly the nodes given, in their order, and moves no node that
// is in its place: a moved one would lose the focus.
function line(list, nodes) {
  const wanted = new Set(nodes);
  for (const node of [...list.children]) if (!wanted.has(node)) node.remove();
  nodes.forEach((node, n) => {
    if (list.children[n] !== node) list.insertBefore(node, list.children[n] ?? null);
  });
}

function toast(message, bad = false) {
  const node = document.createElement("p");
  node.className = bad ? "toast bad" : "toast";
  node.textContent = message;
  $("toasts").append(node);
  while ($("toasts").children.length > 3) $("toasts").firstChild.remove();
  setTimeout(() => node.remove(), 7000);
}

// ---- The backend ----

async function ask(path, body) {
  const options = { headers: { "Evergrant-Page": "1" }, cache: "no-store" };
  if (body) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const answer = await fetch(path, options);
  if (!answer.ok) throw new Error(`the page’s backend answered ${answer.status}`);
  return answer.json();
}

// act asks for something on a click: the button rests until the answer is here, and a
// problem is shown in its own words. It returns the answer, or null.
async function act(button, path, body) {
  if (button.getAttribute("aria-busy") === "true") return null;
  button.setAttribute("aria-busy", "true");
  try {
    const answer = await ask(path, body);
    if (!answer.problem) return answer;
    // The connection itself says so in a moment.
    if (answer.problem.code !== "needs_reauth") toast(explain(answer.problem), true);
  } catch {
    toast("The page’s backend does not answer.", true);
  } finally {
    button.removeAttribute("aria-busy");
    look();
  }
  return null;
}

// What a problem means to a person in front of this page; the API's own words are for
// those who write a backend.
const problems = {
  provider_unavailable: "No token came back. The connection is kept, and the schedule tries again.",
  refresh_in_progress: "A refresh of it is under way already.",
  integration_suspended: reasons.integration_suspended,
  token_refused: "The provider refused that token. Nothing was kept.",
};

function explain(problem) {
  if (problems[problem.code]) return problems[problem.code];
  const detail = problem.detail || problem.title || "It did not work";
  return detail.charAt(0).toUpperCase() + detail.slice(1) + (/[.!?]$/.test(detail) ? "" : ".");
}

// ---- What is shown ----

let state = { connections: [], calls: [], people: [], person: "", faults: false };
let integrations = [];
const cards = new Map(); // node by integration
const rows = new Map(); // { node, … } by connection id
const endings = new Map(); // node by connection id
const requests = new Map(); // node by number
let fresh = ""; // the connection that was just made
let greeted = ""; // the one that is still to be greeted

const integrationOf = (c) => integrations.find((i) => i.name === c.integration);
const titleOf = (c) => integrationOf(c)?.title ?? c.integration;
const nameOf = (id) => state.people.find((p) => p.id === id)?.name ?? id;
const isLive = (c) => c.status !== "disconnected";

function showPeople() {
  if ($("people").querySelector("label")) {
    for (const input of $("people").querySelectorAll("input")) input.checked = input.value === state.person;
    return;
  }
  for (const person of state.people) {
    const label = stamp("t-person");
    const input = label.querySelector("input");
    input.value = person.id;
    input.checked = person.id === state.person;
    input.addEventListener("change", async () => {
      await ask("/app/login", { person: person.id });
      fresh = "";
      look();
    });
    label.querySelector("span").textContent = person.name;
    $("people").append(label);
  }
}

function makeCard(i) {
  const node = stamp("t-card");
  const grant = grants[i.grant];
  node.dataset.integration = i.name;
  node.querySelector("h3").textContent = i.title;
  node.querySelector(".kind span").textContent = grant.kind;
  node.querySelector(".about").textContent = i.about;
  show(node.querySelector(".redirect"), i.redirect_uri !== "");
  node.querySelector(".redirect code").textContent = i.redirect_uri;
  const account = node.querySelector(".account");
  show(account, i.account_url !== "");
  if (i.account_url) account.href = i.account_url;
  node.querySelector("button").addEventListener("click", (event) => connect(event.currentTarget, i));
  return node;
}

function showCards() {
  for (const i of integrations) {
    if (!cards.has(i.name)) cards.set(i.name, makeCard(i));
    const node = cards.get(i.name);
    const live = state.connections.filter((c) => c.integration === i.name && isLive(c)).length;
    const button = node.querySelector("button");
    text(button, live ? grants[i.grant].again : grants[i.grant].button);
    attribute(button, "aria-label", `${button.textContent}: ${i.title}`);
    button.classList.toggle("go", live === 0);
    text(node.querySelector(".count"), live === 0 ? "" : live === 1 ? "connected" : `${live} connected`);
    const warn = node.querySelector(".warn");
    show(warn, i.suspended !== null);
    text(warn, i.suspended === null ? "" : `Suspended: the provider refuses the client (${i.suspended}).`);
  }
  line($("cards"), integrations.map((i) => cards.get(i.name)));
}

async function connect(button, i, connection = "") {
  const body = { integration: i.name };
  if (connection && i.grant === "authorization_code") body.connection = connection;
  const answer = await act(button, "/app/connect", body);
  if (!answer) return;
  if (answer.navigate) {
    location.assign(answer.navigate);
    return;
  }
  toast(answer.existed ? `${i.title} is connected already.` : `${i.title} is connected.`);
  fresh = answer.connection;
}

// standing is what a connection's pill says, and its kind.
function standing(c) {
  const last = c.journal.at(-1)?.outcome;
  switch (c.status) {
    case "active":
      return (outcomes[last] ?? outcomes.unknown)[1] === "wait" ? ["Recovering", "wait"] : ["Active", "good"];
    case "connecting":
      return ["Connecting", "wait"];
    case "needs_reauth":
      return ["Needs the user", "bad"];
    default:
      return ["Held", "off"];
  }
}

function makeRow(c) {
  const node = stamp("t-connection");
  const find = (selector) => node.querySelector(selector);
  node.dataset.connection = c.id;
  node.dataset.integration = c.integration;
  const row = {
    node, c, generation: c.generation, status: c.status, journal: "",
    life: find(".life"), mark: find(".mark"), time: find(".time"), what: find(".what"), next: find(".next"), ring: find(".ring"),
  };
  node.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-do]");
    if (button) deeds[button.dataset.do](row, button);
  });
  return row;
}

// deeds are what the buttons of a connection do.
const deeds = {
  reconnect: (row, button) => connect(button, integrationOf(row.c), row.c.id),
  async call(row, button) {
    const answer = await act(button, "/app/call", { connection: row.c.id });
    if (answer) showResult(row, answer);
  },
  async refresh(row, button) {
    const answer = await act(button, "/app/refresh", { connection: row.c.id });
    if (answer) toast(`${titleOf(row.c)} is refreshed: generation ${answer.generation}.`);
  },
  async disconnect(row, button) {
    const receipt = await act(button, "/app/disconnect", { connection: row.c.id });
    if (!receipt) return;
    toast(`${titleOf(row.c)}: ${receiptText(receipt)}`);
    await look();
    endings.get(row.c.id)?.querySelector("h3").focus();
  },
  async lost_answer(row, button) {
    const done = await act(button, "/app/fault", { connection: row.c.id, kind: "lost_answer" });
    closeMenu(row);
    if (done) toast(`${titleOf(row.c)} will act on the next token request and never answer. Refresh now, or wait for it.`);
  },
  async revoke_access(row, button) {
    const done = await act(button, "/app/fault", { connection: row.c.id, kind: "revoke_access" });
    closeMenu(row);
    if (done) toast(`At ${titleOf(row.c)} all access was taken back. The next refresh finds out.`);
  },
  close(row) {
    show(row.node.querySelector(".result"), false);
    row.node.querySelector("[data-do=call]").focus();
  },
};

function closeMenu(row) {
  const menu = row.node.querySelector(".break");
  menu.open = false;
  menu.querySelector("summary").focus();
}

function showResult(row, answer) {
  const part = row.node.querySelector(".result");
  const until = answer.use_until ? `; good until ${at(answer.use_until)}` : "";
  text(part.querySelector("h4"), `${answer.status} from ${answer.request}`);
  text(part.querySelector("p"), `With token ${answer.token_id} of generation ${answer.generation}${until}.` +
    (answer.retried ? " The first one was refused, so the backend reported that and got this one." : ""));
  text(part.querySelector("pre"), pretty(answer.body));
  show(part, true);
  part.focus({ preventScroll: true });
  part.scrollIntoView({ block: "nearest" });
}

function pretty(body) {
  try {
    return JSON.stringify(JSON.parse(body), null, 2);
  } catch {
    return body || "(an empty body)";
  }
}

// bornAt is when the present token was stored, in ms.
function bornAt(c) {
  const entry = c.journal.findLast((e) => ["created", "consented", "saved", "rescued"].includes(e.outcome));
  return Date.parse(entry?.at ?? c.updated_at);
}

function showRow(c) {
  if (!rows.has(c.id)) rows.set(c.id, makeRow(c));
  const row = rows.get(c.id);
  row.c = c;
  const { node } = row;
  const [label, kind] = standing(c);
  const find = (selector) => node.querySelector(selector);
  for (const k of ["good", "wait", "bad", "off"]) node.classList.toggle(k, k === kind);
  node.classList.toggle("new", c.id === fresh);
  text(find("h3"), titleOf(c));
  text(find(".whose"), whose(c));
  text(find(".pill"), label);
  const why = reasonOf(c);
  text(find(".reason"), why);
  show(find(".reason"), why !== "");
  text(find(".generation"), String(c.generation));
  text(find(".expires"), kind === "bad" || c.status === "connecting" ? "–" : c.expires_at ? at(c.expires_at) : "unknown");
  showActions(row);
  showHistory(row);
  if (row.generation !== c.generation) {
    row.generation = c.generation;
    node.classList.remove("bumped");
    void node.offsetWidth; // lets the animation begin anew
    node.classList.add("bumped");
  }
  if (row.status !== c.status) {
    row.status = c.status;
    toast(kind === "bad" ? `${titleOf(c)} ${label.toLowerCase()}: the access was ended.` : `${titleOf(c)} is ${label.toLowerCase()}.`, kind === "bad");
  }
}

function reasonOf(c) {
  if (c.status !== "needs_reauth") return reasons[c.reason] ?? "";
  if (integrationOf(c)?.grant === "refresh_token") return "The provider no longer takes this token. Import a new one; it makes a new connection.";
  return reasons[c.reason] ?? "Only a new consent helps.";
}

function whose(c) {
  const parts = [c.account?.name ?? (c.account ? `account ${c.account.id}` : "")];
  const scope = c.granted_scope || c.requested_scope;
  if (scope) parts.push(scope);
  parts.push(`${c.id.slice(0, 12)}…`);
  return parts.filter(Boolean).join(" · ");
}

function showActions(row) {
  const button = (name) => row.node.querySelector(`[data-do=${name}]`);
  const usable = row.c.status === "active" || row.c.status === "connecting";
  const grant = integrationOf(row.c)?.grant;
  show(button("reconnect"), row.c.status === "needs_reauth" && grant !== undefined);
  text(button("reconnect"), grant === "refresh_token" ? "Import a new token" : "Reconnect");
  show(button("call"), usable);
  show(button("refresh"), usable);
  show(row.node.querySelector(".break"), usable && state.faults);
  show(button("revoke_access"), grant !== "client_credentials");
}

function showHistory(row) {
  const key = JSON.stringify(row.c.journal);
  if (key === row.journal) return;
  row.journal = key;
  const beads = [], items = [];
  for (const entry of row.c.journal) {
    const [label, kind] = outcomes[entry.outcome] ?? outcomes.unknown;
    const bead = document.createElement("span");
    bead.className = `bead ${kind}`;
    beads.push(bead);
    const item = document.createElement("li");
    const [when, what, took] = ["span", "b", "span"].map((tag) => item.appendChild(document.createElement(tag)));
    when.textContent = at(entry.at);
    // A refresh notes the generation that it began with.
    what.textContent = entry.outcome === "saved" ? `${label}: generation ${entry.generation + 1}` : label;
    took.textContent = entry.took_ms ? `${entry.took_ms} ms` : "";
    items.unshift(item);
  }
  row.node.querySelector(".beads").replaceChildren(...beads);
  row.node.querySelector(".history ol").replaceChildren(...items);
}

function receiptText(receipt) {
  const proof = receipt.proof === "refresh_refused" ? ", and proved: afterwards it refused the refresh token" : "";
  return `${revocations[receipt.revoked] ?? receipt.revoked}${proof}.`;
}

function showEnded(c) {
  if (!endings.has(c.id)) endings.set(c.id, stamp("t-ended"));
  const node = endings.get(c.id);
  const superseded = c.reason === "superseded";
  text(node.querySelector("h3"), titleOf(c));
  text(node.querySelector(".pill"), superseded ? "Superseded" : c.reason === "token_refused" ? "Refused" : "Disconnected");
  const told = superseded ? "A newer connection of the same account took its place." : c.receipt ? receiptText(c.receipt) : "";
  text(node.querySelector(".proof"), told);
  const when = at(c.receipt?.disconnected_at ?? c.updated_at);
  const flight = c.receipt?.in_flight ? " A refresh was under way." : "";
  text(node.querySelector(".when"), `${[c.account?.name, c.id.slice(0, 12) + "…", `ended ${when}`].filter(Boolean).join(" · ")}.${flight}`);
  return node;
}

function showConnections() {
  const live = state.connections.filter(isLive);
  const ended = state.connections.filter((c) => !isLive(c))
    .sort((a, b) => Date.parse(b.receipt?.disconnected_at ?? b.updated_at) - Date.parse(a.receipt?.disconnected_at ?? a.updated_at)).slice(0, 8);
  live.forEach(showRow);
  for (const id of [...rows.keys()]) if (!live.some((c) => c.id === id)) rows.delete(id);
  line($("connections"), live.map((c) => rows.get(c.id).node));
  line($("ended"), ended.map(showEnded));
  show($("empty"), live.length === 0);
  show($("ended-part"), ended.length > 0);
  text($("sum-live"), String(live.length));
  text($("sum-renewed"), String(live.reduce((sum, c) => sum + Math.max(0, c.generation - 1), 0)));
}

// breakable is path as nodes that let a line end before each slash.
function breakable(path) {
  return path.split(/(?=\/)/).flatMap((part) => [document.createElement("wbr"), part]);
}

function showCalls() {
  const nodes = state.calls.map((c) => {
    if (!requests.has(c.n)) {
      const node = stamp("t-call");
      const outside = c.to !== "evergrant";
      node.classList.toggle("outside", outside);
      node.querySelector(".method").textContent = c.method;
      const path = outside ? `${c.to} ${c.path}` : c.path.replace(/(conn_[\w-]{4})[\w-]+/, "$1…");
      node.querySelector(".path").append(...breakable(path));
      const status = node.querySelector(".status");
      status.textContent = c.status || "no answer";
      status.classList.toggle("bad", c.status === 0 || c.status >= 400);
      node.querySelector(".why").textContent = `${clock.format(Date.parse(c.at))} ${c.why}`;
      node.querySelector(".took").textContent = c.took_ms ? `${c.took_ms} ms` : "<1 ms";
      requests.set(c.n, node);
    }
    return requests.get(c.n);
  });
  const kept = new Set(state.calls.map((c) => c.n));
  for (const n of [...requests.keys()]) if (!kept.has(n)) requests.delete(n);
  line($("calls"), nodes.reverse());
  show($("calls"), nodes.length > 0);
  show($("no-calls"), nodes.length === 0);
}

// ---- The clocks ----

// turn draws a connection's ring: what is left of its token's life, with a mark where
// the next refresh stands in it.
function turn(row) {
  const { c } = row;
  const ends = c.expires_at ? Date.parse(c.expires_at) : 0;
  const next = c.next_refresh_at ? Date.parse(c.next_refresh_at) : 0;
  const born = bornAt(c);
  const part = (t) => Math.min(1, Math.max(0, (ends - t) / (ends - born)));
  const alive = ends > born;
  const rest = alive ? part(now()) : 0;
  attribute(row.life, "stroke-dasharray", `${(rest * 100).toFixed(2)} 200`);
  show(row.life, rest > 0.003);
  const marked = alive && next > born && next < ends;
  show(row.mark, marked);
  if (marked) attribute(row.mark, "transform", `rotate(${(-360 * part(next)).toFixed(1)} 48 48)`);
  text(row.next, next ? at(c.next_refresh_at) : c.status === "needs_reauth" ? "–" : "when asked for");
  const [time, what] = dial(c, next, ends);
  text(row.time, time);
  row.time.classList.toggle("small", time.length > 6);
  text(row.what, what);
  const last = c.journal.at(-1);
  const [label] = outcomes[last?.outcome] ?? outcomes.unknown;
  text(row.node.querySelector(".last"), last ? `${label} ${ago(last.at)}` : "No history yet");
}

function dial(c, next, ends) {
  if (c.status === "needs_reauth") return ["stopped", ""];
  if (c.status === "connecting") return ["…", "first token"];
  if (next) return next > now() ? [left(next - now()), "refresh in"] : ["now", "refresh"];
  if (ends) return [left(ends - now()), "token left"];
  return ["–", "no end known"];
}

function ago(iso) {
  const ms = now() - Date.parse(iso);
  return ms < 1500 ? "just now" : ms < 60e3 ? `${Math.floor(ms / 1000)} s ago` : `${left(ms).replace(/^(\d+):\d+$/, "$1 min")} ago`;
}

function tick() {
  let soonest = Infinity;
  for (const row of rows.values()) {
    turn(row);
    if (row.c.next_refresh_at) soonest = Math.min(soonest, Date.parse(row.c.next_refresh_at));
  }
  text($("sum-next"), soonest === Infinity ? "–" : soonest > now() ? left(soonest - now()) : "now");
}

// ---- Looking ----

let looking = null, again = false;

// look gets the state and shows it. One that is asked for while another is under way
// comes after it, since what it is meant to show may be too new for that one.
function look() {
  if (looking) {
    again = true;
    return looking;
  }
  looking = (async () => {
    do {
      again = false;
      await lookOnce();
    } while (again);
    looking = null;
  })();
  return looking;
}

async function lookOnce() {
  try {
    const sent = Date.now();
    const answer = await ask("/app/state");
    if (answer.problem) throw new Error(answer.problem.code);
    if (!integrations.length) integrations = (await ask("/app/integrations")).items ?? [];
    ahead = Date.parse(answer.now) - (sent + Date.now()) / 2;
    state = answer;
    showPeople();
    showCards();
    showConnections();
    showCalls();
    tick();
    greet();
    show($("banner"), false);
  } catch {
    text($("banner"), "The page’s backend does not answer. Is evergrant dev still running? This page goes on as soon as it is.");
    show($("banner"), true);
  }
}

// arrive reads what the way back from a provider left in the address.
function arrive() {
  const [, id, code] = location.hash.match(/^#(?:(conn_[\w-]+)|failed=([a-z_]{1,40}))$/) ?? [];
  if (id || code) history.replaceState(null, "", "/");
  if (id) fresh = greeted = id;
  if (code) toast(failures[code] ?? `That did not work (${code}). Nothing was connected.`, true);
  look();
}

// greet shows the connection with which the browser came back, once it is there.
function greet() {
  const row = rows.get(greeted);
  if (!row) return;
  greeted = "";
  toast(`${titleOf(row.c)} is connected for ${nameOf(row.c.owner)}.`);
  row.node.querySelector("h3").focus({ preventScroll: true });
  row.node.scrollIntoView({ block: "center" });
}

// A menu closes when something else is clicked, or with Escape.
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll(".break[open]")) if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  const menu = event.target.closest?.(".break[open]");
  if (event.key === "Escape" && menu) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

document.addEventListener("visibilitychange", () => document.hidden || look());
setInterval(() => document.hidden || look(), 1000);
setInterval(() => document.hidden || tick(), 250);
setInterval(async () => {
  if (document.hidden) return;
  integrations = (await ask("/app/integrations").catch(() => ({}))).items ?? integrations;
}, 15000);
arrive();
