"""From what a reader found to a data set: numbered labels, divided rows, a schema."""

from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

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
from models.data.pictures.divide import divide_pictures
from models.data.raw import Raw, RawPart
from models.data.records import DataSet, Rows, Source
from models.data.split import (
    FEWEST_OF_CLASS,
    Dealt,
    Division,
    beside_test,
    check_counts,
    check_parts,
    thirds,
)
from models.statistics.arrays import IntArray
from models.versions.schema import InputSchema

Parts = tuple[Rows, Rows, Rows]
Divided = tuple[InputSchema, Parts, tuple[str, ...]]
Divide = Callable[[Raw, Division, IntArray, IntArray | None, Source], Divided]


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
    make = divide_pictures if raw.train.pixels is not None else _divide_table
    schema, rows, notes = _make(make, raw, division, y, y_test, source, faults)
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
            *notes,
        ),
        unseen_test=fresh,
        test_groups=_test_groups(groups, division),
    )


def _make(
    make: Divide,
    raw: Raw,
    division: Division,
    y: IntArray,
    y_test: IntArray | None,
    source: Source,
    faults: Faults,
) -> Divided:
    """Schema, rows and notes; raises all faults."""
    if not len(division.train):
        raise faults.error()
    with faults.gather():
        divided = make(raw, division, y, y_test, source)
        faults.check()
        return divided
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


def _divide_table(
    raw: Raw, division: Division, y: IntArray, y_test: IntArray | None, source: Source
) -> Divided:
    """Schema of the training part and the rows of each part; raises DataError."""
    if source.range:
        raise DataError(f"{raw.what} is a table; --range is for images")
    schema = tables.schema_of(raw.train, division.train, raw.what, raw.test)
    x = tables.matrix(raw.train.columns, schema)
    train = Rows(x[division.train], y[division.train])
    calibration = Rows(x[division.calibration], y[division.calibration])
    if raw.test is None or y_test is None:
        test = Rows(x[division.test], y[division.test])
    else:
        columns = raw.test.columns
        test = Rows(tables.matrix(columns, schema)[division.test], y_test[division.test])
    return schema, (train, calibration, test), ()
