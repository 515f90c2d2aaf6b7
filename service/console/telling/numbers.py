"""Numbers, shares and times as the page writes them."""

LEAST = 50  # requests or labels; below, a word would rest on too little


def count(number: float) -> str:
    """A whole number with commas.

    >>> count(4897.0)
    '4,897'
    """
    return f"{number:,.0f}"


def of_hundred(share: float) -> str:
    """A share as so many of 100; with a decimal where whole numbers would say all or nothing.

    >>> of_hundred(0.938), of_hundred(0.9966), of_hundred(1.0)
    ('94 of 100', '99.7 of 100', '100 of 100')
    """
    shown = f"{100 * share:.0f}" if 0.01 <= share < 0.99 else f"{100 * share:.1f}"
    return f"{shown.removesuffix('.0')} of 100"


def percent(share: float) -> str:
    """A share in per cent.

    >>> percent(0.944), percent(1.0), percent(0.0)
    ('94.4%', '100%', '0%')
    """
    return f"{100 * share:.1f}".removesuffix(".0") + "%"


def milliseconds(seconds: float) -> str:
    """A time of an answer.

    >>> milliseconds(0.00194), milliseconds(0.25), milliseconds(2.0)
    ('1.9 ms', '250 ms', '2.0 s')
    """
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{1000 * seconds:.1f} ms" if seconds < 0.01 else f"{1000 * seconds:.0f} ms"


def lasting(seconds: float) -> str:
    """A length of time in the unit that fits.

    >>> lasting(42), lasting(240), lasting(7500), lasting(200000)
    ('42 s', '4 minutes', '2 hours', '2 days')
    """
    seconds = max(0.0, seconds)
    for size, name in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            whole = int(seconds // size)
            return f"{whole} {name}{'s' * (whole != 1)}"
    return f"{seconds:.0f} s"


def ago(seconds: float) -> str:
    """How long ago; steps that are coarse, so that a sentence does not change at every look.

    >>> ago(20), ago(240)
    ('just now', '4 minutes ago')
    """
    return "just now" if seconds < 60 else f"{lasting(seconds)} ago"


def power(log10: float) -> str:
    """Evidence as a power of ten.

    >>> power(19.5), power(-0.2)
    ('10^19.5', '10^-0.2')
    """
    return f"10^{log10:.2f}".rstrip("0").rstrip(".") if log10 < 10 else f"10^{log10:.1f}"


def as_sentence(text: str) -> str:
    """A text as a sentence: with a capital, and a full stop; a name at its start stays as it is.

    >>> as_sentence("labels came"), as_sentence("pixel_distance: higher"), as_sentence("")
    ('Labels came.', 'pixel_distance: higher.', '')
    """
    text = text.strip()
    if not text:
        return ""
    end = "" if text[-1] in ".!?" else "."
    first = text.split()[0]
    is_name = first.endswith(":") or "_" in first
    return f"{text if is_name else text[0].upper() + text[1:]}{end}"
