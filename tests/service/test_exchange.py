"""The environ is gunicorn's, and an answer is framed so that no client can misread it."""

import http.client
from io import BytesIO
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http import wsgi
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader
from hypothesis import given
from hypothesis import strategies as st

from service.exchange import base_environ, parsed, refusal, respond
from service.waiting import Head, RefusedError

CFG = Config()
SERVER, PEER = ("127.0.0.1", 8080), ("127.0.0.1", 5)
BASE = base_environ(SERVER, several=False)
NOT_OURS = ("wsgi.input", "wsgi.errors", "wsgi.file_wrapper", "wsgi.early_hints", "gunicorn.socket",
            "SERVER_SOFTWARE", "wsgi.multithread")  # fmt: skip


class Sink:
    """Stands for the socket that gunicorn's `create` wants."""

    def send(self, data: bytes) -> int:
        return len(data)


def gunicorns(raw: bytes) -> tuple[dict[str, Any], bool]:
    """The environ that stock gunicorn makes of a head, and whether it keeps the connection."""
    request = Request(CFG, IterUnreader([raw]), PEER)
    _, environ = wsgi.create(request, Sink(), PEER, SERVER, CFG)
    return environ, not request.should_close()


words = st.text("abcXYZ019-._~%/+ ,;=é", max_size=12)
names = st.sampled_from(
    ["Host", "Content-Type", "Content-Length", "X-Forwarded-For", "X-Forwarded-Proto", "Connection",
     "Accept", "X-A", "X-B", "Expect", "Script-Name", "Transfer-Encoding"]
)  # fmt: skip
values = st.one_of(
    words, st.sampled_from(["close", "keep-alive", "12", "chunked", "100-continue", "https"])
)


@given(
    st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "PUT"]),
    st.sampled_from(["/", "/a/b?c=d", "/v2/models/a%20b%2Fc", "*", "http://h/x?y#z", "//x", "/?"]),
    st.sampled_from(["HTTP/1.1", "HTTP/1.0"]),
    st.lists(st.tuples(names, values), max_size=8),
)
def test_the_environ_is_the_one_that_gunicorn_makes(
    method: str, target: str, version: str, headers: list[tuple[str, str]]
) -> None:
    lines = [f"{method} {target} {version}", *(f"{name}: {value}" for name, value in headers)]
    raw = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    try:
        head = parsed(raw, CFG, BASE, PEER)
    except RefusedError:
        with pytest.raises(Exception):  # noqa: B017, PT011 - whichever it is
            gunicorns(raw)
        return
    environ, keeps = gunicorns(raw)
    kept = {name: value for name, value in environ.items() if name not in NOT_OURS}
    assert {k: v for k, v in head.environ.items() if k not in NOT_OURS} == kept
    assert head.keep_alive == keeps


def head(method: str = "GET", version: str = "HTTP/1.1", extra: str = "") -> Head:
    """A head without a body."""
    return parsed(f"{method} / {version}\r\n{extra}\r\n".encode(), CFG, BASE, PEER)


class Socket:
    """Bytes for `http.client` to read."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def makefile(self, mode: str) -> BytesIO:
        return BytesIO(self.raw)


def answered(
    of: Head, status: str, headers: list[tuple[str, str]], *parts: bytes, keep: bool = True
) -> tuple[http.client.HTTPResponse, bytes, bool]:
    """What a client reads of an application's answer, and whether the connection is kept."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response(status, headers)
        return list(parts)

    raw, kept = respond(app, of, BytesIO(), lambda: keep)
    response = http.client.HTTPResponse(Socket(raw), method=of.environ["REQUEST_METHOD"])  # type: ignore[arg-type]
    response.begin()
    assert response.getheader("Connection") == ("keep-alive" if kept else "close")
    body = response.read()
    assert raw.endswith(b"\r\n\r\n" + body)
    return response, body, kept


def test_an_answer_carries_its_length_and_the_parts_in_order() -> None:
    response, body, kept = answered(head(), "200 OK", [("X-A", "é")], b"ab", b"", b"c")
    assert (response.status, body, kept) == (200, b"abc", True)
    assert (response.getheader("Content-Length"), response.getheader("X-A")) == ("3", "é")


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [("1.1", "", True), ("1.1", "close", False), ("1.0", "", False), ("1.0", "keep-alive", True)],
)
def test_the_connection_is_kept_as_http_says(version: str, connection: str, kept: bool) -> None:
    extra = f"Connection: {connection}\r\n" if connection else ""
    asked = head("GET", f"HTTP/{version}", extra)
    assert answered(asked, "200 OK", [], b"x")[2] is kept
    assert answered(asked, "200 OK", [], b"x", keep=False)[2] is False


def test_head_and_204_have_no_body_and_the_length_that_they_may_have() -> None:
    length = [("Content-Length", "5")]
    response, body, _ = answered(head("HEAD"), "200 OK", length, b"")
    assert (body, response.getheader("Content-Length")) == (b"", "5")
    response, body, _ = answered(head(), "204 No Content", length, b"")
    assert (body, response.getheader("Content-Length")) == (b"", None)


def test_a_header_cannot_break_the_framing() -> None:
    for name, value in (("X-A", "a\r\nSet-Cookie: b"), ("X-A", "a\nb"), ("X\r-A", "b")):
        with pytest.raises(ValueError, match="line break"):
            answered(head(), "200 OK", [(name, value)], b"")
    response, _, _ = answered(head(), "200 OK", [("Transfer-Encoding", "chunked")], b"x")
    assert response.getheader("Transfer-Encoding") is None


def test_the_answer_of_an_application_is_closed_also_when_it_fails() -> None:
    closed = []

    class Failing:
        def __iter__(self) -> Any:
            raise RuntimeError("inside")

        def close(self) -> None:
            closed.append(True)

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        return Failing()

    with pytest.raises(RuntimeError):
        respond(app, head(), BytesIO(), lambda: True)
    assert closed == [True]


def test_a_refusal_speaks_the_dialect_of_its_path() -> None:
    assert b'{"error":"too slow"}' in refusal("/v2/models/a/infer", 408, "too slow")
    assert b'{"error":"too slow"}' in refusal("/v1/models/a:predict", 408, "too slow")
    for path in ("/predict", "", "/v25"):
        raw = refusal(path, 503, "full")
        assert raw.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"application/problem+json" in raw
        assert b"Retry-After: 1\r\n" in raw
        assert b"Connection: close\r\n" in raw
