"""Whatever stands in the place of a file is refused by name, at once, and costs nothing."""

import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from models.base import inside
from models.base.errors import BundleError, HoldfastError, RegistryError, UnfitFileError
from models.base.files import sha256_bytes
from models.base.inside import WrongSizeError, open_folder
from models.versions import bundle as bundles
from models.versions.bundle import MANIFEST, MODEL, REFERENCE, open_bundle, read_manifest
from models.versions.registry import Registry
from models.versions.signature import SIGNATURE
from tests.models.versions.test_bundle import contents, forge, forged, manifest, written
from tests.models.versions.test_registry import WHY, publish

TERABYTE = 1 << 40
FILES = (MODEL, REFERENCE, "card.md", MANIFEST, f"{MANIFEST}.sha256")


def to_device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("only root makes devices")


def to_link(path: Path) -> None:
    path.symlink_to("/dev/zero")


def to_link_within(path: Path) -> None:
    path.symlink_to("other")


def to_socket(path: Path) -> None:
    here = os.open(path.parent, os.O_RDONLY)
    try:  # by a short path: the names of sockets are
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(f"/proc/self/fd/{here}/{path.name}")
    finally:
        os.close(here)


def to_sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(TERABYTE)


HOSTILE: tuple[tuple[Callable[[Path], Any], str], ...] = (
    (to_device, "is a device"),
    (to_link, "is a link"),
    (to_link_within, "is a link"),
    (os.mkfifo, "is a FIFO"),
    (Path.mkdir, "is a folder"),
    (to_socket, "is a socket"),
    (to_sparse, f"{TERABYTE} bytes"),
)
CASES = pytest.mark.parametrize(("make", "words"), HOSTILE, ids=[w for _, w in HOSTILE])


def swap(path: Path, make: Callable[[Path], Any]) -> None:
    """Put something else in the place of a file; where it lay a copy stays, as `other`."""
    if path.exists():
        path.rename(path.with_name("other"))
    make(path)


def refusal(call: Callable[[], Any]) -> str:
    """The error of a call, which must come at once: in a thread, so that none can hang."""
    told: list[BaseException] = []

    def ask() -> None:
        try:
            call()
        except HoldfastError as error:
            told.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(60)
    assert not asking.is_alive(), "it hangs"
    assert told, "it was not refused"
    return str(told[0])


@pytest.mark.parametrize("name", FILES)
@CASES
def test_a_bundle_with_anything_but_files_is_refused_by_name(
    tmp_path: Path, name: str, make: Callable[[Path], Any], words: str
) -> None:
    folder = written(tmp_path / "b")
    swap(folder / name, make)
    message = refusal(lambda: open_bundle(folder))
    assert name in message
    assert words in message


@CASES
def test_a_file_that_was_swapped_after_opening_is_refused(
    tmp_path: Path, make: Callable[[Path], Any], words: str
) -> None:
    bundle = open_bundle(written(tmp_path / "b"))
    swap(tmp_path / "b" / "card.md", make)
    assert words in refusal(lambda: bundle.read("card.md"))


@pytest.mark.parametrize("name", ["tiny", "tiny/1"])
def test_a_version_or_a_model_that_is_a_link_is_refused(empty: Registry, name: str) -> None:
    publish(empty)
    empty.promote("tiny", 1, expected=None, **WHY)
    place, outside = empty.root / name, empty.root.parent / "outside"
    place.rename(outside)
    place.symlink_to(outside)
    calls: list[Callable[[], Any]] = [
        lambda: empty.open("tiny"),
        lambda: empty.open("tiny", "1"),
        lambda: empty.manifest("tiny", 1),
        lambda: empty.promote("tiny", 1, expected=1, **WHY),
    ]
    if name == "tiny":
        calls += [
            lambda: empty.aliases("tiny"),
            lambda: empty.audit("tiny"),
            lambda: publish(empty),
        ]
    before = sorted(path.name for path in outside.iterdir())
    for call in calls:
        message = refusal(call)
        assert "is a link, not a folder" in message
        assert Path(name).name in message
    assert sorted(path.name for path in outside.iterdir()) == before, "nothing is written there"


def test_the_registry_itself_may_be_a_link(empty: Registry, tmp_path: Path) -> None:
    publish(empty)
    (tmp_path / "linked").symlink_to(empty.root)
    assert Registry(tmp_path / "linked").open("tiny", "1").name == "tiny/1"


def test_a_bundle_is_found_by_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "b")
    monkeypatch.chdir(tmp_path)
    assert open_bundle(Path("b")).name == "tiny/1"


@pytest.mark.parametrize("name", ["aliases.json", "audit.jsonl"])
@CASES
def test_small_files_of_the_registry_are_files(
    empty: Registry, name: str, make: Callable[[Path], Any], words: str
) -> None:
    publish(empty)
    swap(empty.root / "tiny" / name, make)
    read = {"aliases.json": empty.aliases, "audit.jsonl": empty.audit}[name]
    message = refusal(lambda: read("tiny"))
    assert name in message
    assert words in message
    if name == "audit.jsonl":
        assert name in refusal(lambda: empty.withdraw("tiny", 1, **WHY)), "nothing is appended"


def test_aliases_that_are_no_file_are_mended_by_the_next_change(empty: Registry) -> None:
    publish(empty)
    swap(empty.root / "tiny" / "aliases.json", to_link)
    empty.promote("tiny", 1, expected=None, **WHY)
    assert empty.aliases("tiny").champion == 1
    assert not (empty.root / "tiny" / "aliases.json").is_symlink()


@pytest.mark.parametrize("make", [os.mkfifo, to_link])
def test_a_lock_that_is_no_file_is_refused(empty: Registry, make: Callable[[Path], Any]) -> None:
    publish(empty)
    (empty.root / "tiny" / ".lock").unlink()
    make(empty.root / "tiny" / ".lock")
    assert ".lock" in refusal(lambda: publish(empty))


@CASES
def test_a_signature_is_a_file(tmp_path: Path, make: Callable[[Path], Any], words: str) -> None:
    folder = written(tmp_path / "b")
    make(folder / SIGNATURE)
    with open_folder(folder) as found, pytest.raises(UnfitFileError, match=words):
        bundles._signature(found)


def test_sizes_are_in_the_manifest_and_hold(tmp_path: Path) -> None:
    folder = written(tmp_path / "b")
    files = contents()
    assert read_manifest(folder).sizes == {name: len(data) for name, data in files.items()}
    sizes = {name: len(data) for name, data in files.items()}
    forged(folder, sizes=sizes | {"card.md": 6})
    with pytest.raises(BundleError, match=r"sha256 of card\.md \(7 bytes\).*states 6 bytes"):
        open_bundle(folder)
    forged(folder, sizes={MODEL: sizes[MODEL]})
    with pytest.raises(BundleError, match="states no size of"):
        open_bundle(folder)
    forged(folder, sizes=sizes | {"card.md": -1})
    with pytest.raises(BundleError, match=r"card\.md"):
        open_bundle(folder)


def test_a_manifest_without_sizes_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "b")
    members = msgspec.json.decode((folder / MANIFEST).read_bytes())
    del members["sizes"]
    forge(folder, msgspec.json.encode(members))
    with pytest.raises(BundleError, match="missing required field `sizes`"):
        open_bundle(folder)


def test_a_stated_terabyte_is_refused_before_it_is_read(tmp_path: Path) -> None:
    folder = written(tmp_path / "b")
    (folder / "card.md").unlink()
    to_sparse(folder / "card.md")
    sizes = read_manifest(folder).sizes
    forged(folder, sizes=sizes | {"card.md": TERABYTE})
    assert "may have" in refusal(lambda: open_bundle(folder))


def test_a_manifest_nested_beyond_reason_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "b")
    deep = b"[" * 100_000 + b"]" * 100_000
    encoded = msgspec.json.encode(manifest()).replace(
        b'"training":null', b'"training":{"recipe":%s}' % deep
    )
    assert deep in encoded
    forge(folder, encoded)
    with pytest.raises(BundleError, match="is not a manifest"):
        open_bundle(folder)


def test_aliases_nested_beyond_reason_are_damaged(empty: Registry) -> None:
    publish(empty)
    (empty.root / "tiny" / "aliases.json").write_bytes(
        b'{"x":' + b"[" * 30_000 + b"]" * 30_000 + b"}"
    )
    with pytest.raises(RegistryError, match="damaged"):
        empty.aliases("tiny")


def test_a_reference_that_becomes_gigabytes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    stream = io.BytesIO()
    np.savez_compressed(stream, **{"class/alpha": np.zeros(1 << 20)})
    assert len(stream.getvalue()) < 20_000
    monkeypatch.setattr(bundles, "MOST_REFERENCE_BYTES", 1 << 20)
    folder = written(tmp_path / "b", contents() | {REFERENCE: stream.getvalue()})
    with pytest.raises(BundleError, match="8388736 bytes decompressed"):
        open_bundle(folder)


PEAK = """
import sys
from pathlib import Path
from models.versions.bundle import open_bundle
from models.base.errors import BundleError

def most():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))

before = most()
try:
    open_bundle(Path(sys.argv[1]))
except BundleError as error:
    print(error.reason, most() - before, sep=";")
"""


def test_what_nobody_needs_is_verified_in_constant_memory(tmp_path: Path) -> None:
    folder = written(tmp_path / "b", contents() | {"weights.safetensors": bytes(1 << 28)})
    forged(folder, files=read_manifest(folder).files | {"weights.safetensors": sha256_bytes(b"")})
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(folder)], capture_output=True, text=True, check=True
    )
    reason, kilobytes = done.stdout.split(";")
    assert "sha256 of weights.safetensors" in reason
    assert int(kilobytes) < 64_000


def test_a_file_that_grows_or_shrinks_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    real = inside.os.fdopen
    for change in (b"longer than before", b""):
        path.write_bytes(b"as it was")

        def opens(descriptor: int, mode: str, change: bytes = change) -> Any:
            path.write_bytes(change)
            return real(descriptor, mode)

        monkeypatch.setattr(inside.os, "fdopen", opens)
        with open_folder(tmp_path) as folder:
            held = os.fstat  # the size is looked at before the change
            monkeypatch.setattr(inside.os, "fstat", lambda fd, held=held: _Sized(held(fd), 9))
            with pytest.raises(UnfitFileError, match="changed while it was read"):
                folder.read("f", 100)
            with pytest.raises(UnfitFileError, match="changed while it was read"):
                folder.sha256("f", 100)
        monkeypatch.undo()


class _Sized:
    """What `fstat` said before the file was changed."""

    def __init__(self, found: os.stat_result, size: int) -> None:
        self.st_mode, self.st_size = found.st_mode, size


def test_read_file_and_digest_agree(tmp_path: Path) -> None:
    data = os.urandom(3 * inside.CHUNK_BYTES + 17)
    (tmp_path / "f").write_bytes(data)
    with open_folder(tmp_path, inside=1) as folder:
        assert folder.read("f", len(data)) == data
    with open_folder(tmp_path) as folder:
        assert folder.sha256("f", len(data), exactly=len(data)) == sha256_bytes(data)
        with pytest.raises(WrongSizeError):
            folder.read("f", 1 << 30, exactly=17)
        with pytest.raises(UnfitFileError, match=f"may have {len(data) - 1}"):
            folder.read("f", len(data) - 1)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    folder = written(tmp_path / "b")
    swap(folder / "card.md", to_link)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        with pytest.raises(BundleError):
            open_bundle(folder)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
