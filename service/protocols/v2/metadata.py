"""What V2 says of a model: its metadata, and Triton's model configuration.

Sources: the Open Inference Protocol; Triton's `extension_model_configuration` and its
`model_config.proto`.
"""

from collections.abc import Iterator

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from models.base.errors import show_value
from models.versions.schema import PLAIN, Column, Manifest, Notation
from service.fleet.served import Served
from service.protocols.v2.classification import CLASSIFIED
from service.protocols.v2.codec import DATATYPES, OUTPUT_DATATYPES, answered_by
from service.web.errors import NotFoundError

PLATFORM = "onnxruntime_onnx"


def version_of(served: Served, version: str | None) -> Served:
    """Return the model if it has this version; None: any version. Raises NotFoundError."""
    manifest = served.manifest
    if version is not None and version != str(manifest.version):
        raise NotFoundError(
            f"model {manifest.model!r}: version {show_value(version)} is not served; "
            f"served: {manifest.version}",
            field="version",
            expected=str(manifest.version),
            got=show_value(version),
        )
    return served


class ColumnMetadata(msgspec.Struct, frozen=True):
    """A column of a table: its categories (code: place), or its range in training.

    `notation` is there where texts are not read as plain numbers or texts (on `/predict`). In a
    tensor a date is its days since 1970-01-01 and a time its seconds.
    """

    name: str
    kind: str
    missing: bool
    categories: tuple[str, ...] | UnsetType = UNSET
    low: float | UnsetType = UNSET
    high: float | UnsetType = UNSET
    notation: Notation | UnsetType = UNSET


class TensorParameters(msgspec.Struct, frozen=True):
    """What a client needs to fill the input of a table, or to read the probabilities."""

    columns: tuple[ColumnMetadata, ...] | UnsetType = UNSET
    classes: tuple[str, ...] | UnsetType = UNSET


class TensorMetadata(msgspec.Struct, frozen=True):
    """An input or output; -1 in the shape is any number."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: TensorParameters | UnsetType = UNSET


class ModelMetadata(msgspec.Struct, frozen=True):
    """The metadata of a model."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


class TensorConfiguration(msgspec.Struct, frozen=True):
    """An input or output in Triton's words; `dims` are those of a row."""

    name: str
    data_type: str
    dims: tuple[int, ...]


class SpecificVersions(msgspec.Struct, frozen=True):
    """The versions that are served."""

    versions: tuple[int, ...]


class VersionPolicy(msgspec.Struct, frozen=True):
    """Which versions are served: those that are named."""

    specific: SpecificVersions


class ModelConfiguration(msgspec.Struct, frozen=True):
    """Triton's model configuration."""

    name: str
    platform: str
    backend: str
    version_policy: VersionPolicy
    max_batch_size: int
    input: tuple[TensorConfiguration, ...]
    output: tuple[TensorConfiguration, ...]


def metadata(manifest: Manifest) -> ModelMetadata:
    """Names, datatypes and shapes.

    The input of a table has its columns as a parameter, the output `probabilities` the names of its
    places.
    """
    schema = manifest.input
    columns: TensorParameters | UnsetType = UNSET
    classes = TensorParameters(classes=tuple(manifest.classes))
    if schema.kind == "tabular":
        columns = TensorParameters(columns=tuple(map(_describe_column, schema.columns)))
    return ModelMetadata(
        name=manifest.model,
        versions=(str(manifest.version),),
        platform=PLATFORM,
        inputs=(
            TensorMetadata(schema.name, DATATYPES[schema.dtype], (-1, *schema.shape), columns),
        ),
        outputs=tuple(
            TensorMetadata(name, datatype, (-1, *row), classes if name == CLASSIFIED else UNSET)
            for name, datatype, row in _outputs(manifest)
        ),
    )


def configuration(manifest: Manifest, max_rows: int) -> ModelConfiguration:
    """Return Triton's configuration: shapes are those of a row, of at most `max_batch_size`."""
    schema = manifest.input
    inputs = [(schema.name, DATATYPES[schema.dtype], schema.shape)]
    return ModelConfiguration(
        name=manifest.model,
        platform=PLATFORM,
        backend="onnxruntime",
        version_policy=VersionPolicy(SpecificVersions((manifest.version,))),
        max_batch_size=max_rows,
        input=tuple(TensorConfiguration(n, f"TYPE_{kind}", row) for n, kind, row in inputs),
        output=tuple(
            TensorConfiguration(n, f"TYPE_{kind}", row) for n, kind, row in _outputs(manifest)
        ),
    )


def _outputs(manifest: Manifest) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Yield name, datatype and shape of a row of every output."""
    widths = {"probabilities": (len(manifest.classes),), "cells": (len(manifest.channels),)}
    for name in answered_by(manifest):
        yield name, OUTPUT_DATATYPES[name], widths.get(name, ())


def _describe_column(column: Column) -> ColumnMetadata:
    notation = UNSET if column.notation == PLAIN else column.notation
    if column.kind == "categorical":
        categories = tuple(column.categories)
        return ColumnMetadata(
            column.name, column.kind, column.missing, categories, notation=notation
        )
    low, high = _short(column.low), _short(column.high)
    return ColumnMetadata(
        column.name, column.kind, column.missing, low=low, high=high, notation=notation
    )


def _short(value: float) -> float:
    """Return the shortest number with the same float32 value, to which rows are compared."""
    return float(str(np.float32(value)))
