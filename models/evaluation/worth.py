"""Whether a version is worth serving at all: reasons that a person must know before it answers."""

from models.statistics.shares import Proportion
from models.versions.figures import Evaluation

IMBALANCED = 0.8  # share of the largest class above which plain accuracy says little
FEWEST_ROBUST = 0.05  # share of rows that a model must still answer rightly under attack


def reasons_against_serving(evaluation: Evaluation) -> tuple[str, ...]:
    """Why a version should not become the champion by itself; empty where nothing is against it.

    It is no better than naming the commonest class where the interval of its accuracy does not
    lie above that class's share, nor the interval of its balanced accuracy above 1 / K of the K
    classes that have rows. A rare class that is found at the cost of some accuracy is worth
    something: either interval above its bound is enough.
    It is hardly robust where fewer than 5 % of the rows stay right under the worst attack. What
    was not measured is no reason.

    >>> from models.versions.judging import ThreatModel
    >>> blind = Evaluation(
    ...     suite="quick", n=300, seed=0, threat=ThreatModel(), eps=0.25, black_box=True,
    ...     clean=Proportion(0.9, 0.86, 0.93, 300),
    ...     classes={"no": Proportion(1.0, 0.99, 1.0, 270), "yes": Proportion(0.0, 0.0, 0.11, 30)},
    ...     balanced_accuracy=Proportion(0.5, 0.49, 0.56, 300),
    ... )
    >>> reasons_against_serving(blind)
    ('it is no better than always naming the commonest class (90.0% of the rows)',)
    """
    reasons = []
    share = commonest_share(evaluation)
    if share is not None and not beats_commonest(evaluation):
        reasons.append(
            f"it is no better than always naming the commonest class ({share:.1%} of the rows)"
        )
    robust = evaluation.robust
    if robust is not None and robust.n and robust.value < FEWEST_ROBUST:
        reasons.append(
            f"only {robust.value:.1%} of the rows stay right under attack at eps {robust.eps:.4g}"
        )
    return tuple(reasons)


def commonest_share(evaluation: Evaluation) -> float | None:
    """The share of the largest class among the rows judged; None without rows."""
    counts = [p.n for p in evaluation.classes.values()]
    return max(counts) / sum(counts) if sum(counts) else None


def is_imbalanced(evaluation: Evaluation) -> bool:
    """Whether the largest class holds so many rows that plain accuracy says little."""
    share = commonest_share(evaluation)
    return share is not None and share > IMBALANCED and len(evaluation.classes) > 1


def beats_commonest(evaluation: Evaluation) -> bool:
    """Whether it does better than naming the commonest class, by accuracy or balanced accuracy."""
    share = commonest_share(evaluation)
    if share is None or share == 1 or _above(evaluation.clean, share):
        return True
    classes = sum(p.n > 0 for p in evaluation.classes.values())
    return _above(evaluation.balanced_accuracy, 1 / classes)


def _above(figure: Proportion | None, bound: float) -> bool:
    return figure is not None and figure.n > 0 and figure.low > bound
