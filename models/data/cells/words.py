"""Words of a cell that mean something: a missing value, true, false."""

from models.versions.schema import Notation

# What pandas, R, SQL, spreadsheets and people write for a missing number; letters in any case.
MISSING_WORDS = frozenset(
    ("na", "n/a", "n.a.", "#n/a", "#na", "<na>", "nan", "-nan", "nat", "null", "#null!", "none")
) | frozenset(("nil", "-", "--", "---", "\u2013", "\u2014", "?", ".", "1.#qnan", "1.#ind"))
TRUTHS = {"true": "true", "false": "false", "t": "true", "f": "false"}


def means_missing(text: str, notation: Notation, *, texts: bool = False) -> bool:
    """Whether a trimmed cell stands for a missing value.

    An empty cell and the column's own words always do. The usual words do so where a column
    holds numbers, dates, codes or truth values; among `texts` they are texts like others.

    >>> means_missing("N/A", Notation()), means_missing("N/A", Notation(), texts=True)
    (True, False)
    """
    if not text or text in notation.missing:
        return True
    return not texts and text.casefold() in MISSING_WORDS
