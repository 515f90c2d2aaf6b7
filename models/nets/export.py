"""From a torch net to an ONNX graph that takes raw inputs and gives logits and features."""

import logging
import warnings
from collections.abc import Mapping

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from models.base.errors import TrainingError
from models.versions.runner import session
from models.versions.schema import DTYPES, InputArray, InputSchema

OPSET = 18
TOLERANCE = 1e-4
CHUNK = 256


class _Raw(nn.Module):
    """The net behind its input schema: raw values in, (logits, features) out.

    Missing values (NaN) of a table pass the scaling; the net knows what to do with them.
    """

    offset: Tensor
    span: Tensor

    def __init__(self, net: nn.Module, schema: InputSchema, clip: bool) -> None:
        super().__init__()
        self.net, self.clip = net, clip
        self.register_buffer("offset", torch.tensor(schema.offset))
        self.register_buffer("span", torch.tensor(schema.span))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x_unit = (x.float() - self.offset) / self.span
        logits, features = self.net(x_unit.clamp(0, 1) if self.clip else x_unit)
        return logits, features


class _Encoder(nn.Module):
    """The part of a net that stands before its first layer."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x_unit: Tensor) -> Tensor:
        encoded: Tensor = self.net.encode(x_unit)  # type: ignore[operator]
        return encoded


def to_onnx(net: nn.Module, schema: InputSchema, *, clip: bool = False) -> onnx.ModelProto:
    """Export `net`; the graph has the input of the schema, outputs `logits` and `features`.

    Args:
        net: on unit-range inputs.
        schema: of the raw inputs.
        clip: whether the unit range is enforced: for what is proven of images.

    Raises:
        TrainingError: torch cannot export the net.
    """
    valid = np.broadcast_to(schema.offset, (2, *schema.shape))
    example = torch.from_numpy(valid.astype(DTYPES[schema.dtype]))
    names = ["logits", "features"]
    return _export(_Raw(net, schema, clip), example, schema.name, names)


def encoder_to_onnx(net: nn.Module, schema: InputSchema) -> onnx.ModelProto | None:
    """What a net does to unit-range rows before its first layer; None where it has no such part."""
    if getattr(net, "encode", None) is None:
        return None
    return _export(_Encoder(net), torch.zeros(2, *schema.shape), "x_unit", ["encoded"])


def _export(module: nn.Module, example: Tensor, given: str, answers: list[str]) -> onnx.ModelProto:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # It tells of every torchvision operator that is not installed; none is used.
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            program = torch.onnx.export(
                module.eval(),
                (example,),
                input_names=[given],
                output_names=answers,
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
    runner, differences = session(model.SerializeToString()), []
    for start in range(0, len(x), CHUNK):
        part = x[start : start + CHUNK]
        (logits,) = runner.run(["logits"], {schema.name: part})
        with torch.no_grad():
            expected = net.eval()(torch.from_numpy(schema.to_unit(part)))[0].numpy()
        differences.append(np.abs(logits - expected).max())
    return float(np.max(differences))


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
