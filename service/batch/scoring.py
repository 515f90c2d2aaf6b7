"""Rows to predictions and scores: one onnxruntime run, flags and sets as the service's answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from models.base.errors import DataError
from models.data.cells import key_of
from models.data.formats.arrow import labels_of
from models.data.pieces import Block, Wanted
from models.data.raw import quote
from models.statistics.arrays import IntArray
from models.versions.bundle import Bundle
from models.versions.runner import Answer, Runner, in_pieces
from models.versions.schema import PLAIN
from monitoring.counting.cells import RowCounts
from monitoring.counting.metrics import Flags
from service.batch.facts import (
    MOST_KINDS,
    LabelCount,
    Options,
    RowFault,
    join_faults,
)
from service.batch.inputs import InputReader, Rows
from service.pipeline import Scored, certificates, class_sets, verdict

# The columns of the output, in their order; some versions have not all.
OUTPUTS = (
    "file", "row", "label", "confidence", "drift_p_value", "drift_flagged",
    "perturbation_likelihood", "corruption_likelihood", "perturbation_flagged", "suspicious",
    "verdict", "out_of_range", "certified", "certified_eps", "certified_set", "set",
    "probabilities", "fault",
)  # fmt: skip
RUN_ROWS = 512  # that the model gets at once
OTHER_FAULTS = "other faults"


@dataclass
class Sums:
    """What scored blocks add up to."""

    counts: IntArray
    classes: IntArray
    flagged: dict[str, int] = field(default_factory=dict)
    faults: dict[str, RowFault] = field(default_factory=dict)
    labels: dict[str, LabelCount] = field(default_factory=dict)
    unknown_labels: int = 0
    rows: int = 0
    scored: int = 0


class Scorer:
    """Scores blocks with one version.

    Args:
        bundle: of the version.
        options: what is asked for of each row.
    """

    def __init__(self, bundle: Bundle, options: Options) -> None:
        self.manifest, self.options = bundle.manifest, options
        self._runner = Runner(bundle, threads=options.threads)
        self._inputs = InputReader(self.manifest.input, options.resize or None)
        self._row_counts = RowCounts(self.manifest)
        self._places = {
            key_of(name, PLAIN) or name: place for place, name in enumerate(self.manifest.classes)
        }

    def wanted(self, root: str) -> Wanted:
        """What must be read of each row."""
        label = (self.options.label,) if self.options.label else ()
        columns = dict.fromkeys((*self._inputs.columns, *self.options.keep, *label))
        schema = self.manifest.input
        return Wanted(
            tuple(columns), schema.size, Path(root), schema.kind == "image", self.options.delimiter
        )

    def sums(self) -> Sums:
        """Begin to add up."""
        classes = len(self.manifest.classes)
        return Sums(np.zeros(self._row_counts.size, np.int64), np.zeros(classes, np.int64))

    def _need(self, block: Block) -> None:
        """Refuse a file that lacks what an option names. Raises DataError."""
        asked = (*self.options.keep, *((self.options.label,) if self.options.label else ()))
        absent = [name for name in asked if name not in block.table.column_names]
        if absent:
            raise DataError(f"no column {quote(absent)}, which an option names")

    def schema(self, block: Block) -> pa.Schema:
        """The columns of the output for blocks like this one. Raises DataError."""
        self._need(block)
        manifest = self.manifest
        fields = [pa.field("file", pa.string()), pa.field("row", pa.int64())]
        for name in self.options.keep:
            fields.append(pa.field(kept_name(name), block.table.schema.field(name).type))
        fields += [
            pa.field("label", pa.string()),
            pa.field("confidence", pa.float32()),
            pa.field("drift_p_value", pa.float32()),
            pa.field("drift_flagged", pa.bool_()),
            pa.field("perturbation_likelihood", pa.float32()),
            pa.field("corruption_likelihood", pa.float32()),
            pa.field("perturbation_flagged", pa.bool_()),
            pa.field("suspicious", pa.bool_()),
            pa.field("verdict", pa.string()),
        ]
        if manifest.input.reach is not None:
            fields.append(pa.field("out_of_range", pa.bool_()))
        if manifest.certificate is not None:
            fields += [pa.field("certified", pa.bool_()), pa.field("certified_eps", pa.float32())]
            fields.append(pa.field("certified_set", pa.list_(pa.string())))
        if manifest.sets is not None:
            fields.append(pa.field("set", pa.list_(pa.string())))
        if self.options.probabilities:
            fields.append(pa.field("probabilities", pa.list_(pa.float32())))
        return pa.schema([*fields, pa.field("fault", pa.string())])

    def score(self, block: Block, file: str, schema: pa.Schema, sums: Sums) -> pa.Table:
        """Score a block: a row of the output for every row that it has, broken ones included.

        Args:
            block: of a file.
            file: what the output calls it.
            schema: of the output.
            sums: to which the rows are added.

        Raises:
            DataError: the block holds something else than the model takes.
        """
        self._need(block)
        rows = self._inputs.read(block)
        scores: dict[str, Any] = {}
        if len(rows.places):
            scores = self._scores(rows, sums)
            if self.options.label:
                self._judge(block, rows, scores["label"], sums)
        faults = {int(block.numbers[place]): why for place, why in rows.faults.items()}
        faults |= block.broken
        _note(faults, file, sums)
        sums.rows += len(block.numbers) + len(block.broken)
        sums.scored += len(rows.places)
        return _table(block, file, schema, rows, scores, faults)

    def _scores(self, rows: Rows, sums: Sums) -> dict[str, Any]:
        """The columns of scores of the rows that the model takes."""
        manifest = self.manifest
        answer = Answer(*in_pieces(self._runner.run, rows.x, RUN_ROWS))
        predicted = answer.probabilities.argmax(axis=1)
        flags, far = Flags.of(answer, manifest), self._runner.out_of_range(rows.x)
        scored = Scored("", manifest, answer, predicted, flags, None, far)
        sums.counts += self._row_counts.count(answer)
        sums.classes += np.bincount(predicted, minlength=len(manifest.classes))
        told: dict[str, npt.NDArray[np.bool_]] = {
            "drift": flags.drift, "perturbation": flags.perturbation,
            "suspicious": flags.suspicious,
        }  # fmt: skip
        verdicts = zip(flags.suspicious.tolist(), flags.attack.tolist(), strict=True)
        columns: dict[str, Any] = {
            "label": [manifest.classes[place] for place in predicted.tolist()],
            "confidence": answer.probabilities.max(axis=1),
            "drift_p_value": answer.drift_p_value,
            "drift_flagged": flags.drift,
            "perturbation_likelihood": answer.perturbation_likelihood,
            "corruption_likelihood": answer.corruption_likelihood,
            "perturbation_flagged": flags.perturbation,
            "suspicious": flags.suspicious,
            "verdict": [verdict(suspicious, attack) for suspicious, attack in verdicts],
        }
        if far is not None:
            columns["out_of_range"] = told["out_of_range"] = far
        if answer.certified is not None and answer.certified_eps is not None:
            columns["certified"], columns["certified_eps"] = answer.certified, answer.certified_eps
            columns["certified_set"] = [c and c["set"] for c in certificates(scored)]
            told["certified"] = answer.certified
        if manifest.sets is not None:
            columns["set"] = class_sets(scored, manifest.sets.ratio)
        if self.options.probabilities:
            columns["probabilities"] = list(answer.probabilities)
        for kind, mask in told.items():
            sums.flagged[kind] = sums.flagged.get(kind, 0) + int(np.count_nonzero(mask))
        return columns

    def _judge(self, block: Block, rows: Rows, answers: Sequence[object], sums: Sums) -> None:
        """Compare the answers with the labels of the file."""
        column = block.table.column(self.options.label)
        labels = labels_of(column, lambda row: f"row {block.numbers[row]}")[rows.places]
        for label, answer in zip(labels.tolist(), answers, strict=True):
            place = self._place_of(label)
            if place is None:
                sums.unknown_labels += 1
                continue
            name = self.manifest.classes[place]
            old = sums.labels.get(name, LabelCount())
            sums.labels[name] = LabelCount(old.rows + 1, old.right + int(answer == name))

    def _place_of(self, label: object) -> int | None:
        if isinstance(label, float) and label.is_integer():
            label = int(label)
        text = str(label).lower() if isinstance(label, bool) else str(label)
        return None if label is None else self._places.get(key_of(text, PLAIN) or text)


def kept_name(name: str) -> str:
    """What a column of the file is called in the output.

    >>> kept_name("id"), kept_name("label")
    ('id', 'input_label')
    """
    return f"input_{name}" if name in OUTPUTS else name


def _note(faults: Mapping[int, str], file: str, sums: Sums) -> None:
    """Add faults of rows; of each kind the first rows are named."""
    for number in sorted(faults):
        what = faults[number].partition(", got ")[0]
        if what not in sums.faults and len(sums.faults) >= MOST_KINDS:
            what = OTHER_FAULTS
        one = RowFault(what, 1, (f"{file}, row {number}: {faults[number]}",))
        known = sums.faults.get(what)
        sums.faults[what] = one if known is None else join_faults(known, one)


def _table(
    block: Block,
    file: str,
    schema: pa.Schema,
    rows: Rows,
    scores: Mapping[str, Any],
    faults: Mapping[int, str],
) -> pa.Table:
    """The rows of the output, in the order of the file; what is not known of a row is null."""
    numbers = np.concatenate([block.numbers, np.array(sorted(block.broken), dtype=np.int64)])
    order = np.argsort(numbers, kind="stable")
    at = np.full(len(numbers), -1, dtype=np.int64)
    at[rows.places] = np.arange(len(rows.places))
    at = at[order]
    index = pa.array(at, mask=at < 0)
    inside = np.where(order < len(block.numbers), order, -1)
    kept = pa.array(inside, mask=inside < 0)
    own = {kept_name(name): name for name in block.table.column_names}
    columns = []
    for each in schema:
        if each.name == "file":
            columns.append(pa.repeat(pa.scalar(file), len(numbers)))
        elif each.name == "row":
            columns.append(pa.array(numbers[order]))
        elif each.name == "fault":
            columns.append(pa.array([faults.get(n) for n in numbers[order].tolist()], pa.string()))
        elif each.name in scores:
            columns.append(pa.array(scores[each.name], each.type).take(index))
        elif (name := own.get(each.name)) is not None and name in block.table.column_names:
            columns.append(block.table.column(name).take(kept).cast(each.type))
        else:
            columns.append(pa.nulls(len(numbers), each.type))
    return pa.table(columns, schema=schema)
