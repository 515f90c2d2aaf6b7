"""Compressed bodies, both ways: `gzip` (RFC 1952) and `deflate`, which is zlib's format (RFC 1950).

Sources: RFC 9110, sections 8.4.1 (codings) and 12.5.3 (Accept-Encoding).
"""

import zlib
from functools import lru_cache

from werkzeug.http import parse_accept_header

from models.base.errors import InputError, show_value
from service.web.errors import MediaTypeError, TooLargeError
from service.web.reply import Reply

LEAST_BYTES = 1024  # a shorter answer is one packet anyway
LEVEL = 1  # numbers hardly shrink more at a higher one
CODINGS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}  # zlib's word for the wrapper


def decompress(body: bytes, encoding: str, limit: int) -> bytes:
    """Decompress a request's body; never makes more than `limit` + 1 bytes.

    A gzip body may have one member only: a body of a million empty members would cost time for
    nothing.

    Raises:
        MediaTypeError: the coding is not supported.
        TooLargeError: it becomes larger than `limit` bytes.
        InputError: it is broken, ends early, or has bytes after its end.

    Example:
        >>> decompress(zlib.compress(b"12345"), "deflate", 5)
        b'12345'
    """
    if encoding not in CODINGS:
        error = MediaTypeError(
            "Content-Encoding", "gzip, deflate or identity", show_value(encoding)
        )
        error.headers = {"Accept-Encoding": "gzip, deflate"}
        raise error
    stream = zlib.decompressobj(CODINGS[encoding])
    try:
        plain = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise InputError("body", f"{encoding} data", f"a broken one: {error}") from None
    if len(plain) > limit:
        raise TooLargeError(limit, "the decompressed body")
    if not stream.eof:
        raise InputError("body", f"whole {encoding} data", "one that breaks off")
    if stream.unused_data:
        got = f"{len(stream.unused_data)} bytes after its end"
        raise InputError("body", f"one piece of {encoding} data", got)
    return plain


def compress_reply(reply: Reply, accept_encoding: str | None) -> Reply:
    """Compress an answer as the client prefers; short answers and errors stay as they are.

    Some clients that decompress an answer (tritonclient is one) do not decompress an error.
    `Inference-Header-Content-Length` counts the bytes before compression.
    """
    if len(reply.body) < LEAST_BYTES or reply.status != 200 or reply.media.startswith("image/"):
        return reply
    coding = _choose_coding(accept_encoding or "")
    headers = (*reply.headers, ("Vary", "Accept-Encoding"))
    if coding is None:
        return reply._replace(headers=headers)
    return reply._replace(
        body=zlib.compress(reply.body, LEVEL, CODINGS[coding]),
        headers=(*headers, ("Content-Encoding", coding)),
    )


@lru_cache(maxsize=32)
def _choose_coding(accept_encoding: str) -> str | None:
    """Return the coding with the highest weight, gzip before deflate; None: do not compress.

    >>> [_choose_coding(text) for text in ("gzip, deflate", "deflate;q=0.5, gzip;q=0", "br")]
    ['gzip', 'deflate', None]
    """
    accept = parse_accept_header(accept_encoding)
    best = max(CODINGS, key=accept.quality)
    weight = accept.quality(best)
    return best if weight > 0 and weight >= accept.quality("identity") else None
