"""The nets there are, one record each: read by `--net`, `build`, the documents and the tests.

A new net is a file with its class, and its record here. Nothing here imports torch: the command
line lists the names without it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from models.versions.schema import InputSchema

CONV4_SIDE = 24  # pixels a side from which four convolutions are the default


@dataclass(frozen=True)
class Net:
    """One net.

    Args:
        name: of the option `--net`, and in the manifests of its versions.
        module, factory: of `models.nets`, and the class in it: it is called with `shape`,
            `classes`, and keyword arguments, among them `dropout` and `batch_norm`.
        kind: of the input that it takes.
        words: what it is, for people.
        arguments: what the factory gets for a schema, besides shape and classes.
        default: whether `--net auto` takes it for a schema of its kind.
        certifiable: whether interval bounds can pass it.
    """

    name: str
    module: str
    factory: str
    kind: Literal["image", "tabular"]
    words: str
    arguments: Callable[[InputSchema], dict[str, Any]] = lambda schema: {}
    default: Callable[[InputSchema], bool] = lambda schema: False
    certifiable: bool = True


def columns_of(schema: InputSchema) -> list[list[int]]:
    """Per column `[categories, missing]`: 0 categories are a number; whether values may miss."""
    return [[len(c.categories), int(c.missing)] for c in schema.columns]


def _is_large_and_grey(schema: InputSchema) -> bool:
    return schema.shape[0] != 3 and min(schema.shape[1:]) >= CONV4_SIDE


def _is_small_and_grey(schema: InputSchema) -> bool:
    return schema.shape[0] != 3 and min(schema.shape[1:]) < CONV4_SIDE


_ALL = (
    Net(
        "small_conv", "small_conv", "SmallConv", "image",
        "two convolutions and a hidden layer: images below 24 pixels",
        default=_is_small_and_grey,
    ),
    Net(
        "conv4", "small_conv", "SmallConv", "image",
        "four convolutions and a hidden layer: grey images from 24 pixels",
        lambda schema: {"widths": [32, 32, 64, 64]},
        default=_is_large_and_grey,
    ),
    Net(
        "resnet18", "resnet", "PreActResNet", "image",
        "pre-activation ResNet-18, 11 million weights",
        lambda schema: {"width": 64},
        certifiable=False,
    ),
    Net(
        "resnet_narrow", "resnet", "PreActResNet", "image",
        "the same with a quarter of the width, 0.7 million weights: colour images",
        lambda schema: {"width": 16},
        default=lambda schema: schema.shape[0] == 3,
        certifiable=False,
    ),
    Net(
        "mlp", "table_net", "TableMLP", "tabular",
        "two hidden layers; imputation, one-hot coding and scaling are inside: tables",
        lambda schema: {"columns": columns_of(schema)},
        default=lambda schema: True,
    ),
)  # fmt: skip
CATALOGUE: Mapping[str, Net] = MappingProxyType({net.name: net for net in _ALL})


def default_net(schema: InputSchema, *, certifiable: bool = False) -> Net:
    """What `--net auto` is for a schema; where `certifiable`, one that interval bounds can pass.

    >>> default_net(InputSchema("x", (1, 8, 8), "float32", 0.0, 16.0, "image")).name
    'small_conv'
    """
    net = next(net for net in _ALL if net.kind == schema.kind and net.default(schema))
    return CATALOGUE["conv4"] if certifiable and not net.certifiable else net
