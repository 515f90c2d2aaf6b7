"""Compile score heads into the model's own ONNX graph, calibrated on held-out rows.

logits, features ─┬─ probabilities
x ── statistics ──┼─ scores of the channels ─┬─ cells
                  │                          └─ drift score ── conformal p-value
                  └─ evidence features ── perturbation head ── likelihoods

A graph without features (a wrapped model) has fewer channels. Scores may be tied: whatever is
compared with a calibrated number is given a hair of room, so that rounding never parts equals.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from models.calibration import temperature
from models.runner import session
from models.schema import (
    OUTPUTS,
    Calibration,
    ChannelInfo,
    FloatArray,
    InputArray,
    InputSchema,
    IntArray,
)
from monitoring import channels as ch
from monitoring import perturbation as pb
from monitoring.cells import emit_cells, reference_cells, score_info
from monitoring.drift_score import HAIR, emit_p_value
from monitoring.graph import GraphBuilder
from monitoring.table_statistics import TableStatistics

ALPHA = 0.01
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
    held_labels: IntArray | None = (
        None  # of `held_clean`; None leaves the probabilities as they are
    )


@dataclass(frozen=True)
class Instrumented:
    """The graph that answers all outputs, and what goes into the bundle beside it."""

    model: onnx.ModelProto
    channels: tuple[ChannelInfo, ...]
    reference: Mapping[str, FloatArray]  # "<channel>/edges", "<channel>/alpha"
    calibration: Calibration


@dataclass(frozen=True)
class _Scores:
    """The score graph run over N rows."""

    scores: FloatArray  # (N, S)
    evidence: FloatArray  # (N, P)
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
) -> Instrumented:
    """Add and calibrate the heads.

    Args:
        model: takes raw rows, gives `logits (N, C)` and, where it can, `features (N, F)`.
        schema: the input of the model.
        classes: names of the C classes.
        material: rows to fit and calibrate on.
        source: words that say what the calibration rows are, for the manifest.
        seed: of the head's training.
    """
    table, fitted = _channels(model, schema, material.references)
    graph = GraphBuilder(model, reserved=OUTPUTS)
    logits = _emit_logits(graph, schema)
    scores, evidence = _emit_scores(graph, schema, logits, fitted, table)
    probe = graph.probe(scores=scores, evidence=evidence, logits=logits)

    def score(x: InputArray) -> _Scores:
        names = ("probe_scores", "probe_evidence", "probe_logits")
        return _Scores(*run_graph(probe, schema, x, *names))

    fit, held = score(material.fit_clean), score(material.held_clean)
    head = pb.fit_head(
        *_three_kinds(fit, score(material.fit_corrupted), score(material.fit_adversarial)),
        seed=seed,
    )
    head = pb.calibrate(
        head,
        *_three_kinds(held, score(material.held_corrupted), score(material.held_adversarial)),
    )
    live = score(material.reference)
    reference = reference_cells([c.name for c in fitted], live.scores, live.predicted, len(classes))
    edges = [reference[f"{c.name}/edges"] for c in fitted]

    heat = 1.0
    if material.held_labels is not None:
        heat = temperature(held.logits, material.held_labels)
    cooled = graph.op("Mul", logits, graph.const(np.float32(1 / heat)))
    graph.output("probabilities", graph.op("Softmax", cooled, axis=1), "batch", len(classes))
    p_value = emit_p_value(graph, scores, fit.scores, held.scores)
    graph.output("drift_p_value", p_value, "batch")
    perturbed, corrupted = head.emit(graph, evidence)
    graph.output("perturbation_likelihood", perturbed, "batch")
    graph.output("corruption_likelihood", corrupted, "batch")
    cells = emit_cells(graph, scores, logits, edges)
    graph.output("cells", cells, "batch", len(fitted) + 1, integer=True)

    likelihood, corruption = head.likelihoods(held.evidence)
    calibration = Calibration(
        n=len(held.scores),
        alpha=ALPHA,
        perturbation_threshold=min(1.0, pb.threshold(likelihood, ALPHA) + HAIR),
        corruption_threshold=min(1.0, pb.threshold(corruption, ALPHA) + HAIR),
        source=source,
        temperature=heat,
    )
    infos = (score_info(c.name, e) for c, e in zip(fitted, edges, strict=True))
    channels = (*infos, ChannelInfo("class", "class", classes))
    return Instrumented(graph.build(), channels, reference, calibration)


def run_graph(
    model: onnx.ModelProto, schema: InputSchema, x: InputArray, *outputs: str
) -> list[FloatArray]:
    """Run a model over raw rows in chunks; the named outputs, joined."""
    runner = session(model.SerializeToString())
    parts = [
        runner.run(outputs, {schema.name: x[start : start + 512]})
        for start in range(0, len(x), 512)
    ]
    return [np.concatenate(columns) for columns in zip(*parts, strict=True)]


def _channels(
    model: onnx.ModelProto, schema: InputSchema, references: InputArray
) -> tuple[TableStatistics | None, list[ch.ScoreChannel]]:
    """The channels for what the graph gives, fitted on training rows; a table's statistics."""
    has_features = any(output.name == "features" for output in model.graph.output)
    names = ("logits", "features") if has_features else ("logits",)
    logits, *features = run_graph(model, schema, references, *names)
    table = None
    if schema.kind == "tabular" and schema.columns:
        table = TableStatistics.fit(schema, schema.to_unit(references))
    fitted = ch.score_channels(
        schema.kind, features[0] if features else None, logits=np.nan_to_num(logits), table=table
    )
    return table, fitted


def _emit_logits(graph: GraphBuilder, schema: InputSchema) -> str:
    """The model's logits; for tables, whose numbers are unbounded, made finite."""
    return _emit_finite(graph, "logits") if schema.kind == "tabular" else "logits"


def _emit_finite(graph: GraphBuilder, tensor: str) -> str:
    zero, limit = (graph.const(np.float32(v)) for v in (0, LOGIT_LIMIT))
    known = graph.op("Where", graph.op("IsNaN", tensor), zero, tensor)
    return graph.op("Clip", known, graph.const(np.float32(-LOGIT_LIMIT)), limit)


def _emit_unit(graph: GraphBuilder, schema: InputSchema) -> str:
    """`InputSchema.to_unit` as nodes."""
    x = graph.input
    if schema.dtype != "float32":
        x = graph.op("Cast", x, to=onnx.TensorProto.FLOAT)
    if schema.offset.any():
        x = graph.op("Sub", x, graph.const(schema.offset))
    if schema.kind == "tabular":  # divided as NumPy does, so that the ends of the range stay ends
        return graph.op("Div", x, graph.const(schema.span))
    return graph.op("Mul", x, graph.const(np.float32(1 / schema.span)))


def _emit_scores(
    graph: GraphBuilder,
    schema: InputSchema,
    logits: str,
    fitted: list[ch.ScoreChannel],
    table: TableStatistics | None,
) -> tuple[str, str]:
    """All scores `(N, S)` and the evidence features `(N, P)` of the perturbation head."""
    x_unit = _emit_unit(graph, schema)
    features = "features"
    if schema.kind == "image":
        statistics = ch.emit_input_statistics(graph, x_unit, schema.shape[0])
    else:
        statistics = table.emit(graph, x_unit) if table is not None else ""
        if any(isinstance(channel, ch.FeatureDistance) for channel in fitted):
            features = _emit_finite(graph, features)
    lse = graph.op("ReduceLogSumExp", logits, graph.const([1]), keepdims=1)
    tensors = ch.Tensors(x_unit, logits, features, lse, statistics)
    scores = graph.op("Concat", *(c.emit(graph, tensors) for c in fitted), axis=1)
    top, _ = graph.ops("TopK", logits, graph.const([2]), outputs=2)
    evidence = [scores, graph.op("Sub", top, lse)]
    if statistics:
        shifted = graph.op("Add", statistics, graph.const(np.float32(1e-3)))
        evidence.append(graph.op("Log", shifted))
    return scores, graph.op("Concat", *evidence, axis=1)


def _three_kinds(
    clean: _Scores, corrupted: _Scores, adversarial: _Scores
) -> tuple[FloatArray, IntArray]:
    parts = (clean.evidence, corrupted.evidence, adversarial.evidence)
    kind = np.repeat((pb.CLEAN, pb.CORRUPTED, pb.ADVERSARIAL), [len(p) for p in parts])
    return np.concatenate(parts), kind
