"""Explains what is wrong with a text that is no JSON: NaN in a field, another encoding.

The decoder says at which byte it stopped. The error names the place by its path, like all other
errors: `instances[3].hue`, not "byte 71,204". The search is bounded: if too many parts come before
the fault, the error names the byte.
"""

import re

from models.base.errors import InputError, show_value

MOST_TOKENS = 50_000  # before the fault; some milliseconds
SHOWN_PATH = 200
_STOPPED = re.compile(r"(?P<reason>.*) \(byte (?P<at>\d+)\)")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_WORD = re.compile(rb"[+-]?(?:nan|inf(?:inity)?|none|true|false|undefined)\b", re.IGNORECASE)
# A text; a whole list without lists in it; plain values with their commas; one without; a bracket.
_TOKEN = re.compile(
    rb'"[^"\\]*(?:\\.[^"\\]*)*"|\[[^\[\]{}"]*\]|[^\[\]{}":]*,|[^\[\]{}":,]+|[\[\]{}:]', re.DOTALL
)
_NOT_FINITE = "nan", "inf"
_SPELLINGS = {b"none": "null", b"undefined": "null", b"true": "true", b"false": "false"}


def explain_malformed(body: bytes, reason: str) -> InputError:
    """Make the error for a text that is no JSON.

    Args:
        body: the text.
        reason: what msgspec says: `JSON is malformed: invalid character (byte 17)`.
    """
    if not body:
        return InputError("body", "JSON", "an empty body")
    if body.startswith(_UTF16):
        return InputError("body", "JSON in UTF-8", "a text that begins like UTF-16")
    reason = reason.removeprefix("JSON is malformed: ")
    stopped = _STOPPED.fullmatch(reason)
    at = int(stopped["at"]) if stopped else len(body)
    word = _word_at(body, at)
    if word is None:
        return InputError("body", "JSON", f"{show_value(_head(body))}: {reason}")
    start, text = word
    field, token = path_to(body, start) or f"body (byte {start})", text.decode()
    if token.lstrip("+-").lower().startswith(_NOT_FINITE):
        hint = ", which JSON does not have (a missing value is null)"
        return InputError(field, "a finite number", token + hint)
    return InputError(field, f"JSON, which writes {_SPELLINGS[text.lower()]}", token)


def path_to(body: bytes, at: int) -> str | None:
    """Return the path of the value that begins at a byte; the text is JSON up to there.

    Returns:
        The path; `body` for the outermost value; None where too many parts come before it, or
        where they are no JSON either.

    Example:
        >>> path_to(b'{"instances": [[1, 2], [3, NaN]]}', 27)
        'instances[1][1]'
    """
    places: list[str | int] = []  # of the open containers: the key, or the index
    key = b""
    for count, match in enumerate(_TOKEN.finditer(body, 0, at)):
        token = match[0]
        stray = not places and (token in (b"]", b"}", b":") or token.endswith(b","))
        if count == MOST_TOKENS or stray:
            return None
        if token == b"[":
            places.append(0)
        elif token == b"{":
            places.append("")
        elif token in (b"]", b"}"):
            places.pop()
        elif token == b":":
            places[-1] = show_value(key.decode("utf-8", "replace"))[1:-1]
        elif token.startswith(b'"'):
            key = token[1:-1]
        elif token.endswith(b",") and isinstance(place := places[-1], int):
            places[-1] = place + token.count(b",")
    return _render_path(places)


def _render_path(places: list[str | int]) -> str:
    path = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in places)
    path = path.removeprefix(".") or "body"
    return path if len(path) <= SHOWN_PATH else path[:SHOWN_PATH] + "..."


def _word_at(body: bytes, at: int) -> tuple[int, bytes] | None:
    """Find the word that is no JSON, within which the decoder stopped; returns start and word."""
    for start in range(max(0, at - len("+infinity")), min(at + 1, len(body))):
        match = _WORD.match(body, start)
        outside = start == 0 or body[start - 1 : start] in b"[:, \t\r\n"
        if match and outside and match.end() >= at - 1 and match[0] not in (b"true", b"false"):
            return start, match[0]
    return None


def _head(body: bytes) -> str:
    return body[:40].decode("utf-8", errors="replace")
