"""Laws of the label-free estimate: right on rows like the held-out, honest about its doubt."""

import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from models.statistics.arrays import Bools
from models.versions.runner import Answer
from monitoring.evidence.accuracy_estimate import SPREAD, STRANGE, Facts, Floats, estimate, evidence
from monitoring.scoring.accuracy_fit import Group, fit

ROOT = Path(__file__).parents[3]
SLOPES = np.array([0.6, -1.5, 0.2])


def rows(n: int, ease: float, rng: np.random.Generator) -> tuple[Floats, Bools]:
    """Evidence of a classifier that is the surer the easier its rows, and whether it was right."""
    top = rng.normal(3 + ease, 1.5, n)
    scores = np.column_stack([top, np.log1p(np.exp(-top)), np.log(rng.uniform(1e-3, 1, n))])
    return scores, rng.random(n) < expit(1 + scores @ SLOPES)


def groups(rng: np.random.Generator, rows_of_each: int = 100) -> list[Group]:
    """Six kinds at three severities."""
    return [
        Group(f"kind{kind}", *rows(rows_of_each, -0.5 * severity - 0.1 * kind, rng))
        for kind in range(6)
        for severity in range(3)
    ]


def made(seed: int, n: int = 2000) -> Facts:
    """Facts of one version."""
    rng = np.random.default_rng(seed)
    facts = Facts.of(fit(*rows(n, 0.5, rng), groups(rng), seed=seed))
    assert facts is not None
    return facts


@given(n=st.integers(10, 300), wrong=st.integers(0, 10), seed=st.integers(0, 99))
@settings(max_examples=15)
def test_mean_over_the_clean_held_out_rows_is_their_accuracy(n: int, wrong: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, _ = rows(n, 0.5, rng)
    right = rng.permutation(n) >= wrong
    facts = Facts.of(fit(scores, right, groups(rng, 20)))
    assert facts is not None
    assert facts.right(scores).mean() == pytest.approx((right.sum() + 0.5) / (n + 1), abs=1e-6)


def test_estimate_is_unbiased_on_fresh_rows_like_the_held_out_and_its_interval_covers() -> None:
    errors, covered = [], 0
    for seed in range(25):
        facts, rng = made(seed), np.random.default_rng(1000 + seed)
        scores, right = rows(800, 0.5, rng)
        told = estimate(facts, scores, np.full(800, 0.5))
        assert told is not None
        errors.append(told.value - right.mean())
        covered += told.low <= right.mean() <= told.high
    assert abs(np.mean(errors)) < 3 * np.std(errors) / 5
    assert abs(np.mean(errors)) < 0.006
    assert covered >= 23


def test_tied_entropies_do_not_bias_it() -> None:
    rng = np.random.default_rng(0)
    scores, _ = rows(400, 0.5, rng)
    scores[:, 1] = np.round(scores[:, 1])
    for wrong in (20, 150, 350):
        facts = Facts.of(fit(scores, rng.permutation(400) >= wrong, []))
        assert facts is not None
        assert facts.right(scores).mean() == pytest.approx(1 - wrong / 400, abs=0.003)


@given(strange=st.floats(0, 1), n=st.integers(1, 400), seed=st.integers(0, 50))
@settings(max_examples=25)
def test_interval_holds_the_value_and_its_low_end_counts_strange_requests_as_wrong(
    strange: float, n: int, seed: int
) -> None:
    facts, rng = made(1, 300), np.random.default_rng(seed)
    scores, _ = rows(n, 0.5, rng)
    p = np.where(rng.random(n) < strange, STRANGE / 2, 0.5)
    told = estimate(facts, scores, p)
    assert told is not None
    assert 0 <= told.low <= told.value <= told.high <= 1
    assert told.low <= (p >= STRANGE).mean() + 1e-4
    assert told.n == n


def test_estimate_is_not_trustworthy_while_a_channel_has_an_alarm_and_says_which() -> None:
    facts = made(2, 300)
    scores, _ = rows(200, 0.5, np.random.default_rng(0))
    quiet = estimate(facts, scores, np.full(200, 0.5))
    loud = estimate(facts, scores, np.full(200, 0.5), ["energy", "mean"])
    assert quiet is not None
    assert loud is not None
    assert (quiet.trustworthy, quiet.why) == (True, "")
    assert not loud.trustworthy
    assert "energy, mean" in loud.why
    assert loud.value == quiet.value


def test_few_rows_without_a_mistake_are_not_certain() -> None:
    rng = np.random.default_rng(0)
    scores, _ = rows(30, 3.0, rng)
    facts = Facts.of(fit(scores, np.ones(30, dtype=bool), []))
    assert facts is not None
    told = estimate(facts, np.tile(scores, (100, 1)), np.full(3000, 0.5))
    assert told is not None
    assert told.low < 0.97 < told.value


def test_corruptions_that_ruin_the_model_are_left_out() -> None:
    rng = np.random.default_rng(3)
    scores, right = rows(500, 0.5, rng)
    mild = groups(rng)
    ruined = Group("ruined", scores[:100], np.zeros(100, dtype=bool))
    one, two = (fit(scores, right, each, seed=1) for each in (mild, [*mild, ruined]))
    np.testing.assert_array_equal(one["accuracy/weights"], two["accuracy/weights"])


def test_spread_grows_where_kinds_disagree() -> None:
    rng = np.random.default_rng(4)
    scores, right = rows(2000, 0.5, rng)
    alike = fit(scores, right, groups(rng, 400))[SPREAD][0]
    apart = [Group(g.kind, g.evidence, g.right) for g in groups(rng, 400)]
    for group in apart[::3]:  # sure of themselves, and wrong
        group.right[:50] = False
    assert fit(scores, right, apart)[SPREAD][0] > alike + 0.03


def test_fit_is_the_same_with_the_same_seed() -> None:
    one, two = (fit(*rows(200, 0.5, np.random.default_rng(0)), [], seed=3) for _ in range(2))
    for name, array in one.items():
        np.testing.assert_array_equal(array, two[name])


def test_evidence_of_extreme_answers_is_finite() -> None:
    p = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]], dtype=np.float32)
    zeros = np.zeros(3, dtype=np.float32)
    told = evidence(Answer(p, zeros, zeros, zeros, np.zeros((3, 1), dtype=np.int32), zeros))
    assert np.isfinite(told).all()
    assert told[1] == pytest.approx([0, np.log(2), np.log(1e-6)])


def test_versions_without_labels_and_streams_without_requests_have_no_estimate() -> None:
    assert Facts.of({"energy/alpha": np.ones(3)}) is None
    assert estimate(made(0, 100), np.empty((0, 3)), np.empty(0)) is None


def test_nothing_that_decides_knows_the_estimate() -> None:
    """Triggers, gates, probation and rollback must not rest on it."""
    deciding = ("triggers", "lifecycle", "child", "jobs", "webhook", "performance")
    files = [next((ROOT / "monitoring").rglob(f"{name}.py")) for name in deciding]
    gates = [*(ROOT / "models" / "evaluation" / "gates").glob("*.py")]
    assert len(gates) > 5
    for path in [*files, *gates]:
        imported = {
            name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in [getattr(node, "module", ""), *(alias.name for alias in node.names)]
        }
        assert not any("accuracy_" in str(name) or "label_shift" in str(name) for name in imported)
