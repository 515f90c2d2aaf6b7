"""JSON bodies of requests: decoded into records, and refused in words that name the field.

The service and the watcher read every body here. What is no JSON at all is explained by
`models.base.json_faults`.
"""

import re
from typing import NoReturn, TypeVar

import msgspec

from models.base.errors import InputError, show_value
from models.base.json_faults import explain_malformed

T = TypeVar("T")
SHOWN_MESSAGE = 200
MARK = b"\xef\xbb\xbf"
_MISFIT = re.compile(r"Expected `(?P<expected>.+)`, got `(?P<got>.+?)`(?: - at `\$\.?(?P<at>.*)`)?")
_MISSING = re.compile(r"Object missing required field `(?P<name>.+?)`(?: - at `\$\.?(?P<at>.*)`)?")
_UNKNOWN = re.compile(
    r"Object contains unknown field `(?P<name>.*?)`(?: - at `\$\.?(?P<at>[^`]*)`)?", re.DOTALL
)
_CHOICE = re.compile(r"Invalid enum value (?P<got>.+?)(?: - at `\$\.?(?P<at>[^`]*)`)?", re.DOTALL)
_TOO_LARGE = re.compile(r"(?:Number|Integer value) out of range - at `\$\.(?P<at>.*)`")


def without_mark(text: bytes) -> bytes:
    r"""Return the text without the byte order mark with which some editors begin a file.

    >>> without_mark(b"\xef\xbb\xbf{}")
    b'{}'
    """
    return text.removeprefix(MARK)


def decode_body(decoder: msgspec.json.Decoder[T], body: bytes, at: str = "") -> T:
    """Decode a body, or the part of one that is in the field `at`; skips a byte order mark.

    Raises:
        InputError: the text is no JSON, or not of the decoder's type; names the field.
    """
    body = without_mark(body)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        _raise_misfit(str(error), at)
    except UnicodeDecodeError:
        raise InputError("body", "JSON in UTF-8", "bytes that are not UTF-8") from None
    except RecursionError:
        raise InputError("body", "JSON", "too many levels of nesting") from None
    except msgspec.DecodeError as error:
        raise explain_malformed(body, str(error)) from None


def _raise_misfit(message: str, at: str) -> NoReturn:
    """Raise a message of msgspec as an InputError with field, expected and got."""
    if match := _MISFIT.fullmatch(message):
        field = _join_path(at, match["at"]) or "body"
        raise InputError(field, match["expected"], match["got"]) from None
    if match := _MISSING.fullmatch(message):
        field = _join_path(at, match["at"], match["name"])
        raise InputError(field, "a value", "nothing: the field is missing") from None
    if match := _UNKNOWN.fullmatch(message):
        field = _join_path(at, match["at"]) or "body"
        raise InputError(field, "only known members", show_value(match["name"])) from None
    if match := _TOO_LARGE.fullmatch(message):
        raise InputError(_join_path(at, match["at"]), "a number", "one that is too large") from None
    if match := _CHOICE.fullmatch(message):
        field = _join_path(at, match["at"]) or "body"
        raise InputError(
            field, "a value that the documentation lists", match["got"][:SHOWN_MESSAGE]
        )
    raise InputError(at or "body", "what the documentation says", message[:SHOWN_MESSAGE]) from None


def _join_path(*parts: str | None) -> str:
    """Return the path of a field within other fields.

    >>> _join_path("inputs", "[3]", "b64"), _join_path("", None, "id")
    ('inputs[3].b64', 'id')
    """
    return ".".join(part for part in parts if part).replace(".[", "[")
