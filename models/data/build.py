"""From what a reader found to a data set: numbered labels, divided rows, a schema."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NoReturn

import numpy as np

from models.base.errors import DataError
from models.data import tables
from models.data.contents import (
    RARE_REPEATS,
    Shares,
    content_hashes,
    deal,
    repeated_share,
    text_hashes,
    unseen,
)
from models.data.faults import Faults
from models.data.groups import Groups, group_numbers, take_groups
from models.data.labels import drop_rare, label_rows, note_suspicions
from models.data.raw import Raw, RawPart
from models.data.records import DataSet, Rows, Source
from models.data.split import (
    FEWEST_OF_CLASS,
    Dealt,
    Division,
    beside_test,
    check_counts,
    check_parts,
    reorder,
    thirds,
)
from models.statistics.arrays import IntArray
from models.versions.schema import InputArray, InputSchema

# Ranges that floating-point pixels are commonly in, narrowest first.
RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
DARKEST = 128.0  # pixels that never get above it may well have another range than 0 to 255
Parts = tuple[Rows, Rows, Rows]


def build(raw: Raw, source: Source, name: str) -> DataSet:
    """The data set that `raw` is.

    Raises:
        DataError: no rows, labels, groups or values that cannot be used, too few rows of a class;
            all of them at once.
    """
    faults = Faults(raw.what)
    faults.add(*raw.faults)
    raw = drop_rare(raw, FEWEST_OF_CLASS) if source.drop_rare else raw
    raw, labels = label_rows(raw, faults)
    raw = _check_parts(raw, faults)
    groups: Groups | None = None
    with faults.gather():
        raw, groups = take_groups(raw, source.group)
    y, y_test, classes = labels.train, labels.test if raw.test else None, labels.classes
    dealt, dealt_test = _deal(raw, groups, y, y_test, classes)
    division = thirds(dealt, y) if dealt_test is None else beside_test(dealt, y, dealt_test)
    with faults.gather():
        _check_division(raw, division, dealt, y, classes)
    make = _images if raw.train.pixels is not None else _tables
    schema, rows = _make(make, raw, division, y, y_test, faults)
    fresh = unseen(content_hashes(rows[0].x), content_hashes(rows[2].x))
    return DataSet(
        name,
        schema,
        classes,
        *rows,
        source=source,
        notes=(
            *raw.notes,
            *labels.notes,
            *_note_division(raw, classes, division, y_test),
            *tables.missing_notes(raw.train, division.train, raw.test),
            *_note_repeats(dealt, int(np.count_nonzero(fresh)), len(fresh)),
            *(() if groups is None else (groups.note(),)),
            *note_suspicions(raw.train.columns, y),
        ),
        unseen_test=fresh,
        test_groups=_test_groups(groups, division),
    )


def _make(
    make: Callable[[Raw, Division, IntArray, IntArray | None], tuple[InputSchema, Parts]],
    raw: Raw,
    division: Division,
    y: IntArray,
    y_test: IntArray | None,
    faults: Faults,
) -> tuple[InputSchema, Parts]:
    """Schema and rows; raises all faults."""
    if not len(division.train):
        raise faults.error()
    with faults.gather():
        schema, rows = make(raw, division, y, y_test)
        faults.check()
        return schema, rows
    raise faults.error()


def _check_parts(raw: Raw, faults: Faults) -> Raw:
    """With rows in every part, and the test part's columns in the order of the training part's.

    Without its test part where that has other columns, which `faults` say.

    Raises:
        DataError: no rows or no columns are left to look at; all faults so far.
    """
    for part in (raw.train, raw.test):
        if part is not None and len(part.labels) == 0:
            whose = "the test part of " if part is raw.test else ""
            _raise(faults, f"{whose}{raw.what}: no rows; expected labelled rows")
    if raw.train.pixels is None and not raw.train.columns:
        _raise(faults, f"{raw.what}: there is no column besides the label")
    if raw.test is None or raw.train.pixels is not None:
        return raw
    with faults.gather():
        whose = f"the test part of {raw.what}"
        columns = tables.align_columns(raw.test.columns, raw.train.columns, whose)
        return replace(raw, test=replace(raw.test, columns=columns))
    return replace(raw, test=None)


def _raise(faults: Faults, otherwise: str) -> NoReturn:
    """Raise all faults; a source without any has the fault `otherwise`."""
    if not faults:
        faults.add(otherwise)
    raise faults.error()


def _deal(
    raw: Raw,
    groups: Groups | None,
    y: IntArray,
    y_test: IntArray | None,
    classes: tuple[str, ...],
) -> tuple[Dealt, Dealt | None]:
    """Shares of the rows of both parts; a label counts by its name, not by its place."""
    labels = text_hashes(classes).view(np.int64)
    units = (None, None) if groups is None else groups.shares()

    def dealt(part: RawPart, places: IntArray, unit: Shares | None) -> Dealt:
        contents = content_hashes(
            tables.row_keys(part.columns) if part.pixels is None else part.pixels
        )
        shares = deal(contents, labels[places])
        return Dealt(contents, shares, shares if unit is None else unit)

    train = dealt(raw.train, y, units[0])
    if raw.test is None or y_test is None:
        return train, None
    return train, dealt(raw.test, y_test, units[1])


def _check_division(
    raw: Raw, division: Division, dealt: Dealt, y: IntArray, classes: tuple[str, ...]
) -> None:
    """Refuse classes that cannot stand in every part. Raises DataError."""
    own = [division.train, division.calibration]
    if raw.test is None:
        own.append(division.test)
    rows = np.concatenate(own)
    count = len(division.dropped)
    what = raw.what + f" (without {count} rows that stand in the test part, too)" * (count > 0)
    grouped = dealt.units is not dealt.shares
    check_counts(y[rows], classes, what, dealt.units[rows] if grouped else None)
    if grouped:
        check_parts(division, y, classes, what)


def _test_groups(groups: Groups | None, division: Division) -> IntArray | None:
    if groups is None:
        return None
    return group_numbers((groups.train if groups.test is None else groups.test)[division.test])


def _note_division(
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


def _note_repeats(dealt: Dealt, fresh: int, test: int) -> list[str]:
    """How many rows have an equal, where that is more than an oversight."""
    share = repeated_share(dealt.contents)
    if share <= RARE_REPEATS:
        return []
    return [
        f"{share:.0%} of the rows have an equal one. Equal rows are dealt one by one, as traffic "
        f"brings them: {test - fresh} of {test} test rows have an equal in training, {fresh} do not"
    ]


def _images(
    raw: Raw, division: Division, y: IntArray, y_test: IntArray | None
) -> tuple[InputSchema, Parts]:
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
) -> tuple[InputSchema, Parts]:
    schema = tables.schema_of(raw.train, division.train, raw.what, raw.test)
    x = tables.matrix(raw.train.columns, schema)
    train = Rows(x[division.train], y[division.train])
    calibration = Rows(x[division.calibration], y[division.calibration])
    if raw.test is None or y_test is None:
        test = Rows(x[division.test], y[division.test])
    else:
        columns = raw.test.columns
        test = Rows(tables.matrix(columns, schema)[division.test], y_test[division.test])
    return schema, (train, calibration, test)
