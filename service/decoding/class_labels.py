"""A true label as its file writes it, to the class that it means.

Class names are texts, as training read them: `1`, `true`, `7`. The system that sends a label later
has it as its own file does: `1.0` where a tool made whole numbers floats, `True` from Python, ` 7`
from a column of fixed width. A label means the class whose name it is; else the one class that is
the same number, or the same truth value. Where two classes would do, it means neither.
"""

import re
from collections.abc import Sequence
from decimal import Decimal

import msgspec

MOST_DIGITS = 40  # of a number; longer ones are texts
# A leading zero makes it a code (a postal code, say), which is no number.
_NUMBER = re.compile(r"[+-]?(?:0|[1-9]\d*)(?:\.\d*)?(?:[eE][+-]?\d{1,3})?", re.ASCII)
_TRUTHS = ("true", "false")
Meaning = str | Decimal  # a truth value in lower case; True would be equal to 1


class AmbiguousLabelError(ValueError):
    """A label that means two classes; the text names them."""


class ClassLabels:
    """The classes of a model, by what a label may look like.

    Example:
        >>> classes = ClassLabels(("0", "1", "007", "true"))
        >>> [classes.index(label) for label in ("1", "1.0", " 0", "007", "7", "True")]
        [1, 1, 0, 2, None, 3]
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.names = classes
        self._exact = {name: index for index, name in enumerate(classes)}
        self._meanings: dict[Meaning, list[int]] = {}
        for index, name in enumerate(classes):
            if (meaning := meaning_of(name)) is not None:
                self._meanings.setdefault(meaning, []).append(index)

    def index(self, label: str) -> int | None:
        """The place of the class that a label means, or None.

        Raises:
            AmbiguousLabelError: it means several.
        """
        for text in (label, label.strip()):
            if text in self._exact:
                return self._exact[text]
        meaning = meaning_of(label)
        places = self._meanings.get(meaning, []) if meaning is not None else []
        if len(places) > 1:
            raise AmbiguousLabelError(" and ".join(repr(self.names[index]) for index in places[:4]))
        return places[0] if places else None

    def may_mean(self, label: str) -> bool:
        """Whether a label means a class, or several."""
        try:
            return self.index(label) is not None
        except AmbiguousLabelError:
            return True


def meaning_of(label: str) -> Meaning | None:
    """The number or the truth value that a text writes, or None.

    >>> meaning_of("1.0") == meaning_of(" +1 "), meaning_of("TRUE"), meaning_of("01")
    (True, 'true', None)
    """
    text = label.strip()
    if text.lower() in _TRUTHS:
        return text.lower()
    if len(text) > MOST_DIGITS or not _NUMBER.fullmatch(text):
        return None
    return Decimal(text)


def label_text(raw: bytes) -> str | None:
    """The label that a JSON value writes: a text, a number or a truth value; else None.

    >>> label_text(b'" 7"'), label_text(b"1.0"), label_text(b"true"), label_text(b"null")
    (' 7', '1.0', 'true', None)
    """
    first = raw[:1]
    if first == b'"':
        return msgspec.json.decode(raw, type=str)
    return raw.decode() if first in b"-0123456789tf" and first else None
