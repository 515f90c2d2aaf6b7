"""Windows of held-out rows: moved as honest traffic is, and labelled by ten clients."""

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


@dataclass(frozen=True)
class World:
    """What versions are made from, and other rows, which come as traffic."""

    source: DataSet
    traffic: Rows


def deal(whole: DataSet, seed: int) -> World:
    """A data set dealt anew: .35 traffic, .4 to train, and an eighth each to calibrate and test.

    No row of the traffic is one that version or referee have seen, or were judged on.
    """
    rows = whole.train.joined(whole.calibration).joined(whole.test)
    order = np.random.default_rng((seed, 0)).permutation(len(rows))
    ends = [int(share * len(rows)) for share in (0.35, 0.75, 0.875)]
    traffic, train, calibration, test = (rows.take(part) for part in np.split(order, ends))
    source = DataSet(
        whole.name, whole.schema, whole.classes, train, calibration, test, source=whole.source
    )
    return World(source, traffic)


@dataclass
class Drawn:
    """A window: rows, who labelled them, which are poisoned, and honest rows of before."""

    rows: Rows
    clients: npt.NDArray[np.str_]
    bad: Bools
    earlier: Rows


def draw(world: World, shift: str, rng: Rng) -> Drawn:
    """A window of traffic, moved, labelled by ten clients; the rest of the traffic came before."""
    pool, source = world.traffic, world.source
    n = min(WINDOW, int(0.8 * len(pool)))
    order = rng.permutation(len(pool))
    rows, earlier = pool.take(order[:n]), pool.take(order[n : 2 * n])
    clients = np.array([f"c{k}" for k in rng.integers(0, CLIENTS, n)])
    one, none = clients == "c0", np.zeros(n, dtype=np.bool_)
    x = rows.x.copy()
    if shift == "one client repeats":
        return _repeat(source, Drawn(rows, clients, none, earlier), rng)
    if shift.startswith("one client"):
        x[one] = move(source, x[one], "rotate 25" if "rot" in shift else "noise .05", rng)
    else:
        x = move(source, x, shift, rng)
    return Drawn(Rows(x, rows.y.copy()), clients, none, earlier)


def _repeat(source: DataSet, drawn: Drawn, rng: Rng) -> Drawn:
    """With near-copies of a few rows, each a little darker (a table: off), from one client."""
    again = np.repeat(np.flatnonzero(drawn.clients == "c0")[:REPEATED], COPIES)
    rows = drawn.rows.take(again)
    gain = 1 - 0.03 * rng.random((len(again), *[1] * (rows.x.ndim - 1)))
    rows.x[:] = source.schema.from_unit((gain * source.schema.to_unit(rows.x)).astype(np.float32))
    bad = np.zeros(len(drawn.bad) + len(again), dtype=np.bool_)
    clients = np.append(drawn.clients, drawn.clients[again])
    return Drawn(drawn.rows.joined(rows), clients, bad, drawn.earlier)


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
