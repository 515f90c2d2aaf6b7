"""Who is let in: a token of the scope, then a place within the client's limits.

`open` calls (probes, metrics, metadata, pages) pass. Without a tokens file predictions and feedback
pass as well, and admin calls take the admin token that the watcher takes; but not where the service
listens to the network: there, who has no tokens has no admin calls. The watcher's own calls take
the token of a file each, wherever it listens.
"""

import hmac
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path

from models.base.errors import HoldfastError
from models.base.logs import logger
from service.access.auth import Tokens, bearer, secret_in
from service.access.limits import ClientLimits, limits_of
from service.configuration.proxies import Proxies
from service.configuration.settings import Settings
from service.web.call import Call, Scope
from service.web.errors import ForbiddenError, UnauthorizedError
from service.web.origins import Origins, is_exposed

REALM = 'Bearer realm="holdfast"'
HOW = "`Authorization: Bearer <token>`; `holdfast tokens create` makes tokens"


Secret = Callable[[], str]  # reads it anew: such calls are few


class Guard:
    """Admits calls and names the caller; threads share one.

    Args:
        settings: of the service or the watcher.
        limits: of the clients, or None.
        secrets: of the scopes that always need a token: the one that does without a tokens file.
        exposed: whether the network reaches us, where nobody has admin calls without tokens.
    """

    def __init__(
        self,
        settings: Settings,
        limits: ClientLimits | None = None,
        *,
        secrets: Mapping[str, Secret],
        exposed: bool,
    ) -> None:
        self._settings = settings
        self._secrets = secrets
        self._tokens = Tokens(settings.tokens_path, required=bool(settings.tokens_file))
        self._limits = limits
        self._proxies = Proxies(settings.trusted_proxies)
        self._by_token = settings.query_key == "token"
        self._exposed = exposed

    def enter(self, call: Call, scope: Scope) -> str:
        """The caller's name, empty for an open call; the call is told whose token it came with.

        Raises:
            UnauthorizedError: no token, or one that is unknown or expired.
            ForbiddenError: the token lacks the scope, or nobody may make this call.
            TooManyError: the client is beyond its rate or its share.
            UnavailableError: the tokens cannot be read.
        """
        if scope == "open":
            return ""
        holder = ""
        if scope in self._secrets or self._tokens.needs_tokens():
            holder = self._holder(call, scope)
            call.actor = scope if holder == _own(scope) else f"token {holder}"
        if holder and self._by_token:
            caller = f"token {holder}"
        else:
            caller = self._proxies.client(call.peer, call.header("x-forwarded-for"))
        if self._limits is not None:
            self._limits.enter(caller)
        return caller

    def tokens_needed(self) -> bool:
        """Whether predictions and feedback need a token now."""
        return self._tokens.needs_tokens()

    def leave(self, caller: str) -> None:
        """The call that entered has been answered."""
        if self._limits is not None and caller:
            self._limits.leave(caller)

    def close(self) -> None:
        """Give up what the limits share."""
        if self._limits is not None:
            self._limits.close()

    def _holder(self, call: Call, scope: Scope) -> str:
        """The name of the token that came; raises where it does not do."""
        needed = self._tokens.needs_tokens()
        if self._exposed and not needed:
            raise ForbiddenError(
                f"{exposure(self._settings)}; so admin calls are refused: make a token with "
                "`holdfast tokens create NAME --scope admin`"
            )
        secret = bearer(call.header("authorization") or "")
        if not secret:
            raise _unauthorized(f"this call needs a token of scope {scope}: {HOW}", REALM)
        if scope in self._secrets and self._fits(secret, scope):
            return _own(scope)
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

    def _fits(self, secret: str, scope: str) -> bool:
        try:
            expected = self._secrets[scope]()
        except (HoldfastError, OSError) as error:
            logger("auth").error(f"{scope}_token_refused", reason=str(error))
            return False
        return hmac.compare_digest(_digest(expected), _digest(secret))


def guard_of(settings: Settings, directory: Path | None = None) -> Guard:
    """The service's guard, as the settings ask for it.

    Args:
        settings: of the service.
        directory: what the workers share, or None where this process is the only one.
    """
    secrets = {"admin": partial(admin_secret, settings)}
    limits = limits_of(settings, directory)
    return Guard(settings, limits, secrets=secrets, exposed=is_exposed(settings.host))


def watch_guard_of(settings: Settings) -> Guard:
    """The watcher's guard."""
    secrets = {"admin": partial(admin_secret, settings), "alert": partial(alert_secret, settings)}
    return Guard(settings, limits_of(settings, None), secrets=secrets, exposed=False)


def origins_of(settings: Settings, host: str, guard: Guard) -> Origins:
    """Which pages may call the address that is listened on, under these settings."""
    return Origins(
        host,
        allowed_hosts=settings.allowed_hosts,
        allowed_origins=settings.allowed_origins,
        tokens_needed=guard.tokens_needed,
    )


def admin_secret(settings: Settings) -> str:
    """The token of the admin calls: from the file that is set, else made once in the state."""
    return secret_in(settings.admin_token_file, settings.admin_token_path)


def alert_secret(settings: Settings) -> str:
    """The token of the alert webhook, likewise."""
    return secret_in(settings.alert_token_file, settings.alert_token_path)


def exposure(settings: Settings) -> str | None:
    """What to say loudly where the network may call without a token; else None."""
    if not is_exposed(settings.host) or settings.tokens_file or settings.tokens_path.exists():
        return None
    return (
        f"the service listens on {settings.host or 'every address'} and has no tokens: who reaches "
        "it may ask for predictions and send labels"
    )


def _own(scope: Scope) -> str:
    """What the token of a file is called: no token of the tokens file can be named so."""
    return f"the {scope} token"


def _unauthorized(detail: str, challenge: str) -> UnauthorizedError:
    error = UnauthorizedError(detail)
    error.headers = {"WWW-Authenticate": challenge}
    return error


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "replace")).digest()
