"""What all addresses share: ids."""

import re

from models.errors import InputError
from service.errors import shown

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
ID_TEXT = "1 to 128 characters of A-Z a-z 0-9 . _ : -"


def is_fit_id(value: str) -> bool:
    """Whether an id is fit for the store, logs and answers as it is."""
    return REQUEST_ID.fullmatch(value) is not None


def checked_id(value: str, field: str) -> str:
    """The id, if it is a fit one. Raises InputError."""
    if not is_fit_id(value):
        raise InputError(field, ID_TEXT, shown(value))
    return value
