"""The attacks there are, one record each: read by the cascade, the suites, their figures, the
scores, and the perturbation head.

A new attack is its file and its record here; what it is called, what it needs, how strong it is in
which suite and whether the head learns from it stands nowhere else.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

import msgspec
import torch
from torch import Tensor

from models.attacks.base import LogitsOf, Loss, cross_entropy, dlr, margin
from models.attacks.gradient.apgd import apgd
from models.attacks.gradient.cw import cw_l2
from models.attacks.gradient.deepfool import deepfool
from models.attacks.gradient.low_frequency import low_frequency
from models.attacks.gradient.pgd import fgsm, pgd
from models.attacks.gradient.targeted import apgd_targeted
from models.attacks.gradient.universal import universal
from models.attacks.queries.boundary import boundary
from models.attacks.queries.hop_skip_jump import hop_skip_jump
from models.attacks.queries.spatial import spatial
from models.attacks.queries.square import square
from models.attacks.sparse.deepfool_l1 import deepfool_l1
from models.attacks.sparse.ead import ead
from models.attacks.sparse.patch import patch
from models.attacks.sparse.pixels import SIDE, pixels, scaled_count
from models.attacks.sparse.sparsefool import sparsefool
from models.attacks.threat import Columns, Threat
from models.versions.judging import SUITES, Suite

SHARE = 0.35  # of the rows that the perturbation head meets an attack on, per size


class Effort(NamedTuple):
    """How hard an attack tries on a batch."""

    budget: int  # steps or queries
    generator: torch.Generator
    stop_when_wrong: bool = False  # a row that fell is left alone: enough for a verdict


Run = Callable[[LogitsOf, Tensor, Tensor, Threat, Effort], Tensor]


class Roles(NamedTuple):
    """Budgets in the suites, quick and full; 0: it does not run in that one."""

    alone: tuple[int, int] = (0, 0)  # on every row, for the scores and the checks of masking
    cascade: tuple[int, int] = (0, 0)  # on the rows that are right still, at the threat's size
    curve: tuple[int, int] = (0, 0)  # the same at every size


NOWHERE = Roles()


class Learnt(NamedTuple):
    """How the perturbation head meets an attack: weak, but at several sizes.

    An attack that is bound by the threat meets it at several eps; one that is not, with several
    budgets.
    """

    budget: int
    share: float = SHARE
    more: tuple[int, ...] = ()  # budgets beside the first
    tables: bool = True  # whether a table's head learns from it too

    @property
    def budgets(self) -> tuple[int, ...]:
        """All of them."""
        return (self.budget, *self.more)


@dataclass(frozen=True)
class Attack:
    """One attack.

    Args:
        name: what it is called in figures, manifests and metrics.
        run: `(logits_of, x, y, threat, effort)` to points `(N, *shape)` in [0, 1].
        counts: what its budget counts; `step`: it has only one; `pixels`: of an 8x8 image.
        gradient: whether it needs one; a black box meets only those that do not.
        nearest: looks for the smallest change: of a threat it takes what may change at all.
        free: bound by no norm: a few pixels, a patch, a turn. Of a threat it takes nothing.
        images: makes sense for images only: it is refused for tables.
        least_classes, most_classes: of the models that it makes sense for.
        roles: in the suites, where there is a gradient.
        black_box: in the suites, where there is none.
        learnt: by the perturbation head; None: kept aside, so that the head can be judged on it.
        passes: through the net per step, or query: how long it takes.
    """

    name: str
    run: Run
    counts: Literal["step", "steps", "queries", "pixels"] = "steps"
    gradient: bool = True
    nearest: bool = False
    free: bool = False
    images: bool = False
    least_classes: int = 2
    most_classes: int | None = None
    roles: Roles = NOWHERE
    black_box: Roles = NOWHERE
    learnt: Learnt | None = None
    passes: int = 3

    def suits(self, classes: int, *, images: bool = True) -> bool:
        """Whether it makes sense for so many classes, of images or of the rows of a table."""
        most = self.most_classes or classes
        return self.least_classes <= classes <= most and (images or not self.images)


class Strength(msgspec.Struct, frozen=True):
    """An attack with its budget, as a suite runs it.

    >>> str(Strength("pgd", 20)), str(Strength("fgsm", 1))
    ('pgd-20', 'fgsm')
    """

    attack: str
    budget: int

    @property
    def cost(self) -> int:
        """Passes through the net per row, about."""
        return find_attack(self.attack).passes * self.budget

    def __str__(self) -> str:
        """As figures name it."""
        single = find_attack(self.attack).counts == "step"
        return self.attack if single else f"{self.attack}-{self.budget}"


def _climb(loss_of: Callable[[LogitsOf, Tensor], Loss], *, auto: bool) -> Run:
    """PGD or Auto-PGD on a loss."""

    def run(f: LogitsOf, x: Tensor, y: Tensor, threat: Threat, effort: Effort) -> Tensor:
        steps, generator, stop = effort
        loss = loss_of(f, x)
        if auto:
            return apgd(
                f, x, y, threat, steps=steps, loss=loss, stop_when_wrong=stop, generator=generator
            )
        return pgd(f, x, y, threat, steps=steps, loss=loss, generator=generator)

    return run


def _scale_free(f: LogitsOf, x: Tensor) -> Loss:
    """The difference of logits ratio, which needs three classes, or the margin."""
    with torch.no_grad():
        return dlr if f(x[:1]).shape[1] > 2 else margin


def _movable(threat: Threat, x: Tensor) -> Tensor | None:
    """What may change at all `(N, D)`: not every column of a table; None for everything."""
    if not isinstance(threat, Columns):
        return None
    return (threat.down + threat.up > 0).expand(x.shape)


_ce, _margin = (lambda f, x: cross_entropy), (lambda f, x: margin)
_ALL = (
    Attack(
        "fgsm",
        lambda f, x, y, threat, effort: fgsm(f, x, y, threat),
        counts="step",
        roles=Roles(alone=(1, 1)),
        learnt=Learnt(1, share=0.6),
    ),
    Attack("pgd", _climb(_ce, auto=False), roles=Roles(alone=(20, 40)), learnt=Learnt(8)),
    Attack("pgd-margin", _climb(_margin, auto=False)),
    Attack("pgd-dlr", _climb(_scale_free, auto=False), learnt=Learnt(8)),
    Attack("apgd-ce", _climb(_ce, auto=True), roles=Roles(cascade=(10, 100), curve=(10, 50))),
    Attack(
        "apgd-dlr",
        _climb(_scale_free, auto=True),
        least_classes=3,
        roles=Roles(alone=(10, 50), curve=(10, 50)),
    ),
    Attack(
        "apgd-margin",
        _climb(_margin, auto=True),
        most_classes=2,
        roles=Roles(alone=(10, 50), curve=(10, 50)),
    ),
    Attack(
        "apgd-t",
        lambda f, x, y, threat, effort: apgd_targeted(
            f, x, y, threat, steps=effort.budget, generator=effort.generator
        ),
        roles=Roles(cascade=(10, 100)),
        passes=20,
    ),
    Attack(
        "square",
        lambda f, x, y, threat, effort: square(
            f, x, y, threat, queries=effort.budget, generator=effort.generator
        ),
        counts="queries",
        gradient=False,
        roles=Roles(alone=(100, 1000), cascade=(0, 5000)),
        black_box=Roles(alone=(100, 1000), cascade=(300, 5000), curve=(100, 1000)),
        learnt=Learnt(60, share=0.2),
        passes=1,
    ),
    Attack(
        "cw-l2",
        lambda f, x, y, threat, effort: cw_l2(
            f, x, y, steps=effort.budget, movable=_movable(threat, x)
        ),
        nearest=True,
        roles=Roles(alone=(0, 50)),
        passes=15,
    ),
    Attack(
        "deepfool",
        lambda f, x, y, threat, effort: deepfool(
            f, x, y, steps=effort.budget, movable=_movable(threat, x)
        ),
        nearest=True,
        roles=Roles(alone=(0, 50)),
        learnt=Learnt(8, share=0.5),
        passes=15,
    ),
    Attack(
        "low-frequency",
        lambda f, x, y, threat, effort: low_frequency(
            f, x, y, threat, steps=effort.budget, generator=effort.generator
        ),
        images=True,
        learnt=Learnt(6, share=0.12),
    ),
    Attack(
        "universal",
        lambda f, x, y, threat, effort: universal(
            f, x, y, threat, steps=effort.budget, generator=effort.generator
        ),
        learnt=Learnt(15, share=0.12, tables=False),
    ),
    Attack(
        "pixels",
        lambda f, x, y, threat, effort: pixels(
            f,
            x,
            y,
            count=scaled_count(effort.budget, *x.shape[2:]),
            generator=effort.generator,
        ),
        counts="pixels",
        gradient=False,
        free=True,
        images=True,
        learnt=Learnt(1, share=0.12, more=(2, 3, 5)),
        passes=100,
    ),
    Attack(
        "patch",
        lambda f, x, y, threat, effort: patch(
            f,
            x,
            y,
            side=max(1, round(effort.budget * min(x.shape[2:]) / SIDE)),
            generator=effort.generator,
        ),
        counts="pixels",
        free=True,
        images=True,
        learnt=Learnt(2, share=0.12, more=(3,)),
        passes=40,
    ),
    Attack(
        "ead",
        lambda f, x, y, threat, effort: ead(f, x, y, steps=effort.budget),
        nearest=True,
        images=True,
        learnt=Learnt(20, share=0.1),
        passes=10,
    ),
    Attack(
        "deepfool-l1",
        lambda f, x, y, threat, effort: deepfool_l1(f, x, y, steps=effort.budget),
        nearest=True,
        images=True,
        learnt=Learnt(40, share=0.15),
        passes=10,
    ),
    Attack(
        "sparsefool",
        lambda f, x, y, threat, effort: sparsefool(f, x, y, steps=effort.budget),
        nearest=True,
        images=True,
        passes=60,
    ),
    Attack(
        "boundary",
        lambda f, x, y, threat, effort: boundary(
            f, x, y, queries=effort.budget, generator=effort.generator
        ),
        counts="queries",
        gradient=False,
        nearest=True,
        images=True,
        learnt=Learnt(400, share=0.025),
        passes=1,
    ),
    Attack(
        "hop-skip-jump",
        lambda f, x, y, threat, effort: hop_skip_jump(
            f, x, y, queries=effort.budget, generator=effort.generator
        ),
        counts="queries",
        gradient=False,
        nearest=True,
        images=True,
        learnt=Learnt(800, share=0.025, more=(2500,)),
        passes=1,
    ),
    Attack(
        "spatial",
        lambda f, x, y, threat, effort: spatial(f, x, y, places=effort.budget),
        counts="queries",
        gradient=False,
        free=True,
        images=True,
        passes=25,
    ),
)
CATALOGUE: Mapping[str, Attack] = MappingProxyType({attack.name: attack for attack in _ALL})


def find_attack(name: str) -> Attack:
    """The record of a name. Raises ValueError with the names there are."""
    try:
        return CATALOGUE[name]
    except KeyError:
        raise ValueError(f"unknown attack {name!r}; known: {', '.join(CATALOGUE)}") from None


def strengths(
    role: Literal["alone", "cascade", "curve"],
    suite: Suite,
    *,
    black_box: bool,
    classes: int,
    images: bool = True,
    nearest: bool = False,
) -> tuple[Strength, ...]:
    """What runs in a role of a suite, in the order of the catalogue.

    >>> [str(s) for s in strengths("cascade", "quick", black_box=False, classes=10)]
    ['apgd-ce-10', 'apgd-t-10']
    """
    found = []
    for attack in CATALOGUE.values():
        roles = attack.black_box if black_box else attack.roles
        budget = getattr(roles, role)[SUITES.index(suite)]
        if budget and attack.nearest == nearest and attack.suits(classes, images=images):
            found.append(Strength(attack.name, budget))
    return tuple(found)


def learnt_attacks(*, black_box: bool, images: bool = True) -> Sequence[Attack]:
    """The attacks that the perturbation head is fitted on, for images or for tables."""
    return [
        a
        for a in _ALL
        if a.learnt is not None
        and not (black_box and a.gradient)
        and (images or (a.learnt.tables and not a.images))
    ]
