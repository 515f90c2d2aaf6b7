"""What a view is made of: plain data that the page draws, whatever the view is about.

In texts `10^x` is drawn with an exponent, `@{seconds}` as a time of the reader's clock, and words
between backticks as code. Everything becomes text nodes: nothing here can be markup.
"""

import msgspec

from service.console.telling.acts import Act
from service.console.telling.headline import Headline, Tone


class Block(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="t"):
    """Something that is drawn."""


class Heading(Block, tag="h", frozen=True):
    """A question or a name."""

    text: str


class Text(Block, tag="p", frozen=True):
    """A paragraph; with a link behind it where there is an address."""

    text: str
    small: bool = False
    tone: Tone = "plain"
    href: str = ""
    link: str = ""


class GateMark(msgspec.Struct, frozen=True):
    """A gate's value and bound, for a small picture."""

    verdict: str
    value: float
    bound: float


class Cell(msgspec.Struct, frozen=True, omit_defaults=True):
    """A cell of a table."""

    text: str = ""
    sub: str = ""
    strong: bool = False
    tone: Tone = "plain"
    href: str = ""
    new: bool = False  # whether the link opens beside the page
    gate: GateMark | None = None
    act: Act | None = None


class Table(Block, tag="table", frozen=True):
    """A table with its name."""

    label: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell | str, ...], ...]
    fold: bool = False  # behind "As a table"


class Bars(Block, tag="bars", frozen=True):
    """Named bars, and a bound."""

    label: str
    rows: tuple[tuple[str, float], ...]
    bound: float | None = None
    share: bool = False  # whether values are shown in per cent


class Said(Block, tag="said", frozen=True):
    """The class of an answer, how sure, and what it rests on."""

    label: str
    sure: str
    text: str
    meta: str


class Strip(Block, tag="strip", frozen=True):
    """A p-value between flagged and ordinary."""

    p: float
    alpha: float


class Shares(Block, tag="shares", frozen=True):
    """Parts of a whole beside each other: name, share, and the class of its colour."""

    parts: tuple[tuple[str, float, str], ...]


class Histogram(Block, tag="hist", frozen=True):
    """Shares before and after, by bin."""

    label: str
    bins: tuple[tuple[str, float, float], ...]


class Stage(msgspec.Struct, frozen=True):
    """A stage of a run: `state` is `done`, `now` or empty."""

    name: str
    state: str
    lasted: str = ""
    more: str = ""


class Stages(Block, tag="stages", frozen=True):
    """The stages of a run on a line."""

    items: tuple[Stage, ...]


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that happened."""

    at: float
    text: str
    href: str = ""


class Feed(Block, tag="feed", frozen=True):
    """What happened, with its times."""

    items: tuple[Line, ...]


class Listing(Block, tag="ol", frozen=True):
    """Numbered points."""

    items: tuple[str, ...]


class Acts(Block, tag="acts", frozen=True):
    """Buttons."""

    acts: tuple[Act, ...]


class Box(Block, tag="box", frozen=True):
    """A box with buttons."""

    title: str
    text: str
    tone: Tone
    acts: tuple[Act, ...] = ()


class Own(Block, tag="own", frozen=True):
    """A part that the page makes by itself: a picture of the history, recorded inputs, the demo."""

    name: str


class Part(msgspec.Struct, frozen=True):
    """Blocks one below the other, in one column or several beside each other."""

    columns: tuple[tuple[Block, ...], ...]


class Document(msgspec.Struct, frozen=True):
    """A view: what is at its top, beside that, and below it."""

    top: Headline
    side: tuple[Block, ...]
    parts: tuple[Part, ...]


def one(*blocks: Block) -> Part:
    """A part of one column."""
    return Part((blocks,))


def note(text: str) -> Text:
    """A small text."""
    return Text(text, small=True)
