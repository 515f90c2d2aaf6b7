"""How much a model knows of labelled rows, and whether that is more than chance.

A model may be honest and weak: on rows of which most are of one class it names that class nearly
always, and still ranks the rows well. So balanced accuracy and AUC decide, not accuracy alone.
"""

import numpy as np

from models.statistics.arrays import IntArray
from models.statistics.intervals import auroc, auroc_interval, proportion
from models.statistics.shares import Proportion
from models.versions.facts import Estimate, SkillFacts
from models.wrapping.graphs.edit import Array
from models.wrapping.outputs import softmax

ERRORS_ABOVE_CHANCE = 3.0  # standard errors: several ways are tried, and the best is looked at
LEVEL = 0.9973  # of an interval of so many standard errors
SHOWN = 8  # classes whose recall is named in a message


def likelihood(logits: Array, y: IntArray) -> float:
    """Mean ln p of the true class. Logits `(N, C)`, labels `(N,)`."""
    p = softmax(logits)[np.arange(len(y)), y]
    return float(np.log(np.maximum(p, 1e-12)).mean())


def balanced_accuracy(predicted: IntArray, y: IntArray) -> Estimate:
    """Mean of the recalls of the classes that occur, three standard errors either way.

    The error of a recall is taken at (right + 1) / (n + 2), so that it has one at 0 and at 1.

    >>> balanced_accuracy(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])).value
    0.75
    """
    counts = [(int((predicted[y == k] == k).sum()), int((y == k).sum())) for k in np.unique(y)]
    value = float(np.mean([right / n for right, n in counts]))
    shrunk = [((right + 1) / (n + 2), n) for right, n in counts]
    error = float(np.sqrt(sum(p * (1 - p) / n for p, n in shrunk)) / len(counts))
    reach = ERRORS_ABOVE_CHANCE * error
    return Estimate(
        round(value, 4), round(max(value - reach, 0.0), 4), round(min(value + reach, 1.0), 4)
    )


def mean_auc(logits: Array, y: IntArray) -> Estimate:
    """Mean AUC of each class against the rest, with the mean of their intervals.

    Args:
        logits: `(N, C)`.
        y: `(N,)` labels, of two classes at least.
    """
    shares, values = softmax(logits), []
    for k in np.unique(y):
        negative, positive = shares[y != k, k], shares[y == k, k]
        values.append((auroc(negative, positive), *auroc_interval(negative, positive, LEVEL)))
    value, low, high = (round(float(v), 4) for v in np.mean(values, axis=0))
    return Estimate(value, low, high)


def measure_skill(logits: Array, y: IntArray, classes: tuple[str, ...]) -> SkillFacts:
    """All of it, on rows that the model was not trained on.

    Args:
        logits: `(N, C)` in the order of `classes`.
        y: `(N,)` labels.
        classes: names of the classes.
    """
    predicted = logits.argmax(axis=1)
    shares = np.bincount(y, minlength=len(classes)) / len(y)
    several = len(np.unique(y)) > 1
    prior = float(np.sum(shares[shares > 0] * np.log(shares[shares > 0])))
    return SkillFacts(
        accuracy=proportion(predicted == y),
        commonest=round(float(shares.max()), 4),
        balanced=balanced_accuracy(predicted, y),
        auc=mean_auc(logits, y) if several else None,
        recall={name: proportion(predicted[y == k] == k) for k, name in enumerate(classes)},
        informative=likelihood(logits, y) > prior,
    )


def beats_chance(skill: SkillFacts) -> bool:
    """Whether balanced accuracy or AUC is above chance by three standard errors.

    With more than two classes nearly every net ranks some class well by chance: there an AUC
    counts only if the probabilities say more than the shares of the classes do.
    """
    occurring = sum(recall.n > 0 for recall in skill.recall.values())
    if skill.balanced.low > 1 / occurring:
        return True
    ranks = skill.auc is not None and skill.auc.low > 0.5
    return ranks and (occurring == 2 or skill.informative)


def describe_weakness(skill: SkillFacts) -> str:
    """A warning in figures; empty for a model that is not weak."""
    occurring = sum(recall.n > 0 for recall in skill.recall.values())
    commonest = skill.accuracy.low <= skill.commonest
    if not commonest and skill.balanced.low > 1 / occurring:
        return ""
    return f"it is weak: {describe_skill(skill)}"


def describe_skill(skill: SkillFacts) -> str:
    """The figures in words."""
    accuracy, balanced, auc = skill.accuracy, skill.balanced, skill.auc
    parts = [
        f"right on {accuracy.value:.1%} of {accuracy.n} rows, where naming the commonest class "
        f"is right on {skill.commonest:.1%}",
        f"balanced accuracy {balanced.value:.1%} ({balanced.low:.1%} to {balanced.high:.1%})",
    ]
    if auc is not None:
        parts.append(f"AUC {auc.value:.2f} ({auc.low:.2f} to {auc.high:.2f})")
    worst = sorted(skill.recall.items(), key=lambda item: _value(item[1]))
    recalls = ", ".join(f"{name} {_share(each)}" for name, each in worst[:SHOWN])
    parts.append(f"recall {recalls}" + ", ..." * (len(worst) > SHOWN))
    return "; ".join(parts)


def _value(recall: Proportion) -> float:
    return recall.value if recall.n else 2.0


def _share(recall: Proportion) -> str:
    return f"{recall.value:.0%}" if recall.n else "(no rows)"
