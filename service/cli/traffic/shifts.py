"""What `holdfast traffic --shift` does to rows, for images and for tables.

Every shift takes raw rows and gives raw rows that the service accepts. What goes wrong with a
table goes wrong for all rows alike (a unit, two columns), so the columns are drawn once.
"""

import math
from collections.abc import Callable
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from models.base.errors import DataError
from models.versions.schema import InputArray, InputSchema

Array = npt.NDArray[Any]
Change = Callable[[InputArray], InputArray]
UNSEEN = "never seen before"  # sent as the category of a row that has none of the known ones
PLAIN = ("clean", "invert")
IMAGES = {  # name: (what the number is, its default)
    "rotate": ("degrees", 25.0),
    "noise": ("sigma", 0.1),
    "blur": ("pixels", 1.0),
    "contrast": ("factor", 0.5),
    "brightness": ("offset", 0.2),
}
TABLES = {
    "noise": ("sigma, as a share of a column's range", 0.1),
    "missing": ("share of the values that may be missing", 0.3),
    "unit": ("factor, for a third of the numeric columns", 1000.0),
    "swap": ("number of numeric columns that change places", 2.0),
    "unseen": ("share of the categories", 0.5),
}
ATTACK = {"attack": ("eps", 0.15)}


def _list_shifts(shifts: dict[str, tuple[str, float]]) -> str:
    return ", ".join(f"{name}:{default:g}" for name, (_, default) in shifts.items())


HELP = (
    f"Images: {', '.join(PLAIN)}, {_list_shifts(IMAGES)}. Tables: clean, {_list_shifts(TABLES)}. "
    f"Both: {_list_shifts(ATTACK)}, which attacks the champion itself."
)


def parse(shift: str, schema: InputSchema) -> tuple[str, float]:
    """Name and number of a shift such as `rotate:25`. Raises UsageError."""
    table = schema.kind == "tabular"
    plain, known = (PLAIN[:1], TABLES | ATTACK) if table else (PLAIN, IMAGES | ATTACK)
    name, _, text = shift.partition(":")
    if name not in (*plain, *known) or (text and name in plain):
        what = "a table" if table else "images"
        raise click.UsageError(f"--shift wants one of those for {what}. {HELP} Got {shift!r}")
    unit, default = known.get(name, ("", 0.0))
    try:
        value = float(text) if text else default
        if not math.isfinite(value):
            raise ValueError(value)
    except ValueError:
        raise click.UsageError(f"--shift {name} wants {unit}; got {text!r}") from None
    return name, value


def change_of(name: str, value: float, schema: InputSchema, rng: np.random.Generator) -> Change:
    """A shift (but `attack`) as a function of raw rows `(N, *shape)`.

    Raises:
        DataError: the table has no column that it could change.
    """
    if name == "clean":
        return lambda x: x
    if schema.kind == "image":
        change = _image_change(name, value, rng)
        return lambda x: schema.from_unit(np.clip(change(schema.to_unit(x)), 0, 1))
    change = _table_change(name, value, schema, rng)
    largest = np.finfo(np.float32).max
    return lambda x: np.clip(change(x.astype(np.float64)), -largest, largest).astype(x.dtype)


def _image_change(name: str, value: float, rng: np.random.Generator) -> Callable[[Array], Array]:
    from models import corruptions as c

    changes: dict[str, Callable[[Array], Array]] = {
        "rotate": lambda x: c.rotated(x, value),
        "noise": lambda x: c.noisy(x, value, rng),
        "invert": c.inverted,
        "blur": lambda x: c.blurred(x, value),
        "contrast": lambda x: x * value + x.mean((1, 2, 3), keepdims=True) * (1 - value),
        "brightness": lambda x: np.clip(x + value, 0, 1),
    }
    return changes[name]


def _table_change(
    name: str, value: float, schema: InputSchema, rng: np.random.Generator
) -> Callable[[Array], Array]:
    def columns(what: str, able: list[bool]) -> Array:
        if not any(able):
            raise DataError(f"--shift {name} needs {what}, and {schema.name!r} has none")
        return np.flatnonzero(able)

    if name == "missing":
        gaps = columns("a column that may be missing", [c.missing for c in schema.columns])
        return lambda x: _scatter_value(x, gaps, value, np.nan, rng)
    if name == "unseen":
        kinds = columns("a categorical column", [c.kind == "categorical" for c in schema.columns])
        return lambda x: _scatter_value(x, kinds, value, -1.0, rng)
    numeric = columns("a numeric column", [c.kind == "numeric" for c in schema.columns])
    if name == "noise":
        span = value * schema.span[numeric]
        return lambda x: _set(
            x, numeric, x[:, numeric] + span * rng.normal(size=(len(x), len(numeric)))
        )
    if name == "unit":
        chosen = rng.choice(numeric, max(1, len(numeric) // 3), replace=False)
        return lambda x: _set(x, chosen, x[:, chosen] * value)
    circle = rng.choice(numeric, min(max(2, round(value)), len(numeric)), replace=False)
    whole = np.array([schema.columns[k].missing for k in circle])
    return lambda x: _set(x, circle, _move_columns(x[:, circle], whole))


def _set(x: Array, columns: Array, values: Array) -> Array:
    changed = x.copy()
    changed[:, columns] = values
    return changed


def _scatter_value(
    x: Array, columns: Array, share: float, value: float, rng: np.random.Generator
) -> Array:
    hit = rng.random((len(x), len(columns))) < share
    return _set(x, columns, np.where(hit, value, x[:, columns]))


def _move_columns(values: Array, may_miss: Array) -> Array:
    """Every column takes the values of the one before it, but no missing one that it may not."""
    moved = np.roll(values, 1, axis=1)
    return np.where(np.isnan(moved) & ~may_miss, values, moved)
