"""Recipes to begin with, by the kind and size of the data; every figure of them can be overridden.

What they reach is measured in docs/benchmarks.md.
"""

import msgspec

from models.training.recipe import Method, Recipe
from models.versions.judging import ThreatModel
from models.versions.schema import InputSchema

BYTE = 1 / 255


class Preset(msgspec.Struct, frozen=True):
    """How to train, and the attack that the result is judged by."""

    recipe: Recipe
    threat: ThreatModel


def preset(
    schema: InputSchema, rows: int, *, quick: bool = False, method: Method | None = None
) -> Preset:
    """The preset for `rows` training rows of `schema`; of its own for the method `certified`.

    Epochs fall as the rows grow, so that a run makes about the same number of steps. `quick`
    takes 30 % of them with three attack steps: a fraction of the time, some robustness less.
    """
    recipe, judged_eps, passes = (_certified if method == "certified" else _by_kind)(schema)
    epochs = max(passes[1], min(passes[2], round(passes[0] / max(rows, 1))))
    if quick:
        epochs = max(2, round(0.3 * epochs))
        recipe = msgspec.structs.replace(recipe, attack_steps=3, attack_ramp=())
    recipe = msgspec.structs.replace(recipe, epochs=epochs)
    return Preset(recipe, ThreatModel(recipe.norm, judged_eps))


def _by_kind(schema: InputSchema) -> tuple[Recipe, float, tuple[int, int, int]]:
    """The recipe, eps of the judging attack, and (rows to pass, fewest, most epochs)."""
    if schema.kind == "tabular":
        recipe = Recipe(eps=0.02, beta=1.0, ema=0.98, weight_decay=1e-2)
        return recipe, 0.02, (60_000, 5, 150)
    if schema.shape[0] == 3:  # photographs: 8/255 is what the field attacks with
        recipe = Recipe(
            method="nfgsm", eps=8 * BYTE, batch_size=128, ema=0.998, weight_decay=5e-4,
            augment=("shift", "flip"),
        )  # fmt: skip
        return recipe, 8 * BYTE, (630_000, 12, 60)
    if min(schema.shape[1:]) >= 24:
        recipe = Recipe(
            eps=0.3, beta=4.0, batch_size=128, ema=0.998, attack_steps=3,
            attack_ramp=((0.25, 5), (0.6, 10)), eps_warm_up=0.25,
        )  # fmt: skip
        return recipe, 0.3, (330_000, 6, 80)
    return Recipe(), 0.15, (128_000, 8, 120)


def _certified(schema: InputSchema) -> tuple[Recipe, float, tuple[int, int, int]]:
    """The same for training with interval bounds: many cheap steps, boxes that grow slowly."""
    boxes = Recipe(
        method="certified", eps=0.165, beta=0.0, batch_size=128, learning_rate=3e-3, eps_warm_up=0.6
    )
    if schema.kind == "tabular":
        table = msgspec.structs.replace(
            boxes, eps=0.025, beta=0.5, ema=0.98, weight_decay=1e-2, precision="fp32"
        )
        return table, 0.02, (60_000, 10, 150)
    if schema.shape[0] == 3:
        return (
            msgspec.structs.replace(boxes, eps=2 * BYTE, ema=0.998),
            2 * BYTE,
            (2_000_000, 20, 200),
        )
    if min(schema.shape[1:]) >= 24:
        return msgspec.structs.replace(boxes, eps=0.3, ema=0.998), 0.3, (600_000, 10, 200)
    return boxes, 0.15, (215_000, 20, 200)
