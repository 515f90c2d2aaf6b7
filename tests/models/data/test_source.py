"""Laws of the way back to the data: the same rows as then, or a sentence that says why not."""

import msgspec
import pytest

from models.base.errors import DataError
from models.data.source import data_of, source_of
from models.versions.schema import Manifest
from tests.conftest import Published


def changed(manifest: Manifest, facts: dict[str, object]) -> Manifest:
    return msgspec.structs.replace(manifest, training={"data": facts})


def test_data_of_a_version_is_what_it_was_made_from(published: Published) -> None:
    manifest = published.bundle.manifest
    found = data_of(manifest)
    assert found.fingerprint == manifest.training["data"]["fingerprint"]
    assert source_of(manifest).path == "digits"


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"source": {"path": "digits"}, "fingerprint": "0" * 64}, "changed since digits/1"),
        ({}, "does not say which data"),
        ({"name": "digits"}, "does not say which data"),
        ({"source": {"path": "digits", "colour": 1}}, "not understood"),
        ({"source": {"path": "gone"}}, "no such file or folder: 'gone'"),
    ],
)
def test_data_that_is_not_what_it_was_is_refused(
    facts: dict[str, object], words: str, published: Published
) -> None:
    with pytest.raises(DataError, match=words):
        data_of(changed(published.bundle.manifest, facts))
