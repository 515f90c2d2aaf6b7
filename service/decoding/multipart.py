"""Forms with files (`multipart/form-data`, RFC 7578), read by werkzeug's parser within limits."""

import io
from typing import Any

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

from models.base.errors import InputError, show_value
from service.decoding.images import Upload

FORM = "multipart/form-data"
HEAD_BYTES = 1 << 18  # of a part's headers, or of a field that is no file; the parser reads 64 KiB


def read_files(body: bytes, content_type: str, most: int) -> list[Upload]:
    """The files of a form in the order in which they stand there, whatever their fields' names.

    Args:
        body: the whole form, of a size that was checked.
        content_type: its content type, with the boundary.
        most: the most parts.

    Raises:
        InputError: no form, a part that is no file, or more parts.
    """
    streams: list[io.BytesIO] = []

    def keep(*_: Any, **__: Any) -> io.BytesIO:
        streams.append(io.BytesIO())  # the parser sorts files by field; rows have an order
        return streams[-1]

    parser = FormDataParser(
        keep, max_form_memory_size=HEAD_BYTES, max_form_parts=most, silent=False
    )
    kind, options = parse_options_header(content_type)
    try:
        _, fields, _ = parser.parse(io.BytesIO(body), kind, len(body), options)
    except RequestEntityTooLarge:
        expected = f"at most {most} files, and headers of at most {HEAD_BYTES} bytes"
        raise InputError("body", expected, "a form of more") from None
    except ValueError as error:
        raise InputError("body", f"{FORM}, one part per file", show_value(str(error))) from None
    for name in fields:
        raise InputError(
            f"field {show_value(name)}", "a file (curl: -F image=@digit.png)", "a text"
        )
    return [Upload(f"files[{row}]", each.getvalue()) for row, each in enumerate(streams)]
