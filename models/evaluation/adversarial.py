"""Attacks on raw rows: made through the net in the unit range, judged by the served graph."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from models import attacks
from models.attacks import LogitsOf
from models.attacks.catalogue import CATALOGUE, Attack, Effort, Strength, find_attack
from models.attacks.threat import Linf, Threat, geometry_of
from models.base.errors import DataError
from models.data import Rows
from models.evaluation.subject import CHUNK, Subject, right, tensors
from models.statistics.arrays import Bools
from models.versions.judging import ThreatModel
from models.versions.runner import Runner
from models.versions.schema import InputArray, InputSchema

CURVE = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
QUERIES_PER_STEP = 10  # of a black box, where a step with a gradient cannot be taken


def geometry(schema: InputSchema, threat: Threat | float) -> Threat:
    """A threat as it is; a number is the size of an L-inf ball (of the box, for tables).

    Raises:
        ValueError: a size out of range.
        DataError: the same, for tables.
    """
    if not isinstance(threat, float | int):
        return threat
    size = float(threat)
    return Linf(size) if schema.kind == "image" else geometry_of(ThreatModel(eps=size), schema)


def attack_subject(
    subject: Subject,
    rows: Rows,
    threat: Threat | float,
    *,
    attack: str = "pgd",
    budget: int = 40,
    seed: int = 0,
) -> InputArray:
    """Raw adversarial rows against the subject, by an attack of `models.attacks.CATALOGUE`.

    Of the threat those that look for the smallest change take only what may change, and leave a
    row as it is where they find none.

    Raises:
        DataError: the attack is not known, is for images and the subject takes a table, or needs
            gradients and the subject is a black box.
    """
    record = _find(attack, subject.schema, subject.net)
    x, y = subject.tensors(rows)
    with subject.logits() as logits_of:
        points = _in_chunks(
            record, logits_of, x, y, geometry(subject.schema, threat), budget=budget, seed=seed
        )
        return subject.schema.from_unit(points.cpu().numpy())


def attack_net(
    net: nn.Module,
    schema: InputSchema,
    rows: Rows,
    threat: Threat | float,
    *,
    attack: str,
    budget: int,
    seed: int = 0,
) -> InputArray:
    """The same against a net that is not served yet."""
    record = _find(attack, schema, net)
    x, y = tensors(net, schema, rows)
    with attacks.frozen(net):
        points = _in_chunks(
            record, attacks.logits_only(net), x, y, geometry(schema, threat),
            budget=budget, seed=seed,
        )  # fmt: skip
        return schema.from_unit(points.cpu().numpy())


def _find(attack: str, schema: InputSchema, net: nn.Module | None) -> Attack:
    try:
        record = find_attack(attack)
    except ValueError as error:
        raise DataError(str(error)) from None
    fitting = [a for a in CATALOGUE.values() if schema.kind == "image" or not a.images]
    if record not in fitting:
        raise DataError(
            f"{attack} is for images, and this model takes the rows of a table; "
            f"use {' or '.join(a.name for a in fitting if net is not None or not a.gradient)}"
        )
    if net is None and record.gradient:
        able = " or ".join(a.name for a in fitting if not a.gradient)
        raise DataError(
            f"{attack} climbs gradients, and this version is a wrapped graph without a torch net; "
            f"use {able}"
        )
    return record


def _in_chunks(
    record: Attack,
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    budget: int,
    seed: int,
) -> Tensor:
    """An attack on some rows at a time, each part from the same seed on."""
    effort = Effort(budget, torch.Generator(x.device).manual_seed(seed))
    parts = zip(torch.split(x, CHUNK), torch.split(y, CHUNK), strict=True)
    return torch.cat([record.run(logits_of, a, b, threat, effort) for a, b in parts])


def robust(
    subject: Subject, rows: Rows, threat: Threat | float, *, steps: int = 40, seed: int = 0
) -> Bools:
    """Rows that stay right under PGD on the cross-entropy and on the margin.

    A black box is asked instead: Square with ten queries for every step.
    """
    survived = right(subject.runner, rows)
    if subject.black_box:
        queries = QUERIES_PER_STEP * steps
        return _survivors(subject, rows, survived, threat, Strength("square", queries), seed)
    for name in ("pgd", "pgd-margin"):
        survived = _survivors(subject, rows, survived, threat, Strength(name, steps), seed)
    return survived


def robust_worst(subject: Subject, rows: Rows, threat: Threat | float, *, seed: int = 0) -> Bools:
    """Rows that stay right under PGD-100 (cross-entropy, margin) and APGD-100 (also DLR)."""
    survived = robust(subject, rows, threat, steps=100, seed=seed)
    if subject.black_box:
        return survived
    for name in ("apgd-ce", "apgd-dlr"):
        survived = _survivors(subject, rows, survived, threat, Strength(name, 100), seed)
    return survived


def _survivors(
    subject: Subject,
    rows: Rows,
    before: Bools,
    threat: Threat | float,
    by: Strength,
    seed: int,
) -> Bools:
    """Which of the rows `before` stay right under one more attack: only those are attacked."""
    left, survived = np.flatnonzero(before), before.copy()
    if len(left):
        some = rows.take(left)
        x = attack_subject(subject, some, threat, attack=by.attack, budget=by.budget, seed=seed)
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
