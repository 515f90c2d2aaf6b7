"""The model itself on the rows as they stand in the file, beside the wrapped one on the same rows.

Both are right equally often, or a sentence names the column that makes the difference. The wrapped
model gets the cells as a client sends them; the model itself as a person would feed it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from models.base.errors import AdaptError
from models.data import DataSet
from models.statistics.intervals import proportion
from models.versions.facts import FileFacts
from models.versions.runner import in_pieces, session
from models.wrapping.feeding.parts import Part
from models.wrapping.feeding.tables import TablePlan, as_kind
from models.wrapping.file_rows import Cells, FileRows, number_of, read_cells, read_file_rows
from models.wrapping.graphs.edit import Array, dtype_of
from models.wrapping.outputs import ClassOutput
from models.wrapping.parity import Original

ROWS = 2000
ALONE = 200  # rows that are asked one by one where some are refused
NAMED = 3  # columns that a note names

Right = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Feeding:
    """How the wrapped model feeds the model itself, and how its classes are read."""

    original: Original
    plan: TablePlan
    classes: ClassOutput
    order: tuple[int, ...]

    def predict(self, feeds: dict[str, Array]) -> Array:
        """The class of every row `(N,)`; -1 where the model refuses the row."""
        try:
            return self._ask(feeds)
        except AdaptError:
            rows = min(ALONE, len(next(iter(feeds.values()))))
            return np.array([self._ask_one(feeds, row) for row in range(rows)], dtype=np.int64)

    def _ask(self, feeds: dict[str, Array]) -> Array:
        shares = self.original.probabilities(self.classes, self.order, feeds)
        predicted: Array = shares.argmax(axis=1)
        return predicted

    def _ask_one(self, feeds: dict[str, Array], row: int) -> int:
        try:
            return int(self._ask({name: x[row : row + 1] for name, x in feeds.items()})[0])
        except AdaptError:
            return -1


def compare_with_file(
    feeding: Feeding, plain: onnx.ModelProto, data: DataSet
) -> tuple[FileFacts, str]:
    """How often each is right, and a sentence on the difference, empty if there is none.

    Args:
        feeding: the model itself.
        plain: the plain graph around it, without score heads.
        data: a table from a file.

    Raises:
        DataError: the file cannot be read as cells.
        AdaptError: the model answers none of its rows.
    """
    rows = read_file_rows(data, ROWS)
    x = np.stack([read_cells(rows.cells[c.name], c) for c in data.schema.columns], axis=1)
    may_lack = np.array([column.missing for column in data.schema.columns])
    taken = np.flatnonzero((may_lack | ~np.isnan(x)).all(axis=1))  # the others a client cannot send
    rows, x = rows.take(taken), x[taken]
    wrapped = _predict_wrapped(plain, data, x)
    sent = feeding.plan.feeds(x)
    best: tuple[Array, dict[str, Array], str] | None = None
    for words, spell in WAYS.items():
        feeds = _as_in_file(feeding.plan, rows, sent, spell)
        own = feeding.predict(feeds)
        if best is None or _hits(own, rows) > _hits(best[0], rows):
            best = own, feeds, words
    assert best is not None
    own, feeds, words = best
    answered = np.flatnonzero(own >= 0)
    if not len(answered):
        raise AdaptError("the model itself refuses every row as it stands in the file")
    y = rows.y[answered]
    facts = FileFacts(
        own=proportion(own[answered] == y),
        wrapped=proportion(wrapped[answered] == y),
        apart=int((own[answered] != wrapped[answered]).sum()),
        refused=len(own) - len(answered),
        fed=words,
    )
    apart = answered[own[answered] != wrapped[answered]]
    causes = list(_causes(feeding, rows, apart, own, sent, feeds)) if len(apart) else []
    return facts, _describe(facts, causes)


def _predict_wrapped(plain: onnx.ModelProto, data: DataSet, x: Array) -> Array:
    running = session(plain.SerializeToString())
    (logits,) = in_pieces(lambda part: running.run(["logits"], {data.schema.name: part}), x)
    predicted: Array = logits.argmax(axis=1)
    return predicted


def _hits(predicted: Array, rows: FileRows) -> float:
    return float((predicted == rows.y[: len(predicted)]).mean())


def _as_in_file(
    plan: TablePlan, rows: FileRows, sent: dict[str, Array], spell: Callable[[Cells], list[str]]
) -> dict[str, Array]:
    """The inputs of the model with the cells of the file where it takes such.

    A column that is one of numbers to the model and of texts in the file, or several columns to
    the model, stays as the wrapped model gives it.
    """
    feeds = {name: values.copy() for name, values in sent.items()}
    for part, index, place in _places(plan):
        column, cells = plan.columns[index], rows.cells[plan.columns[index].name]
        if part.texts:
            values = np.array(spell(cells), dtype=object)
        else:
            numbers = np.array([number_of(cell, column) for cell in cells])
            if column.kind == "categorical" and not np.isfinite(numbers).all():
                continue
            if column.kind == "numeric":
                numbers = plan.scale.apply_to_column(numbers, index)
            values = as_kind(numbers, dtype_of(part.kind))
        if part.rank == 1:
            feeds[part.name] = values
        else:
            feeds[part.name][:, place] = values
    return feeds


def _places(plan: TablePlan) -> Iterator[tuple[Part, int, int]]:
    """Part, column of the data and column of the part, of those that are one column to both."""
    for part in plan.parts:
        place = 0
        for index in part.columns:
            width = plan.spellings[index][0].width if plan.spellings[index] else 1
            if width == 1:
                yield part, index, place
            place += width


def _causes(
    feeding: Feeding,
    rows: FileRows,
    apart: Array,
    own: Array,
    sent: dict[str, Array],
    feeds: dict[str, Array],
) -> Iterator[tuple[int, str]]:
    """Columns that make the difference: rows that each alone explains, and an example."""
    for part, index, place in _places(feeding.plan):
        name = feeding.plan.columns[index].name
        before, after = (
            values[part.name][apart] if part.rank == 1 else values[part.name][apart, place]
            for values in (sent, feeds)
        )
        differ = before.astype(str) != after.astype(str)
        if not differ.any():
            continue
        mixed = {each: values[apart].copy() for each, values in sent.items()}
        if part.rank == 1:
            mixed[part.name] = after
        else:
            mixed[part.name][:, place] = after
        solved = int((feeding.predict(mixed) == own[apart][: len(apart)]).sum())
        row = int(np.argmax(differ))
        cell = rows.cells[name][int(apart[row])]
        word = before[row] if part.texts else float(before[row])
        yield solved, f"the column {name!r} ({cell!r} in the file goes in as {word!r})"


def _describe(facts: FileFacts, causes: list[tuple[int, str]]) -> str:
    if not facts.apart:
        return ""
    text = (
        f"on {facts.own.n} rows as they stand in the file the wrapped model is right on "
        f"{facts.wrapped.value:.1%}, the model itself on {facts.own.value:.1%}; they differ on "
        f"{facts.apart}"
    )
    named = [words for solved, words in sorted(causes, reverse=True)[:NAMED] if solved]
    return f"{text}: {', '.join(named)}" if named else text


def _as_they_stand(cells: Cells) -> list[str]:
    return ["" if cell is None else str(cell) for cell in cells]


def _as_parsed(cells: Cells) -> list[str]:
    """As texts of what pandas makes of a column: whole numbers, numbers, or texts.

    >>> _as_parsed(["00501", "10001"]), _as_parsed(["1", "2.5"])
    (['501', '10001'], ['1.0', '2.5'])
    """
    texts = _as_they_stand(cells)
    for kind in (int, float):
        try:
            return [str(kind(text)) for text in texts]
        except ValueError:
            continue
    return texts


WAYS: dict[str, Callable[[Cells], list[str]]] = {
    "the cells as they stand": _as_they_stand,
    "the cells as numbers where all are": _as_parsed,
}
