"""Laws of the paired comparison of two versions on the same requests."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate

from models.statistics.shadow import (
    THRESHOLD,
    Agreement,
    ShadowComparison,
    log_no_worse,
    log_worse,
)

STREAMS, LABELS = 1000, 3000


def pairs(
    rng: np.random.Generator, lost: float, won: float, size: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Whether champion and challenger were right: only the one, only the other, both."""
    u = rng.random(size)
    return u >= won, (u < won) | (u >= won + lost)


def ever(log_e: np.ndarray) -> float:
    """The share of streams that reach the threshold when every label is looked at."""
    return float((log_e.max(axis=1) >= np.log(THRESHOLD)).mean())


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_evidence_of_worse_is_the_integral_of_its_docstring(lost: int, won: int) -> None:
    n = lost + won
    value, _ = integrate.quad(lambda p: 2 * (2 * p) ** lost * (2 - 2 * p) ** won, 0.5, 1)
    assert np.isclose(float(np.exp(log_worse(lost, won))), value, rtol=1e-6), n


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 400))
def test_neither_evidence_grows_in_the_mean_where_its_claim_is_wrong(
    lost: int, won: int, alike: int
) -> None:
    """One more label: equal versions for `worse`, exactly 3 points worse for `no worse`."""
    fair = np.exp([log_worse(lost + 1, won), log_worse(lost, won + 1)]).mean()
    assert fair <= np.exp(log_worse(lost, won)) * (1 + 1e-9)
    for chance in (0.03, 0.05, 0.2):  # of only the champion right
        steps = np.array(
            [
                log_no_worse(lost + 1, won, alike),
                log_no_worse(lost, won + 1, alike),
                log_no_worse(lost, won, alike + 1),
            ]
        )
        chances = np.array([chance, chance - 0.03, 1.03 - 2 * chance])
        assert chances @ np.exp(steps) <= np.exp(log_no_worse(lost, won, alike)) * (1 + 1e-9)


def test_an_equal_challenger_is_seldom_called_worse_under_peeking_at_every_label() -> None:
    rng = np.random.default_rng(5)
    for discordant in (0.01, 0.03, 0.2):
        champion, challenger = pairs(rng, discordant / 2, discordant / 2, (STREAMS, LABELS))
        lost = np.cumsum(champion & ~challenger, axis=1)
        won = np.cumsum(challenger & ~champion, axis=1)
        assert ever(log_worse(lost, won)) <= 0.05
        naive = (lost - won)[:, 20:] > 1.645 * np.sqrt(np.maximum(lost + won, 1))[:, 20:]
        assert naive.any(axis=1).mean() > 0.1, "so the bound is no matter of course"


def test_a_challenger_three_points_worse_seldom_passes() -> None:
    rng = np.random.default_rng(6)
    for lost_share, won_share in ((0.03, 0.0), (0.05, 0.02), (0.13, 0.1)):
        champion, challenger = pairs(rng, lost_share, won_share, (STREAMS, LABELS))
        lost = np.cumsum(champion & ~challenger, axis=1)
        won = np.cumsum(challenger & ~champion, axis=1)
        alike = np.cumsum(champion == challenger, axis=1)
        assert ever(log_no_worse(lost, won, alike)) <= 0.05


def test_verdicts_come_soon_where_they_are_right() -> None:
    rng = np.random.default_rng(7)

    def labels_until(verdict: str, lost: float, won: float) -> float:
        needed = []
        for _ in range(100):
            made = ShadowComparison().update(*pairs(rng, lost, won, (LABELS,)))
            needed.append(made.labels if made.verdict == verdict else LABELS)
        return float(np.median(needed))

    assert labels_until("no worse", 0.015, 0.015) < 400
    assert labels_until("worse", 0.06, 0.01) < 200
    assert labels_until("worse", 0.11, 0.01) < 100
    agreement = Agreement()
    agreement = agreement.update(np.arange(300) % 200 == 199)
    assert agreement.shown
    assert not Agreement().update(np.arange(2000) % 20 == 0).shown, "5 % may lose 5 points"


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=120), st.integers(1, 9)
)
def test_a_verdict_does_not_depend_on_how_labels_are_cut(
    labels: list[tuple[bool, bool]], size: int
) -> None:
    champion, challenger = np.array(labels).T
    cut = ShadowComparison(margin=0.1)
    for start in range(0, len(labels), size):
        rows = slice(start, start + size)
        cut = cut.update(champion[rows], challenger[rows])
    assert cut == ShadowComparison(margin=0.1).update(champion, challenger)
