"""The address of a client behind proxies.

`X-Forwarded-For` is read from the right, where our own proxies write, up to the first address that
is not one of them. A client may have invented everything left of that.
"""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from service.web.errors import SettingsError

HOME_PREFIX = 64  # bits of an IPv6 address that a client cannot choose
LONGEST_FORWARDED = 64  # hops that are looked at


class Proxies:
    """The proxies whose `X-Forwarded-For` is trusted: addresses and networks, comma-separated.

    Raises:
        SettingsError: one of them is neither.

    >>> proxies = Proxies("10.0.0.0/8, 192.0.2.1")
    >>> proxies.client("203.0.113.9", "198.51.100.7")
    '203.0.113.9'
    >>> proxies.client("10.0.0.1", "6.6.6.6, 198.51.100.7, 192.0.2.1")
    '198.51.100.7'
    """

    def __init__(self, text: str) -> None:
        try:
            self._networks = [ip_network(part.strip()) for part in text.split(",") if part.strip()]
        except ValueError as error:
            raise SettingsError(
                "trusted_proxies", "addresses and networks such as 10.0.0.0/8", str(error)
            ) from None

    def client(self, peer: str, forwarded: str | None) -> str:
        """Return the client's address (the first 64 bits of IPv6), or the name of the peer."""
        if not self._networks or forwarded is None:
            return name_address(peer)
        client = peer
        hops = [peer, *forwarded.rsplit(",", LONGEST_FORWARDED)[::-1]]
        for hop in hops:
            address = _address(hop)
            if address is None:
                break  # the own proxy wrote no address: it is as far as is known
            client = hop
            if not any(address in network for network in self._networks):
                break
        return name_address(client)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Parse an address as proxies write it: bare, in brackets, with a port."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


@lru_cache(maxsize=1024)
def name_address(text: str) -> str:
    """Name the client at an address: of IPv6 its network; what is no address stays as it is."""
    address = _address(text)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, HOME_PREFIX), strict=False))
    return str(address or text)


def is_loopback(name: str) -> bool:
    """Whether `name_address` named this machine itself.

    >>> [is_loopback(name_address(text)) for text in ("127.0.0.1", "::1", "2001:db8::1")]
    [True, True, False]
    """
    return name.startswith("127.") or name == name_address("::1")
