// Small tools to make nodes. No text becomes markup: everything goes through
// textContent and attributes.

const svgNames = new Set(["svg", "g", "rect", "line", "path", "text", "title", "circle"]);

// h makes an element. An attribute that is null or false is left out; one that begins
// with "on" is an event's listener.
export function h(name, attributes = {}, ...children) {
  const node = svgNames.has(name) ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  add(node, children);
  return node;
}

function add(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child);
  }
}

// fill makes children the content of node. Whatever had the focus keeps it, if it is
// there again under the same data-key, and so do folds that were open.
export function fill(node, ...children) {
  const focused = node.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const open = new Set([...node.querySelectorAll("details[open][data-key]")].map((d) => d.dataset.key));
  node.replaceChildren();
  add(node, children);
  for (const details of node.querySelectorAll("details[data-key]")) if (open.has(details.dataset.key)) details.open = true;
  if (focused) find(node, focused)?.focus({ preventScroll: true });
}

export function find(node, key) {
  return node.querySelector(`[data-key="${CSS.escape(key)}"]`);
}

let toasts = 0;

// toast says something that is over soon; screen readers read it.
export function toast(message, bad = false) {
  const node = h("p", { class: bad ? "toast bad" : "toast", "data-key": `toast-${++toasts}` }, message);
  const list = document.getElementById("toasts");
  list.append(node);
  while (list.children.length > 3) list.firstChild.remove();
  setTimeout(() => node.remove(), 7000);
}

// copy is a button that copies a text.
export function copy(text, what) {
  return h("button", {
    type: "button", class: "small", "aria-label": `Copy ${what}`, "data-key": `copy-${what}`,
    async onclick(event) {
      const button = event.currentTarget;
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = "Copy"; }, 2000);
      } catch {
        toast("The browser did not let the console copy. Select the text instead.", true);
      }
    },
  }, "Copy");
}

// ---- Time. The server's clock counts: ahead is by how many ms it is before ours. ----

const clock = { ahead: 0 };
export const now = () => Date.now() + clock.ahead;

export function setClock(date) {
  const t = Date.parse(date ?? "");
  // The header has whole seconds: what is within two is one clock.
  if (!Number.isNaN(t)) clock.ahead = Math.abs(t - Date.now()) < 2000 ? 0 : t - Date.now();
}

const sameDay = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const otherDay = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hour12: false });
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
export const hourOf = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });
export const dayOf = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

// when is a moment as a <time>: its time, with the day unless it is close.
export function when(iso) {
  if (!iso) return "–";
  const t = Date.parse(iso);
  return h("time", { datetime: iso, title: whole.format(t) }, (Math.abs(t - now()) < 18 * 3600e3 ? sameDay : otherDay).format(t));
}

// span is a length of time in ms, in its largest unit or two.
export function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 48 * 3600) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} days`;
}

// relative is how far a moment is away.
export function relative(iso) {
  if (!iso) return "–";
  const ms = Date.parse(iso) - now();
  if (Math.abs(ms) < 1000) return "now";
  return ms > 0 ? `in ${span(ms)}` : `${span(-ms)} ago`;
}

export const count = new Intl.NumberFormat();
