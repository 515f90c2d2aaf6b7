"""Signatures of versions: who made one, where a digest only says that it is whole.

Who can write to the registry can replace a file and its digest together, but not the signature.
It is Ed25519 over the SHA-256 of `manifest.json`, which names model and version and holds the
digests of all other files. What serves needs public keys only. Keys are PEM, as openssl makes them:

    openssl genpkey -algorithm ed25519 -out signing.pem
    openssl pkey -in signing.pem -pubout >> trusted.pem
"""

import base64
import binascii
import types
from pathlib import Path
from typing import Any

import msgspec

from models.base.errors import BundleError, HoldfastError
from models.base.files import sha256_bytes, write_atomic

SIGNATURE = "manifest.json.sig"
PURPOSE = b"holdfast version 1\n"  # what the key signs elsewhere is no signature of a version


class KeyFileError(HoldfastError):
    """A file of keys cannot be used."""

    def __init__(self, path: str, expected: str, got: str) -> None:
        super().__init__(f"key file {path}: expected {expected}, got {got}")


class Keys(msgspec.Struct, frozen=True):
    """Paths of key files; an empty one stands for none. They are read when a version is."""

    trusted: str = ""
    signing: str = ""

    def check(self, version: Path, manifest: bytes, encoded: bytes | None) -> None:
        """Verify the signature of a version over the bytes of its manifest.

        Args:
            version: its folder, for messages.
            manifest: the bytes of its manifest.
            encoded: of its signature file, None where there is none.

        Raises:
            BundleError: keys are trusted, and there is no signature by one of them.
            KeyFileError: they cannot be read.
        """
        if not self.trusted:
            return
        crypto, keys = _ed25519(), self._trusted_keys()
        if encoded is None:
            raise BundleError(version, "not signed; `holdfast models sign` signs it")
        try:
            signature = base64.b64decode(encoded.strip(), validate=True)
        except (ValueError, binascii.Error) as error:  # ValueError: other than ASCII
            raise BundleError(version, f"{SIGNATURE} is damaged: {error}") from None
        if not any(crypto.valid(key, signature, _message(manifest)) for key in keys):
            raise BundleError(version, "not signed by a trusted key, or changed since")

    def count_trusted(self) -> int:
        """How many keys are trusted; raises KeyFileError where the file cannot be used."""
        return len(self._trusted_keys())

    def _trusted_keys(self) -> list[Any]:
        expected = "Ed25519 public keys in PEM"
        try:
            keys: list[Any] = _ed25519().public_keys(_read(self.trusted))
        except ValueError as error:
            raise KeyFileError(self.trusted, expected, str(error)) from None
        if not keys:
            raise KeyFileError(self.trusted, expected, "none")
        return keys

    def signature(self, manifest: bytes) -> bytes | None:
        """What stands in the signature file; None where there is no key to sign with.

        Raises:
            KeyFileError: the key cannot be read.
        """
        if not self.signing:
            return None
        try:
            key = _ed25519().private_key(_read(self.signing))
        except ValueError as error:
            expected = "an Ed25519 private key in PEM, not encrypted"
            raise KeyFileError(self.signing, expected, str(error)) from None
        return base64.b64encode(key.sign(_message(manifest))) + b"\n"

    def require_signing(self) -> None:
        """Raise HoldfastError where a version that is made now would be refused later."""
        if self.trusted and self.signature(b"") is None:
            raise HoldfastError(
                "only signed versions are trusted here, and there is no key to sign a new one: "
                "set HOLDFAST_SIGNING_KEY_FILE for the watcher, or retrain where it is set"
            )

    def sign(self, version: Path, manifest: bytes) -> None:
        """Write the signature of a version that is there already. Raises KeyFileError."""
        signature = self.signature(manifest)
        assert signature is not None
        write_atomic(version / SIGNATURE, signature)


def _message(manifest: bytes) -> bytes:
    return PURPOSE + sha256_bytes(manifest).encode()


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise KeyFileError(path, "a readable file", error.strerror or str(error)) from None


def _ed25519() -> types.ModuleType:
    """Imported where it is needed: most have no keys and do not install it."""
    try:
        from models.versions import ed25519
    except ImportError:
        raise HoldfastError("signatures need `pip install 'holdfast[sign]'`") from None
    return ed25519
