"""From what a reader found to a data set: numbered labels, divided rows, a schema."""

from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.base.errors import DataError
from models.data import tables
from models.data.faults import Faults
from models.data.labels import drop_rare, label_rows, note_suspicions
from models.data.raw import Raw, RawPart
from models.data.records import DataSet, Rows, Source
from models.data.split import (
    FEWEST_OF_CLASS,
    Division,
    beside_test,
    check_counts,
    hash_shares,
    reorder,
    thirds,
)
from models.statistics.arrays import IntArray
from models.versions.schema import InputArray, InputSchema

Shares = npt.NDArray[np.float64]
# Ranges that floating-point pixels are commonly in, narrowest first.
RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
DARKEST = 128.0  # pixels that never get above it may well have another range than 0 to 255


def build(raw: Raw, source: Source, name: str) -> DataSet:
    """The data set that `raw` is.

    Raises:
        DataError: no rows, a label or a value that cannot be used, or too few rows of a class.
    """
    faults = Faults(raw.what)
    faults.add(*raw.faults)
    with faults.gather():
        raw = _check_parts(raw)
    raw = drop_rare(raw, FEWEST_OF_CLASS) if source.drop_rare else raw
    with faults.gather():
        labels = number_labels(raw)
    faults.check()
    y, y_test, classes = labels.train, labels.test, labels.classes
    parts = [part for part in (raw.train, raw.test) if part is not None]
    shares = [hash_shares(_keys(part)) for part in parts]
    division = thirds(shares[0], y) if y_test is None else beside_test(shares[0], y, shares[1])
    kept = np.concatenate([division.train, division.calibration])
    kept = np.concatenate([kept, division.test]) if y_test is None else kept
    check_counts(shares[0][kept], y[kept], classes, _describe_rows(raw.what, division))
    gaps = tables.missing_notes(raw.train, division.train, raw.test)
    suspicions = note_suspicions(raw.train.columns, y)
    described = _notes(raw, classes, division, y_test)
    notes = (*raw.notes, *labels.notes, *described, *gaps, *suspicions)
    make = _images if raw.train.pixels is not None else _tables
    schema, rows = make(raw, division, y, y_test)
    return DataSet(name, schema, classes, *rows, source=source, notes=notes)


def _check_parts(raw: Raw) -> Raw:
    """With rows in every part, and the test part's columns in the order of the training part's."""
    for part in (raw.train, raw.test):
        if part is not None and len(part.labels) == 0 and not raw.faults:
            told = "the test part of " if part is raw.test else ""
            raise DataError(f"{told}{raw.what}: no rows; expected labelled rows")
    if raw.train.pixels is None and not raw.train.columns and not raw.faults:
        raise DataError(f"{raw.what}: there is no column besides the label")
    if raw.test is None or raw.train.pixels is not None:
        return raw
    told = f"the test part of {raw.what}"
    columns = tables.align_columns(raw.test.columns, raw.train.columns, told)
    return replace(raw, test=replace(raw.test, columns=columns))


def _keys(part: RawPart) -> InputArray:
    return tables.row_keys(part.columns) if part.pixels is None else part.pixels


def _describe_rows(what: str, division: Division) -> str:
    """What rows are counted, for a message."""
    count = len(division.dropped)
    return f"{what} (without {count} rows that stand in the test part, too)" if count else what


def _notes(
    raw: Raw, classes: tuple[str, ...], division: Division, y_test: IntArray | None
) -> list[str]:
    notes = []
    if len(division.dropped):
        notes.append(
            f"{len(division.dropped)} rows of the training part stand in the test part, too, and "
            "were left out of training"
        )
    unused = [name for name in raw.names if name not in classes]
    if unused:
        notes.append(f"classes without rows were left out: {', '.join(unused)}")
    absent = set(range(len(classes))) - set([] if y_test is None else y_test.tolist())
    if y_test is not None and absent:
        names = ", ".join(classes[index] for index in sorted(absent))
        notes.append(f"the test part has no row of: {names}")
    return notes


def _images(
    raw: Raw, division: Division, y: IntArray, y_test: IntArray | None
) -> tuple[InputSchema, tuple[Rows, Rows, Rows]]:
    """Reorder the pixels where they lie; the parts are views."""
    parts = [part for part in (raw.train, raw.test) if part is not None]
    arrays = [part.pixels for part in parts if part.pixels is not None]
    low, high = pixel_range(arrays, raw.what)
    _, channels, height, width = arrays[0].shape
    if arrays[-1].shape[1:] != arrays[0].shape[1:]:
        raise DataError(
            f"the test part of {raw.what} has images of shape {list(arrays[-1].shape[1:])}, but "
            f"the training part {list(arrays[0].shape[1:])} (channels, height, width)"
        )
    if arrays[-1].dtype != arrays[0].dtype:
        raise DataError(
            f"the test part of {raw.what} has pixels of {arrays[-1].dtype}, but the training part "
            f"{arrays[0].dtype}"
        )
    dtype: Literal["uint8", "float32"] = "uint8" if arrays[0].dtype == np.uint8 else "float32"
    schema = InputSchema("input", (channels, height, width), dtype, low, high, kind="image")
    own = (division.train, division.calibration) + ((division.test,) if y_test is None else ())
    order = np.concatenate([*own, division.dropped])
    reorder(arrays[0], order)
    pieces = np.split(arrays[0], np.cumsum([len(places) for places in own]))
    rows = [Rows(x, y[places]) for x, places in zip(pieces, own, strict=False)]
    if y_test is not None:
        reorder(arrays[1], division.test)
        rows.append(Rows(arrays[1], y_test[division.test]))
    return schema, (rows[0], rows[1], rows[2])


def pixel_range(arrays: list[InputArray], what: str) -> tuple[float, float]:
    """The range of pixels `(N, C, H, W)`: of uint8 its own, of floats a common one or the exact.

    Raises:
        DataError: every pixel has the same value.
    """
    if arrays[0].dtype == np.uint8:
        return 0.0, 255.0
    low = min(float(x.min()) for x in arrays)
    high = max(float(x.max()) for x in arrays)
    if low == high:
        raise DataError(f"{what}: every pixel of every image is {low:g}; expected pictures")
    for known in RANGES:
        wide = known[1] <= 1 or high > DARKEST
        if known[0] <= low and high <= known[1] and wide:
            return known
    return low, high


def _tables(
    raw: Raw, division: Division, y: IntArray, y_test: IntArray | None
) -> tuple[InputSchema, tuple[Rows, Rows, Rows]]:
    schema = tables.schema_of(raw.train, division.train, raw.what, raw.test)
    x = tables.matrix(raw.train.columns, schema)
    train = Rows(x[division.train], y[division.train])
    calibration = Rows(x[division.calibration], y[division.calibration])
    if raw.test is None or y_test is None:
        test = Rows(x[division.test], y[division.test])
    else:
        columns = raw.test.columns
        test = Rows(tables.matrix(columns, schema)[division.test], y_test[division.test])
    if any(column.texts for column in raw.train.columns):
        # Rows that differed in categories unknown to training are the same to a model.
        both = np.isin(hash_shares(calibration.x), hash_shares(test.x))
        calibration = calibration.take(~both)
    return schema, (train, calibration, test)
