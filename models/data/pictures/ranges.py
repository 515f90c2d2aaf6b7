"""The range of pixels: what is there decides, a note says so, and `--range` overrules."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from models.base.errors import DataError
from models.data.raw import Where
from models.versions.schema import InputArray, InputSchema

# Ranges that fractions and signed numbers are commonly in, narrowest first.
RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
FEW_LEVELS = 32  # whole numbers up to it are a scale of their own: as bytes they would be black
DARKEST = 128  # whole numbers above it are bytes
TOPS = frozenset((63, 64, 99, 100, 127, 128))  # where scales end that are no bytes
SATURATED = 0.05  # share of pictures that reach the top of their scale
DEEP = (1023, 1024, 4095, 4096, 16_383, 16_384, 65_535, 65_536)  # 10, 12, 14 and 16 bits
CHUNK = 1 << 24  # values looked at together


@dataclass(frozen=True)
class PixelRange:
    """Lowest and highest value of a pixel, and the sentence that says why."""

    low: float
    high: float
    note: str


def find_range(arrays: Sequence[InputArray], what: str) -> PixelRange:
    """The range of pixels `(N, C, H, W)` of all parts, from their values.

    Whole numbers from 0 up are bytes (0 to 255), but for those that are certainly none: up to 32
    they are a scale of their own (0 to 1, 0 to 16); up to 128 they are one if it ends where scales
    end, or goes in equal steps, and many pictures reach its top (a dark photograph does not); above
    255 they are of 10, 12, 14 or 16 bits. Other numbers lie in 0..1, -1..1 or 0..255, or in a range
    of their own.

    Raises:
        DataError: every pixel has the same value.
    """
    low = min(float(x.min()) for x in arrays)
    high = max(float(x.max()) for x in arrays)
    if low == high:
        raise DataError(f"{what}: every pixel of every image is {low:g}; expected pictures")
    if low >= 0 and all(_is_whole(x) for x in arrays):
        chosen = (0.0, _whole_top(arrays, int(high)))
    else:
        chosen = _common_range(low, high)
    words = (
        "which is taken as their range"
        if (low, high) == chosen
        else f"in a range taken to be {show_range(*chosen)}"
    )
    note = f"pixels lie in {show_range(low, high)}, {words}; --range LOW,HIGH overrules"
    return PixelRange(*chosen, note)


def asked_range(
    text: str, arrays: Sequence[InputArray], wheres: Sequence[Where], what: str
) -> PixelRange:
    """The range that `--range LOW,HIGH` says.

    Args:
        text: of the option.
        arrays: `(N, C, H, W)` of each part.
        wheres: what to call the rows of each part.
        what: the data, for the message.

    Raises:
        DataError: these are no two rising numbers, or a pixel lies outside.
    """
    low, high = _parse_range(text)
    for x, where in zip(arrays, wheres, strict=True):
        flat = x.reshape(len(x), -1)
        outside = (flat.min(axis=1) < low) | (flat.max(axis=1) > high)
        if outside.any():
            row = int(np.argmax(outside))
            raise DataError(
                f"{where(row)}: pixels of {show_range(flat[row].min(), flat[row].max())} "
                f"lie outside --range {text} ({int(outside.sum())} such images of {what}); give a "
                "range that holds them all, or leave such images out"
            )
    return PixelRange(low, high, f"pixels lie in {show_range(low, high)}, as --range says")


def in_pixel_units(eps: float, schema: InputSchema) -> str:
    """An eps of the unit range in the unit of the pixels, to be put behind it; empty for tables.

    >>> schema = InputSchema("input", (1, 8, 8), "uint8", 0, 255, "image")
    >>> in_pixel_units(0.1, schema)
    ' (25.5 in pixels of 0..255)'
    """
    if schema.kind != "image" or (schema.low, schema.high) == (0, 1):
        return ""
    size = eps * (schema.high - schema.low)
    return f" ({size:.3g} in pixels of {show_range(schema.low, schema.high)})"


def show_range(low: float, high: float) -> str:
    """`0..255`, or with a few decimals."""
    return f"{low:g}..{high:g}"


def _whole_top(arrays: Sequence[InputArray], high: int) -> float:
    """The highest value of a scale of whole numbers from 0 that was seen up to `high`."""
    if high <= FEW_LEVELS or (high <= DARKEST and _is_scale(arrays, high)):
        return float(high)
    if high <= 255:
        return 255.0
    return float(next((top for top in DEEP if top >= high), high))


def _is_scale(arrays: Sequence[InputArray], high: int) -> bool:
    """Whether many pictures reach the top, and it is a usual one or one of few equal steps."""
    reached = sum(int((x.reshape(len(x), -1).max(axis=1) == high).sum()) for x in arrays)
    if reached < SATURATED * sum(map(len, arrays)):
        return False
    levels = np.zeros(high + 1, dtype=np.bool_)
    for x in arrays:
        for part in _chunks(x):
            levels[np.unique(part).astype(np.intp)] = True
    steps = np.diff(np.flatnonzero(levels))
    even = len(steps) <= FEW_LEVELS and len(set(steps.tolist())) == 1 and steps[0] > 1
    return high in TOPS or even


def _common_range(low: float, high: float) -> tuple[float, float]:
    for known in RANGES:
        wide = known[1] <= 1 or high > DARKEST
        if known[0] <= low and high <= known[1] and wide:
            return known
    return low, high


def _is_whole(x: InputArray) -> bool:
    return x.dtype.kind in "iub" or all(bool((part == np.rint(part)).all()) for part in _chunks(x))


def _chunks(x: InputArray) -> Iterator[InputArray]:
    """The values of an array in C order, some at a time."""
    flat = x.reshape(-1)
    return (flat[start : start + CHUNK] for start in range(0, len(flat), CHUNK))


def _parse_range(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise DataError(
            f"--range {text!r}: expected the lowest and the highest value of a pixel, such as 0,255"
        )
    return low, high
