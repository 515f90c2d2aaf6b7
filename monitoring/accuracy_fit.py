"""What the accuracy estimate and the class shares rest on: the graph's answers to held-out rows.

Made once, when a version is made. The clean rows are asked as they are, then under every everyday
corruption at every severity, a few rows each; only answers are kept, so memory does not grow.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import onnx

from models import stress
from models.corruptions import SEVERITIES, suite
from models.runner import Answer, in_pieces, session
from models.schema import OUTPUTS, FloatArray, InputArray, InputSchema, IntArray
from monitoring.accuracy_estimate import Group, evidence, fit
from monitoring.label_shift import CONFUSION, confusion

ROWS = 100  # of one corruption at one severity

Ask = Callable[[InputArray], Answer]
Corrupt = Callable[[InputArray, int, np.random.Generator], InputArray]


def accuracy_facts(
    model: onnx.ModelProto,
    schema: InputSchema,
    x: InputArray,
    y: IntArray,
    *,
    seed: int = 0,
) -> dict[str, FloatArray]:
    """Arrays of the bundle: `accuracy/weights`, `accuracy/spread`, `class/confusion`.

    Args:
        model: the instrumented graph.
        schema: its input.
        x: `(n, *shape)` raw held-out rows.
        y: `(n,)` their labels.
        seed: of the corruptions and of the redrawn fits.
    """
    assert len(x) == len(y) > 0
    ask = _asking(model, schema)
    clean = ask(x)
    predicted = clean.probabilities.argmax(axis=1)
    groups = list(_groups(ask, schema, x, y, np.random.default_rng(seed)))
    counts = confusion(predicted, y, clean.probabilities.shape[1])
    return fit(evidence(clean), predicted == y, groups, seed=seed) | {CONFUSION: counts}


def _groups(
    ask: Ask, schema: InputSchema, x: InputArray, y: IntArray, rng: np.random.Generator
) -> Iterator[Group]:
    for kind, corrupt in _corruptions(schema).items():
        for severity in SEVERITIES:
            rows = rng.permutation(len(x))[:ROWS]
            answer = ask(corrupt(x[rows], severity, rng))
            right = answer.probabilities.argmax(axis=1) == y[rows]
            yield Group(kind, evidence(answer), right)


def _corruptions(schema: InputSchema) -> dict[str, Corrupt]:
    """By name, on raw rows: the ten of the quick suite, or what goes wrong with tables."""
    if schema.kind == "tabular":
        names = [name for name in stress.STRESS if stress.applies(name, schema)]
        return {name: partial(stress.apply, name, schema) for name in names}
    return {kind.name: partial(kind.on_raw, schema) for kind in suite(schema, "quick")}


def _asking(model: onnx.ModelProto, schema: InputSchema) -> Ask:
    runner = session(model.SerializeToString())

    def ask(x: InputArray) -> Answer:
        return Answer(*in_pieces(lambda part: runner.run(list(OUTPUTS), {schema.name: part}), x))

    return ask
