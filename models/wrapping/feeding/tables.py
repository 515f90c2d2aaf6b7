"""Feeding tables: from raw rows `(N, D)` to one input, one per column, or some groups."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from models.versions.schema import Column, InputSchema
from models.wrapping.feeding.parts import Arrangement, Part, arrange
from models.wrapping.feeding.scale import Scale
from models.wrapping.feeding.spelling import (
    AS_IN_FILE,
    AS_NUMBERS,
    Spelling,
    number_spellings,
    text_spellings,
)
from models.wrapping.feeding.vocabulary import known_categories
from models.wrapping.graphs.edit import Array, Builder, Index, dtype_of

NATURAL = (AS_IN_FILE, AS_NUMBERS)  # spellings that need no word


@dataclass(frozen=True)
class TablePlan:
    """A way to give raw rows to the model.

    Args:
        parts: which columns go into which input.
        columns: of the data.
        scale: of numbers.
        spellings: of each column, the one that is used first; () for a column of numbers.
        arrangement: what goes where, in words.
    """

    parts: tuple[Part, ...]
    columns: tuple[Column, ...]
    scale: Scale
    spellings: tuple[tuple[Spelling, ...], ...]
    arrangement: str

    @property
    def words(self) -> dict[str, str]:
        """What the plan is, for people."""
        return {"layout": self.arrangement, "scale": self.scale.name}

    @property
    def used(self) -> set[int]:
        """The columns that the model takes."""
        return {index for part in self.parts for index in part.columns}

    def spelt(self) -> dict[str, str]:
        """Columns whose categories do not go in as they are, and how they do."""
        return {
            self.columns[index].name: self.spellings[index][0].describe(self.columns[index])
            for index in sorted(self.used)
            if self.spellings[index] and self.spellings[index][0].name not in NATURAL
        }

    def others(self, index: int) -> Iterator["TablePlan"]:
        """The plan with one column spelt in each of the other ways."""
        for spelling in self.spellings[index][1:] if index in self.used else ():
            rest = (other for other in self.spellings[index] if other is not spelling)
            spellings = list(self.spellings)
            spellings[index] = (spelling, *rest)
            yield replace(self, spellings=tuple(spellings))

    def in_order(self, order: Sequence[int]) -> "TablePlan":
        """The plan with the columns of its only input in another order."""
        (part,) = self.parts
        return replace(self, parts=(replace(part, columns=tuple(order)),))

    def feeds(self, x: Array) -> dict[str, Array]:
        """The model's inputs for raw `x` `(N, D)`."""
        scaled, given = self.scale.apply(x), {}
        for part in self.parts:
            columns = [self._look_up(index, x, scaled) for index in part.columns]
            values = as_kind(np.concatenate(columns, axis=1), dtype_of(part.kind))
            given[part.name] = values[:, 0] if part.rank == 1 else np.ascontiguousarray(values)
        return given

    def emit(self, builder: Builder, x: str, schema: InputSchema) -> None:
        """Nodes that do the same and end in the model's inputs."""
        del schema  # the columns are known already
        scaled = self.scale.emit(builder, x)
        for part in self.parts:
            tensor = self._emit_part(builder, part, x, scaled)
            if part.rank == 1:
                tensor = builder.op("Squeeze", tensor, builder.const([1]))
            if not part.texts and dtype_of(part.kind).kind in "iub":  # as `as_kind` does
                zero = builder.const(np.float32(0))
                tensor = builder.op("Where", builder.op("IsNaN", tensor), zero, tensor)
            if part.texts:
                builder.op("Identity", tensor, output=part.name)
            else:
                builder.op("Cast", tensor, output=part.name, to=part.kind)

    def _look_up(self, index: int, x: Array, scaled: Array) -> Array:
        if not self.spellings[index]:
            return scaled[:, index : index + 1]
        return self.spellings[index][0].look_up(x[:, index])

    def _emit_part(self, builder: Builder, part: Part, x: str, scaled: str) -> str:
        in_order = part.columns == tuple(range(len(self.columns)))
        if not any(self.spellings[index] for index in part.columns):
            return scaled if in_order else _emit_columns(builder, scaled, part.columns)
        columns = []
        for index in part.columns:
            if self.spellings[index]:
                place = _emit_columns(builder, x, [index])
                columns.append(_emit_lookup(builder, place, self.spellings[index][0], part))
            else:
                columns.append(_emit_columns(builder, scaled, [index]))
        return columns[0] if len(columns) == 1 else builder.op("Concat", *columns, axis=1)


def table_plans(
    graph: onnx.GraphProto, schema: InputSchema, scales: list[Scale], order: Sequence[str]
) -> list[TablePlan]:
    """The ways that fit what the model declares.

    Args:
        graph: of a prepared model.
        schema: a table.
        scales: of numbers, to try.
        order: names of the columns in the order of the model's; empty for that of the data.

    Raises:
        AdaptError: inputs without a column, columns without an input, wrong widths or types.
    """
    ways = arrange(Index(graph).inputs, schema, order)
    if all(part.texts for part in ways[0].parts):
        scales = scales[:1]
    return [
        TablePlan(way.parts, schema.columns, scale, _spellings(graph, schema, way), way.words)
        for way in ways
        for scale in scales
    ]


def as_kind(values: Array, dtype: np.dtype[np.generic]) -> Array:
    """Numbers or texts as a model's input takes them; whole numbers cannot be missing."""
    if dtype.kind in "iub" and values.dtype.kind == "f":
        values = np.nan_to_num(values)
    return values.astype(dtype)


def _spellings(
    graph: onnx.GraphProto, schema: InputSchema, way: Arrangement
) -> tuple[tuple[Spelling, ...], ...]:
    """For every column the spellings to try, the likeliest first."""
    spellings: list[tuple[Spelling, ...]] = [() for _ in schema.columns]
    for part in way.parts:
        known = known_categories(graph, part.name, len(part.columns))
        for place, index in enumerate(part.columns):
            column = schema.columns[index]
            if column.kind != "categorical":
                continue
            words = () if way.one_hot else known[place]
            if index in way.one_hot:
                spellings[index] = (way.one_hot[index],)
            elif part.texts:
                spellings[index] = tuple(text_spellings(column, words))
            else:
                spellings[index] = tuple(number_spellings(column, words))
    return tuple(spellings)


def _emit_columns(builder: Builder, x: str, columns: Sequence[int]) -> str:
    return builder.op("Gather", x, builder.const(list(columns)), axis=1)


def _emit_lookup(builder: Builder, column: str, spelling: Spelling, part: Part) -> str:
    """The row of the table for every place `(N, 1)`; the last two: unseen and missing."""
    values = spelling.values
    last = len(values) - 1
    missing = builder.op("IsNaN", column)
    known = builder.op("Where", missing, builder.const(np.float32(0)), column)
    place = builder.op("Cast", known, to=onnx.TensorProto.INT64)
    unseen = builder.op("Less", place, builder.const(np.int64(0)))
    place = builder.op("Where", unseen, builder.const(np.int64(last - 1)), place)
    place = builder.op("Where", missing, builder.const(np.int64(last)), place)
    table = values if part.texts else as_kind(values, dtype_of(part.kind)).astype(np.float32)
    if spelling.width == 1:
        return builder.op("Gather", builder.const(table[:, 0]), place)
    place = builder.op("Squeeze", place, builder.const([1]))
    return builder.op("Gather", builder.const(table), place)
