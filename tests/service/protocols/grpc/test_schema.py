"""Our description of the protocol against the one that NVIDIA's client has."""

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FieldDescriptor
from tritonclient.grpc import service_pb2

from service.protocols.grpc import making, schema

PEER = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
NOT_HERE = {"Shared", "Trace", "Log"}  # what names of methods begin or go on with


def test_the_descriptors_are_those_of_the_source(tmp_path: Path) -> None:
    making.compile_descriptors(tmp_path / "made")
    read = descriptor_pb2.FileDescriptorSet.FromString
    made, kept = ((tmp_path / "made").read_bytes(), schema.DESCRIPTORS.read_bytes())
    assert read(made) == read(kept), "run `python -m service.protocols.grpc.making`"


def shape_of(field: FieldDescriptor) -> tuple[Any, ...]:
    return field.name, field.number, field.type, field.is_repeated


def compare(ours: Any, theirs: Any, seen: set[str]) -> None:
    """Every field of ours is one of theirs, with its number and type; and so for what it holds."""
    if ours.full_name in seen:
        return
    seen.add(ours.full_name)
    assert ours.name == theirs.name
    known = {field.name: field for field in theirs.fields}
    for field in ours.fields:
        peer = known[field.name]
        assert shape_of(field) == shape_of(peer), f"{ours.name}.{field.name}"
        if field.message_type is not None:
            compare(field.message_type, peer.message_type, seen)
        if field.enum_type is not None:
            numbers = {value.name: value.number for value in peer.enum_type.values}
            mine = {value.name: value.number for value in field.enum_type.values}
            assert mine.items() <= numbers.items()


def test_every_field_has_the_published_name_number_and_type() -> None:
    seen: set[str] = set()
    for name, method in schema.load_methods().items():
        peer = PEER.methods_by_name[name]
        compare(method.request.DESCRIPTOR, peer.input_type, seen)
        compare(method.response.DESCRIPTOR, peer.output_type, seen)
        assert method.streaming == peer.client_streaming == peer.server_streaming
    assert len(seen) > 30


def test_every_method_is_there_but_what_http_has_not_either() -> None:
    missing = {each.name for each in PEER.methods} - set(schema.load_methods())
    assert all(any(word in name for word in NOT_HERE) for name in missing), missing


@pytest.mark.parametrize("name", ["ModelInferRequest", "ModelInferResponse"])
def test_the_messages_of_inference_are_whole(name: str) -> None:
    method = schema.load_methods()["ModelInfer"]
    ours = {m.DESCRIPTOR.name: m.DESCRIPTOR for m in (method.request, method.response)}[name]
    theirs = service_pb2.DESCRIPTOR.message_types_by_name[name]
    assert [shape_of(f) for f in ours.fields] == [shape_of(f) for f in theirs.fields]
