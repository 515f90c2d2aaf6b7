"""Which columns of a table go into which input of a model, by names, by kinds or by order."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import onnx
from onnx import TensorProto

from models.base.errors import AdaptError
from models.data.raw import quote
from models.versions.schema import Column, InputSchema
from models.wrapping.feeding.spelling import PAIRS, Spelling, one_hot
from models.wrapping.graphs.edit import dims_of, dtype_of, kind_of, shape_text, show
from models.wrapping.graphs.read import refuse_all


@dataclass(frozen=True)
class Part:
    """One input of the model and the columns of the data that go into it."""

    name: str
    kind: int
    rank: int
    columns: tuple[int, ...]

    @property
    def texts(self) -> bool:
        """Whether it takes strings."""
        return self.kind == TensorProto.STRING


@dataclass(frozen=True)
class Arrangement:
    """What goes where; `one_hot` has the spelling of columns that become several."""

    parts: tuple[Part, ...]
    words: str
    one_hot: dict[int, Spelling] = field(default_factory=dict)


def arrange(
    inputs: Sequence[onnx.ValueInfoProto], schema: InputSchema, order: Sequence[str]
) -> list[Arrangement]:
    """The ways to give the columns to the inputs that fit what the model declares.

    Args:
        inputs: of a prepared model.
        schema: a table.
        order: names of the columns in the order of the model's; empty for that of the data.

    Raises:
        AdaptError: inputs without a column, columns without an input, wrong widths or types.
    """
    places = _places(schema, order)
    widths = [_width(given, schema) for given in inputs]
    if len(inputs) > 1:
        words = f"{len(inputs)} inputs"
        if all(width in (None, 1) for width in widths):
            parts = _one_per_column(inputs, schema, places, named=not order)
        else:
            parts = _groups(inputs, [width or 0 for width in widths], schema, places)
        ways = [Arrangement(tuple(parts), words)]
    else:
        ways = _one_input(inputs[0], widths[0], schema, places)
    _check_texts(ways[0], schema)
    return ways


def _places(schema: InputSchema, order: Sequence[str]) -> list[int]:
    """The columns' places in the order that is asked for. Raises AdaptError for other names."""
    names = [column.name for column in schema.columns]
    unknown = [name for name in order if name not in names]
    twice = sorted({name for name in order if order.count(name) > 1})
    if unknown or twice:
        wrong = f"no column {quote(unknown)}" if unknown else f"{quote(twice)} more than once"
        raise AdaptError(f"--columns: {wrong}; the data have {', '.join(names)}")
    return [names.index(name) for name in order] if order else list(range(len(names)))


def _width(given: onnx.ValueInfoProto, schema: InputSchema) -> int | None:
    """Columns that an input takes, None where that is open. Raises AdaptError for no table."""
    dims, name = dims_of(given), show(given.name)
    alone = dims == (schema.size,) and schema.size > 1
    if alone or (dims is not None and len(dims) not in (1, 2)):
        raise AdaptError(
            f"the model's input {name!r} takes {shape_text(dims)}, the data are "
            f"rows of {schema.size} columns, [N, {schema.size}]"
            + ": it has no batch dimension; export it with one"
            * alone
        )
    if dtype_of(kind_of(given)).kind not in "fiubO":
        raise AdaptError(f"input {name!r} takes {dtype_of(kind_of(given))}")
    if dims is None:
        return None
    return 1 if len(dims) == 1 else dims[1]


def _one_input(
    given: onnx.ValueInfoProto, width: int | None, schema: InputSchema, places: list[int]
) -> list[Arrangement]:
    plain = Arrangement((_part(given, places),), "one input")
    if width == len(places) or (schema.size == 1 and width in (None, 1)):
        return [plain]
    spread = [] if kind_of(given) == TensorProto.STRING else _spread(given, width, schema, places)
    if width is None:
        return [plain, *spread]
    if not spread:
        raise AdaptError(_misfit([given], [width], schema, places))
    return spread


def _spread(
    given: onnx.ValueInfoProto, width: int | None, schema: InputSchema, places: list[int]
) -> list[Arrangement]:
    """The ways of `pandas.get_dummies` and of encoders like it that give `width` columns.

    Columns of true and false, and of numbers, may have stayed as they are. Numbers stand before
    the encoded columns, behind them, or each where it is in the data.
    """
    ways: dict[tuple[object, ...], Arrangement] = {}
    category = [i for i in places if schema.columns[i].kind == "categorical"]
    for drop_first, pairs, numbers in product((False, True), repeat=3):
        spelling = {
            i: one_hot(schema.columns[i], drop_first=drop_first)
            for i in category
            if not (pairs and _is_pair(schema.columns[i]))
            and not (numbers and _are_numbers(schema.columns[i]))
        }
        total = len(places) + sum(each.width - 1 for each in spelling.values())
        if not spelling or (width is not None and total != width):
            continue
        rest = [i for i in places if i not in spelling]
        spread = [i for i in places if i in spelling]
        for words, columns in (
            ("one input, numbers and then a column for each category", [*rest, *spread]),
            ("one input, a column for each category", places),
            ("one input, a column for each category and then numbers", [*spread, *rest]),
        ):
            widths = tuple((i, each.width) for i, each in spelling.items())
            way = Arrangement((_part(given, columns),), words, spelling)
            ways.setdefault((tuple(columns), widths), way)
    return list(ways.values())


def _is_pair(column: Column) -> bool:
    words = {text.strip().casefold() for text in column.categories}
    return any(words <= set(pair) for pair in PAIRS[:2])


def _are_numbers(column: Column) -> bool:
    return all(re.fullmatch(r"[+-]?\d+(\.\d*)?", text) for text in column.categories)


def _one_per_column(
    inputs: Sequence[onnx.ValueInfoProto], schema: InputSchema, places: list[int], *, named: bool
) -> list[Part]:
    """By the names of the inputs; by their order where no name is known or an order was given."""
    names = [column.name for column in schema.columns]
    alike = {_plain(name): index for index, name in enumerate(names)}
    parts = {}
    for given in inputs if named else ():
        name = show(given.name)
        index = names.index(name) if name in names else alike.get(_plain(name))
        if index is not None:
            parts[name] = _part(given, [index])
    if len(parts) == len(inputs):
        return list(parts.values())
    if len(inputs) == len(places) and not parts:
        return [_part(given, [index]) for given, index in zip(inputs, places, strict=True)]
    missing = [show(given.name) for given in inputs if show(given.name) not in parts]
    raise AdaptError(
        f"the model takes the columns {', '.join(show(g.name) for g in inputs)}; the data have no "
        f"column {', '.join(missing)} (they have {', '.join(names)})"
    )


def _groups(
    inputs: Sequence[onnx.ValueInfoProto],
    widths: list[int],
    schema: InputSchema,
    places: list[int],
) -> list[Part]:
    """Texts take the categorical columns in their order, numbers the rest; or simply in order."""
    if sum(widths) != len(places):
        raise AdaptError(_misfit(inputs, widths, schema, places))
    texts = [kind_of(given) == TensorProto.STRING for given in inputs]
    category = [i for i in places if schema.columns[i].kind == "categorical"]
    if any(texts) and sum(w for w, t in zip(widths, texts, strict=True) if t) == len(category):
        pools = {True: category, False: [i for i in places if i not in category]}
    else:
        in_order = list(places)
        pools = {True: in_order, False: in_order}
    parts = []
    for given, width, text in zip(inputs, widths, texts, strict=True):
        parts.append(_part(given, pools[text][:width]))
        del pools[text][:width]
    return parts


def _check_texts(way: Arrangement, schema: InputSchema) -> None:
    """Refuse columns of numbers for inputs of text, all of them at once."""
    faults = []
    for part in way.parts:
        numbers = [
            schema.columns[i].name
            for i in part.columns
            if part.texts and schema.columns[i].kind != "categorical"
        ]
        if numbers:
            options = " ".join(f"--categorical {name}" for name in numbers)
            faults.append(
                f"input {show(part.name)!r} takes text, but column{'s' * (len(numbers) > 1)} "
                f"{quote(numbers)} hold{'s' * (len(numbers) == 1)} numbers: add {options}"
            )
    refuse_all("the table", faults)


def _misfit(
    inputs: Sequence[onnx.ValueInfoProto],
    widths: list[int],
    schema: InputSchema,
    places: list[int],
) -> str:
    taken = ", ".join(f"{show(g.name)}: {w or '?'}" for g, w in zip(inputs, widths, strict=True))
    return (
        f"the model takes {sum(widths)} columns ({taken}), the data have {len(places)} "
        f"({', '.join(schema.columns[i].name for i in places)}): leave columns out with --ignore, "
        "or export the encoding of the columns with the model"
    )


def _part(given: onnx.ValueInfoProto, columns: Sequence[int]) -> Part:
    dims = dims_of(given)
    rank = 2 if dims is None else len(dims)
    return Part(given.name, kind_of(given), rank, tuple(columns))


def _plain(name: str) -> str:
    """A name as exporters write it: lower case, one underscore for all that is no letter."""
    return re.sub(r"[^0-9a-z]+", "_", name.lower()).strip("_")
