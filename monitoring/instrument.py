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
from monitoring.graph import GraphBuilder
from monitoring.table_statistics import TableStatistics

ALPHA = 0.01
TABLE = 1024  # entries of the p-value table at most
HAIR = 1e-5  # room for rounding beside a calibrated number
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
    centre, whitening = _whitening(fit.scores)
    head = pb.fit_head(
        *_three_kinds(fit, score(material.fit_corrupted), score(material.fit_adversarial)),
        seed=seed,
    )
    head = pb.calibrate(
        head,
        *_three_kinds(held, score(material.held_corrupted), score(material.held_adversarial)),
    )
    reference = _reference([c.name for c in fitted], score(material.reference), len(classes))
    edges = [reference[f"{c.name}/edges"] for c in fitted]

    heat = 1.0
    if material.held_labels is not None:
        heat = temperature(held.logits, material.held_labels)
    cooled = graph.op("Mul", logits, graph.const(np.float32(1 / heat)))
    graph.output("probabilities", graph.op("Softmax", cooled, axis=1), "batch", len(classes))
    white = graph.op("Gemm", scores, graph.const(whitening), graph.const(-centre @ whitening))
    strangeness = graph.op("ReduceSumSquare", white, graph.const([1]), keepdims=1)
    held_strangeness = ((held.scores @ whitening - centre @ whitening) ** 2).sum(axis=1)
    graph.output("drift_p_value", _emit_p_value(graph, strangeness, held_strangeness), "batch")
    perturbed, corrupted = head.emit(graph, evidence)
    graph.output("perturbation_likelihood", perturbed, "batch")
    graph.output("corruption_likelihood", corrupted, "batch")
    cells = _emit_cells(graph, scores, logits, edges)
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
    infos = (_score_info(c.name, e) for c, e in zip(fitted, edges, strict=True))
    channels = (*infos, ChannelInfo("class", "class", classes))
    return Instrumented(graph.build(), channels, reference, calibration)


def conformal_table(held: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Falling edges `(M,)` and p-values `(M + 1,)`: p of a score is table[#edges >= score].

    p(s) = (1 + #{held-out scores >= s}) / (n + 1). Beyond 1024 held-out rows every rank of the
    upper tail is kept and the rest is thinned, rounding p up, so it stays valid.
    """
    falling, n = np.sort(held.astype(np.float32))[::-1], len(held)
    ranks = np.arange(1, n + 1)
    if n > TABLE:
        half = TABLE // 2
        ranks = np.unique(np.concatenate([ranks[:half], np.linspace(half, n, half).astype(int)]))
    return falling[ranks - 1].copy(), np.append(ranks, n + 1) / (n + 1)


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


def _emit_p_value(graph: GraphBuilder, strangeness: str, held: FloatArray) -> str:
    edges, table = conformal_table(held * (1 + HAIR) + HAIR)  # upwards: p stays valid
    above = graph.op("GreaterOrEqual", graph.const(edges[None, :]), strangeness)
    count = graph.op(
        "ReduceSum",
        graph.op("Cast", above, to=onnx.TensorProto.INT32),
        graph.const([1]),
        keepdims=0,
    )
    return graph.op("Gather", graph.const(table), count)


def _emit_cells(graph: GraphBuilder, scores: str, logits: str, edges: list[FloatArray]) -> str:
    """`(N, S + 1)`: rank cells of the scores, then the predicted class."""
    width = max(map(len, edges))
    padded = np.full((1, len(edges), width), -np.inf, dtype=np.float32)
    for row, falling in enumerate(edges):
        padded[0, row, : len(falling)] = falling
    column = graph.op("Unsqueeze", scores, graph.const([2]))
    above = graph.op("Greater", graph.const(padded), column)
    count = graph.op(
        "ReduceSum",
        graph.op("Cast", above, to=onnx.TensorProto.INT32),
        graph.const([2]),
        keepdims=0,
    )
    predicted = graph.op("ArgMax", logits, axis=1, keepdims=1)
    return graph.op("Concat", count, graph.op("Cast", predicted, to=onnx.TensorProto.INT32), axis=1)


def _whitening(scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Centre `(S,)` and W `(S, S)` such that |(s - centre) W|^2 is the Mahalanobis distance.

    A score that hardly varies counts as if it varied by 1e-4 (or that share of its mean).
    """
    scores = scores.astype(np.float64)
    centre, count = scores.mean(axis=0), scores.shape[1]
    scale = np.maximum(scores.std(axis=0), 1e-4 * np.maximum(1.0, np.abs(centre)))
    correlation = np.cov(((scores - centre) / scale).T).reshape(count, count)
    whitening = np.linalg.cholesky(np.linalg.inv(correlation + 1e-6 * np.eye(count)))
    return centre.astype(np.float32), (whitening / scale[:, None]).astype(np.float32)


def _three_kinds(
    clean: _Scores, corrupted: _Scores, adversarial: _Scores
) -> tuple[FloatArray, IntArray]:
    parts = (clean.evidence, corrupted.evidence, adversarial.evidence)
    kind = np.repeat((pb.CLEAN, pb.CORRUPTED, pb.ADVERSARIAL), [len(p) for p in parts])
    return np.concatenate(parts), kind


def _reference(names: list[str], live: _Scores, classes: int) -> dict[str, FloatArray]:
    arrays: dict[str, FloatArray] = {}
    for column, name in enumerate(names):
        edges = ch.steady(ch.rank_edges(live.scores[:, column]))
        arrays[f"{name}/edges"] = edges
        arrays[f"{name}/alpha"] = ch.score_weights(live.scores[:, column], edges)
    return arrays | {"class/alpha": ch.class_weights(live.predicted, classes)}


def _score_info(name: str, edges: FloatArray) -> ChannelInfo:
    return ChannelInfo(name, "score", tuple(f"{g:02d}" for g in range(len(edges) + 1)))
