"""Laws of the export: the graph answers raw inputs as torch does, for every batch and type."""

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from models.base.errors import TrainingError
from models.data import DataSet
from models.nets import factories
from models.nets.export import OPSET, TOLERANCE, load_weights, parity, to_onnx, weights_bytes
from models.versions.runner import session
from models.versions.schema import Column, InputSchema
from tests import bundles
from tests.conftest import Published

GREY = InputSchema("image", (1, 8, 8), "uint8", 0.0, 255.0, "image")
SPEC = factories.NetSpec(
    "small_conv",
    {
        "shape": [1, 8, 8],
        "classes": 10,
        "batch_norm": True,
        "dropout": 0.3,
        "mean": 0.3,
        "std": 0.4,
    },
)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """A net whose batch norms have seen something."""
    torch.manual_seed(0)
    net = factories.build(SPEC).train()
    for _ in range(5):
        net(torch.rand(32, 1, 8, 8))
    return net.eval()


@pytest.fixture(scope="module")
def grey(net: nn.Module) -> onnx.ModelProto:
    """Its graph for bytes."""
    return to_onnx(net, GREY)


@pytest.mark.parametrize("rows", [1, 2, 300])
def test_graph_of_bytes_equals_torch_for_any_batch(
    rows: int, net: nn.Module, grey: onnx.ModelProto
) -> None:
    x = np.random.default_rng(rows).integers(0, 256, (rows, 1, 8, 8), dtype=np.uint8)
    assert parity(net, grey, GREY, x) <= TOLERANCE
    logits, features = session(grey.SerializeToString()).run(None, {"image": x})
    assert logits.shape == (rows, 10)
    assert features.shape == (rows, 128)


def test_graph_of_the_trained_net_equals_torch_on_raw_inputs(
    published: Published, digits: DataSet
) -> None:
    plain = to_onnx(published.net, digits.schema)
    for x in (digits.test.x, digits.test.x[:1], digits.train.x[:300]):
        assert parity(published.net, plain, digits.schema, x) <= TOLERANCE
    assert published.bundle.manifest.training.parity <= TOLERANCE


def test_parity_sees_other_weights(net: nn.Module, grey: onnx.ModelProto) -> None:
    other = load_weights(factories.build(SPEC), weights_bytes(net))
    with torch.no_grad():
        other.head.bias[3] += 1e-2
    x = np.zeros((2, 1, 8, 8), dtype=np.uint8)
    assert parity(other, grey, GREY, x) == pytest.approx(1e-2, rel=0.02)


def test_graph_declares_its_contract(grey: onnx.ModelProto) -> None:
    (given,) = grey.graph.input
    dims = given.type.tensor_type.shape.dim
    assert given.name == "image"
    assert given.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [d.dim_value for d in dims[1:]] == [1, 8, 8]
    assert dims[0].dim_param
    assert [o.name for o in grey.graph.output] == ["logits", "features"]
    assert {o.domain: o.version for o in grey.opset_import}[""] == OPSET


def test_weights_survive_and_fit_only_their_own_net(net: nn.Module) -> None:
    data = weights_bytes(net)
    again = load_weights(factories.build(SPEC), data)
    for name, tensor in net.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    assert not again.training
    narrow = factories.NetSpec("small_conv", SPEC.kwargs | {"hidden": 64})
    with pytest.raises(TrainingError, match="do not fit the net"):
        load_weights(factories.build(narrow), data)


class Branching(nn.Module):
    """Not exportable: its shape depends on the values."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = x.flatten(1)
        return (features, features) if features.sum() > 0 else (-features, features)


def test_net_that_cannot_be_exported_is_an_error_of_training() -> None:
    with pytest.raises(TrainingError, match="cannot export the net to ONNX"):
        to_onnx(Branching(), GREY)


def test_graph_of_a_table_takes_raw_rows_with_gaps_and_other_categories() -> None:
    data = bundles.table()
    torch.manual_seed(0)
    net = factories.build(factories.spec_for(data.schema, 3))
    factories.prepare(net, torch.from_numpy(data.schema.to_unit(data.train.x)))
    plain = to_onnx(net.eval(), data.schema)
    strange = np.repeat(data.test.x[:1], 6, axis=0)
    strange[range(5), [8, 9, 10, 11, 0]] = [np.nan, np.nan, -1, np.nan, 1e30]
    strange[5, 1] = -1e30
    for x in (data.test.x, data.test.x[:1], strange):
        assert parity(net, plain, data.schema, x) <= TOLERANCE
    told = session(plain.SerializeToString()).run(None, {"row": strange})
    assert all(np.isfinite(output).all() for output in told)
    (given,) = plain.graph.input
    assert [d.dim_value for d in given.type.tensor_type.shape.dim[1:]] == [12]


def test_range_per_column_is_part_of_the_graph() -> None:
    columns = (Column("a", low=-5.0, high=5.0), Column("b", "categorical", categories=("x", "y")))
    schema = InputSchema("row", (2,), "float32", 0.0, 1.0, "tabular", columns)

    class Same(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x + 0, x * 1

    x = np.array([[-5, 0], [0, 1], [5, -1], [10, np.nan]], np.float32)
    logits, _ = session(to_onnx(Same(), schema).SerializeToString()).run(None, {"row": x})
    np.testing.assert_allclose(logits, [[0, 0], [0.5, 1], [1, -1], [1.5, np.nan]])
