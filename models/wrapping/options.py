"""What a user may say of a model, where trying would take something else."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Options:
    """What a user says; what is left open is tried.

    Args:
        output: the tensor that holds the classes.
        features: the tensor of the feature layer; `none` for no features.
        scale: `auto`, a name (see `feeding.scale.scales`) or `MEAN,STD` in units of [0, 1].
        layout: of images.
        classes: the data's classes in the order of the model's columns.
        columns: the data's columns in the order of the model's.
        accept_weak: wrap a model that is no better than chance, or seems to be fed wrongly.
    """

    output: str = ""
    features: str = ""
    scale: str = "auto"
    layout: Literal["auto", "nchw", "nhwc"] = "auto"
    classes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    accept_weak: bool = False
