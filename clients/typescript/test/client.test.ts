import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { inspect } from "node:util";
import { test } from "node:test";

import { APIError, Evergrant, Secret } from "../src/index.js";

const token = JSON.stringify({
  access_token: "at-SECRET", token_type: "bearer", token_id: "1", expires_at: null, use_until: null, generation: 1, scope: "", fields: { realm: "field-SECRET" }, api: null,
});

/** A client before answers of the test's. */
function before(answer: (url: string, init: RequestInit) => Promise<Response>, retryForS = 0): Evergrant {
  return new Evergrant({ baseUrl: "https://auth.example.com", apiKey: "evg_SECRET", retryForS, fetch: (input, init) => answer(String(input), init ?? {}) });
}

test("nothing prints a secret", async () => {
  const c = before(async (url) => (url.endsWith("/confirm") ? new Response('{"code":"restart_connect"}', { status: 409 }) : new Response(token)));
  const t = await c.token("conn_1");
  const failed = await c.confirm("cs_SECRET", new Secret("confirm-SECRET"), "alice").catch((e: unknown) => e);
  assert.ok(failed instanceof APIError);
  for (const v of [t, c, failed, t.access_token, t.fields]) {
    const all = [inspect(v, { depth: 9, showHidden: true }), JSON.stringify(v), `${v}`].join(" ");
    assert.ok(!all.includes("SECRET"), all);
  }
  assert.equal(t.access_token.reveal(), "at-SECRET");
  assert.equal(t.fields["realm"]?.reveal(), "field-SECRET");
});

test("a request belongs to all who wait for it", async () => {
  let answer = (_: Response): void => {};
  let aborted = false;
  let requests = 0;
  const c = before((_, init) => {
    requests++;
    return new Promise((resolve, reject) => {
      answer = resolve;
      init.signal?.addEventListener("abort", () => {
        aborted = true;
        reject(init.signal?.reason);
      });
    });
  });
  const first = new AbortController();
  const one = c.token("conn_1", { signal: first.signal });
  const two = c.token("conn_1");
  first.abort(new Error("enough"));
  await assert.rejects(one, /enough/);
  assert.ok(!aborted, "the request ended while somebody waited");
  answer(new Response(token));
  assert.equal((await two).token_id, "1");
  assert.equal(requests, 1);

  const last = new AbortController();
  const three = c.token("conn_2", { signal: last.signal });
  last.abort(new Error("enough"));
  await assert.rejects(three, /enough/);
  assert.ok(aborted, "the request went on for nobody");
});

test("a call ends with its signal while it waits to repeat", async () => {
  const c = before(async () => new Response('{"code":"refresh_in_progress"}', { status: 409, headers: { "Retry-After": "20" } }), 30);
  await assert.rejects(c.token("conn_1", { signal: AbortSignal.timeout(20) }), { name: "TimeoutError" });
});

test("addresses and keys", () => {
  for (const baseUrl of ["https://auth.example.com", "https://auth.example.com/stage/", "http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]:8080"]) {
    new Evergrant({ baseUrl, apiKey: "evg_1" });
  }
  new Evergrant({ baseUrl: "http://evergrant:8080", apiKey: "evg_1", insecureHttp: true });
  for (const baseUrl of ["http://evergrant:8080", "ftp://127.0.0.1", "auth.example.com", "https://user:pass@auth.example.com", "https://auth.example.com?x=1", "http://127.0.0.1.example.com"]) {
    assert.throws(() => new Evergrant({ baseUrl, apiKey: "evg_1" }), TypeError, baseUrl);
  }
  assert.throws(() => new Evergrant({ baseUrl: "https://auth.example.com" }), TypeError);
});

test("a header that redirects would carry along is followed nowhere", async () => {
  const seen: RequestInit[] = [];
  const api = { base_urls: [], header_name: "X-Auth", header_scheme: "", rejected_when: [] };
  const c = before(async (url, init) => {
    if (url.startsWith("https://auth.example.com/")) return new Response(JSON.stringify({ ...JSON.parse(token), api }));
    seen.push(init);
    return new Response("ok");
  });
  await c.fetch("conn_1")(new Request("https://api.example.com/", { headers: { "X-Own": "1" } }));
  assert.equal(seen[0]?.redirect, "error");
  assert.equal(new Headers(seen[0]?.headers).get("X-Auth"), "at-SECRET");
  assert.equal(new Headers(seen[0]?.headers).get("X-Own"), "1");
});

test("the cache does not grow with every connection that there ever was", async () => {
  const asked = new Map<string, number>();
  const c = before(async (url) => {
    asked.set(url, (asked.get(url) ?? 0) + 1);
    return new Response(token);
  });
  for (let n = 0; n <= 10_000; n++) await c.token(`conn_${n}`);
  await c.token("conn_10000");
  await c.token("conn_0");
  assert.equal(asked.get("https://auth.example.com/v1/connections/conn_10000/token"), 1);
  assert.equal(asked.get("https://auth.example.com/v1/connections/conn_0/token"), 2, "the oldest was kept as well");
});

// What is compiled without the types of Node.js (tsconfig.json) needs nothing of it; this is for
// what types do not see.
test("it runs where there is no Node.js", () => {
  const folder = new URL("../src/", import.meta.url);
  for (const name of readdirSync(folder)) {
    const text = readFileSync(new URL(name, folder), "utf8");
    assert.doesNotMatch(text, /\bnode:|require\(|\bprocess\.|\bBuffer\b|\bglobal\./, name);
    for (const [, from] of text.matchAll(/from "([^"]+)"/g)) assert.match(from ?? "", /^\.\//, name);
  }
});
