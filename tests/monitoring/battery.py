"""Everything that scores a request: `test_battery.py` runs every law over it.

Channels come from their catalogue. A new one needs a line in `MOVES` of the test; what is
forgotten fails there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx
from onnx import TensorProto, helper
from sklearn.linear_model import LogisticRegression

from models.data import DataSet
from models.statistics.arrays import FloatArray, IntArray
from models.versions.runner import session
from models.versions.schema import InputArray
from monitoring.scoring.channels import base as ch
from monitoring.scoring.channels.catalogue import Fitting, Kind, score_channels
from monitoring.scoring.channels.columns import (
    CategoryColumn,
    NumericColumn,
    choose_columns,
    emit_categories,
    emit_values,
)
from monitoring.scoring.channels.table_statistics import TableStatistics
from monitoring.scoring.drift_score import fit_strangeness
from monitoring.scoring.graph import GraphBuilder
from monitoring.scoring.perturbation import head as pb
from monitoring.scoring.perturbation.filters import FilterNodes, Filters
from monitoring.scoring.perturbation.residual import PixelResidual
from monitoring.scoring.strangeness import ClassStrangeness
from tests import bundles

ABSURD_IMAGES = (0.0, 1e-30, 0.5, 1.0)
ABSURD_NUMBERS = (0.0, -1.0, 2.0, 1e30, -1e30, 3.4e38, -3.4e38, np.inf, -np.inf, np.nan)


@dataclass(frozen=True)
class Case:
    """One scorer: its NumPy maths `(N, width)`, and the nodes that compute the same."""

    name: str
    width: int
    maths: Callable[[ch.PlainAnswers], FloatArray]
    emit: Callable[[GraphBuilder, ch.Tensors], str]
    of: type  # the class that is tried


@dataclass(frozen=True)
class World:
    """All scorers of one kind of input, in one graph that answers each under its name."""

    kind: str
    data: DataSet
    cases: tuple[Case, ...]
    graph: onnx.ModelProto

    def rows(self, x: InputArray) -> ch.PlainAnswers:
        """What the plain graph gives for raw rows."""
        return rows_of(self.data, x)

    def asked(self, rows: ch.PlainAnswers, *names: str) -> list[FloatArray]:
        """The graph's answers."""
        feed = {"x": rows.x_unit, "logits": rows.logits, "features": rows.features}
        runner = _session(self.kind)
        return list(runner.run([f"of_{name}" for name in names], feed))


def rows_of(data: DataSet, x: InputArray) -> ch.PlainAnswers:
    """Raw rows with the answers of a small net: random rectified features, a fitted layer."""
    weights, bias = _layer(data.name)
    unit = data.schema.to_unit(x)
    features = _features(unit)
    return ch.PlainAnswers(unit, (features @ weights + bias).astype(np.float32), features)


@cache
def _layer(name: str) -> tuple[FloatArray, FloatArray]:
    data = bundles.digits() if name == "digits" else bundles.table()
    fit = data.train.take(np.arange(600))
    fitted = LogisticRegression(C=10.0, max_iter=300).fit(
        _features(data.schema.to_unit(fit.x)), fit.y
    )
    return fitted.coef_.T.astype(np.float32), fitted.intercept_.astype(np.float32)


def _features(x_unit: FloatArray) -> FloatArray:
    flat = np.nan_to_num(x_unit.reshape(len(x_unit), -1).astype(np.float64), posinf=2, neginf=-1)
    flat = np.clip(flat, -1, 3)
    width = flat.shape[1]
    projection = np.random.default_rng(0).normal(size=(width, 64)) / np.sqrt(width)
    return np.maximum(flat @ projection, 0).astype(np.float32)


@cache
def world(kind: str) -> World:
    """Everything fitted on training rows of the digits ("image") or of a table ("table")."""
    data = bundles.digits() if kind == "image" else bundles.table()
    fit = rows_of(data, data.train.x[:600])
    cases = _image_cases(fit) if kind == "image" else _table_cases(fit, data)
    return World(kind, data, cases, _graph(cases, fit, kind))


def absurd(kind: str) -> ch.PlainAnswers:
    """Rows that no honest client sends: flat, chequered, endless, undefined."""
    made = world(kind)
    if kind == "image":
        flat = [np.full((1, 8, 8), v, np.float32) for v in ABSURD_IMAGES]
        chequered = np.indices((8, 8)).sum(0)[None].astype(np.float32) % 2
        unit = np.stack([*flat, chequered])
    else:
        some = made.data.schema.to_unit(made.data.test.x[: len(ABSURD_NUMBERS)])
        one = np.where(np.arange(some.shape[1]) % 3 == 0, np.array(ABSURD_NUMBERS)[:, None], some)
        every = np.tile(np.array(ABSURD_NUMBERS)[:, None], (1, some.shape[1]))
        unit = np.concatenate([one, every]).astype(np.float32)
    count = len(unit)
    logits = np.zeros((count, len(made.data.classes)), np.float32)
    logits[::2, 0], logits[1::2, -1] = 1e4, -1e4
    features = np.zeros((count, 64), np.float32)
    features[1::2] = np.linspace(-1e4, 1e4, 64)
    return ch.PlainAnswers(unit, logits, features)


def _image_channels(fit: ch.PlainAnswers) -> list[ch.ScoreChannel]:
    every = score_channels("image", Fitting(fit.logits, fit.features, fit.x_unit))
    return [*every, ch.Uncertainty()]


def _table_channels(fit: ch.PlainAnswers, data: DataSet) -> list[ch.ScoreChannel]:
    statistics = TableStatistics.fit(data.schema, fit.x_unit)
    fitting = Fitting(fit.logits, fit.features, fit.x_unit, statistics, data.schema)
    return score_channels("tabular", fitting)


def _image_cases(fit: ch.PlainAnswers) -> tuple[Case, ...]:
    channels = _image_channels(fit)
    statistics = Case(
        "statistics",
        4,
        lambda rows: ch.input_statistics(rows.x_unit),
        lambda graph, tensors: graph.op("Identity", tensors.statistics),
        object,
    )
    weights = np.random.default_rng(0).normal(size=(4, 1, 3, 3)).astype(np.float32)
    fixed = Filters.fixed(1)
    filters = Filters(
        np.concatenate([fixed.kernels, weights]), np.append(fixed.bias, np.zeros(4, np.float32))
    )
    learned = Case(
        "filters",
        2 * len(filters.bias),
        lambda rows: filters.pool(rows.x_unit),
        lambda graph, tensors: emit_grown(graph, tensors.x_unit, filters),
        Filters,
    )
    residual = PixelResidual.fit(fit.x_unit)
    assert residual is not None
    pixels = Case(
        "residual",
        6,
        lambda rows: residual.values(rows.x_unit),
        lambda graph, tensors: residual.emit(graph, tensors.x_unit),
        PixelResidual,
    )
    detectors = _detector_cases("image", channels, fit)
    return (*_channel_cases(channels), statistics, learned, pixels, *detectors)


def emit_grown(graph: GraphBuilder, x_unit: str, filters: Filters) -> str:
    """Nodes that began with the filters of the statistics and grew to these, `(N, 2 K)`."""
    nodes = FilterNodes.emit(graph, x_unit, filters.kernels.shape[1])
    nodes.grow(graph, filters)
    return nodes.pooled


def _table_cases(fit: ch.PlainAnswers, data: DataSet) -> tuple[Case, ...]:
    channels = _table_channels(fit, data)
    statistics = TableStatistics.fit(data.schema, fit.x_unit)
    columns = choose_columns(data.schema, fit.x_unit, fit.logits.argmax(axis=1))
    numbers = [c for c in columns if isinstance(c, NumericColumn)]
    categories = [c for c in columns if isinstance(c, CategoryColumn)]
    return (
        *_channel_cases(channels),
        *_detector_cases("tabular", channels, fit),
        Case(
            "statistics",
            2,
            lambda rows: statistics.values(rows.x_unit),
            lambda graph, tensors: graph.op("Identity", tensors.statistics),
            TableStatistics,
        ),
        Case(
            "numbers",
            len(numbers),
            lambda rows: np.stack([c.values(rows.x_unit) for c in numbers], axis=1),
            lambda graph, tensors: emit_values(graph, tensors.x_unit, numbers),
            NumericColumn,
        ),
        Case(
            "categories",
            len(categories),
            lambda rows: np.stack([c.cells(rows.x_unit) for c in categories], axis=1),
            lambda graph, tensors: graph.op(
                "Cast",
                emit_categories(graph, tensors.x_unit, categories),
                to=TensorProto.FLOAT,
            ),
            CategoryColumn,
        ),
    )


def _channel_cases(channels: Sequence[ch.ScoreChannel]) -> list[Case]:
    return [
        Case(c.name, 1, lambda rows, c=c: c.scores(rows)[:, None], c.emit, type(c))  # type: ignore[misc]
        for c in channels
    ]


def _detector_cases(
    kind: Kind, channels: Sequence[ch.ScoreChannel], fit: ch.PlainAnswers
) -> list[Case]:
    """The drift score, and the perturbation head, both over all scores."""

    def scores(rows: ch.PlainAnswers) -> FloatArray:
        return np.stack([c.scores(rows) for c in channels], axis=1).astype(np.float32)

    def emitted(graph: GraphBuilder, tensors: ch.Tensors) -> str:
        return graph.op("Concat", *(c.emit(graph, tensors) for c in channels), axis=1)

    def predicted(rows: ch.PlainAnswers) -> IntArray:
        labels: IntArray = rows.logits.argmax(axis=1)
        return labels

    def emitted_class(graph: GraphBuilder, tensors: ch.Tensors) -> str:
        return graph.op("ArgMax", tensors.logits, axis=1, keepdims=1)

    names, classes = [c.name for c in channels], fit.logits.shape[1]
    strange = fit_strangeness(kind, names, scores(fit), predicted(fit), classes)
    mean, scale = scores(fit).mean(axis=0), scores(fit).std(axis=0) + 1e-3
    rng = np.random.default_rng(0)  # any weights will do: what they are fitted to is not tried here
    w1 = rng.normal(size=(len(mean), pb.HIDDEN)) / scale[:, None]
    made = (w1, -mean @ w1, rng.normal(size=(pb.HIDDEN, 3)) / 8, np.zeros(3))
    head = pb.PerturbationHead(*(a.astype(np.float32) for a in made))

    def likelihoods(graph: GraphBuilder, tensors: ch.Tensors) -> str:
        both = head.emit(graph, emitted(graph, tensors))
        return graph.op(
            "Concat", *(graph.op("Unsqueeze", b, graph.const([1])) for b in both), axis=1
        )

    return [
        Case(
            "strangeness",
            1,
            lambda rows: strange.measure.of(scores(rows))[:, None],
            lambda graph, tensors: strange.measure.emit(graph, emitted(graph, tensors)),
            type(strange.measure),
        ),
        Case(
            "drift_score",
            1,
            lambda rows: strange.of(scores(rows), predicted(rows))[:, None],
            lambda graph, tensors: strange.emit(
                graph, emitted(graph, tensors), emitted_class(graph, tensors)
            ),
            ClassStrangeness,
        ),
        Case(
            "perturbation_head",
            3,
            lambda rows: np.stack(
                [*head.likelihoods(scores(rows)), head.suspicion(scores(rows))], axis=1
            ),
            likelihoods,
            pb.PerturbationHead,
        ),
    ]


def _graph(cases: Sequence[Case], rows: ch.PlainAnswers, kind: str) -> onnx.ModelProto:
    """A graph that reads the three arrays; building it runs `onnx.checker`."""

    def info(name: str, array: FloatArray) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *array.shape[1:]])

    inputs = [
        info("x", rows.x_unit), info("logits", rows.logits), info("features", rows.features)
    ]  # fmt: skip
    model = helper.make_model(
        helper.make_graph([], "rows", inputs, []),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    graph = GraphBuilder(model)
    lse = graph.op("ReduceLogSumExp", "logits", graph.const([1]), keepdims=1)
    if kind == "image":
        statistics = FilterNodes.emit(graph, "x", rows.x_unit.shape[1]).statistics
    else:
        fitted = TableStatistics.fit(bundles.table().schema, rows.x_unit)
        statistics = fitted.emit(graph, "x")
    tensors = ch.Tensors("x", "logits", "features", lse, statistics)
    for case in cases:
        graph.output(f"of_{case.name}", case.emit(graph, tensors), "batch", case.width)
    return graph.build()


@cache
def _session(kind: str):  # type: ignore[no-untyped-def]
    return session(world(kind).graph.SerializeToString())
