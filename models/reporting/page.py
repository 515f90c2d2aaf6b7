"""One self-contained HTML page per version: no script, and nothing is fetched."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from models.evaluation.worth import is_imbalanced
from models.reporting import (
    answers,
    conditions,
    detectors,
    origin,
    robustness,
    shortfalls,
    summary,
)
from models.reporting.drawing import grids
from models.reporting.numbers import Share, bounds, clip, known, number, percent
from models.reporting.parts import Section, Tile, View
from models.versions.figures import Evaluation, Previous
from models.versions.schema import Manifest

FOLDER = Path(__file__).parent
SHORT = 24  # of a class name on a tile
MOST_STRATA = 10  # classes that a hundred rows are drawn from


@dataclass(frozen=True)
class Hundred:
    """A hundred rows: the drawing, how they were chosen, and how many of each kind."""

    drawing: Markup
    chosen: str
    kept: int
    lost: int
    wrong: int
    attacked: bool


def render(manifest: Manifest, figures: Evaluation, previous: Previous | None = None) -> str:
    """The report of a version as HTML.

    Args:
        manifest: of the version; its `evaluation` is not read.
        figures: of the evaluation, with the pictures that the manifest leaves out.
        previous: figures of the previous champion; by default `figures.previous`.
    """
    if previous is not None:
        figures = msgspec.structs.replace(figures, previous=previous)
    view = View(manifest, figures)
    sections = [section for section in _sections(view) if not section.empty]
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            manifest=manifest,
            title=summary.title(view.figures),
            made=view.made,
            lead=summary.lead(view.figures, view.kind, view.levels),
            against=summary.against(view.figures),
            shortfalls=shortfalls.shortfalls(view.figures, manifest.calibration),
            limits=summary.limits(view.figures, view.kind, view.levels),
            findings=shortfalls.findings(view.figures),
            n=view.figures.n,
            suite=view.figures.suite,
            rows=_hundred(view),
            tiles=_tiles(view),
            sections=sections,
        )
    )


def _sections(view: View) -> list[Section]:
    return [
        robustness.robustness(view),
        robustness.checks(view),
        conditions.corruptions(view),
        conditions.stress(view),
        answers.classes(view),
        answers.calibration(view),
        answers.gallery(view),
        detectors.scores(view),
        conditions.edge_cases(view),
        origin.origin(view),
        origin.terms(view),
    ]


@cache
def environment() -> Environment:
    """Where the templates of all pages are found."""
    return Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _hundred(view: View) -> Hundred | None:
    """The hundred rows; None without clean accuracy."""
    clean, robust = view.figures.clean, view.figures.robust
    if not known(clean):
        return None
    if is_imbalanced(view.figures):
        return _hundred_by_class(view)
    right, wrong = round(100 * clean.value), 100 - round(100 * clean.value)
    kept = min(right, round(100 * robust.value)) if known(robust) else right
    about = f"{kept} right under attack, {right - kept} right only unattacked, {wrong} wrong."
    if not known(robust):
        about = f"{right} right, {wrong} wrong."
    drawing = grids.hundred("hundred", "Of 100 rows", about, kept, right - kept)
    return Hundred(drawing, "", kept, right - kept, wrong, known(robust))


def _hundred_by_class(view: View) -> Hundred:
    """A hundred rows, as many of each class: of a sample the rare class would be two or three."""
    figures, attacked = view.figures, known(view.figures.robust)
    names = [name for name in figures.classes if known(figures.classes[name])][:MOST_STRATA]
    strata = []
    for k, name in enumerate(names):
        n = 100 * (k + 1) // len(names) - 100 * k // len(names)
        right = round(n * figures.classes[name].value)
        under = figures.classes_robust.get(name)
        kept = min(right, round(n * under.value)) if known(under) else right
        strata.append(grids.Stratum(name, n, kept, right - kept))
    about = "; ".join(
        f"{s.label}: {s.kept} of {s.n} right, {s.lost} until attacked" for s in strata
    )
    drawing = grids.hundred_by_class("hundred", "Of 100 rows, by class", f"{about}.", strata)
    kept, lost = sum(s.kept for s in strata), sum(s.lost for s in strata)
    chosen = f"as many of each of {len(names)} classes"
    return Hundred(drawing, chosen, kept, lost, 100 - kept - lost, attacked)


def _tiles(view: View) -> list[Tile]:
    figures, previous, scores = view.figures, view.previous, view.figures.scores
    tiles = [
        _tile("Clean accuracy", figures.clean, previous.clean if previous else None, "clean"),
        *_class_tiles(view),
        _tile(
            "Accuracy under attack", figures.robust, previous.robust if previous else None, "robust"
        ),
        _tile("On the live window", figures.window, None, "window"),
        _tile("Attacks flagged", scores.perturbation_detected if scores else None, None, "flagged"),
        detectors.tile(view),
    ]
    if (mce := figures.mce) is not None:
        ends = f"{number(mce.low)} to {number(mce.high)}; 1: as the previous champion"
        tiles.append(Tile("Mean corruption error", number(mce.value), ends))
    ece = None if figures.calibration is None else figures.calibration.ece
    if known(ece):
        tiles.append(Tile("Calibration error", percent(ece.value), _note(ece)))
    return [tile for tile in tiles if tile is not None]


def _class_tiles(view: View) -> list[Tile | None]:
    """Where one class holds most rows: what it cannot carry alone."""
    figures = view.figures
    if not is_imbalanced(figures):
        return []
    tiles = [_tile("Balanced accuracy", figures.balanced_accuracy, None, "balanced")]
    if known(figures.auroc):
        ends = f"{figures.auroc.low:.3f} to {figures.auroc.high:.3f}; 0.5: guessing"
        tiles.append(Tile("AUC", f"{figures.auroc.value:.3f}", ends))
    rarest = summary.rare_classes(figures)[0]
    name = clip(rarest, SHORT)
    tiles.append(_tile(f"Recall of {name}", figures.classes[rarest], None, "recall"))
    tiles.append(_tile(f"Precision of {name}", figures.precision.get(rarest), None, "precision"))
    return tiles


def _tile(name: str, share: Share | None, before: Share | None, ident: str) -> Tile | None:
    if not known(share):
        return None
    note = _note(share)
    if known(before):
        note += f"; previous {percent(before.value)}"
    return Tile(name, percent(share.value), note, grids.strip(f"tile-{ident}", name, share, before))


def _note(share: Share) -> str:
    return f"{bounds(share)}, n = {share.n}"
