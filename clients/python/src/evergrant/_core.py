"""What both clients have in common: requests, the reading of answers, the cache, when to repeat.

Nothing here waits or sends. A call is a generator that yields a Request to be sent and a number of
seconds to be waited, and returns its result; the clients drive it.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from ._errors import APIError, ProviderUnavailableError, RefreshInProgressError, UnreachableError, error_of
from ._secret import Secret, revealed

REQUEST_TIME = 100.0  # s, the longest that one request takes: more than the slowest answer
_MAX_ANSWER = 8 << 20  # bytes
_MAX_CELLS = 10_000  # tokens in the cache
_QUIET = 60.0  # s in which a refusal that a refresh did not heal is not reported again
_FIRST_WAIT, _LONGEST_WAIT = 0.25, 4.0  # s, doubled each time, where an answer names none


@dataclass(frozen=True)
class Token:
    """An access token.

    token_id changes when the access token does and never else; it says nothing about the token.
    use_until is when to ask Evergrant again; it is None where expires_at is, where the provider
    tells no life: its 401 is the signal then. fields are what the provider told besides, such as a
    realm, the secret ones too.
    """

    access_token: Secret
    token_type: str
    token_id: str
    generation: int
    expires_at: datetime | None
    use_until: datetime | None
    scope: list[str]
    fields: dict[str, Secret] = field(repr=False)
    api: dict[str, Any] | None = field(repr=False, default=None)

    @property
    def base_urls(self) -> list[str]:
        """Where the provider's API is, for this connection; empty: not known. A {name} that is left
        is for the caller to fill in."""
        return list(self.api["base_urls"]) if self.api else []

    def header(self) -> tuple[str, str]:
        """The header that carries the token to the provider's API, name and value."""
        if self.api:
            name, scheme = self.api["header_name"], self.api["header_scheme"]
        else:
            # Some servers take only this spelling (RFC 6750 section 2.1).
            bearer = self.token_type.lower() in ("", "bearer")
            name, scheme = "Authorization", "Bearer" if bearer else self.token_type
        return name, f"{scheme} {self.access_token.reveal()}".lstrip()


@dataclass(frozen=True)
class Filter:
    """Which connections to list: owner or integration is required, all tags must match, and
    page_size is how many come with one request, 1 to 100."""

    owner: str = ""
    integration: str = ""
    status: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    page_size: int = 0


class Request(NamedTuple):
    """One request of the API. It does not print what it carries."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None
    repeatable: bool

    def __repr__(self) -> str:
        return f"Request({self.method})"  # the id of a session in the path opens its link


class Answer(NamedTuple):
    """What came back."""

    status: int
    retry_after: str | None
    body: bytes

    def __repr__(self) -> str:
        return f"Answer({self.status})"


# A call: yields requests and waits, is sent answers, returns the JSON of the last one.
Call = Generator[Any, Any, Any]


class Key(NamedTuple):
    """What a cached token is kept by."""

    connection_id: str
    need: str
    min_ttl_s: int


class Cell:
    """One cached token. The clients guard it: by a lock, or by being on one event loop."""

    def __init__(self) -> None:
        self.token: Token | None = None
        # The provider refused the token: it is to be reported and not handed out.
        self.refused = False
        # A token that had just been refreshed was refused as well, so that the provider's API
        # has another reason. Until then no refusal is reported: each would be a refresh in vain.
        self.quiet_until = 0.0
        self.flight: Any = None  # the request under way

    def fresh(self, now: float, min_ttl_s: int) -> Token | None:
        """The token, if it may still be handed out."""
        t = self.token
        if t is None or self.refused:
            return None
        lasts = t.expires_at is None or min_ttl_s == 0 or now + min_ttl_s <= t.expires_at.timestamp()
        return t if lasts and (t.use_until is None or now < t.use_until.timestamp()) else None

    def landed(self, t: Token, reported: bool) -> None:
        """Keeps what a request brought. What was refused while a read was under way stays
        refused, if it is what came."""
        self.refused = not reported and self.refused and self.token is not None and self.token.token_id == t.token_id
        self.token = t


class Core:
    """The state and the rules of a client."""

    def __init__(self, base_url: str, api_key: Secret | str, retry_for_s: float, insecure_http: bool) -> None:
        url = urlsplit(base_url)
        if not url.hostname or url.username is not None or url.query or url.fragment:
            raise ValueError("base_url has to be an origin such as https://auth.example.com")
        if url.scheme != "https" and not (url.scheme == "http" and (insecure_http or _is_loopback(url.hostname))):
            raise ValueError("base_url has to be https, or http on this machine: the key goes along with each request")
        if not revealed(api_key):
            raise ValueError("an API key is needed")
        self.base = base_url.rstrip("/")
        self._key = Secret(revealed(api_key))
        self._retry_for_s = retry_for_s
        self._cells: dict[Key, Cell] = {}

    # Requests.

    def request(self, method: str, path: str, body: Any = None, repeatable: bool = True) -> Request:
        headers = {"Authorization": "Bearer " + self._key.reveal(), "User-Agent": "evergrant-client-python"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        return Request(method, path, headers, None if body is None else json.dumps(body).encode(), repeatable)

    def call(self, request: Request, now: Any) -> Call:
        """Sends the request until it does not fail, fails for good, or the time is over."""
        return self.retrying(lambda: self.once(request), now, request.repeatable)

    def retrying(self, once: Any, now: Any, repeatable: bool = True) -> Call:
        end = now() + self._retry_for_s
        tries = 0
        while True:
            try:
                return (yield from once())
            except (APIError, UnreachableError) as error:
                wait = _retry_after(error, tries)
                if not repeatable or wait is None or now() + wait >= end:
                    raise
            tries += 1
            yield wait

    def once(self, request: Request) -> Call:
        answer = yield request
        if not 200 <= answer.status < 300:
            raise error_of(answer.status, answer.retry_after, answer.body)
        try:
            return json.loads(answer.body)
        except ValueError:
            raise error_of(answer.status, None, b"") from None

    # Tokens.

    def key(self, connection_id: str, need: Sequence[str], min_ttl_s: int) -> Key:
        return Key(connection_id, " ".join(sorted(set(need))), int(min_ttl_s))

    def ask(self, key: Key, refused: Token | None) -> Call:
        """Asks for a token, or reports the one that the provider refused."""
        if refused is not None:
            body = {"if_generation": refused.generation, "if_token_id": refused.token_id}
            request = self.request("POST", connection_path(key.connection_id) + "/refresh", body)
        else:
            query = {}
            if key.min_ttl_s > 0:
                query["min_ttl_s"] = str(key.min_ttl_s)
            if key.need:
                query["need"] = key.need
            request = self.request("GET", connection_path(key.connection_id) + "/token" + _query(query))
        return _token_of((yield from self.once(request)))

    def cell(self, key: Key) -> Cell:
        cell = self._cells.get(key)
        if cell is None:
            if len(self._cells) >= _MAX_CELLS:
                self._evict()
            cell = self._cells[key] = Cell()
        return cell

    def _evict(self) -> None:
        """Drops the oldest idle cell."""
        for key, cell in self._cells.items():
            if cell.flight is None:
                del self._cells[key]
                return

    def forget(self, connection_id: str) -> None:
        """Drops what is cached of a connection."""
        for key in [k for k in self._cells if k.connection_id == connection_id]:
            del self._cells[key]

    def refuse(self, key: Key, t: Token, now: float) -> bool:
        """Marks t as refused by the provider, so that the next to ask has it refreshed. Whether
        another token may help: not where the one before was refused likewise."""
        cell = self.cell(key)
        if cell.token is not None and cell.token.token_id == t.token_id:
            if now < cell.quiet_until:
                return False
            cell.refused = True
        return True

    def hush(self, key: Key, now: float) -> None:
        """Notes that a token was refused that had replaced a refused one."""
        self.cell(key).quiet_until = now + _QUIET

    # The other routes, as requests.

    def create_session(self, request: Mapping[str, Any]) -> Request:
        return self.request("POST", "/v1/connect-sessions", dict(request))

    def session(self, session_id: str) -> Request:
        return self.request("GET", session_path(session_id))

    def confirm(self, session_id: str, confirm: Secret | str, owner: str) -> Request:
        return self.request("POST", session_path(session_id) + "/confirm", {"confirm": revealed(confirm), "owner": owner})

    def import_tokens(self, request: Mapping[str, Any]) -> Request:
        body = {name: revealed(value) if isinstance(value, Secret) else value for name, value in request.items()}
        return self.request("POST", "/v1/connections", body, repeatable=bool(body.get("external_id")))

    def connection(self, connection_id: str) -> Request:
        return self.request("GET", connection_path(connection_id))

    def list_page(self, f: Filter, cursor: str | None) -> Request:
        query = {name: value for name, value in (("owner", f.owner), ("integration", f.integration), ("status", f.status)) if value}
        query.update({"tag." + name: value for name, value in f.tags.items()})
        if f.page_size:
            query["limit"] = str(f.page_size)
        if cursor is not None:
            query["cursor"] = cursor
        return self.request("GET", "/v1/connections" + _query(query))

    def set_tags(self, connection_id: str, tags: Mapping[str, str]) -> Request:
        return self.request("PATCH", connection_path(connection_id), {"tags": dict(tags)})

    def activate(self, connection_id: str) -> Request:
        return self.request("POST", connection_path(connection_id) + "/activate")

    def disconnect(self, connection_id: str) -> Request:
        return self.request("DELETE", connection_path(connection_id))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# An id of a caller's caller must not become another path.


def session_path(session_id: str) -> str:
    return "/v1/connect-sessions/" + quote(session_id, safe="")


def connection_path(connection_id: str) -> str:
    return "/v1/connections/" + quote(connection_id, safe="")


def _query(query: dict[str, str]) -> str:
    return "?" + urlencode(query) if query else ""


def _retry_after(error: Exception, tries: int) -> float | None:
    """When the call may succeed if it is repeated, in seconds; None: not by itself."""
    wait = min(_FIRST_WAIT * 2 ** min(tries, 10), _LONGEST_WAIT)
    if isinstance(error, UnreachableError):
        return wait
    if not isinstance(error, APIError):
        return None
    # 502 to 504 without a problem come from a proxy or gateway before Evergrant.
    gateway = error.code == "" and 502 <= error.status <= 504
    if gateway or isinstance(error, (RefreshInProgressError, ProviderUnavailableError)):
        return float(error.retry_after_s) or wait
    return None


def _token_of(t: Mapping[str, Any]) -> Token:
    return Token(
        access_token=Secret(t["access_token"]),
        token_type=t["token_type"],
        token_id=t["token_id"],
        generation=t["generation"],
        expires_at=_time(t["expires_at"]),
        use_until=_time(t["use_until"]),
        scope=t["scope"].split(),
        fields={name: Secret(value) for name, value in t["fields"].items()},
        api=t.get("api"),
    )


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)


def rejected(t: Token, status: int, header: Any, body: Any) -> bool:
    """Whether an answer of the provider's API refuses the token: by 401, or by one of the rules
    that came with it. header gives a header by its name, body the bytes, if they are needed."""
    if t.api is None:
        return status == 401
    return any(_fits(rule, status, header, body) for rule in t.api["rejected_when"])


def _fits(rule: Mapping[str, Any], status: int, header: Any, body: Any) -> bool:
    if rule["status"] != status:
        return False
    for name, pattern in rule.get("header_match", {}).items():
        try:
            if not re.search(pattern, header(name) or ""):
                return False
        except re.error:
            return False  # RE2 has a few spellings that Python does not
    if not rule.get("json_field"):
        return True
    value = _json_field(body(), rule["json_field"])
    return value is not None and rule.get("equals", "") in ("", value)


def _json_field(body: bytes, path: str) -> str | None:
    """The text at a dotted path such as a[0].b; None if nothing is there."""
    try:
        value = json.loads(body)
    except ValueError:
        return None
    for step in path.replace("[", ".[").split("."):
        if isinstance(value, list) and re.fullmatch(r"\[\d+\]", step):
            n = int(step[1:-1])
            value = value[n] if n < len(value) else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
        if value is None:
            return None
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def read_bounded(read: Any) -> bytes:
    """A whole answer, up to a bound that no answer of Evergrant's comes near."""
    return read(_MAX_ANSWER)
