"""The different cells of a column, and the law by which they are read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from models.versions.schema import PLAIN, Notation

NAMED = 5  # odd texts that a message names

Kind = Literal["numeric", "categorical"]


@dataclass(frozen=True)
class Texts:
    """The different cells of a column, trimmed and none empty, and what a message says of them.

    `rows` are how many rows each stands in, `where` names the first row of one.
    """

    column: str
    texts: Sequence[str]
    rows: Sequence[int]
    where: Callable[[int], str]

    def name(self, places: Sequence[int]) -> str:
        """Some of the texts with their first row, for a message."""
        named = [f"{self.texts[place]!r} ({self.where(place)})" for place in places[:NAMED]]
        more = len(places) - len(named)
        return ", ".join(named) + f" and {more} more" * (more > 0)

    def pick(self, places: Sequence[int]) -> "Texts":
        """Only those at some places."""
        texts, rows = [self.texts[p] for p in places], [self.rows[p] for p in places]
        return Texts(self.column, texts, rows, lambda place: self.where(places[place]))


@dataclass(frozen=True)
class Law:
    """How the cells of a column are read: numbers or categories, and how they are written."""

    kind: Kind
    notation: Notation = PLAIN
