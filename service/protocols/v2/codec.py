"""The Open Inference Protocol (KServe V2): requests to arrays, answers to tensors.

A request has its tensor in the JSON or after it (`service.protocols.v2.binary`). A client can ask
for every output in either form, and for the probabilities as the best classes
(`service.protocols.v2.classification`). Parameters without effect here are ignored: `priority` and
`timeout` (there is no queue), `sequence_id`, `sequence_start` and `sequence_end` (no row depends on
another), and unknown ones.
"""

from collections.abc import Sequence
from functools import cache
from math import prod
from typing import NamedTuple, NotRequired, TypedDict

import msgspec
import numpy as np
import numpy.typing as npt
import orjson

from models.base.errors import InputError, show_value
from models.base.json_body import decode_body
from models.versions.promises import CERTIFICATE_OUTPUTS
from models.versions.schema import OUTPUTS, InputArray, InputSchema, Manifest
from service.decoding.codec import read_numbers, to_input
from service.decoding.json_amount import MOST_OBJECTS, check_count
from service.decoding.rows import check_rows, table_of
from service.pipeline import Scored, column_of
from service.protocols.v2.binary import HEADER, MEDIA, from_bytes, split, texts_to_bytes, to_bytes
from service.protocols.v2.classification import CLASSIFIED, classify
from service.web.errors import RequestError
from service.web.reply import Reply
from service.web.request_id import is_fit_id

DATATYPES = {"float32": "FP32", "uint8": "UINT8"}
QUERY_FLAGGED = "query_flagged"  # of the service, not of the graph
ANSWERED = (*OUTPUTS, QUERY_FLAGGED)  # by a version that proves nothing
OUTPUT_DATATYPES = dict.fromkeys((*OUTPUTS, *CERTIFICATE_OUTPUTS), "FP32") | {
    "cells": "INT32",
    "certified": "BOOL",
    QUERY_FLAGGED: "BOOL",
}
LONGEST_SHAPE_BYTES = 16_384
NO_SHARED_MEMORY = "shared memory is not supported: send tensors in the body of the request"


class InputParameters(msgspec.Struct):
    """The parameters of an input that are used."""

    binary_data_size: int | None = None
    shared_memory_region: str | None = None


class InputTensor(msgspec.Struct):
    """A tensor of a request; `data` stays raw until the shape was checked."""

    name: str
    shape: msgspec.Raw  # a list of integers, read where it is not absurdly long
    datatype: str
    data: msgspec.Raw = msgspec.Raw()  # empty: the field is missing
    parameters: InputParameters | None = None


class OutputParameters(msgspec.Struct):
    """The parameters of a requested output that are used."""

    binary_data: bool | None = None
    classification: int | None = None
    shared_memory_region: str | None = None


class RequestedOutput(msgspec.Struct):
    """An output that the client asks for."""

    name: str
    parameters: OutputParameters | None = None


class RequestParameters(msgspec.Struct):
    """The parameters of a request that are used."""

    binary_data_output: bool | None = None


class InferBody(msgspec.Struct):
    """The JSON of an inference request."""

    inputs: list[InputTensor]
    id: str | None = None
    outputs: list[RequestedOutput] | None = None
    parameters: RequestParameters | None = None


class OutputParameter(TypedDict):
    """The number of bytes of a binary output after the JSON."""

    binary_data_size: int


class OutputTensor(TypedDict):
    """An output of the answer; a plain dictionary, because it is made for every request."""

    name: str
    datatype: str
    shape: Sequence[int]
    parameters: NotRequired[OutputParameter]
    data: NotRequired[npt.NDArray[np.generic] | list[str]]


class WantedOutput(NamedTuple):
    """An output of the answer, and its form."""

    name: str
    binary: bool = False
    classes: int = 0  # from 1: as texts, that many of each row


class InferRequest(msgspec.Struct, frozen=True):
    """A checked inference request.

    The protocol returns every `id` as it came. One that is not valid for the store is only in
    `given_id`, and `id` is None.
    """

    x: InputArray  # (N, *shape)
    id: str | None
    given_id: str
    outputs: tuple[WantedOutput, ...]


@cache
def _all(answered: tuple[str, ...], binary: bool) -> tuple[WantedOutput, ...]:
    return tuple(WantedOutput(name, binary) for name in answered)


def answered_by(manifest: Manifest) -> tuple[str, ...]:
    """The names of all outputs of a version."""
    return (*manifest.outputs, QUERY_FLAGGED)


_decoder = msgspec.json.Decoder(InferBody)
_integers: msgspec.json.Decoder[list[int]] = msgspec.json.Decoder(list[int])


def decode_infer(
    body: bytes,
    schema: InputSchema,
    max_rows: int,
    header_length: str | None = None,
    answered: tuple[str, ...] = ANSWERED,
) -> InferRequest:
    """Decode and check a request.

    Args:
        body: the JSON, and a binary tensor after it where `header_length` says so.
        schema: of the model's input.
        max_rows: the most rows of a request.
        header_length: the header `Inference-Header-Content-Length`; None: all is JSON.
        answered: the outputs that the version has.

    Raises:
        InputError: the request does not fit; names the field.
        RequestError: it has tensors in shared memory.
    """
    text, raw = split(body, header_length)
    check_count(text, b"{", MOST_OBJECTS, "body", "objects")
    content = decode_body(_decoder, text)
    outputs = _outputs(content, answered)
    if len(content.inputs) != 1:
        raise InputError("inputs", f"one tensor, {schema.name!r}", f"{len(content.inputs)} tensors")
    given_id = content.id or ""
    request_id = given_id if is_fit_id(given_id) else None
    x = _tensor(content.inputs[0], raw, schema, max_rows)
    return InferRequest(x, request_id, given_id, outputs)


def encode_infer(
    scored: Scored, outputs: Sequence[WantedOutput] = _all(ANSWERED, False), given_id: str = ""
) -> Reply:
    """Encode the answer: tensors in the JSON are flat in row-major order, others come after it.

    An id in the body of the request is returned; if another id is used for the store, it is in the
    parameters of the answer.
    """
    behind: list[bytes] = []
    tensors = [_output(scored, output, behind) for output in outputs]
    document = {
        "model_name": scored.manifest.model,
        "model_version": str(scored.manifest.version),
        "id": given_id or scored.id,
        **({"parameters": {"request_id": scored.id}} if given_id not in ("", scored.id) else {}),
        "outputs": tensors,
    }
    text = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if not behind:
        return scored.reply(text)
    return scored.reply(b"".join((text, *behind)), MEDIA, ((HEADER, str(len(text))),))


def _tensor(tensor: InputTensor, raw: memoryview, schema: InputSchema, max_rows: int) -> InputArray:
    field = f"inputs[0] ({schema.name})"
    if tensor.name != schema.name:
        raise InputError("inputs[0].name", repr(schema.name), show_value(tensor.name))
    if tensor.datatype != DATATYPES[schema.dtype]:
        raise InputError(f"{field}.datatype", DATATYPES[schema.dtype], show_value(tensor.datatype))
    shape = _shape(tensor.shape, f"{field}.shape")
    if len(shape) < 1 or shape[1:] != schema.shape:
        expected = f"[N, {', '.join(map(str, schema.shape))}]"
        raise InputError(f"{field}.shape", expected, _shape_text(shape))
    check_rows(shape[0], max_rows, f"{field}.shape")
    size = _binary_size(tensor, field)
    if size is not None:
        return from_bytes(raw, size, shape, schema, field)
    if raw:
        raise InputError("body", "nothing behind the JSON", f"{len(raw)} bytes, but no tensor")
    return _numbers(bytes(tensor.data), shape, schema, field)


def _shape(raw: msgspec.Raw, field: str) -> tuple[int, ...]:
    text = bytes(raw)
    if len(text) > LONGEST_SHAPE_BYTES:
        raise InputError(field, "a short list of integers", f"{len(text)} bytes of JSON")
    sizes: list[int] = decode_body(_integers, text, field)
    return tuple(sizes)


def _binary_size(tensor: InputTensor, field: str) -> int | None:
    """Return the tensor's number of bytes after the JSON; None: its values are in the JSON."""
    parameters = tensor.parameters
    if parameters is None:
        return None
    if parameters.shared_memory_region is not None:
        raise RequestError(NO_SHARED_MEMORY)
    if parameters.binary_data_size is not None and _is_given(tensor.data):
        raise InputError(field, "data or parameters.binary_data_size", "both")
    return parameters.binary_data_size


def _numbers(raw: bytes, shape: tuple[int, ...], schema: InputSchema, field: str) -> InputArray:
    if not _is_given(raw):
        expected = "the values of the tensor (or parameters.binary_data_size)"
        raise InputError(f"{field}.data", expected, "nothing: the field is missing")
    nested = len(shape) > 1 and raw[1:].lstrip()[:1] == b"["
    lists = shape if nested else (prod(shape),)
    nulls = schema.kind == "tabular" and table_of(schema).missing
    numbers = read_numbers(raw, lists, lists[0], f"{field}.data", nulls=nulls)
    return to_input(numbers.reshape(shape), schema, field)


def _outputs(content: InferBody, answered: tuple[str, ...]) -> tuple[WantedOutput, ...]:
    binary = content.parameters is not None and bool(content.parameters.binary_data_output)
    if not content.outputs:
        return _all(answered, binary)
    if len(content.outputs) > len(answered):
        raise InputError("outputs", f"at most {len(answered)}", f"{len(content.outputs)}")
    outputs = tuple(
        _parse_output(output, binary, f"outputs[{index}]", answered)
        for index, output in enumerate(content.outputs)
    )
    if len({output.name for output in outputs}) < len(outputs):
        raise InputError("outputs", "each output once", "one that is asked for twice")
    return outputs


def _parse_output(
    output: RequestedOutput, binary: bool, field: str, answered: tuple[str, ...]
) -> WantedOutput:
    if output.name not in answered:
        raise InputError(f"{field}.name", f"one of {', '.join(answered)}", show_value(output.name))
    parameters = output.parameters
    if parameters is None:
        return WantedOutput(output.name, binary)
    if parameters.shared_memory_region is not None:
        raise RequestError(NO_SHARED_MEMORY)
    classes, field = parameters.classification or 0, f"{field}.parameters.classification"
    if classes < 0:
        raise InputError(field, "a number of classes, or 0 for none", f"{classes}"[:24])
    if classes and output.name != CLASSIFIED:
        expected = f"to stand at {CLASSIFIED!r}, the output whose places are classes"
        raise InputError(field, expected, f"it at {output.name!r}")
    binary_data = parameters.binary_data
    return WantedOutput(output.name, binary if binary_data is None else binary_data, classes)


def _output(scored: Scored, output: WantedOutput, behind: list[bytes]) -> OutputTensor:
    """Make the JSON of an output; the bytes of a binary one are appended to `behind`."""
    name = output.name
    values = scored.flags.query if name == QUERY_FLAGGED else column_of(scored, name)
    if output.classes:
        return _classes(scored, output, behind)
    tensor: OutputTensor = {
        "name": name,
        "datatype": OUTPUT_DATATYPES[name],
        "shape": values.shape,
    }
    if output.binary:
        behind.append(to_bytes(values))
        tensor["parameters"] = {"binary_data_size": len(behind[-1])}
    else:
        tensor["data"] = values.ravel()
    return tensor


def _classes(scored: Scored, output: WantedOutput, behind: list[bytes]) -> OutputTensor:
    """Make the JSON of the probabilities as the best classes."""
    probabilities, labels = scored.answer.probabilities, scored.manifest.classes
    count = min(output.classes, len(labels))
    texts = classify(probabilities, labels, count)
    shape = [len(probabilities), count]
    tensor: OutputTensor = {"name": output.name, "datatype": "BYTES", "shape": shape}
    if output.binary:
        behind.append(texts_to_bytes(texts))
        tensor["parameters"] = {"binary_data_size": len(behind[-1])}
    else:
        tensor["data"] = texts
    return tensor


def _is_given(raw: bytes | msgspec.Raw) -> bool:
    """Whether an optional member is there; null means that it is not."""
    return bytes(raw) not in (b"", b"null")


def _shape_text(shape: tuple[int, ...]) -> str:
    sizes = ", ".join(f"{size}"[:24] for size in shape[:8])
    return f"[{sizes}, ...]" if len(shape) > 8 else f"[{sizes}]"
