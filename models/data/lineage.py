"""What a version knows of live traffic beside its data set: rows, and labels that have changed.

It stands in the bundle (`lineage.npz`), so that the version that comes next begins with it. A
content stays on the side where it was first seen: no row is trained on and judged on.
"""

import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.base.errors import BundleError
from models.data.contents import content_hashes, unseen
from models.data.records import PARTS, DataSet, Rows
from models.statistics.arrays import FloatArray, IntArray
from models.versions.bundle import Bundle

FILE = "lineage.npz"
TEST_ROWS = 1000  # that the test part grows to
KEPT_ROWS, KEPT_BYTES = 5000, 1 << 26  # live rows of a side, the newest
LEFT_OUT = -1  # in the place of a label: nobody knows what the row is called now
SIDES = ("train", "test")


class LiveRows(NamedTuple):
    """Labelled live rows: `at` `(N,)` in seconds since 1970, `age` `(N,)` in windows, 0 the newest.

    Age is counted in windows, so that a pause of the traffic makes nothing old.
    """

    rows: Rows
    at: FloatArray
    age: IntArray

    def take(self, index: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> "LiveRows":
        """The rows at `index`."""
        return LiveRows(self.rows.take(index), self.at[index], self.age[index])

    def joined(self, other: "LiveRows") -> "LiveRows":
        """These rows and the others."""
        at, age = np.concatenate([self.at, other.at]), np.concatenate([self.age, other.age])
        return LiveRows(self.rows.joined(other.rows), at, age)

    def newest(self) -> "LiveRows":
        """The newest rows, the oldest of them first, as many as a version keeps."""
        bytes_each = max(1, self.rows.x[:1].nbytes)
        most = min(KEPT_ROWS, max(1, KEPT_BYTES // bytes_each))
        return self.take(np.argsort(self.at, kind="stable")[max(0, len(self.at) - most) :])


@dataclass(frozen=True)
class Lineage:
    """Live rows of the windows so far, and what the data set's rows are called now.

    Args:
        live: by side, `train` and `test`; a side without rows is absent.
        labels: by part of the data set, `(N,)` in its order, `LEFT_OUT` for rows that are used no
            more; a part whose labels are as in the data set is absent.
    """

    live: Mapping[str, LiveRows] = field(default_factory=dict)
    labels: Mapping[str, IntArray] = field(default_factory=dict)

    @classmethod
    def of(cls, bundle: Bundle) -> "Lineage":
        """The lineage of a version; empty where it was made from its data set alone."""
        return cls.decode(bundle.read(FILE), bundle) if FILE in bundle.manifest.files else cls()

    @classmethod
    def decode(cls, data: bytes, bundle: Bundle | None = None) -> "Lineage":
        """The lineage that `encode` wrote. Raises BundleError where it is damaged."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                live = {
                    side: LiveRows(
                        Rows(arrays[f"{side}/x"], arrays[f"{side}/y"]),
                        arrays[f"{side}/at"],
                        arrays[f"{side}/age"],
                    )
                    for side in SIDES
                    if f"{side}/x" in arrays
                }
                labels = {part: arrays[f"labels/{part}"] for part in PARTS if _has(arrays, part)}
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            path = Path(FILE) if bundle is None else bundle.path
            raise BundleError(path, f"{FILE} holds no lineage: {error}") from error
        return cls(live, labels)

    def encode(self) -> bytes:
        """The bytes of `lineage.npz`."""
        arrays: dict[str, npt.NDArray[np.generic]] = {}
        for side, live in self.live.items():
            arrays |= {f"{side}/x": live.rows.x, f"{side}/y": live.rows.y}
            arrays |= {f"{side}/at": live.at, f"{side}/age": live.age}
        arrays |= {f"labels/{part}": labels for part, labels in self.labels.items()}
        stream = io.BytesIO()
        np.savez_compressed(stream, allow_pickle=False, **arrays)
        return stream.getvalue()

    def labels_of(self, data: DataSet, part: str) -> IntArray:
        """What the rows of a part are called now `(N,)`; `LEFT_OUT` for those not used."""
        rows: Rows = getattr(data, part)
        return self.labels.get(part, rows.y)

    def relabelled(self, data: DataSet) -> DataSet:
        """The data set with the labels that hold now, without the rows that are left out."""
        if not self.labels:
            return data
        train, calibration, test = (self._relabel(data, part) for part in PARTS)
        groups = data.test_groups
        if groups is not None:
            groups = groups[self.labels_of(data, "test") != LEFT_OUT]
        fresh = unseen(content_hashes(train.x), content_hashes(test.x))
        return replace(
            data, train=train, calibration=calibration, test=test, unseen_test=fresh,
            test_groups=groups,
        )  # fmt: skip

    def _relabel(self, data: DataSet, part: str) -> Rows:
        labels = self.labels_of(data, part)
        return Rows(getattr(data, part).x, labels).take(labels != LEFT_OUT)

    def grown_test(self, data: DataSet) -> Rows:
        """The test part that holds now, and live rows until it has `TEST_ROWS`, the newest first.

        Of classes whose rows the data set cannot judge any more, up to `TEST_ROWS` live ones are
        taken in any case.
        """
        own, live = self.relabelled(data).test, self.live.get("test")
        if live is None:
            return own
        gone = data.test.y[self.labels_of(data, "test") == LEFT_OUT]
        needed = np.isin(live.rows.y, np.unique(gone))
        newest = np.argsort(-live.at, kind="stable")
        room = max(0, TEST_ROWS - len(own))
        first, others = newest[needed[newest]], newest[~needed[newest]]
        taken = np.concatenate([first[:TEST_ROWS], others[: max(0, room - len(first))]])
        return own.joined(live.rows.take(np.sort(taken)))

    def followed(self, labels: Mapping[str, IntArray], live: Mapping[str, LiveRows]) -> "Lineage":
        """With other labels of the data set and of live rows: what they are called now."""
        return Lineage(live, {**self.labels, **labels})

    def with_window(self, window: Mapping[str, LiveRows]) -> "Lineage":
        """With the rows of one more window; what was there is one window older.

        Where a row comes again, its newest label counts.
        """
        came = [content_hashes(live.rows.x) for live in window.values() if len(live.at)]
        contents = np.concatenate(came) if came else np.zeros(0, dtype=np.uint64)
        live = {}
        for side in SIDES:
            new, old = window.get(side), self.live.get(side)
            if old is not None:
                old = old.take(~np.isin(content_hashes(old.rows.x), contents))
                old = old._replace(age=old.age + 1)
            both = new if old is None else old if new is None else old.joined(new)
            if both is not None and len(both.at):
                live[side] = both.newest()
        return Lineage(live, self.labels)


NO_LINEAGE = Lineage()  # of a version that was made from its data set alone


def _has(arrays: Mapping[str, object], part: str) -> bool:
    return f"labels/{part}" in arrays
