"""The steps from a foreign model and data to a plain graph and the facts about it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import onnx

from models.base.errors import AdaptError, DataError
from models.data import DataSet, Rows
from models.versions.facts import SkillFacts, WrappingFacts
from models.wrapping.build import plain_graph
from models.wrapping.choose import Choice, Judge, respell, try_all
from models.wrapping.describe import describe, notes_on
from models.wrapping.doubts import doubts_of
from models.wrapping.features import Features, find_features
from models.wrapping.feeding.images import image_plans
from models.wrapping.feeding.scale import scales
from models.wrapping.feeding.tables import TablePlan, table_plans
from models.wrapping.graphs.edit import PREFIX, Array, Index, show
from models.wrapping.graphs.prepare import fix_batch, free_batch, prepare
from models.wrapping.graphs.read import refuse_all
from models.wrapping.graphs.runs import Feed, Runs
from models.wrapping.labels import labels_of, order_by_own_labels, orders
from models.wrapping.options import Options
from models.wrapping.outputs import ClassOutput, find_reading
from models.wrapping.own import Feeding, compare_with_file
from models.wrapping.parity import Original, check_parity
from models.wrapping.skill import measure_skill

CHOICE_ROWS = 512
SEEN_ROWS = 256
PARITY_ROWS = 512
SAMPLE_ROWS = 64

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Adapted:
    """The plain graph (raw rows to `logits` and, where there are some, `features`), and facts."""

    plain: onnx.ModelProto
    facts: WrappingFacts


@dataclass(frozen=True)
class Chosen:
    """How the model is fed, what it knows when it is fed so, and what speaks against it."""

    choice: Choice
    skill: SkillFacts
    doubts: tuple[str, ...]


def adapt(
    model: onnx.ModelProto,
    data: DataSet,
    *,
    options: Options | None = None,
    progress: Progress | None = None,
) -> Adapted:
    """Make a plain graph for the raw rows of `data` out of any ONNX classifier.

    What the options leave open is tried on labelled calibration rows and the best is taken; the
    result is compared with the model itself on test rows.

    Args:
        model: as it was exported.
        data: labelled rows that the model was not trained on.
        options: what the user says.
        progress: told of each step before it begins.

    Raises:
        AdaptError: the model is no valid ONNX, no classifier of these classes, does not take such
            rows, is no better than chance, or cannot be rebuilt with the same answers.
    """
    options, tell = options or Options(), progress or (lambda words: None)
    rows, test = _some(data.calibration, CHOICE_ROWS), _some(data.test, PARITY_ROWS)
    tell("checking the model")
    prepared = prepare(model)
    batch = fix_batch(prepared)
    plans = _plans(prepared, data, options)
    prepared, first, opened = _any_batch(prepared, plans, rows.x, batch)
    output = _named_tensor(prepared, options.output)
    classes = find_reading(prepared, first.feeds(rows.x[:SAMPLE_ROWS]), data.classes, output)
    tell(f"trying {len(plans)} ways to feed it on {len(rows)} rows")
    chosen = _choose(model, prepared, classes, plans, data, rows, options)
    plan, order = chosen.choice.trial.plan, chosen.choice.trial.order.columns
    tell("looking for its feature layer")
    features = _features(prepared, plan.feeds(rows.x[:SAMPLE_ROWS]), classes, options.features)
    tell(f"comparing with the model itself on {len(test)} rows")
    plain = plain_graph(prepared, data, plan, replace(classes.inner, order=order), features)
    original = Original(model, batch=opened)
    parity = check_parity(original, plain, data.schema, plan, classes, order, test.x, opened=opened)
    facts = describe(model, chosen.choice, chosen.skill, classes, features)
    notes = (*chosen.doubts, *notes_on(chosen.choice, chosen.skill, classes, opened))
    facts = msgspec.structs.replace(facts, parity=parity, notes=notes)
    if isinstance(plan, TablePlan):
        facts = _with_file(facts, Feeding(original, plan, classes, order), plain, data)
    return Adapted(plain, facts)


def _with_file(
    facts: WrappingFacts, feeding: Feeding, plain: onnx.ModelProto, data: DataSet
) -> WrappingFacts:
    """The facts with those of the rows as they stand in the file, or why there are none."""
    try:
        in_file, difference = compare_with_file(feeding, plain, data)
    except (AdaptError, DataError) as error:
        reasons = facts.not_measured | {"accuracy on the rows of the file": str(error)}
        return msgspec.structs.replace(facts, not_measured=reasons)
    notes = (difference, *facts.notes) if difference else facts.notes
    return msgspec.structs.replace(facts, as_in_file=in_file, notes=notes)


def _choose(
    model: onnx.ModelProto,
    prepared: onnx.ModelProto,
    classes: ClassOutput,
    plans: list[Feed],
    data: DataSet,
    rows: Rows,
    options: Options,
) -> Chosen:
    """What labelled rows fit best.

    Raises:
        AdaptError: no way is answered, or there are doubts and weak models are not accepted.
    """
    tensor = classes.inner.tensor
    tried = orders(labels_of(prepared, tensor), data.classes, options.classes)
    seen = _some(data.train, SEEN_ROWS)
    judge = Judge(Runs(prepared, [tensor]), classes.inner, rows, seen)
    choice = try_all(judge, plans, tried)
    if not options.classes:
        choice = _ask_labels(prepared, judge, choice, plans, data)
    choice = respell(judge, choice)
    skill = measure_skill(choice.trial.ordered, rows.y, data.classes)
    ordered = bool(options.columns)
    doubts = doubts_of(choice, skill, judge, model, data, ordered=ordered)
    if not options.accept_weak:
        refuse_all("the model as it would be fed", doubts)
    return Chosen(choice, skill, tuple(doubts))


def _ask_labels(
    prepared: onnx.ModelProto, judge: Judge, choice: Choice, plans: list[Feed], data: DataSet
) -> Choice:
    """The choice with the order of classes that the model's own labels show, if it is another."""
    for trial in choice.trials:  # however it is fed, its columns agree with its labels or not
        feeds = trial.plan.feeds(judge.rows.x)
        order = order_by_own_labels(prepared, feeds, trial.ordered, data.classes)
        if order is not None:
            places = trial.order.columns or tuple(range(len(data.classes)))
            columns = tuple(places[column] for column in order.columns)
            return try_all(judge, plans, [replace(order, columns=columns)])
    return choice


def _features(
    prepared: onnx.ModelProto, feeds: dict[str, Array], classes: ClassOutput, named: str
) -> Features | None:
    if named == "none":
        return None
    return find_features(prepared, feeds, classes.inner.tensor, named and PREFIX + named)


def _some(rows: Rows, count: int) -> Rows:
    """Up to `count` rows, picked at random but always the same."""
    if not len(rows):
        raise AdaptError("the data have no held-out rows to check the model on")
    return rows.take(np.sort(np.random.default_rng(0).permutation(len(rows))[:count]))


def _plans(prepared: onnx.ModelProto, data: DataSet, options: Options) -> list[Feed]:
    """The ways to feed the model that fit what it declares. Raises AdaptError if none does."""
    if data.schema.kind == "image" and options.columns:
        raise AdaptError("--columns is for tables; the data are images")
    if data.schema.kind == "tabular" and options.layout != "auto":
        raise AdaptError(f"layout {options.layout} is for images; the data are a table")
    tried = scales(data, options.scale)
    if data.schema.kind == "image":
        inputs = Index(prepared.graph).inputs
        return list(image_plans(inputs, data.schema, tried, options.layout))
    return list(table_plans(prepared.graph, data.schema, tried, options.columns))


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
