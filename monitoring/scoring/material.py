"""Material of the score heads: clean, benignly corrupted and attacked rows of a data set.

A net is attacked through its gradients (`head_attacks`); a graph without a net (wrapped) by
Square, which asks it many times. The benign rows are those of `head_negatives` and the user's own.
Rows are capped, so that the heads of a large data set cost no more than minutes.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from models import attacks
from models.attacks.threat import Threat, geometry_of
from models.base.errors import DataError
from models.data import DataSet, Rows
from models.data.window import Window
from models.evaluation.subject import tensors
from models.versions.judging import ThreatModel
from models.versions.runner import session
from models.versions.schema import InputArray, InputSchema
from monitoring.scoring.instrument import Material
from monitoring.scoring.perturbation import negatives as hn
from monitoring.scoring.perturbation.attacks import PASSES, SIZES, attack_families, attack_freely
from monitoring.scoring.perturbation.benign import Benign
from monitoring.scoring.pieces import SILENT, Part, Pieces
from monitoring.scoring.small_sets import ENOUGH, DriftRows

REFERENCE_ROWS, FIT_ROWS, HELD_ROWS, KIND_ROWS = 2048, 1500, 5000, 360
BENIGN_ROWS, LEAST_COPIES, MOST_COPIES = 12_000, 6, 20  # of the rows that are fitted on
MOST_VALUES = 2**27  # of all benign rows of one part: fewer rows of large images
QUERIES, QUERIED_ROWS = 150, 250
ATTACK_FLOPS = 1.9e12  # of all attacks on one set of rows; a large net is attacked on fewer rows
FEWEST_ROWS, LEAST_PART = 120, 0.15
WINDOW_REFERENCE = 40  # held-out window rows from which the stream is compared with the window


@dataclass(frozen=True)
class Victim:
    """What is attacked: a torch net, or a plain graph that can only be asked."""

    schema: InputSchema
    threat: ThreatModel
    net: nn.Module | None
    plain: onnx.ModelProto
    without: frozenset[str] = frozenset()  # families of attacks that the head shall not know

    def attack(self, rows: Rows, seed: int = 0, part_done: Part = lambda *_: None) -> InputArray:
        """Parts of the rows under every attack at every size: smaller ones where a net is dear.

        A row that an attack leaves as it is (it was misclassified before) is no attacked row.
        """
        if self.net is None:
            some = rows.take(np.arange(min(len(rows), QUERIED_ROWS)))
            return self._attack_by_queries(some, seed, part_done)
        # Few attacks on many rows teach the head more than many attacks on few.
        most = self._affordable(self.net)
        part = min(1.0, max(LEAST_PART, most / len(rows)))
        rows = rows.take(np.arange(min(len(rows), max(1, int(most / part)))))
        x, y = tensors(self.net, self.schema, rows)
        with attacks.frozen(self.net):
            x_adv = attack_families(
                attacks.logits_only(self.net),
                x,
                y,
                self._at,
                generator=torch.Generator(x.device).manual_seed(seed),
                part=part,
                without=self.without,
                part_done=part_done,
            )
        return self.schema.from_unit(x_adv.cpu().numpy())

    def _at(self, share: float) -> Threat:
        size = share * self.threat.eps
        return geometry_of(
            self.threat, self.schema, size if self.threat.norm == "l2" else min(size, 1.0)
        )

    def _attack_by_queries(self, rows: Rows, seed: int, part_done: Part) -> InputArray:
        """Under Square, at every size."""
        ask, unit = logits_of(self.plain, self.schema), self.schema.to_unit(rows.x)
        parts: list[InputArray] = []
        for size in SIZES:
            part_done(len(parts), len(SIZES))
            x_adv = attacks.square(
                ask,
                torch.from_numpy(unit),
                torch.from_numpy(rows.y),
                self._at(size),
                queries=QUERIES,
                generator=torch.Generator().manual_seed(seed),
            )
            x = self.schema.from_unit(x_adv.numpy())
            change = np.nan_to_num(np.abs(self.schema.to_unit(x) - unit))
            changed = change.reshape(len(rows), -1).max(axis=1) > 1e-3 * self._at(size).eps
            parts.append(x[changed] if changed.any() else x)
        found = attack_freely(
            ask,
            torch.from_numpy(unit),
            torch.from_numpy(rows.y),
            self._at(1.0),
            generator=torch.Generator().manual_seed(seed),
            without=self.without,
            black_box=True,
        )
        return np.concatenate([*parts, *(self.schema.from_unit(x.numpy()) for x in found)])

    def _affordable(self, net: nn.Module) -> int:
        """Rows that may be attacked in every way: forward and backward, every pass."""
        return max(FEWEST_ROWS, int(ATTACK_FLOPS / (3 * PASSES * flops(net, self.schema))))


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
    victim: Victim,
    data: DataSet,
    window: Window | None,
    seed: int,
    *,
    benign: Benign | None = None,
    without: Collection[str] = (),
    pieces: Pieces = SILENT,
) -> tuple[Material, str]:
    """Rows for the heads: half of the training rows as references, of the other half to fit on.

    Returns them with words that say what the calibration rests on.

    Args:
        victim: what is attacked.
        data: rows to fit and calibrate on.
        window: labelled traffic that joins them.
        seed: of draws, corruptions and attacks.
        benign: the user's own examples; one more kind.
        without: names of benign kinds to leave out, so that the head can be judged on them.
        pieces: progress.

    Raises:
        DataError: too few rows to fit and to calibrate on.
    """
    rng = np.random.default_rng(seed)
    training, held, stream, source = _clean(data, window)
    _check_counts(training, held)
    shuffled = training.take(rng.permutation(len(training)))
    half = len(shuffled) // 2
    fit = shuffled.take(np.arange(half, min(len(shuffled), half + FIT_ROWS)))
    schema, kinds = data.schema, hn.kinds_of(data.schema, without)
    step = hn.grid_step(schema.to_unit(fit.x)) if schema.kind == "image" else 0.0
    few = held.take(_spread(len(held), min(KIND_ROWS, _most(schema, len(kinds)))))
    own = (fit.x[:0], fit.x[:0]) if benign is None else benign.halves()
    pieces.begin("benign rows")
    held_corrupted, held_kinds, severities = hn.by_kind(kinds, few.x, rng)
    fit_corrupted = _benign(schema, kinds, fit.x, rng)
    fit_attacked = victim.attack(fit, seed, pieces.begin("attacks to learn from"))
    held_attacked = victim.attack(few, seed, pieces.begin("attacks to calibrate on"))
    changed = [
        hn.round_to_grid(schema, x, step, rng)
        for x in (fit_corrupted, fit_attacked, held_corrupted, held_attacked)
    ]
    material = Material(
        references=shuffled.x[: min(half, REFERENCE_ROWS)],
        fit_clean=fit.x,
        fit_corrupted=np.concatenate([changed[0], _repeat_rows(own[0], len(changed[0]))]),
        fit_adversarial=changed[1],
        held_clean=held.x,
        held_corrupted=np.concatenate([changed[2], own[1][:KIND_ROWS]]),
        held_adversarial=changed[3],
        reference=stream.x,
        held_labels=held.y,
        # A wrapped model keeps the probabilities that its owner knows.
        recalibrated=victim.net is not None,
        fit_moved=_off_the_grid(schema, fit.x, step, rng),
        held_kinds=np.append(held_kinds, np.full(len(own[1][:KIND_ROWS]), len(kinds))),
        drift=_drift_rows(data, training, held),
        held_severities=np.append(severities, np.zeros(len(own[1][:KIND_ROWS]), dtype=np.int64)),
        kind_names=(*kinds, "your own"),
    )
    return material, source + tell_few(len(held)) + _tell_drift_rows(material.drift)


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


def _drift_rows(data: DataSet, training: Rows, held: Rows) -> DriftRows | None:
    """All rows of a table whose held-out rows are too few for a p-value of 1 %.

    The test rows join where training and held-out rows together are too few as well.
    """
    if data.schema.kind != "tabular" or not data.schema.columns or len(held) >= ENOUGH:
        return None
    known = np.concatenate([training.x, held.x])
    if len(known) >= ENOUGH:
        return DriftRows(known)
    return DriftRows(np.concatenate([known, data.test.x]), tested=False)


def tell_few(held: int) -> str:
    """What so few held-out rows mean for the flags of the perturbation head; nothing if enough.

    >>> tell_few(80)
    '; too few for 1 %: below 99 held-out rows no row is flagged as attacked or suspicious'
    """
    if held >= ENOUGH:
        return ""
    return (
        f"; too few for 1 %: below {ENOUGH} held-out rows no row is flagged as attacked or "
        "suspicious"
    )


def _tell_drift_rows(drift: DriftRows | None) -> str:
    if drift is None:
        return ""
    parts = "training and held-out" if drift.tested else "training, held-out and test"
    return f"; the drift p-value on all {len(drift.x)} {parts} rows, each by what the others taught"


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


def _most(schema: InputSchema, copies: int) -> int:
    """Rows of which that many copies may be made."""
    return max(40, MOST_VALUES // (schema.size * max(copies, 1)))


def _benign(
    schema: InputSchema, kinds: dict[str, hn.Change], x: InputArray, rng: np.random.Generator
) -> InputArray:
    """Benignly changed copies of the rows, a fifth of them with two changes (one for tables)."""
    x = x[: _most(schema, LEAST_COPIES)]
    most = min(MOST_COPIES, _most(schema, len(x)))
    copies = int(np.clip(BENIGN_ROWS // max(len(x), 1), min(LEAST_COPIES, most), most))
    parts = [hn.random_changes(kinds, x, rng) for _ in range(copies)]
    for k in range(0 if schema.kind == "tabular" else copies // 5):
        parts[k] = hn.random_changes(kinds, parts[k], rng)
    return np.concatenate(parts)


def _repeat_rows(x: InputArray, rows: int) -> InputArray:
    """The user's own rows, repeated to about a twentieth of all benign ones."""
    repeats = max(1, rows // (20 * len(x))) if len(x) else 1
    return np.concatenate([x] * repeats)


def _off_the_grid(
    schema: InputSchema, x: InputArray, step: float, rng: np.random.Generator
) -> InputArray | None:
    if schema.kind == "tabular":
        return None
    return np.concatenate([hn.off_the_grid(schema, x, step, rng) for _ in range(2)])
