"""Choosing how a model is fed and which column is which class: what labelled rows fit best."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from models.base.errors import AdaptError
from models.data import Rows
from models.statistics.arrays import IntArray
from models.versions.facts import Estimate, TrialFacts
from models.wrapping.feeding.tables import TablePlan
from models.wrapping.graphs.edit import Array
from models.wrapping.graphs.runs import Feed, Runs
from models.wrapping.labels import ColumnOrder
from models.wrapping.outputs import Reading
from models.wrapping.skill import ERRORS_ABOVE_CHANCE, balanced_accuracy, likelihood

ALIKE = 0.05  # mean ln p that tells no scales apart: a regularised model is too cautious by as much
GAIN = 0.02  # mean ln p that another spelling must win
PASSES = 2  # over the columns, until no other spelling of one fits better


@dataclass(frozen=True)
class Trial:
    """One way of feeding with one order of classes, and how it did on labelled rows."""

    plan: Feed
    order: ColumnOrder
    logits: Array  # (N, C) in the model's own order
    accuracy: float
    balanced: Estimate  # mean of the classes' own accuracies
    likelihood: float  # mean ln p of the true class of rows that it may have been trained on

    @property
    def ordered(self) -> Array:
        """`(N, C)` in the order of the data's classes."""
        return self.logits[:, list(self.order.columns)] if self.order.columns else self.logits

    def facts(self) -> TrialFacts:
        """For the manifest."""
        words = self.plan.words
        return TrialFacts(
            words["layout"],
            words["scale"],
            self.order.name,
            round(self.accuracy, 4),
            round(self.likelihood, 4),
        )


@dataclass(frozen=True)
class Choice:
    """The trial that was taken, all that were made, and ways that the model refused."""

    trial: Trial
    trials: tuple[Trial, ...]
    refused: tuple[str, ...]
    alike: tuple[Trial, ...]  # that fit as well as the one that was taken


@dataclass(frozen=True)
class Judge:
    """Runs plans on labelled rows.

    Args:
        runs: the model, with the tensor of the classes as its only output.
        reading: how that tensor is read.
        rows: held-out rows, for the accuracy.
        seen: rows that the model may have been trained on, for the likelihood.
    """

    runs: Runs
    reading: Reading
    rows: Rows
    seen: Rows

    def logits(self, plan: Feed) -> Array:
        """Of the held-out rows and then of the others, in the model's own order of classes.

        Raises:
            AdaptError: the model refuses the rows, or answers NaN to some.
        """
        x = np.concatenate([self.rows.x, self.seen.x])
        logits = self.reading.logits(self.runs.answer(plan.feeds(x))[0])
        wrong = ~np.isfinite(logits).all(axis=1)
        if wrong.any():
            count = f"{int(wrong.sum())} of {len(x)} rows"
            raise AdaptError(f"{count} give NaN or infinity, the first is row {np.argmax(wrong)}")
        return logits

    def try_plan(self, plan: Feed, orders: Iterable[ColumnOrder]) -> list[Trial]:
        """A trial for each order of classes. Raises AdaptError as `logits` does."""
        logits, n = self.logits(plan), len(self.rows)
        trials = []
        for order in orders:
            ordered = logits[:, list(order.columns)] if order.columns else logits
            predicted: IntArray = ordered[:n].argmax(axis=1)
            trials.append(
                Trial(
                    plan,
                    order,
                    logits[:n],
                    float((predicted == self.rows.y).mean()),
                    balanced_accuracy(predicted, self.rows.y),
                    likelihood(ordered[n:], self.seen.y),
                )
            )
        return trials


def try_all(judge: Judge, plans: list[Feed], orders: list[ColumnOrder]) -> Choice:
    """Run every plan on labelled rows and take the best.

    Best is the highest mean ln p on the rows `seen` among those within a standard error of the
    highest balanced accuracy on `rows`: the accuracy of many nets hardly depends on the scale,
    their confidence does. What training maximised is ln p on its own rows; on others an
    overconfident model looks better at a smaller scale than its own. Differences below `ALIKE`
    are none: then the likelier way, which stands first, is taken.

    Raises:
        AdaptError: the model refuses every plan, or answers NaN to all.
    """
    trials: list[Trial] = []
    refused = []
    for plan in plans:
        try:
            trials += judge.try_plan(plan, orders)
        except AdaptError as error:
            refused.append(f"{' '.join(plan.words.values())}: {error}")
    if not trials:
        raise AdaptError(f"the model answers none of the labelled rows ({'; '.join(refused[:3])})")
    best = max((trial.balanced for trial in trials), key=lambda estimate: estimate.value)
    deviation = (best.value - best.low) / ERRORS_ABOVE_CHANCE
    good = [trial for trial in trials if trial.balanced.value >= best.value - deviation]
    most = max(trial.likelihood for trial in good)
    alike = [trial for trial in good if trial.likelihood >= most - ALIKE]
    return Choice(alike[0], tuple(trials), tuple(refused), tuple(alike[1:]))


def respell(judge: Judge, choice: Choice) -> Choice:
    """Spell the categories of a table as labelled rows fit best.

    Where the numbers seem to be scaled, the raw ones are given a chance with other spellings, too.
    """
    best = choice.trial
    if not isinstance(best.plan, TablePlan):
        return choice
    starts = [best]
    if best.plan.scale.name != "raw":
        raw = best.plan.words | {"scale": "raw"}
        same = (t for t in choice.trials if t.plan.words == raw and t.order == best.order)
        starts = [*same, best]
    spelt = [improve_spelling(judge, start) for start in starts]
    most = max(trial.likelihood for trial in spelt)
    best = next(trial for trial in spelt if trial.likelihood >= most - ALIKE)
    return choice if best is choice.trial else replace(choice, trial=best, alike=())


def improve_spelling(judge: Judge, start: Trial) -> Trial:
    """Spell one column after the other another way where labelled rows fit better so.

    A spelling is better where the mean ln p on all rows rises by more than `GAIN` and the
    accuracy does not fall.
    """
    best = start
    for _ in range(PASSES):
        before = best
        assert isinstance(best.plan, TablePlan)
        for index in range(len(best.plan.columns)):
            for plan in best.plan.others(index):
                best = _better(judge, best, plan)
        if best is before:
            break
    return best


def _better(judge: Judge, best: Trial, plan: TablePlan) -> Trial:
    """The trial of the plan if it fits better, else the one before."""
    try:
        (trial,) = judge.try_plan(plan, [best.order])
    except AdaptError:  # the model refuses categories that are spelt so
        return best
    n, m = len(judge.rows), len(judge.seen)
    gains = (
        likelihood(trial.ordered, judge.rows.y) - likelihood(best.ordered, judge.rows.y),
        trial.likelihood - best.likelihood,
    )
    gain = (n * gains[0] + m * gains[1]) / (n + m)
    return trial if gain > GAIN and trial.accuracy >= best.accuracy else best
