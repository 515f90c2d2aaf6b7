import pytest

from service.configuration.proxies import Proxies
from service.configuration.settings import load
from service.web.errors import SettingsError


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "client"),
    [
        ("", "198.51.100.7", "203.0.113.9", "198.51.100.7"),
        ("10.0.0.0/8", "198.51.100.7", "203.0.113.9", "198.51.100.7"),
        ("10.0.0.0/8", "10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.0/8", "10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.0/8", "10.0.0.1", "6.6.6.6, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.0/8", "10.0.0.1", "6.6.6.6,203.0.113.9 ,10.1.2.3", "203.0.113.9"),
        ("10.0.0.0/8", "10.0.0.1", "10.9.9.9, 10.1.2.3", "10.9.9.9"),
        ("10.0.0.0/8", "10.0.0.1", "203.0.113.9, nonsense, 10.1.2.3", "10.1.2.3"),
        ("10.0.0.0/8", "10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.0/8", "10.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("10.0.0.0/8", "::ffff:10.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"),
        ("fd00::/8, 10.0.0.1", "fd00::1", "[2001:db8:1:2:3::4]:99, 10.0.0.1", "2001:db8:1:2::/64"),
        ("10.0.0.0/8", "10.0.0.1", "9.9.9.9," * 500 + "10.0.0.2", "9.9.9.9"),
        ("", "2001:db8:1:2:ffff::1", None, "2001:db8:1:2::/64"),
        ("", "", None, ""),
    ],
)
def test_the_client_is_the_nearest_hop_that_is_no_own_proxy(
    trusted: str, peer: str, forwarded: str | None, client: str
) -> None:
    assert Proxies(trusted).client(peer, forwarded) == client


def test_what_a_client_writes_on_the_left_changes_nothing() -> None:
    proxies = Proxies("10.0.0.0/8")
    seen = {
        proxies.client("10.0.0.1", f"{forged}203.0.113.9")
        for forged in ("", "1.2.3.4, ", "10.0.0.7, ", "x" * 5000 + ",", ",,,", "unknown, ")
    }
    assert seen == {"203.0.113.9"}


@pytest.mark.parametrize("text", ["10.0.0.0/33", "proxy.internal", "10.0.0.1/8"])
def test_a_proxy_that_is_no_address_is_refused_when_the_settings_are_read(text: str) -> None:
    with pytest.raises(SettingsError, match="trusted_proxies"):
        load({"HOLDFAST_TRUSTED_PROXIES": text})
