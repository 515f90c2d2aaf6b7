"""Which decimal mark, thousands mark and unit the numbers of a column are written with."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from models.base.errors import DataError
from models.data.cells.numbers import (
    MARKS,
    PLAIN_NUMBER,
    SHARES,
    Body,
    Mark,
    Split,
    read_body,
    split_number,
)
from models.data.cells.texts import Texts
from models.versions.schema import Notation

THOUSAND_DIGITS = 3


@dataclass(frozen=True)
class Reading:
    """The cells' bodies under one decimal mark; None where one does not stand in it."""

    mark: Mark
    bodies: Sequence[Body | None]

    @property
    def odd(self) -> list[int]:
        """Places of the cells that this mark does not fit."""
        return [place for place, body in enumerate(self.bodies) if body is None]

    @property
    def groups(self) -> str:
        """The marks between thousands, each once."""
        return "".join(sorted({body.group for body in self.bodies if body}))


def decide_decimal(cells: Texts, notation: Notation, wanted: str) -> Notation:
    """The notation of a column in which every text is a number in some way.

    A point is the decimal mark unless the texts contradict it. Cells such as `1,200` are thousands
    where a writer of decimals would have written others differently, too.

    Args:
        cells: the different texts, none missing.
        notation: what is known already.
        wanted: the decimal mark that the user named, empty to find it.

    Raises:
        DataError: both readings are possible, or none fits all cells; or units are mixed.
    """
    simple = all(PLAIN_NUMBER.fullmatch(text) for text in cells.texts)
    if simple and not wanted and not any("." in text for text in cells.texts):
        return notation
    splits = [split_number(text) for text in cells.texts]
    unit = _decide_unit(cells, splits)
    readings = {
        mark: Reading(mark, [None if s is None else read_body(s.body, mark) for s in splits])
        for mark in MARKS
    }
    chosen = _choose(cells, readings, wanted)
    return msgspec.structs.replace(notation, decimal=chosen.mark, grouping=chosen.groups, unit=unit)


def _choose(cells: Texts, readings: dict[Mark, Reading], wanted: str) -> Reading:
    point, comma = readings["."], readings[","]
    if wanted:
        chosen = comma if wanted == "," else point
        if chosen.odd:
            raise DataError(
                f"column {cells.column!r}: with --decimal {wanted!r}, {cells.name(chosen.odd)} "
                f"{'is' if len(chosen.odd) == 1 else 'are'} no number"
            )
        return chosen
    if point.odd and comma.odd:
        raise DataError(
            f"column {cells.column!r} holds numbers of two kinds: {cells.name(point.odd[:2])} "
            f"with a decimal comma, {cells.name(comma.odd[:2])} with a decimal point; write all "
            "in one way"
        )
    if point.odd:
        doubtful = _padded_thousands(comma)
        if doubtful is not None and not _all_padded(comma):
            raise _explain_two_readings(cells, doubtful)
        return comma
    if comma.odd or not _differ(point, comma):
        return point
    return _weigh(cells, point, comma)


def _weigh(cells: Texts, point: Reading, comma: Reading) -> Reading:
    """Where both marks fit all cells and give different numbers: `1,200` or `1.200`."""
    marked = next(p for p, body in enumerate(point.bodies) if body != comma.bodies[p])
    body = point.bodies[marked]
    commas = body is not None and body.group == ","
    decimals, thousands = (comma, point) if commas else (point, comma)
    contradicted = _padded_thousands(decimals) is not None and not _all_padded(decimals)
    short = all(len(b.whole) <= THOUSAND_DIGITS or b.group for b in thousands.bodies if b)
    if commas and contradicted and short:
        return thousands
    if not commas and not (contradicted and short):
        return decimals
    raise _explain_two_readings(cells, marked)


def _differ(point: Reading, comma: Reading) -> bool:
    return any(a != b for a, b in zip(point.bodies, comma.bodies, strict=True))


def _padded_thousands(reading: Reading) -> int | None:
    """A cell whose decimals are three digits that end in 0, as thousands do."""
    for place, body in enumerate(reading.bodies):
        fraction = body.fraction if body else None
        if fraction and len(fraction) == THOUSAND_DIGITS and fraction.endswith("0"):
            return place
    return None


def _all_padded(reading: Reading) -> bool:
    """Whether all cells have the same number of decimals."""
    return len({len(body.fraction or "") for body in reading.bodies if body}) == 1


def _explain_two_readings(cells: Texts, place: int) -> DataError:
    text = cells.texts[place]
    split = split_number(text)
    readings = [read_body(split.body, mark) for mark in MARKS] if split else []
    numbers = [
        f"{b.whole}.{b.fraction}" if b.fraction is not None else b.whole for b in readings if b
    ]
    return DataError(
        f"column {cells.column!r}: {cells.name([place])} can be {' or '.join(numbers)}; say with "
        "--decimal . or --decimal , which mark stands before the decimals"
    )


def _decide_unit(cells: Texts, splits: Sequence[Split | None]) -> str:
    """The one unit of a column. Raises DataError for two, or a share beside bare numbers."""
    units: dict[str, int] = {}
    for place, split in enumerate(splits):
        if split is not None and (split.unit or split.body.strip("0.,")):
            units.setdefault(split.unit, place)
    signs = [unit for unit in units if unit]
    mixed = len(signs) > 1 or (len(units) > 1 and signs[0] in SHARES)
    if mixed:
        raise DataError(
            f"column {cells.column!r} holds numbers of different units: "
            f"{cells.name(list(units.values()))}; write all in one"
        )
    return signs[0] if signs else ""
