"""Checks each call: the token and its scope first, then the limits of the client.

`open` calls (probes, metrics, metadata, pages) need no token. Without a tokens file, predictions
and feedback need none either, and admin calls need the admin token (the watcher's). A service that
listens to the network refuses admin calls until there is a tokens file. The watcher's own calls
need the admin or the alert token, wherever it listens.
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
from service.web.origins import Origins, is_exposed, is_loopback, parse_host

REALM = 'Bearer realm="holdfast"'
HOW = "`Authorization: Bearer <token>`; `holdfast tokens create` makes tokens"


PAGE: tuple[Scope, ...] = ("inputs", "console")
PROXIED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")  # by a proxy
Secret = Callable[[], str]  # reads it anew: such calls are few


class Guard:
    """Admits calls and names the caller; all threads share one.

    Args:
        settings: of the service or the watcher.
        limits: of the clients, or None.
        secrets: by scope, the token that is accepted without a tokens file.
        exposed: whether other machines can connect; then admin calls need a tokens file.
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
        """Return the caller's name, empty for an open call.

        Sets `call.actor` to the name of the token, and `call.grants` to what else it allows.

        Raises:
            UnauthorizedError: no token, or one that is unknown or expired.
            ForbiddenError: the token lacks the scope, or the call is not allowed at all.
            TooManyError: the client is beyond its rate or its share.
            UnavailableError: the tokens cannot be read.
        """
        if scope == "open":
            return ""
        holder = self.check(call, scope)
        if holder and self._by_token:
            caller = f"token {holder}"
        else:
            caller = self._proxies.client(call.peer, call.header("x-forwarded-for"))
        if self._limits is not None:
            self._limits.enter(caller)
        return caller

    def check(self, call: Call, scope: Scope) -> str:
        """Return the name of the call's token, empty where none is needed; no limit is looked at.

        Raises as `enter`, but for TooManyError.
        """
        if scope == "open":
            return ""
        holder = ""
        if scope in PAGE:
            holder = "" if self._is_free(call) else self._page_holder(call, scope)
            call.actor = f"token {holder}" if holder and holder != _own("admin") else "admin"
        elif scope in self._secrets or self._tokens.needs_tokens():
            holder = self._holder(call, scope)
            call.actor = scope if holder == _own(scope) else f"token {holder}"
        return holder

    def tokens_needed(self) -> bool:
        """Whether predictions and feedback need a token now."""
        return self._tokens.needs_tokens()

    def trusts(self, call: Call) -> bool:
        """Whether the page at `/` needs no token: it is open on the machine that serves it.

        Nobody else can connect, there are no tokens, and no proxy stands between: none is named in
        the settings, none tells of itself, and none speaks HTTP/1.0 as nginx does unless it is told
        otherwise. No page of another site asks: the browser says so, or the origin is this host.
        """
        host = parse_host(call.header("host") or "")
        near = host is not None and is_loopback(host.name) and is_loopback(call.peer)
        passed_on = any(call.header(name) is not None for name in PROXIED)
        passed_on = passed_on or call.scope.get("http_version") == "1.0"
        asks = call.header("sec-fetch-site") in (None, "same-origin", "none") and _is_own(call)
        reached = self._settings.trusted_proxies or self._settings.allowed_hosts
        closed = not self._exposed and not self._tokens.needs_tokens() and not reached
        return self._settings.console == "on" and closed and near and asks and not passed_on

    def _is_free(self, call: Call) -> bool:
        return not bearer(call.header("authorization") or "") and self.trusts(call)

    def _page_holder(self, call: Call, scope: Scope) -> str:
        """Return the name of the token of a call of the page. Raises as `_holder`."""
        secret = bearer(call.header("authorization") or "")
        if scope == "inputs" and not self._exposed and secret and self._fits(secret, "admin"):
            return _own("admin")
        if scope == "inputs" and self._tokens.needs_tokens():
            return self._holder(call, "feedback")
        return self._holder(call, "admin")

    def leave(self, caller: str) -> None:
        """End a call that entered."""
        if self._limits is not None and caller:
            self._limits.leave(caller)

    def close(self) -> None:
        """Close the shared memory of the limits."""
        if self._limits is not None:
            self._limits.close()

    def _holder(self, call: Call, scope: Scope) -> str:
        """Return the name of the call's token. Raises as `enter` where it is not accepted."""
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
        call.grants = token.allows
        return token.name

    def _fits(self, secret: str, scope: str) -> bool:
        try:
            expected = self._secrets[scope]()
        except (HoldfastError, OSError) as error:
            logger("auth").error(f"{scope}_token_refused", reason=str(error))
            return False
        return hmac.compare_digest(_digest(expected), _digest(secret))


def guard_of(settings: Settings, directory: Path | None = None) -> Guard:
    """Make the service's guard.

    Args:
        settings: of the service.
        directory: shared by the workers, or None where this process is the only one.
    """
    secrets = {"admin": partial(admin_secret, settings)}
    limits = limits_of(settings, directory)
    return Guard(settings, limits, secrets=secrets, exposed=is_exposed(settings.host))


def watch_guard_of(settings: Settings) -> Guard:
    """Make the watcher's guard."""
    secrets = {"admin": partial(admin_secret, settings), "alert": partial(alert_secret, settings)}
    return Guard(settings, limits_of(settings, None), secrets=secrets, exposed=False)


def origins_of(settings: Settings, host: str, guard: Guard) -> Origins:
    """Make the check of `Host` and `Origin` for the address `host` that we listen on."""
    return Origins(
        host,
        allowed_hosts=settings.allowed_hosts,
        allowed_origins=settings.allowed_origins,
        tokens_needed=guard.tokens_needed,
    )


def admin_secret(settings: Settings) -> str:
    """Return the admin token: from the configured file, else made once in the state."""
    return secret_in(settings.admin_token_file, settings.admin_token_path)


def alert_secret(settings: Settings) -> str:
    """Return the token of the alert webhook, as `admin_secret`."""
    return secret_in(settings.alert_token_file, settings.alert_token_path)


def exposure(settings: Settings) -> str | None:
    """Return a warning where the network can call without a token; else None."""
    if not is_exposed(settings.host) or settings.tokens_file or settings.tokens_path.exists():
        return None
    return (
        f"the service listens on {settings.host or 'every address'} and has no tokens: who reaches "
        "it may ask for predictions and send labels"
    )


def _is_own(call: Call) -> bool:
    """Whether an `Origin`, if there is one, is the address that the call was sent to."""
    origin = call.header("origin")
    return origin is None or origin.partition("://")[2] == call.header("host")


def _own(scope: Scope) -> str:
    """Name the token of a scope's own file; no token of the tokens file can have this name."""
    return f"the {scope} token"


def _unauthorized(detail: str, challenge: str) -> UnauthorizedError:
    error = UnauthorizedError(detail)
    error.headers = {"WWW-Authenticate": challenge}
    return error


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "replace")).digest()
