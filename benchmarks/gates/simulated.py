"""Simulated challengers: equal ones, slightly worse ones, and canaries that are fair."""

from collections import Counter

import numpy as np

from models.evaluation.gates.accuracy import class_accuracy, clean_accuracy
from models.evaluation.gates.checks import Bounds
from models.statistics.arrays import Bools
from models.statistics.comparing import fallback_alpha
from models.statistics.shadow import ShadowComparison


def pair(n: int, loss: float, discordant: float, rng: np.random.Generator) -> tuple[Bools, Bools]:
    """Right rows of an anchor and of a challenger that is `loss` worse."""
    lost, won = (discordant + loss) / 2, (discordant - loss) / 2
    assert won <= 0.05, "the anchor is wrong on as many rows only"
    u = rng.random(n)
    before = u < 0.95
    after = np.where(u < lost, False, np.where(u > 1 - won, True, before))
    return before, after


def simulate_attempts(runs: int = 400) -> None:
    """The clean gate under many tries: equal, 3 points worse, and small steps down."""
    rng, bounds = np.random.default_rng(11), Bounds()
    for n in (360, 1000):
        equal = Counter(
            clean_accuracy(*pair(n, 0.0, 0.03, rng), bounds, fallback_alpha(1)).verdict
            for _ in range(2000)
        )
        slipped, losses = 0, []
        for _ in range(runs):
            slipped += any_passes(n, 0.03, bounds, rng)
            losses.append(small_steps(n, bounds, rng))
        print(
            f"clean gate, n = {n}: equal, first try {dict(equal)}; any of 20 tries of one 3 points "
            f"worse passes {slipped / runs:.1%}; 20 challengers a point worse each lose "
            f"{np.mean(losses):.2f} points (95 % of runs at most {np.quantile(losses, 0.95):.0f})"
        )


def any_passes(n: int, loss: float, bounds: Bounds, rng: np.random.Generator) -> bool:
    """Whether one of twenty tries, each truly `loss` worse than the anchor, passes."""
    alpha, passed = 0.0, False
    for k in range(1, 21):
        alpha = fallback_alpha(k, alpha, passed)
        check = clean_accuracy(*pair(n, loss, loss + 0.03, rng), bounds, alpha)
        passed = check.verdict == "pass"
        if passed:
            return True
    return False


def small_steps(n: int, bounds: Bounds, rng: np.random.Generator) -> float:
    """Points lost by twenty challengers, each a point worse than the champion of the day."""
    alpha, passed, lost = 0.0, False, 0
    for k in range(1, 21):
        alpha = fallback_alpha(k, alpha, passed)
        loss = (lost + 1) / 100
        check = clean_accuracy(*pair(n, loss, loss + 0.03, rng), bounds, alpha)
        passed = check.verdict == "pass"
        lost += passed
    return float(lost)


def simulate_classes(runs: int = 1000) -> None:
    """The gate per class: equal challengers, and one that loses a rare class."""
    rng, said = np.random.default_rng(12), Counter[str]()
    y = np.repeat(np.arange(10), 36)
    names = tuple(str(k) for k in range(10))
    for _ in range(runs):
        said[class_accuracy("class", *pair(360, 0.0, 0.03, rng), y, names).verdict] += 1
    print(f"class gate, ten classes of 36 rows, equal: {dict(said)}")
    said.clear()
    y = np.repeat([0, 1], [900, 100])
    for _ in range(runs):
        before, after = pair(1000, 0.0, 0.01, rng)
        u = rng.random(100)
        before[900:], after[900:] = u < 0.69, (u < 0.55) | (u > 0.98)
        said[class_accuracy("class", before, after, y, ("ok", "fraud")).verdict] += 1
    print(f"class gate, recall of 100 frauds .69 -> .57: {dict(said)}")


def simulate_canary(streams: int = 2000, labels: int = 5000) -> None:
    """How often a canary is aborted that answers as well as the champion, looked at every label."""
    for discordant in (0.01, 0.03, 0.1):
        rng, said = np.random.default_rng(13), Counter[str]()
        for _ in range(streams):
            before, after = pair(labels, 0.0, discordant, rng)
            said[ShadowComparison().update(before, after).verdict] += 1
        aborts = said["worse"] / streams
        print(f"canary A/A, {discordant:.0%} discordant: {aborts:.1%} aborted; {dict(said)}")
