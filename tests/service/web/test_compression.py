"""Compressed bodies both ways: the same bytes, a bound on what a small body may become."""

import gzip
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.base.errors import HoldfastError, InputError
from service.web.compression import CODINGS, LEAST_BYTES, compress_reply, decompress
from service.web.errors import MediaTypeError, TooLargeError
from service.web.reply import Reply

LARGE = b"0123456789" * 1000
UNDO = {"gzip": gzip.decompress, "deflate": zlib.decompress}


def coded(body: bytes, coding: str) -> bytes:
    return gzip.compress(body) if coding == "gzip" else zlib.compress(body)


@given(st.binary(max_size=300), st.sampled_from(list(CODINGS)), st.integers(0, 300))
def test_a_body_comes_out_as_it_went_in_or_is_too_large(
    body: bytes, coding: str, limit: int
) -> None:
    if len(body) <= limit:
        assert decompress(coded(body, coding), coding, limit) == body
    else:
        with pytest.raises(TooLargeError):
            decompress(coded(body, coding), coding, limit)


@pytest.mark.parametrize("coding", CODINGS)
def test_a_bomb_costs_no_more_than_the_limit(coding: str) -> None:
    bomb, limit = coded(bytes(10**8), coding), 10**5
    tracemalloc.start()
    with pytest.raises(TooLargeError):
        decompress(bomb, coding, limit)
    assert tracemalloc.get_traced_memory()[1] < 5 * limit
    tracemalloc.stop()


@given(st.binary(max_size=60), st.sampled_from(list(CODINGS)))
def test_bytes_that_are_no_coding_are_refused(body: bytes, coding: str) -> None:
    with pytest.raises(HoldfastError):
        decompress(b"no" + body, coding, 10**6)


@pytest.mark.parametrize("coding", CODINGS)
def test_what_breaks_off_or_goes_on_is_refused(coding: str) -> None:
    whole = coded(LARGE, coding)
    for length in (0, 1, 9, len(whole) // 2, len(whole) - 1):
        with pytest.raises(InputError):
            decompress(whole[:length], coding, 10**6)
    for rest in (b"\0", whole):
        with pytest.raises(InputError, match="after its end"):
            decompress(whole + rest, coding, 10**6)
    with pytest.raises(InputError):
        decompress(whole[:-1] + bytes([whole[-1] ^ 1]), coding, 10**6)  # a wrong checksum


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "compress", "x", "é"])
def test_another_coding_is_415_and_says_which_are_read(coding: str) -> None:
    with pytest.raises(MediaTypeError) as refused:
        decompress(b"", coding, 10)
    assert refused.value.headers == {"Accept-Encoding": "gzip, deflate"}


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate", "gzip"),
        ("deflate, gzip;q=0.9", "deflate"),
        ("GZIP;Q=0.5,deflate;q=0.1", "gzip"),
        ("gzip ; q=1.000 , br", "gzip"),
        ("gzip;q=0, *", "deflate"),
        ("*", "gzip"),
        ("gzip;q=0.5, identity", None),
        ("gzip;q=0.5, identity;q=0.5", "gzip"),
        ("identity", None),
        ("", None),
        ("br, zstd", None),
        ("gzip;q=0", None),
        ("*;q=0", None),
        ("gzip;q=2", None),
        ("gzip;q=-1", None),
        ("gzip;q=x, deflate;q=-", None),
        ("gzip;level=9", None),
        (",,;;q=1,=", None),
        ("\x00\xff" * 4000, None),
    ],
)
def test_an_answer_has_the_coding_that_the_client_likes_best(
    accepted: str, coding: str | None
) -> None:
    reply = Reply(LARGE, headers=(("Inference-Header-Content-Length", "12"),), id="mine")
    found = compress_reply(reply, accepted)
    headers = dict(found.headers)
    assert headers["Vary"] == "Accept-Encoding"
    assert headers["Inference-Header-Content-Length"] == "12"
    assert headers.get("Content-Encoding") == coding
    assert (found.id, found.status, found.media) == (reply.id, reply.status, reply.media)
    assert (UNDO[coding](found.body) if coding else found.body) == LARGE
    assert coding is None or len(found.body) < len(LARGE)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(bytes(LEAST_BYTES - 1)),
        Reply(LARGE, 400),
        Reply(LARGE, 409),
        Reply(LARGE, media="image/png"),
    ],
)
def test_what_is_short_or_an_error_or_an_image_is_left_alone(reply: Any) -> None:
    assert compress_reply(reply, "gzip") is reply


@given(st.text(max_size=60))
def test_no_wish_of_a_client_is_an_error(accepted: str) -> None:
    assert compress_reply(Reply(LARGE), accepted).status == 200
