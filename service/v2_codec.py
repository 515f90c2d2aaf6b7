"""The Open Inference Protocol (KServe V2) in JSON: requests to arrays, answers to tensors."""

from collections.abc import Sequence
from math import prod
from typing import Any

import msgspec
import numpy as np
import orjson

from models.errors import InputError
from models.schema import OUTPUTS, InputArray, InputSchema, Manifest
from service.call import Reply
from service.codec import decode_body, read_numbers, to_input
from service.errors import RequestError, shown
from service.pipeline import Scored
from service.rows import check_rows, table_of
from service.web import checked_id

DATATYPES = {"float32": "FP32", "uint8": "UINT8"}
QUERY_FLAGGED = "query_flagged"  # of the service, not of the graph
ANSWERED = (*OUTPUTS, QUERY_FLAGGED)
OUTPUT_DATATYPES = dict.fromkeys(OUTPUTS, "FP32") | {"cells": "INT32", QUERY_FLAGGED: "BOOL"}
NO_BINARY = "the binary tensor extension is not supported: send and ask for JSON data"


class InputTensor(msgspec.Struct):
    """A tensor of a request; `data` stays raw until the shape is known to be right."""

    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw = msgspec.Raw()  # empty: the field is missing
    parameters: dict[str, Any] | None = None


class RequestedOutput(msgspec.Struct):
    """An output that is asked for."""

    name: str
    parameters: dict[str, Any] | None = None


class InferBody(msgspec.Struct):
    """The JSON body of an inference request."""

    inputs: list[InputTensor]
    id: str = ""
    outputs: list[RequestedOutput] | None = None
    parameters: dict[str, Any] | None = None


class InferRequest(msgspec.Struct, frozen=True):
    """A checked inference request."""

    x: InputArray  # (N, *shape)
    id: str | None
    outputs: tuple[str, ...]


_decoder = msgspec.json.Decoder(InferBody)


def decode_infer(body: bytes, schema: InputSchema, max_rows: int) -> InferRequest:
    """Decode and check a request. Raises InputError, or RequestError for the binary extension."""
    decoded = decode_body(_decoder, body)
    if _true(decoded.parameters, "binary_data_output"):
        raise RequestError(NO_BINARY)
    outputs = _outputs(decoded.outputs)
    if len(decoded.inputs) != 1:
        raise InputError("inputs", f"one tensor, {schema.name!r}", f"{len(decoded.inputs)} tensors")
    request_id = checked_id(decoded.id, "id") if decoded.id else None
    return InferRequest(_tensor(decoded.inputs[0], schema, max_rows), request_id, outputs)


def encode_infer(scored: Scored, outputs: Sequence[str]) -> Reply:
    """The answer, its tensors flat in row-major order."""
    tensors = [_output(scored, name) for name in outputs]
    document = {
        "model_name": scored.manifest.model,
        "model_version": str(scored.manifest.version),
        "id": scored.id,
        "outputs": tensors,
    }
    return scored.reply(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY))


def metadata(manifest: Manifest) -> dict[str, Any]:
    """What the protocol tells of a model: names, datatypes and shapes (-1: any).

    The input of a table has its columns as a parameter: what a client needs to fill the tensor.
    """
    schema = manifest.input
    widths = {"probabilities": [len(manifest.classes)], "cells": [len(manifest.channels)]}
    return {
        "name": manifest.model,
        "versions": [str(manifest.version)],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {
                "name": schema.name,
                "datatype": DATATYPES[schema.dtype],
                "shape": [-1, *schema.shape],
                **_columns(schema),
            }
        ],
        "outputs": [
            {"name": name, "datatype": OUTPUT_DATATYPES[name], "shape": [-1, *widths.get(name, [])]}
            for name in ANSWERED
        ],
    }


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


def _tensor(tensor: InputTensor, schema: InputSchema, max_rows: int) -> InputArray:
    field = f"inputs[0] ({schema.name})"
    if tensor.name != schema.name:
        raise InputError("inputs[0].name", repr(schema.name), shown(tensor.name))
    if tensor.datatype != DATATYPES[schema.dtype]:
        raise InputError(f"{field}.datatype", DATATYPES[schema.dtype], shown(tensor.datatype))
    shape = tuple(tensor.shape)
    if len(shape) < 1 or shape[1:] != schema.shape:
        wanted = f"[N, {', '.join(map(str, schema.shape))}]"
        raise InputError(f"{field}.shape", wanted, _shape_text(shape))
    check_rows(shape[0], max_rows, f"{field}.shape")
    raw = bytes(tensor.data)
    if not raw:
        raise (
            RequestError(NO_BINARY)
            if tensor.parameters
            else InputError(
                f"{field}.data", "the values of the tensor", "nothing: the field is missing"
            )
        )
    nested = len(shape) > 1 and raw[1:].lstrip()[:1] == b"["
    lists = shape if nested else (prod(shape),)
    nulls = schema.kind == "tabular" and table_of(schema).missing
    numbers = read_numbers(raw, lists, lists[0], f"{field}.data", nulls=nulls)
    return to_input(numbers.reshape(shape), schema, field)


def _outputs(requested: list[RequestedOutput] | None) -> tuple[str, ...]:
    if not requested:
        return ANSWERED
    for index, output in enumerate(requested):
        if output.name not in ANSWERED:
            field = f"outputs[{index}].name"
            raise InputError(field, f"one of {', '.join(ANSWERED)}", shown(output.name))
        if _true(output.parameters, "binary_data"):
            raise RequestError(NO_BINARY)
        if output.parameters and "classification" in output.parameters:
            raise InputError(f"outputs[{index}].parameters", "no classification", "classification")
    return tuple(dict.fromkeys(output.name for output in requested))


def _output(scored: Scored, name: str) -> dict[str, Any]:
    values = scored.flags.query if name == QUERY_FLAGGED else getattr(scored.answer, name)
    return {
        "name": name,
        "datatype": OUTPUT_DATATYPES[name],
        "shape": values.shape,
        "data": values.ravel(),
    }


def _true(parameters: dict[str, Any] | None, name: str) -> bool:
    return parameters is not None and parameters.get(name) is True


def _shape_text(shape: tuple[int, ...]) -> str:
    return (
        "["
        + ", ".join(f"{size}"[:24] for size in shape[:8])
        + (", ...]" if len(shape) > 8 else "]")
    )
