import type { Secret } from "./secret.js";

// Requests and answers have the names that the API gives them; GET /v1/openapi.json of a running
// Evergrant describes each. Times are RFC 3339, what is unknown is null.

/** An access token. */
export interface Token {
  access_token: Secret;
  /** Bearer, as a rule. */
  token_type: string;
  /** Changes when the access token does and never else. It says nothing about the token. */
  token_id: string;
  generation: number;
  /** Null where the provider does not tell. */
  expires_at: string | null;
  /** When to ask Evergrant again. Null with expires_at: the provider's 401 is the signal then. */
  use_until: string | null;
  /** Blanks between the scopes. */
  scope: string;
  /** What the provider told besides, such as a realm, the secret ones too. */
  fields: Record<string, Secret>;
  /** Where and how the provider's API takes the token; null: nothing is known, so it goes as
   * Authorization: Bearer, and 401 refuses it. */
  api: TokenAPI | null;
}

/** How the provider's API takes a token and refuses one. */
export interface TokenAPI {
  /** Where the API is, for this connection; empty: not known. A {name} that is left is for the
   * caller to fill in. */
  base_urls: string[];
  header_name: string;
  header_scheme: string;
  rejected_when: Rejection[];
}

/** An answer that says that the token is dead. All that is given must fit. */
export interface Rejection {
  status: number;
  /** Patterns by header, each of which must occur in it. */
  header_match?: Record<string, string>;
  /** Dotted path into the body, a[0].b for lists. */
  json_field?: string;
  /** What json_field holds, as text; absent: anything. */
  equals?: string;
}

/** What a token has to be good for. */
export interface TokenOptions {
  /** Scopes without which the token is of no use: else MissingScopeError. */
  need?: string[];
  /** How long it has to last at least, in whole seconds up to a day; 60 unless told. */
  min_ttl_s?: number;
  signal?: AbortSignal;
}

/** What a connect session is for. */
export interface SessionRequest {
  integration: string;
  /** Your own id of the user or tenant, at most 256 bytes. */
  owner: string;
  return_to?: string;
  scopes?: string[];
  /** Makes it a reconnect of that connection. */
  connection_id?: string;
  allow_account_change?: boolean;
  login_hint?: string;
  tags?: Record<string, string>;
  expires_in_s?: number;
}

/** A connect session that was made; authorize_url is for the user's browser. */
export interface NewSession {
  id: string;
  authorize_url: string;
  expires_at: string;
}

/** How far a connect session has come. */
export interface Session {
  status: "open" | "authorizing" | "awaiting_confirm" | "exchanging" | "connected" | "failed" | "expired";
  connection_id: string | null;
  error: string | null;
}

/** Tokens that were got elsewhere, or a connection without a user. */
export interface ImportRequest {
  integration: string;
  owner: string;
  /** Required unless grant_type is given. */
  refresh_token?: Secret | string;
  grant_type?: "client_credentials";
  access_token?: Secret | string;
  expires_at?: string;
  client?: string;
  scope?: string;
  /** Unique in its integration: the same one again returns the connection that it made. Without
   * one an import is sent once and never repeated. */
  external_id?: string;
  /** Stores the tokens and refreshes nothing until activate(). */
  hold?: boolean;
  tags?: Record<string, string>;
}

/** A connection without its tokens. */
export interface Connection {
  id: string;
  integration: string;
  provider: string;
  client: string;
  owner: string;
  external_id: string;
  account: { id: string; name: string | null } | null;
  tags: Record<string, string>;
  fields: Record<string, string>;
  status: "connecting" | "held" | "active" | "needs_reauth" | "disconnected";
  reason: string | null;
  generation: number;
  requested_scope: string;
  granted_scope: string;
  missing_scope: string;
  redirect_uri: string;
  expires_at: string | null;
  next_refresh_at: string | null;
  reconnect_by: string | null;
  created_at: string;
  updated_at: string;
  receipt: Receipt | null;
  journal: { at: string; outcome: string; generation: number; took_ms: number }[];
  /** Told by importConnection alone, which found a held connection: its tokens are others now. */
  took_tokens?: boolean;
}

/** How a connection ended. */
export interface Receipt {
  disconnected_at: string;
  revoked: "at_provider" | "unsupported" | "pending" | "none";
  proof: "refresh_refused" | "none";
  in_flight: boolean;
}

/** Which connections to list; owner or integration is required. */
export interface Filter {
  owner?: string;
  integration?: string;
  status?: Connection["status"];
  /** All must match. */
  tags?: Record<string, string>;
  /** Connections a request, 1 to 100; 20 unless told. */
  page_size?: number;
}
