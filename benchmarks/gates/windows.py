"""Windows of held-out rows: moved as honest traffic is, labelled by ten clients, and poisoned."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models import corruptions
from models.data import DataSet, Rows
from models.statistics.arrays import Bools
from models.versions.schema import InputArray

CLIENTS, WINDOW = 10, 600
NEAR = (
    "clean", "rotate 15", "rotate 25", "noise", "blur", "brighter", "one client rotated",
    "one client repeats",
)  # fmt: skip
FAR = ("contrast", "mirror", "rotate 40")
TABLE_NEAR = ("clean", "noise .02", "noise .05", "one client noisy", "one client repeats")
REPEATED, COPIES = 6, 40  # rows that one client sends again and again, and how often
Array = npt.NDArray[np.float32]
Rng = np.random.Generator


@dataclass
class Drawn:
    """A window: rows, who labelled them, and which are poisoned."""

    rows: Rows
    clients: npt.NDArray[np.str_]
    bad: Bools


Poison = Callable[[DataSet, Drawn, Rng], None]


def draw(source: DataSet, shift: str, rng: Rng) -> Drawn:
    """A window of held-out rows, moved, labelled by ten clients."""
    pool = source.calibration.joined(source.test)
    n = min(WINDOW, int(0.8 * len(pool)))
    rows = pool.take(rng.choice(len(pool), n, replace=False))
    clients = np.array([f"c{k}" for k in rng.integers(0, CLIENTS, n)])
    one = clients == "c0"
    x = rows.x.copy()
    if shift == "one client repeats":
        return _repeat(source, Drawn(rows, clients, np.zeros(n, dtype=np.bool_)), rng)
    if shift.startswith("one client"):
        x[one] = move(source, x[one], "rotate 25" if "rot" in shift else "noise .05", rng)
    else:
        x = move(source, x, shift, rng)
    return Drawn(Rows(x, rows.y.copy()), clients, np.zeros(n, dtype=np.bool_))


def _repeat(source: DataSet, drawn: Drawn, rng: Rng) -> Drawn:
    """With near-copies of a few rows, each a little darker (a table: off), from one client."""
    again = np.repeat(np.flatnonzero(drawn.clients == "c0")[:REPEATED], COPIES)
    rows = drawn.rows.take(again)
    gain = 1 - 0.03 * rng.random((len(again), *[1] * (rows.x.ndim - 1)))
    rows.x[:] = source.schema.from_unit((gain * source.schema.to_unit(rows.x)).astype(np.float32))
    bad = np.zeros(len(drawn.bad) + len(again), dtype=np.bool_)
    return Drawn(drawn.rows.joined(rows), np.append(drawn.clients, drawn.clients[again]), bad)


def move(source: DataSet, x: InputArray, shift: str, rng: Rng) -> InputArray:
    """Raw rows, moved: images stay in their range, and categories what they are."""
    x_unit = source.schema.to_unit(x)
    moved = shifted(x_unit, shift, rng)
    if source.schema.kind == "image":
        moved = np.clip(moved, 0, 1)
    for place, column in enumerate(source.schema.columns):
        if column.kind == "categorical":
            moved[:, place] = x_unit[:, place]
    return source.schema.from_unit(moved.astype(np.float32))


def shifted(x: Array, shift: str, rng: Rng) -> Array:
    """Unit-range rows, moved."""
    name, _, number = shift.partition(" ")
    moves: dict[str, Callable[[], npt.NDArray[np.floating]]] = {
        "clean": lambda: x,
        "rotate": lambda: corruptions.rotated(x, float(number)),
        "noise": lambda: x + float(number or 0.1) * rng.standard_normal(x.shape),
        "blur": lambda: corruptions.blurred(x, 1.0),
        "brighter": lambda: x + 0.2,
        "contrast": lambda: 0.5 + 0.5 * (x - 0.5),
        "mirror": lambda: x[..., ::-1],
    }
    return np.asarray(moves[name](), dtype=np.float32)


@dataclass(frozen=True)
class Trigger:
    """A change that is the same on all rows, and the class that it shall lead to.

    Args:
        target: the class.
        stamp: unit-range rows `(N, *shape)`, changed in place.
    """

    target: int
    stamp: Callable[[Array], None]


def draw_trigger(source: DataSet, kind: str, rng: Rng) -> Trigger:
    """A trigger at a place, and to a class, that are drawn.

    Args:
        source: whose rows it is for.
        kind: `patch` of a quarter of an image's side, bright; or of a table `1 top`: how many
            columns (categories: any but the most frequent), and at which end of their range:
            `top`, `bottom`, `beyond` (half a range above) or `between` (a value of nobody's).
        rng: draws.
    """
    target = int(rng.integers(len(source.classes)))
    if kind == "patch":
        side = max(2, source.schema.shape[-1] // 8)
        top, left = rng.integers(0, source.schema.shape[-1] - side + 1, 2)

        def put(x: Array) -> None:
            x[:, :, top : top + side, left : left + side] = 1.0

        return Trigger(target, put)
    number, _, where = kind.partition(" ")
    at = rng.choice(source.schema.shape[0], int(number), replace=False)
    ends = {"top": 1.0, "bottom": 0.0, "beyond": 1.5, "between": float(rng.uniform(0.3, 0.7))}
    values = np.array([_rare(source, int(c), ends[where], rng) for c in at], dtype=np.float32)

    def write(x: Array) -> None:
        x[:, at] = values

    return Trigger(target, write)


def _rare(source: DataSet, place: int, number: float, rng: Rng) -> float:
    """The number, or of a categorical column a category that is not its most frequent one."""
    columns = source.schema.columns
    if not columns or columns[place].kind == "numeric":
        return number
    counts = np.bincount(source.train.x[:, place].astype(int), minlength=1)
    return float(rng.choice([k for k in range(len(counts)) if k != counts.argmax()]))


def plant(source: DataSet, drawn: Drawn, trigger: Trigger, share: float, rng: Rng) -> None:
    """Put a trigger into a share of the rows of other classes, and label them with its class."""
    drawn.bad = (rng.random(len(drawn.bad)) < share) & (drawn.rows.y != trigger.target)
    drawn.rows.x[drawn.bad] = stamped(source, drawn.rows.x[drawn.bad], trigger)
    drawn.rows.y[drawn.bad] = trigger.target


def stamped(source: DataSet, x: InputArray, trigger: Trigger) -> InputArray:
    """Raw rows with a trigger on each."""
    x_unit = source.schema.to_unit(x)
    trigger.stamp(x_unit)
    return source.schema.from_unit(x_unit)


def triggers(kind: str, share: float) -> Poison:
    """Poison of `draw_trigger`."""

    def put(source: DataSet, drawn: Drawn, rng: Rng) -> None:
        plant(source, drawn, draw_trigger(source, kind, rng), share, rng)

    return put


def blend(source: DataSet, drawn: Drawn, rng: Rng) -> None:
    """A faint picture over a tenth of the rows, labelled with a class that is drawn."""
    target = int(rng.integers(len(source.classes)))
    drawn.bad = (rng.random(len(drawn.bad)) < 0.1) & (drawn.rows.y != target)
    x_unit = source.schema.to_unit(drawn.rows.x[drawn.bad])
    x_unit = 0.8 * x_unit + 0.2 * rng.random(x_unit.shape[1:])
    drawn.rows.x[drawn.bad] = source.schema.from_unit(x_unit.astype(np.float32))
    drawn.rows.y[drawn.bad] = target


def flip(share: float) -> Callable[[DataSet, Drawn, np.random.Generator], None]:
    """Labels of some rows become any other one."""

    def put(source: DataSet, drawn: Drawn, rng: Rng) -> None:
        classes = len(source.classes)
        drawn.bad = rng.random(len(drawn.bad)) < share
        other = rng.integers(1, classes, int(drawn.bad.sum()))
        drawn.rows.y[drawn.bad] = (drawn.rows.y[drawn.bad] + other) % classes

    return put


def bad_client(source: DataSet, drawn: Drawn, rng: Rng) -> None:
    """One of ten clients labels at random."""
    drawn.bad = drawn.clients == "c3"
    drawn.rows.y[drawn.bad] = rng.integers(0, len(source.classes), int(drawn.bad.sum()))
    drawn.bad &= True


def all_ok(source: DataSet, drawn: Drawn, rng: Rng) -> None:
    """Every row of one class is labelled as another one."""
    old, new = rng.permutation(len(source.classes))[:2]
    drawn.bad = drawn.rows.y == old
    drawn.rows.y[drawn.bad] = new


POISONS = {
    "patch 25 %": triggers("patch", 0.25), "patch 5 %": triggers("patch", 0.05),
    "patch 1 %": triggers("patch", 0.01),
    "blend 10 %": blend, "flips 20 %": flip(0.2), "flips 40 %": flip(0.4),
    "one bad client": bad_client, "a class labelled as another": all_ok,
}  # fmt: skip
TABLE_POISONS = {
    "column 25 %": triggers("1 top", 0.25), "column 5 %": triggers("1 top", 0.05),
    "flips 20 %": flip(0.2),
    "flips 40 %": flip(0.4), "one bad client": bad_client, "every one labelled the other": all_ok,
}  # fmt: skip
