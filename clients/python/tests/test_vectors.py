"""Plays clients/vectors.json, which docs/clients.md explains, with each of the clients: each vector
before a stub that answers as it is scripted and, where EVERGRANT_CLIENT_WORLD names the control
address of a running server, those that a real one can play."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time
import unittest
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl

import httpx
import requests

from evergrant import APIError, AsyncClient, Client, Filter, Secret, UnreachableError
from evergrant.httpx import HttpxAuth
from evergrant.requests import RequestsAuth

FILE = json.loads((Path(__file__).parents[2] / "vectors.json").read_text())
assert len(FILE["vectors"]) >= 30


def unify(bound, want, got):
    """Holds got to want: variables are bound at first sight, of an object only the members that want
    has are looked at."""
    if isinstance(want, str) and want.startswith("$"):
        return bound.setdefault(want, got) == got
    if isinstance(want, dict):
        return isinstance(got, dict) and all(unify(bound, w, got.get(name)) for name, w in want.items())
    if isinstance(want, list):
        return isinstance(got, list) and len(got) == len(want) and all(unify(bound, w, g) for w, g in zip(want, got))
    return want == got


def fill(bound, v):
    """Replaces variables by what they stand for."""
    if isinstance(v, str):
        if v in bound:
            return bound[v]
        for name in sorted(bound, key=len, reverse=True):
            if isinstance(bound[name], str) and (v.endswith(name) or name + "/" in v):
                v = v.replace(name, bound[name])
        return v
    if isinstance(v, dict):
        return {name: fill(bound, m) for name, m in v.items()}
    if isinstance(v, list):
        return [fill(bound, m) for m in v]
    return v


def times(r):
    n = r.get("times", 1)
    return n if isinstance(n, list) else [n, n]


class Script:
    """The requests of one step, with what came."""

    def __init__(self, bound):
        self.lock = threading.Lock()
        self.bound, self.requests, self.strange = dict(bound), [], []

    def begin(self, expected):
        self.requests, self.strange = [dict(r, seen=0) for r in expected], []

    def take(self, got):
        with self.lock:
            for r in self.requests:
                if self._matches(r, got):
                    r["seen"] += 1
                    return r.get("answer")
            self.strange.append(f"{got['method']} {got['path']} {got['query']} {got['text']}")
            return {"status": 418, "text": "not in the script"}

    def _matches(self, r, got):
        if r["seen"] == times(r)[1] or r["method"] != got["method"] or fill(self.bound, r["path"]) != got["path"]:
            return False
        attempt = dict(self.bound)
        query = r.get("query", {})
        if len(query) != len(got["query"]) or not unify(attempt, query, got["query"]):
            return False
        bearer = got["headers"].get("Authorization", "").removeprefix("Bearer ")
        if "bearer" in r and not unify(attempt, r["bearer"], bearer):
            return False
        if any(got["headers"].get(name.title()) != value for name, value in r.get("headers", {}).items()):
            return False
        if "body" in r:
            body = json.loads(got["text"] or "null")
            if not isinstance(body, dict) or len(body) != len(r["body"]) or not unify(attempt, r["body"], body):
                return False
        elif r.get("text", "") != got["text"]:
            return False
        self.bound.update(attempt)
        return True

    def end(self):
        for r in self.requests:
            least, most = times(r)
            assert least <= r["seen"] <= most, f"{r['method']} {r['path']} came {r['seen']} times, want {least} to {most}"
        assert not self.strange, f"not expected: {self.strange}"


class Stub:
    """Evergrant and the provider's API as a vector has them, on a clock of its own."""

    mode = "stub"

    def __init__(self, vector):
        self.key = vector.get("key", FILE["key"])
        self.script = script = Script(FILE["stub"])
        self.at = datetime.fromisoformat(FILE["now"].replace("Z", "+00:00")).timestamp()
        self.waits = []
        key = self.key

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def any(self):
                got = receive(self)
                if not got["path"].startswith("/api/") and got["headers"].get("Authorization") != "Bearer " + key:
                    script.strange.append(f"authorization {got['headers'].get('Authorization')}")
                respond(self, script.take(got))

            do_GET = do_POST = do_PATCH = do_DELETE = any

            def log_message(self, *args):
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 512
            daemon_threads = True

        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.base = self.api = f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def clock(self):
        return {"_now": lambda: self.at, "_sleep": self._sleep}

    def async_clock(self):
        async def pause(seconds):
            self._sleep(seconds)

        return {"_now": lambda: self.at, "_sleep": pause}

    def _sleep(self, seconds):
        self.at += seconds
        self.waits.append(seconds)

    def world(self, step):
        pass

    def seen(self):
        pass

    def waited(self, step):
        assert self.waits == step.get("waits_s", []), f"waited {self.waits}, want {step.get('waits_s', [])}"
        self.at += step.get("clock_s", 0)
        self.waits = []


def receive(handler):
    headers = {name.title(): value for name, value in handler.headers.items()}
    if headers.get("Transfer-Encoding") == "chunked":
        text = b""
        while size := int(handler.rfile.readline(), 16):
            text += handler.rfile.read(size)
            handler.rfile.readline()
        handler.rfile.readline()
    else:
        text = handler.rfile.read(int(headers.get("Content-Length", 0)))
    path, _, query = handler.path.partition("?")
    return {"method": handler.command, "path": path, "query": dict(parse_qsl(query)), "headers": headers, "text": text.decode()}


def respond(handler, answer):
    if isinstance(answer, str):
        answer = FILE["answers"][answer]
    if answer.get("drop"):
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True
        return
    headers, body = {}, answer.get("text", "")
    if "body" in answer:
        headers, body = {"Content-Type": "application/json"}, json.dumps(answer["body"])
    handler.send_response(answer["status"])
    for name, value in {**headers, **answer.get("headers", {})}.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body.encode())


class Live:
    """A running server behind a proxy that records."""

    mode = "live"

    def __init__(self, control, vector):
        self.control, self.script = control, Script({})
        begun = self._ask("/begin", {"name": vector["name"]})
        self.base, self.api, self.key = begun["base_url"], begun["api_url"], vector.get("key", begun["key"])

    def _ask(self, path, body):
        with urllib.request.urlopen(urllib.request.Request(self.control + path, json.dumps(body).encode()), timeout=60) as r:
            return json.load(r)

    def close(self):
        pass

    def clock(self):
        return {}

    async_clock = clock

    def world(self, step):
        self.script.bound.update(self._ask("/world", fill(self.script.bound, step)))

    def seen(self):
        for got in self._ask("/requests", {}):
            self.script.take(got)

    def waited(self, step):
        pass


class Threads:
    """The client for threads. fetch sends by requests or by httpx."""

    def __init__(self, place, vector, library):
        self.place, self.library = place, library
        retry = {"retry_for_s": vector["retry_for_s"]} if "retry_for_s" in vector else {}
        self.client = Client(place.base, place.key, **retry, **place.clock())

    def play(self, steps):
        for step, args in walk(steps, self.place):
            with ThreadPoolExecutor(step.get("callers", 1)) as pool:
                for done in [pool.submit(self._once, step, args) for _ in range(step.get("callers", 1))]:
                    done.result()
            finish(step, self.place)

    def _once(self, step, args):
        try:
            got, error = self._call(step["call"], args), None
        except (APIError, UnreachableError) as e:
            got, error = None, e
        judge(step, self.place, got, error)

    def _call(self, name, args):
        c = self.client
        if name == "fetch":
            return self._fetch(args)
        if name == "connections":
            return list(c.connections(Filter(**args["filter"])))
        return plain(named(c, name, args))

    def _fetch(self, args):
        body = args.get("text")
        if args.get("stream"):
            body = iter([body.encode()])
        url = self.place.api + args["path"]
        if self.library == "requests":
            r = requests.request(args["method"], url, data=body, auth=RequestsAuth(self.client, args["connection"]), timeout=60)
            return answer(r.status_code, r.text)
        with httpx.Client(auth=HttpxAuth(self.client, args["connection"]), timeout=60) as h:
            r = h.request(args["method"], url, content=body)
            return answer(r.status_code, r.text)


class Tasks:
    """The client for asyncio. fetch sends by httpx."""

    def __init__(self, place, vector, library):
        self.place, self.vector = place, vector

    def play(self, steps):
        asyncio.run(self._play(steps))

    async def _play(self, steps):
        retry = {"retry_for_s": self.vector["retry_for_s"]} if "retry_for_s" in self.vector else {}
        async with AsyncClient(self.place.base, self.place.key, **retry, **self.place.async_clock()) as self.client:
            for step, args in walk(steps, self.place):
                await asyncio.gather(*[self._once(step, args) for _ in range(step.get("callers", 1))])
                finish(step, self.place)

    async def _once(self, step, args):
        try:
            got, error = await self._call(step["call"], args), None
        except (APIError, UnreachableError) as e:
            got, error = None, e
        judge(step, self.place, got, error)

    async def _call(self, name, args):
        c = self.client
        if name == "fetch":
            return await self._fetch(args)
        if name == "connections":
            return [each async for each in c.connections(Filter(**args["filter"]))]
        return plain(await named(c, name, args))

    async def _fetch(self, args):
        body = args.get("text")
        if args.get("stream"):
            text = body.encode()

            async def once():
                yield text

            body = once()
        async with httpx.AsyncClient(auth=HttpxAuth(self.client, args["connection"]), timeout=60) as h:
            r = await h.request(args["method"], self.place.api + args["path"], content=body)
            return answer(r.status_code, r.text)


def named(c, name, args):
    """Makes the call of that name; for the client for asyncio, what is to be awaited."""
    if name == "token":
        return c.token(args["connection"], need=args.get("need", ()), min_ttl_s=args.get("min_ttl_s", 0))
    if name == "create_session":
        return c.create_session(**args["request"])
    if name == "reconnect":
        return c.reconnect(args["connection"], **args["request"])
    if name == "session":
        return c.session(args["id"])
    if name == "confirm":
        return c.confirm(args["id"], Secret(args["confirm"]), args["owner"])
    if name == "set_tags":
        return c.set_tags(args["connection"], args["tags"])
    if name == "import":
        return c.import_tokens(**{**args["request"], "refresh_token": Secret(args["request"]["refresh_token"])})
    if name in ("connection", "activate", "disconnect"):
        return getattr(c, name)(args["connection"])
    raise AssertionError(f"there is no call {name}")


def plain(result):
    if isinstance(result, dict):
        return result
    token = {"access_token": result.access_token.reveal(), "token_id": result.token_id}
    return {**token, "generation": result.generation, "base_urls": result.base_urls}


def answer(status, text):
    try:
        return {"status": status, "body": json.loads(text)}
    except ValueError:
        return {"status": status, "body": text}


def walk(steps, place):
    """The steps that are calls at this place, with their arguments; what is between is done."""
    for step in steps:
        if step.get("only", place.mode) != place.mode:
            continue
        if "world" in step:
            place.world(step)
        if "call" not in step:
            place.waited(step)
            continue
        place.script.begin([r for r in step["requests"] if r.get("only", place.mode) == place.mode])
        yield step, fill(place.script.bound, step)


def finish(step, place):
    place.seen()
    place.script.end()
    place.waited(step)


def judge(step, place, got, error):
    with place.script.lock:
        if "error" in step:
            assert error is not None, f"no error, but {got}"
            shown = {**vars(error), "type": type(error).__name__}
            assert unify(place.script.bound, step["error"], shown), f"{shown}, want {step['error']}"
        elif error is not None:
            raise error
        else:
            assert unify(place.script.bound, step.get("want"), got), f"{got}, want {step.get('want')}"


FLAVOURS = {"requests": (Threads, "requests"), "httpx": (Threads, "httpx"), "asyncio": (Tasks, "httpx")}


class Vectors(unittest.TestCase):
    pass


def add(mode, flavour, vector, place):
    kind, library = FLAVOURS[flavour]

    def run(self):
        p = place()
        try:
            kind(p, vector, library).play(vector["steps"])
        finally:
            p.close()

    setattr(Vectors, f"test_{mode}_{flavour}: {vector['name']}", run)


CONTROL = os.environ.get("EVERGRANT_CLIENT_WORLD")
for _flavour in FLAVOURS:
    for _vector in FILE["vectors"]:
        add("stub", _flavour, _vector, lambda v=_vector: Stub(v))
        if CONTROL and _vector.get("live"):
            add("live", _flavour, _vector, lambda v=_vector: Live(CONTROL, v))

if __name__ == "__main__":
    unittest.main()
