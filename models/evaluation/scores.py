"""How the scores of a version do: false alarms, and attacks that they know and do not know."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from models.attacks.catalogue import learnt_attacks
from models.evaluation.plan import Plan
from models.evaluation.subject import Arrays
from models.statistics.calibration import reliability
from models.statistics.intervals import (
    auroc,
    auroc_interval,
    false_positive_interval,
    proportion,
    roc,
)
from models.versions.runner import Runner

RATES = (0.01, 0.05)  # of false alarms, at which the share caught is told


def scores(
    runner: Runner,
    results: Mapping[str, Arrays],
    plan: Plan,
    benign: Mapping[str, Arrays],
    *,
    black_box: bool,
    seed: int = 0,
) -> dict[str, Any]:
    """Figures of the scores as plain data.

    Args:
        runner: for the thresholds that it was calibrated with.
        results: of the units `clean`, `alone-<attack>` and `nearest-<attack>`.
        plan: which attacks there were.
        benign: answers to changed rows that are no attack, by name.
        black_box: whether the subject has no net.
        seed: of the choice of rows for the reliability diagram.
    """
    facts, clean = runner.manifest.calibration, results["clean"]
    limit = facts.perturbation_threshold
    usual, likely = _column(clean, "drift"), _column(clean, "perturbation")
    known = {attack.name for attack in learnt_attacks(black_box=black_box)}
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
            _roc(attack, clean, results[f"alone-{attack}"], attack in known)
            for attack in (by.attack for by in plan.alone)
        ]
        + [_nearest(by.attack, clean, results, by.attack in known) for by in plan.nearest],
        "likelihood": likelihood(results, plan, benign, seed=seed),
    }


def likelihood(
    results: Mapping[str, Arrays], plan: Plan, benign: Mapping[str, Arrays], *, seed: int
) -> dict[str, Any]:
    """Whether the perturbation likelihood is a probability: of how many rows it is true.

    At the odds that it is stated for: one half attacked (every attack alike), a quarter clean, a
    quarter benignly changed, drawn without repetition. A row that was wrong without an attack is
    not counted as attacked.

    Returns:
        As `calibration.reliability`: `confidence` of a bin is the mean likelihood, `accuracy` the
        share of attacked rows.
    """
    clean = results["clean"]
    right = clean["right"].astype(bool)
    attacked = [_column(results[f"alone-{by.attack}"], "perturbation")[right] for by in plan.alone]
    changed = [_column(told, "perturbation") for told in benign.values()]
    groups = [np.concatenate(parts) for parts in (attacked, [_column(clean, "perturbation")])]
    groups.append(np.concatenate(changed) if changed else groups[1][:0])
    rng, shares = np.random.default_rng(seed), (2, 1, 1) if changed else (1, 1, 0)
    least = min(len(g) // share for g, share in zip(groups, shares, strict=True) if share)
    drawn = [
        rng.choice(group, share * least, replace=False)
        for group, share in zip(groups, shares, strict=True)
    ]
    return reliability(np.concatenate(drawn), np.arange(sum(map(len, drawn))) < len(drawn[0]))


def _roc(attack: str, clean: Arrays, told: Arrays, trained_on: bool) -> dict[str, Any]:
    """Clean rows against the attacked ones (of the rows that were right: others need no attack)."""
    positive = _column(told, "perturbation")[clean["right"].astype(bool)]
    return _measure_separation(attack, _column(clean, "perturbation"), positive, trained_on)


def _nearest(
    attack: str, clean: Arrays, results: Mapping[str, Arrays], trained_on: bool
) -> dict[str, Any]:
    """The same for an attack that leaves a row as it is where it finds nothing."""
    told = results[f"nearest-{attack}"]
    fooled = clean["right"][: len(told["right"])].astype(bool) & ~told["right"].astype(bool)
    positive = _column(told, "perturbation")[fooled]
    return _measure_separation(attack, _column(clean, "perturbation"), positive, trained_on)


def _measure_separation(
    attack: str, negative: Any, positive: Any, trained_on: bool
) -> dict[str, Any]:
    if len(positive) == 0:
        area, points, caught = {"auroc": None, "low": 0.0, "high": 1.0}, [], {}
    else:
        value, (low, high) = auroc(negative, positive), auroc_interval(negative, positive)
        area = {"auroc": round(value, 4), "low": round(low, 4), "high": round(high, 4)}
        points = roc(negative, positive)
        # The largest share of clean rows up to each rate, ties at the threshold not flagged.
        cuts = {rate: np.quantile(negative, 1 - rate, method="higher") for rate in RATES}
        caught = {f"{rate:g}": proportion(positive > cut).plain() for rate, cut in cuts.items()}
    return {
        "attack": attack,
        "trained_on": trained_on,
        **area,
        "n": len(positive),
        "caught": caught,
        "points": points,
    }


def _column(told: Arrays, name: str) -> Any:
    return np.asarray(told[name], dtype=np.float64)
