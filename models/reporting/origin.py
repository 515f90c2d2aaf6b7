"""The part on where a version comes from, and what the terms mean."""

from collections.abc import Mapping
from typing import Any

from models.reporting.numbers import DASH, number, percent, space_digits
from models.reporting.parts import Section, View, WordTable

TERMS = (
    ("95% interval", "where the true share lies in 95 of 100 such evaluations (Wilson)", "clean"),
    ("eps", "the size of a change, as a share of the range of a value or column", "robust"),
    (
        "attack",
        "a search for the change, no larger than eps, that makes the answer wrong",
        "robust",
    ),
    ("under attack", "right whatever the attacks tried; a new attack may lower it", "robust"),
    ("APGD, PGD", "attacks that climb the gradient of the loss; APGD sets its own steps", "robust"),
    ("Square", "an attack that needs no gradient, only answers", "attacks"),
    (
        "gradient masking",
        "gradients that mislead attacks, so that a model only looks robust",
        "masking",
    ),
    (
        "severity",
        "how strong a corruption is, from 1 (slight) to 5 (hardly recognisable)",
        "corruptions",
    ),
    ("mean corruption error", "errors under corruption over those of the previous champion", "mce"),
    (
        "calibration error",
        "mean distance of stated confidence and share of right answers",
        "calibration",
    ),
    (
        "AUROC",
        "the chance that an attacked row scores above a clean one; 0.5 is guessing",
        "scores",
    ),
    ("drift p-value", "how usual an input is among calibration rows; small is strange", "scores"),
    (
        "perturbation likelihood",
        "probability, at even odds, of tampering rather than clean or benign corruption",
        "scores",
    ),
    ("certificate", "a proof that no change up to a radius alters the answer", "certified"),
)


def origin(view: View) -> Section:
    """Recipe and provenance."""
    training = view.manifest.training
    recipe = training.get("recipe") or {}
    tables = []
    if recipe:
        rows = [(space_digits(k), plain(v)) for k, v in recipe.items() if plain(v) != DASH]
        tables.append(WordTable(("setting", "value"), rows, "Training recipe", half=True))
    return Section("origin", "How it was made", facts=_facts(view), tables=tables)


def terms(view: View) -> Section:
    """The terms that this page uses, in a line each."""
    facts = [(term, meaning) for term, meaning, key in TERMS if view.figures.get(key)]
    return Section("terms", "What the terms mean", facts=facts)


def plain(value: Any) -> str:
    """A value of a recipe as words.

    >>> plain({"name": "small", "width": 32}), plain([1, 2]), plain(None), plain(0.002)
    ('name small, width 32', '1, 2', '–', '0.002')
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {plain(v)}" for k, v in value.items()) or DASH
    if isinstance(value, list | tuple):
        return ", ".join(plain(v) for v in value) or DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (
        number(value, 4)
        if isinstance(value, float)
        else DASH
        if value in (None, "")
        else str(value)
    )


def _facts(view: View) -> list[tuple[str, str]]:
    manifest, training = view.manifest, view.manifest.training
    data = training.get("data") or {}
    source = {k: v for k, v in (data.get("source") or {}).items() if v not in ("", [], (), None)}
    held = manifest.calibration
    facts: list[tuple[str, Any]] = [
        ("model", f"{manifest.model}, version {manifest.version}"),
        ("made", view.made),
        ("because", manifest.event.get("reason")),
        ("parent version", manifest.parent if manifest.parent is not None else "none"),
        ("input", _input(view)),
        ("classes", len(manifest.classes)),
        ("data", data.get("name")),
        ("data source", source or None),
        ("data fingerprint", str(data.get("fingerprint") or "")[:16]),
        ("rows trained on", training.get("rows")),
        ("of them live traffic", training.get("window_rows") or None),
        ("net", training.get("net")),
        ("seed", training.get("seed")),
        ("steps", training.get("steps")),
        ("CPU-seconds", training.get("cpu_seconds")),
        ("graph against torch", training.get("parity")),
        ("scores calibrated on", f"{held.n} rows: {held.source}"),
        ("flags at", f"{percent(held.alpha)} of clean rows"),
        ("evaluation suite", view.figures.get("suite")),
        ("evaluation seed", view.figures.get("seed")),
    ]
    return [(name, plain(value)) for name, value in facts if value not in (None, "")]


def _input(view: View) -> str:
    schema = view.manifest.input
    values = (
        f"{len(schema.columns)} columns"
        if schema.columns
        else f"values {number(schema.low)} to {number(schema.high)}"
    )
    return f"{schema.kind}, {schema.dtype}, shape {plain(schema.shape)}, {values}"
