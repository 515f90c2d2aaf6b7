"""A small convolutional net, the default for grey images."""

import torch
from torch import Tensor, nn


class SmallConv(nn.Module):
    """3x3 convolutions (every second with stride 2) and a hidden layer; for small images.

    Args:
        shape: (channels, height, width) of one input.
        classes: number of classes.
        widths: channels of the convolutions.
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
        widths: tuple[int, ...] = (32, 64),
        hidden: int = 128,
        batch_norm: bool = False,
        dropout: float = 0.0,
        mean: float = 0.0,
        std: float = 1.0,
    ) -> None:
        super().__init__()
        channels, height, width = shape
        self.mean, self.std = mean, std
        layers: list[nn.Module] = []
        for index, outputs in enumerate(widths):
            stride = 1 + index % 2
            layers.append(
                nn.Conv2d(channels, outputs, 3, stride=stride, padding=1, bias=not batch_norm)
            )
            layers += [nn.BatchNorm2d(outputs)] if batch_norm else []
            layers.append(nn.ReLU())
            channels = outputs
            height, width = (-(-size // stride) for size in (height, width))
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.hidden = nn.Linear(channels * height * width, hidden)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, classes)

    def forward(self, x_unit: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `(N, classes)` and features `(N, hidden)` of inputs in [0, 1]."""
        features = torch.relu(self.hidden(self.body((x_unit - self.mean) / self.std)))
        return self.head(self.dropout(features)), features
