"""A request as a handler sees it, without a framework in between.

Each module of protocols has a function `endpoints(...)`; `service.web.front` routes to them.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qs

from models.base.errors import InputError, show_value
from service.web.compression import decompress
from service.web.errors import JSON, MediaTypeError
from service.web.reply import Reply
from service.web.request_id import is_fit_id

UNTYPED = ("application/x-www-form-urlencoded", "text/plain")
# `inputs` and `console` are of the page at `/`: feedback or admin, and admin; where nobody but this
# machine can call, and there are no tokens, they need none.
Scope = Literal["open", "predict", "feedback", "alert", "admin", "inputs", "console"]
Grants = Callable[[str], bool]


class Endpoint(NamedTuple):
    """An address: its method, who may call it, and its handler.

    `rule` is in Flask's syntax; the handler gets its `<names>` as texts. A `hot` endpoint is
    answered without Flask.
    """

    method: str
    rule: str
    handler: Callable[..., Reply]
    scope: Scope = "open"
    hot: bool = False


class Call:
    """One request: its ASGI scope, its caller, and its whole body once that was read."""

    __slots__ = ("_body", "_headers", "_limit", "actor", "caller", "grants", "scope", "sent")

    def __init__(self, scope: Mapping[str, Any], max_body_bytes: int, sent: bytes = b"") -> None:
        self.scope = scope
        self.sent = sent  # the body as it came
        self.caller = ""  # set by the guard; neither logged nor answered
        self.actor = ""  # the token's owner, for the audit: `admin`, or `token <name>`
        self.grants: Grants | None = None  # whether the token has a scope; None: none is needed
        self._limit = max_body_bytes
        self._body: bytes | None = None  # decompressed
        self._headers = read_headers(scope)

    @property
    def method(self) -> str:
        """The method in capitals."""
        return str(self.scope["method"])

    @property
    def path(self) -> str:
        """The path as it was sent; percent signs are not decoded."""
        return sent_path(self.scope)

    @property
    def peer(self) -> str:
        """The address of the other end of the connection; empty where there is none."""
        client = self.scope.get("client")
        return str(client[0]) if client else ""

    def header(self, name: str) -> str | None:
        """Return a header's value, or None; several of one name are joined by commas."""
        return self._headers.get(name.lower())

    @property
    def sent_type(self) -> str:
        """The media type that the client gave, in lower case, without parameters; empty: none."""
        return (self.header("content-type") or "").partition(";")[0].strip().lower()

    @property
    def media_type(self) -> str:
        """The media type of the body, as `sent_type`; empty where the body is plain JSON.

        `curl -d` gives the same type whatever it sends, so the body decides whether it is JSON.
        Pages of other sites can send these types too; `service.web.origins` refuses those.
        """
        kind = self.sent_type
        if kind in UNTYPED and self.body().lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
            return ""
        return kind

    def argument(self, name: str) -> str | None:
        """Return an argument of the query string, or None. Raises InputError if it comes twice."""
        query = self.scope["query_string"]
        if not query:
            return None
        try:
            text = query.decode("ascii", "replace")
            values = parse_qs(text, keep_blank_values=True, max_num_fields=100).get(name, [None])
        except ValueError as error:
            raise InputError("query string", "at most 100 arguments", str(error)) from None
        if len(values) > 1:
            raise InputError(name, "one value", f"{len(values)} values")
        value: str | None = values[0]
        return value

    def id(self) -> str | None:
        """Return the client's `X-Request-Id`, or None where there is no valid one."""
        sent = self.sent_id()
        return sent if is_fit_id(sent) else None

    def sent_id(self) -> str:
        """Return the client's `X-Request-Id` as it came; empty where there is none."""
        return self.header("x-request-id") or ""

    def require_json(self) -> None:
        """Refuse a body whose media type is not JSON."""
        kind = self.media_type
        if kind and kind != JSON:
            raise MediaTypeError("Content-Type", JSON, show_value(kind))

    def body(self) -> bytes:
        """Return the whole body, decompressed; at most `max_body_bytes`, before and after.

        Raises:
            TooLargeError: it is larger.
            MediaTypeError: its compression is not supported.
            InputError: it is not compressed as its header says.
        """
        if self._body is None:
            encoding = (self.header("content-encoding") or "").strip().lower()
            plain = encoding in ("", "identity")
            self._body = self.sent if plain else decompress(self.sent, encoding, self._limit)
        return self._body


def read_headers(scope: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers of an ASGI scope by lower-case name; several of a name are joined.

    >>> read_headers({"headers": [(b"accept", b"a"), (b"host", b"h"), (b"accept", b"b")]})
    {'accept': 'a,b', 'host': 'h'}
    """
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def sent_path(scope: Mapping[str, Any]) -> str:
    """The path of an ASGI scope as the client sent it."""
    raw: bytes | None = scope.get("raw_path")
    return str(scope["path"]) if raw is None else raw.decode("latin-1")
