"""Laws of the way back to the data: the same rows as then, or a sentence that says why not."""

import msgspec
import pytest

from models.base.errors import DataError
from models.data.source import data_of, source_of
from models.versions.schema import Manifest
from tests.conftest import Published


def changed(manifest: Manifest, **facts: object) -> Manifest:
    assert manifest.training is not None
    data = msgspec.structs.replace(manifest.training.data, **facts)
    return msgspec.structs.replace(
        manifest, training=msgspec.structs.replace(manifest.training, data=data)
    )


def test_data_of_a_version_is_what_it_was_made_from(published: Published) -> None:
    manifest = published.bundle.manifest
    found = data_of(manifest)
    assert found.fingerprint == manifest.training.data.fingerprint
    assert source_of(manifest).path == "digits"


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"fingerprint": "0" * 64}, "changed since digits/1"),
        ({"source": {}}, "not understood"),
        ({"source": {"path": "digits", "colour": 1}}, "not understood"),
        ({"source": {"path": "gone"}}, "no such file or folder: 'gone'"),
    ],
)
def test_data_that_is_not_what_it_was_is_refused(
    facts: dict[str, object], words: str, published: Published
) -> None:
    with pytest.raises(DataError, match=words):
        data_of(changed(published.bundle.manifest, **facts))


def test_a_manifest_without_training_does_not_say_which_data(published: Published) -> None:
    with pytest.raises(DataError, match="does not say which data"):
        data_of(msgspec.structs.replace(published.bundle.manifest, training=None))
