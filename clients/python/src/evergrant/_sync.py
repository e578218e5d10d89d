"""The client for threads, on the standard library."""

from __future__ import annotations

import http.client
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ._core import REQUEST_TIME, Answer, Call, Cell, Core, Filter, Key, Request, Token, read_bounded
from ._errors import UnreachableError
from ._secret import Secret


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The API never redirects, and to follow one would carry the key elsewhere."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class _Flight:
    """One request for a token, which any number of threads wait for."""

    def __init__(self, refused: Token | None) -> None:
        self.refused = refused
        self.done = threading.Event()
        self.token: Token | None = None
        self.error: Exception | None = None


class Client:
    """One Evergrant. Many threads may use it; make one and share it, since it holds the cache of
    tokens.

    A call that may be repeated is, while a refresh is under way, the provider is away or the
    server restarts, for retry_for_s seconds; an error whose Retry-After would be later is raised at
    once. insecure_http admits a plain http address that is not on this machine: whoever sees the
    traffic sees the key and every token.
    """

    def __init__(
        self,
        base_url: str,
        api_key: Secret | str,
        *,
        retry_for_s: float = 30.0,
        insecure_http: bool = False,
        _now: Callable[[], float] = time.time,
        _sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._core = Core(base_url, api_key, retry_for_s, insecure_http)
        self._now, self._sleep = _now, _sleep
        self._lock = threading.Lock()  # guards the core's cells
        self._opener = urllib.request.build_opener(_NoRedirects)

    def __repr__(self) -> str:
        return f"evergrant.Client({self._core.base!r})"

    def token(self, connection_id: str, *, need: Sequence[str] = (), min_ttl_s: int = 0) -> Token:
        """The access token of a connection: from the cache until its use_until, else from
        Evergrant. However many threads ask at once, one request is made.

        need are scopes without which the token is of no use (else MissingScopeError), min_ttl_s is
        how long it has to last at least, 60 seconds unless told.
        """
        return self._token(self._core.key(connection_id, need, min_ttl_s))

    def create_session(self, **request: Any) -> dict[str, Any]:
        """Begins to connect an owner (integration and owner are required): send the user to the
        authorize_url of the answer."""
        return self._call(self._core.create_session(request))

    def reconnect(self, connection_id: str, **request: Any) -> dict[str, Any]:
        """Makes a session in which the owner of a connection consents again, after a
        NeedsReauthError or a MissingScopeError. The connection and its id stay."""
        c = self.connection(connection_id)
        return self.create_session(**{**request, "integration": c["integration"], "owner": c["owner"], "connection_id": c["id"]})

    def session(self, session_id: str) -> dict[str, Any]:
        """How far a connect session has come."""
        return self._call(self._core.session(session_id))

    def confirm(self, session_id: str, confirm: Secret | str, owner: str) -> dict[str, Any]:
        """Finishes a connect: the first two are evergrant_session and evergrant_confirm of the
        address to which the browser came back, owner is who is logged in to the application in that
        browser, never what its query says."""
        c = self._call(self._core.confirm(session_id, confirm, owner))
        self._forget(c["id"])  # a reconnect has brought other tokens
        return c

    def import_tokens(self, **request: Any) -> dict[str, Any]:
        """Stores tokens that were got elsewhere (integration, owner and refresh_token are required,
        or grant_type) and refreshes them once, which proves them. Without an external_id an import
        is sent once and never repeated."""
        return self._call(self._core.import_tokens(request))

    def connection(self, connection_id: str) -> dict[str, Any]:
        """Shows a connection."""
        return self._call(self._core.connection(connection_id))

    def connections(self, f: Filter) -> Iterator[dict[str, Any]]:
        """Lists connections, page by page as they are walked over."""
        cursor = None
        while True:
            page = self._call(self._core.list_page(f, cursor))
            yield from page["items"]
            cursor = page["next"]
            if cursor is None:
                return

    def set_tags(self, connection_id: str, tags: Mapping[str, str]) -> dict[str, Any]:
        """Replaces the tags of a connection."""
        return self._call(self._core.set_tags(connection_id, tags))

    def activate(self, connection_id: str) -> dict[str, Any]:
        """Makes a held connection Evergrant's to refresh."""
        return self._call(self._core.activate(connection_id))

    def disconnect(self, connection_id: str) -> dict[str, Any]:
        """Revokes the tokens of a connection at the provider and erases them. Where revoked is
        pending, the provider did not answer yet and is asked again."""
        self._forget(connection_id)
        try:
            return self._call(self._core.disconnect(connection_id))
        finally:
            self._forget(connection_id)  # whoever asked meanwhile

    def _forget(self, connection_id: str) -> None:
        with self._lock:
            self._core.forget(connection_id)

    def _refuse(self, key: Key, t: Token) -> bool:
        with self._lock:
            return self._core.refuse(key, t, self._now())

    def _hush(self, key: Key) -> None:
        with self._lock:
            self._core.hush(key, self._now())

    def _token(self, key: Key) -> Token:
        def once() -> Call:
            return self._join(key)
            yield  # a generator, as the others are

        return self._run(self._core.retrying(once, self._now))

    def _join(self, key: Key) -> Token:
        """The cached token, or what the one request for it brings."""
        with self._lock:
            cell = self._core.cell(key)
            t = cell.fresh(self._now(), key.min_ttl_s)
            if t is not None:
                return t
            flight, mine = cell.flight, cell.flight is None
            if mine:
                flight = cell.flight = _Flight(cell.token if cell.refused else None)
        if mine:
            self._fly(key, cell, flight)
        else:
            flight.done.wait()
        if flight.error is not None:
            raise flight.error
        return flight.token

    def _fly(self, key: Key, cell: Cell, flight: _Flight) -> None:
        try:
            flight.token = self._run(self._core.ask(key, flight.refused))
        except Exception as error:
            flight.error = error
        except BaseException:  # of this thread alone: the others ask again
            flight.error = UnreachableError()
            raise
        finally:
            with self._lock:
                cell.flight = None
                if flight.token is not None:
                    cell.landed(flight.token, flight.refused is not None)
            flight.done.set()

    def _call(self, request: Request) -> Any:
        return self._run(self._core.call(request, self._now))

    def _run(self, call: Call) -> Any:
        """Drives a call: sends what it yields, waits as long as it says."""
        try:
            step = next(call)
            while True:
                if not isinstance(step, Request):
                    self._sleep(step)
                    step = next(call)
                    continue
                try:
                    answer = self._send(step)
                except (OSError, http.client.HTTPException) as cause:
                    error = UnreachableError()
                    error.__cause__ = cause
                    step = call.throw(error)
                else:
                    step = call.send(answer)
        except StopIteration as end:
            return end.value

    def _send(self, request: Request) -> Answer:
        r = urllib.request.Request(self._core.base + request.path, data=request.body, headers=request.headers, method=request.method)
        try:
            response = self._opener.open(r, timeout=REQUEST_TIME)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            return Answer(response.status, response.headers.get("Retry-After"), read_bounded(response.read))
