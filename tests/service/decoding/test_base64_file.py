"""Base64 as it is found in the wild is read; what is not is refused by what is wrong."""

import base64
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.base.errors import InputError
from service.decoding.base64_file import read_base64

DATA = bytes(range(256)) + b"?"


@given(st.binary(max_size=200), st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_every_usual_spelling_of_bytes_is_read(
    data: bytes, safe: bool, padded: bool, broken: bool, headed: bool
) -> None:
    text = (base64.urlsafe_b64encode if safe else base64.b64encode)(data).decode()
    text = text if padded else text.rstrip("=")
    text = "\r\n".join(textwrap.wrap(text, 76)) + "\n" if broken else text
    text = f"data:image/png;base64,{text}" if headed else text
    assert read_base64(text, "b64") == data


@pytest.mark.parametrize(
    "head", ["data:;base64,", "DATA:image/jpeg;name=a.jpg;BASE64,", "data:image/png; base64,"]
)
def test_any_head_of_a_data_url_is_skipped(head: str) -> None:
    assert read_base64(head + base64.b64encode(DATA).decode(), "b64") == DATA


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("aGk?", "the character '?' at 3"),
        ("aG\u00e9k", "at 2"),
        ("aGk%3D", "the character '%' at 3"),
        ("aGk*\n", "the character '*' at 3"),
        ("aGkh-+8=", "both alphabets"),
        ("a", "1 characters, a length that no bytes have: is it cut off?"),
        ("aGkhI", "5 characters, a length"),
        ("aG==aGk=", "padding before the end, at character 2"),
        ("aGk=====", "5 characters of padding"),
        ("data:image/png,aGk=", "a data URL without ;base64"),
        ("data:image/png;base64", "'data:image/png;base64'"),
        ("b'aGk='", 'the character "\'" at 1'),
    ],
)
def test_what_is_wrong_is_said(text: str, got: str) -> None:
    with pytest.raises(InputError) as caught:
        read_base64(text, "instances[0].b64")
    assert caught.value.field == "instances[0].b64"
    assert got in caught.value.got
    assert str(caught.value).isascii()


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read_base64(text, "b64")
    except InputError as error:
        refusal = str(error)
    else:
        return
    assert len(refusal) < 300
