"""Laws of the bets: fair against their reference, positive everywhere, true to their words."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from monitoring.evidence.bets import (
    ChannelReference,
    ChannelReferenceError,
    class_tilts,
    fit_tilts,
    score_bets,
    score_tilts,
    spread_rows,
)
from tests.monitoring.evidence.test_urn import matrix
from tests.monitoring.streams import Score

score_weights = st.lists(st.integers(0, 400), min_size=2, max_size=80).filter(
    lambda weights: sum(weight > 0 for weight in weights) >= 2
)
class_weights = st.lists(st.floats(0.01, 1e4), min_size=2, max_size=12)


@given(score_weights)
def test_score_bets_are_fair_and_positive_for_any_reference(weights: list[int]) -> None:
    alpha = np.array(weights, dtype=float)
    bets, tau = score_tilts(alpha)
    assert tau.shape == (len(bets), len(alpha)) == (46, len(alpha))
    assert (tau > 0).all()
    np.testing.assert_allclose(tau @ alpha / alpha.sum(), 1, rtol=1e-12)


@given(class_weights)
def test_class_bets_are_fair_and_positive_for_any_reference(weights: list[float]) -> None:
    alpha = np.array(weights)
    bets, compact = class_tilts(alpha, tuple(map(str, range(len(alpha)))))
    tau = matrix(compact)
    assert len(bets) == len(tau) >= 2 * len(alpha)
    assert (tau > 0).all()
    np.testing.assert_allclose(tau @ alpha / alpha.sum(), 1, rtol=1e-12)


@pytest.mark.parametrize("n", [100, 360, 5000])
def test_score_bets_average_their_density_exactly_over_each_cell(n: int) -> None:
    alpha = Score("energy", np.arange(n, dtype=float)).reference.alpha
    _, tau = score_tilts(alpha)
    edges = np.concatenate([[0], np.cumsum(alpha)]) / alpha.sum()
    slope_up, slope_down, *_ = tau  # 1 - e (u - 1/2) and its mirror, e = .25
    for cell in np.flatnonzero(alpha)[[0, 7, -1]]:
        a, b = edges[cell], edges[cell + 1]
        average = quad(lambda u: 1 - 0.25 * (u - 0.5), a, b)[0] / (b - a)
        assert slope_up[cell] == pytest.approx(average, rel=1e-9)
        assert slope_up[cell] + slope_down[cell] == pytest.approx(2, rel=1e-9)


def test_every_score_bet_has_an_increasing_distribution_and_holds_what_its_words_say() -> None:
    u = np.linspace(0, 1, 2001)
    for bet, cdf in score_bets():
        values = cdf(u)
        assert values[0] == pytest.approx(0, abs=1e-12)
        assert values[-1] == pytest.approx(1, abs=1e-12)
        assert (np.diff(values) > 0).all()
        top = float(cdf(np.array([0.1]))[0])
        bottom = float(1 - cdf(np.array([0.9]))[0])
        assert {
            "higher": top > 0.1 > bottom,
            "lower": top < 0.1 < bottom,
            "tails": min(top, bottom) > 0.1,
            "middle": max(top, bottom) < 0.1,
        }[bet.direction], bet.words
        share = re.search(r"(top|bottom) ([\d.]+) % holds ([\d.]+)x", bet.words)
        if share:
            q, ratio = float(share[2]) / 100, float(share[3])
            held = cdf(np.array([q]))[0] if share[1] == "top" else 1 - cdf(np.array([1 - q]))[0]
            assert held / q == pytest.approx(ratio, rel=0.03), bet.words
        half = re.search(r"(top|bottom|outer|inner) half holds ([\d.]+) %", bet.words)
        if half:
            quarter, middle, rest = cdf(np.array([0.25, 0.5, 0.75]))
            inner = rest - quarter
            held = {"top": middle, "bottom": 1 - middle, "outer": 1 - inner, "inner": inner}
            assert 100 * held[half[1]] == pytest.approx(float(half[2]), abs=0.51), bet.words
        assert share or half


def test_class_bets_move_one_class_and_keep_the_proportions_of_the_others() -> None:
    alpha = np.array([60.0, 30.0, 10.0])
    bets, found = fit_tilts(ChannelReference("class", "class", alpha, ("cat", "dog", "owl")))
    tau = matrix(found)
    words = [bet.words for bet in bets]
    assert "class cat at twice its share" not in words  # 120 % of all requests
    row = tau[words.index("class owl at a fifth of its share")]
    assert row[2] == pytest.approx(0.2)
    assert row[0] == pytest.approx(row[1])
    assert bets[words.index("class dog at twice its share")].direction == "share up"
    assert bets[words.index("class dog at half its share")].direction == "share down"


@pytest.mark.parametrize(
    ("kind", "labels"),
    [("category", ("a", "b", "unseen", "missing")), ("score", ("00", "01", "02", "missing"))],
)
def test_rare_cells_are_bet_on_by_share_of_all_requests(kind: str, labels: tuple[str, ...]) -> None:
    alpha = np.array([600.0, 350.0, 0.5, 0.5])
    bets, found = fit_tilts(ChannelReference("column:city", kind, alpha, labels))  # type: ignore[arg-type]
    tau = matrix(found)
    np.testing.assert_allclose(tau @ alpha / alpha.sum(), 1, rtol=1e-12)
    assert (tau > 0).all()
    says = "column:city: missing" if kind == "category" else "missing values"
    row = [bet.words for bet in bets].index(f"{says} at 20 % of the requests")
    assert tau[row, 3] * alpha[3] / alpha.sum() == pytest.approx(0.2)
    assert bets[row].direction == "share up"
    plain, _ = score_tilts(alpha)
    assert (len(bets) == len(plain) + 5 + 3) == (kind == "score")
    assert not any("b at 20 %" in bet.words for bet in bets), "what is common has its multiples"


@pytest.mark.parametrize(
    ("kind", "alpha", "labels", "says"),
    [
        ("score", [[1.0, 2.0]], ("a",), "finite weights"),
        ("score", [1.0, -2.0], ("a", "b"), "finite weights"),
        ("score", [1.0, np.nan], ("a", "b"), "finite weights"),
        ("score", [1.0, 0.0], ("a", "b"), "two or more cells"),
        ("class", [1.0, 0.0, 3.0], ("a", "b", "c"), "class 'b' weighs 0"),
        ("class", [1.0, 2.0], ("a",), "1 labels for 2 cells"),
        ("histogram", [1.0, 2.0], ("a", "b"), "expected 'score', 'class' or 'category'"),
    ],
)
def test_reference_refuses_weights_that_carry_no_urn(
    kind: str, alpha: list[float], labels: tuple[str, ...], says: str
) -> None:
    with pytest.raises(ChannelReferenceError, match=says):
        ChannelReference("energy", kind, np.array(alpha), labels)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "groups", "labels", "says"),
    [
        ("class", (1, 1), ("a", "b"), "the predicted class has no groups"),
        ("score", (1, 1), ("missing", "missing"), "a cell 'missing' in every group"),
        ("score", (1, 1), ("00", "missing"), "a cell 'missing' in every group"),
        ("category", (1, 1), ("red", "blue"), "the same categories in every group"),
        ("score", (1, 2), ("00", "01"), "expected 2 in all"),
        ("score", (2, 0), ("00", "01"), "expected 2 in all"),
    ],
)
def test_reference_refuses_groups_that_do_not_fit(
    kind: str, groups: tuple[int, ...], labels: tuple[str, ...], says: str
) -> None:
    with pytest.raises(ChannelReferenceError, match=says):
        ChannelReference("energy", kind, np.array([1.0, 2.0]), labels, groups)  # type: ignore[arg-type]
    with pytest.raises(ChannelReferenceError, match="a group weighs 0"):
        ChannelReference("energy", "score", np.array([1.0, 2.0, 0.0]), ("",) * 3, (2, 1))


def test_bets_on_ranks_hold_within_every_group() -> None:
    one, other = np.full(20, 5.0), np.array([3.0, 0.0, 8.0])
    reference = ChannelReference(
        "energy", "score", np.concatenate([one, other, [1.0]]), ("",) * 24, (20, 3, 1)
    )
    bets, found = fit_tilts(reference)
    tau = matrix(found)
    np.testing.assert_array_equal(tau[:, :20], score_tilts(one)[1])
    np.testing.assert_array_equal(tau[:, 20:23], score_tilts(other)[1])
    np.testing.assert_array_equal(tau[:, 23], 1)
    rows, _ = spread_rows(reference, bets, found)
    assert rows is not None
    for span in reference.spans:  # how many requests a group gets is worth nothing
        np.testing.assert_allclose(rows[:, span] @ reference.alpha[span], 0, atol=1e-9)


@given(
    st.lists(st.lists(st.floats(0.01, 1e4), min_size=3, max_size=3), min_size=2, max_size=4),
    st.sampled_from(["category", "score"]),
)
def test_bets_on_shares_are_fair_in_every_group(weights: list[list[float]], kind: str) -> None:
    names = ("a", "b", "unseen") if kind == "category" else ("00", "01", "missing")
    reference = ChannelReference(
        "column:c", kind, np.concatenate(weights), names * len(weights), (3,) * len(weights)
    )  # type: ignore[arg-type]
    bets, found = fit_tilts(reference)
    tau = matrix(found)
    assert tau.shape == (len(bets), 3 * len(weights))
    assert (tau > 0).all()
    assert (tau != 1).any(axis=1).all(), "a bet on nothing"
    rows, row_of = spread_rows(reference, bets, found)
    assert rows is not None
    assert len(row_of) == len(bets)
    for span in reference.spans:
        alpha = reference.alpha[span]
        np.testing.assert_allclose(tau[:, span] @ alpha / alpha.sum(), 1, rtol=1e-9)
        np.testing.assert_allclose(rows[:, span] @ alpha / alpha.sum(), 0, atol=1e-9)


def test_a_bet_on_a_category_is_made_in_every_class_that_has_room_for_it() -> None:
    alpha = np.array([70.0, 30.0, 0.5, 30.0, 70.0, 0.5])
    reference = ChannelReference("column:c", "category", alpha, ("a", "b", "unseen") * 2, (3, 3))
    bets, found = fit_tilts(reference)
    tau = matrix(found)
    words = [bet.words for bet in bets]
    more = tau[words.index("column:c: a at twice its share")]
    assert (more[:3] == 1).all(), "140 % of the class"
    assert more[3] == pytest.approx(2)
    rare = tau[words.index("column:c: unseen at 20 % of the requests")]
    for own in (slice(0, 3), slice(3, 6)):
        assert rare[own][2] * alpha[own][2] / alpha[own].sum() == pytest.approx(0.2)
    assert "column:c: a at four times its share" not in words


def test_reference_keeps_its_own_read_only_copy() -> None:
    given_alpha = np.array([1.0, 2.0])
    reference = ChannelReference("energy", "score", given_alpha, ("a", "b"))
    given_alpha[0] = 9
    assert reference.alpha[0] == 1
    with pytest.raises(ValueError, match="read-only"):
        reference.alpha[0] = 9
