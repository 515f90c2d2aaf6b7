"""Bearer tokens: who may call, and what for.

`tokens.json` holds the name, the scopes and the SHA-256 of the secret of each token. Plain SHA-256
is enough, because a secret is 32 random bytes and cannot be guessed. Slow and salted hashes are for
secrets that people choose.

Secrets have a prefix, by which people and scanners recognise leaked ones.
"""

import hmac
import re
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from models.base.files import lock_file, write_atomic
from models.base.logs import logger
from service.web.errors import SettingsError, StateError, UnavailableError

PREFIX = "holdfast_"
SECRET_BYTES = 32
LEAST_CHARACTERS = 16  # of a secret that somebody else has made
LOOK_SECONDS = 1.0  # a token that is revoked is believed for so long
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
WRITABLE_BY_ALL = 0o002
Held = Literal["predict", "feedback", "feedback:any", "alert", "admin"]


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is stored about a token; the secret itself is not."""

    name: Annotated[str, Meta(pattern=f"^{NAME.pattern}$")]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]  # of the secret
    scopes: Annotated[tuple[Held, ...], Meta(min_length=1)]
    created: Annotated[datetime, Meta(tz=True)]
    expires: Annotated[datetime, Meta(tz=True)] | None = None

    def allows(self, scope: str) -> bool:
        """Whether the token allows calls of this scope; admin allows all.

        `feedback` is for labels of the client's own requests, `feedback:any` for those of all.
        """
        allowing = {scope, "admin"} | ({"feedback:any"} if scope == "feedback" else set())
        return not allowing.isdisjoint(self.scopes)

    def expired(self) -> bool:
        """Whether the token has expired."""
        return self.expires is not None and self.expires <= datetime.now(UTC)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    tokens: tuple[Token, ...]


def read(path: Path) -> tuple[Token, ...]:
    """Read the tokens of a file.

    Raises:
        StateError: it cannot be read, or everybody can write to it.
    """
    try:
        if path.stat().st_mode & WRITABLE_BY_ALL:
            raise StateError(f"tokens file {path}: everybody may write to it; chmod 600 it")
        tokens = msgspec.json.decode(path.read_bytes(), type=_File).tokens
    except OSError as error:
        raise StateError(f"tokens file {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateError(f"tokens file {path} is damaged: {error}") from error
    if len({token.name for token in tokens}) < len(tokens):
        raise StateError(f"tokens file {path} is damaged: two tokens have the same name")
    return tokens


def create(
    path: Path, name: str, scopes: tuple[Held, ...], lifetime: timedelta | None = None
) -> str:
    """Add a token and return its secret, which is not stored.

    Raises:
        StateError: the name is taken or unfit, or the file cannot be read.
    """
    if not NAME.fullmatch(name):
        raise StateError(f"token name {name!r}: use A-Z a-z 0-9 . _ -, at most 64")
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    now = datetime.now(UTC).replace(microsecond=0)
    token = Token(
        name=name,
        sha256=sha256(secret.encode()).hexdigest(),
        scopes=tuple(dict.fromkeys(scopes)),
        created=now,
        expires=None if lifetime is None else now + lifetime,
    )

    def add_token(tokens: tuple[Token, ...]) -> tuple[Token, ...]:
        if any(name == token.name for token in tokens):
            raise StateError(f"there is a token {name!r}: revoke it first, or take another name")
        return (*tokens, token)

    _change(path, add_token)
    return secret


def revoke(path: Path, name: str) -> None:
    """Remove a token; without any token, all calls are refused. Raises StateError if unknown."""

    def remove_token(tokens: tuple[Token, ...]) -> tuple[Token, ...]:
        if all(name != token.name for token in tokens):
            names = ", ".join(token.name for token in tokens) or "none"
            raise StateError(f"no token {name!r}; known: {names}")
        return tuple(token for token in tokens if token.name != name)

    _change(path, remove_token)


def _change(path: Path, change: Callable[[tuple[Token, ...]], tuple[Token, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock_file(path.with_name(f".{path.name}.lock")):
        tokens = change(read(path) if path.exists() else ())
        encoded = msgspec.json.format(msgspec.json.encode(_File(tokens)), indent=1)
        write_atomic(path, encoded, mode=0o600)


class Tokens:
    """The tokens of a file, which is read again when it changes; without a file none is needed.

    A file that is damaged or gone is logged and changes nothing: the tokens that were read last
    stay in force. Where there are none, all calls are refused.

    Args:
        path: of the file.
        required: whether a file that is absent counts as damaged.
    """

    def __init__(self, path: Path, *, required: bool = False) -> None:
        self._path = path
        self._required = required
        self._log = logger("auth")
        self._stamp: tuple[int, ...] | None = ()
        self._tokens: tuple[tuple[bytes, Token], ...] | None = None
        self._verified: dict[bytes, Token] = {}  # by digest; at most all of them
        self._damaged = False
        self._look_at = 0.0
        self.needs_tokens()

    def needs_tokens(self) -> bool:
        """Whether calls need a token; checks the file at most once a second."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._look()
        return self._damaged or self._tokens is not None

    def find(self, secret: str) -> Token | None:
        """Return the token with this secret, expired or not; None where there is none.

        Raises:
            UnavailableError: the file is damaged and was never read before.
        """
        if self._tokens is None:
            raise UnavailableError("the tokens cannot be read; the log of the service says why")
        digest = sha256(secret.encode("utf-8", "replace")).digest()
        verified = self._verified.get(digest)
        if verified is None:
            for stored, token in self._tokens:  # all of them, whichever it is
                if hmac.compare_digest(stored, digest):
                    verified = self._verified[digest] = token
        return verified

    def _look(self) -> None:
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_size)
        except OSError:
            stamp = None
        if stamp == self._stamp:
            return
        self._stamp = stamp
        if stamp is None and self._tokens is None and not self._required and not self._damaged:
            return
        try:
            tokens = read(self._path)
        except StateError as error:
            self._damaged = True
            tokens_in_force = (
                len(self._tokens) if self._tokens is not None else "none: nobody is let in"
            )
            self._log.error("tokens_refused", reason=str(error), kept=tokens_in_force)
            return
        self._damaged = False
        self._tokens = tuple((bytes.fromhex(token.sha256), token) for token in tokens)
        self._verified = {}
        self._log.info("tokens_loaded", tokens=len(tokens))


def bearer(header: str) -> str:
    r"""Return the secret of an Authorization header, or an empty text (RFC 9110, 11.1).

    >>> bearer("Bearer abc"), bearer("bearer  abc "), bearer("BEARER\tabc"), bearer("Basic abc")
    ('abc', 'abc', 'abc', '')
    """
    scheme, *rest = header.split(None, 1)[:2] or [""]
    return rest[0].strip() if rest and scheme.lower() == "bearer" else ""


def secret_in(configured: str, default: Path) -> str:
    """Read the secret from the configured file, else from `default`, which is made if absent.

    Raises:
        SettingsError: as `secret_of` does.
    """
    if not configured:
        default.parent.mkdir(parents=True, exist_ok=True)
        with lock_file(default.with_name(f".{default.name}.lock")):
            if not default.exists():
                write_atomic(default, secrets.token_urlsafe(SECRET_BYTES).encode(), mode=0o600)
        return default.read_text().strip()
    return secret_of(configured)


def secret_of(configured: str) -> str:
    """Read a secret from a file.

    Raises:
        SettingsError: the file cannot be read, or has less than 16 characters.
    """
    try:
        secret = Path(configured).read_text().strip()
    except OSError as error:
        raise SettingsError(f"token file {configured}", "a readable file", str(error)) from None
    if len(secret) < LEAST_CHARACTERS:
        expected = f"at least {LEAST_CHARACTERS} characters"
        raise SettingsError(f"token file {configured}", expected, f"{len(secret)}")
    return secret
