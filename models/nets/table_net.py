"""A multilayer perceptron for tables: imputation, one-hot coding and scaling are inside."""

import torch
from torch import Tensor, nn

REACH = 4.0  # standard deviations beyond which a number no longer moves the net


class TableMLP(nn.Module):
    """Hidden layers over standardised numbers, one-hot categories and missing-value indicators.

    A missing number is replaced by the training median, and an indicator tells the net. A
    category that was not seen, or a missing one, has no hot entry. Numbers are clipped at 4
    standard deviations, which bounds what an absurd value can do and keeps scores finite.

    Args:
        shape: (columns,) of one row.
        classes: number of classes.
        columns: per column `[categories, missing]`: the number of categories (0: a number), and
            whether values may be missing. See `models.nets.catalogue`.
        hidden: widths of the hidden layers; the last is the features.
        dropout: probability of dropping a hidden value, in [0, 1).
        batch_norm: batch normalisation after each hidden layer.
    """

    median: Tensor
    mean: Tensor
    std: Tensor
    fitted: Tensor

    def __init__(
        self,
        shape: tuple[int],
        classes: int,
        *,
        columns: list[list[int]],
        hidden: tuple[int, ...] = (128, 64),
        dropout: float = 0.0,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        if len(columns) != shape[0]:
            raise ValueError(f"{shape[0]} values a row, but {len(columns)} columns are described")
        self.numbers = [j for j, (categories, _) in enumerate(columns) if not categories]
        self.categories = [(j, count) for j, (count, _) in enumerate(columns) if count]
        self.gaps = [j for j in self.numbers if columns[j][1]]
        for name, value in (("median", 0.5), ("mean", 0.5), ("std", 0.25)):
            self.register_buffer(name, torch.full((len(self.numbers),), value))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.uint8))
        width = len(self.numbers) + len(self.gaps) + sum(count for _, count in self.categories)
        layers: list[nn.Module] = []
        for size in hidden:
            layers.append(nn.Linear(width, size))
            layers += [nn.BatchNorm1d(size)] if batch_norm else []
            layers += [nn.ReLU(), nn.Dropout(dropout)]
            width = size
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(width, classes)

    @torch.no_grad()
    def fit_inputs(self, x_unit: Tensor) -> None:
        """Take median, mean and standard deviation of the numbers from training rows, once.

        A column that may be missing but never is in these rows is answered as the median there:
        its indicator counts for nothing until a row teaches it something.
        """
        if self.fitted or not self.numbers:
            return
        unseen = ~x_unit[:, self.gaps].isnan().any(dim=0)
        first = self.body[0]
        assert isinstance(first, nn.Linear)
        first.weight[:, len(self.numbers) + unseen.nonzero().squeeze(1)] = 0
        values = x_unit[:, self.numbers]
        self.median.copy_(values.nanmedian(dim=0).values.nan_to_num(0.5))
        filled = torch.where(values.isnan(), self.median, values)
        self.mean.copy_(filled.mean(dim=0))
        self.std.copy_(filled.std(dim=0).clamp_min(1e-3))
        self.fitted.fill_(1)

    def forward(self, x_unit: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `(N, classes)` and features `(N, hidden[-1])` of rows as `to_unit` gives them."""
        return self.decide(self.encode(x_unit))

    def encode(self, x_unit: Tensor) -> Tensor:
        """What the first layer sees `(N, width)`: every value for itself, rising with it."""
        parts: list[Tensor] = []
        if self.numbers:
            values = x_unit[:, self.numbers]
            filled = torch.where(torch.isnan(values), self.median, values)
            parts.append(((filled - self.mean) / self.std).clamp(-REACH, REACH))
        if self.gaps:
            parts.append(torch.isnan(x_unit[:, self.gaps]).to(x_unit.dtype))
        for column, count in self.categories:
            codes = torch.arange(count, dtype=x_unit.dtype, device=x_unit.device)
            parts.append((x_unit[:, column : column + 1] == codes).to(x_unit.dtype))
        return torch.cat(parts, dim=1)

    def decide(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and features of encoded rows."""
        features = self.body(encoded)
        return self.head(features), features
