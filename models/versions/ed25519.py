"""Ed25519 (RFC 8032) keys in PEM, by the `cryptography` package of the extra `sign`."""

import re

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

_PUBLIC = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


def public_keys(pem: bytes) -> list[Ed25519PublicKey]:
    """All public keys of a file, which may hold other text. Raises ValueError for another kind."""
    return [_public(part) for part in _PUBLIC.findall(pem)]


def private_key(pem: bytes) -> Ed25519PrivateKey:
    """The private key of a file, which is not encrypted. Raises ValueError for anything else."""
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("another") from None  # the parser's text may show what the file holds
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"a key of another kind ({type(key).__name__})")
    return key


def valid(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    """Whether the signature of the message was made with the key."""
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _public(pem: bytes) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(pem)
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from None
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"a key of another kind ({type(key).__name__})")
    return key
