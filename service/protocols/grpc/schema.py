"""The messages of the protocol, as classes of protobuf.

They live in a pool of their own: their names are the protocol's, and another client in the same
process may have registered classes of these names.
"""

from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)

DESCRIPTORS = Path(__file__).with_name("open_inference.binpb")
SERVICE = "inference.GRPCInferenceService"

Message = Any  # of protobuf: its fields are known when the descriptors are read


class Method(NamedTuple):
    """A method of the service and the classes of its messages."""

    name: str
    request: type[Message]
    response: type[Message]
    streaming: bool


def load_methods() -> dict[str, Method]:
    """Read the descriptors; returns the methods of the service by name."""
    files = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    service = pool.FindServiceByName(SERVICE)
    return {
        method.name: Method(
            method.name,
            message_factory.GetMessageClass(method.input_type),
            message_factory.GetMessageClass(method.output_type),
            method.client_streaming,
        )
        for method in service.methods
    }
