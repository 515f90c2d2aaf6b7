"""Which id of a request counts, as the answer and the log say it.

A proxy sets `X-Request-Id` to what it likes, and the client behind it cannot change that: an id
that is unfit for the store is no reason to refuse a prediction. It is replaced by a made one. The
header `X-Request-Id` of the answer is the id that counts, in every dialect; the one that was given
and does not count is in the log, escaped.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.call import Call, Reply

HEADER = "X-Request-Id"


def state_id(reply: "Reply", call: "Call") -> "Reply":
    """The answer with the id that counts as a header, and what the log needs of another one.

    The id of the answer counts, where it has one (V2 takes it from the body); else the client's.
    """
    given = call.header("x-request-id") or ""
    counts = reply.id or call.id() or ""
    if not (counts or given):
        return reply
    headers = (*reply.headers, (HEADER, counts)) if counts else reply.headers
    return reply._replace(id=counts, headers=headers, given_id="" if given == counts else given)
