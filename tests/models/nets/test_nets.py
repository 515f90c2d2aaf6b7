"""Laws of the nets: any small image fits, logits follow from features, wrong words are errors."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.base.errors import TrainingError
from models.nets.catalogue import CATALOGUE, default_net
from models.nets.factories import NetSpec, build, prepare, spec_for
from models.versions.schema import Column, InputSchema

SMALL: dict[str, Any] = {"shape": [1, 8, 8], "classes": 3, "widths": [4, 6], "hidden": 5}


@settings(max_examples=20)
@given(
    st.tuples(st.integers(1, 3), st.integers(2, 13), st.integers(2, 13)),
    st.integers(2, 5),
    st.integers(1, 4),
    st.booleans(),
)
def test_any_small_image_gives_logits_and_features(
    shape: tuple[int, int, int], classes: int, rows: int, batch_norm: bool
) -> None:
    kwargs = SMALL | {"shape": list(shape), "classes": classes, "batch_norm": batch_norm}
    net = build(NetSpec("small_conv", kwargs)).eval()
    with torch.no_grad():
        logits, features = net(torch.rand(rows, *shape))
        assert logits.shape == (rows, classes)
        assert features.shape == (rows, 5)
        assert features.min() >= 0
        torch.testing.assert_close(net.head(features), logits)


def test_dropout_acts_in_training_only() -> None:
    net, x = build(NetSpec("small_conv", SMALL | {"dropout": 0.5})), torch.rand(4, 1, 8, 8)
    net.train()
    assert not torch.equal(net(x)[0], net(x)[0])
    net.eval()
    assert torch.equal(net(x)[0], net(x)[0])


def test_normalisation_is_part_of_the_net() -> None:
    torch.manual_seed(0)
    plain = build(NetSpec("small_conv", SMALL)).eval()
    scaled = build(NetSpec("small_conv", SMALL | {"mean": 0.4, "std": 0.2})).eval()
    scaled.load_state_dict(plain.state_dict())
    x = torch.rand(4, 1, 8, 8)
    torch.testing.assert_close(scaled(x)[0], plain((x - 0.4) / 0.2)[0])


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (NetSpec("transformer", {}), "unknown net 'transformer'; known: auto, small_conv"),
        (NetSpec("small_conv", {}), "missing 2 required"),
        (NetSpec("small_conv", SMALL | {"depth": 3}), "unexpected keyword argument 'depth'"),
        (NetSpec("small_conv", SMALL | {"shape": [64]}), "small_conv"),
        (NetSpec("small_conv", SMALL | {"shape": "1x8x8"}), "small_conv"),
        (NetSpec("small_conv", SMALL | {"dropout": 1.5}), "dropout"),
        (NetSpec("small_conv", SMALL | {"hidden": -1}), "small_conv"),
    ],
)
def test_what_builds_no_net_is_an_error_with_its_name(spec: NetSpec, says: str) -> None:
    with pytest.raises(TrainingError, match=says):
        build(spec)


IMAGES = InputSchema("input", (3, 32, 32), "uint8", 0, 255, "image")
TABLE = InputSchema(
    "input", (4,), "float32", 0, 1, "tabular",
    (
        Column("age", low=0, high=100, missing=True),
        Column("colour", "categorical", categories=("blue", "red")),
        Column("weight", low=1, high=3),
        Column("size", "categorical", categories=("l", "m", "s"), missing=True),
    ),
)  # fmt: skip


def test_named_nets_have_the_sizes_that_are_published() -> None:
    def parameters(net: Any) -> int:
        return sum(p.numel() for p in net.parameters())

    eighteen = build(spec_for(IMAGES, 10, "resnet18"))
    assert 11.1e6 < parameters(eighteen) < 11.3e6  # He et al. 2016: 11.17 million
    assert 0.6e6 < parameters(build(spec_for(IMAGES, 10, "resnet_narrow"))) < 0.8e6


@settings(max_examples=10)
@given(st.tuples(st.integers(1, 3), st.integers(4, 40), st.integers(4, 40)), st.integers(2, 5))
def test_residual_nets_take_any_image_and_give_features(
    shape: tuple[int, int, int], classes: int
) -> None:
    spec = NetSpec("resnet18", {"shape": list(shape), "classes": classes, "width": 4})
    net = build(spec).eval()
    with torch.no_grad():
        logits, features = net(torch.rand(2, *shape))
    assert (logits.shape, features.shape) == ((2, classes), (2, 32))


def test_statistics_of_the_training_rows_are_taken_once_and_travel_with_the_weights() -> None:
    net = build(spec_for(IMAGES, 10, "resnet_narrow"))
    prepare(net, 0.2 + 0.1 * torch.rand(50, 3, 32, 32))
    first = net.mean.clone()
    assert (first - 0.25).abs().max() < 0.01
    prepare(net, torch.ones(50, 3, 32, 32))
    assert torch.equal(net.mean, first)
    other = build(spec_for(IMAGES, 10, "resnet_narrow"))
    other.load_state_dict(net.state_dict())
    prepare(other, torch.ones(50, 3, 32, 32))
    assert torch.equal(other.mean, first)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_net_of_the_catalogue_answers_rows_one_by_one_as_together(name: str) -> None:
    """The battery of nets: shapes, a feature layer before the head, gradients, its state."""
    record = CATALOGUE[name]
    schema = TABLE if record.kind == "tabular" else IMAGES
    options = {"dropout": 0.2, "batch_norm": True}
    spec = spec_for(schema, 3, name, **options)
    assert spec.factory == name
    torch.manual_seed(0)
    net = build(spec)
    x = torch.rand(4, *schema.shape)
    prepare(net, x)
    net.train()(x)[0].sum().backward()
    gradients = [p.grad for p in net.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    logits, features = net.eval()(x)
    assert (logits.shape, features.shape[0], features.dim()) == ((4, 3), 4, 2)
    torch.testing.assert_close(net.head(features), logits)
    alone = torch.cat([net(row[None])[0] for row in x])
    torch.testing.assert_close(alone, logits, atol=1e-5, rtol=1e-4)
    again = build(msgspec.json.decode(msgspec.json.encode(spec), type=NetSpec)).eval()
    again.load_state_dict(net.state_dict())
    torch.testing.assert_close(again(x)[0], logits)


def test_every_kind_and_size_of_input_has_one_default_net() -> None:
    shapes = [(c, side, side) for c in (1, 2, 3, 4) for side in (1, 8, 23, 24, 224)]
    schemas = [InputSchema("input", shape, "uint8", 0, 255, "image") for shape in shapes]
    for schema in (TABLE, *schemas):
        chosen = [n for n in CATALOGUE.values() if n.kind == schema.kind and n.default(schema)]
        assert chosen == [default_net(schema)]


def test_auto_chooses_by_kind_and_size() -> None:
    small = InputSchema("input", (1, 8, 8), "float32", 0, 16, "image")
    mnist = InputSchema("input", (1, 28, 28), "uint8", 0, 255, "image")
    assert spec_for(small, 10) == spec_for(small, 10, "small_conv")
    assert spec_for(mnist, 10) == spec_for(mnist, 10, "conv4")
    assert spec_for(IMAGES, 10) == spec_for(IMAGES, 10, "resnet_narrow")
    assert spec_for(TABLE, 2) == spec_for(TABLE, 2, "mlp")
    with pytest.raises(TrainingError, match="'mlp' does not take image input"):
        spec_for(IMAGES, 10, "mlp")
    with pytest.raises(TrainingError, match="unknown net 'vgg'; known: auto, small_conv"):
        spec_for(IMAGES, 10, "vgg")


def table_net() -> Any:
    torch.manual_seed(0)
    net = build(spec_for(TABLE, 2)).eval()
    prepare(net, torch.tensor([[0.1, 0, 0.2, 1], [0.5, 1, 0.4, 0], [float("nan"), 1, 0.9, 2]]))
    return net


def test_table_net_answers_whatever_a_row_holds_with_finite_numbers() -> None:
    nan, net = float("nan"), table_net()
    rows = torch.tensor(
        [[0.3, 1, 0.5, 2], [nan, -1, 0.5, nan], [1e30, 0, -1e30, -1], [-1e38, 1, 1e38, 0]]
    )
    logits, features = net(rows)
    assert torch.isfinite(logits).all()
    assert torch.isfinite(features).all()


def test_table_net_tells_missing_from_the_median_and_unseen_from_seen() -> None:
    net, nan = table_net(), float("nan")
    assert net.median[0] == pytest.approx(0.1)  # torch's nanmedian is the lower of the two
    told, filled = net(torch.tensor([[nan, 1, 0.5, 2], [float(net.median[0]), 1, 0.5, 2]]))[0]
    assert not torch.allclose(told, filled)
    logits = net(torch.tensor([[0.3, code, 0.5, 2] for code in (-1.0, 0.0, 1.0)]))[0]
    assert len({tuple(row.tolist()) for row in logits}) == 3


MODULE = """
import torch
from torch import nn

class Own(nn.Module):
    def __init__(self, shape, classes, width=7):
        super().__init__()
        self.first = nn.Linear(shape[0] * shape[1] * shape[2], width)
        self.last = nn.Linear(width, classes)
    def forward(self, x):
        return self.last(torch.relu(self.first(x.flatten(1))))

class Pair(Own):
    def forward(self, x):
        features = torch.relu(self.first(x.flatten(1)))
        return self.last(features), features

class Twice(Own):
    def forward(self, x):
        return self.last(torch.relu(self.first(x.flatten(1)))) * 2

def raises(shape, classes):
    raise KeyError("no such thing")

def wrong(shape, classes):
    return Own(shape, classes + 1)

def crashes(shape, classes):
    return nn.Linear(3, classes)

def nothing(shape, classes):
    return "net"

def fixed():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))

def frozen(shape, classes):
    return Own(shape, classes).requires_grad_(False)
"""


@pytest.fixture
def own_nets(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of a user's, in the working directory; its name."""
    import sys

    name = f"own_nets_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


@pytest.mark.parametrize(
    ("factory", "width"), [("Own", 7), ("Pair", 7), ("Twice", 3), ("fixed", 64)]
)
def test_nets_of_the_user_give_features_where_they_can(
    factory: str, width: int, own_nets: str
) -> None:
    schema = InputSchema("input", (1, 8, 8), "float32", 0, 1, "image")
    torch.manual_seed(0)
    net = build(spec_for(schema, 3, f"{own_nets}:{factory}")).eval()
    logits, features = net(torch.rand(5, 1, 8, 8))
    assert (logits.shape, features.shape) == ((5, 3), (5, width))
    again = build(spec_for(schema, 3, f"{own_nets}:{factory}"))
    again.load_state_dict(net.state_dict())


def test_options_reach_a_net_of_the_user(own_nets: str) -> None:
    schema = InputSchema("input", (1, 8, 8), "float32", 0, 1, "image")
    net = build(spec_for(schema, 3, f"{own_nets}:Own", width=9)).eval()
    assert net(torch.rand(2, 1, 8, 8))[1].shape == (2, 9)


@pytest.mark.parametrize(
    ("factory", "says"),
    [
        ("raises", "the factory raised KeyError: 'no such thing'"),
        ("wrong", r"expected logits of shape \[2, 3\] .*, got \[2, 4\]"),
        ("crashes", r"forward of a batch \[2, 1, 8, 8\] in \[0, 1\] raised RuntimeError"),
        ("nothing", "expected a torch.nn.Module, got str"),
        ("frozen", "no parameters that could be trained"),
        ("missing", "cannot be found: module .* has no attribute 'missing'"),
    ],
)
def test_nets_of_the_user_that_fail_are_an_error_with_their_name(
    factory: str, says: str, own_nets: str
) -> None:
    schema = InputSchema("input", (1, 8, 8), "float32", 0, 1, "image")
    with pytest.raises(TrainingError, match=says):
        build(spec_for(schema, 3, f"{own_nets}:{factory}"))


def test_a_module_of_the_user_that_raises_is_an_error_with_its_name(
    own_nets: str, tmp_path: Path
) -> None:
    (tmp_path / f"{own_nets}_broken.py").write_text("no_such_name")
    schema = InputSchema("input", (1, 8, 8), "float32", 0, 1, "image")
    with pytest.raises(TrainingError, match="_broken:f': its module raised NameError: name 'no_"):
        build(spec_for(schema, 3, f"{own_nets}_broken:f"))


def test_module_that_is_not_there_is_an_error() -> None:
    with pytest.raises(TrainingError, match=r"cannot be found: there is no nowhere\.py in "):
        build(spec_for(IMAGES, 10, "nowhere:net"))
