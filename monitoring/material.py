"""Material of the score heads: clean, benignly corrupted and attacked rows of a data set.

A net is attacked through its gradients; a graph without a net (wrapped) by Square, which asks it
many times. Rows are capped, so that the heads of a large data set cost no more than minutes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from models import attacks
from models.corruptions import random_benign
from models.data import DataSet, Rows
from models.errors import DataError
from models.evaluate import attacked_rows
from models.runner import session
from models.schema import InputArray, InputSchema
from models.threat import ThreatModel
from monitoring.instrument import Material
from monitoring.window import Window

SIZES = (1 / 3, 2 / 3, 1.0, 4 / 3, 2.0)  # of the attacks, in units of the threat's eps
REFERENCE_ROWS, FIT_ROWS, HELD_ROWS, KIND_ROWS = 2048, 1500, 5000, 500
BENIGN_COPIES = 10
STEPS, QUERIES, QUERIED_ROWS = 10, 150, 250
ATTACK_FLOPS = 1e12  # of all attacks on one set of rows; a large net is attacked on fewer rows
FEWEST_ROWS = 120
WINDOW_REFERENCE = 40  # held-out window rows from which the stream is compared with the window


@dataclass(frozen=True)
class Victim:
    """What is attacked: a torch net, or a plain graph that can only be asked."""

    schema: InputSchema
    threat: ThreatModel
    net: nn.Module | None
    plain: onnx.ModelProto

    def attacked(self, rows: Rows) -> InputArray:
        """The rows under every attack at every size (the first ones, where that is dear).

        A row that an attack leaves as it is (it was misclassified before) is no attacked row.
        """
        most = QUERIED_ROWS if self.net is None else self._affordable(self.net)
        rows = rows.take(np.arange(min(len(rows), most)))
        names = ("square",) if self.net is None else ("fgsm", "pgd")
        unit, parts = self.schema.to_unit(rows.x), []
        for size in self._sizes():
            for attack in names:
                x = self._attack(rows, size, attack)
                change = np.nan_to_num(np.abs(self.schema.to_unit(x) - unit))
                changed = change.reshape(len(rows), -1).max(axis=1) > 1e-3 * size
                parts.append(x[changed] if changed.any() else x)
        return np.concatenate(parts)

    def _sizes(self) -> list[float]:
        sizes = [share * self.threat.eps for share in SIZES]
        return sizes if self.threat.norm == "l2" else [min(size, 1.0) for size in sizes]

    def _attack(self, rows: Rows, size: float, attack: str) -> InputArray:
        threat = self.threat.at(self.schema, size)
        if self.net is not None:
            return attacked_rows(self.net, self.schema, rows, threat, attack=attack, steps=STEPS)
        found = attacks.square(
            logits_of(self.plain, self.schema),
            torch.from_numpy(self.schema.to_unit(rows.x)),
            torch.from_numpy(rows.y),
            threat,
            queries=QUERIES,
            generator=torch.Generator().manual_seed(0),
        )
        return self.schema.from_unit(found.numpy())

    def _affordable(self, net: nn.Module) -> int:
        """Rows that may be attacked: forward and backward, every step, every size."""
        a_row = 3 * (STEPS + 1) * len(SIZES) * flops(net, self.schema)
        return max(FEWEST_ROWS, int(ATTACK_FLOPS / a_row))


def flops(net: nn.Module, schema: InputSchema) -> int:
    """Floating-point operations of one row's forward pass (matrix products and convolutions)."""
    example = torch.full((1, *schema.shape), 0.5, device=next(net.parameters()).device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(example)
    return max(int(counter.get_total_flops()), 1)


def logits_of(plain: onnx.ModelProto, schema: InputSchema) -> Callable[[Tensor], Tensor]:
    """A plain graph as a function of unit-range inputs `(N, *shape)`, without a gradient."""
    runner = session(plain.SerializeToString())

    def ask(x_unit: Tensor) -> Tensor:
        raw = schema.from_unit(x_unit.detach().numpy())
        (logits,) = runner.run(["logits"], {schema.name: raw})
        return torch.from_numpy(np.nan_to_num(logits))

    return ask


def head_material(
    victim: Victim, data: DataSet, window: Window | None, seed: int
) -> tuple[Material, str]:
    """Rows for the heads: half of the training rows as references, of the other half to fit on.

    Returns them with words that say what the calibration rests on.

    Raises:
        DataError: too few rows to fit and to calibrate on.
    """
    rng = np.random.default_rng(seed)
    training, held, stream, source = _clean(data, window)
    _check_counts(training, held)
    shuffled = training.take(rng.permutation(len(training)))
    half = len(shuffled) // 2
    fit = shuffled.take(np.arange(half, min(len(shuffled), half + FIT_ROWS)))
    few = held.take(_spread(len(held), KIND_ROWS))
    material = Material(
        references=shuffled.x[: min(half, REFERENCE_ROWS)],
        fit_clean=fit.x,
        fit_corrupted=_benign(data.schema, fit.x, rng),
        fit_adversarial=victim.attacked(fit),
        held_clean=held.x,
        held_corrupted=_benign(data.schema, few.x, rng),
        held_adversarial=victim.attacked(few),
        reference=stream.x,
        # A wrapped model keeps the probabilities that its owner knows.
        held_labels=None if victim.net is None else held.y,
    )
    return material, source


def _clean(data: DataSet, window: Window | None) -> tuple[Rows, Rows, Rows, str]:
    """Training rows, held-out rows, the rows the stream is compared with, and words for them."""
    taken = 0 if window is None else min(len(window.calibration), HELD_ROWS // 2)
    training = data.train
    held = data.calibration.take(_spread(len(data.calibration), HELD_ROWS - taken))
    stream, source = held, f"{len(held)} rows of {data.name} that were not trained on"
    if window is not None:
        live = window.calibration.take(np.arange(taken))
        training, held = training.joined(window.train), held.joined(live)
        source += f", {len(live)} of the labelled traffic"
        if len(live) >= WINDOW_REFERENCE:
            stream = live
            source += " (which the stream is compared with)"
    return training, held, stream, source


def _check_counts(training: Rows, held: Rows) -> None:
    for part, rows, least in (("training", training, 20), ("calibration", held, 10)):
        if len(rows) < least:
            raise DataError(
                f"{len(rows)} {part} rows: the scores need at least {least}; give more rows"
            )


def _spread(count: int, most: int) -> npt.NDArray[np.intp]:
    """At most `most` of `count` indices, evenly spread."""
    kept = min(count, most)
    return np.arange(kept, dtype=np.intp) * count // max(kept, 1)


def _benign(schema: InputSchema, x: InputArray, rng: np.random.Generator) -> InputArray:
    """Ten benignly changed copies of the rows."""
    return np.concatenate([random_benign(schema, x, rng) for _ in range(BENIGN_COPIES)])
