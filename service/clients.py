"""Who asks: the token of a request, or the address it comes from. Never logged or exported."""

from collections.abc import Callable, Mapping
from typing import Any

from service.proxies import Proxies
from service.settings import Settings


def client_of(settings: Settings) -> Callable[[Mapping[str, Any]], str]:
    """What names the client of a request, given its environ."""
    trusted = Proxies(settings.trusted_proxies)
    by_token = settings.query_key == "token"

    def client(environ: Mapping[str, Any]) -> str:
        if by_token and (token := bearer(environ.get("HTTP_AUTHORIZATION", ""))):
            return f"token {token}"
        return trusted.client(environ.get("REMOTE_ADDR", ""), environ.get("HTTP_X_FORWARDED_FOR"))

    return client


class OpenGuard:
    """Admits everybody."""

    def __init__(self, settings: Settings) -> None:
        self._client = client_of(settings)

    def enter(self, environ: Mapping[str, Any], scope: str) -> str:
        """Name the caller."""
        return self._client(environ)

    def leave(self, caller: str) -> None:
        """Nothing was taken."""


def bearer(header: str) -> str:
    """The token of an `Authorization` header, or nothing.

    >>> bearer("Bearer abc"), bearer("bearer  abc "), bearer("Basic abc"), bearer("")
    ('abc', 'abc', '', '')
    """
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
