"""The binary tensor extension of V2: tensors as bytes after the JSON of a request or answer.

    body = JSON ‖ tensor ‖ tensor ...       Inference-Header-Content-Length = bytes of the JSON

Little-endian, row-major, no gaps. A BOOL is one byte; an element of BYTES is a length of four bytes
and that many bytes. Sizes are checked before the bytes are read. Source: Triton's
`extension_binary_data`.
"""

import sys
from collections.abc import Iterable
from math import prod

import numpy as np
import numpy.typing as npt

from models.base.errors import InputError, show_value
from models.versions.schema import InputArray, InputSchema
from service.decoding.rows import table_of

HEADER = "Inference-Header-Content-Length"
MEDIA = "application/octet-stream"
NOTHING = memoryview(b"")
WIRE = {name: np.dtype(name).newbyteorder("<") for name in ("float32", "uint8")}
DIGITS = 19  # a number of more is no length


def split(body: bytes, header_length: str | None) -> tuple[bytes, memoryview]:
    """Split a body into its JSON and the bytes after it; without the header all is JSON.

    Raises:
        InputError: the header is no length, or larger than the body.

    Example:
        >>> split(b'{"inputs": []}1234', "14")[0]
        b'{"inputs": []}'
    """
    if header_length is None:
        return body, NOTHING
    digits = header_length.isascii() and header_length.isdigit() and len(header_length) <= DIGITS
    length = int(header_length) if digits else -1
    if not 0 <= length <= len(body):
        expected = f"the length of the JSON part, at most {len(body)} bytes"
        raise InputError(HEADER, expected, show_value(header_length))
    return body[:length], memoryview(body)[length:]


def from_bytes(
    raw: memoryview, size: int, shape: tuple[int, ...], schema: InputSchema, field: str
) -> InputArray:
    """Read the tensor from the bytes after the JSON, with the same checks as one in JSON.

    The bytes are copied only if they are not aligned, which onnxruntime needs. A client can avoid
    the copy if it pads the JSON with spaces to a multiple of four bytes.

    Args:
        raw: all bytes after the JSON.
        size: `binary_data_size` of the request.
        shape: `(N, *schema.shape)`, checked.
        schema: of the input.
        field: its name, for the message.

    Raises:
        InputError: the sizes do not agree, or the schema refuses a value.
    """
    dtype = WIRE[schema.dtype]
    needed = prod(shape) * dtype.itemsize
    if size != needed:
        expected = f"{needed}, the bytes of shape and datatype"
        raise InputError(f"{field}.parameters.binary_data_size", expected, f"{size}"[:24])
    if len(raw) != needed:
        expected = f"{needed} bytes behind the JSON, whose length {HEADER} gives"
        raise InputError("body", expected, f"{len(raw)} bytes")
    x: InputArray = np.frombuffer(raw, dtype).reshape(shape)
    if not x.flags.aligned:
        x = x.copy()
    if schema.kind == "tabular":
        x = table_of(schema).without_gaps(x)
        if table_of(schema).fits(x):
            return x
    schema.check(x, field)
    return x


def to_bytes(values: npt.NDArray[np.generic]) -> bytes:
    """Return the bytes of an array, little-endian."""
    return (values if sys.byteorder == "little" else values.byteswap()).tobytes()


def texts_to_bytes(texts: Iterable[str]) -> bytes:
    r"""Encode the elements of a BYTES tensor, each after its length.

    >>> texts_to_bytes(["é", ""])
    b'\x02\x00\x00\x00\xc3\xa9\x00\x00\x00\x00'
    """
    encoded = (text.encode() for text in texts)
    return b"".join(len(each).to_bytes(4, "little") + each for each in encoded)
