"""Fresh OAuth access tokens from Evergrant.

Client is the client for threads and AsyncClient (which needs httpx) the one for asyncio. Both
hand out what Evergrant keeps fresh: a token is cached until its use_until, and however many
callers ask for it at once, one request is made. RequestsAuth in evergrant.requests and HttpxAuth
in evergrant.httpx send it along with requests to the provider's API, report it where the provider
refuses it, and send the request once more.
"""

from ._async import AsyncClient
from ._core import Filter, Token
from ._errors import (
    APIError,
    DisconnectedError,
    IntegrationSuspendedError,
    MissingScopeError,
    NeedsReauthError,
    ProviderUnavailableError,
    RateLimitedError,
    RefreshInProgressError,
    RestartConnectError,
    UnreachableError,
)
from ._secret import Secret
from ._sync import Client

__all__ = [
    "APIError",
    "AsyncClient",
    "Client",
    "DisconnectedError",
    "Filter",
    "IntegrationSuspendedError",
    "MissingScopeError",
    "NeedsReauthError",
    "ProviderUnavailableError",
    "RateLimitedError",
    "RefreshInProgressError",
    "RestartConnectError",
    "Secret",
    "Token",
    "UnreachableError",
]
