"""Laws of tracing: our nets and plain chains are followed, and what cannot be is listed whole."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.base.errors import TrainingError
from models.certificates.bounds import Box, pass_layers, propagate
from models.certificates.layers import Relu, chain_of
from models.nets import factories
from models.versions.schema import Column, InputSchema

IMAGE = InputSchema("x", (1, 8, 8), "float32", 0.0, 1.0, "image")
LARGE = InputSchema("x", (3, 32, 32), "float32", 0.0, 1.0, "image")
TABLE = InputSchema(
    "row", (4,), "float32", 0.0, 1.0, "tabular",
    (Column("a"), Column("b", missing=True), Column("c", "categorical", categories=("x", "y")),
     Column("d")),
)  # fmt: skip


class Branching(nn.Module):
    """What bounds cannot pass: batch statistics, a sum of two tensors, a sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.head = nn.Linear(256, 3)

    def forward(self, x: Tensor) -> Tensor:
        z = self.norm(self.conv(x))
        return self.head(torch.sigmoid(z).flatten(1))


class Functional(nn.Module):
    """Functions in place of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(144, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = torch.flatten(F.relu(self.conv(2 * x - 1)), 1)
        return self.head(features), features


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: factories.build(factories.spec_for(IMAGE, 3)), (1, 8, 8)),
        (lambda: factories.build(factories.spec_for(LARGE, 3, certifiable=True)), (3, 32, 32)),
        (lambda: factories.build(factories.spec_for(TABLE, 3)), (4,)),
        (Functional, (1, 8, 8)),
    ],
    ids=["small_conv", "colour", "table", "functional"],
)
def test_a_chain_gives_the_logits_of_its_net(
    make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    net, x = make().eval(), torch.rand(5, *shape)
    if shape == (4,):
        x[:, 2] = torch.tensor([0.0, 1.0, -1.0, 0.0, 1.0])
        x[0, 1] = torch.nan
    chain = chain_of(net)
    box = propagate(chain, Box(x, x)).box
    expected = net(x)[0]
    torch.testing.assert_close(chain.last(box.low), expected)
    torch.testing.assert_close(chain.last(box.high), expected)
    assert any(isinstance(layer, Relu) for layer in chain.layers)


def test_what_cannot_be_bounded_is_listed_whole() -> None:
    with pytest.raises(TrainingError) as raised:
        chain_of(Branching())
    words = str(raised.value)
    assert "BatchNorm2d (norm)" in words
    assert "sigmoid" in words
    assert "Conv2d, Linear, ReLU" in words  # what it takes


@pytest.mark.parametrize("name", ["resnet_narrow", "small_conv"])
def test_batch_normalisation_is_refused_by_name(name: str) -> None:
    schema = LARGE if name == "resnet_narrow" else IMAGE
    net = factories.build(factories.spec_for(schema, 3, name, batch_norm=True))
    with pytest.raises(TrainingError, match="BatchNorm2d"):
        chain_of(net)


def test_a_forward_that_looks_at_values_is_refused() -> None:
    class Looking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            if x.sum() > 0:
                return self.head(x)
            return self.head(-x)

    with pytest.raises(TrainingError, match="cannot follow the net"):
        chain_of(Looking())


class Fitted(nn.Module):
    """Scaled by what it sees, as a user's net may be: assigned, and used through a view."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("std", torch.ones(4))
        self.head = nn.Linear(4, 3)
        self.lift = 0.0

    def fit_inputs(self, x: Tensor) -> None:
        self.mean, self.std, self.lift = x.mean(dim=0), x.std(dim=0), 0.25

    def forward(self, x: Tensor) -> Tensor:
        return self.head((1 - (x - self.mean.view(1, -1)) / self.std) + self.lift)


def test_inputs_fitted_after_the_first_trace_are_bounded_as_they_are_now() -> None:
    torch.manual_seed(3)
    net, x = Fitted(), torch.rand(20, 4) * 0.1 + 0.4
    chain_of(net)
    factories.prepare(net, x)
    chain = chain_of(net)
    torch.testing.assert_close(chain.last(propagate(chain, Box(x, x)).box.low), net(x))


def test_a_chain_follows_weights_that_are_loaded_later() -> None:
    torch.manual_seed(3)
    net, other, x = Fitted(), Fitted(), torch.rand(20, 4)
    chain = chain_of(net)
    factories.prepare(other, x)
    other.lift = 0.0
    net.load_state_dict(other.state_dict())
    torch.testing.assert_close(chain.last(propagate(chain, Box(x, x)).box.low), other(x))


class Worded(nn.Module):
    """One operation before the logits."""

    def __init__(self, first: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.head = first, nn.Linear(4, 2)
        self.register_buffer("c", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x, self.c))


@pytest.mark.parametrize(
    ("first", "says"),
    [
        (lambda x, c: torch.add(x, c, alpha=2), "add with alpha"),
        (lambda x, c: x.sub(c, alpha=2), "sub with alpha"),
        (lambda x, c: torch.div(x, c, rounding_mode="floor"), "truediv with rounding_mode"),
        (lambda x, c: torch.flatten(x, 1, end_dim=2), "flatten with end_dim"),
        (lambda x, c: torch.mul(x, other=c), "mul with other"),
        (lambda x, c: F.dropout(x), "dropout that is never off"),
        (lambda x, c: (F.relu(x, inplace=True), x)[1], "relu in place, its result unused"),
    ],
)
def test_what_would_be_passed_over_is_refused_by_name(
    first: Callable[[Tensor, Tensor], Tensor], says: str
) -> None:
    with pytest.raises(TrainingError, match=says):
        chain_of(Worded(first).eval())


@pytest.mark.parametrize(
    "first",
    [
        lambda x, c: F.relu(x, inplace=True),
        lambda x, c: F.dropout(x, 0.5, training=False),
        lambda x, c: c - x,
        lambda x, c: torch.div(x, c + 1),
    ],
)
def test_words_that_change_no_value_are_taken(first: Callable[[Tensor, Tensor], Tensor]) -> None:
    net, x = Worded(first).eval(), torch.rand(5, 4) - 0.5
    chain = chain_of(net)
    torch.testing.assert_close(chain.last(propagate(chain, Box(x, x)).box.high), net(x.clone()))


def test_boxes_hold_every_point_inside() -> None:
    torch.manual_seed(2)
    net = factories.build(factories.spec_for(IMAGE, 3)).double()
    x = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    box = Box((x - 0.1).clamp(0, 1), (x + 0.1).clamp(0, 1))
    chain = chain_of(net)
    passed = pass_layers(chain, box)
    for _ in range(50):
        point = box.low + torch.rand_like(x) * (box.high - box.low)
        inner = pass_layers(chain, Box(point, point)).box.low
        assert bool((inner >= passed.box.low - 1e-12).all())
        assert bool((inner <= passed.box.high + 1e-12).all())
