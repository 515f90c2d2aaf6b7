"""What a version is trained on: its data set, copies of it, and labelled live rows by their age.

All rows of the data set are there each time (replay), so that what was known is not forgotten, with
a changed copy of each: random benign changes and, where one matches the window
(`monitoring.making.matching`), that one for half of the rows. Live rows are repeated to about a
third of the whole. Age counts in windows: a row of the k-th window before has 2^-k times the
copies.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.corruptions import random_benign
from models.data import DataSet, Rows
from models.data.lineage import Lineage, LiveRows
from monitoring.making.matching import Match, match_window
from monitoring.making.orders import Order

MOST_COPIES = 5  # of a live row
MATCHED_SHARE = 0.5  # of a copy, where a change matches: what was benign before stays so
LIVE_SHARE = 0.5  # live rows for each other row: a third of the whole


@dataclass(frozen=True)
class Material:
    """The rows of a training.

    Args:
        rows: to train on, copies and repeats included.
        lineage: what the version will keep of live traffic.
        match: how the data set's rows were changed; None without a window.
    """

    rows: Rows
    lineage: Lineage
    match: Match | None


def training_rows(data: DataSet, order: Order) -> Material:
    """The rows that an order is trained on.

    Args:
        data: with the labels that hold now.
        order: what to make.
    """
    rng, match, lineage = np.random.default_rng(order.recipe.seed), None, order.lineage
    rows = data.train
    if order.window is not None:
        lineage = lineage.with_window(order.window.live)
        if order.parent is not None:
            live = order.window.train.x
            match = match_window(order.parent, data.calibration, live, order.recipe.seed)
    change = None if match is None else match.apply
    for _ in range(order.recipe.corrupted_copies):
        x = data.train.x
        copies = random_benign(data.schema, x, rng)
        if change is not None:
            those = rng.random(len(x)) < MATCHED_SHARE
            copies[those] = change(x[those], rng)
        rows = rows.joined(Rows(copies, data.train.y))
    live_rows = lineage.live.get("train")
    if live_rows is not None:
        rows = rows.joined(weigh(live_rows, int(LIVE_SHARE * len(rows)), rng))
    if order.shuffle_labels:
        rows = Rows(rows.x, rng.permutation(rows.y))
    return Material(rows, lineage, match)


def weigh(live: LiveRows, wanted: int, rng: np.random.Generator) -> Rows:
    """Live rows with copies by age: about `wanted` rows in all, at most five copies of a row.

    Args:
        live: N rows.
        wanted: rows in all; where that takes less than one copy of the newest, they have one.
        rng: decides about parts of a copy.
    """
    weight = 0.5 ** live.age.astype(np.float64)
    copies = weight * float(np.clip(wanted / weight.sum(), 1.0, MOST_COPIES))
    whole = np.floor(copies)
    count: npt.NDArray[np.intp] = (whole + (rng.random(len(copies)) < copies - whole)).astype(
        np.intp
    )
    return live.rows.take(np.repeat(np.arange(len(count)), count))
