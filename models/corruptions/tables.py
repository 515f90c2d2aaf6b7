"""What goes wrong with tables on their way to a model, at severities 1 to 5.

Each kind changes raw rows `(N, D)` and gives rows that `schema.check` accepts: categories stay
among the known ones and -1, missing values appear only in columns that may miss them. Where a kind
needs something that a schema lacks, it does not apply; `applies` says so (a service *refuses* a
missing value in a column that may not miss it, so there is no answer to measure). A kind touches
at least one cell of every row, drawn anew for each row, so that a figure is the mean over columns;
where few columns have what it needs, severities coincide. Lengths are shares of the column's
range in training.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from models.base.errors import InputError
from models.versions.schema import InputArray, InputSchema

Cells = npt.NDArray[np.bool_]
Table = npt.NDArray[np.floating[Any]]
Change = Callable[[InputSchema, Table, int, np.random.Generator], Table]
SEVERITIES = (1, 2, 3, 4, 5)
SENTINELS = (-999.0, -1.0, 0.0, 9999.0)
FACTORS = (1000.0, 1 / 1000.0, 2.54, 1 / 2.54)
LARGEST = 3.4e38


@dataclass(frozen=True)
class Stress:
    """One kind: what it does, what it needs of a column, and whether it counts as benign.

    `needs` is `numeric`, `categorical` or `missing` (a column that may miss values), in at least
    `least` columns. Benign kinds are everyday imprecision: the negatives of the score heads.
    """

    change: Change
    needs: str = "numeric"
    least: int = 1
    benign: bool = False

    @property
    def name(self) -> str:
        """That of its function."""
        return self.change.__name__


def missing(schema: InputSchema, x: Table, severity: int, rng: np.random.Generator) -> Table:
    """5 to 50 % of the values that may be missing are."""
    return np.where(_some(schema, x, "missing", _share(severity), rng), np.nan, x)


def sentinel(schema: InputSchema, x: Table, severity: int, rng: np.random.Generator) -> Table:
    """5 to 50 % of the numbers are a stand-in for "unknown": -999, -1, 0 or 9999."""
    spoiled = _some(schema, x, "numeric", _share(severity), rng)
    return np.where(spoiled, rng.choice(SENTINELS, x.shape), x)


def out_of_range(schema: InputSchema, x: Table, severity: int, rng: np.random.Generator) -> Table:
    """5 to 50 % of the numbers lie half to eight ranges beyond the range of training."""
    far = (0.5, 1.0, 2.0, 4.0, 8.0)[severity - 1] * _span(schema)
    low = schema.offset.astype(np.float64)
    above = rng.random(x.shape) < 0.5
    beyond = np.where(above, low + _span(schema) + far, low - far)
    return np.where(_some(schema, x, "numeric", _share(severity), rng), beyond, x)


def unit_change(schema: InputSchema, x: Table, severity: int, rng: np.random.Generator) -> Table:
    """5 to 50 % of the numbers came in another unit: x 1000, / 1000, x 2.54 or / 2.54."""
    changed = _some(schema, x, "numeric", _share(severity), rng)
    return np.where(changed, x * rng.choice(FACTORS, x.shape), x)


def swapped_columns(
    schema: InputSchema, x: Table, severity: int, rng: np.random.Generator
) -> Table:
    """5 to 50 % of the numeric columns, at least two, have changed places in a circle."""
    columns = np.flatnonzero(_able(schema, "numeric"))
    count = max(2, round(_share(severity) * len(columns)))
    # The first `count` of a random order: each takes the value of the next one.
    order = columns[np.argsort(rng.random((len(x), len(columns))), axis=1)[:, :count]]
    swapped = x.copy()
    values = np.take_along_axis(x, np.roll(order, 1, axis=1), axis=1)
    # A column that may not miss values keeps its own rather than take a missing one.
    refused = np.isnan(values) & ~_able(schema, "missing")[order]
    taken = np.where(refused, np.take_along_axis(x, order, axis=1), values)
    np.put_along_axis(swapped, order, taken, axis=1)
    return swapped


def constant_column(
    schema: InputSchema, x: Table, severity: int, rng: np.random.Generator
) -> Table:
    """5 to 50 % of the sensors are stuck at a value that one row, the same for all, had."""
    stuck = x[rng.integers(len(x), size=x.shape[1]), np.arange(x.shape[1])]
    return np.where(_some(schema, x, "numeric", _share(severity), rng), stuck, x)


def unseen_category(
    schema: InputSchema, x: Table, severity: int, rng: np.random.Generator
) -> Table:
    """10 to 100 % of the categories are none that training knew."""
    share = (0.1, 0.25, 0.5, 0.75, 1.0)[severity - 1]
    return np.where(_some(schema, x, "categorical", share, rng), -1.0, x)


def noise(schema: InputSchema, x: Table, severity: int, rng: np.random.Generator) -> Table:
    """Every number with normal noise of .5 to 10 % of its range."""
    sigma = (0.005, 0.01, 0.02, 0.05, 0.1)[severity - 1] * _span(schema)
    return np.where(_able(schema, "numeric"), x + sigma * rng.standard_normal(x.shape), x)


def rounding(schema: InputSchema, x: Table, severity: int, rng: np.random.Generator) -> Table:
    """Every number rounded to a grid of 1 to 20 % of its range."""
    del rng
    step = (0.01, 0.02, 0.05, 0.1, 0.2)[severity - 1] * _span(schema)
    return np.where(_able(schema, "numeric"), np.rint(x / step) * step, x)


def gain(schema: InputSchema, x: Table, severity: int, rng: np.random.Generator) -> Table:
    """Instruments that read 1 to 10 % too much or too little."""
    off = (0.01, 0.02, 0.03, 0.05, 0.1)[severity - 1] * rng.choice([-1.0, 1.0], x.shape)
    return np.where(_able(schema, "numeric"), x * (1 + off), x)


def offset(schema: InputSchema, x: Table, severity: int, rng: np.random.Generator) -> Table:
    """Instruments whose zero has moved by 1 to 10 % of the range."""
    moved = (0.01, 0.02, 0.03, 0.05, 0.1)[severity - 1] * _span(schema)
    return np.where(_able(schema, "numeric"), x + moved * rng.choice([-1.0, 1.0], x.shape), x)


_ALL = (
    Stress(missing, needs="missing"),
    Stress(sentinel),
    Stress(out_of_range),
    Stress(unit_change),
    Stress(swapped_columns, least=2),
    Stress(constant_column),
    Stress(unseen_category, needs="categorical", benign=True),
    Stress(noise, benign=True),
    Stress(rounding, benign=True),
    Stress(gain, benign=True),
    Stress(offset, benign=True),
)
STRESS: Mapping[str, Stress] = MappingProxyType({kind.name: kind for kind in _ALL})
BENIGN = tuple(name for name, kind in STRESS.items() if kind.benign)


def applies(name: str, schema: InputSchema) -> bool:
    """Whether a kind can be applied to rows of a schema.

    >>> from models.versions.schema import Column
    >>> age = InputSchema("x", (1,), "float32", 0, 1, "tabular", (Column("age", high=99.0),))
    >>> applies("sentinel", age), applies("missing", age), applies("swapped_columns", age)
    (True, False, False)
    """
    kind = STRESS[name]
    return schema.kind == "tabular" and int(_able(schema, kind.needs).sum()) >= kind.least


def apply(
    name: str, schema: InputSchema, x_raw: InputArray, severity: int, rng: np.random.Generator
) -> InputArray:
    """Raw rows `(N, D)` under one kind of stress; they pass `schema.check` if `x_raw` does.

    Raises:
        InputError: the kind does not apply to the schema.
    """
    assert severity in SEVERITIES
    if not applies(name, schema):
        kind = STRESS[name]
        wanted = f"a table with {kind.least} {kind.needs} column(s) or more"
        raise InputError(f"stress {name!r}", wanted, f"the schema of {schema.name!r}")
    changed = STRESS[name].change(schema, x_raw.astype(np.float64), severity, rng)
    return np.clip(changed, -LARGEST, LARGEST).astype(x_raw.dtype)


def random_benign(schema: InputSchema, x_raw: InputArray, rng: np.random.Generator) -> InputArray:
    """Raw rows `(N, D)`, each under one benign kind of a random severity."""
    names = [name for name in BENIGN if applies(name, schema)]
    assert names, "a table has numeric or categorical columns"
    kind, severity = rng.integers(len(names), size=len(x_raw)), rng.choice(SEVERITIES, len(x_raw))
    changed = x_raw.copy()
    for k, name in enumerate(names):
        for s in SEVERITIES:
            rows = (kind == k) & (severity == s)
            if rows.any():
                changed[rows] = apply(name, schema, x_raw[rows], s, rng)
    return changed


def _share(severity: int) -> float:
    return (0.05, 0.1, 0.2, 0.35, 0.5)[severity - 1]


def _span(schema: InputSchema) -> Table:
    return schema.span.astype(np.float64)


def _able(schema: InputSchema, needs: str) -> Cells:
    """Which columns `(D,)` have what a kind needs."""
    able = [c.missing if needs == "missing" else c.kind == needs for c in schema.columns]
    return np.asarray(able, dtype=bool)


def _some(
    schema: InputSchema, x: Table, needs: str, share: float, rng: np.random.Generator
) -> Cells:
    """A random share of the able cells `(N, D)`, at least one in every row."""
    draw = np.where(_able(schema, needs), rng.random(x.shape), np.inf)
    some: Cells = (draw < share) | (draw == draw.min(axis=1, keepdims=True))
    return some
