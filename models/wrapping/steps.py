"""The steps from a foreign model and data to a plain graph and the facts about it."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec
import numpy as np
import onnx

from models.base.errors import AdaptError
from models.data import DataSet, Rows
from models.statistics.intervals import proportion
from models.wrapping.build import plain_graph
from models.wrapping.choose import Choice, check_choice, try_all
from models.wrapping.features import Features, find_features
from models.wrapping.graph import PREFIX, Array, Index, show
from models.wrapping.images import image_plans
from models.wrapping.labels import labels_of, orders
from models.wrapping.outputs import ClassOutput, find_reading
from models.wrapping.parity import Original, check_parity
from models.wrapping.prepare import fix_batch, free_batch, prepare
from models.wrapping.runs import Feed, Runs
from models.wrapping.scale import scales
from models.wrapping.tables import TablePlan, table_plans

CHOICE_ROWS = 512
SEEN_ROWS = 256
PARITY_ROWS = 512
SAMPLE_ROWS = 16


@dataclass(frozen=True)
class Options:
    """What a user may say instead of letting it be found out.

    Args:
        output: the tensor that holds the classes.
        features: the tensor of the feature layer; `none` for no features.
        scale: `auto`, a name (see `scale.scales`) or `MEAN,STD` in units of [0, 1].
        layout: of images.
        classes: the data's classes in the order of the model's columns.
    """

    output: str = ""
    features: str = ""
    scale: str = "auto"
    layout: Literal["auto", "nchw", "nhwc"] = "auto"
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Adapted:
    """The plain graph (raw rows to `logits` and, where there are some, `features`), and facts."""

    plain: onnx.ModelProto
    facts: dict[str, Any]


def adapt(model: onnx.ModelProto, data: DataSet, *, options: Options | None = None) -> Adapted:
    """Make a plain graph for the raw rows of `data` out of any ONNX classifier.

    What the options leave open is tried on labelled calibration rows and the best is taken; the
    result is compared with the model itself on test rows.

    Raises:
        AdaptError: the model is no valid ONNX, no classifier of these classes, does not take such
            rows, is no better than chance, or cannot be rebuilt with the same answers.
    """
    options = options or Options()
    rows, test = _some(data.calibration, CHOICE_ROWS), _some(data.test, PARITY_ROWS)
    prepared = prepare(model)
    batch = fix_batch(prepared)
    plans = _plans(prepared, data, options)
    prepared, first, opened = _any_batch(prepared, plans, rows.x, batch)
    original = Original(model, batch=opened)
    output = _named_tensor(prepared, options.output)
    found = find_reading(prepared, first.feeds(rows.x[:SAMPLE_ROWS]), data.classes, output)
    choice = _choose(prepared, found, plans, data, rows, options)
    plan, order = choice.trial.plan, choice.trial.order.columns
    features = _features(prepared, plan.feeds(rows.x[:SAMPLE_ROWS]), found, options.features)
    plain = plain_graph(prepared, data, plan, replace(found.inner, order=order), features)
    parity = check_parity(original, plain, data.schema, plan, found, order, test.x, opened=opened)
    facts = _facts(model, choice, found, features, rows)
    notes = _notes(found, features, choice, opened)
    return Adapted(plain, facts | {"parity": parity, "notes": notes})


def _choose(
    prepared: onnx.ModelProto,
    found: ClassOutput,
    plans: list[Feed],
    data: DataSet,
    rows: Rows,
    options: Options,
) -> Choice:
    labels = labels_of(prepared, found.inner.tensor)
    tried = orders(labels, data.classes, options.classes)
    runs, seen = Runs(prepared, [found.inner.tensor]), _some(data.train, SEEN_ROWS)
    choice = try_all(runs, found.inner, plans, tried, rows, seen)
    check_choice(choice, data, rows)
    return choice


def _features(
    prepared: onnx.ModelProto, feeds: dict[str, Array], found: ClassOutput, named: str
) -> Features | None:
    if named == "none":
        return None
    return find_features(prepared, feeds, found.inner.tensor, named and PREFIX + named)


def _some(rows: Rows, count: int) -> Rows:
    """Up to `count` rows, picked at random but always the same."""
    if not len(rows):
        raise AdaptError("the data have no held-out rows to check the model on")
    return rows.take(np.sort(np.random.default_rng(0).permutation(len(rows))[:count]))


def _plans(prepared: onnx.ModelProto, data: DataSet, options: Options) -> list[Feed]:
    inputs, tried = Index(prepared.graph).inputs, scales(data, options.scale)
    if data.schema.kind == "image":
        return list(image_plans(inputs, data.schema, tried, options.layout))
    if options.layout != "auto":
        raise AdaptError(f"layout {options.layout} is for images; the data are a table")
    return list(table_plans(inputs, data.schema, tried))


def _any_batch(
    prepared: onnx.ModelProto, plans: list[Feed], x: Array, batch: int | None
) -> tuple[onnx.ModelProto, Feed, int | None]:
    """The model for any number of rows, a plan that it takes, and the batch it was fixed to."""
    attempts: list[tuple[onnx.ModelProto, int | None]] = [
        (free_batch(prepared, batch or 1), batch or 1)
    ]
    if batch is None:
        attempts.insert(0, (prepared, None))
    reasons = []
    for candidate, opened in attempts:
        try:
            runs = Runs(candidate)
        except AdaptError as error:
            reasons.append(error)
            continue
        for plan in plans:
            try:
                runs.answer(plan.feeds(x[:3]))
            except AdaptError as error:
                reasons.append(error)
            else:
                return candidate, plan, opened
    runs = Runs(prepared, batch=batch or 1)
    for plan in plans:
        try:
            runs.answer(plan.feeds(x[:1]))
        except AdaptError:
            continue
        raise AdaptError(
            f"the model takes batches of {batch or 1} only and cannot be made to take others: "
            f"export it with a dynamic batch dimension ({reasons[0]})"
        )
    raise reasons[0]


def _named_tensor(prepared: onnx.ModelProto, name: str) -> str:
    if not name:
        return ""
    index = Index(prepared.graph)
    if PREFIX + name not in index.producer:
        outputs = ", ".join(show(output.name) for output in prepared.graph.output)
        raise AdaptError(f"the model has no tensor {name!r}; its outputs: {outputs}")
    return PREFIX + name


def _facts(
    model: onnx.ModelProto,
    choice: Choice,
    found: ClassOutput,
    features: Features | None,
    rows: Rows,
) -> dict[str, Any]:
    trial = choice.trial
    ordered = trial.logits[:, list(trial.order.columns)] if trial.order.columns else trial.logits
    return {
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "opset": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        "output": {
            "tensor": show(found.output),
            "kind": found.surface.kind,
            "read_from": show(found.inner.tensor),
        },
        "features": None
        if features is None
        else {"tensor": show(features.tensor), "size": features.size},
        **trial.plan.words,
        "classes": trial.order.name,
        "accuracy": msgspec.to_builtins(proportion(ordered.argmax(axis=1) == rows.y)),
        "tried": [t.plain() for t in choice.trials],
        "refused": list(choice.refused),
    }


def _notes(
    found: ClassOutput, features: Features | None, choice: Choice, opened: int | None
) -> list[str]:
    plan, notes = choice.trial.plan, []
    if features is None:
        notes.append("it has no feature layer: the scores rest on its answers and the input alone")
    if "probab" in found.inner.kind:
        notes.append("it gives no logits: its probabilities stand for them")
    if choice.alike:
        others = ", ".join(trial.plan.words["scale"] for trial in choice.alike)
        notes.append(
            f"scale {plan.words['scale']} was taken, but {others} fit as well: see --scale"
        )
    if opened is not None:
        notes.append(f"it took batches of {opened} and was made to take any")
    if isinstance(plan, TablePlan):
        used = {index for part in plan.parts for index in part.columns}
        unused = [c.name for i, c in enumerate(plan.columns) if i not in used]
        if unused:
            notes.append(f"it does not use the columns {', '.join(unused)}")
    return notes
