// Plays ../vectors.json, which docs/clients.md explains: each vector before a stub that answers as
// it is scripted and, where EVERGRANT_CLIENT_WORLD names the control address of a running server,
// those that a real one can play.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { isDeepStrictEqual } from "node:util";
import { test, type TestContext } from "node:test";

import { APIError, Evergrant, type Options, Secret, UnreachableError } from "../src/index.js";

type Json = any; // the vectors' own form is checked by what plays them

interface Vector {
  name: string;
  live?: boolean;
  key?: string;
  retry_for_s?: number;
  steps: Json[];
}

interface Received {
  method: string;
  path: string;
  query: Record<string, string>;
  headers: Record<string, string>; // by canonical name
  text: string;
}

const file: { now: string; key: string; stub: Record<string, Json>; answers: Record<string, Json>; vectors: Vector[] } = JSON.parse(readFileSync(vectorsFile(), "utf8"));

/** The repository's file, seen from the compiled test. */
function vectorsFile(): URL {
  const found = ["../../../vectors.json", "../../vectors.json"].map((p) => new URL(p, import.meta.url)).find((u) => existsSync(u));
  assert.ok(found, "vectors.json is not here");
  return found;
}

type Bindings = Record<string, Json>;

/** Holds got to want: variables are bound at first sight, of an object only the members that want
 * has are looked at. */
function unify(bound: Bindings, want: Json, got: Json): boolean {
  if (typeof want === "string" && want.startsWith("$")) {
    if (!(want in bound)) bound[want] = got;
    return isDeepStrictEqual(bound[want], got);
  }
  if (Array.isArray(want)) return Array.isArray(got) && got.length === want.length && want.every((w, n) => unify(bound, w, got[n]));
  if (typeof want === "object" && want !== null) {
    return typeof got === "object" && got !== null && !Array.isArray(got) && Object.entries(want).every(([name, w]) => unify(bound, w, got[name]));
  }
  return isDeepStrictEqual(want, got);
}

/** Replaces variables by what they stand for. */
function fill(bound: Bindings, v: Json): Json {
  if (typeof v === "string") {
    if (v in bound) return bound[v];
    return v.replace(/\$[a-z]\w*/g, (name) => (typeof bound[name] === "string" ? bound[name] : name));
  }
  if (Array.isArray(v)) return v.map((m) => fill(bound, m));
  if (typeof v === "object" && v !== null) return Object.fromEntries(Object.entries(v).map(([name, m]) => [name, fill(bound, m)]));
  return v;
}

function times(r: Json): [number, number] {
  return Array.isArray(r.times) ? r.times : [r.times ?? 1, r.times ?? 1];
}

/** The requests of one step, with what came. */
class Script {
  bound: Bindings = {};
  requests: Json[] = [];
  strange: string[] = [];

  begin(requests: Json[]): void {
    this.requests = requests.map((r) => ({ ...r, seen: 0 }));
    this.strange = [];
  }

  take(got: Received): Json {
    const found = this.requests.find((r) => this.#matches(r, got));
    if (found) found.seen++;
    else this.strange.push(`${got.method} ${got.path} ${JSON.stringify(got.query)} ${got.text}`);
    return found?.answer;
  }

  #matches(r: Json, got: Received): boolean {
    if (r.seen === times(r)[1] || r.method !== got.method || fill(this.bound, r.path) !== got.path) return false;
    const attempt = { ...this.bound };
    const query = r.query ?? {};
    if (Object.keys(query).length !== Object.keys(got.query).length || !unify(attempt, query, got.query)) return false;
    if (r.bearer && !unify(attempt, r.bearer, (got.headers["Authorization"] ?? "").replace(/^Bearer /, ""))) return false;
    for (const [name, value] of Object.entries(r.headers ?? {})) if (got.headers[name] !== value) return false;
    if (r.body === undefined) {
      if ((r.text ?? "") !== got.text) return false;
    } else {
      const body = JSON.parse(got.text || "null");
      if (Object.keys(body ?? {}).length !== Object.keys(r.body).length || !unify(attempt, r.body, body)) return false;
    }
    this.bound = Object.assign(this.bound, attempt);
    return true;
  }

  end(): void {
    for (const r of this.requests) {
      const [least, most] = times(r);
      assert.ok(r.seen >= least && r.seen <= most, `${r.method} ${r.path} came ${r.seen} times, want ${least} to ${most}`);
    }
    assert.deepEqual(this.strange, [], "not expected");
  }
}

/** Where a vector is played: before the stub, or before a running server. */
interface Place {
  mode: "stub" | "live";
  base: string;
  api: string;
  key: string;
  script: Script;
  clock?: Options["clock"];
  world(step: Json): Promise<void>;
  seen(): Promise<void>;
  waited(step: Json): void;
}

const canonical = (name: string): string => name.replace(/(^|-)[a-z]/g, (c) => c.toUpperCase());

async function receive(request: IncomingMessage): Promise<Received> {
  let text = "";
  for await (const chunk of request.setEncoding("utf8")) text += chunk;
  const [path = "", query = ""] = (request.url ?? "").split("?");
  const headers = Object.fromEntries(Object.entries(request.headers).map(([name, value]) => [canonical(name), String(value)]));
  return { method: request.method ?? "", path, query: Object.fromEntries(new URLSearchParams(query)), headers, text };
}

function respond(response: ServerResponse, given: Json): void {
  const answer = typeof given === "string" ? file.answers[given] : (given ?? { status: 418, text: "not in the script" });
  if (answer.drop) {
    response.socket?.destroy();
    return;
  }
  const kind = answer.body === undefined ? {} : { "Content-Type": "application/json" };
  response.writeHead(answer.status, { ...kind, ...answer.headers });
  response.end(answer.body === undefined ? answer.text : JSON.stringify(answer.body));
}

/** Evergrant and the provider's API as the vector has them, on a clock of its own. */
async function stub(t: TestContext, v: Vector): Promise<Place> {
  const script = new Script();
  Object.assign(script.bound, file.stub);
  const key = v.key ?? file.key;
  const server = createServer((request, response) => {
    void receive(request).then((got) => {
      if (!got.path.startsWith("/api/") && got.headers["Authorization"] !== `Bearer ${key}`) script.strange.push(`authorization ${got.headers["Authorization"]}`);
      respond(response, script.take(got));
    });
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  let at = Date.parse(file.now);
  let waits: number[] = [];
  const clock = {
    now: () => at,
    sleep: async (ms: number) => {
      at += ms;
      waits.push(ms / 1000);
    },
  };
  const waited = (step: Json): void => {
    assert.deepEqual(waits, step.waits_s ?? []);
    at += (step.clock_s ?? 0) * 1000;
    waits = [];
  };
  return { mode: "stub", base, api: base, key, script, clock, world: async () => {}, seen: async () => {}, waited };
}

/** A running server behind a proxy that records. */
async function live(control: string, v: Vector): Promise<Place> {
  const ask = async (path: string, body: Json): Promise<Json> => {
    const response = await fetch(control + path, { method: "POST", body: JSON.stringify(body) });
    const text = await response.text();
    assert.equal(response.status, 200, `${path}: ${text}`);
    return JSON.parse(text);
  };
  const script = new Script();
  const begun = await ask("/begin", { name: v.name });
  return {
    mode: "live",
    base: begun.base_url,
    api: begun.api_url,
    key: v.key ?? begun.key,
    script,
    world: async (step) => void Object.assign(script.bound, await ask("/world", fill(script.bound, step))),
    seen: async () => {
      for (const got of await ask("/requests", {})) script.take(got);
    },
    waited: () => {},
  };
}

async function play(v: Vector, p: Place): Promise<void> {
  const c = new Evergrant({ baseUrl: p.base, apiKey: p.key, ...(v.retry_for_s && { retryForS: v.retry_for_s }), ...(p.clock && { clock: p.clock }) });
  for (const step of v.steps) {
    if (step.only && step.only !== p.mode) continue;
    if (step.world) await p.world(step);
    if (!step.call) {
      p.waited(step);
      continue;
    }
    p.script.begin(step.requests.filter((r: Json) => !r.only || r.only === p.mode));
    const args = fill(p.script.bound, step);
    await Promise.all(Array.from({ length: step.callers ?? 1 }, () => once(c, p, step, args)));
    await p.seen();
    p.script.end();
    p.waited(step);
  }
}

async function once(c: Evergrant, p: Place, step: Json, args: Json): Promise<void> {
  let got: Json;
  try {
    got = await call(c, p, step.call, args);
  } catch (error) {
    if (!step.error) throw error;
    assert.ok(error instanceof APIError || error instanceof UnreachableError, String(error));
    const plain = { ...error, type: error.constructor.name };
    assert.ok(unify(p.script.bound, step.error, plain), `${JSON.stringify(plain)}, want ${JSON.stringify(step.error)}`);
    return;
  }
  assert.ok(!step.error, `no error, but ${JSON.stringify(got)}`);
  assert.ok(unify(p.script.bound, step.want, got), `${JSON.stringify(got)}, want ${JSON.stringify(step.want)}`);
}

async function call(c: Evergrant, p: Place, name: string, args: Json): Promise<Json> {
  switch (name) {
    case "token": {
      const token = await c.token(args.connection, { need: args.need, min_ttl_s: args.min_ttl_s });
      return { ...token, access_token: token.access_token.reveal(), base_urls: token.api?.base_urls ?? [] };
    }
    case "fetch": {
      const body = args.stream ? new Blob([args.text]).stream() : args.text;
      const response = await c.fetch(args.connection)(p.api + args.path, { method: args.method, body, ...(args.stream && { duplex: "half" }) });
      const text = await response.text();
      try {
        return { status: response.status, body: JSON.parse(text) };
      } catch {
        return { status: response.status, body: text };
      }
    }
    case "create_session":
      return c.createSession(args.request);
    case "reconnect":
      return c.reconnect(args.connection, args.request);
    case "session":
      return c.session(args.id);
    case "confirm":
      return c.confirm(args.id, new Secret(args.confirm), args.owner);
    case "connection":
      return c.connection(args.connection);
    case "connections": {
      const all = [];
      for await (const connection of c.connections(args.filter)) all.push(connection);
      return all;
    }
    case "set_tags":
      return c.setTags(args.connection, args.tags);
    case "activate":
      return c.activate(args.connection);
    case "import":
      return c.import({ ...args.request, refresh_token: new Secret(args.request.refresh_token) });
    case "disconnect":
      return c.disconnect(args.connection);
  }
  throw new Error(`there is no call ${name}`);
}

assert.ok(file.vectors.length >= 30);
for (const v of file.vectors) {
  test(`stub: ${v.name}`, async (t) => play(v, await stub(t, v)));
}
const control = process.env["EVERGRANT_CLIENT_WORLD"];
if (control) {
  for (const v of file.vectors.filter((v) => v.live)) {
    test(`live: ${v.name}`, async () => play(v, await live(control, v)));
  }
}
