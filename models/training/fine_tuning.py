"""The recipe of a retraining: a start from the champion's own weights, which are robust already."""

import msgspec

from models.training.recipe import Recipe

MOST_COPIES, MANY_ROWS = 4, 10_000  # changed copies of a row; rows with all their copies
BETA_SHARE = 0.5  # of TRADES' beta


def fine_tuning_recipe(recipe: Recipe, rows: int, epochs: int, *, begins: bool) -> Recipe:
    """A champion's recipe for training on from its weights.

    Changed copies of few rows tell more than the same ones once more: a row has up to four, with
    fewer epochs, so that the steps stay the same. The weight of robustness in TRADES is halved,
    once for all retrainings in a row: the weights keep it, and the gate on robust accuracy judges.

    Args:
        recipe: of the champion.
        rows: of the data set's training part.
        epochs: that make the steps of a training with one copy of each row.
        begins: whether the champion was trained from fresh weights.

    >>> few = fine_tuning_recipe(Recipe(), 1000, 20, begins=True)
    >>> few.corrupted_copies, few.epochs, few.beta
    (4, 8, 3.0)
    >>> many = fine_tuning_recipe(few, 50_000, 20, begins=False)
    >>> many.corrupted_copies, many.epochs, many.beta
    (1, 20, 3.0)
    """
    copies = max(1, min(MOST_COPIES, MANY_ROWS // max(rows, 1)))
    share = BETA_SHARE if begins and recipe.method == "trades" else 1.0
    return msgspec.structs.replace(
        recipe,
        epochs=max(1, round(epochs * 2 / (1 + copies))),
        beta=share * recipe.beta,
        eps_warm_up=0.0,
        attack_steps=recipe.steps_at(1.0),
        attack_ramp=(),
        corrupted_copies=copies,
        seed=recipe.seed + 1,
    )
