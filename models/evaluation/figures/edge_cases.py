"""Inputs that are no instance of any class: what the model says, and whether it is flagged."""

from typing import Any

import numpy as np
import numpy.typing as npt

from models.evaluation.subject import answer
from models.versions.figures import EdgeCase
from models.versions.runner import Runner
from models.versions.schema import DTYPES, InputArray, InputSchema

Table = npt.NDArray[np.float64]
FAR = 10.0  # ranges of training beyond its end
LIMIT = 3e38  # a float32 can be no larger


def edge_cases(
    runner: Runner, *, rows: int = 64, seed: int = 0, examples: InputArray | None = None
) -> tuple[EdgeCase, ...]:
    """How the served graph answers each kind of unexpected input.

    Args:
        runner: the served graph.
        rows: how many of each random kind.
        seed: of the random ones.
        examples: raw real inputs `(M, *shape)`; some kinds are made of (the first `rows` of) them.
    """
    schema, rng = runner.manifest.input, np.random.default_rng(seed)
    some = None if examples is None else examples[:rows]
    make = _table_cases if schema.kind == "tabular" else _image_cases
    inputs = make(schema, rows, rng, some)
    return tuple(_ask_about(runner, name, x) for name, x in inputs.items())


def _ask_about(runner: Runner, name: str, x: InputArray) -> EdgeCase:
    answers = answer(runner, x)
    flagged = answers.drift_p_value <= runner.manifest.calibration.alpha
    return EdgeCase(
        name=name,
        n=len(x),
        finite=bool(np.isfinite(answers.probabilities).all()),
        confidence=round(float(np.nan_to_num(answers.probabilities.max(axis=1)).mean()), 4),
        drift_flagged=round(float(flagged.mean()), 4),
    )


def _image_cases(
    schema: InputSchema, rows: int, rng: np.random.Generator, examples: InputArray | None
) -> dict[str, InputArray]:
    shape = (rows, *schema.shape)
    cases: dict[str, npt.NDArray[Any]] = {
        "constant minimum": np.zeros((1, *schema.shape)),
        "constant middle": np.full((1, *schema.shape), 0.5),
        "constant maximum": np.ones((1, *schema.shape)),
        "saturated noise": rng.integers(0, 2, shape).astype(np.float64),
        "uniform noise": rng.random(shape),
        "normal noise": np.clip(rng.normal(0.5, 0.25, shape), 0, 1),
    }
    if examples is not None and len(examples):
        unit = schema.to_unit(examples)
        flat = unit.reshape(*unit.shape[:2], -1)
        cases["inverted"] = 1 - unit
        cases["shuffled pixels"] = rng.permuted(flat, axis=2).reshape(unit.shape)
        cases["saturated"] = np.where(unit > unit.mean((1, 2, 3), keepdims=True), 1.0, 0.0)
    return {name: schema.from_unit(unit) for name, unit in cases.items()}


def _table_cases(
    schema: InputSchema, rows: int, rng: np.random.Generator, examples: InputArray | None
) -> dict[str, InputArray]:
    """Extremes of every column at once; what cannot be sent (a refused gap) is not asked."""
    number = np.array([c.kind == "numeric" for c in schema.columns])
    gap = np.array([c.missing for c in schema.columns])
    counts = np.array([max(len(c.categories), 1) for c in schema.columns])
    low, span = schema.offset.astype(np.float64), schema.span.astype(np.float64)
    first: Table = np.where(number, low, 0.0)
    some = np.tile(first, (rows, 1)) if examples is None else examples.astype(np.float64)
    drawn = np.where(number, low + span * rng.random((rows, len(number))), 0.0)
    drawn = np.where(number, drawn, rng.integers(0, counts, (rows, len(number))))
    cases = {
        "all at the minimum": first[None],
        "all at the maximum": np.where(number, low + span, counts - 1.0)[None],
        "far below the range": np.where(number, low - FAR * span, 0.0)[None],
        "far above the range": np.where(number, low + (1 + FAR) * span, counts - 1.0)[None],
        "largest numbers": np.where(number, LIMIT, 0.0)[None],
        "uniform noise": drawn,
    }
    if gap.any():
        name = "all missing" if gap.all() else "all missing that may be"
        cases[name] = np.where(gap, np.nan, some)
    if not number.all():
        cases["all categories unseen"] = np.where(number, some, -1.0)
    inside = {name: np.clip(x, -LIMIT, LIMIT) for name, x in cases.items()}
    return {name: x.astype(DTYPES[schema.dtype]) for name, x in inside.items()}
