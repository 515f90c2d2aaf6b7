"""Networks on unit-range inputs: `forward` gives logits and features in one pass.

Normalisation, imputation and one-hot coding are inside the net, so whatever attacks or exports it
sees `InputSchema.to_unit` values. Statistics of the training rows are buffers that
`prepare` sets once; they travel with the weights.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from models.base.errors import TrainingError
from models.nets.files import load_factory, locate
from models.nets.resnet import PreActResNet
from models.nets.table_net import TableMLP
from models.versions.schema import InputSchema


class NetSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """How to rebuild a net: the name of a factory (or `module:factory`) and its arguments."""

    factory: str
    kwargs: dict[str, Any]
    folder: str | None = None  # of a module of the user's; see `models.nets.files`


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


class FromUser(nn.Module):
    """A module that gives logits alone, with features where they can be had.

    If the last linear layer is what gives the logits, its input is the features: the layer is
    taken out of the net and put behind it. Elsewhere the logits stand for the features.
    """

    def __init__(self, net: nn.Module, example: Tensor) -> None:
        super().__init__()
        self.net, self.head = net, nn.Identity()
        training = net.training
        with torch.no_grad():
            logits = net.eval()(example)
            path = [name for name, m in net.named_modules() if isinstance(m, nn.Linear) and name]
            if path:
                self._split(path[-1], example, logits)
        self.train(training)

    def forward(self, x_unit: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and features."""
        features = self.net(x_unit)
        return self.head(features), features

    def _split(self, path: str, example: Tensor, logits: Tensor) -> None:
        parent_name, _, name = path.rpartition(".")
        parent = self.net.get_submodule(parent_name)
        layer = getattr(parent, name)
        setattr(parent, name, nn.Identity())
        features = self.net(example)
        try:
            same = features.dim() == 2 and torch.equal(layer(features), logits)
        except RuntimeError:  # the shapes do not even fit: the layer stands elsewhere
            same = False
        if same:
            self.head = layer
        else:
            setattr(parent, name, layer)


FACTORIES: dict[str, Callable[..., nn.Module]] = {
    "small_conv": SmallConv,
    "resnet": PreActResNet,
    "table_mlp": TableMLP,
}
NAMED: dict[str, tuple[str, dict[str, Any]]] = {  # what `--net` knows: factory and arguments
    "small_conv": ("small_conv", {}),
    "conv4": ("small_conv", {"widths": [32, 32, 64, 64]}),
    "resnet18": ("resnet", {"width": 64}),
    "resnet_narrow": ("resnet", {"width": 16}),
    "mlp": ("table_mlp", {}),
}
AUTO_CONV4 = 24  # pixels a side from which four convolutions are the default


def spec_for(schema: InputSchema, classes: int, name: str = "auto", **options: Any) -> NetSpec:
    """The spec of a named net (or `module:factory`) for inputs of `schema`.

    Args:
        schema: what the net takes.
        classes: how many classes it tells apart.
        name: one of `NAMED`, `module:factory` (a module of the working directory, or one that is
            installed), `file.py:factory`, or `auto`: by the kind and size of the input.
        options: further arguments of the factory, such as `dropout` and `batch_norm`.

    Raises:
        TrainingError: an unknown name, or a net for another kind of input.
    """
    if name == "auto":
        if schema.kind == "tabular":
            name = "mlp"
        elif schema.shape[0] == 3:
            name = "resnet_narrow"
        else:
            name = "conv4" if min(schema.shape[1:]) >= AUTO_CONV4 else "small_conv"
    common: dict[str, Any] = {"shape": list(schema.shape), "classes": classes}
    if ":" in name:
        factory, folder = locate(name, Path.cwd())
        return NetSpec(factory, common | {k: v for k, v in options.items() if v}, folder)
    if name not in NAMED:
        raise TrainingError(
            f"unknown net {name!r}; known: auto, {', '.join(NAMED)}, or module:factory of your own"
        )
    if (name == "mlp") != (schema.kind == "tabular"):
        raise TrainingError(f"net {name!r} does not take {schema.kind} input; try --net auto")
    factory, arguments = NAMED[name]
    if name == "mlp":
        arguments = {"columns": TableMLP.columns_of(schema)}
    return NetSpec(factory, common | arguments | options)


def build(spec: NetSpec) -> nn.Module:
    """A fresh net. Raises TrainingError for an unknown factory or unfit arguments."""
    if ":" in spec.factory:
        return _from_user(spec)
    if spec.factory not in FACTORIES:
        known = ", ".join(FACTORIES)
        raise TrainingError(f"unknown net {spec.factory!r}; known: {known}, or module:factory")
    try:
        return FACTORIES[spec.factory](**spec.kwargs)
    except (TypeError, ValueError, RuntimeError) as error:  # torch raises all three
        raise TrainingError(f"net {spec.factory!r}: {error}") from error


def prepare(net: nn.Module, x_unit: Tensor) -> None:
    """Let a net that normalises by its training rows `(N, *shape)` see them, once."""
    fit = getattr(net, "fit_inputs", None)
    if fit is not None:
        fit(x_unit)


def _from_user(spec: NetSpec) -> nn.Module:
    """Call `module:factory` and check what it gives."""
    factory = load_factory(spec.factory, spec.folder)
    shape, classes = tuple(spec.kwargs["shape"]), int(spec.kwargs["classes"])
    try:
        net = factory(**_select_arguments(factory, spec.kwargs | {"shape": shape}))
    except Exception as error:  # whatever the user's code raises
        kind = type(error).__name__
        raise TrainingError(f"net {spec.factory!r}: the factory raised {kind}: {error}") from error
    if not isinstance(net, nn.Module):
        raise TrainingError(
            f"net {spec.factory!r}: expected a torch.nn.Module, got {type(net).__name__}"
        )
    return _check_net(net, torch.rand(2, *shape), classes, spec.factory)


def _select_arguments(factory: Callable[..., Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments that the factory takes; options it does not take are an error of its own."""
    parameters = inspect.signature(factory).parameters.values()
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return kwargs
    names = {p.name for p in parameters}
    return {k: v for k, v in kwargs.items() if k in names or k not in ("shape", "classes")}


def _check_net(net: nn.Module, example: Tensor, classes: int, name: str) -> nn.Module:
    try:
        with torch.no_grad():
            told = net.eval()(example)
    except Exception as error:  # the user's forward may raise anything
        raise TrainingError(
            f"net {name!r}: forward of a batch {list(example.shape)} in [0, 1] raised "
            f"{type(error).__name__}: {error}"
        ) from error
    logits = told[0] if isinstance(told, tuple) and len(told) == 2 else told
    if not isinstance(logits, Tensor) or tuple(logits.shape) != (len(example), classes):
        got = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise TrainingError(
            f"net {name!r}: expected logits of shape [{len(example)}, {classes}] (or a pair of "
            f"logits and features), got {got}"
        )
    if not any(p.requires_grad for p in net.parameters()):
        raise TrainingError(f"net {name!r} has no parameters that could be trained")
    return net.train() if isinstance(told, tuple) else FromUser(net.train(), example)
