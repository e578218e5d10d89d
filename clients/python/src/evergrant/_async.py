"""The client for asyncio, on httpx."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from ._core import REQUEST_TIME, Answer, Call, Core, Filter, Key, Request, Token
from ._errors import UnreachableError
from ._secret import Secret

try:
    import httpx
except ImportError:  # an extra
    httpx = None  # type: ignore[assignment]


class _Flight:
    """One request for a token, which any number of tasks wait for."""

    def __init__(self, task: asyncio.Task[Token]) -> None:
        self.task = task
        self.waiting = 0


class AsyncClient:
    """Client for asyncio: see there. It belongs to one event loop. It needs httpx
    (pip install evergrant-client[httpx]); close it by aclose() or use it in "async with".
    """

    def __init__(
        self,
        base_url: str,
        api_key: Secret | str,
        *,
        retry_for_s: float = 30.0,
        insecure_http: bool = False,
        _now: Callable[[], float] = time.time,
        _sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if httpx is None:
            raise ImportError("AsyncClient needs httpx: pip install evergrant-client[httpx]")
        self._core = Core(base_url, api_key, retry_for_s, insecure_http)
        self._now, self._sleep = _now, _sleep
        self._http = httpx.AsyncClient(timeout=REQUEST_TIME, follow_redirects=False)

    def __repr__(self) -> str:
        return f"evergrant.AsyncClient({self._core.base!r})"

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections to Evergrant."""
        await self._http.aclose()

    async def token(self, connection_id: str, *, need: Sequence[str] = (), min_ttl_s: int = 0) -> Token:
        """The access token of a connection; see Client.token."""
        return await self._token(self._core.key(connection_id, need, min_ttl_s))

    async def create_session(self, **request: Any) -> dict[str, Any]:
        """Begins to connect an owner; see Client.create_session."""
        return await self._call(self._core.create_session(request))

    async def reconnect(self, connection_id: str, **request: Any) -> dict[str, Any]:
        """Makes a session in which the owner consents again; see Client.reconnect."""
        c = await self.connection(connection_id)
        return await self.create_session(**{**request, "integration": c["integration"], "owner": c["owner"], "connection_id": c["id"]})

    async def session(self, session_id: str) -> dict[str, Any]:
        """How far a connect session has come."""
        return await self._call(self._core.session(session_id))

    async def confirm(self, session_id: str, confirm: Secret | str, owner: str) -> dict[str, Any]:
        """Finishes a connect; see Client.confirm."""
        c = await self._call(self._core.confirm(session_id, confirm, owner))
        self._core.forget(c["id"])  # a reconnect has brought other tokens
        return c

    async def import_tokens(self, **request: Any) -> dict[str, Any]:
        """Stores tokens that were got elsewhere; see Client.import_tokens."""
        return await self._call(self._core.import_tokens(request))

    async def connection(self, connection_id: str) -> dict[str, Any]:
        """Shows a connection."""
        return await self._call(self._core.connection(connection_id))

    async def connections(self, f: Filter) -> AsyncIterator[dict[str, Any]]:
        """Lists connections, page by page as they are walked over."""
        cursor = None
        while True:
            page = await self._call(self._core.list_page(f, cursor))
            for c in page["items"]:
                yield c
            cursor = page["next"]
            if cursor is None:
                return

    async def set_tags(self, connection_id: str, tags: Mapping[str, str]) -> dict[str, Any]:
        """Replaces the tags of a connection."""
        return await self._call(self._core.set_tags(connection_id, tags))

    async def activate(self, connection_id: str) -> dict[str, Any]:
        """Makes a held connection Evergrant's to refresh."""
        return await self._call(self._core.activate(connection_id))

    async def disconnect(self, connection_id: str) -> dict[str, Any]:
        """Revokes the tokens of a connection at the provider and erases them; see
        Client.disconnect."""
        self._core.forget(connection_id)
        try:
            return await self._call(self._core.disconnect(connection_id))
        finally:
            self._core.forget(connection_id)  # whoever asked meanwhile

    def _refuse(self, key: Key, t: Token) -> bool:
        return self._core.refuse(key, t, self._now())

    def _hush(self, key: Key) -> None:
        self._core.hush(key, self._now())

    async def _token(self, key: Key) -> Token:
        def once() -> Call:
            return (yield self._join(key))

        return await self._run(self._core.retrying(once, self._now))

    async def _join(self, key: Key) -> Token:
        """The cached token, or what the one request for it brings. The request ends when nobody
        waits any more."""
        cell = self._core.cell(key)
        t = cell.fresh(self._now(), key.min_ttl_s)
        if t is not None:
            return t
        if cell.flight is None:
            refused = cell.token if cell.refused else None

            async def fly() -> Token:
                try:
                    brought: Token = await self._run(self._core.ask(key, refused))
                    cell.landed(brought, refused is not None)
                    return brought
                finally:
                    if cell.flight is flight:
                        cell.flight = None

            flight = cell.flight = _Flight(asyncio.ensure_future(fly()))
        mine = cell.flight
        mine.waiting += 1
        try:
            return await asyncio.shield(mine.task)
        finally:
            mine.waiting -= 1
            if mine.waiting == 0 and not mine.task.done():
                if cell.flight is mine:
                    cell.flight = None
                mine.task.cancel()

    async def _call(self, request: Request) -> Any:
        return await self._run(self._core.call(request, self._now))

    async def _run(self, call: Call) -> Any:
        """Drives a call: sends what it yields, waits as long as it says."""
        try:
            step = next(call)
            while True:
                if isinstance(step, (int, float)):
                    await self._sleep(step)
                    step = next(call)
                    continue
                try:
                    answer = await (self._send(step) if isinstance(step, Request) else step)
                except Exception as error:
                    step = call.throw(error)
                else:
                    step = call.send(answer)
        except StopIteration as end:
            return end.value

    async def _send(self, request: Request) -> Answer:
        try:
            r = await self._http.request(request.method, self._core.base + request.path, headers=request.headers, content=request.body)
        except httpx.HTTPError as cause:
            raise UnreachableError() from cause
        return Answer(r.status_code, r.headers.get("Retry-After"), r.content)
