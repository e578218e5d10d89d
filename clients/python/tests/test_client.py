"""What the vectors cannot show: printing, cancelling, addresses, bounds."""

from __future__ import annotations

import asyncio
import io
import json
import pickle
import traceback
import unittest
from unittest import mock

import httpx

from evergrant import APIError, AsyncClient, Client, Secret
from evergrant._core import Answer

TOKEN = {
    "access_token": "at-SECRET", "token_type": "bearer", "token_id": "1", "expires_at": None, "use_until": None,
    "generation": 1, "scope": "", "fields": {"realm": "field-SECRET"}, "api": None,
}  # fmt: skip


# Named, since a traceback shows the lines of this file.
SESSION, CONFIRM = "cs_SECRET", "confirm-SECRET"


def before(send, **options):
    """A client before answers of the test's."""
    c = Client("https://auth.example.com", "evg_SECRET", **options)
    c._send = send
    return c


class ClientTest(unittest.TestCase):
    def test_nothing_prints_a_secret(self):
        sent = []

        def send(request):
            sent.append(request)
            if request.path.endswith("/confirm"):
                return Answer(409, None, b'{"code":"restart_connect"}')
            return Answer(200, None, json.dumps(TOKEN).encode())

        c = before(send)
        t = c.token("conn_1")
        try:
            c.confirm(SESSION, Secret(CONFIRM), "alice")
            self.fail("no error")
        except APIError as e:
            shown = traceback.format_exc() + repr(e) + str(vars(e))
        for v in (t, c, t.fields, t.access_token, c._core._key, vars(c), *sent):
            shown += repr(v) + str(v) + f"{v}"
        self.assertNotIn("SECRET", shown)
        self.assertEqual(t.access_token.reveal(), "at-SECRET")
        self.assertEqual(t.fields["realm"].reveal(), "field-SECRET")
        with self.assertRaises(TypeError):
            pickle.dump(t.access_token, io.BytesIO())
        with self.assertRaises(TypeError):
            json.dumps(t.access_token)

    def test_addresses_and_keys(self):
        for base in ("https://auth.example.com", "https://auth.example.com/stage/", "http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]:8080"):
            Client(base, "evg_1")
        Client("http://evergrant:8080", "evg_1", insecure_http=True)
        for base in ("http://evergrant:8080", "ftp://127.0.0.1", "auth.example.com", "https://user:pass@auth.example.com", "https://auth.example.com?x=1", "http://127.0.0.1.example.com"):
            with self.assertRaises(ValueError, msg=base):
                Client(base, "evg_1")
        with self.assertRaises(ValueError):
            Client("https://auth.example.com", "")

    def test_the_cache_is_bounded(self):
        asked = []

        def send(request):
            asked.append(request.path)
            return Answer(200, None, json.dumps(TOKEN).encode())

        with mock.patch("evergrant._core._MAX_CELLS", 10):
            c = before(send)
            for n in range(11):
                c.token(f"conn_{n}")
            c.token("conn_10")
            c.token("conn_0")
        self.assertEqual(len(asked), 12, asked)
        self.assertEqual(len(c._core._cells), 10)


class AsyncClientTest(unittest.IsolatedAsyncioTestCase):
    async def test_a_request_belongs_to_all_who_wait_for_it(self):
        async with AsyncClient("https://auth.example.com", "evg_1") as c:
            release, begun, ended = asyncio.Event(), asyncio.Event(), []

            async def send(request):
                begun.set()
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    ended.append("cancelled")
                    raise
                ended.append("answered")
                return Answer(200, None, json.dumps(TOKEN).encode())

            c._send = send
            one, two = asyncio.ensure_future(c.token("conn_1")), asyncio.ensure_future(c.token("conn_1"))
            await begun.wait()
            one.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await one
            release.set()
            self.assertEqual((await two).token_id, "1")
            self.assertEqual(ended, ["answered"])

            release.clear()
            begun.clear()
            three = asyncio.ensure_future(c.token("conn_2"))
            await begun.wait()
            three.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await three
            await asyncio.sleep(0)  # the request learns of it in the next round of the loop
            self.assertEqual(ended, ["answered", "cancelled"])

    async def test_kinds_do_not_mix(self):
        from evergrant.httpx import HttpxAuth

        async with httpx.AsyncClient(auth=HttpxAuth(Client("https://auth.example.com", "evg_1"), "conn_1")) as h:
            with self.assertRaises(TypeError):
                await h.get("https://api.example.com/")


if __name__ == "__main__":
    unittest.main()
