"""From a torch net to an ONNX graph that takes raw inputs and gives logits and features."""

import logging
import warnings
from collections.abc import Mapping

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from models.errors import TrainingError
from models.runner import session
from models.schema import DTYPES, InputArray, InputSchema

OPSET = 18
TOLERANCE = 1e-4


class _Raw(nn.Module):
    """The net behind its input schema: raw values in, (logits, features) out."""

    def __init__(self, net: nn.Module, schema: InputSchema) -> None:
        super().__init__()
        self.net = net
        self.low, self.span = schema.low, schema.high - schema.low

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = self.net((x.float() - self.low) / self.span)
        return logits, features


def to_onnx(net: nn.Module, schema: InputSchema) -> onnx.ModelProto:
    """Export `net`; the graph has the input of the schema, outputs `logits` and `features`.

    Raises:
        TrainingError: torch cannot export the net.
    """
    example = torch.zeros(
        (2, *schema.shape), dtype=torch.from_numpy(np.zeros(1, DTYPES[schema.dtype])).dtype
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # It tells of every torchvision operator that is not installed; none is used.
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            program = torch.onnx.export(
                _Raw(net, schema).eval(),
                (example,),
                input_names=[schema.name],
                output_names=["logits", "features"],
                opset_version=OPSET,
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                dynamo=True,
                verbose=False,
            )
        assert program is not None
    except Exception as error:  # the exporter raises many unrelated classes
        raise TrainingError(f"torch cannot export the net to ONNX: {error}") from error
    model: onnx.ModelProto = program.model_proto
    onnx.checker.check_model(model)
    return model


def parity(net: nn.Module, model: onnx.ModelProto, schema: InputSchema, x: InputArray) -> float:
    """Largest |torch - onnxruntime| over the logits of raw inputs `x` `(N, *shape)`."""
    (logits,) = session(model.SerializeToString()).run(["logits"], {schema.name: x})
    with torch.no_grad():
        expected = net.eval()(torch.from_numpy(schema.to_unit(x)))[0].numpy()
    return float(np.abs(logits - expected).max())


def weights_bytes(net: nn.Module) -> bytes:
    """The state of the net as safetensors."""
    from safetensors.torch import save

    return bytes(save({k: v.contiguous() for k, v in net.state_dict().items()}))


def load_weights(net: nn.Module, data: bytes) -> nn.Module:
    """Put a state from `weights_bytes` into a net of the same shape."""
    from safetensors.torch import load

    state: Mapping[str, Tensor] = load(data)
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise TrainingError(f"the weights do not fit the net: {error}") from error
    return net.eval()
