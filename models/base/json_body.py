"""JSON bodies as clients send them: with a byte order mark, with nulls, nested without end."""

from typing import Any, TypeVar

import msgspec

from models.base.errors import InputError

MARK = b"\xef\xbb\xbf"
T = TypeVar("T")
Kind = Any  # a type of msgspec


def without_mark(text: bytes) -> bytes:
    r"""The text without the byte order mark that some editors and shells begin a file with.

    >>> without_mark(b"\xef\xbb\xbf{}")
    b'{}'
    """
    return text.removeprefix(MARK)


def decode_json(body: bytes, kind: type[T], expected: str) -> T:
    """A body as `kind`.

    Args:
        body: the bytes.
        kind: a type that msgspec knows.
        expected: what the body should be, for the message.

    Raises:
        InputError: no JSON, nested too deep, or not of the kind.
    """
    try:
        return msgspec.json.decode(without_mark(body), type=kind)
    except RecursionError:
        raise InputError("body", expected, "too many levels of nesting") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError("body", expected, str(error)) from error


def decode_members(body: bytes, kind: type[T], expected: str) -> T:
    """A body that is an object, as a record; a member that is null counts as one that is missing.

    Raises:
        InputError: as `decode_json`.
    """
    members = decode_json(body, dict[str, msgspec.Raw], expected)
    present = {name: value for name, value in members.items() if bytes(value) != b"null"}
    return decode_json(msgspec.json.encode(present), kind, expected)
