import { Cell, maxCells } from "./cache.js";
import { APIError, errorOf, ProviderUnavailableError, RefreshInProgressError, UnreachableError } from "./errors.js";
import { rejected } from "./rejection.js";
import { revealed, Secret } from "./secret.js";
import type { Connection, Filter, ImportRequest, NewSession, Receipt, Session, SessionRequest, Token, TokenOptions } from "./types.js";

/** What new Evergrant() needs. */
export interface Options {
  /** Such as https://auth.example.com. */
  baseUrl: string;
  /** An API key, evg_…. Absent only with a fetch that authenticates by itself. */
  apiKey?: Secret | string;
  /** Makes the requests, to Evergrant and to providers; the runtime's own unless told. */
  fetch?: typeof fetch;
  /** How long a call goes on repeating what may be repeated, in seconds: 30 unless told, 0 not at
   * all. An error whose Retry-After would be later is thrown at once. */
  retryForS?: number;
  /** Admits a plain http address that is not on this machine: whoever sees the traffic sees the
   * key and every token. */
  insecureHttp?: boolean;
  /** @internal A clock for tests, in ms. */
  clock?: Clock;
}

interface Clock {
  now(): number;
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** The longest that one request takes, in ms: more than the slowest answer. */
const requestTime = 100_000;

/** The waits where an answer names none, in ms: doubled each time from the first. */
const firstWait = 250;
const longestWait = 4_000;

/** One Evergrant. Make one and share it, since it holds the cache of tokens. */
export class Evergrant {
  readonly #base: string;
  readonly #key: Secret | undefined;
  readonly #fetch: typeof fetch;
  readonly #retryFor: number;
  readonly #clock: Clock;
  readonly #cells = new Map<string, Cell>();

  constructor(options: Options) {
    const url = new URL(options.baseUrl);
    const loopback = /^(localhost|127(\.\d+){3}|\[::1\])$/.test(url.hostname);
    if (url.username || url.password || url.search || url.hash) throw new TypeError("baseUrl has to be an origin such as https://auth.example.com");
    if (url.protocol !== "https:" && !(url.protocol === "http:" && (loopback || options.insecureHttp))) {
      throw new TypeError("baseUrl has to be https, or http on this machine: the key goes along with each request");
    }
    if (!options.apiKey && !options.fetch) throw new TypeError("an apiKey is needed, or a fetch that authenticates by itself");
    this.#base = url.href.replace(/\/+$/, "");
    this.#key = options.apiKey ? new Secret(revealed(options.apiKey)) : undefined;
    this.#fetch = options.fetch ?? ((input, init) => fetch(input, init));
    this.#retryFor = (options.retryForS ?? 30) * 1000;
    this.#clock = options.clock ?? { now: () => Date.now(), sleep };
  }

  /**
   * The access token of a connection: from the cache until its use_until, else from Evergrant.
   * However many callers ask at once, one request is made.
   */
  async token(connectionId: string, options: TokenOptions = {}): Promise<Token> {
    const need = [...new Set(options.need ?? [])].sort().join(" ");
    const minTTL = Math.trunc(options.min_ttl_s ?? 0);
    return this.#token(connectionId, need, minTTL, options.signal);
  }

  /**
   * A fetch for the provider's API that sends the connection's access token along. Where the
   * provider refuses the token, it is reported to Evergrant and the request sent once more with
   * the new one, if its body can be sent again: it has none, or one that is no stream. Else the
   * refusal is returned, and the next request gets the new token.
   */
  fetch(connectionId: string): (input: string | URL | Request, init?: RequestInit) => Promise<Response> {
    return async (input, init) => {
      const signal = init?.signal ?? (input instanceof Request ? input.signal : undefined);
      const token = await this.#token(connectionId, "", 0, signal);
      const response = await this.#fetch(input, withToken(input, init, token));
      const cell = this.#cell(connectionId, "", 0);
      if (!(await rejected(response, token.api)) || !cell.refuse(token, this.#clock.now()) || !replayable(input, init)) return response;
      await response.body?.cancel();
      const next = await this.#token(connectionId, "", 0, signal);
      const again = await this.#fetch(input, withToken(input, init, next));
      if (await rejected(again, next.api)) cell.hush(this.#clock.now());
      return again;
    };
  }

  /** Begins to connect an owner: send the user to authorize_url. */
  createSession(request: SessionRequest, signal?: AbortSignal): Promise<NewSession> {
    return this.#repeated("POST", "/v1/connect-sessions", request, signal);
  }

  /** Makes a session in which the owner of a connection consents again, after a NeedsReauthError
   * or a MissingScopeError. The connection and its id stay. */
  async reconnect(connectionId: string, request: Omit<SessionRequest, "integration" | "owner" | "connection_id"> = {}, signal?: AbortSignal): Promise<NewSession> {
    const { id, integration, owner } = await this.connection(connectionId, signal);
    return this.createSession({ ...request, integration, owner, connection_id: id }, signal);
  }

  /** How far a connect session has come. */
  session(id: string, signal?: AbortSignal): Promise<Session> {
    return this.#repeated("GET", sessionPath(id), undefined, signal);
  }

  /** Finishes a connect: id and confirm are evergrant_session and evergrant_confirm of the address
   * to which the browser came back, owner is who is logged in to the application in that browser,
   * never what its query says. */
  async confirm(id: string, confirm: Secret | string, owner: string, signal?: AbortSignal): Promise<Connection> {
    const connection = await this.#repeated<Connection>("POST", `${sessionPath(id)}/confirm`, { confirm: revealed(confirm), owner }, signal);
    this.#forget(connection.id); // a reconnect has brought other tokens
    return connection;
  }

  /** Stores tokens that were got elsewhere, and refreshes them once, which proves them. */
  import(request: ImportRequest, signal?: AbortSignal): Promise<Connection> {
    const body: Record<string, unknown> = { ...request };
    if (request.refresh_token !== undefined) body["refresh_token"] = revealed(request.refresh_token);
    if (request.access_token !== undefined) body["access_token"] = revealed(request.access_token);
    if (!request.external_id) return this.#call("POST", "/v1/connections", body, signal);
    return this.#repeated("POST", "/v1/connections", body, signal);
  }

  /** Shows a connection. */
  connection(id: string, signal?: AbortSignal): Promise<Connection> {
    return this.#repeated("GET", connectionPath(id), undefined, signal);
  }

  /** Lists connections, page by page as they are walked over. */
  async *connections(filter: Filter, signal?: AbortSignal): AsyncGenerator<Connection, void, undefined> {
    const query = new URLSearchParams();
    for (const name of ["owner", "integration", "status"] as const) if (filter[name]) query.set(name, filter[name]);
    for (const [name, value] of Object.entries(filter.tags ?? {})) query.set(`tag.${name}`, value);
    if (filter.page_size) query.set("limit", String(filter.page_size));
    for (;;) {
      const page = await this.#repeated<{ items: Connection[]; next: string | null }>("GET", `/v1/connections?${query}`, undefined, signal);
      yield* page.items;
      if (page.next === null) return;
      query.set("cursor", page.next);
    }
  }

  /** Replaces the tags of a connection. */
  setTags(id: string, tags: Record<string, string>, signal?: AbortSignal): Promise<Connection> {
    return this.#repeated("PATCH", connectionPath(id), { tags }, signal);
  }

  /** Makes a held connection Evergrant's to refresh. */
  activate(id: string, signal?: AbortSignal): Promise<Connection> {
    return this.#repeated("POST", `${connectionPath(id)}/activate`, undefined, signal);
  }

  /** Revokes the tokens of a connection at the provider and erases them. Where revoked is pending,
   * the provider did not answer yet and is asked again. */
  async disconnect(id: string, signal?: AbortSignal): Promise<Receipt> {
    this.#forget(id);
    try {
      return await this.#repeated("DELETE", connectionPath(id), undefined, signal);
    } finally {
      this.#forget(id); // whoever asked meanwhile
    }
  }

  async #token(id: string, need: string, minTTL: number, signal?: AbortSignal | null): Promise<Token> {
    return this.#retrying(signal ?? undefined, () => {
      const cell = this.#cell(id, need, minTTL);
      return Promise.resolve(cell.fresh(this.#clock.now(), minTTL) ?? cell.join((refused, own) => this.#ask(id, need, minTTL, refused, own), signal ?? undefined));
    });
  }

  /** Asks for a token, or reports the one that the provider refused. */
  async #ask(id: string, need: string, minTTL: number, refused: Token | undefined, signal: AbortSignal): Promise<Token> {
    type Plain = Omit<Token, "access_token" | "fields"> & { access_token: string; fields: Record<string, string> };
    let t: Plain;
    if (refused) {
      t = await this.#call("POST", `${connectionPath(id)}/refresh`, { if_generation: refused.generation, if_token_id: refused.token_id }, signal);
    } else {
      const query = new URLSearchParams();
      if (minTTL > 0) query.set("min_ttl_s", String(minTTL));
      if (need) query.set("need", need);
      t = await this.#call("GET", `${connectionPath(id)}/token${query.size ? `?${query}` : ""}`, undefined, signal);
    }
    const fields = Object.fromEntries(Object.entries(t.fields ?? {}).map(([name, value]) => [name, new Secret(value)]));
    return { ...t, access_token: new Secret(t.access_token), fields, api: t.api ?? null };
  }

  #cell(id: string, need: string, minTTL: number): Cell {
    const key = JSON.stringify([id, need, minTTL]);
    let cell = this.#cells.get(key);
    if (!cell) {
      if (this.#cells.size >= maxCells) this.#evict();
      this.#cells.set(key, (cell = new Cell()));
    }
    return cell;
  }

  /** Drops the oldest idle cell. */
  #evict(): void {
    for (const [key, cell] of this.#cells) {
      if (!cell.flight) {
        this.#cells.delete(key);
        return;
      }
    }
  }

  /** Drops what is cached of a connection. */
  #forget(id: string): void {
    const prefix = `[${JSON.stringify(id)},`;
    for (const key of this.#cells.keys()) if (key.startsWith(prefix)) this.#cells.delete(key);
  }

  #repeated<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
    return this.#retrying(signal, () => this.#call<T>(method, path, body, signal));
  }

  /** Runs once until it does not fail, fails for good, or the time is over. */
  async #retrying<T>(signal: AbortSignal | undefined, once: () => Promise<T>): Promise<T> {
    const end = this.#clock.now() + this.#retryFor;
    for (let tries = 0; ; tries++) {
      try {
        return await once();
      } catch (error) {
        const wait = retryAfter(error, tries);
        if (wait === undefined || signal?.aborted || this.#clock.now() + wait >= end) throw error;
        await this.#clock.sleep(wait, signal);
      }
    }
  }

  /** One request of the API. */
  async #call<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
    const headers = new Headers();
    if (this.#key) headers.set("Authorization", `Bearer ${this.#key.reveal()}`);
    if (body !== undefined) headers.set("Content-Type", "application/json");
    const limit = AbortSignal.timeout(requestTime);
    const init: RequestInit = {
      method,
      headers,
      redirect: "manual", // the API never redirects; following one would carry the key elsewhere
      cache: "no-store",
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    };
    if (body !== undefined) init.body = JSON.stringify(body);
    let response: Response, text: string;
    try {
      response = await this.#fetch(this.#base + path, init);
      text = await response.text();
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw new UnreachableError(error);
    }
    if (!response.ok) throw errorOf(response.status, response.headers.get("Retry-After"), text);
    try {
      return JSON.parse(text) as T;
    } catch {
      throw errorOf(response.status, null, "");
    }
  }
}

// An id of a caller's caller must not become another path.
const sessionPath = (id: string): string => `/v1/connect-sessions/${encodeURIComponent(id)}`;
const connectionPath = (id: string): string => `/v1/connections/${encodeURIComponent(id)}`;

/** When the call may succeed if it is repeated, in ms; undefined: not by itself. */
function retryAfter(error: unknown, tries: number): number | undefined {
  const wait = Math.min(firstWait * 2 ** Math.min(tries, 10), longestWait);
  if (error instanceof UnreachableError) return wait;
  if (!(error instanceof APIError)) return undefined;
  // 502 to 504 without a problem come from a proxy or gateway before Evergrant.
  const gateway = error.code === "" && error.status >= 502 && error.status <= 504;
  if (gateway || error instanceof RefreshInProgressError || error instanceof ProviderUnavailableError) return error.retry_after_s * 1000 || wait;
  return undefined;
}

function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/** init with the header that carries the token. */
function withToken(input: string | URL | Request, init: RequestInit | undefined, token: Token): RequestInit {
  const headers = new Headers(init?.headers ?? (input instanceof Request ? input.headers : undefined));
  const bearer = !token.token_type || token.token_type.toLowerCase() === "bearer"; // some servers take only the spelling Bearer
  const name = token.api?.header_name ?? "Authorization";
  const scheme = token.api?.header_scheme ?? (bearer ? "Bearer" : token.token_type);
  headers.set(name, `${scheme} ${token.access_token.reveal()}`.trimStart());
  // A redirect to another origin loses Authorization, and no other header: so none is followed.
  const redirect = name.toLowerCase() === "authorization" ? {} : { redirect: init?.redirect === "manual" ? init.redirect : ("error" as const) };
  return { ...init, ...redirect, headers };
}

/** Whether the body can be sent a second time. */
function replayable(input: string | URL | Request, init: RequestInit | undefined): boolean {
  const body = init?.body;
  if (body === undefined || body === null) return !(input instanceof Request) || input.body === null;
  return typeof body === "string" || body instanceof URLSearchParams || body instanceof Blob || body instanceof FormData || body instanceof ArrayBuffer || ArrayBuffer.isView(body);
}
