// What the API's words mean to an operator, and how good they are: good, wait, bad or off.

export const statuses = {
  active: ["Active", "good"],
  connecting: ["Connecting", "wait"],
  needs_reauth: ["Needs the user", "bad"],
  held: ["Held", "off"],
  disconnected: ["Disconnected", "off"],
};

export const reasons = {
  revoked: "The user or the provider took the access back. A new consent continues this connection.",
  lost_response: "An answer with a new token was lost, and the provider no longer takes the old one. A new consent continues this connection.",
  expired: "The refresh token's own life has ended. A new consent continues this connection.",
  client_changed: "The client that got these tokens is not configured any more. Put it back, or have the user connect again.",
  integration_suspended: "The provider refuses the integration's client. Look at the integration; the connection itself is not lost.",
  superseded: "A newer connection of the same account took its place.",
  token_refused: "The provider refused the imported token.",
};

// The outcomes of a connection's journal.
export const outcomes = {
  created: ["Connected", "good"],
  consented: ["The user consented", "good"],
  saved: ["Refreshed", "good"],
  rescued: ["Stored from the rescue log", "good"],
  revived: ["Taken up again by an operator", "good"],
  not_acted: ["The provider did not act; tried again later", "wait"],
  answer_lost: ["The provider's answer was lost", "wait"],
  malformed_answer: ["The provider's answer was broken", "wait"],
  waiting: ["Waiting before it may be tried again", "wait"],
  refusal_held: ["Refused while in doubt; held back", "wait"],
  config_error: ["The provider refused the client", "wait"],
  id_token_refused: ["The ID token did not verify", "wait"],
  revoked: ["The provider ended the access", "bad"],
  lost_response: ["The new token was lost with its answer", "bad"],
  expired: ["The refresh token's life ended", "bad"],
  disconnected: ["Disconnected", "off"],
};

export const outcomeOf = (name) => outcomes[name] ?? [name.replaceAll("_", " "), "off"];

// The counters of the statistics, gathered into the three kinds that the chart shows.
export const counters = {
  good: { label: "Saved", names: ["saved", "rescued"] },
  wait: { label: "Tried again later", names: ["not_acted", "answer_lost", "config_error", "refusal_held", "overtaken", "dropped", "restored"] },
  bad: { label: "Ended or refused", names: ["needs_reauth", "lost_tokens", "too_large", "token_refused"] },
};

export const revocations = {
  at_provider: "revoked at the provider",
  unsupported: "the provider offers no revocation; the tokens are erased here",
  pending: "the revocation is tried until it is done",
  none: "there was nothing to revoke",
};

export function receiptText(receipt) {
  const proof = receipt.proof === "refresh_refused" ? ", and proved: afterwards the provider refused the refresh token" : "";
  const flight = receipt.in_flight ? " A refresh was under way." : "";
  return `Disconnected; ${revocations[receipt.revoked] ?? receipt.revoked}${proof}.${flight}`;
}
