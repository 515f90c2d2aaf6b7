"""Which id of a request counts, as the answer and the log say it.

A proxy sets `X-Request-Id` to what it likes, and the client behind it cannot change that: an id
that is unfit for the store is no reason to refuse a prediction. It is replaced by a made one. The
header `X-Request-Id` of the answer is the id that counts, in every dialect; the one that was given
and does not count is in the log, escaped.
"""

import re

from models.base.errors import InputError, show_value
from service.web.reply import Reply

HEADER = "X-Request-Id"
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
ID_TEXT = "1 to 128 characters of A-Z a-z 0-9 . _ : -"


def state_id(reply: Reply, counts: str, client_id: str) -> Reply:
    """The answer with the id that counts as a header, and what the log needs of another one.

    Args:
        reply: the answer.
        counts: the id of the answer, where it has one (V2 takes it from the body); else the
            client's, if it can be kept; or empty.
        client_id: the client's `X-Request-Id`, as it came; empty where there is none.
    """
    if not (counts or client_id):
        return reply
    headers = (*reply.headers, (HEADER, counts)) if counts else reply.headers
    return reply._replace(
        id=counts, headers=headers, given_id="" if client_id == counts else client_id
    )


def is_fit_id(value: str) -> bool:
    """Whether an id is fit for the store, logs and answers as it is."""
    return REQUEST_ID.fullmatch(value) is not None


def check_id(value: str, field: str) -> str:
    """The id, if it is a fit one. Raises InputError."""
    if not is_fit_id(value):
        raise InputError(field, ID_TEXT, show_value(value))
    return value
