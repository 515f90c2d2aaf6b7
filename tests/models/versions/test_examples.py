"""Held-out rows in a bundle: few, of every class, and refused where they do not fit."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from models.base.errors import BundleError
from models.versions import bundle as files
from models.versions.examples import (
    EXAMPLES,
    MOST_BYTES,
    choose_examples,
    encode_examples,
    read_examples,
)
from models.versions.registry import Registry
from tests import bundles


def test_examples_are_few_and_of_every_class() -> None:
    data = bundles.digits()
    places = choose_examples(data.test.x, data.test.y, 10)
    assert len(places) == 24
    assert set(data.test.y[places[:10]].tolist()) == set(range(10))
    large = np.zeros((40, 1 << 18), np.float32)
    assert choose_examples(large, np.zeros(40, np.int64), 1).nbytes <= MOST_BYTES
    assert len(choose_examples(large, np.zeros(40, np.int64), 1)) == 4


@pytest.mark.parametrize(
    "contents",
    [
        b"no archive",
        encode_examples(np.zeros((2, 1, 8, 9), np.float32), np.zeros(2, np.int64)),
        encode_examples(np.zeros((2, 1, 8, 8), np.float32), np.array([0, 10])),
        encode_examples(np.zeros((2, 1, 8, 8), np.float64), np.zeros(2, np.int64)),
    ],
)
def test_examples_that_do_not_fit_are_refused(contents: bytes, tmp_path: Path) -> None:
    bundles.publish(tmp_path)
    registry = Registry(tmp_path)
    plain = registry.open("digits", "1")
    assert read_examples(plain) is None
    whole = {name: plain.read(name) for name in (files.MODEL, files.REFERENCE)}

    def make(version: int) -> tuple[dict[str, bytes], files.Manifest]:
        manifest = msgspec.structs.replace(plain.manifest, version=version)
        return whole | {EXAMPLES: contents}, manifest

    version = registry.publish("digits", make, actor="test", reason="test")
    with pytest.raises(BundleError):
        read_examples(registry.open("digits", str(version)))
