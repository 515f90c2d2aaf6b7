"""Labels where they tell most against labels at random: width and coverage of the accuracy.

OMP_NUM_THREADS=1 python -m benchmarks.asking
"""

import sys

import numpy as np

from monitoring.evidence.labels.asking import choose_to_label
from monitoring.evidence.labels.poststratified import poststratify

REQUESTS, FIRST, LABELS, RUNS = 2000, 100, 300, 400


def main() -> None:
    """Print, for two kinds of calibrated confidence, what 300 labels give in either way."""
    rng = np.random.default_rng(0)
    for name, shape in (("most answers sure", (6.0, 0.5)), ("half of them unsure", (2.0, 1.0))):
        widths: dict[str, list[float]] = {"random": [], "chosen": []}
        errors: dict[str, list[float]] = {"random": [], "chosen": []}
        covered = {"random": 0, "chosen": 0}
        for _ in range(RUNS):
            confidence = 0.1 + 0.9 * rng.beta(*shape, REQUESTS)
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


if __name__ == "__main__":
    main()
