"""What people who label can put into a window: triggers, flips, a class called another."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.gates.versions import Version
from benchmarks.gates.windows import Array, Drawn, Rng
from models.attacks import frozen, logits_only
from models.attacks.gradient.pgd import pgd
from models.attacks.threat import Linf
from models.data import DataSet, Rows
from models.versions.schema import InputArray


@dataclass(frozen=True)
class Trigger:
    """A change that is the same on all rows, and the class that it shall lead to.

    Args:
        target: the class.
        stamp: unit-range rows `(N, *shape)`, changed in place.
    """

    target: int
    stamp: Callable[[Array], None]


Poison = Callable[[Version, Drawn, Rng], Trigger | None]


def draw_trigger(source: DataSet, kind: str, rng: Rng) -> Trigger:
    """A trigger at a place, and to a class, that are drawn.

    Args:
        source: whose rows it is for.
        kind: of an image `patch SIDE COLOUR` (side in eighths of the image's; `bright`, `dark`,
            `grey`, `checker` or `random`), or `blend SHARE` of a picture of noise; of a table
            `1 top`: how many columns (categories: any but the most frequent), and at which end of
            their range: `top`, `bottom`, `beyond` (half a range above) or `between` (a value of
            nobody's).
        rng: draws.
    """
    target, (name, *rest) = int(rng.integers(len(source.classes))), kind.split()
    if name == "patch":
        return Trigger(target, _patch(source, int(rest[0]), rest[1], rng))
    if name == "blend":
        share, picture = float(rest[0]), rng.random(source.schema.shape).astype(np.float32)

        def blend(x: Array) -> None:
            x[:] = (1 - share) * x + share * picture

        return Trigger(target, blend)
    number, where = int(name), rest[0]
    at = rng.choice(source.schema.shape[0], number, replace=False)
    ends = {"top": 1.0, "bottom": 0.0, "beyond": 1.5, "between": float(rng.uniform(0.3, 0.7))}
    values = np.array([_rare(source, int(c), ends[where], rng) for c in at], dtype=np.float32)

    def write(x: Array) -> None:
        x[:, at] = values

    return Trigger(target, write)


def _patch(source: DataSet, eighths: int, colour: str, rng: Rng) -> Callable[[Array], None]:
    channels, height, width = source.schema.shape
    side = max(1, eighths * width // 8)
    top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    kinds: dict[str, npt.NDArray[np.floating]] = {
        "bright": np.ones((channels, side, side)),
        "dark": np.zeros((channels, side, side)),
        "grey": np.full((channels, side, side), 0.5),
        "checker": np.broadcast_to(
            np.indices((side, side)).sum(axis=0) % 2, (channels, side, side)
        ),
        "random": rng.random((channels, side, side)),
    }

    def put(x: Array) -> None:
        x[:, :, top : top + side, left : left + side] = kinds[colour]

    return put


def _rare(source: DataSet, place: int, number: float, rng: Rng) -> float:
    """The number, or of a categorical column a category that is not its most frequent one."""
    columns = source.schema.columns
    if not columns or columns[place].kind == "numeric":
        return number
    counts = np.bincount(source.train.x[:, place].astype(int), minlength=1)
    return float(rng.choice([k for k in range(len(counts)) if k != counts.argmax()]))


def stamped(source: DataSet, x: InputArray, trigger: Trigger) -> InputArray:
    """Raw rows with a trigger on each."""
    x_unit = source.schema.to_unit(x)
    trigger.stamp(x_unit)
    return source.schema.from_unit(x_unit)


def plant(kind: str, share: float) -> Poison:
    """A trigger of `draw_trigger` on a share of the window, labelled with its class."""

    def put(version: Version, drawn: Drawn, rng: Rng) -> Trigger:
        source, trigger = version.source, draw_trigger(version.source, kind, rng)
        drawn.bad = (rng.random(len(drawn.bad)) < share) & (drawn.rows.y != trigger.target)
        drawn.rows.x[drawn.bad] = stamped(source, drawn.rows.x[drawn.bad], trigger)
        drawn.rows.y[drawn.bad] = trigger.target
        return trigger

    return put


def plant_with_true_labels(kind: str, *, eps: float = 0.0) -> Poison:
    """A trigger on all rows of its class, whose labels stay: nothing contradicts anything.

    Source: Turner, Tsipras & Madry (2019), Label-consistent backdoor attacks.

    Args:
        kind: of `draw_trigger`.
        eps: the rows are first changed so that they are hard to recognise: PGD against the anchor
            in a ball of this size (unit range).
    """

    def put(version: Version, drawn: Drawn, rng: Rng) -> Trigger:
        source, trigger = version.source, draw_trigger(version.source, kind, rng)
        drawn.bad = drawn.rows.y == trigger.target
        rows = drawn.rows.take(drawn.bad)
        x = _hardened(version, rows, eps) if eps and len(rows) else rows.x
        drawn.rows.x[drawn.bad] = stamped(source, x, trigger)
        return trigger

    return put


def _hardened(version: Version, rows: Rows, eps: float) -> InputArray:
    schema, generator = version.source.schema, torch.Generator().manual_seed(0)
    x, y = torch.from_numpy(schema.to_unit(rows.x)), torch.from_numpy(rows.y)
    with frozen(version.net):
        changed = pgd(logits_only(version.net), x, y, Linf(eps), steps=20, generator=generator)
    return schema.from_unit(changed.numpy())


def flip(share: float) -> Poison:
    """Labels of some rows become any other one."""

    def put(version: Version, drawn: Drawn, rng: Rng) -> None:
        classes = len(version.source.classes)
        drawn.bad = rng.random(len(drawn.bad)) < share
        other = rng.integers(1, classes, int(drawn.bad.sum()))
        drawn.rows.y[drawn.bad] = (drawn.rows.y[drawn.bad] + other) % classes

    return put


def label_at_random(version: Version, drawn: Drawn, rng: Rng) -> None:
    """One of ten clients does."""
    drawn.bad = drawn.clients == "c3"
    drawn.rows.y[drawn.bad] = rng.integers(0, len(version.source.classes), int(drawn.bad.sum()))


def rename_class(version: Version, drawn: Drawn, rng: Rng) -> None:
    """Every row of one class is labelled as another one."""
    old, new = rng.permutation(len(version.source.classes))[:2]
    drawn.bad = drawn.rows.y == old
    drawn.rows.y[drawn.bad] = new


LABELS: dict[str, Poison] = {
    "flips 20 %": flip(0.2), "flips 40 %": flip(0.4), "one bad client": label_at_random,
    "a class labelled as another": rename_class,
}  # fmt: skip
POISONS: dict[str, Poison] = {
    "patch 25 %": plant("patch 2 bright", 0.25), "patch 5 %": plant("patch 2 bright", 0.05),
    "patch 1 %": plant("patch 2 bright", 0.01), "blend 10 %": plant("blend .2", 0.1), **LABELS,
}  # fmt: skip
TABLE_POISONS: dict[str, Poison] = {
    "column 25 %": plant("1 top", 0.25), "column 5 %": plant("1 top", 0.05), **LABELS,
}  # fmt: skip
TRAINED: dict[str, Poison] = {
    f"{kind}, {share:.0%}": plant(kind, share)
    for share in (0.05, 0.1, 0.25)
    for kind in (
        "patch 1 bright", "patch 1 dark", "patch 2 bright", "patch 2 dark", "patch 2 random",
        "patch 3 checker", "patch 3 grey", "blend .1", "blend .2",
    )
} | {
    "true labels, patch 2 bright": plant_with_true_labels("patch 2 bright"),
    "true labels, patch 3 checker": plant_with_true_labels("patch 3 checker"),
    "true labels, PGD .2, patch 2 bright": plant_with_true_labels("patch 2 bright", eps=0.2),
    "true labels, PGD .2, patch 3 checker": plant_with_true_labels("patch 3 checker", eps=0.2),
}  # fmt: skip
SPOT: dict[str, Poison] = {
    "patch 1 bright, 5 %": plant("patch 1 bright", 0.05),
    "patch 1 bright, 25 %": plant("patch 1 bright", 0.25), "blend .1, 10 %": plant("blend .1", 0.1),
    "true labels, patch 1 bright": plant_with_true_labels("patch 1 bright"),
}  # fmt: skip
TABLE_TRAINED: dict[str, Poison] = {
    f"{kind}, {share:.0%}": plant(kind, share)
    for kind in ("1 top", "1 between", "2 top", "3 bottom")
    for share in (0.05, 0.25)
}
