"""Above 1,000 classes the rarest share a cell, in the graph as in the reference."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models.versions.runner import session
from monitoring.counting.class_names import MOST_CLASSES
from monitoring.scoring.cells import Cells
from monitoring.scoring.graph import GraphBuilder


@pytest.mark.parametrize("classes", [5, MOST_CLASSES + 200])
def test_the_graph_gives_each_class_the_cell_that_the_reference_counted_it_in(classes: int) -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(600, 1)).astype(np.float32)
    predicted = rng.integers(0, classes, 600)
    cells = Cells.fit(["energy"], scores, predicted, tuple(map(str, range(classes))))
    channel = cells.channels[-1]
    assert len(channel.labels) == min(classes, MOST_CLASSES)
    alpha = cells.reference["class/alpha"]
    assert alpha.sum() == pytest.approx(601)
    counts = np.bincount(cells.class_cells[predicted], minlength=len(alpha))
    np.testing.assert_allclose(alpha, counts + 1 / len(alpha))

    width = 1 + classes
    plain = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["same"])], "cells",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", width])],
        [helper.make_tensor_value_info("same", TensorProto.FLOAT, ["batch", width])],
    )  # fmt: skip
    opset = helper.make_opsetid("", 18)
    graph = GraphBuilder(helper.make_model(plain, opset_imports=[opset], ir_version=9))
    parts = [
        graph.op("Slice", "same", *(graph.const([k]) for k in (begin, end, 1)))
        for begin, end in ((0, 1), (1, width))
    ]
    found = cells.emit(graph, parts[0], parts[0], parts[1])
    graph.output("cells", found, "batch", 2, kind=TensorProto.INT32)
    built: onnx.ModelProto = graph.build()
    logits = np.eye(classes, dtype=np.float32)
    x = np.column_stack([np.zeros(classes, np.float32), logits])
    (told,) = session(built.SerializeToString()).run(["cells"], {"x": x})
    np.testing.assert_array_equal(told[:, -1], cells.class_cells)
