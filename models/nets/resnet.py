"""Pre-activation residual nets (He et al. 2016, "Identity mappings in deep residual networks")."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PreActBlock(nn.Module):
    """BN - ReLU - conv - BN - ReLU - conv, added to its input (projected where shapes differ)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        same = stride == 1 and inputs == outputs
        self.shortcut = None if same else nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, outputs, height / stride, width / stride)`."""
        active = F.relu(self.norm1(x))
        skipped = x if self.shortcut is None else self.shortcut(active)
        added: Tensor = self.conv2(F.relu(self.norm2(self.conv1(active)))) + skipped
        return added


class PreActResNet(nn.Module):
    """Four stages of pre-activation blocks; width 64 and two blocks a stage is ResNet-18.

    Args:
        shape: (channels, height, width) of one input.
        classes: number of classes.
        width: channels of the first stage; each further one has twice as many.
        blocks: blocks of every stage; each stage but the first halves the image.
        dropout: probability of dropping a feature, in [0, 1).
        batch_norm: always true for this net; named so that options fit all nets.
    """

    mean: Tensor
    std: Tensor
    fitted: Tensor

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        *,
        width: int = 64,
        blocks: tuple[int, ...] = (2, 2, 2, 2),
        dropout: float = 0.0,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        del batch_norm
        self.register_buffer("mean", torch.full((1, shape[0], 1, 1), 0.5))
        self.register_buffer("std", torch.full((1, shape[0], 1, 1), 0.25))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.uint8))
        self.stem = nn.Conv2d(shape[0], width, 3, padding=1, bias=False)
        stages: list[nn.Module] = []
        inputs = width
        for stage, count in enumerate(blocks):
            outputs = width * 2**stage
            for block in range(count):
                stages.append(PreActBlock(inputs, outputs, 2 if stage and not block else 1))
                inputs = outputs
        self.stages = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(inputs)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(inputs, classes)

    @torch.no_grad()
    def fit_inputs(self, x_unit: Tensor) -> None:
        """Take mean and standard deviation per channel from training rows, the first time."""
        if not self.fitted:
            self.mean.copy_(x_unit.mean(dim=(0, 2, 3), keepdim=True))
            self.std.copy_(x_unit.std(dim=(0, 2, 3), keepdim=True).clamp_min(1e-3))
            self.fitted.fill_(1)

    def forward(self, x_unit: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `(N, classes)` and features `(N, 8 width)` of inputs in [0, 1]."""
        maps = self.stages(self.stem((x_unit - self.mean) / self.std))
        features = F.relu(self.norm(maps)).mean(dim=(2, 3))
        return self.head(self.dropout(features)), features
