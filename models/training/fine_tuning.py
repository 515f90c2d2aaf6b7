"""The recipe of a retraining: a start from the champion's own weights, which are robust already."""

import msgspec

from models.training.recipe import Recipe

BETA_SHARE = 0.5  # of TRADES' beta


def fine_tuning_recipe(recipe: Recipe, epochs: int, *, begins: bool) -> Recipe:
    """A champion's recipe for training on from its weights, with a changed copy of every row.

    The weight of robustness in TRADES is halved, once for all retrainings in a row: the weights
    keep it, and the gate on robust accuracy judges.

    Args:
        recipe: of the champion.
        epochs: of the retraining.
        begins: whether the champion was trained from fresh weights.

    >>> first = fine_tuning_recipe(Recipe(), 20, begins=True)
    >>> first.epochs, first.beta, fine_tuning_recipe(first, 20, begins=False).beta
    (20, 3.0, 3.0)
    """
    share = BETA_SHARE if begins and recipe.method == "trades" else 1.0
    return msgspec.structs.replace(
        recipe,
        epochs=epochs,
        beta=share * recipe.beta,
        eps_warm_up=0.0,
        attack_steps=recipe.steps_at(1.0),
        attack_ramp=(),
        corrupted_copies=1,
        seed=recipe.seed + 1,
    )
