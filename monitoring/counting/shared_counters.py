"""Adds up the counters of several workers; all use of `prometheus_client`'s internals is here.

Each worker counts in files of its slot, which the library maps; `sum_workers` adds them up. The
library makes sparse files. On a full disk, the first count on a page without space is a SIGBUS,
which kills the worker and each successor; so the files get their space beforehand. A test names the
version of the library that was checked.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Histogram, Metric, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector

from models.base.logs import logger
from models.statistics.arrays import IntArray
from monitoring.counting.tally import Tally

MOST_VERSIONS = 8  # of a model, whose series are shown
LAST_USED = (
    "holdfast_model_loaded_timestamp_seconds",
    "holdfast_last_inference_timestamp_seconds",
)
# Bytes of each file. A counter takes about 200: a version with 6 score channels 88 kB, one with
# ranks for 10 classes 270 kB; those of earlier versions stay until the service starts anew.
BYTES = {"counter": 1 << 22, "gauge_max": 1 << 20, "histogram": 1 << 20}


def share_counters(directory: Path, slot: int) -> None:
    """Store the metrics that are made from now on in files of `directory`, under this slot.

    The composition root of a worker calls it once, before it makes its `Metrics`. If there is no
    space for the files, this worker counts in its own memory only.
    """
    try:
        allocate(directory, slot)
    except OSError as error:
        logger("metrics").error("counters_not_shared", reason=str(error))
        return
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    values.ValueClass = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]


def exposition(registry: CollectorRegistry, directory: Path | None) -> Callable[[], bytes]:
    """Render `/metrics`: the sums over all workers of `directory`, or this registry alone."""
    return lambda: generate_latest(sum_workers(registry, directory))


def sum_workers(registry: CollectorRegistry, directory: Path | None) -> CollectorRegistry:
    """Return the sums over all workers of `directory`, or this registry alone."""
    if directory is None:
        return registry
    if isinstance(registry, Settled):
        registry.settle()
    fresh = _Summed()
    MultiProcessCollector(fresh, path=str(directory))  # type: ignore[no-untyped-call]
    return fresh


class Settled(CollectorRegistry):
    """A registry that counts what waits in a tally before it is read."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self.settle = tally.settle

    def collect(self) -> Iterable[Metric]:
        """The metrics as they are now."""
        self.settle()
        return keep_latest_versions(super().collect())


class _Summed(CollectorRegistry):
    """The sums of all workers."""

    def collect(self) -> Iterable[Metric]:
        """The metrics as they are now."""
        return keep_latest_versions(super().collect())


def keep_latest_versions(metrics: Iterable[Metric]) -> list[Metric]:
    """Leave out the series of versions that are not among the 8 of their model that are in use.

    What a worker has counted stays in its files until the service starts anew; without this a page
    would grow with every promotion. In use are those that answered or were loaded last.
    """
    found = list(metrics)
    used: dict[str, dict[str, float]] = {}
    for metric in found:
        for sample in metric.samples:
            model, version = sample.labels.get("model"), sample.labels.get("version")
            if model is not None and version is not None:
                at = sample.value if metric.name in LAST_USED else 0.0
                seen = used.setdefault(model, {})
                seen[version] = max(seen.get(version, 0.0), at)
    gone = {
        (model, version)
        for model, seen in used.items()
        for _, _, version in sorted((at, len(v), v) for v, at in seen.items())[:-MOST_VERSIONS]
    }
    if gone:
        for metric in found:
            metric.samples = [
                s for s in metric.samples
                if (s.labels.get("model"), s.labels.get("version")) not in gone
            ]  # fmt: skip
    return found


class BulkHistogram(Histogram):
    """A histogram that takes the values of a whole batch at once."""

    def observe_all(self, observed: npt.ArrayLike) -> None:
        """Count `(N,)` values."""
        observed = np.asarray(observed, np.float64)
        self._sum.inc(float(observed.sum()))
        index = np.searchsorted(self._upper_bounds, observed)
        for bucket, number in count_places(index):
            self._buckets[bucket].inc(number)


class BulkCounters:
    """Counters that are added to all at once: one addition to the mapped file of this worker.

    A counter that stands here is counted here only: the library's own counter remembers its value.

    Args:
        counters: with their labels, of one registry.
    """

    def __init__(self, counters: Sequence[Counter]) -> None:
        self._values: list[Any] = [counter._value for counter in counters]
        self._file = getattr(self._values[0], "_file", None) if counters else None
        if self._file is not None:
            places = [self._file._positions[value._key] for value in self._values]
            self._places = np.array(places, dtype=np.int64) // 8

    def add(self, counts: IntArray) -> None:
        """Add `(K,)` numbers to the K counters."""
        assert counts.shape == (len(self._values),), counts.shape
        if self._file is None:  # memory of this process alone
            for place in counts.nonzero()[0].tolist():
                self._values[place].inc(int(counts[place]))
            return
        # A view for this moment: while one is there the library cannot close or enlarge the file.
        memory = np.frombuffer(self._file._m, np.float64)
        memory[self._places] += counts


def allocate(directory: Path, slot: int) -> None:
    """Reserve the disk space of the files of a worker's slot, before the library opens them.

    Raises:
        OSError: there is no space.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for kind, size in BYTES.items():
        with (directory / f"{kind}_{slot}.db").open("ab") as stream:
            os.posix_fallocate(stream.fileno(), 0, size)


def count_places(index: IntArray) -> list[tuple[int, int]]:
    """Which indices of `(N,)` occur, and how often."""
    counts = np.bincount(index)
    present = counts.nonzero()[0]
    return list(zip(present.tolist(), counts[present].tolist(), strict=True))
