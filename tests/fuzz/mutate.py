"""Changes to a request: of bytes, of numbers in a text, of parts; the same for the same seed."""

import random
import re
from collections.abc import Sequence

from tests.fuzz.seeds import NUMBERS

_NUMBER = re.compile(rb"-?\d+(\.\d+)?")
TOKENS = (
    b'"', b"{", b"}", b"[", b"]", b",", b":", b"null", b"\\u0000", b"\\ud800", b"\xff", b"\x00",
    b'"inputs"', b'"outputs"', b'"shape"', b'"datatype"', b'"data"', b'"parameters"',
    b'"binary_data_size"', b'"classification"', b'"instances"', b'"id"', b"[[[[[[[[", b"1e400",
)  # fmt: skip


def mutated(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """One to four changes of `data`; parts of `others` may come in."""
    for _ in range(rng.randint(1, 4)):
        data = rng.choice(CHANGES)(data, others, rng)
    return data[: 1 << 17]


def _flip(data: bytes, _: Sequence[bytes], rng: random.Random) -> bytes:
    if not data:
        return data
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= rng.randint(1, 255)
    return bytes(changed)


def _head(data: bytes, _: Sequence[bytes], rng: random.Random) -> bytes:
    return bytes(rng.randrange(256) for _ in range(4)) + data[4:]


def _number(data: bytes, _: Sequence[bytes], rng: random.Random) -> bytes:
    found = list(_NUMBER.finditer(data, 4))[:2000]
    if not found:
        return data
    place = rng.choice(found)
    return data[: place.start()] + rng.choice(NUMBERS).encode() + data[place.end() :]


def _token(data: bytes, _: Sequence[bytes], rng: random.Random) -> bytes:
    at = rng.randint(0, len(data))
    return data[:at] + rng.choice(TOKENS) + data[at:]


def _cut(data: bytes, _: Sequence[bytes], rng: random.Random) -> bytes:
    first, last = sorted(rng.randint(0, len(data)) for _ in range(2))
    return data[:first] + data[last:]


def _twice(data: bytes, _: Sequence[bytes], rng: random.Random) -> bytes:
    first, last = sorted(rng.randint(0, len(data)) for _ in range(2))
    return data[:last] + data[first : min(last, first + 4096)] + data[last:]


def _splice(data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    other = rng.choice(others)
    return data[: rng.randint(0, len(data))] + other[rng.randint(0, len(other)) :]


CHANGES = (_flip, _head, _number, _number, _token, _cut, _twice, _splice)
