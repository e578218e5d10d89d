// Two small charts as SVG, each with a table that says the same.

import { h, count, hourOf, dayOf, span } from "./dom.js";
import { counters } from "./words.js";

const kinds = ["good", "wait", "bad"];
const height = 190, left = 46, bottom = 24, top = 8;

// On a phone a chart has fewer units across, so that its letters stay as large.
const phone = matchMedia("(max-width: 46rem)");
const across = () => (phone.matches ? 330 : 560);

export const ranges = {
  "1": { label: "24 hours", hours: 24, step: 1 },
  "7": { label: "7 days", hours: 168, step: 6 },
  "14": { label: "14 days", hours: 336, step: 12 },
};

// buckets gathers the hours of /v1/stats into the bars of a range that ends now.
export function buckets(items, range, now) {
  const end = Math.ceil(now / 3600e3) * 3600e3, step = range.step * 3600e3, start = end - range.hours * 3600e3;
  const list = [];
  for (let at = start; at < end; at += step) list.push({ at, good: 0, wait: 0, bad: 0, p50: 0, p90: 0, p99: 0, max: 0 });
  for (const item of items) {
    const b = list[Math.floor((Date.parse(item.hour) - start) / step)];
    if (!b) continue;
    for (const kind of kinds) for (const name of counters[kind].names) b[kind] += item.outcomes[name] ?? 0;
    // Percentiles cannot be added: the worst integration stands for all.
    for (const p of ["p50", "p90", "p99", "max"]) b[p] = Math.max(b[p], item.lateness_s[p] ?? 0);
  }
  return list;
}

// ticks are three or four round values from 0 to at least max.
function ticks(max) {
  const raw = Math.max(1, max) / 3, power = 10 ** Math.floor(Math.log10(raw));
  const step = Math.max(1, [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw));
  const list = [];
  for (let v = 0; v < max + step; v += step) list.push(v);
  return list;
}

function frame(label, bars, marks, y, name) {
  const width = across(), each = (width - left) / bars.length;
  const every = Math.ceil(bars.length / (phone.matches ? 4 : 6));
  return h("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, class: "chart" },
    marks.map((v) => h("g", {},
      h("line", { class: "grid", x1: left, x2: width, y1: y(v), y2: y(v) }),
      h("text", { class: "tick", x: left - 7, y: y(v) + 4, "text-anchor": "end" }, name(v)))),
    bars.map((b, n) => n % every === 0 && h("text", { class: "tick", x: left + n * each + 1, y: height - 5 }, b.label)),
  );
}

const timed = (list, range) => list.map((b) => ({ ...b, label: (range.step === 1 ? hourOf : dayOf).format(b.at) }));

// outcomeChart is how many refreshes ended how, stacked.
export function outcomeChart(list, range) {
  const bars = timed(list, range), marks = ticks(Math.max(...bars.map((b) => b.good + b.wait + b.bad)));
  const y = (v) => height - bottom - (v / marks.at(-1)) * (height - bottom - top);
  const each = (across() - left) / bars.length, total = (kind) => bars.reduce((sum, b) => sum + b[kind], 0);
  const said = kinds.map((k) => `${counters[k].label}: ${count.format(total(k))}`).join(", ");
  const svg = frame(`Refreshes in the last ${range.label}. ${said}.`, bars, marks, y, (v) => count.format(v));
  bars.forEach((b, n) => {
    let base = 0;
    for (const kind of kinds) {
      if (!b[kind]) continue;
      const from = y(base), to = Math.min(y(base + b[kind]), from - 1.5);
      svg.append(h("rect", { class: `bar ${kind}`, x: left + n * each + 1.5, width: Math.max(1, each - 3), y: to, height: from - to, rx: 1.5 },
        h("title", {}, `${b.label} ${counters[kind].label}: ${count.format(b[kind])}`)));
      base += b[kind];
    }
  });
  const legend = h("ul", { class: "legend" }, kinds.map((k) => h("li", {}, h("span", { class: `swatch ${k}` }), `${counters[k].label} `, h("b", {}, count.format(total(k))))));
  return [svg, legend, table("outcomes", ["From", ...kinds.map((k) => counters[k].label)], bars.filter((b) => b.good + b.wait + b.bad)
    .map((b) => [stamp(b, range), ...kinds.map((k) => count.format(b[k]))]))];
}

const seconds = (s) => span(s * 1000);

// latenessChart is how late the scheduled refreshes were saved: half of them, and all but
// one in a hundred. Each step up is twice as late.
export function latenessChart(list, range) {
  const bars = timed(list, range), most = Math.max(8, ...bars.map((b) => b.p99));
  const top2 = Math.ceil(Math.log2(most + 1)), log = (v) => Math.log2(v + 1) / top2;
  const y = (v) => height - bottom - log(v) * (height - bottom - top);
  const marks = [0, 1, 4, 15, 60, 240, 900, 3600].filter((v) => log(v) <= 1)
    .reduce((kept, v) => (kept.length && y(kept.at(-1)) - y(v) < 15 ? kept : [...kept, v]), []);
  const each = (across() - left) / bars.length;
  const late = bars.filter((b) => b.p99 > 0);
  if (!late.length) return [h("p", { class: "soft" }, "No refresh of the schedule was saved in this time. Tokens of under ten minutes are refreshed by a timer, and refreshes that a caller asks for are not late: neither is counted here.")];
  const worst = `At worst, all but one in a hundred were saved within ${seconds(Math.max(...late.map((b) => b.p99)))}.`;
  const svg = frame(`Lateness in the last ${range.label}. ${worst}`, bars, marks, y, (v) => (v < 60 ? `${v} s` : v < 3600 ? `${v / 60} min` : "1 h"));
  bars.forEach((b, n) => {
    for (const [p, kind] of [["p99", "far"], ["p50", "near"]]) {
      if (!b[p]) continue;
      svg.append(h("rect", { class: `bar ${kind}`, x: left + n * each + 1.5, width: Math.max(1, each - 3), y: y(b[p]), height: height - bottom - y(b[p]), rx: 1.5 },
        h("title", {}, `${b.label} ${p === "p50" ? "half" : "99 of 100"} within ${seconds(b[p])}`)));
    }
  });
  const legend = h("ul", { class: "legend" }, h("li", {}, h("span", { class: "swatch near" }), "Half of them within"), h("li", {}, h("span", { class: "swatch far" }), "99 of 100 within"));
  return [svg, legend, table("lateness", ["From", "Half", "9 of 10", "99 of 100", "Latest"], late
    .map((b) => [stamp(b, range), ...["p50", "p90", "p99", "max"].map((p) => seconds(b[p]))]))];
}

const stamp = (b, range) => (range.step === 1 ? b.label : `${dayOf.format(b.at)} ${hourOf.format(b.at)}`);

function table(key, heads, rows) {
  if (!rows.length) return null;
  return h("details", { class: "numbers", "data-key": `numbers-${key}` }, h("summary", { "data-key": `fold-${key}` }, "The numbers"),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "The numbers" },
      h("table", {}, h("thead", {}, h("tr", {}, heads.map((text) => h("th", { scope: "col" }, text)))),
        h("tbody", {}, rows.map(([first, ...rest]) => h("tr", {}, h("th", { scope: "row" }, first), rest.map((text) => h("td", {}, text))))))));
}
