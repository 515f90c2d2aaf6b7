"""A net as a chain of layers that interval bounds can pass.

A net may have a part that stands before the chain: `encode`, which treats every value of a row for
itself and never falls where the value rises (imputation, scaling, one-hot coding of a table). The
bounds of its output are then the outputs at both ends. Such a net has `decide` for the rest.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from models.base.errors import TrainingError

SUPPORTED = (
    "Conv2d, Linear, ReLU, Flatten, Dropout, Identity, AvgPool2d, MaxPool2d, and adding, "
    "subtracting, multiplying and dividing by constants"
)


@dataclass(frozen=True)
class Scale:
    """x -> factor x + shift, with a constant that fits every row.

    It keeps the net's own tensor and is worked out at every use: weights that are loaded, or inputs
    that are fitted in place, later than the trace count.

    Args:
        kind: `add`, `sub`, `mul`, `truediv`, or `rsub`: constant - x.
        constant: what it is done with.
    """

    kind: str
    constant: Tensor

    @property
    def factor(self) -> Tensor:
        """In float64; 1 where x is only moved."""
        held = self.constant.detach().double()
        found = {"mul": held, "truediv": 1 / held, "rsub": -torch.ones_like(held)}
        return found.get(self.kind, torch.ones_like(held))

    @property
    def shift(self) -> Tensor:
        """In float64; 0 where x is only multiplied."""
        held = self.constant.detach().double()
        found = {"add": held, "sub": -held, "rsub": held}
        return found.get(self.kind, torch.zeros_like(held))


@dataclass(frozen=True)
class Relu:
    """x -> max(x, 0)."""


@dataclass(frozen=True)
class Flat:
    """`(N, ...)` to `(N, D)`."""


Linear = nn.Linear | nn.Conv2d
Layer = Linear | nn.AvgPool2d | nn.MaxPool2d | Scale | Relu | Flat


@dataclass(frozen=True)
class Chain:
    """The layers of a net up to its logits; the last is linear.

    Args:
        encode: unit-range rows to the input of the first layer, rising in every value.
        layers: in order, with the net's own modules, so that they follow its training.
    """

    encode: Callable[[Tensor], Tensor]
    layers: tuple[Layer, ...]
    has_encoder: bool = False

    @property
    def body(self) -> tuple[Layer, ...]:
        """All but the last layer."""
        return self.layers[:-1]

    @property
    def last(self) -> nn.Linear:
        """The layer that gives the logits."""
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        return last


def chain_of(net: nn.Module) -> Chain:
    """The layers of a net as it stands, found by tracing its `forward`.

    What `forward` makes of the net's values (`mean.view(-1, 1, 1)`, a Python number) is as it was
    then: trace once more after inputs were fitted, weights loaded, or the mode was changed.

    Args:
        net: gives logits, or a pair of logits and features, of unit-range inputs.

    Raises:
        TrainingError: it has parts that interval bounds cannot pass; all of them are listed.
    """
    tracer, encode = fx.Tracer(), getattr(net, "encode", None)
    if encode is not None:
        tracer.traced_func_name = "decide"
    try:
        graph = tracer.trace(net)
    except Exception as error:  # a forward that depends on values; torch raises many classes
        raise TrainingError(
            f"certified training cannot follow the net: {error}; it takes a plain chain of layers "
            f"({SUPPORTED})"
        ) from error
    reader = _Reader(net, dict(net.named_modules()))
    layers = reader.read(graph)
    if not layers or not isinstance(layers[-1], nn.Linear):
        reader.faults.append("no Linear layer that gives the logits")
    if reader.faults:
        raise TrainingError(
            f"certified training cannot bound: {'; '.join(dict.fromkeys(reader.faults))}. "
            f"It takes one chain of {SUPPORTED}"
        )
    return Chain(encode or (lambda x: x), tuple(layers), encode is not None)


class _Reader:
    """Reads the nodes of a traced net from the input to the logits; collects what does not fit."""

    def __init__(self, net: nn.Module, modules: Mapping[str, nn.Module]) -> None:
        self._net, self._modules = net, modules
        self.faults: list[str] = []

    def read(self, graph: fx.Graph) -> list[Layer]:
        nodes = list(graph.nodes)
        answer = nodes[-1].args[0]
        logits = answer[0] if isinstance(answer, (tuple, list)) else answer
        path, node = [], logits
        while isinstance(node, fx.Node) and node.op != "placeholder":
            path.append(node)
            node = self._before(node)
        for beside in (node for node in nodes if node not in path and self._writes(node)):
            self.faults.append(f"{_name(beside)} in place, its result unused")
        layers = [self._layer(node) for node in reversed(path)]
        return [layer for layer in layers if layer is not None]

    def _before(self, node: fx.Node) -> fx.Node | None:
        """The node that a node's values come from; constants do not count."""
        inputs = [n for n in node.all_input_nodes if n.op != "get_attr"]
        if len(inputs) > 1:
            self.faults.append(f"{_name(node)} of several tensors")
        return inputs[0] if inputs else None

    def _writes(self, node: fx.Node) -> bool:
        """Whether a node changes its input, which others see without coming after it."""
        if node.op == "call_module":
            return bool(getattr(self._modules[str(node.target)], "inplace", False))
        if node.op not in ("call_method", "call_function"):
            return False
        named = _name(node).endswith("_") and not _name(node).endswith("__")
        return named or bool(node.kwargs.get("inplace")) or "out" in node.kwargs

    def _layer(self, node: fx.Node) -> Layer | None:
        name = _name(node)
        unread = set(node.kwargs) - _HARMLESS.get(name, set())
        if unread:  # alpha, rounding_mode, end_dim: none may be passed over
            self.faults.append(f"{name} with {', '.join(sorted(unread))}")
            return None
        if node.op == "call_module":
            return self._module(str(node.target))
        if name in ("relu", "relu_"):
            return Relu()
        if name == "flatten" and tuple(node.args[1:]) in ((1,), (1, -1)):
            return Flat()
        if name == "dropout" and node.kwargs.get("training") and not self._net.training:
            name = "dropout that is never off"
        if name in ("dropout", "contiguous"):
            return None
        if name in _ARITHMETIC and len(node.args) == 2:
            return self._scale(node, name)
        self.faults.append(name)
        return None

    def _module(self, target: str) -> Layer | None:
        module = self._modules[target]
        kind = type(module)
        if kind in (nn.Dropout, nn.Dropout2d, nn.Identity):
            return None
        if kind is nn.ReLU:
            return Relu()
        if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
            return Flat()
        plain_conv = isinstance(module, nn.Conv2d) and module.padding_mode == "zeros"
        if kind is nn.Linear or (kind is nn.Conv2d and plain_conv) or _is_plain_pool(module):
            return module  # type: ignore[return-value]
        self.faults.append(f"{kind.__name__} ({target})")
        return None

    def _scale(self, node: fx.Node, name: str) -> Layer | None:
        left, right = (self._constant(arg) for arg in node.args)
        if left is None and right is not None:
            return Scale(name, right)
        if left is not None and right is None and name in _TURNED:
            return Scale(_TURNED[name], left)
        self.faults.append(f"{name} of two tensors" if left is None else name)
        return None

    def _constant(self, value: Any) -> Tensor | None:
        if isinstance(value, (int, float)):
            return torch.tensor(float(value))
        if isinstance(value, fx.Node) and value.op == "get_attr":
            found: Any = self._net
            for part in str(value.target).split("."):
                found = getattr(found, part)
            if isinstance(found, Tensor) and not found.requires_grad:
                return found
        return None


_ARITHMETIC = ("add", "sub", "mul", "truediv")
_TURNED = {"add": "add", "mul": "mul", "sub": "rsub"}  # the constant on the left
_HARMLESS = {  # keyword arguments that change no value, or are looked at
    "relu": {"inplace"},
    "dropout": {"p", "training", "inplace"},
    "contiguous": {"memory_format"},
}


def _is_plain_pool(module: nn.Module) -> bool:
    if type(module) is nn.AvgPool2d:
        return not module.padding and not module.ceil_mode and module.divisor_override is None
    return type(module) is nn.MaxPool2d and not module.ceil_mode and not module.return_indices


def _name(node: fx.Node) -> str:
    target: Any = node.target
    aliases: dict[Any, str] = {F.relu: "relu", operator.truediv: "truediv", torch.div: "truediv"}
    if target in aliases:
        return aliases[target]
    return target if isinstance(target, str) else str(getattr(target, "__name__", target))
