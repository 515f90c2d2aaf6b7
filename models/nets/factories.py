"""Networks on unit-range inputs: `forward` gives logits and features in one pass.

Normalisation, imputation and one-hot coding are inside the net, so whatever attacks or exports it
sees `InputSchema.to_unit` values. Statistics of the training rows are buffers that
`prepare` sets once; they travel with the weights. Which nets there are: `models.nets.catalogue`.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
from torch import Tensor, nn

from models.base.errors import TrainingError
from models.nets.catalogue import CATALOGUE, Net, default_net
from models.nets.files import locate
from models.nets.own import build_own
from models.versions.schema import InputSchema


class NetSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """How to rebuild a net.

    Args:
        factory: the name of one of ours, or `module:factory` of the user's.
        kwargs: its arguments, shape and classes among them.
        folder: of a module of the user's; empty for one that is installed, and for ours.
    """

    factory: str
    kwargs: dict[str, Any]
    folder: str = ""


def spec_for(
    schema: InputSchema,
    classes: int,
    name: str = "auto",
    *,
    certifiable: bool = False,
    **options: Any,
) -> NetSpec:
    """The spec of a named net (or `module:factory`) for inputs of `schema`.

    Args:
        schema: what the net takes.
        classes: how many classes it tells apart.
        name: one of the catalogue, `module:factory` (a module of the working directory, or one
            that is installed), `file.py:factory`, or `auto`: by the kind and size of the input.
        certifiable: whether `auto` must be a net that interval bounds can pass.
        options: further arguments of the factory, such as `dropout` and `batch_norm`.

    Raises:
        TrainingError: an unknown name, or a net for another kind of input.
    """
    common: dict[str, Any] = {"shape": list(schema.shape), "classes": classes}
    if ":" in name:
        factory, folder = locate(name, Path.cwd())
        return NetSpec(factory, common | {k: v for k, v in options.items() if v}, folder)
    net = default_net(schema, certifiable=certifiable) if name == "auto" else _find_net(name)
    if net.kind != schema.kind:
        raise TrainingError(f"net {name!r} does not take {schema.kind} input; try --net auto")
    return NetSpec(net.name, common | net.arguments(schema) | options)


def build(spec: NetSpec) -> nn.Module:
    """A fresh net. Raises TrainingError for an unknown name or unfit arguments."""
    if ":" in spec.factory:
        return build_own(spec.factory, spec.folder, spec.kwargs)
    record = _find_net(spec.factory)
    factory = getattr(import_module(f"models.nets.{record.module}"), record.factory)
    try:
        net: nn.Module = factory(**spec.kwargs)
    except (TypeError, ValueError, RuntimeError) as error:  # torch raises all three
        raise TrainingError(f"net {spec.factory!r}: {error}") from error
    return net


def prepare(net: nn.Module, x_unit: Tensor) -> None:
    """Let a net that normalises by its training rows `(N, *shape)` see them, once."""
    fit = getattr(net, "fit_inputs", None)
    if fit is not None:
        fit(x_unit)


def _find_net(name: str) -> Net:
    try:
        return CATALOGUE[name]
    except KeyError:
        raise TrainingError(
            f"unknown net {name!r}; known: auto, {', '.join(CATALOGUE)}, or module:factory of "
            "your own"
        ) from None
