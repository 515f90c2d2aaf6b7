"""How good and how robust a version is: every figure with an interval and the rows it rests on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from models import attacks, corruptions
from models.attacks.base import Loss, cross_entropy, dlr, margin
from models.data import Rows
from models.runner import Answer, Runner
from models.schema import FloatArray, InputArray, InputSchema
from models.stats import Bools, auroc, false_positive_interval, proportion
from models.threat import Linf

CHUNK = 256
CURVE = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5)


@dataclass(frozen=True)
class Subject:
    """What is evaluated: the served graph, and the torch net that attacks go through."""

    runner: Runner
    net: nn.Module

    @property
    def schema(self) -> InputSchema:
        """The input schema."""
        return self.runner.manifest.input


def answer(runner: Runner, x: InputArray) -> Answer:
    """Run raw rows `(N, *shape)` in chunks."""
    parts = [runner.run(x[start : start + CHUNK]) for start in range(0, len(x), CHUNK)]
    return Answer(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def right(runner: Runner, rows: Rows) -> Bools:
    """Which rows `(N,)` the served graph gets right."""
    return np.asarray(answer(runner, rows.x).probabilities.argmax(axis=1) == rows.y)


def attacked(
    subject: Subject,
    rows: Rows,
    eps: float,
    *,
    attack: str = "pgd",
    steps: int = 40,
    loss: Loss = cross_entropy,
    seed: int = 0,
) -> InputArray:
    """Raw adversarial rows against the subject's own net: `fgsm`, `pgd` or `apgd`, L-inf `eps`."""
    return attacked_rows(
        subject.net, subject.schema, rows, eps, attack=attack, steps=steps, loss=loss, seed=seed
    )


def attacked_rows(
    net: nn.Module,
    schema: InputSchema,
    rows: Rows,
    eps: float,
    *,
    attack: str,
    steps: int,
    loss: Loss = cross_entropy,
    seed: int = 0,
) -> InputArray:
    """The same against a net that is not served yet."""
    threat, generator = Linf(eps), torch.Generator().manual_seed(seed)
    x, y = torch.from_numpy(schema.to_unit(rows.x)), torch.from_numpy(rows.y)
    found = []
    with attacks.frozen(net):
        logits_of = attacks.logits_only(net)
        for a, b in zip(torch.split(x, CHUNK), torch.split(y, CHUNK), strict=True):
            if attack == "fgsm":
                found.append(attacks.fgsm(logits_of, a, b, threat))
            else:
                climb = {"pgd": attacks.pgd, "apgd": attacks.apgd}[attack]
                found.append(
                    climb(logits_of, a, b, threat, steps=steps, loss=loss, generator=generator)
                )
    return schema.from_unit(torch.cat(found).numpy())


def robust(subject: Subject, rows: Rows, eps: float, *, steps: int = 40, seed: int = 0) -> Bools:
    """Rows that stay right under PGD on the cross-entropy and on the margin."""
    survived = right(subject.runner, rows)
    for loss in (cross_entropy, margin):
        x = attacked(subject, rows, eps, steps=steps, loss=loss, seed=seed)
        survived = survived & right(subject.runner, Rows(x, rows.y))
    return survived


def robust_worst(subject: Subject, rows: Rows, eps: float, *, seed: int = 0) -> Bools:
    """Rows that stay right under PGD-100 (cross-entropy, margin) and APGD-100 (also DLR)."""
    survived = robust(subject, rows, eps, steps=100, seed=seed)
    for loss in (cross_entropy, dlr if len(subject.runner.manifest.classes) > 2 else margin):
        left = np.flatnonzero(survived)
        if len(left) == 0:
            break
        x = attacked(subject, rows.take(left), eps, attack="apgd", steps=100, loss=loss, seed=seed)
        survived[left] = right(subject.runner, Rows(x, rows.y[left]))
    return survived


def noise_right(runner: Runner, rows: Rows, eps: float, *, seed: int = 0) -> Bools:
    """Rows that stay right under random signs of size `eps`: what no attack may exceed."""
    rng, schema = np.random.default_rng(seed), runner.manifest.input
    unit = schema.to_unit(rows.x)
    x = np.clip(unit + eps * rng.choice([-1.0, 1.0], unit.shape), 0, 1)
    return right(runner, Rows(schema.from_unit(x), rows.y))


def curve(
    subject: Subject, rows: Rows, eps: Sequence[float] = CURVE, *, steps: int = 20
) -> list[float]:
    """Robust accuracy at each size of the attack."""
    return [float(robust(subject, rows, e, steps=steps).mean()) for e in eps]


def evaluate(
    subject: Subject,
    rows: Rows,
    *,
    window: Rows | None = None,
    eps: float = 0.15,
    seed: int = 0,
) -> dict[str, Any]:
    """The quick suite on held-out rows, as plain data for `report.json` and the manifest.

    Clean accuracy (and per class), PGD-20 curve, the worst of PGD-100 and APGD-100 at `eps`, benign
    corruptions at five severities, edge cases, and how the scores do; clean accuracy on the
    held-out rows of a `window` of live traffic. L-inf sizes in units of the [0, 1] range.
    """
    runner, schema = subject.runner, subject.schema
    clean = answer(runner, rows.x)
    clean_right = np.asarray(clean.probabilities.argmax(axis=1) == rows.y)
    unit, rng = schema.to_unit(rows.x), np.random.default_rng(seed)
    pgd = attacked(subject, rows, eps, steps=100, seed=seed)
    benign = {
        (name, severity): schema.from_unit(corrupt(unit, severity, rng))
        for name, corrupt in corruptions.CORRUPTIONS.items()
        for severity in corruptions.SEVERITIES
    }
    benign_answers = {key: answer(runner, x) for key, x in benign.items()}
    return {
        "suite": "quick",
        "n": len(rows),
        "eps": eps,
        "clean": _plain(clean_right),
        "window": _plain(right(runner, window)) if window is not None and len(window) else None,
        "classes": {
            name: _plain(clean_right[rows.y == k]) for k, name in enumerate(runner.manifest.classes)
        },
        "robust": _plain(robust_worst(subject, rows, eps, seed=seed)),
        "robust_curve": [
            {"attack": "pgd-20", "eps": size, **_plain(robust(subject, rows, size, steps=20))}
            for size in CURVE
        ],
        "corruptions": [
            {"name": n, "severity": s, **_plain(a.probabilities.argmax(axis=1) == rows.y)}
            for (n, s), a in benign_answers.items()
        ],
        "edge_cases": edge_cases(runner, seed=seed),
        "scores": _scores(runner, clean, answer(runner, pgd), benign_answers),
    }


def edge_cases(runner: Runner, *, rows: int = 64, seed: int = 0) -> list[dict[str, Any]]:
    """Inputs that are no instance of any class: what the model says and whether it is flagged."""
    schema, rng = runner.manifest.input, np.random.default_rng(seed)
    shape = (rows, *schema.shape)
    cases: dict[str, FloatArray] = {
        "constant minimum": np.zeros((1, *schema.shape)),
        "constant middle": np.full((1, *schema.shape), 0.5),
        "constant maximum": np.ones((1, *schema.shape)),
        "saturated noise": rng.integers(0, 2, shape).astype(np.float64),
        "uniform noise": rng.random(shape),
        "normal noise": np.clip(rng.normal(0.5, 0.25, shape), 0, 1),
    }
    table = []
    for name, unit in cases.items():
        told = answer(runner, schema.from_unit(unit))
        table.append(
            {
                "name": name,
                "n": len(unit),
                "finite": bool(np.isfinite(told.probabilities).all()),
                "confidence": round(float(told.probabilities.max(axis=1).mean()), 4),
                "drift_flagged": _share(told.drift_p_value <= runner.manifest.calibration.alpha),
            }
        )
    return table


def _scores(
    runner: Runner, clean: Answer, adversarial: Answer, benign: dict[tuple[str, int], Answer]
) -> dict[str, Any]:
    facts = runner.manifest.calibration
    limit = facts.perturbation_threshold
    likely = clean.perturbation_likelihood
    middle = {name: a for (name, severity), a in benign.items() if severity == 3}
    return {
        "false_positives_expected": false_positive_interval(
            facts.alpha, facts.n, len(likely), level=0.95
        ),
        "drift_false_positives": _plain(clean.drift_p_value <= facts.alpha),
        "perturbation_false_positives": _plain(likely > limit),
        "perturbation_detected": _plain(adversarial.perturbation_likelihood > limit),
        "perturbation_auroc": round(auroc(likely, adversarial.perturbation_likelihood), 4),
        "severity_3": {
            name: {
                "drift_auroc": round(auroc(-clean.drift_p_value, -a.drift_p_value), 4),
                "perturbation_flagged": _share(a.perturbation_likelihood > limit),
            }
            for name, a in middle.items()
        },
    }


def _plain(flags: npt.NDArray[np.bool_]) -> dict[str, Any]:
    return proportion(np.asarray(flags)).plain()


def _share(flags: npt.NDArray[np.bool_]) -> float:
    return round(float(np.mean(flags)), 4)
