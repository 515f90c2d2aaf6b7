"""The cascade: several attacks in a row, each on the rows that survived the ones before.

Own AutoAttack (Croce & Hein 2020, section 5) without FAB: a row counts as robust when APGD on the
cross-entropy, targeted APGD and the square attack all leave it right.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.attacks.apgd import apgd
from models.attacks.base import LogitsOf, cross_entropy, dlr, margin
from models.attacks.pgd import pgd
from models.attacks.square import square
from models.attacks.targeted import apgd_targeted
from models.threat import Threat

Attack = Callable[[LogitsOf, Tensor, Tensor, Threat, int, int, torch.Generator], Tensor]
Progress = Callable[[int, int, str], None]
STANDARD = ("apgd-ce", "apgd-t", "square")


def _apgd_ce(
    f: LogitsOf, x: Tensor, y: Tensor, threat: Threat, steps: int, _: int, g: torch.Generator
) -> Tensor:
    return apgd(f, x, y, threat, steps=steps, loss=cross_entropy, stop_when_wrong=True, generator=g)


def _apgd_margin(
    f: LogitsOf, x: Tensor, y: Tensor, threat: Threat, steps: int, _: int, g: torch.Generator
) -> Tensor:
    return apgd(f, x, y, threat, steps=steps, loss=margin, stop_when_wrong=True, generator=g)


def _apgd_dlr(
    f: LogitsOf, x: Tensor, y: Tensor, threat: Threat, steps: int, _: int, g: torch.Generator
) -> Tensor:
    with torch.no_grad():
        loss = dlr if f(x[:1]).shape[1] > 2 else margin
    return apgd(f, x, y, threat, steps=steps, loss=loss, stop_when_wrong=True, generator=g)


def _apgd_t(
    f: LogitsOf, x: Tensor, y: Tensor, threat: Threat, steps: int, _: int, g: torch.Generator
) -> Tensor:
    return apgd_targeted(f, x, y, threat, steps=steps, generator=g)


def _pgd(
    f: LogitsOf, x: Tensor, y: Tensor, threat: Threat, steps: int, _: int, g: torch.Generator
) -> Tensor:
    return pgd(f, x, y, threat, steps=steps, generator=g)


def _square(
    f: LogitsOf, x: Tensor, y: Tensor, threat: Threat, _: int, queries: int, g: torch.Generator
) -> Tensor:
    return square(f, x, y, threat, queries=queries, generator=g)


ATTACKS: dict[str, Attack] = {
    "apgd-ce": _apgd_ce,
    "apgd-dlr": _apgd_dlr,
    "apgd-margin": _apgd_margin,
    "apgd-t": _apgd_t,
    "pgd": _pgd,
    "square": _square,
}


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


@torch.no_grad()
def cascade(
    logits_of: LogitsOf,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    attacks: Sequence[str] = STANDARD,
    steps: int = 100,
    queries: int = 5000,
    batch_size: int = 256,
    seed: int = 0,
    progress: Progress | None = None,
) -> Verdict:
    """Worst case over `attacks`, each on the rows that are still right.

    Args:
        logits_of: `(N, *shape)` in [0, 1] to logits `(N, C)`, deterministic; a black box without
            gradient takes `("square",)` only.
        x, y: inputs in [0, 1] and labels `(N,)` int64, on one device.
        threat: the set to stay in.
        attacks: names in `ATTACKS`, cheap ones first.
        steps: of the gradient attacks (per target).
        queries: of the square attack.
        batch_size: rows at a time.
        seed: makes it reproducible (for one batch size).
        progress: called with rows done, rows in all (over all attacks), and a line to show.

    Raises:
        ValueError: an unknown attack, or a gradient attack on a black box.
    """
    unknown = [name for name in attacks if name not in ATTACKS]
    if unknown:
        raise ValueError(f"unknown attack {unknown[0]!r}; known: {', '.join(ATTACKS)}")
    total, x_adv = len(x) * len(attacks), x.clone()
    survived = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for part in torch.split(torch.arange(len(x), device=x.device), batch_size):
        survived[part] = _right(logits_of, x[part], y[part])
    after: dict[str, Tensor] = {}

    def report(name: str, done: int) -> None:
        if progress is not None:
            text = f"{name}: {int(survived.sum())} of {len(x)} rows still right"
            progress(done, total, text)

    for index, name in enumerate(attacks):
        generator = torch.Generator(device=x.device).manual_seed(seed)
        left = survived.nonzero()[:, 0]
        done = (index + 1) * len(x) - len(left)
        report(name, done)
        for part in torch.split(left, batch_size) if len(left) else ():
            found = ATTACKS[name](logits_of, x[part], y[part], threat, steps, queries, generator)
            fell = ~_right(logits_of, found, y[part])
            x_adv[part[fell]] = found[fell]
            survived[part[fell]] = False
            done += len(part)
            report(name, done)
        after[name] = survived.clone()
    return Verdict(x_adv, survived, after)


def _right(logits_of: LogitsOf, x: Tensor, y: Tensor) -> Tensor:
    return logits_of(x).argmax(dim=1) == y
