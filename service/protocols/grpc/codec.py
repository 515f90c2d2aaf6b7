"""Inference messages as V2 requests with their tensors behind the JSON, and answers back.

A tensor comes as bytes in `raw_input_contents`, one for each input, or typed in its `contents`; the
answer has the form of the request. What the values mean and what is refused is decided where every
V2 request is decoded (`service.protocols.v2.codec`), and nowhere here.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from models.base.errors import InputError
from service.decoding.json_amount import MOST_OBJECTS
from service.protocols.grpc.schema import Message
from service.protocols.v2.binary import HEADER
from service.web.reply import Reply

# Datatype: the field of `contents` that holds it, and the type of its bytes.
TYPED: Mapping[str, tuple[str, str]] = {
    "BOOL": ("bool_contents", "?"),
    "UINT8": ("uint_contents", "<u1"),
    "INT32": ("int_contents", "<i4"),
    "FP32": ("fp32_contents", "<f4"),
}
BYTES = "BYTES"
UINT8_MOST = 255
PART = 1 << 14  # values of a message that are converted at once
LENGTH_BYTES = 4  # of an element of BYTES
FINAL, WANTS_FINAL = "triton_final_response", "triton_enable_empty_final_response"


def read_parameters(parameters: Any) -> dict[str, Any]:
    """The parameters of a message as JSON; one without a value is left out."""
    found = {}
    for name, value in parameters.items():
        choice = value.WhichOneof("parameter_choice")
        if choice is not None:
            found[name] = getattr(value, choice)
    return found


def to_v2(request: Message) -> tuple[bytes, int]:
    """Return the body of the V2 request and the length of its JSON.

    Raises:
        InputError: tensors are given both raw and typed, or not as many as inputs; more parameters
            and dimensions than a right request has; a value is none of its datatype.
    """
    check_amount(request)
    raw, inputs = request.raw_input_contents, request.inputs
    typed = [k for k, each in enumerate(inputs) if each.HasField("contents") and any_of(each)]
    if raw and typed:
        field = f"inputs[{typed[0]}].contents"
        raise InputError(field, "nothing, as raw_input_contents has the tensors", "values")
    if raw and len(raw) != len(inputs):
        raise InputError(
            "raw_input_contents", f"one for each of {len(inputs)} inputs", f"{len(raw)}"
        )
    tensors: list[dict[str, Any]] = []
    behind: list[bytes] = []
    for index, each in enumerate(inputs):
        tensor = {
            "name": each.name,
            "datatype": each.datatype,
            "shape": list(each.shape),
            "parameters": read_parameters(each.parameters),
        }
        if raw:
            behind.append(raw[index])
        else:
            tensor_bytes = read_typed(each, f"inputs[{index}].contents", tensor)
            if tensor_bytes is not None:
                behind.append(tensor_bytes)
        if len(behind) > len(tensors):
            tensor["parameters"]["binary_data_size"] = len(behind[-1])
        tensors.append(tensor)
    outputs = [
        {"name": each.name, "parameters": {**read_parameters(each.parameters), "binary_data": True}}
        for each in request.outputs
    ]
    document = {
        "inputs": tensors,
        "parameters": {**read_parameters(request.parameters), "binary_data_output": True},
        **({"id": request.id} if request.id else {}),
        **({"outputs": outputs} if outputs else {}),
    }
    text = orjson.dumps(document)
    return b"".join((text, *behind)), len(text)


def check_amount(request: Message) -> None:
    """Refuse more parameters and dimensions than a right request has. Raises InputError."""
    amount = sum(len(each.shape) for each in request.inputs)
    for holder in (request, *request.inputs, *request.outputs):
        amount += len(holder.parameters)
    if amount > MOST_OBJECTS:
        expected = f"at most {MOST_OBJECTS} parameters and sizes of shapes"
        raise InputError("message", expected, f"{amount}")


def any_of(tensor: Message) -> bool:
    """Whether the contents of an input hold a value."""
    return bool(tensor.contents.ListFields())


def read_typed(each: Message, field: str, tensor: dict[str, Any]) -> bytes | None:
    """Return the bytes of typed contents; None, and no `data`, where the datatype has none.

    Raises:
        InputError: values stand in another field than the datatype's, or one of the message's type
            is none of the datatype (an UINT8 of 300).
    """
    given = [descriptor.name for descriptor, _ in each.contents.ListFields()]
    name, dtype = TYPED.get(each.datatype, ("", ""))
    wrong = [other for other in given if other != name]
    if name and wrong:
        raise InputError(field, f"{name}, as the datatype is {each.datatype}", wrong[0])
    if not name:
        tensor["data"] = []  # the codec of V2 refuses the datatype
        return None
    values = getattr(each.contents, name)
    if each.datatype != "UINT8":
        return array_of(values, dtype).tobytes()
    wide = array_of(values, "<u4")
    if wide.size and wide.max() > UINT8_MOST:
        at = int(wide.argmax())
        raise InputError(f"{field}.{name}[{at}]", f"0 to {UINT8_MOST}", f"{wide[at]}")
    return wide.astype(dtype).tobytes()


def array_of(values: Sequence[Any], dtype: str) -> npt.NDArray[Any]:
    """Return a repeated field as an array, made in parts: between them other threads may run."""
    whole = np.empty(len(values), dtype)
    for at in range(0, len(values), PART):
        part = values[at : at + PART]
        whole[at : at + len(part)] = part
    return whole


def from_v2(reply: Reply, response: Message, *, typed: bool, final: bool = False) -> Message:
    """Fill the response from the answer of V2.

    Args:
        reply: the answer, all its tensors behind the JSON.
        response: an empty `ModelInferResponse`.
        typed: values in `contents`, else in `raw_output_contents`.
        final: add the parameter by which a streaming client knows the last answer to a request.
    """
    length = int(dict(reply.headers)[HEADER])
    document = orjson.loads(reply.body[:length])
    response.model_name, response.model_version = document["model_name"], document["model_version"]
    response.id = document["id"]
    for name, value in document.get("parameters", {}).items():
        response.parameters[name].string_param = value
    if final:
        response.parameters[FINAL].bool_param = True
    for tensor, data in split_tensors(document["outputs"], memoryview(reply.body)[length:]):
        output = response.outputs.add(
            name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"]
        )
        if not typed:
            response.raw_output_contents.append(bytes(data))
        elif tensor["datatype"] == BYTES:
            output.contents.bytes_contents.extend(split_texts(data))
        else:
            name, dtype = TYPED[tensor["datatype"]]
            getattr(output.contents, name).extend(np.frombuffer(data, dtype).tolist())
    return response


def split_tensors(
    outputs: Sequence[Mapping[str, Any]], behind: memoryview
) -> Iterator[tuple[Mapping[str, Any], memoryview]]:
    """Yield each output and its bytes."""
    start = 0
    for output in outputs:
        end = start + output["parameters"]["binary_data_size"]
        yield output, behind[start:end]
        start = end


def split_texts(data: memoryview) -> Iterator[bytes]:
    r"""Yield the elements of a BYTES tensor.

    >>> list(split_texts(memoryview(b"\x02\x00\x00\x00ab\x00\x00\x00\x00")))
    [b'ab', b'']
    """
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + LENGTH_BYTES], "little")
        at += LENGTH_BYTES
        yield bytes(data[at : at + length])
        at += length
