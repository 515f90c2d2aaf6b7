"""Laws of the runner: what does not fit its manifest is refused; what fits answers everywhere."""

import threading
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

from models.base.errors import BundleError
from models.data import DataSet
from models.evaluation.subject import answer
from models.versions.bundle import Bundle
from models.versions.promises import CERTIFICATE_OUTPUTS
from models.versions.registry import Registry
from models.versions.runner import Runner
from models.versions.schema import OUTPUTS
from tests import bundles
from tests.conftest import Published


def test_answer_has_the_documented_shapes_and_types(published: Published, digits: DataSet) -> None:
    told = published.runner.run(digits.test.x[:5])
    assert told._fields == (*OUTPUTS, *CERTIFICATE_OUTPUTS)
    assert told.probabilities.shape == (5, 10)
    assert told.cells.shape == (5, len(published.bundle.manifest.channels))
    assert told.cells.dtype == np.int32
    for score in told[1:4]:
        assert (score.shape, score.dtype) == ((5,), np.float32)
    np.testing.assert_allclose(told.probabilities.sum(axis=1), 1, atol=1e-5)


def test_a_version_of_schema_2_is_served_with_the_suspicion_that_both_likelihoods_imply(
    published: Published, digits: DataSet
) -> None:
    model = onnx.load_from_string(published.bundle.model_bytes)
    kept = [o for o in model.graph.output if o.name != "suspicion"]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    manifest = msgspec.structs.replace(published.bundle.manifest, schema_version=2)
    old = replace(published.bundle, manifest=manifest, model_bytes=model.SerializeToString())
    told, whole = Runner(old).run(digits.test.x), published.runner.run(digits.test.x)
    assert told._fields[: len(OUTPUTS)] == OUTPUTS
    assert told.suspicion.dtype == np.float32
    np.testing.assert_array_equal(told.cells, whole.cells)
    np.testing.assert_allclose(told.suspicion, whole.suspicion, atol=2e-3)
    current = replace(published.bundle, model_bytes=model.SerializeToString())
    with pytest.raises(BundleError, match=r"lacks the outputs \['suspicion'\]"):
        Runner(current)


def test_threads_get_the_answers_of_one(published: Published, digits: DataSet) -> None:
    x = digits.test.x
    expected, wrong = answer(published.runner, x), []

    def ask(start: int) -> None:
        for k in range(start, start + 60):
            told = published.runner.run(x[k : k + 1])
            if not np.array_equal(told.cells[0], expected.cells[k]):
                wrong.append(k)

    threads = [threading.Thread(target=ask, args=(start,)) for start in range(0, 240, 60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def other_graph(bundle: Bundle, change: str) -> Bundle:
    """The bundle with a graph that its manifest does not describe."""
    model = onnx.load_from_string(bundle.model_bytes)
    if change == "input":
        name = model.graph.input[0].name
        model.graph.input[0].name = "pixels"
        for node in model.graph.node:
            node.input[:] = ["pixels" if i == name else i for i in node.input]
    else:
        kept = [o for o in model.graph.output if o.name != "cells"]
        del model.graph.output[:]
        model.graph.output.extend(kept)
    return replace(bundle, model_bytes=model.SerializeToString())


def other_manifest(bundle: Bundle, **changes: object) -> Bundle:
    """The bundle with a manifest that its graph does not obey."""
    return replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, **changes))


def test_graph_that_does_not_fit_the_manifest_is_refused(published: Published) -> None:
    bundle, manifest = published.bundle, published.bundle.manifest
    cases = {
        "onnxruntime cannot load": replace(bundle, model_bytes=b"no graph"),
        r"takes \['pixels'\], the manifest says 'input'": other_graph(bundle, "input"),
        r"lacks the outputs \['cells'\]": other_graph(bundle, "output"),
        r"probabilities have shape \(1, 10\)": other_manifest(bundle, classes=("a", "b")),
        r"cells have shape \(1, 7\)": other_manifest(bundle, channels=manifest.channels[:2]),
    }
    for words, broken in cases.items():
        with pytest.raises(BundleError, match=words):
            Runner(broken)


def test_graph_that_takes_another_shape_is_refused(published: Published) -> None:
    schema = msgspec.structs.replace(published.bundle.manifest.input, shape=(1, 9, 9))
    with pytest.raises(BundleError):
        Runner(other_manifest(published.bundle, input=schema))


def test_table_is_warmed_up_with_rows_that_its_schema_accepts(tmp_path: Path) -> None:
    bundles.publish(tmp_path, "rows", name="asked")
    bundle, data = Registry(tmp_path).open("rows"), bundles.table()
    runner = Runner(bundle)
    told = answer(runner, data.test.x)
    assert told.probabilities.shape == (len(data.test), 3)
    assert (told.probabilities.argmax(axis=1) == data.test.y).mean() > 0.7
    first = np.broadcast_to(data.schema.offset, (1, 12)).astype(np.float32)
    data.schema.check(first)
