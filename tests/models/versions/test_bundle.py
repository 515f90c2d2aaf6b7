"""Laws of a bundle: what was written opens again, and any other byte is refused."""

import io
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.base.errors import BundleError
from models.base.files import sha256_bytes
from models.versions.bundle import (
    MANIFEST,
    MODEL,
    REFERENCE,
    open_bundle,
    read_manifest,
    write_files,
)
from models.versions.facts import EventFacts
from models.versions.schema import (
    SCHEMA_VERSION,
    Calibration,
    ChannelInfo,
    InputSchema,
    Manifest,
)

FILES = (MODEL, REFERENCE, "card.md", MANIFEST, f"{MANIFEST}.sha256")
tampering = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def manifest(model: str = "tiny", version: int = 1, event: EventFacts | None = None) -> Manifest:
    """A manifest of a model that nobody runs."""
    return Manifest(
        schema_version=SCHEMA_VERSION,
        model=model,
        version=version,
        created_at="2024-01-01T00:00:00.000Z",
        input=InputSchema("input", (1, 8, 8), "float32", 0.0, 16.0, "image"),
        classes=("no", "yes"),
        channels=(ChannelInfo("class", "class", ("no", "yes")),),
        calibration=Calibration(9, 0.01, 1.0, 1.0, "nothing", 1.0, 0.05, 10),
        training=None,
        evaluation=None,
        parent=None,
        event=event,
        files={},
        sizes={},
    )


def contents(**arrays: Any) -> dict[str, bytes]:
    """Files of a small bundle: bytes for a graph, a reference and a text."""
    stream = io.BytesIO()
    np.savez(stream, **({"class/alpha": np.array([4.5, 5.5])} | arrays))
    return {MODEL: b"graph" * 40, REFERENCE: stream.getvalue(), "card.md": b"# tiny\n"}


def written(folder: Path, files: Mapping[str, bytes] | None = None) -> Path:
    """A bundle in `folder`."""
    folder.mkdir(exist_ok=True)
    write_files(folder, contents() if files is None else files, manifest())
    return folder


def forge(folder: Path, encoded: bytes) -> None:
    """Put another manifest in place, with the digest that belongs to it."""
    (folder / MANIFEST).write_bytes(encoded)
    (folder / f"{MANIFEST}.sha256").write_text(sha256_bytes(encoded))


def forged(folder: Path, **changes: Any) -> None:
    """Change members of the manifest and its digest with it."""
    known = msgspec.json.decode((folder / MANIFEST).read_bytes())
    forge(folder, msgspec.json.encode(known | changes))


def test_bundle_opens_with_all_that_was_written(tmp_path: Path) -> None:
    bundle = open_bundle(written(tmp_path / "b"))
    assert bundle.name == "tiny/1"
    assert bundle.model_bytes == contents()[MODEL]
    assert bundle.reference["class/alpha"].tolist() == [4.5, 5.5]
    assert bundle.read("card.md") == b"# tiny\n"
    assert set(bundle.manifest.files) == set(contents())
    assert bundle.manifest == read_manifest(tmp_path / "b")


@tampering
@given(st.sampled_from(FILES), st.data(), st.integers(1, 255))
def test_any_changed_byte_is_refused(
    tmp_path: Path, name: str, data: st.DataObject, flip: int
) -> None:
    path = written(tmp_path / "b") / name
    changed = bytearray(path.read_bytes())
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= flip
    path.write_bytes(changed)
    with pytest.raises(BundleError):
        open_bundle(tmp_path / "b")


@tampering
@given(st.sampled_from(FILES), st.data())
def test_any_truncation_is_refused(tmp_path: Path, name: str, data: st.DataObject) -> None:
    path = written(tmp_path / "b") / name
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(BundleError):
        open_bundle(tmp_path / "b")


@pytest.mark.parametrize("name", FILES)
def test_missing_or_appended_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / "b") / name
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(BundleError, match="sha256"):
        open_bundle(tmp_path / "b")
    path.unlink()
    with pytest.raises(BundleError, match="cannot read .?" + name.removesuffix(".sha256")):
        open_bundle(tmp_path / "b")


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/hostname", "sub/file", "..", ".", "", "a\0b", "sub\\..", "x" * 400]
)
def test_file_names_cannot_leave_the_bundle(tmp_path: Path, name: str) -> None:
    folder = written(tmp_path / "b")
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "sub").mkdir()
    (folder / "sub" / "file").write_bytes(b"secret")
    files = open_bundle(folder).manifest.files
    forged(folder, files=files | {name: sha256_bytes(b"secret")})
    with pytest.raises(BundleError):
        open_bundle(folder)


def test_reading_a_file_that_the_manifest_does_not_list_is_refused(tmp_path: Path) -> None:
    bundle = open_bundle(written(tmp_path / "b"))
    (tmp_path / "b" / "extra").write_bytes(b"x")
    for name in ("extra", "../b/card.md", MANIFEST):
        with pytest.raises(BundleError, match="not a file of this bundle"):
            bundle.read(name)


def test_file_changed_after_opening_is_refused_when_it_is_read(tmp_path: Path) -> None:
    bundle = open_bundle(written(tmp_path / "b"))
    (tmp_path / "b" / "card.md").write_bytes(b"# other\n")
    with pytest.raises(BundleError, match=r"card\.md \(8 bytes\) does not match"):
        bundle.read("card.md")


def test_other_schema_version_is_refused_with_both_numbers_and_the_way_out(tmp_path: Path) -> None:
    folder = written(tmp_path / "b")
    for version, words in ((1, "older Holdfast"), (4, "newer Holdfast")):
        forged(folder, schema_version=version)
        both = rf"{words} \(schema version {version}, this program reads {SCHEMA_VERSION}\)"
        with pytest.raises(BundleError, match=both + ".*train or wrap it again"):
            open_bundle(folder)


def test_a_manifest_of_schema_2_is_read_with_the_fields_that_came_later_at_their_defaults(
    tmp_path: Path,
) -> None:
    folder = written(tmp_path / "b")
    forged(folder, schema_version=2)
    calibration = open_bundle(folder).manifest.calibration
    assert calibration.suspicion_threshold is None
    assert not calibration.benign_pooled
    assert calibration.kinds_above == calibration.suspicion_edges == ()


def test_an_older_manifest_is_refused_by_its_version_whatever_else_it_holds(tmp_path: Path) -> None:
    folder = written(tmp_path / "b")
    forge(folder, b'{"schema_version": 1, "evaluation": {}, "calibration": {"n": 9}}')
    with pytest.raises(BundleError, match="made by an older Holdfast"):
        open_bundle(folder)


@pytest.mark.parametrize(
    ("encoded", "says"),
    [
        (b"", "not a manifest"),
        (b"[]", "not a manifest"),
        (b"{}", "missing required field"),
        (b'{"model": "\xff"}', "not a manifest"),
    ],
)
def test_manifest_that_is_none_is_refused(tmp_path: Path, encoded: bytes, says: str) -> None:
    folder = written(tmp_path / "b")
    forge(folder, encoded)
    with pytest.raises(BundleError, match=says):
        open_bundle(folder)


def test_bundle_without_a_graph_or_a_reference_is_refused(tmp_path: Path) -> None:
    for name in (MODEL, REFERENCE):
        files = {k: v for k, v in contents().items() if k != name}
        with pytest.raises(BundleError, match=f"lists no {name}"):
            open_bundle(written(tmp_path / name.split(".")[0], files))


def test_channel_without_reference_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "b")
    other = msgspec.to_builtins(ChannelInfo("energy", "score", ("00",)))
    forged(folder, channels=[other])
    with pytest.raises(BundleError, match="no reference for channel energy"):
        open_bundle(folder)


def test_reference_is_never_unpickled(tmp_path: Path) -> None:
    folder = written(tmp_path / "b", contents(trap=np.array([print], dtype=object)))
    with pytest.raises(BundleError, match=REFERENCE):
        open_bundle(folder)


def test_reading_a_manifest_takes_no_library_of_statistics() -> None:
    # Every worker of the service reads manifests: scipy would cost each a second and its memory.
    script = "import sys, models.versions.bundle; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
