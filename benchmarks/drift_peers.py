"""Streaming drift detectors of river and frouros behind one function each, for `drift_stream`.

Each watches one score (standardised by the reference, which is kinder than raw scores) and answers
whether it alarms now. One stands on every score, and on the predicted class: cheap ones on ten
0/1 streams, one per class, those that cost a Kolmogorov-Smirnov test per request on its number.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.drift_data import Scored
from benchmarks.peers import add_peer
from models.statistics.arrays import FloatArray

Update = Callable[[float], bool]
Start = Callable[[FloatArray, float], Update]  # from the reference `(n,)` and a setting


def adwin(reference: FloatArray, delta: float) -> Update:
    """river's ADWIN (Bifet & Gavaldà 2007)."""
    from river.drift import ADWIN

    del reference
    detector = ADWIN(delta=delta)
    return lambda value: bool(detector.update(value) or detector.drift_detected)


def page_hinkley(reference: FloatArray, threshold: float) -> Update:
    """river's PageHinkley, both directions (Page 1954)."""
    from river.drift import PageHinkley

    del reference
    detector = PageHinkley(threshold=threshold)
    return lambda value: bool(detector.update(value) or detector.drift_detected)


def kswin(reference: FloatArray, alpha: float) -> Update:
    """river's KSWIN: KS test of the last 30 requests against 70 before (Raab et al. 2020)."""
    from river.drift import KSWIN

    del reference
    detector = KSWIN(alpha=alpha, seed=0)
    return lambda value: bool(detector.update(value) or detector.drift_detected)


def incremental_ks(reference: FloatArray, p_value: float) -> Update:
    """frouros' IncrementalKSTest: the last 100 requests against the reference."""
    from frouros.detectors.data_drift import IncrementalKSTest

    detector = IncrementalKSTest(window_size=100)
    detector.fit(X=reference)

    def update(value: float) -> bool:
        result, _ = detector.update(value=value)
        return result is not None and bool(result.p_value <= p_value)

    return update


def cusum(reference: FloatArray, threshold: float) -> Update:
    """frouros' CUSUM, upwards only as it is (Page 1954)."""
    from frouros.detectors.concept_drift import CUSUM, CUSUMConfig

    del reference
    detector = CUSUM(config=CUSUMConfig(lambda_=threshold))

    def update(value: float) -> bool:
        detector.update(value=value)
        return bool(detector.status["drift"])

    return update


@dataclass(frozen=True)
class Peer:
    """A detector, its default, and settings that raise ever fewer false alarms.

    `dear` ones cost a test of two samples per score and request.
    """

    name: str
    start: Start
    default: float
    ladder: tuple[float, ...]
    dear: bool = False

    def inputs(self, held: Scored, rows: Scored) -> tuple[FloatArray, FloatArray]:
        """What its detectors see of the reference and of rows, `(n, D)` and `(N, D)`."""
        mean, spread = held.scores.mean(axis=0), held.scores.std(axis=0) + 1e-12
        return self._columns(held, mean, spread), self._columns(rows, mean, spread)

    def _columns(self, rows: Scored, mean: FloatArray, spread: FloatArray) -> FloatArray:
        scores = (rows.scores - mean) / spread
        predicted = rows.predicted[:, None]
        classes = predicted if self.dear else predicted == np.arange(rows.probabilities.shape[1])
        return np.concatenate([scores, classes.astype(np.float64)], axis=1)

    def alarms(
        self, reference: FloatArray, rows: FloatArray, setting: float, *, until: int | None = None
    ) -> list[int]:
        """After how many of the rows `(N, D)` it alarms; all detectors start anew after each.

        It stops after the first alarm that is later than `until`.
        """
        found: list[int] = []
        updates: Sequence[Update] | None = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for index, row in enumerate(rows.tolist(), start=1):
                if updates is None:
                    updates = [self.start(column, setting) for column in reference.T]
                alarmed = [update(value) for update, value in zip(updates, row, strict=True)]
                if any(alarmed):
                    found.append(index)
                    updates = None
                    if until is not None and index > until:
                        break
        return found


def peers() -> list[Peer]:
    """All of them; installs river and frouros under .bench/ the first time."""
    add_peer(
        "drift", "river>=0.22,<1", "narwhals>=2,<3", "frouros>=0.9,<1", "tqdm>=4", "requests>=2"
    )
    return [
        Peer("river ADWIN", adwin, 0.002, (2e-4, 1e-5, 1e-7, 1e-9, 1e-12)),
        Peer("river PageHinkley", page_hinkley, 50.0, (75.0, 100.0, 150.0, 200.0, 400.0)),
        Peer("river KSWIN", kswin, 0.005, (1e-4, 1e-5, 1e-6, 1e-7, 1e-9), dear=True),
        Peer("frouros KS", incremental_ks, 0.01, (1e-3, 1e-4, 1e-5, 1e-6, 1e-8), dear=True),
        Peer("frouros CUSUM", cusum, 50.0, (75.0, 100.0, 150.0, 200.0, 400.0)),
    ]
