"""Who is let in: a token of the scope, then a place within the client's limits.

`open` calls (probes, metrics, metadata, pages) pass. Without a tokens file predictions and feedback
pass as well, and admin calls take the admin token that the watcher takes; but not where the service
listens to the network: there, who has no tokens has no admin calls.
"""

import hmac
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from models.errors import HoldfastError
from monitoring.logs import logger
from service.auth import Tokens, bearer, secret_in
from service.call import Scope
from service.errors import ForbiddenError, UnauthorizedError
from service.limits import Limits, limits_of
from service.origins import exposed as exposed
from service.proxies import Proxies
from service.settings import Settings

REALM = 'Bearer realm="holdfast"'
ADMIN_TOKEN = "the admin token"
HOW = "`Authorization: Bearer <token>`; `holdfast tokens create` makes tokens"


class Guard:
    """Admits calls and names the caller; threads share one."""

    def __init__(self, settings: Settings, limits: Limits | None = None) -> None:
        self._settings = settings
        self._tokens = Tokens(settings.tokens_path, required=bool(settings.tokens_file))
        self._limits = limits
        self._proxies = Proxies(settings.trusted_proxies)
        self._by_token = settings.query_key == "token"
        self._exposed = exposed(settings.host)

    def enter(self, environ: Mapping[str, Any], scope: Scope) -> str:
        """The caller's name, empty for an open call.

        Raises:
            UnauthorizedError: no token, or one that is unknown or expired.
            ForbiddenError: the token lacks the scope, or nobody may make this call.
            TooManyError: the client is beyond its rate or its share.
            UnavailableError: the tokens cannot be read.
        """
        if scope == "open":
            return ""
        held = ""
        if scope == "admin" or self._tokens.needed():
            held = self._holder(environ, scope)
        if held and self._by_token:
            caller = f"token {held}"
        else:
            peer = environ.get("REMOTE_ADDR", "")
            caller = self._proxies.client(peer, environ.get("HTTP_X_FORWARDED_FOR"))
        if self._limits is not None:
            self._limits.enter(caller)
        return caller

    def tokens_needed(self) -> bool:
        """Whether predictions and feedback need a token now."""
        return self._tokens.needed()

    def leave(self, caller: str) -> None:
        """The call that entered has been answered."""
        if self._limits is not None and caller:
            self._limits.leave(caller)

    def close(self) -> None:
        """Give up what the limits share."""
        if self._limits is not None:
            self._limits.close()

    def _holder(self, environ: Mapping[str, Any], scope: Scope) -> str:
        """The name of the token that came; raises where it does not do."""
        needed = self._tokens.needed()
        if self._exposed and not needed:
            raise ForbiddenError(
                f"{exposure(self._settings)}; so admin calls are refused: make a token with "
                "`holdfast tokens create NAME --scope admin`"
            )
        secret = bearer(environ.get("HTTP_AUTHORIZATION", ""))
        if not secret:
            raise _unauthorized(f"this call needs a token of scope {scope}: {HOW}", REALM)
        if scope == "admin" and self._is_admin(secret):
            return ADMIN_TOKEN
        token = self._tokens.find(secret) if needed else None
        if token is None or token.expired():
            what = "no token of this service" if token is None else "expired"
            raise _unauthorized(f"the token is {what}: {HOW}", f'{REALM}, error="invalid_token"')
        if not token.allows(scope):
            error = ForbiddenError(f"this call needs a token of scope {scope}")
            error.headers = {
                "WWW-Authenticate": f'{REALM}, error="insufficient_scope", scope="{scope}"'
            }
            raise error
        return token.name

    def _is_admin(self, secret: str) -> bool:
        """Whether it is the token of the watcher's admin calls; read anew, they are few."""
        try:
            wanted = secret_in(self._settings.admin_token_file, self._settings.admin_token_path)
        except (HoldfastError, OSError) as error:
            logger("auth").error("admin_token_refused", reason=str(error))
            return False
        return hmac.compare_digest(_digest(wanted), _digest(secret))


def guard_of(settings: Settings, directory: Path | None = None) -> Guard:
    """The guard that the settings ask for.

    Args:
        settings: of the service.
        directory: what the workers share, or None where this process is the only one.
    """
    return Guard(settings, limits_of(settings, directory))


def exposure(settings: Settings) -> str | None:
    """What to say loudly where the network may call without a token; else None."""
    if not exposed(settings.host) or settings.tokens_file or settings.tokens_path.exists():
        return None
    return (
        f"the service listens on {settings.host or 'every address'} and has no tokens: who reaches "
        "it may ask for predictions and send labels"
    )


def _unauthorized(detail: str, challenge: str) -> UnauthorizedError:
    error = UnauthorizedError(detail)
    error.headers = {"WWW-Authenticate": challenge}
    return error


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "replace")).digest()
