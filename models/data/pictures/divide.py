"""Divided pictures: one array in the order of the parts, with the schema of its pixels."""

from typing import Literal

import numpy as np

from models.base.errors import DataError
from models.data.pictures.ranges import PixelRange, asked_range, find_range
from models.data.raw import Raw
from models.data.records import Rows, Source
from models.data.split import Division, reorder
from models.statistics.arrays import IntArray
from models.versions.schema import InputArray, InputSchema

Parts = tuple[Rows, Rows, Rows]


def divide_pictures(
    raw: Raw, division: Division, y: IntArray, y_test: IntArray | None, source: Source
) -> tuple[InputSchema, Parts, tuple[str, ...]]:
    """Schema, parts and notes; the pixels are reordered where they lie, and the parts are views.

    Raises:
        DataError: training and test pictures differ in size or type, or the range cannot be.
    """
    parts = [part for part in (raw.train, raw.test) if part is not None]
    arrays = [part.pixels for part in parts if part.pixels is not None]
    _check_alike(arrays, raw.what)
    if source.range:
        found = asked_range(source.range, arrays, [part.where for part in parts], raw.what)
    else:
        found = find_range(arrays, raw.what)
    dtype = _dtype(arrays[0], found)
    arrays = [x.astype(dtype, copy=False) for x in arrays]
    _, channels, height, width = arrays[0].shape
    shape = (channels, height, width)
    schema = InputSchema("input", shape, dtype, found.low, found.high, kind="image")
    own = (division.train, division.calibration) + ((division.test,) if y_test is None else ())
    reorder(arrays[0], np.concatenate([*own, division.dropped]))
    pieces = np.split(arrays[0], np.cumsum([len(places) for places in own]))
    rows = [Rows(x, y[places]) for x, places in zip(pieces, own, strict=False)]
    if y_test is not None:
        reorder(arrays[1], division.test)
        rows.append(Rows(arrays[1], y_test[division.test]))
    return schema, (rows[0], rows[1], rows[2]), (found.note,)


def _check_alike(arrays: list[InputArray], what: str) -> None:
    first, last = arrays[0], arrays[-1]
    if last.shape[1:] != first.shape[1:]:
        raise DataError(
            f"the test part of {what} has images of shape {list(last.shape[1:])}, but "
            f"the training part {list(first.shape[1:])} (channels, height, width); where only the "
            "sizes differ, --resize brings them to one"
        )
    if last.dtype != first.dtype:
        raise DataError(
            f"the test part of {what} has pixels of {last.dtype}, but the training part "
            f"{first.dtype}"
        )


def _dtype(x: InputArray, found: PixelRange) -> Literal["uint8", "float32"]:
    """Bytes stay bytes, where the range is one of bytes."""
    bounds = (found.low, found.high)
    whole = all(bound == int(bound) and 0 <= bound <= 255 for bound in bounds)
    return "uint8" if x.dtype == np.uint8 and whole else "float32"
