"""Labels where they tell most against labels at random: error, width and coverage of the accuracy.

OMP_NUM_THREADS=1 python -m benchmarks.asking

The best that any choice can do knows each answer's probability c of being right, and labels it with
a probability in proportion to sqrt(c (1 - c)), at most 1 (Neyman 1934, with cells of one request).
"""

import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from monitoring.evidence.labels.asking import choose_to_label
from monitoring.evidence.labels.poststratified import poststratify

REQUESTS, FIRST, LABELS, RUNS = 2000, 100, 300, 400
Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]


def draw_mixed(rng: np.random.Generator, n: int) -> Floats:
    """Nine of ten answers hardly ever wrong, one of ten hardly better than a guess."""
    unsure = rng.random(n) < 0.1
    return np.where(unsure, rng.uniform(0.4, 0.8, n), rng.uniform(0.998, 1.0, n))


KINDS: tuple[tuple[str, Draw], ...] = (
    ("most answers sure", lambda rng, n: 0.1 + 0.9 * rng.beta(6.0, 0.5, n)),
    ("half of them unsure", lambda rng, n: 0.1 + 0.9 * rng.beta(2.0, 1.0, n)),
    ("nine of ten certain", draw_mixed),
)


def measure_best(confidence: Floats, labels: int) -> float:
    """Standard error of the accuracy of these requests under the best choice of `labels` of them.

    Args:
        confidence: `(N,)` probability of each answer to be right.
    """
    spread, low, high = np.sqrt(confidence * (1 - confidence)), 0.0, 1e6
    for _ in range(100):
        middle = (low + high) / 2
        few = np.minimum(1.0, middle * spread).sum() < labels
        low, high = (middle, high) if few else (low, middle)
    share = np.minimum(1.0, high * spread)
    return float(np.sqrt((spread**2 * (1 / share - 1)).sum()) / len(confidence))


def main() -> None:
    """Print, for kinds of calibrated confidence, what 300 labels give in either way."""
    rng = np.random.default_rng(0)
    for name, draw in KINDS:
        widths: dict[str, list[float]] = {"random": [], "chosen": []}
        errors: dict[str, list[float]] = {"random": [], "chosen": []}
        covered = {"random": 0, "chosen": 0}
        for _ in range(RUNS):
            confidence = draw(rng, REQUESTS)
            right = rng.random(REQUESTS) < confidence
            for way in widths:
                labelled = np.zeros(REQUESTS, np.bool_)
                labelled[rng.permutation(REQUESTS)[: LABELS if way == "random" else FIRST]] = True
                while way == "chosen" and labelled.sum() < LABELS:
                    labelled[choose_to_label(confidence, labelled, 20, rng)] = True
                told = poststratify(confidence, confidence[labelled], right[labelled])
                assert told is not None
                widths[way].append(told.high - told.low)
                errors[way].append(told.value - float(right.mean()))
                covered[way] += told.low <= right.mean() <= told.high
        for way in widths:
            sys.stdout.write(
                f"{name}, {way}: width {np.mean(widths[way]):.4f}, covers {covered[way]} of {RUNS},"
                f" mean error {np.mean(errors[way]):+.4f}, RMS {np.std(errors[way]):.4f}\n"
            )
        others = np.random.default_rng(1)  # the draws above stay as they are
        best = np.mean([measure_best(draw(others, REQUESTS), LABELS) for _ in range(20)])
        sys.stdout.write(f"{name}, best possible: RMS {best:.4f}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
