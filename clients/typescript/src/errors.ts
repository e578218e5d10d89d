/** What a problem of the API says (RFC 9457); docs/http.md tells the codes. */
export interface Problem {
  code: string;
  status: number;
  detail: string;
  request_id: string;
  reason: string;
  connection_id: string;
  authorize_url: string;
  missing_scope: string[];
  retry_after_s: number;
}

/**
 * An answer of Evergrant that is not a success. It holds no secret.
 * The errors below are those after which the caller has something to do.
 */
export class APIError extends Error implements Problem {
  /** "" where something else than Evergrant answered, such as a gateway. */
  readonly code: string;
  readonly status: number;
  /** For a person to read. */
  readonly detail: string;
  /** Finds the request in Evergrant's log. */
  readonly request_id: string;
  /** Of needs_reauth, disconnected and integration_suspended. */
  readonly reason: string;
  readonly connection_id: string;
  /** Of restart_connect: where the user starts again. */
  readonly authorize_url: string;
  readonly missing_scope: string[];
  /** When to ask again at the earliest; 0: not told. */
  readonly retry_after_s: number;

  constructor(p: Problem) {
    const more = [p.reason && `reason: ${p.reason}`, p.missing_scope.length && `missing: ${p.missing_scope.join(" ")}`, p.request_id && `request ${p.request_id}`];
    super([`evergrant: ${p.code || "no code"} (${p.status}): ${p.detail}`, ...more.filter(Boolean).map((m) => `(${m})`)].join(" "));
    this.name = new.target.name;
    this.code = p.code;
    this.status = p.status;
    this.detail = p.detail;
    this.request_id = p.request_id;
    this.reason = p.reason;
    this.connection_id = p.connection_id;
    this.authorize_url = p.authorize_url;
    this.missing_scope = p.missing_scope;
    this.retry_after_s = p.retry_after_s;
  }
}

/** The user has to consent again: reconnect(connection_id) makes the link. */
export class NeedsReauthError extends APIError {}
/** The connection is over; the owner may connect anew. */
export class DisconnectedError extends APIError {}
/** The user granted less than was needed: reconnect(connection_id, {scopes: missing_scope}). */
export class MissingScopeError extends APIError {}
/** Evergrant was asked too often; retry_after_s tells when to go on. */
export class RateLimitedError extends APIError {}
/** A code was used up, refused or too old: send the user to authorize_url, or make a new session. */
export class RestartConnectError extends APIError {}
/** Another worker was still refreshing when the call's time was over. */
export class RefreshInProgressError extends APIError {}
/** No valid token is left and the provider was still away when the call's time was over. */
export class ProviderUnavailableError extends APIError {}
/** The provider refuses the application itself; the operator of Evergrant has to look. */
export class IntegrationSuspendedError extends APIError {}

/** No whole answer came from Evergrant. */
export class UnreachableError extends Error {
  constructor(cause: unknown) {
    super("evergrant cannot be reached", { cause });
    this.name = "UnreachableError";
  }
}

const byCode: Record<string, new (p: Problem) => APIError> = {
  needs_reauth: NeedsReauthError,
  disconnected: DisconnectedError,
  missing_scope: MissingScopeError,
  rate_limited: RateLimitedError,
  restart_connect: RestartConnectError,
  refresh_in_progress: RefreshInProgressError,
  provider_unavailable: ProviderUnavailableError,
  integration_suspended: IntegrationSuspendedError,
};

const notOurs = "the answer is not Evergrant's: is the address right, and is a proxy in between?";

/** The error that an answer is. */
export function errorOf(status: number, retryAfter: string | null, body: string): APIError {
  const p = object(body);
  const text = (name: string) => (typeof p[name] === "string" ? (p[name] as string) : "");
  const code = text("code");
  return new (Object.hasOwn(byCode, code) ? byCode[code]! : APIError)({
    code,
    status,
    detail: code ? text("detail") : notOurs,
    request_id: text("request_id"),
    reason: text("reason"),
    connection_id: text("connection_id"),
    authorize_url: text("authorize_url"),
    missing_scope: text("missing_scope").split(" ").filter(Boolean),
    retry_after_s: /^\d{1,9}$/.test(retryAfter ?? "") ? Number(retryAfter) : 0,
  });
}

function object(body: string): Record<string, unknown> {
  try {
    const v: unknown = JSON.parse(body);
    return typeof v === "object" && v !== null ? (v as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
