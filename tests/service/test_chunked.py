"""What our reader of chunked bodies takes, gunicorn's takes too, with the same result."""

from types import SimpleNamespace

import pytest
from gunicorn.http.body import Body, ChunkedReader
from gunicorn.http.errors import ParseException
from gunicorn.http.unreader import IterUnreader
from hypothesis import example, given
from hypothesis import strategies as st

from service.chunked import (
    LINE_BYTES,
    SPARE_BYTES,
    TRAILER_BYTES,
    Chunked,
    ChunkedError,
    LongBodyError,
)

LIMIT = 10_000


def framed(chunks: list[bytes], trailers: bytes = b"") -> bytes:
    """Chunks with their framing."""
    parts = [b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks if chunk]
    return b"".join(parts) + b"0\r\n" + trailers + b"\r\n"


def ours(stream: bytes, cuts: list[int]) -> tuple[bytes, bytes] | None:
    """Body and what follows it, fed in pieces; None: not whole, or refused."""
    chunked, at, rest = Chunked(LIMIT), 0, None
    for cut in [*sorted(cuts), len(stream)]:
        piece, at = stream[at:cut], cut
        if rest is not None:
            rest += piece
            continue
        try:
            rest = chunked.feed(piece)
        except (ChunkedError, LongBodyError):
            return None
    return None if rest is None else (chunked.body.getvalue(), rest)


def gunicorns(stream: bytes) -> tuple[bytes, bytes] | None:
    """The same by gunicorn's reader."""
    unreader = IterUnreader([stream])
    request = SimpleNamespace(
        limit_request_field_size=8190,
        max_buffer_headers=10**6,
        parse_headers=lambda data, from_trailer: [],
    )
    try:
        body = Body(ChunkedReader(request, unreader)).read()
    except ParseException:
        return None
    return body, unreader.take_buffered()


cuts = st.lists(st.integers(0, 400), max_size=12)


@given(st.lists(st.binary(max_size=40), max_size=8), st.binary(max_size=20), cuts)
def test_however_it_is_cut_the_same_body_comes_out(
    chunks: list[bytes], behind: bytes, cuts: list[int]
) -> None:
    for trailers in (b"", b"X-Sum: 1\r\n"):
        stream = framed(chunks, trailers) + behind
        assert ours(stream, cuts) == (b"".join(chunks), behind) == gunicorns(stream)


pieces = st.sampled_from(
    [b"0", b"1", b"a", b"F", b"\r\n", b"\r", b"\n", b";", b"=", b" ", b"\t", b'"', b"x", b"-",
     b"0x1", b"00", b"5\r\nhello\r\n", b"0\r\n\r\n", b"A: b\r\n", b"\x00", b"\xff", b"\\"]
)  # fmt: skip


@given(st.lists(pieces, max_size=24).map(b"".join), cuts)
@example(b"1;\r\na\r\n0\r\n\r\n", [])
@example(b'1;a="\r\na\r\n0\r\n\r\n', [3])
@example(b"5\r\nhello0\r\n\r\n", [])
@example(b"0\r\nA: b\r\n\r\nGET", [4, 5])
@example(b"1\nA\r\n0\r\n\r\n", [])
def test_it_is_never_more_lenient_than_gunicorn(stream: bytes, cuts: list[int]) -> None:
    found = ours(stream, cuts)
    assert found is None or found == gunicorns(stream)


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (b"%x\r\n" % (LIMIT + 1), LongBodyError),
        (b"ffffffffffffffff\r\n", LongBodyError),
        (b"1" * LINE_BYTES, ChunkedError),
        (b"-1\r\n", ChunkedError),
        (b"\r\n", ChunkedError),
        (b"1\n", ChunkedError),
        (b"1\r\nab", ChunkedError),
        (b"0\r\n" + b"x" * TRAILER_BYTES, ChunkedError),
    ],
)
def test_what_cannot_become_a_body_is_refused_at_once(
    stream: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error):
        Chunked(LIMIT).feed(stream)


def test_the_limit_holds_before_the_bytes_come_and_over_several_chunks() -> None:
    chunked = Chunked(10)
    assert chunked.feed(b"6\r\nabcdef\r\n") is None
    with pytest.raises(LongBodyError):
        chunked.feed(b"5\r\n")
    assert chunked.body.getvalue() == b"abcdef"


def test_tiny_chunks_are_taken_from_a_client_that_writes_so_but_not_without_end() -> None:
    body = b"1\r\nx\r\n" * (SPARE_BYTES // 8)
    assert Chunked(10**6).feed(body + b"0\r\n\r\n") == b""
    with pytest.raises(ChunkedError, match="too small"):
        Chunked(10**6).feed(body * 4)
