"""How figures are written: shares, intervals, sizes. One place, so that all pages agree."""

from typing import TypeGuard, TypeVar

from models.statistics.shares import Proportion

Share = Proportion
AnyShare = TypeVar("AnyShare", bound=Proportion)
DASH = "–"
LONGEST = 40  # of a class name in a sentence


def known(p: AnyShare | None) -> TypeGuard[AnyShare]:
    """Whether `p` is a share with a value (a share of no rows has none)."""
    return p is not None and p.share is not None


def percent(value: float | None) -> str:
    """A share in per cent with one decimal.

    >>> percent(0.9158), percent(None)
    ('91.6%', '–')
    """
    return DASH if value is None else f"{value:.1%}"


def interval(p: Share | None) -> str:
    """A share with its 95 % interval and the rows it rests on.

    >>> interval(Share(0.9, 0.5958, 0.9821, 10)), interval(Share(None, 0.0, 1.0, 0))
    ('90.0% (59.6% to 98.2%, n = 10)', '– (n = 0)')
    """
    if p is None:
        return DASH
    return f"{percent(p.value)} ({bounds(p)}, n = {p.n})" if known(p) else f"{DASH} (n = {p.n})"


def bounds(p: Share) -> str:
    """The ends of the interval."""
    return f"{percent(p.low)} to {percent(p.high)}"


def of_100(value: float) -> str:
    """A share as a natural frequency; whole, but never rounded to all or nothing.

    >>> of_100(0.971), of_100(0.9972), of_100(1.0), of_100(0.9999), of_100(0.005)
    ('97', '99.7', '100', 'more than 99.9', '0.5')
    """
    hundred = 100 * value
    if hundred in (0, 100) or 0.5 < hundred < 99.5:  # 0.5 itself would be rounded to 0
        return f"{hundred:.0f}"
    if hundred >= 99.95:
        return "more than 99.9"
    return f"{hundred:.1f}" if hundred >= 0.05 else "fewer than 0.1"


def number(value: object, digits: int = 3) -> str:
    """A plain number in at most `digits` significant digits; a dash for None, words as they are.

    >>> number(0.1500001), number(2), number(None), number(12345.0)
    ('0.15', '2', '–', '12345')
    """
    if value is None:
        return DASH
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def size(eps: float | None, levels: int | None = None) -> str:
    """The size of an attack; as a fraction of 255 where pixels are bytes.

    >>> size(0.15), size(8 / 255, 255)
    ('0.15', '8/255')
    """
    if eps is not None and levels and 0 < eps <= 1:
        steps = round(eps * levels)
        if steps and abs(eps * levels - steps) < 0.01:
            return f"{steps}/{levels}"
    return number(eps)


def points(difference: float) -> str:
    """A difference of shares in percentage points, with its sign.

    >>> points(0.042), points(-0.0301), points(0.0)
    ('+4.2', '−3.0', '0.0')
    """
    rounded = round(100 * difference, 1)
    return f"{'+' if rounded > 0 else '−' if rounded < 0 else ''}{abs(rounded):.1f}"


def clip(text: str, length: int) -> str:
    """At most `length` characters, with an ellipsis for the rest.

    >>> clip("a very long class name", 10)
    'a very lo…'
    """
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def space_digits(name: object) -> str:
    """The name of a kind as words.

    >>> space_digits("gaussian_noise")
    'gaussian noise'
    """
    return str(name).replace("_", " ")


def sentence(words: object) -> str:
    """Words as a sentence: a capital first, a full stop last.

    >>> sentence("accuracy falls"), sentence("")
    ('Accuracy falls.', '')
    """
    line = str(words or "").strip()
    return line[:1].upper() + line[1:] + ("" if not line or line[-1] in ".!?" else ".")
