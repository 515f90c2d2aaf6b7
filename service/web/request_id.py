"""The id of a request: which one is used, and how answer and log show it.

A proxy may set `X-Request-Id` to anything, and the client behind it cannot change that. So an id
that is not valid is replaced by a new one, and the prediction is not refused. The header
`X-Request-Id` of the answer has the id that is used, in every protocol; the log also has the one
that was replaced, escaped.
"""

import re

from models.base.errors import InputError, show_value
from service.web.reply import Reply

HEADER = "X-Request-Id"
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
ID_TEXT = "1 to 128 characters of A-Z a-z 0-9 . _ : -"


def state_id(reply: Reply, counts: str, client_id: str) -> Reply:
    """Return the answer with its id as a header, and the replaced id for the log.

    Args:
        reply: the answer.
        counts: the id that is used: the answer's own (V2 takes it from the body), else the
            client's, if it is valid; or empty.
        client_id: the client's `X-Request-Id`, as it came; empty where there is none.
    """
    if not (counts or client_id):
        return reply
    headers = (*reply.headers, (HEADER, counts)) if counts else reply.headers
    return reply._replace(
        id=counts, headers=headers, given_id="" if client_id == counts else client_id
    )


def is_fit_id(value: str) -> bool:
    """Whether an id can be stored, logged and answered as it is."""
    return REQUEST_ID.fullmatch(value) is not None


def check_id(value: str, field: str) -> str:
    """Return the id. Raises InputError where it is not valid."""
    if not is_fit_id(value):
        raise InputError(field, ID_TEXT, show_value(value))
    return value
