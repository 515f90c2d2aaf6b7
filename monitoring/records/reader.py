"""How everything that lies in a store of records is read: requests to instances, with their inputs.

A request is one row, a label is of an instance. So instances are counted out here, in one place,
from `last` and `rows` of their request, whose scores are cut up alike.
"""

import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from models.statistics.arrays import IntArray
from monitoring.records.requests import SCORES, Scores
from monitoring.records.rows import (
    Key,
    LabelledAnswers,
    Recent,
    RecordedInput,
    RecordedRow,
    in_parts,
)
from monitoring.records.segments import SegmentReader
from monitoring.records.tables import FEEDBACK, REQUESTS

_OTHER = REQUESTS.alias()
_CONTAINING = (
    sa.select(sa.func.min(_OTHER.c.last))
    .where(_OTHER.c.last >= FEEDBACK.c.seq)
    .correlate(FEEDBACK)
    .scalar_subquery()
)
# Labels with the requests of their instances: a look-up by the key of both tables for each label.
LABELLED = FEEDBACK.join(
    REQUESTS,
    sa.and_(REQUESTS.c.last == _CONTAINING, FEEDBACK.c.seq > REQUESTS.c.last - REQUESTS.c.rows),
)
# A row about which clients disagree has a label that nobody can rely on: no harm, no observed
# accuracy and no comparison of versions rests on it. What was weighed before stays weighed.
AGREED = FEEDBACK.c.contradicted.is_(False)
PLACE = ("last", "rows", "bytes", "segment", "place", "scores", "x")


@dataclass(frozen=True)
class Instances:
    """Instances of requests, one after the other."""

    seq: IntArray  # (N,)
    last: IntArray  # (N,) number of the last instance of the same request
    at: npt.NDArray[np.float64]  # (N,) seconds since the epoch of the request
    row: IntArray  # (N,) place in the request that the client sent
    ids: npt.NDArray[np.object_]  # (N,) of the request
    scores: Scores  # (N,)

    @classmethod
    def of(cls, requests: Sequence[sa.Row[Any]]) -> "Instances":
        """Count out rows of REQUESTS: with last, rows, at, row, id and scores."""
        count = np.array([r.rows for r in requests], dtype=np.int64)
        last = np.repeat(np.array([r.last for r in requests], dtype=np.int64), count)
        ends = np.repeat(count.cumsum(), count)
        back = ends - np.arange(len(last)) - 1  # instances of the request that follow
        first_row = np.array([r.row + r.rows - 1 for r in requests], dtype=np.int64)
        return cls(
            seq=last - back,
            last=last,
            at=np.repeat(np.array([r.at for r in requests], dtype=np.float64), count),
            row=np.repeat(first_row, count) - back,
            ids=np.repeat(np.array([r.id for r in requests], dtype=np.object_), count),
            scores=np.frombuffer(b"".join(r.scores for r in requests), SCORES),
        )

    def __len__(self) -> int:
        return len(self.seq)

    def cut(self, which: slice | npt.NDArray[np.bool_]) -> "Instances":
        """Keep some of them."""
        names = ("seq", "last", "at", "row", "ids", "scores")
        return Instances(**{name: getattr(self, name)[which] for name in names})

    def latest(self, most: int) -> "Instances":
        """Keep the last `most`."""
        return self.cut(slice(max(0, len(self) - most), None))


INSTANCES = tuple(REQUESTS.c[n] for n in ("last", "rows", "at", "row", "id", "scores"))
ANSWERS = (
    *(REQUESTS.c[n] for n in ("last", "rows", "at", "scores")),
    *(FEEDBACK.c[n] for n in ("number", "seq", "label")),
)


def find_by_client(
    connection: sa.Connection, keys: Collection[Key]
) -> dict[Key, dict[str, RecordedRow]]:
    """Return the latest record of each key by the client that asked."""
    rows: dict[Key, dict[str, RecordedRow]] = {key: {} for key in keys}
    of_id: dict[str, list[int]] = {}
    for key in keys:
        of_id.setdefault(key.id, []).append(key.row)
    names = ("last", "rows", "id", "row", "model", "version", "client", "scores")
    query = sa.select(*(REQUESTS.c[n] for n in names)).order_by(REQUESTS.c.last)
    for part in in_parts(sorted(of_id)):
        for r in connection.execute(query.where(REQUESTS.c.id.in_(part))):
            predicted = np.frombuffer(r.scores, SCORES)["predicted"]
            for row in of_id[r.id]:
                if 0 <= (at := row - r.row) < r.rows:
                    seq = r.last - r.rows + 1 + at
                    found = RecordedRow(seq, r.model, r.version, int(predicted[at]), r.client)
                    rows[Key(r.id, row)][r.client] = found
    return rows


def take(connection: sa.Connection, query: sa.Select[Any], least: int, after: int = 0) -> Instances:
    """Return the instances of the first requests of a query, oldest first.

    Args:
        connection: to the database.
        query: of INSTANCES, in the order of `last`, rising or falling.
        least: requests are taken until they have so many instances.
        after: instances up to this one are left out.
    """
    taken, count = [], 0
    with connection.execute(query.limit(least)) as found:
        for request in found:
            taken.append(request)
            count += min(request.rows, request.last - after)
            if count >= least:
                break
    rows = Instances.of(sorted(taken, key=lambda request: request.last))
    return rows.cut(rows.seq > after)


def with_labels(connection: sa.Connection, rows: Instances) -> Recent:
    """Return instances without their inputs, with their labels."""
    return Recent(
        seq=rows.seq,
        at=rows.at,
        predicted=rows.scores["predicted"].astype(np.int64),
        p_value=rows.scores["p_value"].copy(),
        confidence=rows.scores["confidence"].copy(),
        label=_labels_of(connection, rows.seq),
    )


def labelled_answers(rows: Sequence[sa.Row[Any]]) -> LabelledAnswers:
    """Return rows of ANSWERS as arrays."""
    scores, label = scores_of(rows), np.array([r.label for r in rows], dtype=np.int64)
    return LabelledAnswers(
        number=np.array([r.number for r in rows], dtype=np.int64),
        seq=np.array([r.seq for r in rows], dtype=np.int64),
        at=np.array([r.at for r in rows], dtype=np.float64),
        label=label,
        right=scores["predicted"] == label,
        p_value=scores["p_value"].copy(),
        confidence=scores["confidence"].copy(),
        entropy=scores["entropy"].copy(),
    )


def scores_of(rows: Sequence[sa.Row[Any]]) -> Scores:
    """Return the scores of labelled instances, from rows of LABELLED: seq, last, rows, scores."""
    size = SCORES.itemsize
    parts = []
    for r in rows:
        begin = (r.seq - (r.last - r.rows + 1)) * size
        parts.append(r.scores[begin : begin + size])
    return np.frombuffer(b"".join(parts), SCORES)


def _labels_of(connection: sa.Connection, seq: IntArray) -> IntArray:
    """Return the labels `(N,)` of instances in rising order; -1 where none came."""
    labels = np.full(len(seq), -1, dtype=np.int64)
    if len(seq):
        query = sa.select(FEEDBACK.c.seq, FEEDBACK.c.label)
        query = query.where(FEEDBACK.c.seq.between(int(seq[0]), int(seq[-1])))
        given = dict(tuple(row) for row in connection.execute(query))
        labels[:] = [given.get(each, -1) for each in seq.tolist()]
    return labels


def locate(connection: sa.Connection, seq: IntArray) -> IntArray:
    """Return `last` of the requests of instances `(N,)` in rising order; 0 where it is gone."""
    if not len(seq):
        return seq
    first = REQUESTS.c.last - REQUESTS.c.rows + 1
    query = sa.select(REQUESTS.c.last, first).order_by(REQUESTS.c.last)
    query = query.where(REQUESTS.c.last >= int(seq[0]), first <= int(seq[-1]))
    found = connection.execute(query).all()
    spans = np.array([tuple(row) for row in found], dtype=np.int64).reshape(-1, 2)
    at = np.searchsorted(spans[:, 0], seq)
    spans = np.concatenate([spans, [(0, np.iinfo(np.int64).max)]])
    return np.where(spans[at, 1] <= seq, spans[at, 0], 0)


def read_inputs(
    connection: sa.Connection, folder: Path | None, seq: IntArray, last: IntArray
) -> list[bytes]:
    """Read the raw inputs of instances; empty where one is gone or damaged.

    Args:
        connection: to the database.
        folder: of the segments; None where inputs lie in the rows.
        seq: `(N,)` in rising order.
        last: `(N,)` of their requests, as `locate` and `Instances` have it.
    """
    inputs: list[bytes] = []
    keys, begins = np.unique(last, return_index=True)
    ends = [*begins[1:].tolist(), len(last)][: len(keys)]
    spans = list(zip(keys.tolist(), begins.tolist(), ends, strict=True))
    query = sa.select(*(REQUESTS.c[n] for n in PLACE))
    with SegmentReader(folder or Path()) as segments:
        for part in in_parts(spans):
            found = connection.execute(query.where(REQUESTS.c.last.in_([p[0] for p in part])))
            requests = {request.last: request for request in found}
            for key, begin, end in part:
                request = requests.get(key)
                for number in seq[begin:end].tolist():
                    inputs.append(b"" if request is None else _input(request, number, segments))
    return inputs


def pick(connection: sa.Connection, folder: Path | None, seq: IntArray) -> list[RecordedInput]:
    """Return instances with their inputs; those that are pruned or damaged are left out.

    Args:
        connection, folder: as in `read_inputs`.
        seq: `(N,)` in rising order.
    """
    last = locate(connection, seq)
    seq, last = seq[last > 0], last[last > 0]
    names = ("last", "rows", "id", "row", "at", "client")
    query = sa.select(*(REQUESTS.c[n] for n in names))
    requests: dict[int, sa.Row[Any]] = {}
    for part in in_parts(np.unique(last).tolist()):
        found = connection.execute(query.where(REQUESTS.c.last.in_(part)))
        requests |= {request.last: request for request in found}
    picked = []
    inputs = read_inputs(connection, folder, seq, last)
    for number, key, x in zip(seq.tolist(), last.tolist(), inputs, strict=True):
        request = requests.get(key)
        if request is not None and x:
            row = request.row + number - (request.last - request.rows + 1)
            picked.append(RecordedInput(number, request.id, row, request.at, x, request.client))
    return picked


def _input(request: sa.Row[Any], seq: int, segments: SegmentReader) -> bytes:
    """The input of an instance of a request; empty where it is not what was written."""
    size = request.bytes // request.rows
    index = seq - (request.last - request.rows + 1)
    if request.segment is None:
        x = bytes(request.x[index * size : (index + 1) * size])
    else:
        x = segments.read(request.segment, request.place + index * size, size)
    scores = np.frombuffer(request.scores, SCORES)
    return x if len(x) == size and zlib.crc32(x) == scores["check"][index] else b""


def select_delays(model: str, version: int, last: int) -> sa.Select[tuple[float]]:
    """Seconds from request to label of the latest labelled rows of a version, newest first."""
    return (
        sa.select(FEEDBACK.c.at - REQUESTS.c.at)
        .select_from(LABELLED)
        .where(REQUESTS.c.model == model, REQUESTS.c.version == version)
        .order_by(FEEDBACK.c.seq.desc())
        .limit(last)
    )


def select_times(model: str, last: int) -> sa.Select[tuple[float]]:
    """When the latest labels of a model came, whichever version had answered, newest first."""
    return (
        sa.select(FEEDBACK.c.at)
        .select_from(LABELLED)
        .where(REQUESTS.c.model == model)
        .order_by(FEEDBACK.c.number.desc())
        .limit(last)
    )
