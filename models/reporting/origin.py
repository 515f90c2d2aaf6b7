"""The part on where a version comes from, and what the terms mean."""

from collections.abc import Callable, Mapping

from models.reporting.numbers import DASH, number, percent, space_digits
from models.reporting.parts import Section, View, WordTable
from models.versions.facts import TrainingFacts
from models.versions.figures import Evaluation

TERMS: tuple[tuple[str, str, Callable[[Evaluation], object]], ...] = (
    (
        "95% interval",
        "where the true share lies in 95 of 100 such evaluations (Wilson)",
        lambda f: f.clean,
    ),
    (
        "eps",
        "the size of a change, as a share of the range of a value or column",
        lambda f: f.robust,
    ),
    (
        "attack",
        "a search for the change, no larger than eps, that makes the answer wrong",
        lambda f: f.robust,
    ),
    (
        "under attack",
        "right whatever the attacks tried; a new attack may lower it",
        lambda f: f.robust,
    ),
    (
        "APGD, PGD",
        "attacks that climb the gradient of the loss; APGD sets its own steps",
        lambda f: f.robust,
    ),
    ("Square", "an attack that needs no gradient, only answers", lambda f: f.attacks),
    (
        "gradient masking",
        "gradients that mislead attacks, so that a model only looks robust",
        lambda f: f.masking,
    ),
    (
        "severity",
        "how strong a corruption is, from 1 (slight) to 5 (hardly recognisable)",
        lambda f: f.corruptions,
    ),
    (
        "mean corruption error",
        "errors under corruption over those of the previous champion",
        lambda f: f.mce,
    ),
    (
        "calibration error",
        "mean distance of stated confidence and share of right answers",
        lambda f: f.calibration,
    ),
    (
        "AUROC",
        "the chance that an attacked row scores above a clean one; 0.5 is guessing",
        lambda f: f.scores,
    ),
    (
        "drift p-value",
        "how usual an input is among calibration rows; small is strange",
        lambda f: f.scores,
    ),
    (
        "perturbation likelihood",
        "probability, at even odds, of tampering rather than clean or benign corruption",
        lambda f: f.scores,
    ),
    (
        "certificate",
        "a proof that no change up to a radius alters the answer",
        lambda f: f.certified or f.proven,
    ),
)


def origin(view: View) -> Section:
    """Recipe and provenance."""
    training = view.manifest.training
    recipe = None if training is None else training.recipe
    tables = []
    if recipe:
        rows = [(space_digits(k), plain(v)) for k, v in recipe.items() if plain(v) != DASH]
        tables.append(WordTable(("setting", "value"), rows, "Training recipe", half=True))
    return Section("origin", "How it was made", facts=_facts(view), tables=tables)


def terms(view: View) -> Section:
    """The terms that this page uses, in a line each."""
    facts = [(term, meaning) for term, meaning, part in TERMS if part(view.figures)]
    return Section("terms", "What the terms mean", facts=facts)


def plain(value: object) -> str:
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
    manifest, calibration = view.manifest, view.manifest.calibration
    facts: list[tuple[str, object]] = [
        ("model", f"{manifest.model}, version {manifest.version}"),
        ("made", view.made),
        ("because", None if manifest.event is None else manifest.event.reason),
        ("parent version", manifest.parent if manifest.parent is not None else "none"),
        ("input", _input(view)),
        ("classes", len(manifest.classes)),
        *([] if manifest.training is None else _training_facts(manifest.training)),
        ("scores calibrated on", f"{calibration.n} rows: {calibration.source}"),
        ("flags at", f"{percent(calibration.alpha)} of clean rows"),
        ("evaluation suite", view.figures.suite),
        ("evaluation seed", view.figures.seed),
    ]
    return [(name, plain(value)) for name, value in facts if value not in (None, "")]


def _training_facts(training: TrainingFacts) -> list[tuple[str, object]]:
    data = training.data
    source = {k: v for k, v in data.source.items() if v not in ("", [], (), None, False)}
    return [
        ("data", data.name),
        ("data source", source or None),
        ("data fingerprint", data.fingerprint[:16]),
        ("rows trained on", training.rows),
        ("of them live traffic", training.window_rows or None),
        ("net", training.net),
        ("seed", training.seed),
        ("steps", training.steps),
        ("CPU-seconds", training.cpu_seconds),
        ("graph against torch", training.parity),
    ]


def _input(view: View) -> str:
    schema = view.manifest.input
    values = (
        f"{len(schema.columns)} columns"
        if schema.columns
        else f"values {number(schema.low)} to {number(schema.high)}"
    )
    return f"{schema.kind}, {schema.dtype}, shape {plain(schema.shape)}, {values}"
