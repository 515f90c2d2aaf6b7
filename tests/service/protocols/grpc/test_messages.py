"""What a message may hold: looked at before objects are made of it, and made of it cheaply."""

import struct
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from models.base.errors import InputError
from service.protocols.grpc.codec import to_v2
from service.protocols.grpc.head import Head, read_head
from service.protocols.grpc.statuses import code_of

Request = service_pb2.ModelInferRequest
Tensor = Request.InferInputTensor


def message(values: Any, datatype: str, field: str) -> Any:
    tensor = Tensor(name="input", datatype=datatype, shape=[len(values)])
    getattr(tensor.contents, field).extend(values)
    return Request(model_name="digits", model_version="2", id="é", inputs=[tensor])


def test_the_head_is_what_protobuf_reads() -> None:
    sent = message([1.0, 2.0], "FP32", "fp32_contents")
    sent.raw_input_contents.append(b"\x00" * 1000)
    sent.parameters["a"].int64_param = -1
    assert read_head(sent.SerializeToString()) == Head("digits", "2", "é")
    assert read_head(b"") == Head()
    other = bytes([15 << 3 | 5]) + struct.pack("<f", 1.0) + bytes([14 << 3, 0xFF, 0x01])
    assert read_head(other + sent.SerializeToString()).model == "digits"


@pytest.mark.parametrize(
    "sent",
    [b"\x0a", b"\x0a\x05ab", b"\xff" * 20, b"\x0a\x01\xff", b"\x0b", b"\x0d\x00", b"\x0a\xff\xff"],
)
def test_bytes_that_are_no_message_are_refused(sent: bytes) -> None:
    with pytest.raises(InputError, match="ModelInferRequest"):
        read_head(sent)


@pytest.mark.parametrize("field", ["inputs", "outputs", "parameters", "raw_input_contents"])
def test_a_message_of_very_many_fields_is_refused_before_it_is_decoded(field: str) -> None:
    number = Request.DESCRIPTOR.fields_by_name[field].number
    sent = bytes([number << 3 | 2, 0]) * 2**19
    with pytest.raises(InputError, match="at most 1000 inputs, outputs and parameters"):
        read_head(sent)


def test_what_an_input_holds_beside_its_values_is_bounded() -> None:
    shapes = Request(inputs=[Tensor(shape=[1] * 1001)])
    named = Request(inputs=[Tensor()])
    for index in range(1001):
        named.inputs[0].parameters[str(index)].bool_param = True
    asked = Request(outputs=[{"name": "cells"}] * 2)
    for index in range(1001):
        asked.outputs[index % 2].parameters[str(index)].bool_param = True
    for each in (shapes, named, asked):
        with pytest.raises(InputError, match="at most 1000 parameters and sizes"):
            to_v2(each)


def test_bytes_of_uint8_become_bytes_and_one_beyond_is_refused_with_its_place() -> None:
    values = np.arange(256)
    body, length = to_v2(message(values.tolist(), "UINT8", "uint_contents"))
    assert body[length:] == bytes(range(256))
    assert b'"binary_data_size":256' in body[:length]
    with pytest.raises(InputError, match=r"uint_contents\[2\]: expected 0 to 255, got 300"):
        to_v2(message([0, 1, 300], "UINT8", "uint_contents"))
    body, length = to_v2(message([1.5, -2.0], "FP32", "fp32_contents"))
    assert body[length:] == struct.pack("<ff", 1.5, -2.0)


def test_statuses_of_a_client_are_its_own_fault() -> None:
    assert [code_of(s).name for s in (415, 408, 421, 500, 503, 301)] == [
        "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "INVALID_ARGUMENT", "INTERNAL", "UNAVAILABLE",
        "INTERNAL",
    ]  # fmt: skip
