"""No stream of bytes is answered out of order, twice, or as what it is not."""

import json
import re
import socket
import threading
from contextlib import ExitStack
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.server.protocol import check_head
from service.server.shared import HEAD_BYTES
from tests.service.server.serving import BODY, GET, Serve, Serving, post
from tests.waiting import wait_until

KINDS = st.sampled_from(["/quick", "/slow", "/chunked", "/upgrade"])
SIZES = st.sampled_from([0, 1, 300, 16_000]) | st.integers(0, BODY)
REQUESTS = st.lists(st.tuples(KINDS, SIZES), min_size=1, max_size=8)
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"


def request_of(kind: str, size: int) -> bytes:
    """A request whose body holds text that looks like one."""
    body = (SMUGGLED * (size // len(SMUGGLED) + 1))[:size]
    if kind == "/upgrade":
        return post(kind, body, "Connection: Upgrade", "Upgrade: h2c")
    if kind != "/chunked":
        return post(kind, body)
    chunks = [body[at : at + 700] for at in range(0, size, 700)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    head = f"POST {kind} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head.encode() + framed + b"0\r\n\r\n"


@given(requests=REQUESTS, cuts=st.lists(st.integers(0, 2**18), max_size=6), half=st.booleans())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_split_of_any_pipeline_is_answered_once_each_and_in_order(
    patient: Serving, requests: list[tuple[str, int]], cuts: list[int], half: bool
) -> None:
    stream = b"".join(request_of(kind, size) for kind, size in requests)
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    with patient.client() as client:
        for start, end in pairwise(places):
            client.send(stream[start:end], pause=0.001)
        if half:
            client.sock.shutdown(socket.SHUT_WR)
        for kind, size in requests:
            status, _, body = client.answer()
            assert (status, body[: len(kind)], len(body)) == (200, kind.encode(), len(kind) + size)
        if half:
            assert client.closed()


@pytest.mark.parametrize("size", [10, 70_000])
@pytest.mark.parametrize("path", ["/quick", "/slow"])
def test_five_hundred_requests_behind_one_another_all_get_their_answers(
    patient: Serving, size: int, path: str
) -> None:
    count = 500 if size < 1000 else 60
    with patient.client() as client:
        sender = threading.Thread(target=client.send, args=(post(path, b"b" * size) * count,))
        sender.start()
        for _ in range(count):
            assert client.answer()[0] == 200
        sender.join()


@given(
    requests=REQUESTS,
    rest=st.sampled_from(
        [
            b"rubbish\r\n\r\n",
            b"GET /a HTTP/1.1\r\n\r\n",
            b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
            b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nab",
            b"GET /a HTT",
        ]
    ),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_broken_is_refused_in_its_turn(
    patient: Serving, requests: list[tuple[str, int]], rest: bytes
) -> None:
    with patient.client() as client:
        client.send(b"".join(request_of(kind, size) for kind, size in requests) + rest)
        client.sock.shutdown(socket.SHUT_WR)
        for kind, _ in requests:
            status, _, body = client.answer()
            assert (status, body[: len(kind)]) == (200, kind.encode())
        assert client.answer()[0] == 400
        assert client.closed()


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        ("GET / HTTP/1.1", 400),
        ("GET / HTTP/1.0", 200),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a", 400),
        ("GET http://h/ HTTP/1.1\r\nHost: h", 200),
        ("GET http://other/ HTTP/1.1\r\nHost: h", 400),
        ("GET * HTTP/1.1\r\nHost: h", 400),
        ("CONNECT h:80 HTTP/1.1\r\nHost: h", 400),
        ("GET /#a HTTP/1.1\r\nHost: h", 400),
        ("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked", 501),
        ("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity", 501),
        ("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 0", 400),
        ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2", 400),
        ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: +0", 400),
        ("GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c", 400),
        ("GET / HTTP/1.1\nHost: h", 400),
        ("GET / HTTP/1.1\r\nHost : h", 400),
        ("GET / HTTP/1.1\r\nHost: h\r\nA: b\0c", 400),
        ("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c", 200),
    ],
)
def test_what_is_ambiguous_is_refused(patient: Serving, request_head: str, status: int) -> None:
    with patient.client() as client:
        client.send(f"{request_head}\r\n\r\n".encode())
        client.sock.shutdown(socket.SHUT_WR)
        assert client.answer()[0] == status
        assert client.closed()


@pytest.mark.parametrize(
    ("value", "kept"),
    [("close", False), ("keep-alive, close", False), ("Close , x", False), ("keep-alive, x", True)],
)
def test_connection_is_a_list(patient: Serving, value: str, kept: bool) -> None:
    with patient.client() as client:
        client.send(GET[:-2] + f"Connection: {value}\r\n\r\n".encode())
        status, headers, _ = client.answer()
        assert (status, headers.get("connection") != "close") == (200, kept)
        if kept:
            client.send(GET)
            assert client.answer()[0] == 200
        else:
            assert client.closed()


def test_a_request_behind_one_that_asks_for_another_protocol_is_answered(patient: Serving) -> None:
    upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA"
    stream = post("/a", b"body", *upgrade.split("\r\n")) + post("/b", SMUGGLED)
    with patient.client() as client:
        for _ in range(2):
            client.send(stream)
            assert client.answer()[2] == b"/abody"
            assert client.answer()[2] == b"/b" + SMUGGLED


@pytest.mark.parametrize("size", [HEAD_BYTES // 2, 2 * HEAD_BYTES])
def test_the_bound_on_a_head_is_the_one_that_is_documented(patient: Serving, size: int) -> None:
    for part in ("/" + "a" * size, "/ HTTP/1.1\r\nHost: h\r\nA: " + "a" * size):
        whole = f"GET {part}" + ("" if "HTTP" in part else " HTTP/1.1\r\nHost: h") + "\r\n\r\n"
        for text in (whole, whole[:-5]):
            with patient.client() as client:
                client.send(text.encode())
                if size < HEAD_BYTES:
                    client.send(whole.encode()[len(text) :])
                wanted = 200 if size < HEAD_BYTES else (431 if "A: " in part else 414)
                assert client.answer()[0] == wanted


def test_empty_lines_for_ever_are_no_request(serve: Serve) -> None:
    with serve().client() as client:
        client.send(GET)
        client.answer()
        try:
            for _ in range(200):
                client.send(b"\r\n", pause=0.02)
        except OSError:
            return
        pytest.fail("nobody ended it")


def test_a_client_that_sends_on_sees_why_it_was_refused(serve: Serve) -> None:
    with serve().client() as client:
        client.send(b"GET /v2/a HTTP/1.1\r\nA: " + b"a" * 40_000)
        try:
            for _ in range(50):
                client.send(b"a" * 1000, pause=0.002)
        except OSError:
            pass
        status, headers, body = client.answer()
        assert (status, headers["connection"], list(json.loads(body))) == (431, "close", ["error"])


def test_requests_that_wait_behind_others_count_as_held(serve: Serve) -> None:
    serving = serve(held_bytes=100_000, body_bytes=60_000)
    with ExitStack() as stack:
        clients = [stack.enter_context(serving.client()) for _ in range(10)]
        for client in clients:
            client.send(post("/wait", b"") + post("/x", b"b" * 30_000))
        wait_until(lambda: len(serving) < 5)
        assert serving.app.held.bytes <= 100_000
        serving.app.gate.set()
        wait_until(lambda: serving.app.held.bytes == 0)


def test_the_versions_that_this_room_leans_on_are_the_ones_it_was_checked_with() -> None:
    import gunicorn
    import httptools
    import uvicorn

    found = [re.match(r"\d+\.\d+", m.__version__) for m in (gunicorn, uvicorn, httptools)]
    assert [m and m[0] for m in found] == ["27.0", "0.54", "0.9"], (
        "read service/server/ against the new version, then change this line"
    )


def test_heads_are_checked_by_a_law_of_their_own() -> None:
    assert check_head(b"/", [(b"host", b"h")], "1.1") is None
    assert check_head(b"http://h:1/", [(b"host", b"H:1")], "1.1") is None
