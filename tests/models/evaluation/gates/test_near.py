"""Near-copies count once: whoever repeats rows neither passes poison nor blackens a window."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from torch import nn

from models.data import DataSet, Rows
from models.evaluation.gates import referee
from models.evaluation.gates.contradictions import judge_labels, number_contents
from models.evaluation.gates.near import Nearness, fit_nearness, number_near

COPIES = 40


def test_rows_are_joined_by_their_first_and_not_in_chains() -> None:
    line = np.arange(6.0)[:, None]
    assert number_near(line, np.zeros(6, np.int64), 1.0).tolist() == [0, 0, 2, 2, 4, 4]
    assert number_near(line, np.arange(6), 9.0).tolist() == list(range(6)), "other labels"
    assert number_near(line[:0], np.zeros(0, np.int64), 1.0).shape == (0,)


def test_a_data_set_with_equal_rows_has_no_radius() -> None:
    x = np.repeat(np.random.default_rng(0).normal(size=(50, 4)), 4, axis=0).astype(np.float32)
    rows = Rows(x, np.zeros(200, np.int64))
    assert fit_nearness(lambda x: x, rows).radius == 0.0


@pytest.fixture(scope="module")
def tuned(digits: DataSet, anchor: nn.Module) -> nn.Module:
    return referee.fine_tune(anchor, digits.schema, digits.train, 3)


@pytest.fixture(scope="module")
def near(digits: DataSet, tuned: nn.Module) -> Nearness:
    held = digits.calibration.joined(digits.test)
    return fit_nearness(partial(referee.features_of, tuned, digits.schema), held)


def _darker(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return x * (1 - 0.05 * rng.random((len(x), 1, 1, 1)))


def _noisy(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.clip(x + 0.02 * rng.standard_normal(x.shape), 0, 1)


def copies_of(digits: DataSet, rows: Rows, change: Callable[..., np.ndarray]) -> Rows:
    """Forty near-copies of each row."""
    again = rows.take(np.repeat(np.arange(len(rows)), COPIES))
    x = change(digits.schema.to_unit(again.x), np.random.default_rng(5))
    return Rows(digits.schema.from_unit(x.astype(np.float32)), again.y)


@pytest.mark.parametrize("change", [_darker, _noisy])
def test_near_copies_are_one_row_and_honest_rows_are_many(
    change: Callable[..., np.ndarray], digits: DataSet, near: Nearness
) -> None:
    few = digits.test.take(np.arange(20))
    assert len(np.unique(near.number(*_parts(copies_of(digits, few, change))))) <= 22
    held = digits.calibration.joined(digits.test)
    for rows in (
        held,
        Rows(np.clip(0.9 * held.x + 0.8, 0, 16), held.y),
        Rows(0.4 * held.x, held.y),
    ):
        assert len(np.unique(near.number(rows.x, rows.y))) > 0.95 * len(rows)


@pytest.mark.parametrize("light", [0.4, 0.2, 0.1, 0.05])
def test_in_the_dark_honest_rows_are_many(light: float, digits: DataSet, near: Nearness) -> None:
    """At a twentieth of the light all rows of a class lie within the radius of full light."""
    held = digits.calibration.joined(digits.test)
    dark = (light * held.x).astype(held.x.dtype)
    assert len(np.unique(near.number(dark, held.y))) > 0.95 * len(held)
    mixed = np.where(np.arange(len(held))[:, None, None, None] % 2, dark, held.x)
    assert len(np.unique(near.number(mixed, held.y))) > 0.95 * len(held), "half of them in the dark"


def test_rows_without_a_spread_are_not_joined(digits: DataSet, near: Nearness) -> None:
    """One row of each class says nothing of how far others are: only equal rows are one."""
    one = digits.test.take(np.unique(digits.test.y, return_index=True)[1])
    assert near.number(*_parts(one)).tolist() == list(range(10))
    assert len(np.unique(near.number(*_parts(one.joined(one))))) == 10
    assert near.number(*_parts(one.take(np.zeros(0, np.int64)))).shape == (0,)


def test_a_feature_that_was_dead_tells_nothing_when_it_wakes() -> None:
    """Constant features, of zeros or of large numbers, neither part copies nor end the radius."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 4)).astype(np.float32), np.zeros(400, np.int64)
    wake = np.zeros(1)

    def embed(x: np.ndarray) -> np.ndarray:
        rest = [wake * rng.random((len(x), 1)), np.full((len(x), 1), 1000.0)]
        return np.concatenate([x, *rest], axis=1).astype(np.float32)

    near = fit_nearness(embed, Rows(x, y))
    assert near.radius > 0.01
    wake[0] = 1e-4
    copies = np.repeat(x[:20], 40, axis=0) + 1e-3 * rng.normal(size=(800, 4)).astype(np.float32)
    assert len(np.unique(near.number(copies, np.zeros(800, np.int64)))) <= 22
    assert fit_nearness(lambda x: 0 * x, Rows(x, y)).radius == 0.0, "no feature tells anything"


def test_many_rows_of_a_label_are_numbered_as_one_by_one() -> None:
    """Rows are compared in blocks; the first of a number is the one that a plain loop finds."""
    rng = np.random.default_rng(2)
    x, radii = rng.normal(size=(700, 3)), 0.4 * rng.random(700)
    leaders: list[int] = []
    plain: list[int] = []
    for k, row in enumerate(x):
        near = [m for m in leaders if np.linalg.norm(x[m] - row) <= radii[k]]
        plain.append(near[0] if near else k)
        leaders += [] if near else [k]
    assert number_near(x, np.zeros(700, np.int64), radii).tolist() == plain


@pytest.mark.parametrize("change", [_darker, _noisy])
def test_copies_blacken_no_honest_window(
    change: Callable[..., np.ndarray], digits: DataSet, tuned: nn.Module, near: Nearness
) -> None:
    """Copies of rows that the referee mistakes, from everybody: nobody stands out by them."""
    held = digits.calibration.joined(digits.test)
    p = referee.probabilities_of(tuned, digits.schema, held.x)
    odd = np.flatnonzero((p.argmax(axis=1) != held.y) & (p.max(axis=1) > 0.6))[:4]
    assert len(odd) == 4
    copies = copies_of(digits, held.take(odd), change)
    joined = held.joined(copies)
    clients = [f"c{k % 9}" for k in range(len(joined))]
    assert verdict(digits, tuned, joined, clients, number_contents) != "pass", "as equal rows only"
    assert verdict(digits, tuned, joined, clients, near.number) == "pass"


@pytest.mark.parametrize("change", [_darker, _noisy])
def test_near_copies_of_good_rows_wash_no_poison_white(
    change: Callable[..., np.ndarray], digits: DataSet, tuned: nn.Module, near: Nearness
) -> None:
    """Flips that fail alone fail beside two thousand copies of rows whose labels are right."""
    held, rng = digits.calibration.joined(digits.test), np.random.default_rng(7)
    y = np.where(rng.random(len(held)) < 0.2, rng.integers(0, 10, len(held)), held.y)
    poisoned = Rows(held.x, y)
    alone = [f"c{k % 9}" for k in range(len(held))]
    assert verdict(digits, tuned, poisoned, alone, number_contents) != "pass"
    copies = copies_of(digits, digits.train.take(np.arange(50)), change)
    joined = poisoned.joined(copies)
    clients = alone + [f"c{k % 9}" for k in range(len(copies))]
    assert verdict(digits, tuned, joined, clients, number_contents) == "pass", "they do work there"
    assert verdict(digits, tuned, joined, clients, near.number) != "pass"


def verdict(
    digits: DataSet,
    tuned: nn.Module,
    rows: Rows,
    clients: list[str],
    number: Callable[..., np.ndarray],
) -> str:
    """What the referee says of a window where rows with one number count once."""
    held = digits.calibration.joined(digits.test)
    usual = referee.count_usual(tuned, digits.schema, held, 3)
    p = referee.probabilities_of(tuned, digits.schema, rows.x)
    numbers = number(rows.x, rows.y)
    return judge_labels(p, rows.y, digits.classes, usual, clients, numbers).check.verdict


def _parts(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    return rows.x, rows.y
