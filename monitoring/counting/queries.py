"""Detects query attacks: long series of inputs of one client that hardly differ.

A query is *near* when some other one of the client's last 1000 lies within the threshold of the
version (`query_embedding.calibrate`); it is *flagged* when it is near and at least 3 of the
client's last 20 were. A query whose bytes came before is a retry: it is not stored and not counted,
and gets the verdict of the first, so that a refused query is also refused when it is sent again.

The memory belongs to the clients of the host, not to a version: a new version with the same
embedding goes on with it.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from models.base.bounded import Bounded
from models.base.logs import logger
from models.statistics.arrays import Bools
from models.versions.bundle import Bundle
from models.versions.schema import InputArray
from monitoring.counting.prints import Uint64s, row_prints
from monitoring.counting.query_embedding import CAPACITY, Embedding, read
from monitoring.counting.query_memory import QueryMemory, Ring, file_of

RECENT, ALARM = 20, 3
NEAR, FLAGGED = 1, 2  # bits of a kept verdict
KEYS = 1024  # clients whose key is not made anew
AT_ONCE = 64  # rows of a batch that are compared together

Float32s = npt.NDArray[np.float32]


class ProbeCheck(NamedTuple):
    """The verdicts on N rows, in their order."""

    near: npt.NDArray[np.int64]  # (N,) near queries among the client's last 20
    flagged: npt.NDArray[np.bool_]  # (N,)


@dataclass(frozen=True)
class Detector:
    """The detector of one version; its state is in the memory.

    >>> from models.versions.schema import InputSchema
    >>> schema = InputSchema("x", (1, 8, 8), "float32", 0.0, 1.0, "image")
    >>> detector = Detector("m", Embedding.of(schema), 0.1, QueryMemory(4))
    >>> x = np.full((1, 1, 8, 8), 0.5, np.float32)
    >>> for pixel in range(5):  # a probe after the other
    ...     x[0, 0, 0, pixel] = 0.51
    ...     near, flagged = detector.look("somebody", x)
    >>> near, flagged, detector.look("somebody else", x)
    (array([4]), array([ True]), ProbeCheck(near=array([0]), flagged=array([False])))
    """

    model: str
    embedding: Embedding
    threshold: float
    memory: QueryMemory
    # Of clients that asked.
    keys: Bounded[str, int] = field(default_factory=lambda: Bounded(KEYS), repr=False)

    def look(self, client: str, x: InputArray, prints: Uint64s | None = None) -> ProbeCheck:
        """Judge the rows `(N, *shape)` of a request and store them.

        Args:
            client: who sent them.
            x: the raw rows.
            prints: of the rows under the memory's secret, where they are made already.
        """
        vectors = self.embedding(x)
        coarse = vectors.dot(self.embedding.coarse)
        if prints is None:
            prints = row_prints(x, self.memory.secret)
        try:
            lease = self.memory.ring(self._key(client))
        except OSError as error:  # a full disk must not take the answers with it
            logger("queries").error("query_not_watched", model=self.model, reason=str(error))
            return ProbeCheck(np.zeros(len(x), np.int64), np.zeros(len(x), np.bool_))
        with lease as ring:
            if len(x) == 1:
                return _look_at_one(ring, vectors[0], coarse[0], self.threshold, prints[0])
            parts = [slice(k, k + AT_ONCE) for k in range(0, len(x), AT_ONCE)]
            looked = [_look(ring, vectors[p], coarse[p], self.threshold, prints[p]) for p in parts]
        near, flagged = zip(*looked, strict=True)
        return ProbeCheck(np.concatenate(near), np.concatenate(flagged))

    def _key(self, client: str) -> int:
        """Return the key of a client; it is the same for all versions with the same embedding."""
        key = self.keys.get(client)
        if key is None:
            parts = (self.model.encode(), self.embedding.fingerprint, client.encode())
            key = self.keys[client] = self.memory.key(*parts)
        return key


class QueryWatch:
    """Makes the detectors of loaded versions, all on one memory.

    Args:
        clients: how many are remembered.
        directory: of the file that the workers share, or None where this process is alone.
    """

    def __init__(self, clients: int, directory: Path | None) -> None:
        self._memory = QueryMemory(clients, directory and file_of(directory, clients))

    def detector(self, bundle: Bundle) -> Detector | None:
        """Make the detector of a version; None, with a log line, if the bundle has no threshold."""
        parts = read(bundle.manifest.input, bundle.reference)
        if parts is None:
            logger("queries").warning(
                "query_detection_off", model=bundle.manifest.model, version=bundle.manifest.version,
                reason="the bundle has no threshold of query distances: make the version anew",
            )  # fmt: skip
            return None
        return Detector(bundle.manifest.model, *parts, self._memory)

    def close(self) -> None:
        """Close the shared file."""
        self._memory.close()


def _look_at_one(
    ring: Ring, vector: Float32s, coarse: Float32s, threshold: float, fingerprint: np.uint64
) -> ProbeCheck:
    """As `_look` for one row, in less than half the time."""
    total = ring.total
    filled, at = min(total, CAPACITY), total % CAPACITY
    hits = int(np.count_nonzero(ring.verdicts[max(at - RECENT + 1, 0) : at]))
    if at < RECENT - 1 and total > at:  # the window goes round the end of the ring
        hits += int(np.count_nonzero(ring.verdicts[at - RECENT + 1 :]))
    if filled:
        same = ring.prints[:filled] == fingerprint
        if same[first := int(same.argmax())]:
            hits += int(total >= RECENT and ring.verdicts[at - RECENT] != 0)
            return ProbeCheck(
                np.array([hits]), np.array([int(ring.verdicts[first]) & FLAGGED != 0])
            )
    row, few = _with(vector, 1), _with(coarse, 1)
    square, small = float(vector.dot(vector)), float(coarse.dot(coarse))
    rows, columns = ring.rows(len(row)), ring.coarse(len(few))
    near = flagged = False
    if filled:
        may = few @ columns[:, :filled]
        least = _bound(small, threshold) - _slack(square, threshold)
        if may[may.argmax()] >= least:
            near = bool((rows[:filled][may >= least] @ row).max() >= _bound(square, threshold))
            flagged = near and hits + 1 >= ALARM
    row[-1], few[-1] = -square / 2, -small / 2
    rows[at], columns[:, at], ring.prints[at] = row, few, fingerprint
    ring.verdicts[at] = NEAR * near + FLAGGED * flagged
    ring.count(total + 1)
    return ProbeCheck(np.array([hits + near]), np.array([flagged]))


def _with(vector: Float32s, last: float) -> Float32s:
    """`(width + 1,)`: the vector and one number more."""
    longer = np.empty(len(vector) + 1, np.float32)
    longer[:-1], longer[-1] = vector, last
    return longer


def _bound(square: Any, threshold: float) -> Any:
    """The least agreement of what is near: (|a|^2 - t^2) / 2."""
    return (square - threshold * threshold) / 2


def _slack(square: Any, threshold: float) -> Any:
    """What rounding may take from the agreement of what is near: float32 keeps 1e-7 of a number."""
    return 1e-5 * (square**0.5 + threshold) ** 2


def _look(
    ring: Ring, vectors: Float32s, coarse: Float32s, threshold: float, prints: Uint64s
) -> ProbeCheck:
    """Judge rows one after the other, all at once, and keep those that are no retries.

    b is near to a where |a - b|^2 <= t^2, that is a b - |b|^2 / 2 >= (|a|^2 - t^2) / 2: one product
    of matrices, with -|b|^2 / 2 kept as the last column of b. It is asked of those alone that are
    near in the coarse parts: seldom of any.

    Args:
        ring: of the client.
        vectors: `(n, width)` embeddings.
        coarse: `(n, at most 32)` their coarse parts.
        threshold: t.
        prints: `(n,)` of the raw bytes.
    """
    total, n, width = ring.total, len(vectors), vectors.shape[1] + 1
    filled, order = min(total, CAPACITY), np.arange(n)
    rows, columns = ring.rows(width), ring.coarse(coarse.shape[1] + 1)
    in_ring = prints[:, None] == ring.prints[:filled]
    repeated = in_ring.any(axis=1)
    first = (prints[:, None] == prints).argmax(axis=1)
    fresh = ~repeated & (first == order)
    squares = np.einsum("nd,nd->n", vectors, vectors)
    smalls = np.einsum("nd,nd->n", coarse, coarse)
    new_rows = np.column_stack([vectors, -squares / 2])
    probes = np.column_stack([vectors, np.ones(n, np.float32)])
    within = np.where(fresh & (order < order[:, None]), probes @ new_rows.T, -np.inf)
    agreement = within.max(axis=1)
    if filled:
        probe_columns = np.column_stack([coarse, np.ones(n, np.float32)])
        least = _bound(smalls, threshold) - _slack(squares, threshold)
        may = (probe_columns @ columns[:, :filled] >= least[:, None]).any(axis=0)
        if may.any():
            agreement = np.maximum(agreement, (probes @ rows[:filled][may].T).max(axis=1))
    near = fresh & (agreement >= _bound(squares, threshold))
    hits = _hits(ring, near, fresh)
    flagged = near & (hits >= ALARM)
    flagged |= flagged[first]
    if repeated.any():
        verdicts = ring.verdicts[in_ring[repeated].argmax(axis=1)]
        flagged[repeated] = (verdicts & FLAGGED) != 0
    at = (total + np.arange(np.count_nonzero(fresh))) % CAPACITY
    rows[at], ring.prints[at] = new_rows[fresh], prints[fresh]
    columns[:, at] = np.column_stack([coarse, -smalls / 2])[fresh].T
    ring.verdicts[at] = NEAR * near[fresh] + FLAGGED * flagged[fresh]
    ring.count(total + len(at))
    return ProbeCheck(hits, flagged)


def _hits(ring: Ring, near: Bools, fresh: Bools) -> npt.NDArray[np.int64]:
    """How many of the last 20 were near, after each of n rows, `(n,)`; retries are not among them.

    Args:
        ring: of the client, before the rows.
        near: `(n,)`.
        fresh: `(n,)` which rows are no retries.
    """
    total = ring.total
    before = min(total, RECENT)
    past = ring.verdicts[(total - before + np.arange(before)) % CAPACITY] & NEAR
    sums = np.concatenate([[0], past, near[fresh]]).cumsum()
    end = before + fresh.cumsum()
    hits: npt.NDArray[np.int64] = sums[end] - sums[np.maximum(end - RECENT, 0)]
    return hits
