"""Networks on unit-range inputs: `forward` gives logits and features in one pass."""

from collections.abc import Callable
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from models.errors import TrainingError


class NetSpec(msgspec.Struct, frozen=True):
    """How to rebuild a net: the name of a factory and its keyword arguments."""

    factory: str
    kwargs: dict[str, Any]


class SmallConv(nn.Module):
    """Two convolutions (the second with stride 2) and a hidden layer; for small images.

    Args:
        shape: (channels, height, width) of one input.
        classes: number of classes.
        widths: channels of the two convolutions.
        hidden: width of the feature layer.
        batch_norm: batch normalisation after each convolution.
        dropout: probability of dropping a feature, in [0, 1).
        mean, std: normalisation of the unit-range input, part of the net.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        *,
        widths: tuple[int, int] = (32, 64),
        hidden: int = 128,
        batch_norm: bool = False,
        dropout: float = 0.0,
        mean: float = 0.0,
        std: float = 1.0,
    ) -> None:
        super().__init__()
        channels, height, width = shape
        self.mean, self.std = mean, std
        flat = widths[1] * ((height + 1) // 2) * ((width + 1) // 2)

        def conv(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
            norm: list[nn.Module] = [nn.BatchNorm2d(outputs)] if batch_norm else []
            layer = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=not batch_norm)
            return [layer, *norm, nn.ReLU()]

        self.body = nn.Sequential(
            *conv(channels, widths[0], 1), *conv(widths[0], widths[1], 2), nn.Flatten()
        )
        self.hidden = nn.Linear(flat, hidden)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, classes)

    def forward(self, x_unit: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `(N, classes)` and features `(N, hidden)` of inputs in [0, 1]."""
        features = torch.relu(self.hidden(self.body((x_unit - self.mean) / self.std)))
        return self.head(self.dropout(features)), features


FACTORIES: dict[str, Callable[..., nn.Module]] = {"small_conv": SmallConv}


def build(spec: NetSpec) -> nn.Module:
    """A fresh net. Raises TrainingError for an unknown factory or unfit arguments."""
    if spec.factory not in FACTORIES:
        raise TrainingError(f"unknown net {spec.factory!r}; known: {', '.join(FACTORIES)}")
    try:
        return FACTORIES[spec.factory](**spec.kwargs)
    except (TypeError, ValueError, RuntimeError) as error:  # torch raises all three
        raise TrainingError(f"net {spec.factory!r}: {error}") from error
