"""Benign rows that the perturbation head learns not to flag, and the hiding of the pixel grid.

All kinds of `models.corruptions.suite` and the faults of sensors at all severities, one after the
other and two at once: what the negatives do not cover is flagged. Pixels of clean images lie on a
grid (17 grey levels of the digits, 256 of a byte), which changed ones leave: a head would learn
that, and a rounded attack would pass. So part of the changed images is rounded to the grid, and
clean ones leave it.
"""

from collections.abc import Callable, Collection
from functools import partial

import numpy as np

from models.corruptions import SEVERITIES, sensor, suite, tables
from models.corruptions.base import Images
from models.statistics.arrays import IntArray
from models.versions.schema import InputArray, InputSchema

BYTE = 1 / 255
NOISE_WEIGHT = 4.0  # noise is what attacks look most like: it is drawn so much more often
ROUNDED = 0.4  # share of the changed images that are rounded to the grid or to bytes
Change = Callable[[InputArray, int, np.random.Generator], InputArray]


def kinds_of(schema: InputSchema, without: Collection[str] = ()) -> dict[str, Change]:
    """The benign kinds for inputs of a schema: `change(x_raw, severity, rng)` by name.

    Args:
        schema: the input schema.
        without: names (without the group) to leave out, so that a head can be judged on them.

    >>> digits = InputSchema("x", (1, 8, 8), "float32", 0.0, 16.0, "image")
    >>> len(kinds_of(digits)), len(kinds_of(digits, without=["blur"]))
    (48, 47)
    """
    if schema.kind == "tabular":
        return {
            name: partial(tables.apply, name, schema)
            for name in tables.BENIGN
            if name not in without and tables.applies(name, schema)
        }
    return {
        f"{kind.group}/{kind.name}": partial(kind.on_raw, schema)
        for kind in (*suite(schema), *sensor.KINDS)
        if kind.name not in without
    }


def random_changes(
    kinds: dict[str, Change], x_raw: InputArray, rng: np.random.Generator
) -> InputArray:
    """Every row `(N, *shape)` with one change of a random kind and severity."""
    weight = np.array([NOISE_WEIGHT if "noise" in name else 1.0 for name in kinds])
    chosen = rng.choice(len(kinds), size=len(x_raw), p=weight / weight.sum())
    severity, changed = rng.choice(SEVERITIES, size=len(x_raw)), x_raw.copy()
    for k, change in enumerate(kinds.values()):
        for s in SEVERITIES:
            rows = (chosen == k) & (severity == s)
            if rows.any():
                changed[rows] = change(x_raw[rows], s, rng)
    return changed


def by_kind(
    kinds: dict[str, Change], x_raw: InputArray, rng: np.random.Generator
) -> tuple[InputArray, IntArray, IntArray]:
    """All rows under every kind, each at a random severity.

    Returns:
        The rows, the place of the kind of each `(N,)`, and its severity `(N,)`.
    """
    changed, severities = [], []
    for change in kinds.values():
        severity, rows = rng.choice(SEVERITIES, size=len(x_raw)), x_raw.copy()
        for s in SEVERITIES:
            if (severity == s).any():
                rows[severity == s] = change(x_raw[severity == s], s, rng)
        changed.append(rows)
        severities.append(severity)
    places = np.repeat(np.arange(len(kinds)), len(x_raw))
    return np.concatenate(changed), places, np.concatenate(severities)


def grid_step(x_unit: Images) -> float:
    """The distance of the grey levels of clean images in [0, 1]; that of bytes if it is finer.

    >>> grid_step(np.array([[0.0, 0.25], [1.0, 0.5]], dtype=np.float32))
    0.25
    """
    gaps = np.diff(np.unique(x_unit[:500]))
    return max(float(gaps.min()), BYTE) if len(gaps) else BYTE


def round_to_grid(
    schema: InputSchema, x_raw: InputArray, step: float, rng: np.random.Generator
) -> InputArray:
    """Images, part of them rounded to the grid of the data and part to bytes; tables as is."""
    if schema.kind == "tabular":
        return x_raw
    x, draw = schema.to_unit(x_raw), rng.random(len(x_raw))
    for low, size in ((0.0, step), (ROUNDED / 2, BYTE)):
        rows = (draw >= low) & (draw < low + ROUNDED / 2)
        x[rows] = np.clip(np.rint(x[rows] / size) * size, 0, 1)
    return schema.from_unit(x)


def off_the_grid(
    schema: InputSchema, x_raw: InputArray, step: float, rng: np.random.Generator
) -> InputArray:
    """Clean images, moved by less than half a step (a byte at most where that is more)."""
    x = schema.to_unit(x_raw)
    reach = max(step / 2, BYTE) * rng.random((len(x), *[1] * (x.ndim - 1)))
    return schema.from_unit(np.clip(x + reach * rng.uniform(-1, 1, x.shape), 0, 1))
