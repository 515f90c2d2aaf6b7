"""How the scores of a version do: false alarms, and attacks that they know and do not know."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

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
from models.statistics.shares import Proportion, Reliability
from models.versions.figures import Adaptive, BenignFigure, DriftRates, RocCurve, Scores
from models.versions.runner import Runner
from models.versions.schema import Calibration

TENTH = 0.1  # a rate that few rows of a class can show
RATES = (0.01, 0.05)  # of false alarms, at which the share caught is given
Column = npt.NDArray[np.float64]


def scores(
    runner: Runner,
    results: Mapping[str, Arrays],
    plan: Plan,
    benign: Mapping[str, Arrays],
    *,
    black_box: bool,
    seed: int = 0,
    adaptive: Adaptive | None = None,
) -> Scores:
    """Figures of the scores; of an attack that was not run there are none.

    Args:
        runner: for the thresholds that it was calibrated with.
        results: of the units `clean`, `alone-<attack>` and `nearest-<attack>`.
        plan: which attacks there were to be.
        benign: answers to changed rows that are no attack, by name.
        black_box: whether the subject has no net.
        seed: of the choice of rows for the reliability diagram.
        adaptive: what the attacker achieves who knows the scores.
    """
    facts, clean = runner.manifest.calibration, results["clean"]
    limit = facts.perturbation_threshold
    usual, likely = _column(clean, "drift"), _column(clean, "perturbation")
    strongest = results.get("alone-square" if black_box else "alone-pgd")
    attacked = None if strongest is None else _column(strongest, "perturbation")
    return Scores(
        false_positives_expected=false_positive_interval(
            facts.alpha, facts.n, len(likely), level=0.95
        ),
        drift_expected=_expected_drift(facts, len(usual)),
        drift_false_positives=proportion(usual <= facts.alpha) if facts.drift_tested else None,
        drift_by_class=_drift_by_class(runner, clean) if facts.drift_tested else {},
        perturbation_false_positives=proportion(likely > limit),
        perturbation_detected=None if attacked is None else proportion(attacked > limit),
        perturbation_auroc=None if attacked is None else round(auroc(likely, attacked), 4),
        suspicious_false_positives=_suspicious(clean, facts.suspicion_threshold),
        suspicious_detected=_suspicious(strongest, facts.suspicion_threshold),
        severity_3={name: _benign(clean, rows, limit) for name, rows in benign.items()},
        roc=_curves(results, plan, black_box=black_box),
        likelihood=likelihood(results, plan, benign, seed=seed),
        adaptive=adaptive,
    )


def _expected_drift(facts: Calibration, rows: int) -> tuple[int, int] | None:
    if facts.drift_rows is None:
        return None
    return false_positive_interval(facts.alpha, facts.drift_n, rows, level=0.95)


def _drift_by_class(runner: Runner, clean: Arrays) -> dict[str, DriftRates]:
    """Of every class that some clean row is predicted as."""
    drift, predicted = _column(clean, "drift"), clean["predicted"].astype(np.int64)
    alpha, rates = runner.manifest.calibration.alpha, {}
    for label, name in enumerate(runner.manifest.classes):
        own = drift[predicted == label]
        if len(own):
            rates[name] = DriftRates(proportion(own <= alpha), proportion(own <= TENTH))
    return rates


def likelihood(
    results: Mapping[str, Arrays], plan: Plan, benign: Mapping[str, Arrays], *, seed: int
) -> Reliability | None:
    """Whether the perturbation likelihood is a probability: of how many rows it is true.

    At the odds that it is stated for: one half attacked (every attack alike), a quarter clean, a
    quarter benignly changed, drawn without repetition. A row that was wrong without an attack is
    not counted as attacked.

    Returns:
        As `calibration.reliability`: `confidence` of a bin is the mean likelihood, `accuracy` the
        share of attacked rows. None where no attack was run.
    """
    clean = results["clean"]
    right = clean["right"].astype(bool)
    ran = [results[name] for by in plan.alone if (name := f"alone-{by.attack}") in results]
    if not ran:
        return None
    attacked = [_column(rows, "perturbation")[right] for rows in ran]
    changed = [_column(rows, "perturbation") for rows in benign.values()]
    groups = [np.concatenate(parts) for parts in (attacked, [_column(clean, "perturbation")])]
    groups.append(np.concatenate(changed) if changed else groups[1][:0])
    rng, shares = np.random.default_rng(seed), (2, 1, 1) if changed else (1, 1, 0)
    least = min(len(g) // share for g, share in zip(groups, shares, strict=True) if share)
    drawn = [
        rng.choice(group, share * least, replace=False)
        for group, share in zip(groups, shares, strict=True)
    ]
    return reliability(np.concatenate(drawn), np.arange(sum(map(len, drawn))) < len(drawn[0]))


def _benign(clean: Arrays, rows: Arrays, limit: float) -> BenignFigure:
    area = auroc(-_column(clean, "drift"), -_column(rows, "drift"))
    flagged = float((_column(rows, "perturbation") > limit).mean())
    return BenignFigure(round(area, 4), round(flagged, 4))


def _curves(results: Mapping[str, Arrays], plan: Plan, *, black_box: bool) -> tuple[RocCurve, ...]:
    """One curve per attack that was run.

    The positives are rows that are right without the attack: the others need none. An attack that
    looks for the smallest change leaves a row as it is where it finds none: that is no positive.
    """
    clean, curves = results["clean"], []
    learnt = {attack.name for attack in learnt_attacks(black_box=black_box)}
    negative = _column(clean, "perturbation")
    for kind, by in [*(("alone", s) for s in plan.alone), *(("nearest", s) for s in plan.nearest)]:
        rows = results.get(f"{kind}-{by.attack}")
        if rows is None:
            continue
        attacked = clean["right"][: len(rows["right"])].astype(bool)
        if kind == "nearest":
            attacked &= ~rows["right"].astype(bool)
        positive = _column(rows, "perturbation")[attacked]
        curves.append(_measure_separation(by.attack, negative, positive, by.attack in learnt))
    return tuple(curves)


def _measure_separation(
    attack: str, negative: Column, positive: Column, trained_on: bool
) -> RocCurve:
    if len(positive) == 0:
        return RocCurve(attack, trained_on, None, 0.0, 1.0, 0)
    value, (low, high) = auroc(negative, positive), auroc_interval(negative, positive)
    # The largest share of clean rows up to each rate, ties at the threshold not flagged.
    cuts = {rate: np.quantile(negative, 1 - rate, method="higher") for rate in RATES}
    return RocCurve(
        attack=attack,
        trained_on=trained_on,
        auroc=round(value, 4),
        low=round(low, 4),
        high=round(high, 4),
        n=len(positive),
        caught={f"{rate:g}": proportion(positive > cut) for rate, cut in cuts.items()},
        points=roc(negative, positive),
    )


def _suspicious(rows: Arrays | None, limit: float | None) -> Proportion | None:
    """The share that is suspicious; None where there are no such rows, or no threshold."""
    if rows is None or limit is None or "suspicion" not in rows:
        return None
    return proportion(_column(rows, "suspicion") > limit)


def _column(rows: Arrays, name: str) -> Column:
    return np.asarray(rows[name], dtype=np.float64)
