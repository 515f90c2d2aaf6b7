"""Laws of hosts and URLs: every usual spelling, and nothing else."""

import socket

import pytest

from service.configuration import addresses
from service.configuration.addresses import (
    AddressError,
    bind_text,
    family_of,
    listen_address,
    near,
    read_host,
    read_url,
    url_of,
)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "0.0.0.0"),
        ("::", "::"),
        ("[::]", "::"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("2001:DB8::5", "2001:db8::5"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        (" localhost ", "localhost"),
        ("Service_A.example.org", "service_a.example.org"),
    ],
)
def test_a_host_is_read_in_every_usual_spelling(text: str, host: str) -> None:
    assert read_host(text) == host
    assert read_host(host) == host


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "*", "localhost:8080", "[::1]:8080", "http://localhost", "a b", "-a", "a..b",
        "300.1.1.1", "127.1", "0", "[127.0.0.1]", "[::1", ":::1", "a" * 64, "tcp://10.0.0.1:80",
    ],
)  # fmt: skip
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(AddressError, match=r"expected an address such as .* or a name"):
        read_host(text)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::", "localhost"])
def test_what_listens_on_a_host_is_reached_at_the_url_for_it(host: str) -> None:
    address = listen_address(host)
    if ":" in address and not addresses._has("::1"):
        pytest.skip("this machine has no IPv6")
    with socket.create_server((address, 0), family=family_of(address)) as server:
        port = server.getsockname()[1]
        place = read_url(url_of(near(host), port))
        assert place.port == port
        socket.create_connection((place.host, place.port), timeout=10).close()
        assert bind_text(host, port).endswith(f":{port}")


def test_an_ipv6_address_stands_in_brackets_wherever_a_port_follows() -> None:
    assert bind_text("::", 80) == "[::]:80"
    assert url_of("2001:db8::5", 80) == "http://[2001:db8::5]:80"
    assert url_of("10.0.0.5", 80) == "http://10.0.0.5:80"


def test_a_name_with_ipv6_only_is_bound_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which addresses a name has is the machine's to say: here it is made to say so."""
    entry = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [entry])
    assert bind_text("localhost", 8080) == "[::1]:8080"


def test_a_name_that_nobody_knows_is_told() -> None:
    with pytest.raises(AddressError, match=r"'nowhere\.invalid'"):
        listen_address("nowhere.invalid")


def test_every_address_is_asked_where_loopback_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_has", lambda address: True)
    assert near("::") == "::1"
    monkeypatch.setattr(addresses, "_has", lambda address: False)
    assert near("::") == "127.0.0.1"


@pytest.mark.parametrize(
    "text",
    [
        "", "service:8080", "ftp://a", "http://", "http:///x", "http://::1:8080", "http://[::1",
        "http://a:99999", "http://a:0", "http://a:x", "http://a?x=1", "http://a#x", "http://a b",
        "//a:1", "http://me@a", "http://a..b/",
    ],
)  # fmt: skip
def test_what_is_no_url_is_refused(text: str) -> None:
    with pytest.raises(AddressError, match="expected a URL such as"):
        read_url(text)


def test_a_url_that_is_refused_does_not_show_its_password() -> None:
    with pytest.raises(AddressError) as caught:
        read_url("http://me:secret@host:80")
    assert "secret" not in str(caught.value)


def test_a_url_is_taken_apart() -> None:
    assert read_url("https://a.example/p/") == ("https", "a.example", 443, "/p")
    assert read_url("http://[2001:db8::5]:81") == ("http", "2001:db8::5", 81, "")
