"""From the bytes of a head to a WSGI environ, and from what the application says to bytes."""

import re
import sys
import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from io import BytesIO
from typing import Any

from gunicorn.http.body import ChunkedReader
from gunicorn.http.errors import (
    ExpectationFailed,
    LimitRequestHeaders,
    LimitRequestLine,
    NoMoreData,
    ParseException,
)
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader
from gunicorn.util import unquote_to_wsgi_str

from service.errors import problem, shown, told
from service.waiting import Head, RefusedError, guessed_path

SERVER = "holdfast"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_BODILESS = re.compile(r"1..|204|304")
_HOP_BY_HOP = frozenset(("connection", "keep-alive", "transfer-encoding", "upgrade", "trailer"))
_UNPREFIXED = {"CONTENT-TYPE": "CONTENT_TYPE", "CONTENT-LENGTH": "CONTENT_LENGTH"}
_STATUSES: dict[type[Exception], int] = {
    LimitRequestLine: 414,
    LimitRequestHeaders: 431,
    ExpectationFailed: 417,
}

StartResponse = Callable[..., Callable[[bytes], None]]
Application = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


def base_environ(server: tuple[Any, ...], *, several: bool) -> dict[str, Any]:
    """What is the same for all requests at a listener's address."""
    return {
        "wsgi.version": (1, 0),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": several,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "SERVER_SOFTWARE": SERVER,
        "SERVER_NAME": str(server[0]),
        "SERVER_PORT": str(server[1]),
        "SCRIPT_NAME": "",
    }


def parsed(raw: bytes, cfg: Any, base: dict[str, Any], peer: tuple[Any, ...]) -> Head:
    """A head as gunicorn's strict parser understands it.

    Args:
        raw: request line and headers with the empty line at their end.
        cfg: gunicorn's configuration.
        base: from `base_environ`.
        peer: address and port of the client.

    Raises:
        RefusedError: it is no head.
    """
    unreader = IterUnreader([raw])
    try:
        request = Request(cfg, unreader, peer)
    except (ParseException, NoMoreData, StopIteration) as error:
        raise _refused(error, guessed_path(raw)) from None
    if unreader.take_buffered():
        raise RefusedError(400, "head: more than one", guessed_path(raw))
    environ = _environ(request, base, peer)
    reader = request.body.reader
    length = None if isinstance(reader, ChunkedReader) else int(reader.length)

    def trailers(section: bytes) -> None:
        try:
            request.parse_headers(section, from_trailer=True)
        except ParseException as error:
            raise _refused(error, environ["PATH_INFO"]) from None

    keep_alive = not request.should_close()
    return Head(environ, length, keep_alive, request._expected_100_continue, trailers)


def _environ(request: Any, base: dict[str, Any], peer: tuple[Any, ...]) -> dict[str, Any]:
    """The environ as gunicorn makes it (PEP 3333), without the body."""
    environ = base | {
        "REQUEST_METHOD": request.method,
        "PATH_INFO": unquote_to_wsgi_str(request.path),
        "QUERY_STRING": request.query,
        "RAW_URI": request.uri,
        "SERVER_PROTOCOL": f"HTTP/{request.version[0]}.{request.version[1]}",
        "REMOTE_ADDR": str(peer[0]),
        "REMOTE_PORT": str(peer[1]),
        "wsgi.url_scheme": request.scheme,
    }
    for name, value in request.headers:
        key = _UNPREFIXED.get(name) or "HTTP_" + name.replace("-", "_")
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ


def _refused(error: Exception, path: str) -> RefusedError:
    status = next((s for kind, s in _STATUSES.items() if isinstance(error, kind)), 400)
    return RefusedError(status, f"not a request that is read here: {shown(str(error))}", path)


class Outgoing:
    """Collects what the application answers to one request."""

    __slots__ = ("_body", "headers", "status")

    def __init__(self) -> None:
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self._body: list[bytes] = []

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """WSGI's; nothing has been sent yet, so an error may still replace it."""
        self.status, self.headers = status, headers
        return self._body.append

    def run(self, app: Application, environ: dict[str, Any]) -> bytes:
        """The body that the application gives."""
        answer = app(environ, self.start_response)
        try:
            if not self._body and isinstance(answer, tuple) and len(answer) == 1:
                body: bytes = answer[0]
                return body
            self._body.extend(answer)
            return b"".join(self._body)
        finally:
            close = getattr(answer, "close", None)
            if close is not None:
                close()


def respond(
    app: Application, head: Head, body: BytesIO, keep_alive: Callable[[], bool]
) -> tuple[bytes, bool]:
    """Ask the application; the bytes of its answer, and whether the connection is kept.

    Raises:
        Whatever the application raises, and ValueError for a header that would break the framing.
    """
    environ = head.environ.copy()
    environ["wsgi.input"] = body
    outgoing = Outgoing()
    content = outgoing.run(app, environ)
    keep = head.keep_alive and keep_alive()
    version, method = environ["SERVER_PROTOCOL"], environ["REQUEST_METHOD"]
    return _wire(version, method, outgoing.status, outgoing.headers, content, keep), keep


def refusal(path: str, status: int, detail: str) -> bytes:
    """An answer that ends the connection, as a document in the dialect of the path."""
    media, body = told(path, status, detail)
    headers = [("Content-Type", media)]
    if status == 503:
        headers.append(("Retry-After", "1"))
    title = problem(status, "")["title"]
    return _wire("HTTP/1.1", "", f"{status} {title}", headers, body, keep=False)


def _wire(
    version: str,
    method: str,
    status: str,
    headers: list[tuple[str, str]],
    content: bytes,
    keep: bool,
) -> bytes:
    lines = [f"{version} {status}", f"Server: {SERVER}", f"Date: {_date()}"]
    lines.append("Connection: keep-alive" if keep else "Connection: close")
    bodiless = _BODILESS.match(status) is not None
    sized = False
    for name, value in headers:
        kind = name.lower()
        if kind in _HOP_BY_HOP or (kind == "content-length" and bodiless):
            continue
        lines.append(f"{name}: {value}")
        sized = sized or kind == "content-length"
    if not sized and not bodiless and method != "HEAD":
        lines.append(f"Content-Length: {len(content)}")
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1:
        raise ValueError("a header with a line break in it")
    start = text.encode("latin-1") + b"\r\n\r\n"
    return start if bodiless or method == "HEAD" else start + content


_date_cache = (0, "")


def _date() -> str:
    """The time as HTTP says it, made once a second."""
    global _date_cache
    now = int(time.time())
    if _date_cache[0] != now:
        _date_cache = (now, formatdate(now, usegmt=True))
    return _date_cache[1]
