"""Champion and challenger on the same rows: what the gates look at, measured when it is asked for.

Each is measured once, whoever asks: a robust accuracy costs minutes.
"""

import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from models.attacks.threat import geometry_of
from models.base.errors import HoldfastError
from models.data import DataSet, Rows
from models.evaluation.adversarial import noise_right, robust
from models.evaluation.gates.catalogue import Cost, Pair, SweepOfSizes
from models.evaluation.gates.checks import Bounds, Check
from models.evaluation.gates.triggers import Nets, some_rows, sweep_triggers
from models.evaluation.plan import hopeless
from models.evaluation.subject import Subject, answer, right
from models.statistics.arrays import Bools, IntArray
from models.versions.judging import ThreatModel
from models.versions.runner import Runner
from models.versions.schema import Calibration, InputArray, Manifest

ATTACKED_ROWS = 1000  # of a large test set, evenly spread
MASKING_EPS = (0.05, 0.15, 0.3, 0.5)  # for a threat of .15; others in proportion
PARITY_CHUNK = 256


@dataclass(frozen=True)
class Comparison:
    """Two versions on the same data.

    Args:
        bounds: of the gates.
        anchor: the version that a person approved last.
        before, after: champion and challenger.
        data: of the champion; its test part may lack classes whose labels have changed.
        grown_test: its test part and live rows beside it, by which accuracy is compared.
        threat: what both are attacked with.
        window_rows: held-out rows of the labelled window, maybe none.
        window_margin: how much worse the challenger may be on them.
        alpha: level of this attempt's comparison with the anchor.
    """

    bounds: Bounds
    anchor: Subject
    before: Subject
    after: Subject
    data: DataSet
    grown_test: Rows
    threat: ThreatModel
    window_rows: Rows
    window_margin: float = 0.0
    alpha: float = 0.05

    @property
    def manifests(self) -> tuple[Manifest, Manifest]:
        """Of champion and challenger."""
        return self.before.runner.manifest, self.after.runner.manifest

    @cached_property
    def clean(self) -> Pair:
        """Which rows of the grown test part the anchor and the challenger get right."""
        return right(self.anchor.runner, self.grown_test), right(self.after.runner, self.grown_test)

    @property
    def clean_labels(self) -> IntArray:
        """Labels of the grown test part."""
        return self.grown_test.y

    @property
    def clean_own(self) -> int:
        """How many of its rows, the first ones, are of the data set."""
        return len(self.data.test)

    @property
    def window_labels(self) -> IntArray:
        """Labels of the held-out rows of the window."""
        return self.window_rows.y

    @cached_property
    def triggers(self) -> Check:
        """What the trigger sweep says of challenger and anchor."""
        rows = some_rows(self.data.test)
        x_unit = self.data.schema.to_unit(rows.x)
        classes = len(self.anchor.classes)
        with self.anchor.logits() as before, self.after.logits() as after:
            return sweep_triggers(Nets(before, after), self.after.schema, classes, x_unit)

    @cached_property
    def robust(self) -> Pair:
        """Which of the attacked rows stay right, each version attacked through its own weights."""
        some, geometry = attacked_rows(self.data), geometry_of(self.threat, self.data.schema)
        return robust(self.before, some, geometry), robust(self.after, some, geometry)

    @cached_property
    def certified(self) -> tuple[Bools | None, Bools | None]:
        """Which rows of the test part are right and certified, at the eps of the first version."""
        first = next((v for v in (self.anchor, self.before) if _eps_of(v) is not None), None)
        eps = None if first is None else _eps_of(first)
        if first is None or eps is None:
            return None, None
        after = (
            None if _eps_of(self.after) is None else certified(self.after.runner, self.data, eps)
        )
        return certified(first.runner, self.data, eps), after

    @cached_property
    def sweep(self) -> SweepOfSizes:
        """The challenger under attacks of rising size.

        Where the attacker cannot change all of a row, no size need bring it down to chance.
        """
        subject, schema, rows = self.after, self.after.schema, attacked_rows(self.data)
        if subject.black_box:
            raise HoldfastError("a wrapped graph has no gradient that could be masked")
        limit = hopeless(schema, self.threat)
        sizes = masking_sizes(self.threat, limit or 1.0)
        accuracy = tuple(
            float(robust(subject, rows, geometry_of(self.threat, schema, eps), steps=20).mean())
            for eps in sizes
        )
        first = geometry_of(self.threat, schema, sizes[0])
        noise = float(noise_right(subject.runner, rows, first).mean())
        return SweepOfSizes(
            sizes, accuracy, noise, 1.0 if limit is None else 1 / len(subject.classes)
        )

    @cached_property
    def window(self) -> Pair:
        """Which held-out rows of the window are right."""
        rows = self.window_rows
        return _right_or_none(self.before.runner, rows), _right_or_none(self.after.runner, rows)

    @cached_property
    def flags(self) -> Pair:
        """Which held-out rows the challenger flags as drift, and as perturbed."""
        calibrated = self.calibration.n, len(self.data.calibration)
        rows = mix_as_calibrated(self.data.test, self.window_rows, *calibrated)
        answers, facts = answer(self.after.runner, rows.x), self.calibration
        perturbed = answers.perturbation_likelihood > facts.perturbation_threshold
        return answers.drift_p_value <= facts.alpha, perturbed

    @property
    def calibration(self) -> Calibration:
        """Of the challenger's scores."""
        return self.after.runner.manifest.calibration

    @cached_property
    def difference(self) -> float:
        """Largest difference of the served probabilities from torch's on the attacked rows."""
        net = self.after.net
        if net is None:
            raise HoldfastError("a wrapped graph has no torch net to compare it with")
        x, differences, heat = attacked_rows(self.data).x, [], self.calibration.temperature
        for start in range(0, len(x), PARITY_CHUNK):
            part = x[start : start + PARITY_CHUNK]
            with torch.no_grad():
                logits = net(torch.from_numpy(self.data.schema.to_unit(part)))[0]
            served = answer(self.after.runner, part).probabilities
            differences.append(np.abs(served - (logits / heat).softmax(1).numpy()).max())
        return float(np.max(differences))

    @cached_property
    def latency(self) -> Cost:
        """Least CPU microseconds of a run with one row."""
        times = run_seconds([self.after.runner, self.before.runner], self.data.test.x[:1])
        return Cost(times[0] * 1e6, times[1] * 1e6)

    @property
    def size(self) -> Cost:
        """Bytes of the graph."""
        after, before = (s.runner.bundle.model_bytes for s in (self.after, self.before))
        return Cost(float(len(after)), float(len(before)))


def mix_as_calibrated(test: Rows, window: Rows, calibrated: int, own: int) -> Rows:
    """Held-out rows of the data and of a window, in the shares that a calibration has of them.

    A threshold that holds for a mixture need not hold for one part of it alone. Without rows of the
    window it is those of the data: all that there is to judge by.

    Args:
        test: of the data.
        window: held out.
        calibrated: rows that were calibrated on, the first `own` of them of the data.
        own: how many were.
    """
    live = round(len(test) * max(0, calibrated - own) / max(own, 1))
    if not len(window):
        return test
    if live > len(window):
        return test.take(np.arange(round(len(test) * len(window) / live))).joined(window)
    return test.joined(window.take(np.arange(live)))


def attacked_rows(data: DataSet, most: int = ATTACKED_ROWS) -> Rows:
    """The test rows that are attacked: always the same ones of a data set."""
    count = min(len(data.test), most)
    return data.test.take(np.arange(count) * len(data.test) // max(count, 1))


def masking_sizes(threat: ThreatModel, hopeless: float) -> tuple[float, ...]:
    """Rising sizes of the attack: below the threat, at it, above it, and one without hope.

    >>> masking_sizes(ThreatModel(eps=0.15), 0.5)
    (0.05, 0.15, 0.3, 0.5)
    >>> masking_sizes(ThreatModel("l2", eps=0.3), 4.0)
    (0.1, 0.3, 0.6, 4.0)
    """
    small = (round(eps * threat.eps / 0.15, 6) for eps in MASKING_EPS[:-1])
    return (*(eps for eps in small if eps < hopeless), max(hopeless, threat.eps))


def run_seconds(
    runners: list[Runner], x: InputArray, rounds: int = 40, runs: int = 25
) -> list[float]:
    """Least CPU seconds of one run each, measured in turns (noise only adds)."""
    best = [float("inf")] * len(runners)
    for _ in range(rounds):
        for k, runner in enumerate(runners):
            started = time.process_time()
            for _ in range(runs):
                runner.run(x)
            best[k] = min(best[k], (time.process_time() - started) / runs)
    return best


def certified(runner: Runner, data: DataSet, eps: float) -> Bools:
    """Which test rows `(N,)` are right and proven for changes of at least `eps`."""
    answers = answer(runner, data.test.x)
    assert answers.certified_eps is not None
    right_ones = answers.probabilities.argmax(axis=1) == data.test.y
    return np.asarray(right_ones & (answers.certified_eps >= np.float32(eps)))


def _eps_of(subject: Subject) -> float | None:
    """What a version certifies its answers for; None: it does not."""
    facts = subject.runner.manifest.certificate
    return None if facts is None else facts.eps


def _right_or_none(runner: Runner, rows: Rows) -> Bools:
    return right(runner, rows) if len(rows) else np.zeros(0, dtype=bool)
