"""Why a person did something: one line of text that logs, tables and pages can show."""

import unicodedata

from models.base.errors import InputError, show_value

NO_REASON = "no reason given"
MOST_CHARACTERS = 500
EXPECTED = f"a text of one line, of at most {MOST_CHARACTERS} characters"
_CONTROLS = ("Cc", "Cs", "Zl", "Zp")  # control characters, lone surrogates, ends of a line
_TURNS = "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # of direction


def check_reason(text: object, field: str = "reason") -> str:
    r"""The reason, without blanks around it; `no reason given` where there is none.

    Raises:
        InputError: it is no text, too long, or holds what is not shown as it stands.

    >>> check_reason("  looks right "), check_reason("")
    ('looks right', 'no reason given')
    >>> check_reason("one\ntwo")
    Traceback (most recent call last):
        ...
    models.base.errors.InputError: reason: expected a text of one line, ..., got '\n' in it
    """
    if not isinstance(text, str):
        raise InputError(field, EXPECTED, show_value(text))
    if len(text) > MOST_CHARACTERS:
        raise InputError(field, EXPECTED, f"{len(text)} characters")
    for character in text:
        if unicodedata.category(character) in _CONTROLS or character in _TURNS:
            raise InputError(field, EXPECTED, f"{character!a} in it")
    return text.strip() or NO_REASON
