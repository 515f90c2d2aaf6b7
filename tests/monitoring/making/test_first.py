"""Laws of the first champion: a version that is worth nothing answers nobody by itself."""

import numpy as np
import pytest

from models.statistics.intervals import proportion
from models.versions.figures import AttackFigure, Evaluation
from models.versions.judging import ThreatModel
from models.versions.registry import Registry
from monitoring.making.first import promote_first
from tests import bundles


def evaluation(*, rare_right: int, robust: float) -> Evaluation:
    """Of 900 rows of a common class, all right, and 100 of a rare one."""
    rare = proportion(np.arange(100) < rare_right)
    common = proportion(np.ones(900, dtype=bool))
    attack = proportion(np.arange(1000) < 1000 * robust)
    return Evaluation(
        suite="quick", n=1000, seed=0, threat=ThreatModel(eps=0.1), eps=0.1, black_box=False,
        clean=proportion(np.arange(1000) < 900 + rare_right),
        classes={"common": common, "rare": rare},
        robust=AttackFigure(*attack.parts, attack="pgd-20", eps=0.1),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rare_right", "robust", "says"),
    [
        (0, 0.9, "no better than always naming the commonest class"),
        (80, 0.04, "only 4.0% of the rows stay right under attack"),
        (0, 0.0, "commonest class (90.0% of the rows) and only 0.0%"),
    ],
)
def test_a_first_version_that_is_worth_nothing_waits_for_a_person(
    rare_right: int, robust: float, says: str, empty: Registry
) -> None:
    judged = evaluation(rare_right=rare_right, robust=robust)
    version = bundles.publish(empty.root, "churn", promote=False, evaluation=judged)
    why_not = promote_first(empty, "churn", version, actor="test")
    assert why_not is not None
    assert says in why_not
    assert why_not.endswith("holdfast models promote churn 1")
    aliases = empty.aliases("churn")
    assert (aliases.champion, aliases.challenger) == (None, 1)
    empty.promote("churn", version, expected=None, actor="a person", reason="", by_person=True)
    assert empty.aliases("churn").champion == 1


def test_a_first_version_that_is_worth_something_becomes_the_champion(empty: Registry) -> None:
    judged = evaluation(rare_right=80, robust=0.5)
    version = bundles.publish(empty.root, "churn", promote=False, evaluation=judged)
    assert promote_first(empty, "churn", version, actor="test") is None
    assert empty.aliases("churn").champion == version


def test_a_standing_champion_stays(empty: Registry) -> None:
    bundles.publish(empty.root, "churn")
    judged = evaluation(rare_right=0, robust=0.0)
    version = bundles.publish(empty.root, "churn", promote=False, evaluation=judged)
    assert promote_first(empty, "churn", version, actor="test") is None
    assert empty.aliases("churn").champion == 1
