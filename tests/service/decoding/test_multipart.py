"""Laws of forms: files in their order, within limits, and nothing else."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests import Request

from models.base.errors import InputError
from service.decoding.multipart import FORM, HEAD_BYTES, read_files

MOST = 8
TYPE = f"{FORM}; boundary=b"
FILE = b'--b\r\nContent-Disposition: form-data; name="f"; filename="x.png"\r\n\r\n%s\r\n'
END = b"--b--\r\n"


def form(*files: tuple[str, bytes]) -> tuple[bytes, str]:
    """What the requests library sends."""
    parts = [(name, (f"{name}.png", data, "image/png")) for name, data in files]
    made = Request("POST", "http://host", files=parts).prepare()
    assert isinstance(made.body, bytes)
    return made.body, made.headers["Content-Type"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "image", "ä", "files[]"]), st.binary(max_size=300)),
        min_size=1,
        max_size=MOST,
    )
)
def test_files_come_in_their_order_whatever_their_fields(files: list[tuple[str, bytes]]) -> None:
    read = read_files(*form(*files), MOST)
    assert [data for _, data in read] == [data for _, data in files]
    assert [field for field, _ in read] == [f"files[{row}]" for row in range(len(files))]


def test_a_large_file_is_kept_whole() -> None:
    data = bytes(range(256)) * 16_000
    assert read_files(*form(("a", data), ("b", data[:-1])), MOST)[0].data == data


def test_the_form_of_a_plain_client_is_read_too() -> None:
    assert [each.data for each in read_files(FILE % b"\x89PNG\r\n\x1a\n" + END, TYPE, MOST)] == [
        b"\x89PNG\r\n\x1a\n"
    ]
    assert read_files(END, TYPE, MOST) == []


REFUSED = {
    "no boundary": (FILE % b"x" + END, FORM, "body"),
    "another boundary": (FILE % b"x" + END, f"{FORM}; boundary=c", "body"),
    "no end": (FILE % b"x", TYPE, "body"),
    "nothing": (b"", TYPE, "body"),
    "JSON": (b'{"instances": []}', TYPE, "body"),
    "a part without a name": (b"--b\r\nX: y\r\n\r\nx\r\n" + END, TYPE, "body"),
    "a name that is no text": (FILE.replace(b'"f"', b'"\xff"') % b"x" + END, TYPE, "body"),
    "too many files": (FILE % b"x" * (MOST + 1) + END, TYPE, "body"),
    "a huge header": (b"--b\r\nX: " + b"y" * HEAD_BYTES + b"\r\n" + END, TYPE, "body"),
    "a text": (
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\ndigits\r\n' + END,
        TYPE,
        "field 'model'",
    ),
    "a huge text": (
        b'--b\r\nContent-Disposition: form-data; name="m"\r\n\r\n' + b"x\n" * HEAD_BYTES + END,
        TYPE,
        "body",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_form_of_files_is_refused(name: str) -> None:
    body, kind, field = REFUSED[name]
    with pytest.raises(InputError) as caught:
        read_files(body, kind, MOST)
    assert caught.value.field == field
    assert "file" in caught.value.expected
    assert len(str(caught.value)) < 300


@given(
    st.lists(
        st.sampled_from(
            [FILE % b"x", FILE % b"\r\n--b", END, b"--b", b"\r\n", b"\r", b"--", b'name="', b";"]
        )
        | st.binary(max_size=5),
        max_size=9,
    )
)
def test_any_body_is_a_form_or_refused(parts: list[bytes]) -> None:
    try:
        assert len(read_files(b"".join(parts), TYPE, MOST)) <= MOST
    except InputError:
        return


def test_no_form_takes_long() -> None:
    head, size = FILE[:-4], 4 * 2**20
    began = time.process_time()
    for body in (
        head + b"\r\n" * (size // 2) + b"\r\n" + END,
        head + b"\r\n--bx" * (size // 6) + b"\r\n" + END,
        head + b"\r" * size + b"\r\n" + END,
        (FILE % b"") * (size // 70),
        b"--b\r\nContent-Disposition: form-data; " + b"a=b;" * 60_000 + b"\r\n\r\n" + END,
    ):
        try:
            read_files(body, TYPE, MOST)
        except InputError:
            continue
    assert time.process_time() - began < 20  # seconds of CPU; what is quadratic takes hours
