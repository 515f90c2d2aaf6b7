"""Hosts and ports: as people write them, as sockets want them, and as they stand in a URL.

    setting      host, normalised   gunicorn's bind   what a probe on this machine asks
    127.0.0.1    127.0.0.1          127.0.0.1:8080    http://127.0.0.1:8080
    0.0.0.0      0.0.0.0            0.0.0.0:8080      http://127.0.0.1:8080
    ::1, [::1]   ::1                [::1]:8080        http://[::1]:8080
    ::, [::]     ::                 [::]:8080         http://[::1]:8080
    localhost    localhost          127.0.0.1:8080    http://localhost:8080

A name that has no IPv4 address is bound at its IPv6 address.
"""

import ipaddress
import re
import socket
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from models.base.errors import HoldfastError

NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")
LONGEST_NAME = 253
DEFAULT_PORTS = {"http": 80, "https": 443}
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class AddressError(HoldfastError):
    """A host or a URL cannot be used: `expected` says what can be, `got` what was given."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f"expected {expected}, got {got}")
        self.expected = expected
        self.got = got


class Place(NamedTuple):
    """The parts of a URL that a connection needs."""

    scheme: str
    host: str
    port: int
    path: str


def read_host(text: str) -> str:
    """Normalise a host: without brackets, an IPv6 address in its short form.

    >>> read_host("[::1]"), read_host(" 0:0::1 "), read_host("localhost"), read_host("0.0.0.0")
    ('::1', '::1', 'localhost', '0.0.0.0')

    Raises:
        AddressError: it is neither an address nor a name.
    """
    expected = "an address such as 127.0.0.1, 0.0.0.0, ::1 or ::, or a name, without a port"
    host = text.strip()
    if not host:
        raise AddressError(expected, "an empty text (0.0.0.0 or :: is every address)")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        numeric = re.fullmatch(r"[0-9.]+", host)  # no name, and libc reads 127.1 in its own way
        if numeric or not NAME.fullmatch(host) or len(host) > LONGEST_NAME:
            raise AddressError(expected, repr(text)[:60]) from None
        return host.lower()
    if address.version == 4 and bare != host:
        raise AddressError(expected, repr(text)[:60])
    return str(address)


def join(host: str, port: int) -> str:
    """Join host and port, an IPv6 address in brackets.

    >>> join("::1", 8080), join("127.0.0.1", 8080)
    ('[::1]:8080', '127.0.0.1:8080')
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def url_of(host: str, port: int) -> str:
    """Return the URL of a server, without a slash at its end.

    >>> url_of("::1", 8080)
    'http://[::1]:8080'
    """
    return f"http://{join(host, port)}"


def near(host: str) -> str:
    """Return the host by which a process on this machine reaches a server on `host`.

    >>> near("0.0.0.0"), near("10.0.0.5"), near("localhost")
    ('127.0.0.1', '10.0.0.5', 'localhost')
    """
    if host == "::" and not _has("::1"):
        return "127.0.0.1"  # a socket on :: takes IPv4 as well where IPv6 has no loopback
    return EVERYWHERE.get(host, host)


def listen_address(host: str) -> str:
    """Return the address to listen on; of a name, its IPv4 address where it has both.

    Raises:
        AddressError: the name cannot be resolved.
    """
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _resolve_host(host)
    return host


def bind_text(host: str, port: int) -> str:
    """What a server is told to listen on.

    >>> bind_text("::1", 8080)
    '[::1]:8080'

    Raises:
        AddressError: as `listen_address`.
    """
    return join(listen_address(host), port)


def family_of(address: str) -> socket.AddressFamily:
    """Return the socket family of an address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def read_url(text: str) -> Place:
    """Split an http or https URL.

    >>> read_url("http://[::1]:8080/")
    Place(scheme='http', host='::1', port=8080, path='')

    Raises:
        AddressError: it is none, or has parts that are not sent (a user, a query, a fragment).
    """
    expected = "a URL such as http://10.0.0.5:8080 or http://[::1]:8080"
    wrong = AddressError(expected, _without_user(text))
    parts = _split(text.strip(), wrong)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise wrong
    if parts.username is not None or parts.query or parts.fragment:
        raise wrong
    try:
        host, port = read_host(parts.hostname), parts.port
    except (ValueError, AddressError):
        raise wrong from None
    if port == 0 or re.search(r"[\s\x00-\x20\x7f]", text.strip()):
        raise wrong
    return Place(parts.scheme, host, port or DEFAULT_PORTS[parts.scheme], parts.path.rstrip("/"))


def _split(text: str, wrong: AddressError) -> SplitResult:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise wrong from None
    return parts


def _without_user(text: str) -> str:
    """Return a URL without user and password, which may be secret."""
    return repr(re.sub(r"//[^/@]*@", "//***@", text))[:80]


def _resolve_host(name: str) -> str:
    expected = "a host that has an address here"
    try:
        entries = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise AddressError(expected, f"{name!r}: {reason}") from None
    addresses = [str(entry[4][0]) for entry in entries]
    return next((each for each in addresses if ":" not in each), addresses[0])


def _has(address: str) -> bool:
    """Whether this machine has the address."""
    try:
        with socket.socket(family_of(address)) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
