"""Attacks on raw rows: made through the net in the unit range, judged by the served graph."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from models import attacks
from models.attacks import LogitsOf
from models.attacks.base import Loss, cross_entropy, dlr, margin
from models.data import Rows
from models.errors import DataError
from models.evaluate.subject import CHUNK, Subject, right, tensors
from models.runner import Runner
from models.schema import InputArray, InputSchema
from models.stats import Bools
from models.threat import Columns, Linf, Threat, ThreatModel

CURVE = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
SINGLE = ("fgsm", "pgd", "apgd", "apgd-dlr", "cw-l2", "deepfool", "square")
SMALLEST = ("cw-l2", "deepfool")  # of a size of their own


def geometry(schema: InputSchema, threat: Threat | float) -> Threat:
    """A threat as it is; a number is the size of an L-inf ball (of the box, for tables).

    Raises:
        ValueError: a size out of range.
        DataError: the same, for tables.
    """
    if not isinstance(threat, float | int):
        return threat
    size = float(threat)
    return Linf(size) if schema.kind == "image" else ThreatModel(eps=size).at(schema)


def attacked(
    subject: Subject,
    rows: Rows,
    threat: Threat | float,
    *,
    attack: str = "pgd",
    steps: int = 40,
    loss: Loss = cross_entropy,
    seed: int = 0,
) -> InputArray:
    """Raw adversarial rows against the subject, by an attack of `SINGLE`.

    Of the threat `cw-l2` and `deepfool` take only what may change: they look for the smallest
    change, and leave a row as it is where they find none. `apgd-dlr` has a loss of its own: the
    margin where there are two classes.

    Raises:
        DataError: the attack needs gradients and the subject is a black box, or is not known.
    """
    _check(attack, subject.net)
    x, y = subject.tensors(rows)
    with subject.logits() as logits_of:
        climb = _climber(logits_of, geometry(subject.schema, threat), attack, steps, loss, seed)
        return subject.schema.from_unit(climb(x, y).cpu().numpy())


def attacked_rows(
    net: nn.Module,
    schema: InputSchema,
    rows: Rows,
    threat: Threat | float,
    *,
    attack: str,
    steps: int,
    loss: Loss = cross_entropy,
    seed: int = 0,
) -> InputArray:
    """The same against a net that is not served yet."""
    _check(attack, net)
    x, y = tensors(net, schema, rows)
    with attacks.frozen(net):
        logits_of = attacks.logits_only(net)
        climb = _climber(logits_of, geometry(schema, threat), attack, steps, loss, seed)
        return schema.from_unit(climb(x, y).cpu().numpy())


def _check(attack: str, net: nn.Module | None) -> None:
    if attack not in SINGLE:
        raise DataError(f"unknown attack {attack!r}: known are {', '.join(SINGLE)}")
    if net is None and attack != "square":
        raise DataError(
            f"{attack} climbs gradients, and this version is a wrapped graph without a torch net; "
            "use square"
        )


def _climber(
    logits_of: LogitsOf, threat: Threat, attack: str, steps: int, loss: Loss, seed: int
) -> Callable[[Tensor, Tensor], Tensor]:
    """An attack in chunks, from one seed; `steps` are the queries of `square`."""

    def climb(x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        if attack == "fgsm":
            return attacks.fgsm(logits_of, x, y, threat)
        if attack == "square":
            return attacks.square(logits_of, x, y, threat, queries=steps, generator=generator)
        if attack == "cw-l2":
            return attacks.cw_l2(logits_of, x, y, steps=steps, movable=_movable(threat, x))
        if attack == "deepfool":
            return attacks.deepfool(logits_of, x, y, steps=steps, movable=_movable(threat, x))
        climbed = _ratio(logits_of, x) if attack == "apgd-dlr" else loss
        ascend = attacks.pgd if attack == "pgd" else attacks.apgd
        return ascend(logits_of, x, y, threat, steps=steps, loss=climbed, generator=generator)

    def seeded(x: Tensor, y: Tensor) -> Tensor:
        generator = torch.Generator(x.device).manual_seed(seed)
        parts = zip(torch.split(x, CHUNK), torch.split(y, CHUNK), strict=True)
        return torch.cat([climb(a, b, generator) for a, b in parts])

    return seeded


def _ratio(logits_of: LogitsOf, x: Tensor) -> Loss:
    """The difference of logits ratio, which needs three classes, or the margin."""
    with torch.no_grad():
        return dlr if logits_of(x[:1]).shape[1] > 2 else margin


def _movable(threat: Threat, x: Tensor) -> Tensor | None:
    """What may change at all `(N, D)`: not every column of a table; None for everything."""
    if not isinstance(threat, Columns):
        return None
    return (threat.down + threat.up > 0).expand(x.shape)


def robust(
    subject: Subject, rows: Rows, threat: Threat | float, *, steps: int = 40, seed: int = 0
) -> Bools:
    """Rows that stay right under PGD on the cross-entropy and on the margin.

    A black box is asked instead: Square with ten queries for every step.
    """
    survived = right(subject.runner, rows)
    if subject.black_box:
        return _survivors(subject, rows, survived, threat, "square", 10 * steps, margin, seed)
    for loss in (cross_entropy, margin):
        survived = _survivors(subject, rows, survived, threat, "pgd", steps, loss, seed)
    return survived


def robust_worst(subject: Subject, rows: Rows, threat: Threat | float, *, seed: int = 0) -> Bools:
    """Rows that stay right under PGD-100 (cross-entropy, margin) and APGD-100 (also DLR)."""
    survived = robust(subject, rows, threat, steps=100, seed=seed)
    if subject.black_box:
        return survived
    for loss in (cross_entropy, dlr if len(subject.classes) > 2 else margin):
        survived = _survivors(subject, rows, survived, threat, "apgd", 100, loss, seed)
    return survived


def _survivors(
    subject: Subject,
    rows: Rows,
    before: Bools,
    threat: Threat | float,
    attack: str,
    steps: int,
    loss: Loss,
    seed: int,
) -> Bools:
    """Which of the rows `before` stay right under one more attack: only those are attacked."""
    left, survived = np.flatnonzero(before), before.copy()
    if len(left):
        some = rows.take(left)
        x = attacked(subject, some, threat, attack=attack, steps=steps, loss=loss, seed=seed)
        survived[left] = right(subject.runner, Rows(x, some.y))
    return survived


def noisy_rows(
    schema: InputSchema, rows: Rows, threat: Threat | float, *, seed: int = 0
) -> InputArray:
    """Raw rows moved as far as the threat allows, in a random direction.

    L-inf: a random corner of the ball; L2: a random direction of length eps.
    """
    geometric = geometry(schema, threat)
    x = torch.from_numpy(schema.to_unit(rows.x))
    ahead = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    moved = geometric.project(geometric.step(x, ahead, geometric.eps), x)
    return schema.from_unit(moved.numpy())


def noise_right(runner: Runner, rows: Rows, threat: Threat | float, *, seed: int = 0) -> Bools:
    """Rows that stay right under random noise of the attack's size: what no attack may exceed."""
    return right(runner, Rows(noisy_rows(runner.manifest.input, rows, threat, seed=seed), rows.y))


def curve(
    subject: Subject, rows: Rows, eps: Sequence[float] = CURVE, *, steps: int = 20
) -> list[float]:
    """Robust accuracy at each L-inf size of the attack."""
    return [float(robust(subject, rows, e, steps=steps).mean()) for e in eps]
