"""The view Versions: what there is, where each came from, two side by side, and the way back."""

from collections.abc import Callable, Sequence

from models.statistics.shares import Proportion
from service.console.listing import VersionRow, Versions
from service.console.telling import acts
from service.console.telling.asks import subject_of
from service.console.telling.blocks import Cell, Document, Heading, Part, Table, Text, note, one
from service.console.telling.headline import Headline
from service.console.telling.numbers import percent
from service.console.watched import View

LONGEST = 48  # characters of the names of attacks


def tell_versions(view: View, listed: Versions, compared: Sequence[int]) -> Document:
    """The view; `compared` are the numbers of two versions, or none."""
    lead = "No version answers."
    if view.served is not None:
        lead = (
            f"Version {view.served} answers. A version never changes once it has its number, and "
            "each of its files is checked against its digest when it is opened."
        )
    head = ("version", "is", *(name for name, _ in COLUMNS), "report", "compare", "")
    rows = tuple(_row(view, listed.model, each) for each in listed.versions)
    more = "" if listed.total == len(rows) else f"The newest {len(rows)} of {listed.total}."
    parts = [one(Table("Versions", head, rows), note(more))]
    by_number = {each.version: each for each in listed.versions}
    two = [by_number[number] for number in compared if number in by_number][:2]
    if len(two) == 2:
        parts.insert(0, _compare(two[0], two[1]))
    return Document(Headline("What there is, and which one answers.", lead), (), tuple(parts))


def _row(view: View, model: str, of: VersionRow) -> tuple[Cell | str, ...]:
    number = str(of.version)
    if of.fault:
        empty = [""] * (len(COLUMNS) + 3)
        return Cell(number, strong=True), Cell(f"damaged: {of.fault}", tone="bad"), *empty
    subject = subject_of(view)
    champion, act = subject.champion, None
    if of.version == subject.previous:
        act = acts.rollback(subject)
    elif of.version != champion:
        other = acts.Subject(subject.model, champion, subject.previous, of.version)
        act = acts.promote(other)
    report = Cell("Report", href=f"/console/report/{model}/{number}", new=True)
    against = f"#versions?compare={champion},{number}"
    return (
        Cell(number, strong=True),
        ", ".join(of.aliases),
        *(make(of) for _, make in COLUMNS),
        report if of.report else "none",
        "" if of.version == champion or champion is None else Cell("with champion", href=against),
        Cell(act=act),
    )


def _compare(first: VersionRow, second: VersionRow) -> Part:
    head = ("", f"version {first.version}", f"version {second.version}")
    rows = tuple((name, make(first), make(second)) for name, make in (*COLUMNS, *FURTHER))
    title = f"Version {first.version} and version {second.version}"
    back = Text("", href="#versions", link="All versions only")
    return one(Heading(title), Table(title, head, rows), back)


def _share(share: Proportion | None) -> Cell | str:
    if share is None or share.share is None:
        return "not measured"
    interval = f"{100 * share.low:.1f} to {100 * share.high:.1f}, n = {share.n}"
    return Cell(percent(share.share), sub=interval)


def _robust(of: VersionRow) -> Cell | str:
    cell = _share(of.robust)
    if isinstance(cell, str) or of.eps is None:
        return cell
    attack = of.attack if len(of.attack) <= LONGEST else f"{of.attack[:LONGEST]}…"
    return Cell(cell.text, sub=f"{cell.sub}; {attack}, eps {of.eps:g}")


def _parent(of: VersionRow) -> str:
    return "scratch" if of.parent is None else f"version {of.parent}"


Maker = Callable[[VersionRow], Cell | str]
COLUMNS: tuple[tuple[str, Maker], ...] = (
    ("made", lambda of: f"{of.made[:16].replace('T', ' ')} UTC"),
    ("because", lambda of: of.because[:200]),
    ("from", _parent),
    ("clean", lambda of: _share(of.clean)),
    ("under attack", _robust),
    ("on its window", lambda of: _share(of.window)),
)
FURTHER: tuple[tuple[str, Maker], ...] = (
    ("rows trained on", lambda of: f"{of.rows:,}"),
    ("corruption error", lambda of: "not measured" if of.corruption is None
     else f"{of.corruption:.2f} of the champion's before"),
    ("certificates", lambda of: "yes" if of.certificates else "no"),
    ("examples", lambda of: "yes" if of.examples else "no"),
    ("size", lambda of: f"{of.bytes / 1e6:.1f} MB"),
)  # fmt: skip
