"""Which id of a request counts, as the answer and the log say it.

A proxy sets `X-Request-Id` to what it likes, and the client behind it cannot change that: an id
that is unfit for the store is no reason to refuse a prediction. It is replaced by a made one. The
header `X-Request-Id` of the answer is the id that counts, in every dialect; the one that was given
and does not count is in the log, escaped.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from service.web import is_fit_id

if TYPE_CHECKING:
    from service.call import Reply

HEADER = "X-Request-Id"


def read_id(environ: Mapping[str, Any]) -> str | None:
    """The id in `X-Request-Id`, or None where there is none or one outside the alphabet.

    >>> read_id({"HTTP_X_REQUEST_ID": "order-7"}), read_id({"HTTP_X_REQUEST_ID": "a, b"})
    ('order-7', None)
    """
    given = environ.get("HTTP_X_REQUEST_ID", "")
    return given if is_fit_id(given) else None


def state_id(reply: "Reply", environ: Mapping[str, Any]) -> "Reply":
    """The answer with the id that counts as a header, and what the log needs of another one.

    The id of the answer counts, where it has one (V2 takes it from the body); else the client's.
    """
    given = environ.get("HTTP_X_REQUEST_ID", "")
    counts = reply.id or (given if is_fit_id(given) else "")
    if not (counts or given):
        return reply
    headers = (*reply.headers, (HEADER, counts)) if counts else reply.headers
    return reply._replace(id=counts, headers=headers, given_id="" if given == counts else given)
