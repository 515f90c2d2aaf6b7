"""Which corruptions an evaluation applies to which inputs."""

from typing import Literal

import numpy as np

from models.corruptions import tables
from models.corruptions.base import SEVERITIES, Images, Kind
from models.corruptions.catalogue import GROUPS, QUICK
from models.versions.schema import InputArray, InputSchema


def suite(schema: InputSchema, which: Literal["full", "quick"] = "full") -> list[Kind]:
    """The corruptions that make sense for inputs of a schema; none for tables (see `stress`).

    Args:
        schema: the input schema.
        which: `quick`: the ten of Holdfast. `full`: also ImageNet-C's 15 + 4 (saturation where
            there are three colours), and MNIST-C's 15 where images are grey or at most 64 pixels.

    >>> digits = InputSchema("x", (1, 8, 8), "float32", 0.0, 16.0, "image")
    >>> len(suite(digits, "quick")), len(suite(digits))
    (10, 43)
    """
    if schema.kind == "tabular":
        return []
    channels, height, width = schema.shape
    chosen = []
    for group in GROUPS.values():
        most = group.most_colour_side if channels != 1 else None
        if (which == "full" or group.quick) and (most is None or min(height, width) <= most):
            chosen += [kind for kind in group.kinds if channels == 3 or not kind.colour]
    return chosen


def random_corruptions(x: Images, rng: np.random.Generator) -> Images:
    """Every image `(N, ...)` with one corruption of the quick suite, kind and severity random."""
    number = rng.integers(len(QUICK), size=len(x))
    severity = rng.choice(SEVERITIES, size=len(x))
    changed = np.empty_like(x)
    for k, kind in enumerate(QUICK.values()):
        for s in SEVERITIES:
            rows = (number == k) & (severity == s)
            if rows.any():
                changed[rows] = kind.corrupt(x[rows], s, rng)
    return changed


def random_benign(schema: InputSchema, x_raw: InputArray, rng: np.random.Generator) -> InputArray:
    """Raw rows `(N, *shape)`, each with one benign change of a random kind and severity.

    Images: one of the ten. Tables: one of the benign kinds of `models.corruptions.tables` that
    apply. The rows pass `schema.check`.
    """
    if schema.kind == "tabular":
        return tables.random_benign(schema, x_raw, rng)
    return schema.from_unit(random_corruptions(schema.to_unit(x_raw), rng))
