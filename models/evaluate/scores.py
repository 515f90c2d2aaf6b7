"""How the scores of a version do: false alarms, and attacks that they know and do not know."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from models.evaluate.plan import Plan
from models.evaluate.subject import Arrays
from models.runner import Runner
from models.stats import auroc, auroc_interval, false_positive_interval, proportion, roc

# What `monitoring` fits the perturbation head on, with and without gradients.
TRAINED_ON = {False: ("fgsm", "pgd"), True: ("square",)}


def scores(
    runner: Runner,
    results: Mapping[str, Arrays],
    plan: Plan,
    benign: Mapping[str, Arrays],
    *,
    black_box: bool,
) -> dict[str, Any]:
    """Figures of the scores as plain data.

    Args:
        runner: for the thresholds that it was calibrated with.
        results: of the units `clean` and `alone-<attack>`.
        plan: which attacks there were.
        benign: answers to changed rows that are no attack, by name.
        black_box: whether the subject has no net.
    """
    facts, clean = runner.manifest.calibration, results["clean"]
    limit = facts.perturbation_threshold
    usual, likely = _column(clean, "drift"), _column(clean, "perturbation")
    strongest = results["alone-square" if black_box else "alone-pgd"]
    return {
        "false_positives_expected": list(
            false_positive_interval(facts.alpha, facts.n, len(likely), level=0.95)
        ),
        "drift_false_positives": proportion(usual <= facts.alpha).plain(),
        "perturbation_false_positives": proportion(likely > limit).plain(),
        "perturbation_detected": proportion(_column(strongest, "perturbation") > limit).plain(),
        "perturbation_auroc": round(auroc(likely, _column(strongest, "perturbation")), 4),
        "severity_3": {
            name: {
                "drift_auroc": round(auroc(-usual, -_column(told, "drift")), 4),
                "perturbation_flagged": round(
                    float((_column(told, "perturbation") > limit).mean()), 4
                ),
            }
            for name, told in benign.items()
        },
        "roc": [
            _roc(attack, clean, results[f"alone-{attack}"], attack in TRAINED_ON[black_box])
            for attack in plan.alone
        ],
    }


def _roc(attack: str, clean: Arrays, told: Arrays, trained_on: bool) -> dict[str, Any]:
    """Clean rows against the attacked ones (of the rows that were right: others need no attack)."""
    negative = _column(clean, "perturbation")
    positive = _column(told, "perturbation")[clean["right"].astype(bool)]
    if len(positive) == 0:
        area, points = {"auroc": None, "low": 0.0, "high": 1.0}, []
    else:
        value, (low, high) = auroc(negative, positive), auroc_interval(negative, positive)
        area = {"auroc": round(value, 4), "low": round(low, 4), "high": round(high, 4)}
        points = roc(negative, positive)
    return {
        "attack": attack,
        "trained_on": trained_on,
        **area,
        "n": len(positive),
        "points": points,
    }


def _column(told: Arrays, name: str) -> Any:
    return np.asarray(told[name], dtype=np.float64)
