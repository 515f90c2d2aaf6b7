"""Laws of the sentences: words follow the intervals, and nothing is rounded into a lie."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.reporting import numbers, robustness, shortfalls, summary
from models.statistics.intervals import proportion
from models.statistics.shares import Proportion
from models.versions.figures import AttackFigure, CorruptionError
from models.versions.schema import Calibration
from tests.models.report_example import read

COUNTS = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def record(right: int, n: int) -> Proportion:
    return proportion(np.arange(n) < right)


def share(right: int, n: int) -> dict[str, Any]:
    """The same as it stands in `report.json`."""
    return msgspec.to_builtins(record(right, n))


SHARES = COUNTS.map(lambda pair: record(*pair))
ATTACKS = (("weak", 8), ("strong", 3))
GOOD, BAD = share(194, 200), share(60, 200)
ATTACKED = {"attack": "pgd", "eps": 0.1}


def test_difference_is_that_of_newcombe() -> None:
    # Newcombe 1998, example (a): 56 of 70 against 48 of 80, method 10.
    gap = summary.difference(record(56, 70), record(48, 80))
    assert gap is not None
    assert (gap.value, gap.low, gap.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=2e-4)


@given(SHARES, SHARES)
def test_worse_and_better_are_said_only_if_the_interval_says_so(
    now: Proportion, before: Proportion
) -> None:
    gap = summary.difference(now, before)
    said = summary.compare_shares("Clean accuracy", now, before, "the previous champion")
    assert gap is not None
    assert said is not None
    assert gap.low <= gap.value + 1e-9
    assert gap.value <= gap.high + 1e-9
    assert ("is worse than" in said) == (gap.high < 0)
    assert ("is better than" in said) == (gap.low > 0)
    assert ("cannot be told apart" in said) == (gap.low <= 0 <= gap.high)


@given(SHARES, SHARES)
def test_better_one_way_is_worse_the_other_way(a: Proportion, b: Proportion) -> None:
    there, back = summary.difference(a, b), summary.difference(b, a)
    assert there is not None
    assert back is not None
    opposite = {"better": "worse", "worse": "better", "same": "same"}
    assert opposite[there.verdict] == back.verdict


@given(SHARES, SHARES)
def test_worse_than_before_falls_short_and_nothing_else_does(
    now: Proportion, before: Proportion
) -> None:
    figures = {
        "clean": msgspec.to_builtins(now),
        "previous": {"version": 4, "clean": msgspec.to_builtins(before)},
    }
    gap = summary.difference(now, before)
    assert gap is not None
    short = any("worse than the previous champion (version 4)" in s for s in _short(figures))
    assert short == (gap.verdict == "worse")


@given(st.floats(0, 1))
def test_no_share_is_rounded_to_all_or_nothing(value: float) -> None:
    said = numbers.of_100(value)
    assert (said == "100") == (100 * value == 100)
    assert (said == "0") == (value == 0)


@pytest.mark.parametrize(
    ("threat", "kind", "words"),
    [
        ({"norm": "linf", "eps": 0.15}, "image", "change every value by 0.15 of its range"),
        ({"norm": "l2", "eps": 0.5}, "image", "whole change may have length 0.5"),
        ({"norm": "linf", "eps": 0.1}, "tabular", "every number by 0.1 of its column's range"),
        ({"norm": "linf", "eps": 0.1, "columns": {"age": 0.0}}, "tabular", "of their own for age"),
        ({"eps": 0.3}, "image", "change every value by 0.3 of its range"),
    ],
)
def test_the_attacker_is_named_by_the_threat(threat: dict[str, Any], kind: str, words: str) -> None:
    assert words in summary.attacker(read({"threat": threat, "eps": threat["eps"]}), kind)


def test_sizes_on_bytes_are_fractions_of_255() -> None:
    assert "8/255 of its range" in summary.attacker(read({"eps": 8 / 255}), "image", 255)


def test_other_attacks_on_the_previous_champion_are_told() -> None:
    before = {"version": 2, "clean": GOOD, "robust": GOOD | {"attack": "pgd", "eps": 0.1}}
    figures = {"robust": BAD | {"attack": "apgd", "eps": 0.1}, "previous": before}
    for said in (" ".join(summary.against(read(figures))), " ".join(_short(figures))):
        assert "worse than the previous champion (version 2)" in said
        assert "The attacks were not the same; then: pgd." in said
    same = figures | {"robust": BAD | {"attack": "pgd", "eps": 0.1}}
    assert "not the same" not in " ".join(summary.against(read(same)))


def test_headline_says_the_figures() -> None:
    robust = BAD | {"attack": "apgd-ce + square", "eps": 0.1}
    figures = {"clean": GOOD, "robust": robust, "eps": 0.1}
    assert (
        summary.title(read(figures))
        == "Right on 97 of 100 clean rows, and on 30 of 100 under attack"
    )
    lead = " ".join(summary.lead(read(figures)))
    for p in (GOOD, BAD):
        assert f"{p['low']:.1%} to {p['high']:.1%}" in lead
    assert "under the worst of apgd-ce and square." in lead
    assert "under square." in " ".join(
        summary.lead(read(figures | {"robust": robust | {"attack": "square"}}))
    )


def test_a_black_box_is_told_as_one() -> None:
    robust = BAD | {"attack": "square", "eps": 0.1}
    figures = {"clean": GOOD, "robust": robust, "eps": 0.1, "black_box": True}
    assert any("no gradients" in line for line in summary.lead(read(figures)))
    assert any("upper bound" in line for line in summary.limits(read(figures)))
    assert not any("gradients" in s for s in summary.limits(read(figures | {"black_box": False})))


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.8, 0.95, "fewer"), (0.8, 1.01, "cannot be told apart"), (1.02, 1.2, "more errors")],
)
def test_corruption_error_is_told_by_its_interval(low: float, high: float, word: str) -> None:
    mce = {"value": (low + high) / 2, "low": low, "high": high, "n": 300}
    error = msgspec.convert(mce, CorruptionError)
    assert word in (summary.corruption_error(error, "the previous champion") or "")
    assert any("more errors" in s for s in _short({"clean": GOOD, "mce": mce})) == (low > 1)


def test_half_of_the_rows_lost_under_attack_falls_short_only_if_the_interval_says_so() -> None:
    wrong = "wrong more often than right"
    assert any(wrong in s for s in _short({"robust": share(60, 200) | ATTACKED}))
    assert not any(wrong in s for s in _short({"robust": share(98, 200) | ATTACKED}))


def test_a_class_is_weak_only_if_its_interval_lies_below_the_whole() -> None:
    figures = {"clean": GOOD, "classes": {"a": share(50, 100), "b": share(3, 4), "c": GOOD}}
    (line,) = [s for s in _short(figures) if "classes" in s]
    assert "a (50.0%)" in line
    assert "b (" not in line


def test_only_attacks_not_trained_on_are_held_against_the_score() -> None:
    weak = {"attack": "square", "auroc": 0.6, "trained_on": False, "low": 0.5, "high": 0.7}
    weak |= {"n": 90}
    assert any("square" in s for s in _short({"scores": {"roc": [weak]}}))
    assert not _short({"scores": {"roc": [weak | {"trained_on": True}]}})
    assert not _short({"scores": {"roc": [weak | {"high": 0.85}]}})


def test_sure_and_unflagged_on_noise_falls_short() -> None:
    case = {"name": "noise", "confidence": 0.99, "drift_flagged": 0.1, "finite": True, "n": 64}
    assert any("noise (confidence 99.0%" in s for s in _short({"edge_cases": [case]}))
    assert not _short({"edge_cases": [case | {"drift_flagged": 0.9}]})
    assert not _short({"edge_cases": [case | {"confidence": 0.4}]})


def test_stress_counts_only_where_it_costs_and_goes_unnoticed() -> None:
    item = {"name": "unit_change", "severity": 5, **BAD, "drift_flagged": 0.1}
    figures = {"clean": GOOD, "stress": [item, item | {"severity": 4}]}
    (line,) = _short(figures)
    assert line.count("unit change") == 1
    assert not _short({"clean": GOOD, "stress": [item | {"drift_flagged": 0.8}]})
    assert not _short({"clean": GOOD, "stress": [item | GOOD]})


def test_checks_are_those_of_the_evaluation_and_those_of_the_figures() -> None:
    scores = {
        "false_positives_expected": [0, 5],
        "drift_false_positives": share(9, 200),
        "perturbation_false_positives": share(3, 200),
    }
    attacks = [{"attack": "square", "eps": 0.1, **share(20, 200)}]
    figures = {
        "masking": [{"name": "more_steps", "passed": False, "detail": "it rises"}],
        "scores": scores,
        "eps": 0.1,
        "robust": BAD | ATTACKED,
        "attacks": attacks,
    }
    found = {f.name: f for f in shortfalls.findings(read(figures))}
    assert found["more steps"].detail == "It rises."
    assert found["clean rows flagged as drift"].passed is False
    assert found["clean rows flagged as perturbed"].passed is True
    assert found["robust accuracy is the worst case"].passed is False
    (line,) = [s for s in _short(figures) if "sanity check" in s]
    for name, finding in found.items():
        assert (name in line) == (finding.passed is False)


@pytest.mark.parametrize(
    ("sizes", "far"),
    [((0.01, 0.02, 0.04, 1.0), 1.0), ((0.1, 0.2, 0.3, 0.5), None), ((0.1, 1), None)],
)
def test_an_end_far_beyond_the_curve_is_told_and_not_drawn(
    sizes: tuple[float, ...], far: float | None
) -> None:
    points = [
        AttackFigure(*record(n, 9).parts, attack=name, eps=e) for e in sizes for name, n in ATTACKS
    ]
    end = robustness.far_end(points)
    assert (end and (end.eps, end.attack)) == (far and (far, "strong"))


def test_checks_that_were_not_run_are_not_called_passed() -> None:
    (finding,) = shortfalls.findings(read({}))
    assert finding.passed is None
    assert not _short({})


@pytest.mark.parametrize(
    ("n", "alpha", "silent"),
    [(98, 0.01, False), (99, 0.01, True), (19, 0.05, True), (18, 0.05, False)],
)
def test_too_few_calibration_rows_to_flag_any_are_told(n: int, alpha: float, silent: bool) -> None:
    held = Calibration(n, alpha, 1.0, 1.0, "held-out rows", 1.0, 0.05, 10)
    assert (not shortfalls.shortfalls(read({}), held)) == silent
    # The law behind it: the smallest conformal p-value is 1 / (n + 1).
    assert (1 / (n + 1) <= alpha) == silent


def _short(figures: dict[str, Any]) -> list[str]:
    return shortfalls.shortfalls(read(figures))


def test_naming_the_most_frequent_class_is_told_only_where_it_would_do_as_well() -> None:
    even = {"a": share(10, 50), "b": share(0, 50)}
    assert any("always naming" in s for s in _short({"clean": share(52, 100), "classes": even}))
    assert not any("always naming" in s for s in _short({"clean": share(90, 100), "classes": even}))
    skewed = {"a": share(90, 95), "b": share(0, 5)}
    assert any("always naming" in s for s in _short({"clean": share(90, 100), "classes": skewed}))
