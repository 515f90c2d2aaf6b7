"""A model version on disk: written once, verified before every use.

model.onnx             the instrumented graph
manifest.json          schema, classes, channels, calibration, evaluation, sha256 of the rest
manifest.json.sha256   digest of the manifest itself
manifest.json.sig      signature of the manifest (where there is a key to sign with)
reference.npz          per channel: cell edges and reference weights
weights.safetensors    torch weights (absent for a wrapped ONNX model)
report.json, card.md   the evaluation, for machines and people
"""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from models.errors import BundleError
from models.files import fsync_dir, sha256_bytes, write_durable
from models.schema import SCHEMA_VERSION, FloatArray, Manifest
from models.signature import SIGNATURE, Keys

MODEL = "model.onnx"
MANIFEST = "manifest.json"
REFERENCE = "reference.npz"
WEIGHTS = "weights.safetensors"
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
        return _read_verified(self.path, name, self.manifest.files)


def write_files(
    directory: Path, files: Mapping[str, bytes], manifest: Manifest, keys: Keys = NO_KEYS
) -> None:
    """Write `files` and the manifest (with their digests filled in) into a staging directory.

    With a signing key among the `keys` the manifest is signed.
    """
    digests = {name: sha256_bytes(data) for name, data in files.items()}
    manifest = msgspec.structs.replace(manifest, files=digests)
    encoded = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    for name, data in files.items():
        write_durable(directory / name, data)
    write_durable(directory / MANIFEST, encoded)
    write_durable(directory / f"{MANIFEST}.sha256", sha256_bytes(encoded).encode())
    signature = keys.signature(encoded)
    if signature is not None:
        write_durable(directory / SIGNATURE, signature)
    fsync_dir(directory)


def open_bundle(path: Path, keys: Keys = NO_KEYS) -> Bundle:
    """Open a bundle; every file is read once and must match its digest.

    Raises:
        BundleError: a file is missing, altered, truncated, or of another schema version; or keys
            are trusted and none of them signed it.
    """
    manifest = read_manifest(path, keys)
    for name in (MODEL, REFERENCE):
        if name not in manifest.files:
            raise BundleError(path, f"the manifest lists no {name}")
    contents = {name: _read_verified(path, name, manifest.files) for name in manifest.files}
    try:
        with np.load(io.BytesIO(contents[REFERENCE]), allow_pickle=False) as archive:
            reference = {key: archive[key] for key in archive.files}
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise BundleError(path, f"{REFERENCE} holds no plain arrays: {error}") from error
    missing = [c.name for c in manifest.channels if f"{c.name}/alpha" not in reference]
    if missing:
        raise BundleError(path, f"{REFERENCE} has no reference for channel {missing[0]}")
    return Bundle(path, manifest, reference, contents[MODEL])


def read_manifest(path: Path, keys: Keys = NO_KEYS) -> Manifest:
    """Read and check the manifest alone; with trusted `keys` its signature and place as well."""
    try:
        encoded = (path / MANIFEST).read_bytes()
        digest = (path / f"{MANIFEST}.sha256").read_bytes().strip()
    except OSError as error:
        raise BundleError(path, f"cannot read {MANIFEST}: {error.strerror}") from error
    if sha256_bytes(encoded).encode() != digest:
        raise BundleError(path, f"sha256 of {MANIFEST} does not match {MANIFEST}.sha256")
    keys.check(path, encoded)
    try:
        manifest = msgspec.json.decode(encoded, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(path, f"{MANIFEST} is not a manifest: {error}") from error
    if manifest.schema_version != SCHEMA_VERSION:
        raise BundleError(
            path, f"schema version {manifest.schema_version}, this program reads {SCHEMA_VERSION}"
        )
    named = f"{manifest.model}/{manifest.version}"
    if keys.trusted and named != f"{path.parent.name}/{path.name}":
        raise BundleError(path, f"it was signed as {named}")
    return manifest


def _read_verified(path: Path, name: str, digests: Mapping[str, str]) -> bytes:
    if name not in digests or Path(name).name != name:
        raise BundleError(path, f"{name} is not a file of this bundle")
    try:
        data = (path / name).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        raise BundleError(path, f"cannot read {name!r}: {error}") from error
    if sha256_bytes(data) != digests[name]:
        raise BundleError(path, f"sha256 of {name} ({len(data)} bytes) does not match the manifest")
    return data
