"""A model version on disk: written once, verified before every use.

model.onnx             the instrumented graph
manifest.json          schema, classes, channels, evaluation; sha256 and size of the rest
manifest.json.sha256   digest of the manifest itself
manifest.json.sig      signature of the manifest (where there is a key to sign with)
reference.npz          per channel: cell edges and reference weights
weights.safetensors    torch weights (absent for a wrapped ONNX model)
lineage.npz            labelled live rows and changed labels (absent: made from its data alone)
report.json, card.md   the evaluation, for machines and people
examples.npz           some held-out rows to try it with (`models.versions.examples`; may be absent)

They are regular files of at most the size that the manifest states; links are not followed, those
in the place of a version or a model neither (`models.base.inside`).
"""

import io
import shutil
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from models.base.errors import BundleError, UnfitFileError
from models.base.files import fsync_dir, sha256_bytes, write_durable
from models.base.inside import Folder, WrongSizeError, open_folder
from models.statistics.arrays import FloatArray
from models.versions.schema import Manifest, decode_manifest
from models.versions.signature import SIGNATURE, Keys

MODEL = "model.onnx"
MANIFEST = "manifest.json"
REFERENCE = "reference.npz"
WEIGHTS = "weights.safetensors"
MOST_MANIFEST_BYTES = 1 << 24
MOST_DIGEST_BYTES = 1 << 10  # of the manifest's digest and signature
MOST_FILE_BYTES = 1 << 32
MOST_REFERENCE_BYTES = 1 << 30  # of all arrays, decompressed
DEPTH = 2  # a version lies in a model's folder, and neither may be a link
NO_KEYS = Keys()


@dataclass(frozen=True)
class Bundle:
    """A verified bundle: the manifest, the reference weights and where the files lie."""

    path: Path
    manifest: Manifest
    reference: Mapping[str, FloatArray]
    model_bytes: bytes

    @property
    def name(self) -> str:
        """`model/version`, for messages."""
        return f"{self.manifest.model}/{self.manifest.version}"

    def read(self, name: str) -> bytes:
        """Bytes of a file of the bundle, checked against the manifest."""
        with _version(self.path) as folder:
            return _read_verified(folder, name, self.manifest)


def write_files(
    directory: Path, files: Mapping[str, bytes], manifest: Manifest, keys: Keys = NO_KEYS
) -> None:
    """Write `files` and the manifest (with digests and sizes filled in) into a staging directory.

    With a signing key among the `keys` the manifest is signed.
    """
    digests = {name: sha256_bytes(data) for name, data in files.items()}
    sizes = {name: len(data) for name, data in files.items()}
    manifest = msgspec.structs.replace(manifest, files=digests, sizes=sizes)
    encoded = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    for name, data in files.items():
        write_durable(directory / name, data)
    write_durable(directory / MANIFEST, encoded)
    write_durable(directory / f"{MANIFEST}.sha256", sha256_bytes(encoded).encode())
    signature = keys.signature(encoded)
    if signature is not None:
        write_durable(directory / SIGNATURE, signature)
    fsync_dir(directory)


def write_version(
    folder: Path,
    version: int,
    make: Callable[[int], tuple[Mapping[str, bytes], Manifest]],
    keys: Keys = NO_KEYS,
) -> None:
    """Write what `make(version)` gives as `<folder>/<version>`, whole or not at all."""
    staging = folder / f".staging-{uuid.uuid4().hex}"
    staging.mkdir()
    try:
        files, manifest = make(version)
        write_files(staging, files, manifest, keys)
        open_bundle(staging)
        staging.rename(folder / str(version))
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    fsync_dir(folder)


def open_bundle(path: Path, keys: Keys = NO_KEYS) -> Bundle:
    """Open a bundle; every file is read once and must match its size and its digest.

    Raises:
        BundleError: a file is missing, altered, truncated, no regular file, or of another schema
            version; or keys are trusted and none of them signed it.
    """
    with _version(path) as folder:
        manifest = _read_manifest(folder, keys)
        for name in (MODEL, REFERENCE):
            if name not in manifest.files:
                raise BundleError(path, f"the manifest lists no {name}")
        for name in manifest.files.keys() - {MODEL, REFERENCE}:
            _verify(folder, name, manifest)
        model = _read_verified(folder, MODEL, manifest)
        reference = _arrays(path, _read_verified(folder, REFERENCE, manifest))
    missing = [c.name for c in manifest.channels if f"{c.name}/alpha" not in reference]
    if missing:
        raise BundleError(path, f"{REFERENCE} has no reference for channel {missing[0]}")
    return Bundle(path, manifest, reference, model)


def read_manifest(path: Path, keys: Keys = NO_KEYS) -> Manifest:
    """Read and check the manifest alone; with trusted `keys` its signature and place as well."""
    with _version(path) as folder:
        return _read_manifest(folder, keys)


def manifest_bytes(path: Path) -> bytes:
    """The manifest as it was written, which is what is signed. Raises BundleError."""
    with _version(path) as folder:
        return folder.read(MANIFEST, MOST_MANIFEST_BYTES)


def _read_manifest(folder: Folder, keys: Keys) -> Manifest:
    path = folder.path
    encoded = folder.read(MANIFEST, MOST_MANIFEST_BYTES)
    digest = folder.read(f"{MANIFEST}.sha256", MOST_DIGEST_BYTES).strip()
    if sha256_bytes(encoded).encode() != digest:
        raise BundleError(path, f"sha256 of {MANIFEST} does not match {MANIFEST}.sha256")
    keys.check(path, encoded, _signature(folder) if keys.trusted else None)
    manifest = decode_manifest(encoded, path)
    signed_name = f"{manifest.model}/{manifest.version}"
    if keys.trusted and signed_name != f"{path.parent.name}/{path.name}":
        raise BundleError(path, f"it was signed as {signed_name}")
    return manifest


def _signature(folder: Folder) -> bytes | None:
    try:
        return folder.read(SIGNATURE, MOST_DIGEST_BYTES)
    except FileNotFoundError:
        return None


@contextmanager
def _version(path: Path) -> Iterator[Folder]:
    """The folder of a version, opened; what goes wrong with its files becomes a BundleError."""
    try:
        with open_folder(path.absolute(), inside=DEPTH) as folder:
            yield Folder(path, folder.descriptor)
    except UnfitFileError as error:
        raise BundleError(path, error.reason) from error
    except OSError as error:
        name = Path(str(error.filename or path)).name
        raise BundleError(path, f"cannot read {name!r}: {error.strerror or error}") from error


def _limits(folder: Folder, name: str, manifest: Manifest) -> tuple[int, int]:
    """The bytes that a file may have at most, and those that it must have."""
    if name not in manifest.files or Path(name).name != name or "\0" in name:
        raise BundleError(folder.path, f"{name!r} is not a file of this bundle")
    if name not in manifest.sizes:
        raise BundleError(folder.path, f"the manifest states no size of {name!r}")
    return MOST_FILE_BYTES, manifest.sizes[name]


def _read_verified(folder: Folder, name: str, manifest: Manifest) -> bytes:
    most, exactly = _limits(folder, name, manifest)
    with _report_wrong_size(name):
        data = folder.read(name, most, exactly=exactly)
    if sha256_bytes(data) != manifest.files[name]:
        raise BundleError(folder.path, _differs(name, len(data)))
    return data


def _verify(folder: Folder, name: str, manifest: Manifest) -> None:
    """As `_read_verified` for a file that nobody needs now: it takes no memory."""
    most, exactly = _limits(folder, name, manifest)
    with _report_wrong_size(name):
        digest = folder.sha256(name, most, exactly=exactly)
    if digest != manifest.files[name]:
        raise BundleError(folder.path, _differs(name, exactly))


@contextmanager
def _report_wrong_size(name: str) -> Iterator[None]:
    """Report a wrong size as a wrong digest, which it implies."""
    try:
        yield
    except WrongSizeError as error:
        raise BundleError(
            error.path.parent, f"{_differs(name, error.size)}, which states {error.stated} bytes"
        ) from None


def _differs(name: str, size: int) -> str:
    return f"sha256 of {name} ({size} bytes) does not match the manifest"


def _arrays(path: Path, data: bytes) -> dict[str, FloatArray]:
    """Read the arrays of `reference.npz`; refuses pickles and archives that are too large."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MOST_REFERENCE_BYTES:
            raise ValueError(f"{size} bytes decompressed, at most {MOST_REFERENCE_BYTES} are read")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (
        ValueError, zipfile.BadZipFile, EOFError, KeyError, OSError, RuntimeError, zlib.error,
        MemoryError,
    ) as error:  # fmt: skip
        raise BundleError(path, f"{REFERENCE} holds no plain arrays: {error}") from error
