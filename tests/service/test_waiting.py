"""The same requests come out however a stream is cut, and no more is held than may be."""

from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from gunicorn.config import Config
from hypothesis import given
from hypothesis import strategies as st

from service.exchange import base_environ, parsed
from service.waiting import HEAD_BYTES, RefusedError, Stage, Waiting
from tests.service.test_chunked import framed

LIMIT = 2000
PARSE = partial(
    parsed, cfg=Config(), base=base_environ(("127.0.0.1", 80), several=False), peer=("10.0.0.1", 5)
)
Found = tuple[str, str, bytes]


def request(index: int, body: bytes, how: str) -> tuple[bytes, Found]:
    """A request and what should come out of it."""
    head = b"POST /p%d HTTP/1.1\r\nHost: h\r\n" % index
    expected = ("POST", f"/p{index}", body)
    if how == "chunked":
        half = len(body) // 2
        chunks = framed([body[:half], body[half:]], b"X-T: 1\r\n" if index % 2 else b"")
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks, expected
    if how == "none":
        return b"GET /p%d HTTP/1.1\r\nHost: h\r\n\r\n" % index, ("GET", f"/p{index}", b"")
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body, expected


def through(waiting: Waiting, pieces: list[bytes]) -> list[Found]:
    """What comes out when the pieces arrive one after another, and each answer comes at once."""
    found, backlog = [], b""
    for piece in pieces:
        backlog += piece
        while True:
            if waiting.stage is Stage.WHOLE:
                head, body = waiting.take()
                environ = head.environ
                found.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], body.read()))
                waiting.feed_next()
            elif backlog:
                waiting.feed(backlog)
                backlog = b""
            else:
                break
    return found


bodies = st.tuples(st.binary(max_size=300), st.sampled_from(["length", "chunked", "none"]))


@given(st.lists(bodies, max_size=5), st.lists(st.integers(0, 2000), max_size=20))
def test_however_the_stream_is_cut_the_same_requests_come_out(
    bodies: list[tuple[bytes, str]], cuts: list[int]
) -> None:
    made = [request(index, *one) for index, one in enumerate(bodies)]
    stream, expected = b"".join(raw for raw, _ in made), [found for _, found in made]
    ends = [*sorted(cuts), len(stream)]
    pieces = [stream[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    waiting = Waiting(PARSE, LIMIT)
    assert through(waiting, pieces) == expected
    assert (waiting.stage, waiting.held, waiting.more) == (Stage.IDLE, 0, False)


@given(st.lists(st.binary(min_size=1, max_size=3000), max_size=30), st.booleans())
def test_no_more_is_held_than_a_head_a_body_and_one_read(pieces: list[bytes], valid: bool) -> None:
    waiting = Waiting(PARSE, LIMIT)
    if valid:
        waiting.feed(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    with suppress(RefusedError):
        for piece in pieces:
            if waiting.stage is Stage.WHOLE:
                break
            waiting.feed(b"%x\r\n%s\r\n" % (len(piece), piece) if valid else piece)
            assert waiting.held <= HEAD_BYTES + LIMIT + 3000
    assert waiting.held <= HEAD_BYTES + LIMIT + 3000


def refused(*pieces: bytes) -> RefusedError:
    """How the bytes are refused."""
    waiting = Waiting(PARSE, LIMIT)
    try:
        for piece in pieces:
            waiting.feed(piece)
    except RefusedError as error:
        return error
    raise AssertionError("taken")


@pytest.mark.parametrize(
    ("raw", "status", "path"),
    [
        (b"POST /v2/x HTTP/1.1\r\nContent-Length: 2001\r\n\r\n", 413, "/v2/x"),
        (b"POST /x HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 413, "/x"),
        (b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n7d1\r\n", 413, "/x"),
        (b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", 400, "/x"),
        (b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost: a\r\n\r\n", 400, "/x"),
        (b"GET /x HTTP/1.1\r\nA: " + b"a" * HEAD_BYTES, 431, "/x"),
        (b"GET /x HTTP/1.1\r\nA: " + b"a" * 9000 + b"\r\n\r\n", 431, "/x"),
        (b"GET /x HTTP/1.1\r\n" + b"A: a\r\n" * 200 + b"\r\n", 431, "/x"),
        (b"GET /" + b"x" * HEAD_BYTES, 414, ""),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 414, "/xxx"),
        (b"POST /x HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "/x"),
        (b"POST /x HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "/x"),
        (b"POST /x HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 400, "/x"),
        (b"POST /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "/x"),
        (b"POST /x HTTP/1.1\r\nContent-Length: +1\r\n\r\n", 400, "/x"),
        (b"GET /x HTTP/1.1\r\nExpect: coffee\r\n\r\n", 417, "/x"),
        (b"GET /x HTTP/1.1\r\nA : b\r\n\r\n", 400, "/x"),
        (b"GET /x HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 400, "/x"),
        (b"GET /x HTTP/1.1\nHost: h\n\n", 400, ""),
        (b"GET /x HTTP/3.0\r\n\r\n", 400, "/x"),
        (b"\r\n\r\nGET /x HTTP/1.1\r\n\r\n", 400, ""),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400, ""),
    ],
)
def test_what_is_no_request_or_too_large_is_refused(raw: bytes, status: int, path: str) -> None:
    whole, bytewise = refused(raw), refused(*(raw[i : i + 1] for i in range(len(raw))))
    assert whole.path.startswith(path)
    assert (whole.status, bytewise.status) == (status, status)


def test_a_head_seen_before_is_not_read_again_and_means_the_same() -> None:
    seen = []

    def parse(raw: bytes) -> Any:
        seen.append(raw)
        return PARSE(raw)

    waiting = Waiting(parse, LIMIT)
    raw, expected = request(1, b"abc", "length")
    other, other_expected = request(2, b"abc", "length")
    found = through(waiting, [raw, raw, other, other, raw])
    assert found == [expected, expected, other_expected, other_expected, expected]
    assert len(seen) == 3


lines = st.sampled_from(
    [b"Content-Length: 3", b"Content-Length: 12", b"content-length: 3", b"Content-Length: 0",
     b"Content-Length: ", b"Content-Length:3", b"X: Content-Length: 3",
     b"Transfer-Encoding: chunked", b"X-A: 1", b"Content-Length: 3 ", b"Content-Length: 99999",
     b"Connection: close"]
)  # fmt: skip
heads = st.lists(lines, max_size=3).map(
    lambda lines: b"".join([b"POST /x HTTP/1.1\r\n", *(line + b"\r\n" for line in lines), b"\r\n"])
)


def outcome(waiting: Waiting, raw: bytes) -> Any:
    """What a head with a body of `a` comes to."""
    try:
        stage = waiting.feed(raw + b"a" * 20 + b"\r\n")
    except RefusedError as error:
        return error.status, error.detail
    if stage is not Stage.WHOLE:
        return stage
    head, body = waiting.take()
    waiting.clear()
    return head.environ, head.length, head.keep_alive, body.read()


@given(st.lists(heads, min_size=2, max_size=4))
def test_a_connection_that_remembers_takes_a_head_as_one_that_does_not(raws: list[bytes]) -> None:
    waiting = Waiting(PARSE, LIMIT)
    for raw in raws:
        assert outcome(waiting, raw) == outcome(Waiting(PARSE, LIMIT), raw)
        waiting.clear()


def test_another_length_alone_is_not_read_again() -> None:
    seen = []

    def parse(raw: bytes) -> Any:
        seen.append(raw)
        return PARSE(raw)

    made = [request(7, b"a" * count, "length") for count in (5, 6, 5, 1234, 0)]
    found = through(Waiting(parse, LIMIT), [raw for raw, _ in made])
    assert found == [expected for _, expected in made]
    assert len(seen) == 1


def test_the_path_is_known_as_soon_as_it_can_be() -> None:
    waiting = Waiting(PARSE, LIMIT)
    assert waiting.path == ""
    waiting.feed(b"POST /v2/models HT")
    assert waiting.path == "/v2/models"
