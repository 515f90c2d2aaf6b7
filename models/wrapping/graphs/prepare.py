"""One form for every model: no functions, one opset, names that clash with nothing, any batch."""

import onnx
from onnx import TensorProto, inliner, numpy_helper, version_converter

from models.base.errors import AdaptError
from models.wrapping.graphs.edit import Index, dims_of, rename_all
from models.wrapping.graphs.read import check_model, every_node, first_line

OPSET = 18  # what the score heads are written in
IR_VERSION = 8  # the first that goes with it
RESHAPING = ("Reshape", "Expand")


def prepare(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that heads can be added to: functions inlined, opset 18 or later, names prefixed.

    Raises:
        AdaptError: it is no valid ONNX, has custom operators or cannot be brought to opset 18.
    """
    check_model(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _one_opset_per_domain(copy)
    if copy.functions:
        copy = inliner.inline_local_functions(copy)
    copy = _upgrade_opset(copy)
    copy.ir_version = max(copy.ir_version, IR_VERSION)
    for node in every_node(copy):
        if node.domain == "ai.onnx":
            node.domain = ""
    inputs = Index(copy.graph).inputs
    if not inputs:
        raise AdaptError("the model has no input: all that it reads are its own weights")
    kept = [onnx.ValueInfoProto.FromString(given.SerializeToString()) for given in inputs]
    del copy.graph.input[:]
    copy.graph.input.extend(kept)
    del copy.graph.value_info[:]
    make_answerable(copy)
    rename_all(copy.graph)
    return copy


def make_answerable(model: onnx.ModelProto) -> None:
    """Change, in place, what stops onnxruntime though every answer is there.

    Encoders that refuse unknown categories answer them as none of theirs: a single strange row
    would stop the whole batch, and strange rows are what drift is made of. A ZipMap, which takes
    float32 only, gets its probabilities cast: skl2onnx writes float64 before it.
    """
    for place, node in reversed(list(enumerate(model.graph.node))):
        if node.op_type == "ZipMap":
            narrow = f"{node.input[0]}/float32"
            cast = onnx.helper.make_node("Cast", [node.input[0]], [narrow], to=TensorProto.FLOAT)
            node.input[0] = narrow
            model.graph.node.insert(place, cast)
    for output in model.graph.output:
        element = output.type.sequence_type.elem_type
        if element.WhichOneof("value") == "map_type":
            element.map_type.value_type.tensor_type.elem_type = TensorProto.FLOAT
    for node in every_node(model):
        if node.op_type == "OneHotEncoder":
            for attribute in node.attribute:
                if attribute.name == "zeros" and not attribute.i:
                    attribute.i = 1


def fix_batch(model: onnx.ModelProto) -> int | None:
    """How many rows the model insists on, None if its inputs leave that open."""
    for given in Index(model.graph).inputs:
        dims = dims_of(given)
        if dims and dims[0] is not None:
            return dims[0]
    return None


def free_batch(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """A copy that takes any number of rows, where only declared sizes and Reshape say `batch`.

    Whether it answers row by row as the model did is for the caller to check.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for given in copy.graph.input:
        if given.type.tensor_type.shape.dim:
            given.type.tensor_type.shape.dim[0].dim_param = "batch"
    for answer in copy.graph.output:
        answer.type.tensor_type.ClearField("shape")
    index = Index(copy.graph)
    for number, node in enumerate(copy.graph.node):
        if node.op_type not in RESHAPING or len(node.input) < 2:
            continue
        shape = index.constant(node.input[1])
        if shape is None or shape.size < 1 or shape.ravel()[0] != batch:
            continue
        sizes = shape.copy()
        # An Expand by 1 leaves the rows as they are; a Reshape takes at most one -1.
        sizes[0] = 1 if node.op_type == "Expand" else (0 if (sizes[1:] == -1).any() else -1)
        name = f"{node.input[1]}/any_batch_{number}"
        copy.graph.initializer.append(numpy_helper.from_array(sizes, name))
        node.input[1] = name
    return copy


def _one_opset_per_domain(model: onnx.ModelProto) -> None:
    """Merge repeated entries (skl2onnx writes some) and the two names of the main domain."""
    versions: dict[str, int] = {}
    for entry in model.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        versions[domain] = max(entry.version, versions.get(domain, 0))
    versions.setdefault("", 1 if model.ir_version < 3 else OPSET)
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(d, v) for d, v in versions.items())


def _upgrade_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    (entry,) = (e for e in model.opset_import if not e.domain)
    if entry.version >= OPSET:
        return model
    changed = _changed_operators(model, entry.version)
    if not changed:
        entry.version = OPSET
        return model
    _drop_missing_types(model)
    try:
        return version_converter.convert_version(model, OPSET)
    except Exception as error:  # the converter raises several unrelated classes
        raise AdaptError(
            f"the model has opset {entry.version} and onnx cannot bring it to {OPSET} "
            f"(operators that changed: {', '.join(sorted(changed))}): export it with opset "
            f"{OPSET} or later. It says: {first_line(error)}"
        ) from error


def _changed_operators(model: onnx.ModelProto, version: int) -> set[str]:
    """Operators of the main domain that mean something else, or more, in opset 18."""
    kinds = {node.op_type for node in every_node(model) if node.domain in ("", "ai.onnx")}
    return {
        kind
        for kind in kinds
        if onnx.defs.get_schema(kind, version).since_version
        != onnx.defs.get_schema(kind, OPSET).since_version
    }


def _drop_missing_types(model: onnx.ModelProto) -> None:
    """Leave out recorded types of inner tensors: wrong ones stop the converter."""
    del model.graph.value_info[:]
    for output in model.graph.output:
        if output.type.WhichOneof("value") is None:
            output.type.tensor_type.elem_type = TensorProto.FLOAT
