"""The part on single answers: calibration, classes, the smallest changes."""

import re
from collections.abc import Mapping, Sequence

from models.base.words import list_words
from models.reporting.drawing import grids
from models.reporting.numbers import (
    LONGEST,
    Share,
    clip,
    interval,
    known,
    percent,
)
from models.reporting.numbers import size as sized
from models.reporting.parts import Picture, Plate, Section, View, WordTable
from models.reporting.reliability import reliability_plate
from models.statistics.shares import Bin
from models.versions.figures import ChangedPicture

WORST = 8
MOST_PICTURES = 24
PICTURE = re.compile(r"data:image/png;base64,[A-Za-z0-9+/=]+")


def calibration(view: View) -> Section:
    """Whether stated confidence means what it says."""
    facts, previous = view.figures.calibration, view.previous
    if facts is None:
        return Section("calibration", "Calibration")
    ece, bins, words = facts.ece, [b for b in facts.bins if b.n], []
    if known(ece):
        words.append(
            f"Stated confidence and the share of right answers differ by {percent(ece.value)} on"
            f" average (expected calibration error, 95% interval {percent(ece.low)} to"
            f" {percent(ece.high)}, n = {ece.n})."
        )
        before = previous.calibration if previous else None
        if before is not None and known(before.ece):
            words.append(f"Of the {view.before} it is {interval(before.ece)}.")
    if bins and ece.low > 0:
        words.append(f"On the whole it is {lean(bins)} than it should be.")
    plates = [_reliability(bins)] if bins else []
    return Section("calibration", "Calibration", words=words, plates=plates)


def lean(bins: Sequence[Bin]) -> str:
    """Which way confidence errs, over all rows.

    >>> lean([Bin(low=0.8, high=1.0, n=9, confidence=0.9, accuracy=0.7)])
    'surer'
    """
    gap = sum(b.n * (b.confidence - b.accuracy) for b in bins)
    return "surer" if gap > 0 else "less sure"


def classes(view: View) -> Section:
    """The worst classes, clean and attacked, and what is taken for what."""
    figures = view.figures
    clean, robust = figures.classes, figures.classes_robust
    ranked = sorted(
        (name for name in clean if known(clean[name])),
        key=lambda name: _hardest(clean[name], robust.get(name)).value,
    )
    plates = [_forest(view, ranked)] if ranked else []
    tables = [_confusions(view)] if figures.confusions else []
    words = []
    if len(ranked) > 1:
        by = "under attack" if robust else "without an attack"
        weakest = list_words([clip(name, LONGEST) for name in ranked[:3]])
        words.append(f"Of {len(clean)} classes the weakest {by}: {weakest}.")
    worst = figures.confusions[0] if figures.confusions else None
    if worst is not None and worst.count > 1:
        words.append(
            f"Most often {clip(worst.true, LONGEST)} is taken for"
            f" {clip(worst.predicted, LONGEST)}: {worst.count} of {worst.n} rows."
        )
    return Section("classes", "Classes", words=words, plates=plates, tables=tables)


def gallery(view: View) -> Section:
    """The smallest changes that were found to alter an answer."""
    chosen = [item for item in view.figures.gallery if all(map(PICTURE.fullmatch, _trio(item)))]
    chosen.sort(key=lambda item: item.eps)
    pictures = [
        Picture(f"{item.true} → {item.predicted}, eps {sized(item.eps, view.levels)}", *_trio(item))
        for item in chosen[:MOST_PICTURES]
    ]
    words = [
        "Rows that need the least change to be answered wrongly: as they are, changed, and the"
        " change itself, magnified (grey: none)."
    ]
    small = max(view.manifest.input.shape[-2:], default=0) <= 96
    return Section(
        "gallery",
        "Smallest changes",
        words=words if pictures else [],
        pictures=pictures,
        pixelated=small,
    )


def _trio(item: ChangedPicture) -> tuple[str, str, str]:
    return item.original, item.changed, item.difference


def _reliability(bins: Sequence[Bin]) -> Plate:
    return reliability_plate(
        "reliability",
        "Reliability diagram",
        "Stated confidence, and how often it was right",
        bins,
        "On the diagonal, confidence is what it says; below it the model is surer than it should"
        " be. Horizontal: the range of the bin; vertical: 95% interval of the share.",
        words_per_bin="confidence {stated}: right {was}",
        header=("confidence from", "to", "rows", "mean confidence", "right"),
    )


def _hardest(clean: Share, robust: Share | None) -> Share:
    return robust if known(robust) else clean


def _forest(view: View, ranked: Sequence[str]) -> Plate:
    clean, robust = view.figures.classes, view.figures.classes_robust
    rows = [grids.Row(name, clean[name], robust.get(name)) for name in ranked[:WORST]]
    drawing = grids.forest(
        "classes",
        "The weakest classes",
        "; ".join(f"{r.label}: {percent(r.share.value)}" for r in rows) + ".",
        rows,
        names=("without an attack", "under attack" if robust else None),
    )
    caption = "Lines are 95% intervals" + (
        "; the figure is the one under attack." * bool(robust) or "."
    )
    title = f"The {len(rows)} weakest of {len(clean)} classes" if len(clean) > WORST else "By class"
    return Plate(title, drawing, caption, class_table(view))


def class_table(view: View) -> WordTable:
    """Every class: recall, precision and, where it was attacked, accuracy under attack."""
    figures = view.figures
    columns: list[tuple[str, Mapping[str, Share]]] = [
        ("right (95% interval)", figures.classes),
        ("precision (95% interval)", figures.precision),
        ("under attack (95% interval)", figures.classes_robust),
    ]
    columns = [(head, shares) for head, shares in columns if shares]
    return WordTable(
        ("class", *(head for head, _ in columns)),
        [
            (name, *(interval(shares.get(name)) for _, shares in columns))
            for name in figures.classes
        ],
        "All classes",
    )


def _confusions(view: View) -> WordTable:
    return WordTable(
        ("is", "taken for", "rows", "of"),
        [(c.true, c.predicted, str(c.count), str(c.n)) for c in view.figures.confusions],
        "What is taken for what, without an attack",
        half=True,
    )
