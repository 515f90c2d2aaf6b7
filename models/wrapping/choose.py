"""Choosing how a model is fed and which column is which class: what labelled rows fit best."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from models.base.errors import AdaptError
from models.data import DataSet, Rows
from models.wrapping.graph import Array
from models.wrapping.labels import ColumnOrder, best_order, in_model_order
from models.wrapping.outputs import Reading, softmax
from models.wrapping.runs import Feed, Runs

ERRORS_ABOVE_CHANCE = 3.0
ALIKE = 0.02  # mean ln p that tells nothing apart
BETTER_ORDER = 0.1  # accuracy that another order of classes must win to be believed


@dataclass(frozen=True)
class Trial:
    """One way of feeding with one order of classes, and how it did on labelled rows."""

    plan: Feed
    order: ColumnOrder
    logits: Array  # (N, C) in the model's own order
    accuracy: float
    balanced: float  # mean of the classes' own accuracies
    likelihood: float  # mean ln p of the true class of rows that it may have been trained on

    def plain(self) -> dict[str, Any]:
        """For the facts."""
        return self.plan.words | {
            "classes": self.order.name,
            "accuracy": round(self.accuracy, 4),
            "log_likelihood": round(self.likelihood, 4),
        }


@dataclass(frozen=True)
class Choice:
    """The trial that was taken, all that were made, and ways that the model refused."""

    trial: Trial
    trials: tuple[Trial, ...]
    refused: tuple[str, ...]
    alike: tuple[Trial, ...]  # that fit as well as the one that was taken


def try_all(
    runs: Runs,
    reading: Reading,
    plans: list[Feed],
    orders: list[ColumnOrder],
    rows: Rows,
    seen: Rows,
) -> Choice:
    """Run every plan on labelled rows and take the best.

    Best is the highest mean ln p on the rows `seen` among those within a standard error of the
    highest accuracy on `rows`: the accuracy of many nets hardly depends on the scale, their
    confidence does. What training maximised is ln p on its own rows; on others an overconfident
    model looks better at a smaller scale than its own. Differences below `ALIKE` are none: then
    the likelier way, which stands first, is taken.

    Raises:
        AdaptError: the model refuses every plan, or answers NaN to all.
    """
    trials, refused = [], []
    for plan in plans:
        words = " ".join(plan.words.values())
        try:
            both = reading.logits(runs.answer(plan.feeds(rows.joined(seen).x))[0])
        except AdaptError as error:
            refused.append(f"{words}: {error}")
            continue
        wrong = ~np.isfinite(both).all(axis=1)
        if wrong.any():
            row = int(np.argmax(wrong))
            count = f"{int(wrong.sum())} of {len(both)} rows"
            refused.append(f"{words}: {count} give NaN or infinity, the first is row {row}")
            continue
        trials += [_trial(plan, order, both, rows, seen) for order in orders]
    if not trials:
        raise AdaptError(f"the model answers none of the labelled rows ({'; '.join(refused[:3])})")
    best = max(trial.accuracy for trial in trials)
    deviation = float(np.sqrt(max(best * (1 - best), 1 / len(rows)) / len(rows)))
    good = [trial for trial in trials if trial.accuracy >= best - deviation]
    most = max(trial.likelihood for trial in good)
    alike = [trial for trial in good if trial.likelihood >= most - ALIKE]
    return Choice(alike[0], tuple(trials), tuple(refused), tuple(alike[1:]))


def check_choice(choice: Choice, data: DataSet, rows: Rows) -> None:
    """Refuse an accuracy near chance, and an order of classes that another clearly beats.

    Raises:
        AdaptError: says what was tried and which `--classes` would fit.
    """
    trial, n = choice.trial, len(rows)
    chance = 1 / len(np.unique(rows.y))
    bound = chance + ERRORS_ABOVE_CHANCE * float(np.sqrt(chance * (1 - chance) / n))
    better = _better_order(choice, data, rows)
    if trial.balanced <= bound:
        tried = "; ".join(
            f"{t.plan.words['layout']} {t.plan.words['scale']} {t.accuracy:.1%}"
            for t in choice.trials
        )
        raise AdaptError(
            f"the model is right on {trial.accuracy:.1%} of {n} labelled rows "
            f"({trial.balanced:.1%} as a mean over classes), which is near chance; tried: {tried}. "
            f"Name the scale of its training with --scale MEAN,STD{better or _order_hint(data)}"
        )
    if better:
        raise AdaptError(
            f"the model is right on {trial.accuracy:.1%} of {n} labelled rows, but its classes "
            f"seem to stand in another order{better}"
        )


def _better_order(choice: Choice, data: DataSet, rows: Rows) -> str:
    """What to say if another order of classes fits far better; empty if not."""
    if choice.trial.order.name == "as given":
        return ""
    found = [(best_order(t.logits, rows.y), t) for t in choice.trials]
    (columns, accuracy), _ = max(found, key=lambda pair: pair[0][1])
    gain = accuracy - choice.trial.accuracy
    noise = ERRORS_ABOVE_CHANCE * float(np.sqrt(0.5 / len(rows)))
    if gain < max(BETTER_ORDER, noise):
        return ""
    order = in_model_order(columns, data.classes)
    return f"; with --classes {order} it would be right on {accuracy:.1%}"


def _order_hint(data: DataSet) -> str:
    names = ",".join(data.classes[:4]) + (",..." if len(data.classes) > 4 else "")
    return (
        ", or, if the order of its classes is the reason, give the classes in the order of its "
        f"columns with --classes (now {names})"
    )


def _trial(plan: Feed, order: ColumnOrder, both: Array, rows: Rows, seen: Rows) -> Trial:
    ordered, n = both[:, list(order.columns)] if order.columns else both, len(rows)
    right = ordered[:n].argmax(axis=1) == rows.y
    balanced = float(np.mean([right[rows.y == k].mean() for k in np.unique(rows.y)]))
    p = softmax(ordered[n:])[np.arange(len(seen)), seen.y]
    likelihood = float(np.log(np.maximum(p, 1e-12)).mean())
    return Trial(plan, order, both[:n], float(right.mean()), balanced, likelihood)
