"""Who asks: the token of a request, or the address it comes from. Never logged or exported."""

from collections.abc import Callable

from flask import request

from service.proxies import Proxies
from service.settings import Settings


def client_of(settings: Settings) -> Callable[[], str]:
    """What names the client of the request at hand."""
    trusted = Proxies(settings.trusted_proxies)
    by_token = settings.query_key == "token"

    def client() -> str:
        environ = request.environ
        if by_token and (token := bearer(environ.get("HTTP_AUTHORIZATION", ""))):
            return f"token {token}"
        return trusted.client(environ.get("REMOTE_ADDR", ""), environ.get("HTTP_X_FORWARDED_FOR"))

    return client


def bearer(header: str) -> str:
    """The token of an `Authorization` header, or nothing.

    >>> bearer("Bearer abc"), bearer("bearer  abc "), bearer("Basic abc"), bearer("")
    ('abc', 'abc', '', '')
    """
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
