"""One self-contained HTML page per version: no script, and nothing is fetched."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from models.reporting import (
    answers,
    conditions,
    detectors,
    grids,
    origin,
    robustness,
    shortfalls,
    summary,
)
from models.reporting.numbers import Share, bounds, known, number, percent
from models.reporting.parts import Section, Tile, View
from models.versions.schema import Manifest

FOLDER = Path(__file__).parent


def render(
    manifest: Manifest, figures: Mapping[str, Any], previous: Mapping[str, Any] | None = None
) -> str:
    """The report of a version as HTML.

    Args:
        manifest: of the version; its `evaluation` is not read.
        figures: of the evaluation, as in `report.json`. Keys may be missing or None.
        previous: figures of the previous champion; by default `figures["previous"]`.
    """
    before = (figures.get("previous") if previous is None else previous) or {}
    view = View(manifest, {**figures, "previous": before or None}, before)
    sections = [section for section in _sections(view) if not section.empty]
    return _template().render(
        manifest=manifest,
        title=summary.title(view.figures),
        made=view.made,
        lead=summary.lead(view.figures, view.kind, view.levels),
        against=summary.against(view.figures),
        shortfalls=shortfalls.shortfalls(view.figures, manifest.calibration),
        limits=summary.limits(view.figures, view.kind, view.levels),
        findings=shortfalls.findings(view.figures),
        n=view.figures.get("n"),
        suite=view.figures.get("suite"),
        rows=_hundred(view),
        tiles=_tiles(view),
        sections=sections,
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
        answers.scores(view),
        conditions.edge_cases(view),
        origin.origin(view),
        origin.terms(view),
    ]


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2")


def _hundred(view: View) -> dict[str, Any] | None:
    """The hundred rows, and how many of each kind; None without clean accuracy."""
    clean, robust = view.share("clean"), view.share("robust")
    if clean is None:
        return None
    right = round(100 * clean["value"])
    kept = right if robust is None else min(right, round(100 * robust["value"]))
    about = f"{kept} right under attack, {right - kept} right only unattacked, {100 - right} wrong."
    if robust is None:
        about = f"{right} right, {100 - right} wrong."
    return {
        "drawing": grids.hundred("hundred", "Of 100 rows", about, kept, right - kept),
        "kept": kept,
        "lost": right - kept,
        "wrong": 100 - right,
        "attacked": robust is not None,
    }


def _tiles(view: View) -> list[Tile]:
    scores = view.figures.get("scores") or {}
    tiles = [
        _share_tile(view, "Clean accuracy", "clean"),
        _share_tile(view, "Accuracy under attack", "robust"),
        _share_tile(view, "On the live window", "window"),
    ]
    caught = scores.get("perturbation_detected")
    if known(caught):
        tiles.append(_tile("Attacks flagged", caught, None, "flagged"))
    tiles.append(detectors.tile(view))
    if (mce := view.share("mce")) is not None:
        ends = f"{number(mce.get('low'))} to {number(mce.get('high'))}; 1: as the previous champion"
        tiles.append(Tile("Mean corruption error", number(mce["value"]), ends))
    ece = (view.figures.get("calibration") or {}).get("ece")
    if known(ece):
        tiles.append(Tile("Calibration error", percent(ece["value"]), _note(ece)))
    return [tile for tile in tiles if tile is not None]


def _share_tile(view: View, name: str, key: str) -> Tile | None:
    share, before = view.share(key), view.share_before(key)
    return None if share is None else _tile(name, share, before, key)


def _tile(name: str, share: Share, before: Share | None, ident: str) -> Tile:
    note = _note(share)
    if before is not None:
        note += f"; previous {percent(before['value'])}"
    return Tile(
        name, percent(share["value"]), note, grids.strip(f"tile-{ident}", name, share, before)
    )


def _note(share: Share) -> str:
    return f"{bounds(share)}, n = {share.get('n', '–')}"
