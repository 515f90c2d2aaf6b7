"""Decides which web pages may call, by the `Host` and the `Origin` of a request.

A browser lets every page send requests to every address, also to this machine. With a host name
that first resolved to the attacker and then to us (DNS rebinding) the page can even read the
answers. Such a page shows in its `Origin` or, where a request has none, in its `Host`.

    an `Origin`   must be the page of this address itself (it names `Host`), or an allowed one; on
                  loopback, and without tokens, `Host` must be ours as well: else 403
    no `Origin`   on loopback `Host` must be ours: else 421. On the network it is not checked: pods,
                  probes and proxies call by addresses that nobody can list

`Host` is ours if it is a loopback name or one of `HOLDFAST_ALLOWED_HOSTS`; on the network also if
it is the address that was bound, or any literal address: a literal address cannot be rebound.

This module works on texts and returns headers, so that any server and framework can use it.

Sources: RFC 9110, 7.2 (`Host`) and 15.5.20 (421); RFC 6454, 7 (`Origin`); RFC 6761, 6.3
(`localhost`); Fetch (WHATWG), 3.2 (CORS); Fetch Metadata (W3C), 2.3.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from models.base.errors import show_value
from service.web.errors import ForbiddenError, MisdirectedError, SettingsError

SAFE = ("GET", "HEAD", "OPTIONS")  # methods that change nothing
METHODS = "GET, HEAD, POST"
ASKED_HEADERS = (
    "Accept, Authorization, Content-Encoding, Content-Type, Inference-Header-Content-Length, "
    "Traceparent, Tracestate, X-Request-Id"
)
TOLD_HEADERS = (
    "Accept, Allow, Content-Encoding, Inference-Header-Content-Length, Retry-After, "
    "WWW-Authenticate, X-Request-Id"
)
PREFLIGHT_SECONDS = 600
LONGEST = 300  # characters of a host or an origin: names have 253 at most
DEFAULT_PORTS = {"http": 80, "https": 443}
_AUTHORITY = r"(\[[0-9a-f:.]+(?:%[0-9a-z._-]+)?\]|[0-9a-z._-]+)(?::([0-9]{0,5}))?"
_HOST = re.compile(_AUTHORITY)
_ORIGIN = re.compile(rf"([a-z][a-z0-9+.-]*)://{_AUTHORITY}")
Headers = tuple[tuple[str, str], ...]


class Host(NamedTuple):
    """A normalised name or address; `port` is None where none was given."""

    name: str
    port: int | None


class Origin(NamedTuple):
    """Where a page comes from; `port` is the scheme's default where none was given."""

    scheme: str
    name: str
    port: int | None


class Caller(NamedTuple):
    """The parts of a request that are checked: its method and headers (None: absent)."""

    method: str
    host: str | None
    origin: str | None = None
    fetch_site: str | None = None  # Sec-Fetch-Site
    wished_method: str | None = None  # Access-Control-Request-Method


class OriginVerdict(NamedTuple):
    """The call may go on, and its answer gets these `headers`.

    A `preflight` is answered at once with them and 204.
    """

    headers: Headers = ()
    preflight: bool = False


class Origins:
    """Decides which pages may call one listening address.

    Args:
        host: the address we listen on (`HOLDFAST_HOST`, or the watcher's).
        allowed_hosts: `HOLDFAST_ALLOWED_HOSTS`.
        allowed_origins: `HOLDFAST_ALLOWED_ORIGINS`.
        tokens_needed: whether calls need tokens now.

    Raises:
        SettingsError: an entry of a list is no host, or no origin.

    >>> origins = Origins("127.0.0.1", allowed_hosts="shop.example")
    >>> origins.judge(Caller("POST", "LocalHost.:8080", "http://localhost:8080"))
    OriginVerdict(headers=(), preflight=False)
    >>> origins.judge(Caller("GET", "evil.example:8080"))
    Traceback (most recent call last):
        ...
    service.web.errors.MisdirectedError: Host: expected a loopback name or one of \
HOLDFAST_ALLOWED_HOSTS, got 'evil.example:8080'
    """

    def __init__(
        self,
        host: str,
        *,
        allowed_hosts: str = "",
        allowed_origins: str = "",
        tokens_needed: Callable[[], bool] = lambda: False,
    ) -> None:
        self._loopback = not is_exposed(host)
        bound = parse_host(host) or parse_host(f"[{host}]")  # an IPv6 address may come bare
        self._hosts = parse_hosts(allowed_hosts) | ({bound.name} if bound else set())
        self._origins = parse_origins(allowed_origins)
        self._tokens_needed = tokens_needed
        self._vary: Headers = (("Vary", "Origin"),) if self._origins else ()
        self._plain = OriginVerdict(self._vary)

    def judge(self, caller: Caller) -> OriginVerdict:
        """Let a request go on, or refuse it.

        Raises:
            MisdirectedError: its `Host` is not ours.
            ForbiddenError: a page of another site sent it.
        """
        if caller.origin is not None:
            return self._judge_page(caller, caller.origin)
        if self._loopback and caller.host and not self._is_ours(caller.host):
            raise MisdirectedError(_strange_host(caller.host, "a loopback name"))
        if caller.fetch_site == "cross-site" and caller.method not in SAFE:
            raise ForbiddenError("a page of another site sent this")
        return self._plain

    def _judge_page(self, caller: Caller, text: str) -> OriginVerdict:
        origin, host = parse_origin(text), parse_host(caller.host or "")
        allowed = origin is not None and origin in self._origins
        if not allowed and not (origin and host and _same(origin, host)):
            raise ForbiddenError(
                f"Origin: a page of another site ({show_value(text)}) sent this; "
                "HOLDFAST_ALLOWED_ORIGINS names sites whose pages may"
            )
        if (self._loopback or not self._tokens_needed()) and not self._is_ours(caller.host or ""):
            raise ForbiddenError(_strange_host(caller.host or "", "a loopback name or an address"))
        if not allowed:
            if caller.fetch_site == "cross-site" and caller.method not in SAFE:
                raise ForbiddenError("a page of another site sent this")
            return self._plain
        own = (("Access-Control-Allow-Origin", text), *self._vary)
        if caller.method == "OPTIONS" and caller.wished_method is not None:
            return OriginVerdict((*own, *_PREFLIGHT), preflight=True)
        return OriginVerdict((*own, ("Access-Control-Expose-Headers", TOLD_HEADERS)))

    def _is_ours(self, text: str) -> bool:
        host = parse_host(text)
        if host is None:
            return False
        named = is_loopback(host.name) or host.name in self._hosts
        return named or (not self._loopback and _address(host.name) is not None)


_PREFLIGHT: Headers = (
    ("Access-Control-Allow-Methods", METHODS),
    ("Access-Control-Allow-Headers", ASKED_HEADERS),
    ("Access-Control-Max-Age", str(PREFLIGHT_SECONDS)),
)


def parse_host(text: str) -> Host | None:
    """Parse a `Host` header; None where it is not valid.

    >>> parse_host("Shop.Example.:8080"), parse_host("[0:0::1]"), parse_host("a, b")
    (Host(name='shop.example', port=8080), Host(name='::1', port=None), None)
    """
    return _parse_host(text) if len(text) <= LONGEST and text.isascii() else None


@lru_cache(maxsize=1024)
def _parse_host(text: str) -> Host | None:
    match = _HOST.fullmatch(text.lower())
    return None if match is None else _host(match[1], match[2])


def parse_origin(text: str) -> Origin | None:
    """Parse an `Origin` header; None for `null`, and where it is not valid.

    >>> parse_origin("https://Shop.Example"), parse_origin("null")
    (Origin(scheme='https', name='shop.example', port=443), None)
    """
    return _parse_origin(text) if len(text) <= LONGEST and text.isascii() else None


@lru_cache(maxsize=1024)
def _parse_origin(text: str) -> Origin | None:
    match = _ORIGIN.fullmatch(text.lower())
    host = _host(match[2], match[3]) if match else None
    if match is None or host is None:
        return None
    default = DEFAULT_PORTS.get(match[1])
    return Origin(match[1], host.name, default if host.port is None else host.port)


def parse_hosts(text: str) -> set[str]:
    """Parse comma-separated names and addresses; ports are ignored. Raises SettingsError.

    >>> sorted(parse_hosts("shop.example, [2001:DB8::1]:443"))
    ['2001:db8::1', 'shop.example']
    """
    parts = {part: parse_host(part) or parse_host(f"[{part}]") for part in _parts(text)}
    wrong = [show_value(part) for part, host in parts.items() if host is None]
    if wrong:
        expected = "names or addresses such as shop.example, in ASCII and without http://"
        raise SettingsError("allowed_hosts", expected, ", ".join(wrong))
    return {host.name for host in parts.values() if host is not None}


def parse_origins(text: str) -> set[Origin]:
    """Parse comma-separated origins; a slash at the end is ignored. Raises SettingsError.

    >>> parse_origins("https://app.example/")
    {Origin(scheme='https', name='app.example', port=443)}
    """
    parts = {part: parse_origin(part.removesuffix("/")) for part in _parts(text)}
    wrong = [show_value(part) for part, origin in parts.items() if origin is None]
    if wrong:
        expected = "origins as a browser writes them, such as https://app.example (not * or null)"
        raise SettingsError("allowed_origins", expected, ", ".join(wrong))
    return {origin for origin in parts.values() if origin is not None}


def is_loopback(name: str) -> bool:
    """Whether a name, as `parse_host` returns it, always means this machine.

    >>> [is_loopback(n) for n in ("localhost", "a.localhost", "127.9.9.9", "::1", "0.0.0.0")]
    [True, True, True, True, False]
    """
    address = _address(name)
    if address is not None:
        return address.is_loopback
    return name == "localhost" or name.endswith(".localhost")


def is_exposed(host: str) -> bool:
    """Whether other machines can reach a server that listens on this address.

    >>> [is_exposed(host) for host in ("127.0.0.1", "[::1]", "localhost", "0.0.0.0", "10.0.0.5")]
    [False, False, False, True, True]
    """
    address = _address(host.removeprefix("[").removesuffix("]"))
    return host.lower() != "localhost" if address is None else not address.is_loopback


def _host(name: str, digits: str | None) -> Host | None:
    """Normalise a name or address; None where it is neither."""
    port = int(digits) if digits else None
    if port is not None and port > 65535:
        return None
    if name.startswith("["):
        address = _address(name[1:-1])
        return None if address is None else Host(str(address), port)
    name = name.removesuffix(".")
    return Host(name, port) if name and ".." not in name and name[0] != "." else None


def _same(origin: Origin, host: Host) -> bool:
    """Whether a page of `origin` calls the server that it came from.

    Behind a TLS proxy the page's scheme differs from that of the connection here, so a `Host`
    without a port means the default port of the page's scheme.
    """
    default = DEFAULT_PORTS.get(origin.scheme)
    port = default if host.port is None else host.port
    return default is not None and (origin.name, origin.port) == (host.name, port)


@lru_cache(maxsize=1024)
def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(name.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _strange_host(text: str, ours: str) -> str:
    got = show_value(text) if text else "none"
    return f"Host: expected {ours} or one of HOLDFAST_ALLOWED_HOSTS, got {got}"
