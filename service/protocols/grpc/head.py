"""What stands at the top of an inference message, read before objects are made of it.

A megabyte of empty inputs becomes hundreds of megabytes of objects. So the fields at the top are
walked over and counted first, up to a bound, and only the short texts among them are read. Source:
protobuf, `encoding`.
"""

from typing import NamedTuple

from models.base.errors import InputError
from service.decoding.json_amount import MOST_OBJECTS

NAME, VERSION, ID = 1, 2, 3  # fields of ModelInferRequest
TEXT = 2  # the wire type of what has a length before it
FIXED = {1: 8, 5: 4}  # bytes of a value of the wire type
LONGEST_NUMBER = 10  # bytes


class Head(NamedTuple):
    """Who is asked, and the client's name for the request."""

    model: str = ""
    version: str = ""
    id: str = ""


def read_head(sent: bytes) -> Head:
    r"""Read the head of a `ModelInferRequest`.

    Raises:
        InputError: it is no such message, or has more fields than a right one.

    Example:
        >>> read_head(b"\x0a\x06digits\x1a\x01a")
        Head(model='digits', version='', id='a')
    """
    at, found = 0, {NAME: "", VERSION: "", ID: ""}
    for _ in range(MOST_OBJECTS):
        if at == len(sent):
            return Head(*found.values())
        key, at = _read_number(sent, at)
        field, kind = key >> 3, key & 7
        if kind == TEXT:
            size, begin = _read_number(sent, at)
            at = begin + size
            if field in found:
                found[field] = _read_text(sent[begin:at])
        elif kind == 0:
            _, at = _read_number(sent, at)
        elif kind in FIXED:
            at += FIXED[kind]
        else:
            raise _broken()
        if at > len(sent):
            raise _broken()
    most = f"at most {MOST_OBJECTS} inputs, outputs and parameters"
    raise InputError("message", most, "more")


def _read_number(sent: bytes, at: int) -> tuple[int, int]:
    """Return the number at a place and where it ends."""
    number = 0
    for shift, byte in enumerate(sent[at : at + LONGEST_NUMBER]):
        number |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return number, at + shift + 1
    raise _broken()


def _read_text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise _broken() from None


def _broken() -> InputError:
    return InputError("message", "a ModelInferRequest", "other bytes")
