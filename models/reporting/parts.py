"""What a page is made of: plain records that the template lays out, and a view of the figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from markupsafe import Markup

from models.reporting.shortfalls import Finding
from models.reporting.summary import norm_of
from models.versions.figures import Evaluation, Previous
from models.versions.schema import Manifest

MOST_ROWS = 400
FOLDED = 30  # a longer table opens on demand


@dataclass(frozen=True)
class WordTable:
    """Rows of words; the first column names the row."""

    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    name: str = "The figures"
    half: bool = False  # may stand beside a figure

    @property
    def first(self) -> Sequence[tuple[str, ...]]:
        """As many rows as a page can bear."""
        return self.rows[:MOST_ROWS]

    @property
    def folded(self) -> bool:
        """Whether it is too long to stand open."""
        return len(self.rows) > FOLDED

    @property
    def left_out(self) -> int:
        """How many rows only `report.json` has."""
        return max(0, len(self.rows) - MOST_ROWS)


@dataclass(frozen=True)
class Plate:
    """A figure with its words: how to read it, and the table behind it."""

    title: str
    drawing: Markup
    caption: str = ""
    table: WordTable | None = None
    wide: Markup | None = None  # the same, drawn for a wide page


@dataclass(frozen=True)
class Picture:
    """A changed row of the gallery: three pictures as data URIs."""

    caption: str
    original: str
    changed: str
    difference: str


@dataclass(frozen=True)
class Section:
    """A part of the page: sentences at the side, figures and tables beside them."""

    ident: str
    title: str
    words: Sequence[str] = ()
    plates: Sequence[Plate] = ()
    tables: Sequence[WordTable] = ()
    checks: Sequence[Finding] = ()
    pictures: Sequence[Picture] = ()
    facts: Sequence[tuple[str, str]] = ()
    pixelated: bool = False
    flow: bool = False  # figures of different height, in columns

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (
            self.words or self.plates or self.tables or self.checks or self.pictures or self.facts
        )


@dataclass(frozen=True)
class Tile:
    """A headline figure."""

    name: str
    value: str
    note: str
    strip: Markup | None = None


@dataclass(frozen=True)
class View:
    """A manifest and its figures."""

    manifest: Manifest
    figures: Evaluation

    @property
    def previous(self) -> Previous | None:
        """The figures of the previous champion."""
        return self.figures.previous

    @property
    def kind(self) -> str:
        """`image` or `tabular`."""
        return self.manifest.input.kind

    @property
    def levels(self) -> int | None:
        """255 where values are bytes: sizes are then written as fractions of it."""
        byte = self.manifest.input.dtype == "uint8"
        return 255 if byte and norm_of(self.figures, self.kind) == "linf" else None

    @property
    def alpha(self) -> float:
        """The false-positive rate of the thresholds."""
        return self.manifest.calibration.alpha

    @cached_property
    def before(self) -> str:
        """What the previous champion is called in a legend."""
        version = None if self.previous is None else self.previous.version
        return "previous champion" if version is None else f"previous (version {version})"

    @property
    def made(self) -> str:
        """When the version was made, to the minute."""
        at = self.manifest.created_at
        return f"{at[:10]} {at[11:16]} UTC" if at[10:11] == "T" and at.endswith("Z") else at
