"""What V2 tells of a model: its metadata, and Triton's model configuration.

Sources: the Open Inference Protocol; Triton's `extension_model_configuration` and its
`model_config.proto`.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from models.versions.schema import InputSchema, Manifest
from service.fleet.served import Served
from service.protocols.v2.classification import CLASSIFIED
from service.protocols.v2.codec import ANSWERED, DATATYPES, OUTPUT_DATATYPES
from service.web.errors import NotFoundError, show_value

PLATFORM = "onnxruntime_onnx"


def version_of(served: Served, version: str | None) -> Served:
    """The served model, if it is of this version; None: of any. Raises NotFoundError."""
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


def metadata(manifest: Manifest) -> dict[str, Any]:
    """Names, datatypes and shapes (-1: any).

    The input of a table has its columns as a parameter: what a client needs to fill the tensor.
    The output `probabilities` has the names of its places: what a client needs to read it.
    """
    schema = manifest.input
    return {
        "name": manifest.model,
        "versions": [str(manifest.version)],
        "platform": PLATFORM,
        "inputs": [
            {
                "name": schema.name,
                "datatype": DATATYPES[schema.dtype],
                "shape": [-1, *schema.shape],
                **_columns(schema),
            }
        ],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": [-1, *width], **_classes(name, manifest)}
            for name, datatype, width in _outputs(manifest)
        ],
    }


def configuration(manifest: Manifest, max_rows: int) -> dict[str, Any]:
    """The same in Triton's words: a shape is one of a row, as many as `max_batch_size` at once."""
    schema = manifest.input
    given = [(schema.name, DATATYPES[schema.dtype], list(schema.shape))]
    return {
        "name": manifest.model,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "version_policy": {"specific": {"versions": [manifest.version]}},
        "max_batch_size": max_rows,
        "input": [_tensor(*each) for each in given],
        "output": [_tensor(*each) for each in _outputs(manifest)],
    }


def _tensor(name: str, datatype: str, dims: list[int]) -> dict[str, Any]:
    return {"name": name, "data_type": f"TYPE_{datatype}", "dims": dims}


def _outputs(manifest: Manifest) -> Iterator[tuple[str, str, list[int]]]:
    """Name, datatype and the shape of a row of every output."""
    widths = {"probabilities": [len(manifest.classes)], "cells": [len(manifest.channels)]}
    for name in ANSWERED:
        yield name, OUTPUT_DATATYPES[name], widths.get(name, [])


def _classes(name: str, manifest: Manifest) -> dict[str, Any]:
    return {"parameters": {"classes": manifest.classes}} if name == CLASSIFIED else {}


def _columns(schema: InputSchema) -> dict[str, Any]:
    """Names, kinds, ranges in training and categories (code: place) of a table's columns."""
    if schema.kind != "tabular":
        return {}
    columns = [
        {"name": column.name, "kind": column.kind, "missing": column.missing}
        | (
            {"categories": column.categories}
            if column.kind == "categorical"
            else {"low": _short(column.low), "high": _short(column.high)}
        )
        for column in schema.columns
    ]
    return {"parameters": {"columns": columns}}


def _short(value: float) -> float:
    """The shortest number that is the same in float32, in which rows are compared with it."""
    return float(str(np.float32(value)))
