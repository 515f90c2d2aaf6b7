"""The cascade: several attacks in a row, each on the rows that survived the ones before.

Own AutoAttack (Croce & Hein 2020, section 5) without FAB: a row counts as robust when APGD on the
cross-entropy, targeted APGD and the square attack all leave it right.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.attacks.base import LogitsOf
from models.attacks.catalogue import Effort, Strength, find_attack
from models.attacks.threat import Threat

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Verdict:
    """What the cascade found.

    Args:
        x_adv: `(N, *shape)` a wrong point inside the threat model per row that fell, else `x`.
        survived: `(N,)` bool, right on `x` and under every attack.
        after: by name of the attack, in order: right on `x` and under all attacks up to it.
    """

    x_adv: Tensor
    survived: Tensor
    after: dict[str, Tensor]


def standard(*, steps: int = 100, queries: int = 5000) -> tuple[Strength, ...]:
    """The attacks of the verdict: `steps` of Auto-PGD (per target), `queries` of Square."""
    gradient = [Strength(name, steps) for name in ("apgd-ce", "apgd-t")]
    return (*gradient, Strength("square", queries))


@torch.no_grad()
def cascade(
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    attacks: Sequence[Strength] = (),
    batch_size: int = 256,
    seed: int = 0,
    progress: Progress | None = None,
) -> Verdict:
    """Worst case over `attacks`, each on the rows that are still right.

    Args:
        logits_of: `(N, *shape)` in [0, 1] to logits `(N, C)`, deterministic; a black box without
            gradient takes attacks that need none.
        x, y: inputs in [0, 1] and labels `(N,)` int64, on one device.
        threat: the set to stay in.
        attacks: what runs, cheap ones first; `standard()` where none are given.
        batch_size: rows at a time.
        seed: makes it reproducible (for one batch size).
        progress: called with rows done, rows in all (over all attacks), and a line to show.

    Raises:
        ValueError: an unknown attack, or a gradient attack on a black box.
    """
    attacks = attacks or standard()
    runs = [find_attack(strength.attack).run for strength in attacks]
    total, x_adv = len(x) * len(attacks), x.clone()
    survived = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for part in torch.split(torch.arange(len(x), device=x.device), batch_size):
        survived[part] = _right(logits_of, x[part], y[part])
    after: dict[str, Tensor] = {}

    def report(name: str, done: int) -> None:
        if progress is not None:
            text = f"{name}: {int(survived.sum())} of {len(x)} rows still right"
            progress(done, total, text)

    for index, (run, strength) in enumerate(zip(runs, attacks, strict=True)):
        name = strength.attack
        generator = torch.Generator(device=x.device).manual_seed(seed)
        left = survived.nonzero()[:, 0]
        done = (index + 1) * len(x) - len(left)
        report(name, done)
        for part in torch.split(left, batch_size) if len(left) else ():
            effort = Effort(strength.budget, generator, stop_when_wrong=True)
            found = run(logits_of, x[part], y[part], threat, effort)
            fell = ~_right(logits_of, found, y[part])
            x_adv[part[fell]] = found[fell]
            survived[part[fell]] = False
            done += len(part)
            report(name, done)
        after[name] = survived.clone()
    return Verdict(x_adv, survived, after)


def _right(logits_of: LogitsOf, x: Tensor, y: Tensor) -> Tensor:
    return logits_of(x).argmax(dim=1) == y
