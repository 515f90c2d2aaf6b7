"""A net of the user's own as one of ours: called, checked, and given a feature layer."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from models.base.errors import TrainingError
from models.nets.files import load_factory


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


def build_own(name: str, folder: str, arguments: dict[str, Any]) -> nn.Module:
    """Call `module:factory` of a folder and check what it gives.

    Args:
        name: `module:factory`.
        folder: where the module lies, as `locate` says it.
        arguments: `shape`, `classes` and what else the factory is asked for.

    Raises:
        TrainingError: it cannot be found or raises, or gives no net for such inputs and classes.
    """
    factory = load_factory(name, folder)
    shape, classes = tuple(arguments["shape"]), int(arguments["classes"])
    try:
        net = factory(**_select_arguments(factory, arguments | {"shape": shape}))
    except Exception as error:  # whatever the user's code raises
        kind = type(error).__name__
        raise TrainingError(f"net {name!r}: the factory raised {kind}: {error}") from error
    if not isinstance(net, nn.Module):
        raise TrainingError(f"net {name!r}: expected a torch.nn.Module, got {type(net).__name__}")
    return _check_net(net, torch.rand(2, *shape), classes, name)


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
            answer = net.eval()(example)
    except Exception as error:  # the user's forward may raise anything
        raise TrainingError(
            f"net {name!r}: forward of a batch {list(example.shape)} in [0, 1] raised "
            f"{type(error).__name__}: {error}"
        ) from error
    logits = answer[0] if isinstance(answer, tuple) and len(answer) == 2 else answer
    if not isinstance(logits, Tensor) or tuple(logits.shape) != (len(example), classes):
        got = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise TrainingError(
            f"net {name!r}: expected logits of shape [{len(example)}, {classes}] (or a pair of "
            f"logits and features), got {got}"
        )
    if not any(p.requires_grad for p in net.parameters()):
        raise TrainingError(f"net {name!r} has no parameters that could be trained")
    return net.train() if isinstance(answer, tuple) else FromUser(net.train(), example)
