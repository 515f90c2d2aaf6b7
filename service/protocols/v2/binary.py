"""The binary tensor extension of V2: tensors as bytes behind the JSON, in a request and an answer.

    body = JSON ‖ tensor ‖ tensor ...       Inference-Header-Content-Length = bytes of the JSON

Little-endian, row-major, no gaps; BOOL is one byte, an element of BYTES a length of four bytes and
that many bytes. Sizes are compared before anything is made of them. Source: Triton's
`extension_binary_data`.
"""

import sys
from collections.abc import Iterable
from math import prod

import numpy as np
import numpy.typing as npt

from models.base.errors import InputError
from models.versions.schema import InputArray, InputSchema
from service.decoding.rows import table_of
from service.web.errors import show_value

HEADER = "Inference-Header-Content-Length"
MEDIA = "application/octet-stream"
NOTHING = memoryview(b"")
WIRE = {name: np.dtype(name).newbyteorder("<") for name in ("float32", "uint8")}
DIGITS = 19  # a number of more is no length


def split(body: bytes, header_length: str | None) -> tuple[bytes, memoryview]:
    """The JSON part of a body and the bytes behind it; all is JSON where no header says otherwise.

    Raises:
        InputError: the header is no length, or one beyond the body.

    Example:
        >>> split(b'{"inputs": []}1234', "14")[0]
        b'{"inputs": []}'
    """
    if header_length is None:
        return body, NOTHING
    digits = header_length.isascii() and header_length.isdigit() and len(header_length) <= DIGITS
    length = int(header_length) if digits else -1
    if not 0 <= length <= len(body):
        wanted = f"the length of the JSON part, at most {len(body)} bytes"
        raise InputError(HEADER, wanted, show_value(header_length))
    return body[:length], memoryview(body)[length:]


def from_bytes(
    raw: memoryview, size: int, shape: tuple[int, ...], schema: InputSchema, field: str
) -> InputArray:
    """The tensor that the bytes behind the JSON are, checked like one in JSON; it is not copied.

    Unless it begins in the middle of a number, which onnxruntime must not be handed: whoever pads
    the JSON with spaces to a multiple of four bytes spares the copy.

    Args:
        raw: all that is behind the JSON.
        size: `binary_data_size` of the request.
        shape: `(N, *schema.shape)`, checked.
        schema: of the input.
        field: its name, for the message.

    Raises:
        InputError: sizes that do not agree, values that the schema refuses.
    """
    dtype = WIRE[schema.dtype]
    needed = prod(shape) * dtype.itemsize
    if size != needed:
        wanted = f"{needed}, the bytes of shape and datatype"
        raise InputError(f"{field}.parameters.binary_data_size", wanted, f"{size}"[:24])
    if len(raw) != needed:
        wanted = f"{needed} bytes behind the JSON, whose length {HEADER} gives"
        raise InputError("body", wanted, f"{len(raw)} bytes")
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
    """The array as it travels."""
    return (values if sys.byteorder == "little" else values.byteswap()).tobytes()


def texts_to_bytes(texts: Iterable[str]) -> bytes:
    r"""Elements of a BYTES tensor, each behind its length.

    >>> texts_to_bytes(["é", ""])
    b'\x02\x00\x00\x00\xc3\xa9\x00\x00\x00\x00'
    """
    encoded = (text.encode() for text in texts)
    return b"".join(len(each).to_bytes(4, "little") + each for each in encoded)
