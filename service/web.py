"""What all addresses share: ids."""

import re

from models.errors import InputError
from service.errors import shown

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
ID_TEXT = "1 to 128 characters of A-Z a-z 0-9 . _ : -"


def checked_id(value: str, field: str) -> str:
    """An id that is fit for the store, logs and answers."""
    if not REQUEST_ID.fullmatch(value):
        raise InputError(field, ID_TEXT, shown(value))
    return value
