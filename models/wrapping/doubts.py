"""Reasons to doubt a choice: accuracy near chance, classes or columns in another order."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from time import monotonic

import numpy as np
import onnx

from models.base.errors import AdaptError
from models.data import DataSet
from models.versions.facts import SkillFacts
from models.versions.schema import Column
from models.wrapping.choose import Choice, Judge, Trial, improve_spelling
from models.wrapping.feeding.tables import TablePlan
from models.wrapping.labels import best_order, in_model_order
from models.wrapping.skill import ERRORS_ABOVE_CHANCE, beats_chance, describe_skill

BETTER_ORDER = 0.1  # accuracy that another order must win to be believed
LONGEST_SECONDS = 5.0  # of looking for an order of columns
MOST_COLUMNS = 40  # whose order is looked for pair by pair
SHOWN = 6  # trials in a message


def doubts_of(
    choice: Choice,
    skill: SkillFacts,
    judge: Judge,
    model: onnx.ModelProto,
    data: DataSet,
    *,
    ordered: bool,
) -> list[str]:
    """What speaks against the choice, as sentences that say what to do; empty if nothing does.

    Args:
        choice: of a way to feed the model.
        skill: what the model knows of held-out rows, fed so.
        judge: runs other ways.
        model: as it was given; its metadata may name the columns.
        data: of the rows.
        ordered: whether the user gave the order of the columns.
    """
    classes = _other_classes(choice, judge, data)
    columns = "" if ordered or classes else _other_columns(choice, judge, model)
    other = "; ".join(text for text in (classes, columns) if text)
    accuracy = (
        f"the model is right on {choice.trial.accuracy:.1%} of {len(judge.rows)} labelled rows"
    )
    if not beats_chance(skill):
        tried = "; ".join(
            f"{t.plan.words['layout']} {t.plan.words['scale']} {t.accuracy:.1%}"
            for t in choice.trials[:SHOWN]
        )
        hints = _hints(choice, data)
        if other:
            hints = f"{other[:1].upper()}{other[1:]}; or name its scale with --scale MEAN,STD"
        return [
            f"{accuracy}, which is near chance; tried: {tried}. {hints}; --accept-weak wraps it as "
            f"it is. In figures: {describe_skill(skill)}"
        ]
    doubts = []
    if classes:
        doubts.append(f"{accuracy}, but its classes seem to stand in another order; {classes}")
    if columns:
        doubts.append(f"{accuracy}, but it seems to take the columns in another order; {columns}")
    return doubts


def _other_classes(choice: Choice, judge: Judge, data: DataSet) -> str:
    """What to say if another order of classes fits far better; empty if not."""
    if choice.trial.order.name == "as given":
        return ""
    y = judge.rows.y
    columns, accuracy = max((best_order(t.logits, y) for t in choice.trials), key=lambda b: b[1])
    if not _far_better(accuracy, choice.trial, judge):
        return ""
    order = in_model_order(columns, data.classes)
    return f"with --classes {order} it would be right on {accuracy:.1%}"


def _other_columns(choice: Choice, judge: Judge, model: onnx.ModelProto) -> str:
    """What to say if another order of the columns fits far better; empty if not."""
    plan = choice.trial.plan
    if not isinstance(plan, TablePlan) or len(plan.parts) > 1 or len(plan.parts[0].columns) < 2:
        return ""
    if choice.trial.balanced.value > 1 - BETTER_ORDER:
        return ""
    same = [t for t in choice.trials if t.plan.words == plan.words | {"scale": "raw"}]
    start, end = (same or [choice.trial])[0], monotonic() + LONGEST_SECONDS
    best = start
    for order in likely_orders(plan.columns, plan.parts[0].columns, model):
        if monotonic() < end:
            best = _fitter(best, _with_order(judge, start, order))
    if not _is_far_better(best, choice.trial):
        best = _climb(judge, start, end)
    if not _is_far_better(best, choice.trial):
        return ""
    assert isinstance(best.plan, TablePlan)
    names = ",".join(plan.columns[index].name for index in best.plan.parts[0].columns)
    own = ",".join(plan.columns[index].name for index in plan.parts[0].columns)
    return (
        f"with --columns {names} it would be right on {best.accuracy:.1%} "
        f"(--columns {own} keeps the order of the data)"
    )


def likely_orders(
    columns: Sequence[Column], now: Sequence[int], model: onnx.ModelProto
) -> Iterator[tuple[int, ...]]:
    """Orders that columns often have: as the model's metadata say, by alphabet, by kind.

    Args:
        columns: of the data.
        now: those that go into the model, in the order of now.
        model: whose metadata may name them.
    """
    texts = [entry.value for entry in model.metadata_props]
    texts += [model.doc_string, model.graph.doc_string]
    names = {columns[index].name: index for index in now}
    for text in texts:
        order = _named_order(text, names)
        if order is not None:
            yield order
    yield tuple(sorted(now, key=lambda index: columns[index].name))
    yield tuple(sorted(now, key=lambda index: columns[index].name.casefold()))
    numbers = [index for index in now if columns[index].kind == "numeric"]
    others = [index for index in now if columns[index].kind != "numeric"]
    yield (*numbers, *others)
    yield (*others, *numbers)
    yield tuple(reversed(now))
    yield (*now[1:], now[0])
    yield (now[-1], *now[:-1])


def _named_order(text: str, names: dict[str, int]) -> tuple[int, ...] | None:
    """The order in which a text names all columns, as a JSON list or between commas."""
    try:
        words = json.loads(text)
    except ValueError:
        words = re.split(r"[,;\n]\s*", text.strip(" []()"))
    if not isinstance(words, list):
        return None
    known = [str(word).strip(" '\"") for word in words]
    order = tuple(names[word] for word in known if word in names)
    return order if len(order) == len(names) == len(set(order)) else None


def _climb(judge: Judge, start: Trial, end: float) -> Trial:
    """Swap pairs of columns as long as one fits better, and there is time."""
    best = start
    assert isinstance(best.plan, TablePlan)
    places = range(len(best.plan.parts[0].columns))
    if len(places) > MOST_COLUMNS:
        return start
    while True:
        before = best
        for one, other in combinations(places, 2):
            if monotonic() > end:
                return best
            assert isinstance(best.plan, TablePlan)
            order = list(best.plan.parts[0].columns)
            order[one], order[other] = order[other], order[one]
            best = _fitter(best, _with_order(judge, best, order, spell=False))
        if best is before:
            return best


def _with_order(
    judge: Judge, trial: Trial, order: Sequence[int], *, spell: bool = True
) -> Trial | None:
    """The trial with the columns in another order, None if the model refuses that."""
    assert isinstance(trial.plan, TablePlan)
    try:
        (other,) = judge.try_plan(trial.plan.in_order(order), [trial.order])
    except AdaptError:
        return None
    return improve_spelling(judge, other) if spell else other


def _fitter(best: Trial, other: Trial | None) -> Trial:
    """The trial that fits the rows of training better."""
    return best if other is None or other.likelihood <= best.likelihood else other


def _is_far_better(other: Trial, trial: Trial) -> bool:
    """Whether its balanced accuracy is higher by a tenth and by three standard errors."""
    gain = other.balanced.value - trial.balanced.value
    errors = [each.balanced.value - each.balanced.low for each in (other, trial)]
    return gain >= max(BETTER_ORDER, math.hypot(*errors))


def _far_better(accuracy: float, trial: Trial, judge: Judge) -> bool:
    noise = ERRORS_ABOVE_CHANCE * float(np.sqrt(0.5 / len(judge.rows)))
    return accuracy - trial.accuracy >= max(BETTER_ORDER, noise)


def _hints(choice: Choice, data: DataSet) -> str:
    names = ",".join(data.classes[:4]) + (",..." if len(data.classes) > 4 else "")
    hint = (
        "Name the scale of its training with --scale MEAN,STD, or, if the order of its classes is "
        f"the reason, give the classes in the order of its columns with --classes (now {names})"
    )
    if isinstance(choice.trial.plan, TablePlan):
        hint += ", or its columns in their order with --columns"
    return hint
