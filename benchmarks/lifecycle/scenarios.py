"""What happens to the world in each scenario: shifts of the inputs, of the labels, and who labels.

A phase is a world that holds until the loop has answered it, or its patience is over.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models import corruptions
from models.data import DataSet, Rows
from models.versions.schema import InputArray

Array = npt.NDArray[np.float32]
Rng = np.random.Generator
PATIENCE_SECONDS, REFUSED_SECONDS, QUIET_SECONDS = 900.0, 420.0, 180.0
HARM_POINTS = 0.03  # a fall of accuracy that a retraining answers
SWAPPED = (3, 8)  # classes whose labels change places


@dataclass(frozen=True)
class Phase:
    """One world.

    Args:
        shift: name in `SHIFTS`.
        mendable: whether a retraining can answer it; otherwise every training is needless.
        seconds: patience with the loop; a phase that is not answered by a promotion lasts so long.
    """

    shift: str
    mendable: bool = True
    seconds: float = PATIENCE_SECONDS


@dataclass(frozen=True)
class Scenario:
    """Phases after clean traffic, and how they are labelled.

    Args:
        name: of the scenario.
        phases: in their order.
        rate: requests a second of all clients together.
        delay_seconds: from an answer to its label.
        labelled: share of the answers that get a label.
        only: the one class that is labelled; None: all.
    """

    name: str
    phases: tuple[Phase, ...]
    rate: float = 150.0
    delay_seconds: float = 1.0
    labelled: float = 1.0
    only: int | None = None


def _turn(x: Array, rng: Rng) -> InputArray:
    return corruptions.rotated(x, 25.0)


def _shuffle(x: Array, rng: Rng) -> InputArray:
    """Every picture's pixels in an order of its own: nothing is left to learn."""
    flat = rng.permuted(x.reshape(len(x), -1), axis=1)
    return flat.reshape(x.shape)


def _translate(x: Array, rng: Rng) -> InputArray:
    """One pixel to the right and down, nothing behind it."""
    moved = np.zeros_like(x)
    moved[..., 1:, 1:] = x[..., :-1, :-1]
    return moved


SHIFTS: dict[str, Callable[[Array, Rng], InputArray]] = {
    "clean": lambda x, rng: x,
    "rotate": _turn,
    "noise": lambda x, rng: corruptions.noisy(x, 0.3, rng),
    "blur": lambda x, rng: corruptions.blurred(x, 1.2),
    "contrast": lambda x, rng: 0.2 * x + 0.8 * x.mean((1, 2, 3), keepdims=True),
    "mirror": lambda x, rng: x[..., ::-1],
    "translate": _translate,
    "shuffled": _shuffle,
    "class mix": lambda x, rng: x,
    "swapped labels": lambda x, rng: x,
}
SCENARIOS: tuple[Scenario, ...] = (
    *(Scenario(s, (Phase(s),)) for s in ("rotate", "noise", "blur", "contrast", "mirror")),
    Scenario("translate", (Phase("translate"),)),
    Scenario("class mix", (Phase("class mix", mendable=False, seconds=QUIET_SECONDS),)),
    Scenario("two in a row", (Phase("rotate"), Phase("blur"))),
    Scenario("A-B-A", (Phase("rotate"), Phase("mirror"), Phase("rotate"))),
    Scenario("swapped labels", (Phase("swapped labels", seconds=REFUSED_SECONDS),)),
    Scenario("late labels", (Phase("rotate"),), delay_seconds=60.0),
    Scenario("a tenth labelled", (Phase("rotate"),), labelled=0.1),
    Scenario("one class labelled", (Phase("rotate", seconds=REFUSED_SECONDS),), only=3),
    Scenario("unmendable", (Phase("shuffled", mendable=False, seconds=REFUSED_SECONDS),)),
    Scenario("rotate, 5 a second", (Phase("rotate"),), rate=5.0),
)


def render(source: DataSet, rows: Rows, shift: str, seed: int) -> Rows:
    """The rows as the world of a phase has them: raw inputs, and what is true of them there."""
    rng = np.random.default_rng(seed)
    x_unit = SHIFTS[shift](source.schema.to_unit(rows.x).astype(np.float32), rng)
    x = source.schema.from_unit(np.clip(x_unit, 0, 1).astype(np.float32))
    y = rows.y.copy()
    if shift == "swapped labels":
        first, second = SWAPPED
        y[rows.y == first], y[rows.y == second] = second, first
    moved = Rows(np.asarray(x, dtype=rows.x.dtype), y)
    if shift != "class mix":
        return moved
    weight = np.where(rows.y < len(source.classes) // 2, 9.0, 1.0)  # nine in ten of the first half
    return moved.take(rng.choice(len(rows), len(rows), p=weight / weight.sum()))
