"""Compile score heads into the model's own ONNX graph, calibrated on held-out rows.

logits, features ─┬─ probabilities
x ── filters ─────┼─ scores of the channels ─┬─ cells
     (images: one │                          └─ drift score ── conformal p-value
     convolution) └─ evidence ── perturbation head ── likelihoods, suspicion

A graph without features (a wrapped model) has fewer channels. Scores may be tied: whatever is
compared with a calibrated number is given a hair of room, so that rounding never parts equals.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from models.statistics.arrays import FloatArray, IntArray
from models.statistics.calibration import temperature
from models.versions.bundle import MODEL, Bundle
from models.versions.promises import CERTIFICATE_OUTPUTS, CertificateFacts, SetFacts
from models.versions.registry import utc_now
from models.versions.runner import in_pieces, session
from models.versions.schema import (
    OUTPUTS,
    SCHEMA_VERSION,
    Calibration,
    ChannelInfo,
    InputArray,
    InputSchema,
    Manifest,
)
from monitoring.counting import query_embedding, repeats
from monitoring.scoring.accuracy_fit import accuracy_facts
from monitoring.scoring.cells import Cells
from monitoring.scoring.certificates.outputs import Certifying, emit_certificate
from monitoring.scoring.channels import base as ch
from monitoring.scoring.channels.catalogue import Fitting, score_channels
from monitoring.scoring.channels.columns import TableColumn, choose_columns
from monitoring.scoring.channels.table_statistics import TableStatistics
from monitoring.scoring.drift_score import emit_p_value, fit_strangeness
from monitoring.scoring.graph import GraphBuilder
from monitoring.scoring.perturbation import head as pb
from monitoring.scoring.perturbation.filters import FilterNodes
from monitoring.scoring.perturbation.fit import fit_with_filters
from monitoring.scoring.perturbation.limits import BENIGN_ALPHA, BenignKinds, Limits
from monitoring.scoring.perturbation.residual import PixelResidual
from monitoring.scoring.pieces import SILENT, Part, Pieces
from monitoring.scoring.sets import fit_sets
from monitoring.scoring.small_sets import DriftRows, emit_jackknife

ALPHA = 0.01
TOP, FEATURES = 10, 512  # largest logits, and widest feature layer, that are evidence as they are
LOGIT_LIMIT = 1e4  # of a model that was given absurd numbers


@dataclass(frozen=True)
class Material:
    """Raw rows that the heads are fitted and calibrated on.

    `fit_*` are training rows; `held_*` are rows that neither the net nor the heads have seen.
    """

    references: InputArray  # training rows that feature distances are measured to
    fit_clean: InputArray
    fit_corrupted: InputArray
    fit_adversarial: InputArray
    held_clean: InputArray
    held_corrupted: InputArray
    held_adversarial: InputArray
    reference: InputArray  # held-out rows that the stream is compared with
    held_labels: IntArray | None = None  # of `held_clean`; None: nothing is fitted to labels
    recalibrated: bool = True  # False leaves the probabilities as they are
    fit_moved: InputArray | None = None  # images off their pixel grid: clean to the head
    held_kinds: IntArray | None = None  # which kind each row of `held_corrupted` is; None: one
    drift: DriftRows | None = None  # None: the drift p-value is calibrated on `held_clean`
    held_severities: IntArray | None = None  # and how strong, 1 to 5; None: not known
    kind_names: tuple[str, ...] = ()  # of the kinds; empty: they have none

    @property
    def benign_kinds(self) -> BenignKinds:
        """What the rows of `held_corrupted` are."""
        one = np.zeros(len(self.held_corrupted), dtype=np.int64)
        kinds, severities = (
            one if each is None else each for each in (self.held_kinds, self.held_severities)
        )
        return BenignKinds(kinds, severities, self.kind_names)


@dataclass(frozen=True)
class Instrumented:
    """The graph that answers all outputs, and what goes into the bundle beside it."""

    model: onnx.ModelProto
    channels: tuple[ChannelInfo, ...]
    reference: Mapping[str, FloatArray]  # "<channel>/edges", "<channel>/alpha", "accuracy/..."
    calibration: Calibration
    certificate: CertificateFacts | None = None
    sets: SetFacts | None = None

    def manifest(
        self, model: str, schema: InputSchema, classes: tuple[str, ...], version: int = 0
    ) -> Manifest:
        """What a bundle says of itself before it was trained for, judged or published."""
        return Manifest(
            schema_version=SCHEMA_VERSION,
            model=model,
            version=version,
            created_at=utc_now(),
            input=schema,
            classes=classes,
            channels=self.channels,
            calibration=self.calibration,
            training=None,
            evaluation=None,
            parent=None,
            event=None,
            files={},
            sizes={},
            certificate=self.certificate,
            sets=self.sets,
        )

    def bundle(self, manifest: Manifest) -> Bundle:
        """A bundle in memory, which can be run and judged; it stands in no registry."""
        return Bundle(Path(MODEL), manifest, self.reference, self.model.SerializeToString())


@dataclass(frozen=True)
class _Scores:
    """The score graph run over N rows."""

    scores: FloatArray  # (N, S)
    logits: FloatArray  # (N, C)

    @property
    def predicted(self) -> IntArray:
        """`(N,)`."""
        labels: IntArray = self.logits.argmax(axis=1)
        return labels


def instrument(
    model: onnx.ModelProto,
    schema: InputSchema,
    classes: tuple[str, ...],
    material: Material,
    *,
    source: str,
    seed: int = 0,
    pieces: Pieces = SILENT,
    certifying: Certifying | None = None,
) -> Instrumented:
    """Add and calibrate the heads.

    Args:
        model: takes raw rows, gives `logits (N, C)` and, where it can, `features (N, F)`.
        schema: the input of the model.
        classes: names of the C classes.
        material: rows to fit and calibrate on.
        source: words that say what the calibration rows are, for the manifest.
        seed: of the head's training.
        pieces: progress.
        certifying: the net's layers, and the boxes of the certificates; None: there are none.
    """
    pieces.begin("scores")
    table, fitted, columns = _channels(model, schema, material.references, seed)
    graph = GraphBuilder(model, reserved=(*OUTPUTS, *CERTIFICATE_OUTPUTS))
    logits = _emit_logits(graph, schema)
    x_unit = emit_unit(graph, schema)
    scores, evidence = _emit_scores(
        graph, schema, x_unit, logits, fitted, table, material.references, len(classes)
    )
    probe = graph.probe(scores=scores, logits=logits)

    def score(x: InputArray) -> _Scores:
        return _Scores(*run_graph(probe, schema, x, "probe_scores", "probe_logits"))

    fit, held = score(material.fit_clean), score(material.held_clean)
    live = score(material.reference)
    counted = Cells.fit(
        [c.name for c in fitted],
        live.scores,
        live.predicted,
        classes,
        columns,
        schema.to_unit(material.reference),
    )

    heat = 1.0
    if material.held_labels is not None and material.recalibrated:
        heat = temperature(held.logits, material.held_labels)
    cooled = graph.op("Mul", logits, graph.const(np.float32(1 / heat)))
    graph.output("probabilities", graph.op("Softmax", cooled, axis=1), "batch", len(classes))
    predicted = graph.op("ArgMax", logits, axis=1, keepdims=1)
    if material.drift is None:
        names, count, width = [c.name for c in fitted], len(classes), len(schema.columns)
        measure = fit_strangeness(schema.kind, names, fit.scores, fit.predicted, count, width)
        strange = measure.of(held.scores, held.predicted)
        p_value = emit_p_value(graph, scores, predicted, measure, strange)
    else:
        rows = schema.to_unit(material.drift.x), score(material.drift.x).predicted
        p_value = emit_jackknife(graph, schema, x_unit, predicted, rows, len(classes), seed)
    graph.output("drift_p_value", p_value, "batch")
    part_done = pieces.begin("perturbation head")
    limits, suspected = _add_head(graph, schema, evidence, material, seed, part_done)
    cells = counted.emit(graph, scores, x_unit, logits)
    graph.output("cells", cells, "batch", len(counted.channels), kind=onnx.TensorProto.INT32)
    graph.output("suspicion", suspected, "batch")

    if certifying is not None:
        emit_certificate(graph, schema, x_unit, certifying, heat)

    repeat_probability, natural = repeats.calibrate(material.reference)
    calibration = Calibration(
        n=len(held.scores),
        alpha=ALPHA,
        source=source,
        temperature=heat,
        perturbation_threshold=limits.perturbation,
        corruption_threshold=limits.corruption,
        benign_alpha=BENIGN_ALPHA,
        benign_kinds=limits.benign_kinds,
        suspicion_threshold=limits.suspicion,
        suspicion_edges=limits.cells.edges,
        benign_pooled=True,
        kinds_above=limits.kinds_above,
        repeat_probability=repeat_probability,
        drift_rows=None if material.drift is None else len(material.drift.x),
        drift_tested=material.drift is None or material.drift.tested,
    )
    built, reference = graph.build(), dict(counted.reference) | limits.cells.arrays
    reference |= query_embedding.calibrate(schema, material.held_clean) | natural
    if material.held_labels is not None:
        pieces.begin("accuracy estimate")
        reference |= accuracy_facts(
            built, schema, material.held_clean, material.held_labels, seed=seed
        )
    pieces.end()
    return Instrumented(
        built, counted.channels, reference, calibration,
        None if certifying is None else certifying.facts,
        _sets(schema, material, held, heat, certifying),
    )  # fmt: skip


def _sets(
    schema: InputSchema,
    material: Material,
    held: _Scores,
    heat: float,
    certifying: Certifying | None,
) -> SetFacts | None:
    """The rule of the prediction sets; None without labels."""
    if material.held_labels is None:
        return None
    y, worst = material.held_labels, None
    if certifying is not None:
        worst = certifying.worst(schema, material.held_clean, y)
    return fit_sets(held.logits, y, heat, worst)


def run_graph(
    model: onnx.ModelProto, schema: InputSchema, x: InputArray, *outputs: str
) -> list[FloatArray]:
    """Run a model over raw rows in chunks; the named outputs, joined."""
    runner = session(model.SerializeToString())
    return in_pieces(lambda part: runner.run(outputs, {schema.name: part}), x)


def _channels(
    model: onnx.ModelProto, schema: InputSchema, references: InputArray, seed: int
) -> tuple[TableStatistics | None, list[ch.ScoreChannel], list[TableColumn]]:
    """A table's statistics, score channels and columns, fitted on training rows."""
    has_features = any(output.name == "features" for output in model.graph.output)
    names = ("logits", "features") if has_features else ("logits",)
    logits, *features = run_graph(model, schema, references, *names)
    table, x_unit = None, schema.to_unit(references)
    if schema.kind == "tabular" and schema.columns:
        table = TableStatistics.fit(schema, x_unit)
    known = np.nan_to_num(logits)
    rows = Fitting(known, features[0] if features else None, x_unit, table, schema, seed)
    fitted = score_channels(schema.kind, rows)
    return table, fitted, choose_columns(schema, x_unit, known.argmax(axis=1))


def _emit_logits(graph: GraphBuilder, schema: InputSchema) -> str:
    """The model's logits; for tables, whose numbers are unbounded, made finite."""
    return _emit_finite(graph, "logits") if schema.kind == "tabular" else "logits"


def _emit_finite(graph: GraphBuilder, tensor: str) -> str:
    zero, limit = (graph.const(np.float32(v)) for v in (0, LOGIT_LIMIT))
    known = graph.op("Where", graph.op("IsNaN", tensor), zero, tensor)
    return graph.op("Clip", known, graph.const(np.float32(-LOGIT_LIMIT)), limit)


def emit_unit(graph: GraphBuilder, schema: InputSchema) -> str:
    """`InputSchema.to_unit` as nodes."""
    x = graph.input
    if schema.dtype != "float32":
        x = graph.op("Cast", x, to=onnx.TensorProto.FLOAT)
    if schema.offset.any():
        x = graph.op("Sub", x, graph.const(schema.offset))
    if schema.kind == "tabular":  # divided as NumPy does, so that the ends of the range stay ends
        return graph.op("Div", x, graph.const(schema.span))
    return graph.op("Mul", x, graph.const(np.float32(1 / schema.span)))


@dataclass(frozen=True)
class Evidence:
    """What the perturbation head sees: rows `(N, P)`, and the filters of an image."""

    rows: str
    filters: FilterNodes | None


def _emit_scores(
    graph: GraphBuilder,
    schema: InputSchema,
    x_unit: str,
    logits: str,
    fitted: list[ch.ScoreChannel],
    table: TableStatistics | None,
    references: InputArray,
    classes: int,
) -> tuple[str, Evidence]:
    """All scores `(N, S)` and the evidence of the perturbation head."""
    features, statistics, filters = "features", "", None
    distances = [c for c in fitted if isinstance(c, ch.FeatureDistance)]
    if schema.kind == "image":
        filters = FilterNodes.emit(graph, x_unit, schema.shape[0])
        statistics = filters.statistics
    else:
        statistics = table.emit(graph, x_unit) if table is not None else ""
        if distances:
            features = _emit_finite(graph, features)
    lse = graph.op("ReduceLogSumExp", logits, graph.const([1]), keepdims=1)
    tensors = ch.Tensors(x_unit, logits, features, lse, statistics)
    scores = graph.op("Concat", *(c.emit(graph, tensors) for c in fitted), axis=1)
    top, _ = graph.ops("TopK", logits, graph.const([min(classes, TOP)]), outputs=2)
    evidence = [scores, graph.op("Sub", top, lse)]
    if distances and distances[0].references.shape[1] <= FEATURES:
        evidence.append(features)
    if statistics:
        shifted = graph.op("Add", statistics, graph.const(np.float32(1e-3)))
        evidence.append(graph.op("Log", shifted))
    residual = None
    if schema.kind == "image":
        residual = PixelResidual.fit(schema.to_unit(references))
    if residual is not None:
        evidence += [residual.emit(graph, x_unit), graph.op("Flatten", x_unit)]
    return scores, Evidence(graph.op("Concat", *evidence, axis=1), filters)


def _add_head(
    graph: GraphBuilder,
    schema: InputSchema,
    evidence: Evidence,
    material: Material,
    seed: int,
    part_done: Part,
) -> tuple[Limits, str]:
    """Fit the perturbation head and add it with its likelihoods; where they flag, and suspicion."""

    def rows_of(x: InputArray) -> FloatArray:
        (rows,) = run_graph(graph.probe(evidence=evidence.rows), schema, x, "probe_evidence")
        return rows

    clean = material.fit_clean
    if material.fit_moved is not None:
        clean = np.concatenate([clean, material.fit_moved])
    x, kind = _three_kinds(clean, material.fit_corrupted, material.fit_adversarial)
    images = schema.to_unit(x) if schema.kind == "image" else None
    filters, head = fit_with_filters(rows_of(x), kind, images, seed=seed, part_done=part_done)
    if filters is not None and evidence.filters is not None:
        evidence.filters.grow(graph, filters)
        joined = graph.op("Concat", evidence.rows, evidence.filters.pooled, axis=1)
        evidence = Evidence(joined, evidence.filters)
    x, kind = _three_kinds(material.held_clean, material.held_corrupted, material.held_adversarial)
    rows = rows_of(x)
    head = pb.calibrate(head, rows, kind)
    perturbed, corrupted, suspected = head.emit(graph, evidence.rows)
    graph.output("perturbation_likelihood", perturbed, "batch")
    graph.output("corruption_likelihood", corrupted, "batch")
    stream = rows_of(material.reference)
    limits = Limits.set_by(head, (rows, kind), stream, material.benign_kinds, ALPHA)
    return limits, suspected


def _three_kinds(
    clean: InputArray, corrupted: InputArray, adversarial: InputArray
) -> tuple[InputArray, IntArray]:
    parts = (clean, corrupted, adversarial)
    kind = np.repeat((pb.CLEAN, pb.CORRUPTED, pb.ADVERSARIAL), [len(p) for p in parts])
    return np.concatenate(parts), kind
