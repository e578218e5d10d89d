export { Evergrant, type Options } from "./client.js";
export {
  APIError,
  DisconnectedError,
  IntegrationSuspendedError,
  MissingScopeError,
  NeedsReauthError,
  type Problem,
  ProviderUnavailableError,
  RateLimitedError,
  RefreshInProgressError,
  RestartConnectError,
  UnreachableError,
} from "./errors.js";
export { Secret } from "./secret.js";
export type * from "./types.js";
