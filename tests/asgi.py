"""Asks an ASGI application of this process, without a server."""

import asyncio
import threading
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

from werkzeug.test import Client


class Answer(NamedTuple):
    """What an application said."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return loop


def ask(
    app: Any,
    method: str,
    target: str,
    headers: Iterable[tuple[str, str]],
    body: bytes,
    peer: str = "127.0.0.1",
) -> Answer:
    """One request; the target is sent as it is."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode("latin-1"),
        "query_string": query.encode("latin-1"), "root_path": "", "http_version": "1.1",
        "scheme": "http", "client": (peer, 1), "server": ("127.0.0.1", 80), "state": {},
        "headers": [(n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in headers],
    }  # fmt: skip
    said: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        said.append(message)

    asyncio.run_coroutine_threadsafe(app(scope, receive, send), _loop()).result()
    answered = [(n.decode("latin-1").title(), v.decode("latin-1")) for n, v in said[0]["headers"]]
    return Answer(said[0]["status"], answered, b"".join(m.get("body", b"") for m in said[1:]))


def client_of(app: Any) -> Client:
    """werkzeug's client on an ASGI application."""

    def application(environ: Any, start_response: Any) -> list[bytes]:
        headers = [
            (name.removeprefix("HTTP_").replace("_", "-"), value)
            for name, value in environ.items()
            if (name.startswith("HTTP_") or name in ("CONTENT_TYPE", "CONTENT_LENGTH")) and value
        ]
        body = environ["wsgi.input"].read()
        target, peer = environ["RAW_URI"], environ.get("REMOTE_ADDR", "127.0.0.1")
        answer = ask(app, environ["REQUEST_METHOD"], target, headers, body, peer)
        start_response(f"{answer.status} x", answer.headers)
        return [answer.body]

    return Client(application)
