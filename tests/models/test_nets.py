"""Laws of the nets: any small image fits, logits follow from features, wrong words are errors."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import TrainingError
from models.nets import NetSpec, build

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
        (NetSpec("resnet", {}), "unknown net 'resnet'; known: small_conv"),
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
