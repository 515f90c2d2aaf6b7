"""From a file to an ONNX model that is whole, self-contained and made of known operators."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import AttributeProto, TensorProto, external_data_helper

from models.base.errors import AdaptError
from models.data.faults import FaultsError

Model = onnx.ModelProto

LARGEST_BYTES = 2**31 - 1  # what protobuf can hold in one file
KNOWN_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
IR_VERSION_FIELD = 0x08  # the first byte of nearly every ONNX file: field 1, a varint


def read_model(path: Path) -> onnx.ModelProto:
    """Read an ONNX file with the external weights beside it.

    Raises:
        AdaptError: the file is absent, no ONNX, truncated or larger than 2 GB, or external data
            is missing, too short or outside the folder of the model.
    """
    try:
        size = path.stat().st_size
        if size > LARGEST_BYTES:
            raise AdaptError(f"{path} has {size / 1e9:.1f} GB; a bundle holds models up to 2 GB")
        data = path.read_bytes()
    except OSError as error:
        raise AdaptError(f"cannot read {path}: {error.strerror}") from error
    model = parse(data, str(path))
    _load_external(model, path)
    return model


def parse(data: bytes, name: str) -> onnx.ModelProto:
    """The model in the bytes of a file; `name` is for messages.

    Raises:
        AdaptError: they hold no ONNX model, or a part of one.
    """
    truncated = data[:1] == bytes([IR_VERSION_FIELD])
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        if truncated:
            raise AdaptError(
                f"{name} is truncated or damaged: {len(data)} bytes end inside a field"
            ) from error
        raise AdaptError(f"{name} is not an ONNX file") from error
    if not model.ir_version or not model.graph.output:
        if truncated and model.ir_version:
            raise AdaptError(f"{name} is truncated: its graph has no outputs")
        raise AdaptError(f"{name} is not an ONNX file: it holds no graph")
    return model


def check_model(model: onnx.ModelProto) -> None:
    """Refuse what onnxruntime could not run, and what is no valid ONNX.

    Raises:
        AdaptError: names the operator and its domain, or says what the checker found.
    """
    _check_names(model)
    local = {(f.domain, f.name) for f in model.functions}
    for node in every_node(model):
        if (node.domain, node.op_type) in local:
            continue
        if node.domain not in KNOWN_DOMAINS:
            raise AdaptError(
                f"operator {node.op_type} of domain {node.domain!r} (node {node.name!r}) is a "
                "custom one: export the model with operators of ai.onnx and ai.onnx.ml only"
            )
        if node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type):
            raise AdaptError(
                f"operator {node.op_type} (node {node.name!r}) is not one of ONNX "
                f"(domain ai.onnx); it may be a custom one without its domain"
            )
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise AdaptError(f"the file is no valid ONNX model: {first_line(error)}") from error


def _check_names(model: onnx.ModelProto) -> None:
    """Refuse names that are no text: protobuf gives them as bytes."""
    for node in every_node(model):
        for name in (node.op_type, node.domain, node.name, *node.input, *node.output):
            if not isinstance(name, str):
                raise AdaptError(f"the file is damaged: {name!r}, a name in it, is no UTF-8")
    graph = model.graph
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        if not isinstance(value.name, str):
            raise AdaptError(f"the file is damaged: {value.name!r}, a name in it, is no UTF-8")


def every_node(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """All nodes of the model, those of subgraphs and of local functions too."""
    yield from nodes_within(model.graph.node)
    for function in model.functions:
        yield from nodes_within(function.node)


def nodes_within(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes and those of their subgraphs."""
    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from nodes_within(graph.node)


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs among the attributes of a node (branches, loop bodies)."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def refuse_all(what: str, faults: Sequence[str]) -> None:
    """Raise AdaptError that lists all faults of `what`, in its own words if it is only one."""
    if faults:
        raise AdaptError(str(FaultsError(what, tuple(dict.fromkeys(faults)))))


def first_line(error: Exception) -> str:
    """What an error of a library says, shortened to one line of 300 characters at most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def _load_external(model: onnx.ModelProto, path: Path) -> None:
    """Read weights that lie in files beside the model into it."""
    folder, total = path.parent.resolve(), model.ByteSize()
    for tensor in external_data_helper._get_all_tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        total += _check_external(path, folder, tensor.name, entries)
        if total > LARGEST_BYTES:
            raise AdaptError(
                f"{path} has more than 2 GB with its external data; a bundle holds up to 2 GB"
            )
    try:
        external_data_helper.load_external_data_for_model(model, str(folder))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise AdaptError(f"cannot read the external data of {path}: {first_line(error)}") from error


def _check_external(path: Path, folder: Path, name: str, entries: dict[str, str]) -> int:
    """Bytes that a tensor takes from its file; refused if the file lacks them."""
    location = entries.get("location", "")
    beside = (folder / location).resolve()
    if not location or not beside.is_relative_to(folder):
        raise AdaptError(f"{path}: weights {name!r} lie outside its folder, in {location!r}")
    if not beside.is_file():
        raise AdaptError(
            f"{path} keeps its weights in another file, {location!r}, which is missing: "
            f"put it into {path.parent}"
        )
    size, offset = beside.stat().st_size, int(entries.get("offset") or 0)
    length = int(entries.get("length") or size - offset)
    if length < 0 or offset + length > size:
        raise AdaptError(
            f"{beside} is truncated: {size} bytes, weights {name!r} need {offset + length}"
        )
    return length
