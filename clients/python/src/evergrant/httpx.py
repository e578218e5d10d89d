"""The access token in requests to the provider's API, for the library httpx."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator

import httpx

from ._async import AsyncClient
from ._core import Token, rejected
from ._sync import Client


class HttpxAuth(httpx.Auth):
    """Sends a connection's access token along: httpx.Client(auth=HttpxAuth(client, id)), with a
    Client, or httpx.AsyncClient(auth=HttpxAuth(client, id)) with an AsyncClient.

    Where the provider refuses the token, it is reported to Evergrant and the request sent once more
    with the new one, if its body can be sent again: it has none, or one that is in memory. Else the
    refusal is returned, and the next request gets the new token.

    httpx follows no redirect unless it is told to, and takes Authorization off one to another
    origin. Where a provider's token goes in another header (Token.header), do not tell it to.
    """

    def __init__(self, client: Client | AsyncClient, connection_id: str) -> None:
        self._client = client
        self._key = client._core.key(connection_id, (), 0)

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if not isinstance(self._client, Client):
            raise TypeError("an httpx.Client needs an evergrant.Client")
        token = self._client._token(self._key)
        response = yield _with(request, token)
        _read(response, token)
        if not _refuses(token, response) or not self._client._refuse(self._key, token) or not _replayable(request):
            return
        token = self._client._token(self._key)
        response = yield _with(request, token)
        _read(response, token)
        if _refuses(token, response):
            self._client._hush(self._key)

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        if not isinstance(self._client, AsyncClient):
            raise TypeError("an httpx.AsyncClient needs an evergrant.AsyncClient")
        token = await self._client._token(self._key)
        response = yield _with(request, token)
        await _aread(response, token)
        if not _refuses(token, response) or not self._client._refuse(self._key, token) or not _replayable(request):
            return
        token = await self._client._token(self._key)
        response = yield _with(request, token)
        await _aread(response, token)
        if _refuses(token, response):
            self._client._hush(self._key)


def _with(request: httpx.Request, token: Token) -> httpx.Request:
    name, value = token.header()
    request.headers[name] = value
    return request


def _needs_body(response: httpx.Response, token: Token) -> bool:
    return token.api is not None and any(rule["status"] == response.status_code and rule.get("json_field") for rule in token.api["rejected_when"])


def _read(response: httpx.Response, token: Token) -> None:
    if _needs_body(response, token):
        response.read()


async def _aread(response: httpx.Response, token: Token) -> None:
    if _needs_body(response, token):
        await response.aread()


def _refuses(token: Token, response: httpx.Response) -> bool:
    return rejected(token, response.status_code, response.headers.get, lambda: response.content)


def _replayable(request: httpx.Request) -> bool:
    """Whether the body is in memory. That of a stream, a file or a form with files is not."""
    try:
        request.content
    except httpx.RequestNotRead:
        return False
    return True
