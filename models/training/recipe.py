"""The recipe: all that determines a training run besides the data and the net."""

from typing import Annotated, Literal, get_args

import msgspec

from models.versions.judging import Norm, Reach, ThreatModel

Positive = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Method = Literal["trades", "pgd", "fgsm", "nfgsm", "standard", "certified"]
Augmentation = Literal["shift", "flip", "crop", "noise", "cutout", "augmix"]
Precision = Literal["auto", "fp32", "bf16"]
Device = Literal["auto", "cpu", "cuda"]
METHODS: tuple[Method, ...] = get_args(Method)
AUGMENTATIONS: tuple[Augmentation, ...] = get_args(Augmentation)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
DEVICES: tuple[Device, ...] = get_args(Device)


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Method and hyperparameters; sizes are in units of the [0, 1] range.

    `attack_ramp` raises the number of attack steps while training: pairs of (share of training
    from which, steps). Strong attacks are wasted on a net that has learnt little.
    `certified_shares` are sizes that answers are proven for beside the eps that the version is
    judged by, as shares of it (method `certified`; there `beta` is the weight of the plain loss at
    the end, 0 to 1).
    `corrupted_copies` adds copies of every training row, each with a random benign corruption.
    """

    method: Method = "trades"
    norm: Norm = "linf"
    eps: float = 0.25
    columns: dict[str, Reach] = {}
    beta: float = 6.0
    epochs: Positive = 80
    batch_size: Positive = 64
    learning_rate: Annotated[float, msgspec.Meta(gt=0)] = 2e-3
    weight_decay: float = 1e-4
    warm_up: Share = 0.1
    eps_warm_up: Share = 0.2
    attack_steps: Positive = 7
    attack_ramp: tuple[tuple[Share, Positive], ...] = ()
    ema: Share = 0.99
    augment: tuple[Augmentation, ...] = ()
    corrupted_copies: Annotated[int, msgspec.Meta(ge=0)] = 0
    precision: Precision = "auto"
    certified_shares: tuple[Share, ...] = ()
    max_steps: Positive | None = None
    seed: int = 0

    @property
    def threat_model(self) -> ThreatModel:
        """What the adversary of the training may do."""
        return ThreatModel(self.norm, self.eps, self.columns)

    def steps_at(self, share: float) -> int:
        """Attack steps after `share` of the training."""
        reached = [steps for start, steps in self.attack_ramp if share >= start]
        return reached[-1] if reached else self.attack_steps
