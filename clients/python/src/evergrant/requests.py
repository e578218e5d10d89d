"""The access token in requests to the provider's API, for the library requests."""

from __future__ import annotations

from typing import Any

import requests
from requests.auth import AuthBase

from ._core import Token, rejected
from ._sync import Client


class RequestsAuth(AuthBase):
    """Sends a connection's access token along: requests.get(url, auth=RequestsAuth(client, id)).

    Where the provider refuses the token, it is reported to Evergrant and the request sent once more
    with the new one, if its body can be sent again: it has none, or bytes, a str or a file that can
    be sought in. Else the refusal is returned, and the next request gets the new token.
    """

    def __init__(self, client: Client, connection_id: str) -> None:
        self._client = client
        self._key = client._core.key(connection_id, (), 0)

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        token = self._client._token(self._key)
        _put(r, token)
        start = _start_of(r.body)

        def judge(response: requests.Response, **kwargs: Any) -> requests.Response:
            # requests calls this for the answers of redirects too, but not for the second try's.
            if response.is_redirect:
                _keep_back(r, token)
            if response.request.url != r.url or not _refuses(token, response) or not self._client._refuse(self._key, token):
                return response
            if not (r.body is None or isinstance(r.body, (bytes, str)) or start is not None):
                return response
            return self._again(response, start, kwargs)

        r.register_hook("response", judge)
        return r

    def _again(self, response: requests.Response, start: int | None, kwargs: dict[str, Any]) -> requests.Response:
        response.content  # read to its end, so that the connection can be used again
        response.close()
        again = response.request.copy()
        token = self._client._token(self._key)
        if start is not None:
            again.body.seek(start)  # type: ignore[union-attr]
        _put(again, token)
        second = response.connection.send(again, **kwargs)  # type: ignore[attr-defined]
        second.history.append(response)
        second.request = again
        if _refuses(token, second):
            self._client._hush(self._key)
        return second


def _put(r: requests.PreparedRequest, token: Token) -> None:
    name, value = token.header()
    r.headers[name] = value


def _keep_back(r: requests.PreparedRequest, token: Token) -> None:
    """requests takes Authorization off a redirect to another host, and no other header: so any
    other is sent along with none."""
    name, _ = token.header()
    if name.lower() != "authorization":
        r.headers.pop(name, None)


def _start_of(body: Any) -> int | None:
    """Where a file stands that can be read a second time."""
    try:
        if body.seekable():
            return int(body.tell())
    except (AttributeError, OSError):
        pass
    return None


def _refuses(token: Token, response: requests.Response) -> bool:
    return rejected(token, response.status_code, response.headers.get, lambda: response.content)
