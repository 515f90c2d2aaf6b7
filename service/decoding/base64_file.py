"""Files as text: base64 as it is found in the wild, or what exactly is wrong with it.

Mail and `base64` without `-w0` break the lines (RFC 2045), web code uses the alphabet of RFC 4648
section 5 and drops the padding, and a browser's `FileReader` puts `data:image/png;base64,` in front
(RFC 2397). All of these mean one sequence of bytes and are read.
"""

import binascii
import re

from models.base.errors import InputError, show_value

EXPECTED = "base64 (RFC 4648)"
_SPACES = b" \t\r\n"
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_STRANGE = re.compile(rb"[^A-Za-z0-9+/]")
_HEAD = re.compile(r"data:(?P<kind>[^,]{0,200}?)(?P<coded>;\s*base64)?,", re.IGNORECASE)


def read_base64(text: str, field: str) -> bytes:
    """The bytes that a text in base64 stands for.

    Args:
        text: standard or URL-safe alphabet, with or without padding, line breaks and spaces
            anywhere, `data:...;base64,` in front or not.
        field: its name, for the message.

    Raises:
        InputError: a character of neither alphabet, both alphabets in one, padding before the end,
            or a length that no bytes have.

    Example:
        >>> read_base64("data:image/png;base64,aGk_\\nIQ", "b64")
        b'hi?!'
    """
    coded = _without_head(text, field).encode("utf-8", "replace").translate(None, _SPACES)
    bare = coded.rstrip(b"=")
    safe = b"-" in bare or b"_" in bare
    if safe and (b"+" in bare or b"/" in bare):
        raise InputError(field, EXPECTED, "both alphabets in one text: + or / beside - or _")
    standard = bare.translate(_TO_STANDARD) if safe else bare
    if strange := _STRANGE.search(standard):
        raise InputError(field, EXPECTED, _strange(standard, strange.start()))
    if len(standard) % 4 == 1:
        got = f"{len(standard)} characters, a length that no bytes have: is it cut off?"
        raise InputError(field, EXPECTED, got)
    if len(coded) - len(bare) > 2:
        raise InputError(field, EXPECTED, f"{len(coded) - len(bare)} characters of padding")
    return binascii.a2b_base64(standard + b"=" * (-len(standard) % 4))


def _without_head(text: str, field: str) -> str:
    """The text behind the head of a data URL."""
    if text[:5].lower() != "data:":
        return text
    head = _HEAD.match(text)
    if head is None:
        raise InputError(field, f"{EXPECTED}, behind data:<type>;base64,", show_value(text))
    if head["coded"] is None:
        raise InputError(field, EXPECTED, f"a data URL without ;base64: {show_value(head[0])}")
    return text[head.end() :]


def _strange(coded: bytes, at: int) -> str:
    if coded[at : at + 1] == b"=":
        return f"padding before the end, at character {at}"
    character = coded[at:].decode("utf-8", "replace")[:1]
    return f"the character {show_value(character)} at {at} (spaces not counted)"
