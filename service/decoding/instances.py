"""Rows in JSON, as `/predict` and V1 take them.

    {"instances": [row, ...]}     both
    [row, ...]                    /predict: the same without the member
    [value, ...]                  /predict: one row: of a table, or one picture
    {"hue": 1.07, ...}            /predict: one row of a table by column
    {"b64": "..."}                /predict: one picture

Which of these a body is, is told by its brackets and by what the model takes, never guessed from
values: a row of a model has so many levels of lists, and a list of rows has one more.
"""

import re
from functools import lru_cache
from itertools import islice
from typing import Any

import msgspec

from models.base.errors import InputError
from models.base.json_body import decode_body, without_mark
from models.versions.schema import InputArray, InputSchema
from service.decoding.base64_file import read_base64
from service.decoding.codec import read_instances
from service.decoding.images import Upload, decode_images, read_resize, takes_images
from service.decoding.json_amount import check_count, parse
from service.web.call import Call

FIELD = "instances"
MOST_KEYS = 10_000  # of an object are looked at to see whether it is a row of the table
_FILES = re.compile(rb'\s*\[\s*\{\s*"b64"\s*:')
_FILE = re.compile(rb'\s*\{\s*"b64"\s*:')
_OBJECTS = re.compile(rb"\s*\[\s*\{")
_LISTS = re.compile(rb"(?:\s*\[)*\s*")


class PredictBody(msgspec.Struct):
    """The JSON object that is the body of `/predict`; an empty text is a member that is missing."""

    instances: msgspec.Raw = msgspec.Raw()


class Encoded(msgspec.Struct):
    """A file in base64."""

    b64: str


_body = msgspec.json.Decoder(PredictBody)
_any = msgspec.json.Decoder(msgspec.Raw)
_files = msgspec.json.Decoder(list[Encoded])


def read_predict_body(body: bytes, schema: InputSchema) -> bytes:
    """The JSON text of the list of rows that a body of `/predict` is. Raises InputError."""
    body = without_mark(body)
    if body.lstrip()[:1] == b"[":
        decode_body(_any, body)  # from here on it is known to be JSON
        return body if _are_rows(body, schema) else b"[" + body + b"]"
    rows = bytes(decode_body(_body, body).instances)
    if rows and (rows[:1] == b"[" or not _has_column(schema, FIELD)):
        return rows
    if _is_a_row(body, schema):
        return b"[" + body + b"]"
    raise InputError(FIELD, "a value", "nothing: the field is missing")


def read_rows_of(
    raw: bytes, field: str, schema: InputSchema, most: int, call: Call, max_pixels: int
) -> InputArray:
    """Rows as `(N, *shape)` in the schema's dtype, checked.

    Args:
        raw: JSON text of a list of rows. Rows of a picture may be `{"b64": ...}`, a PNG or JPEG
            file in base64, or objects that hold the row by the input's name.
        field: the member that holds it.
        schema: what the model takes.
        most: rows that one request may have.
        call: may say how pictures of another size are resized.
        max_pixels: the most pixels of all pictures.

    Raises:
        InputError: what does not fit.
    """
    resize = read_resize(call)
    if schema.kind == "image" and _OBJECTS.match(raw):
        check_count(raw, b"{", most, field, "rows")
        if not _FILES.match(raw):
            raw = _unwrap_rows(raw, schema.name, field)
    if not (takes_images(schema) and _FILES.match(raw)):
        return read_instances(raw, schema, most, field)
    encoded = decode_body(_files, raw, field)
    places = [f"{field}[{row}].b64" for row in range(len(encoded))]
    files = [
        Upload(place, read_base64(each.b64, place))
        for place, each in zip(places, encoded, strict=True)
    ]
    return decode_images(files, schema, most, resize=resize, max_pixels=max_pixels)


def unwrap_member(raw: bytes, name: str, field: str) -> bytes:
    """What an object holds as its only member, `name`. Raises InputError."""
    return bytes(_decode_held(_holder(name), raw, name, field).value)


@lru_cache(maxsize=64)
def _holder(name: str) -> msgspec.json.Decoder[Any]:
    """A decoder for an object of one member; others are refused unread, however many they are."""
    return msgspec.json.Decoder(_one_member(name))


@lru_cache(maxsize=64)
def _holders(name: str) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(list[_one_member(name)])  # type: ignore[misc]


def _decode_held(decoder: msgspec.json.Decoder[Any], raw: bytes, name: str, field: str) -> Any:
    try:
        return decode_body(decoder, raw, field)
    except InputError as error:
        at = error.field.removesuffix(f".{name}")
        raise InputError(at, f"an object of one member, {name!r}", error.got) from None


def _one_member(name: str) -> Any:
    return msgspec.defstruct(
        "OneMember",
        [("value", msgspec.Raw)],
        rename={"value": name},
        forbid_unknown_fields=True,
    )


def _unwrap_rows(raw: bytes, name: str, field: str) -> bytes:
    """A list of rows without the input's name around each."""
    rows = _decode_held(_holders(name), raw, name, field)
    return b"[" + b",".join(bytes(each.value) for each in rows) + b"]"


def _are_rows(body: bytes, schema: InputSchema) -> bool:
    """Whether a list is one of rows; else it is one row itself."""
    lists = _LISTS.match(body)
    assert lists is not None  # it matches the empty text, too
    depth, first = lists[0].count(b"["), body[lists.end() : lists.end() + 1]
    return depth != len(schema.shape) or first in (b"{", b"]")


def _is_a_row(body: bytes, schema: InputSchema) -> bool:
    """Whether an object is a row: a file, or one that names a column of the table."""
    if schema.kind == "image":
        return takes_images(schema) and _FILE.match(body) is not None
    names = {column.name for column in schema.columns}
    keys = islice(parse(body, "body", "JSON").keys(), MOST_KEYS)
    return any(key in names for key in keys)


def _has_column(schema: InputSchema, name: str) -> bool:
    return any(column.name == name for column in schema.columns)
