"""What goes wrong, as types."""

from __future__ import annotations

import json
from typing import Any


class APIError(Exception):
    """An answer of Evergrant that is not a success. It holds no secret.

    code is "" where something else than Evergrant answered, such as a gateway; docs/http.md tells
    the others. request_id finds the request in Evergrant's log. retry_after_s is when to ask again
    at the earliest, 0 where that was not told.
    """

    def __init__(self, status: int, problem: dict[str, Any], retry_after_s: int) -> None:
        def text(name: str) -> str:
            value = problem.get(name)
            return value if isinstance(value, str) else ""

        self.code = text("code")
        self.status = status
        self.detail = text("detail") if self.code else "the answer is not Evergrant's: is the address right, and is a proxy in between?"
        self.request_id = text("request_id")
        self.reason = text("reason")
        self.connection_id = text("connection_id")
        self.authorize_url = text("authorize_url")
        self.missing_scope = text("missing_scope").split()
        self.retry_after_s = retry_after_s
        said = f"evergrant: {self.code or 'no code'} ({status}): {self.detail}"
        if self.reason:
            said += f" (reason: {self.reason})"
        if self.missing_scope:
            said += f" (missing: {' '.join(self.missing_scope)})"
        if self.request_id:
            said += f" (request {self.request_id})"
        super().__init__(said)


class NeedsReauthError(APIError):
    """The user has to consent again: reconnect(connection_id) makes the link."""


class DisconnectedError(APIError):
    """The connection is over; the owner may connect anew."""


class MissingScopeError(APIError):
    """The user granted less than was needed: reconnect(connection_id, scopes=missing_scope)."""


class RateLimitedError(APIError):
    """Evergrant was asked too often; retry_after_s tells when to go on."""


class RestartConnectError(APIError):
    """A code was used up, refused or too old: send the user to authorize_url, or make a new session."""


class RefreshInProgressError(APIError):
    """Another worker was still refreshing when the call's time was over."""


class ProviderUnavailableError(APIError):
    """No valid token is left and the provider was still away when the call's time was over."""


class IntegrationSuspendedError(APIError):
    """The provider refuses the application itself; the operator of Evergrant has to look."""


class UnreachableError(Exception):
    """No whole answer came from Evergrant; __cause__ is what became of the connection."""

    def __init__(self) -> None:
        super().__init__("evergrant cannot be reached")


_BY_CODE: dict[str, type[APIError]] = {
    "needs_reauth": NeedsReauthError,
    "disconnected": DisconnectedError,
    "missing_scope": MissingScopeError,
    "rate_limited": RateLimitedError,
    "restart_connect": RestartConnectError,
    "refresh_in_progress": RefreshInProgressError,
    "provider_unavailable": ProviderUnavailableError,
    "integration_suspended": IntegrationSuspendedError,
}


def error_of(status: int, retry_after: str | None, body: bytes) -> APIError:
    """The error that an answer is."""
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {}
    told = retry_after is not None and retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 10
    code = problem.get("code")
    kind = _BY_CODE.get(code, APIError) if isinstance(code, str) else APIError
    return kind(status, problem, int(retry_after) if told and retry_after else 0)
