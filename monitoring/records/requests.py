"""A request as it is written: the inputs of its instances in one piece, their scores in another."""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from monitoring.records.rows import Record

# Of each instance, as it lies in the database; `check` is the CRC-32 of its input.
SCORES = np.dtype(
    [
        ("predicted", "<i4"),
        ("check", "<u4"),
        ("p_value", "<f8"),
        ("perturbation", "<f8"),
        ("confidence", "<f8"),
        ("entropy", "<f8"),
    ]
)
Scores = npt.NDArray[np.void]
_FIRST_SCORE = Record._fields.index("predicted")
_AFTER_SCORES = Record._fields.index("client")


class Request(NamedTuple):
    """One answered request with its instances; times are seconds since the epoch.

    `row` is the first instance's place in the request that the client sent; `x` are the raw bytes
    of all instances, `scores` their `SCORES`.
    """

    id: str
    row: int
    at: float
    model: str
    version: int
    client: str
    x: memoryview
    scores: Scores

    @classmethod
    def of(cls, records: Sequence[Record]) -> "Request":
        """Return the request of instances that came with it one after the other, of equal size."""
        first = records[0]
        columns = zip(*(r[_FIRST_SCORE:_AFTER_SCORES] for r in records), strict=True)
        scores = pack_scores([r.x for r in records], *columns)
        x = memoryview(b"".join(r.x for r in records))
        key = (first.id, first.row, first.at, first.model, first.version, first.client)
        return cls(*key, x, scores)

    @property
    def rows(self) -> int:
        """How many instances it has."""
        return len(self.scores)


def pack_scores(
    inputs: Iterable[bytes | memoryview],
    predicted: npt.ArrayLike,
    p_value: npt.ArrayLike,
    perturbation: npt.ArrayLike,
    confidence: npt.ArrayLike,
    entropy: npt.ArrayLike,
) -> Scores:
    """Pack the scores of N instances, `(N,)` each, with the CRC-32 of their inputs."""
    checks = [zlib.crc32(x) for x in inputs]
    scores = np.empty(len(checks), SCORES)
    scores["check"] = checks
    scores["predicted"] = predicted
    scores["p_value"] = p_value
    scores["perturbation"] = perturbation
    scores["confidence"] = confidence
    scores["entropy"] = entropy
    return scores


def group_records(records: Iterable[Record]) -> Iterator[Request]:
    """Put instances that follow each other in the same request into one."""
    own: list[Record] = []
    for record in records:
        if own and not _follows(own[-1], record):
            yield Request.of(own)
            own = []
        own.append(record)
    if own:
        yield Request.of(own)


def _follows(before: Record, record: Record) -> bool:
    same = all(getattr(before, n) == getattr(record, n) for n in ("id", "at", "model", "version"))
    return (
        same
        and before.client == record.client
        and record.row == before.row + 1
        and len(record.x) == len(before.x)
    )
