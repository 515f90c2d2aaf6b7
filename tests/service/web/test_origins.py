"""Pages of other sites are refused, by plain texts; everybody else goes on as before."""

import ipaddress
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.configuration.settings import load
from service.web.errors import ForbiddenError, MisdirectedError, SettingsError
from service.web.origins import (
    DEFAULT_PORTS,
    Caller,
    Host,
    Origins,
    OriginVerdict,
    parse_host,
    parse_hosts,
    parse_origin,
    parse_origins,
)

LOOPBACK = ("127.0.0.1", "::1", "[::1]", "localhost", "127.9.8.7", "LOCALHOST")
NETWORK = ("0.0.0.0", "::", "[::]", "10.0.0.5", "holdfast.lan", "fd00::5")
OURS = (
    "localhost", "LOCALHOST:1", "localhost.:8080", "127.0.0.1", "127.0.0.1:9", "127.255.1.2:8080",
    "[::1]", "[::1]:8080", "[0:0:0:0:0:0:0:1]:80", "[::ffff:127.0.0.1]:80", "a.localhost:3000",
)  # fmt: skip
STRANGE = (
    "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example:8080",
    "evillocalhost", "0.0.0.0:8080", "10.0.0.5:8080", "[::]:8080", "[fe80::1]", "127.0.0.1,evil",
    "127.0.0.1 evil", "user@127.0.0.1", "127.0.0.1:8080:8080", "127.0.0.1:99999", "[::1", "::1",
    "l\u00f6calhost", "..localhost", ".localhost", "127.0.0.1/", "http://127.0.0.1",
)  # fmt: skip
POSTS = ("POST", "PUT", "DELETE", "PATCH")
names = st.lists(
    st.text(string.ascii_letters + string.digits, min_size=1, max_size=8), min_size=1, max_size=4
).map(".".join)
addresses = st.one_of(
    st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(lambda address: f"[{address}]")
)
hosts = st.one_of(names, addresses)
ports = st.one_of(st.none(), st.integers(1, 65535))


def refusal(origins: Origins, asked: Caller) -> int:
    """The status that a request is refused with, or 200."""
    try:
        origins.judge(asked)
    except (ForbiddenError, MisdirectedError) as error:
        return int(error.status)
    return 200


def written(name: str, port: int | None) -> str:
    return name if port is None else f"{name}:{port}"


@pytest.mark.parametrize("bound", LOOPBACK)
@pytest.mark.parametrize("method", ["GET", *POSTS])
def test_on_loopback_a_host_must_be_a_loopback_name(bound: str, method: str) -> None:
    origins = Origins(bound)
    assert {host: refusal(origins, Caller(method, host)) for host in OURS} == dict.fromkeys(
        OURS, 200
    )
    told = {host: refusal(origins, Caller(method, host)) for host in STRANGE}
    assert told == dict.fromkeys(STRANGE, 421)


def test_tokens_do_not_open_loopback_to_strange_hosts() -> None:
    origins = Origins("127.0.0.1", tokens_needed=lambda: True)
    assert refusal(origins, Caller("GET", "evil.example")) == 421


@pytest.mark.parametrize(
    "host", ["shop.example", "SHOP.example.:443", "192.0.2.7:1", "[2001:DB8::7]"]
)
def test_allowed_hosts_are_ours_whatever_their_port(host: str) -> None:
    origins = Origins("127.0.0.1", allowed_hosts=" shop.example:8443,192.0.2.7, 2001:db8:0::7 ,")
    assert refusal(origins, Caller("GET", host)) == 200
    assert refusal(origins, Caller("GET", f"x{host}")) == 421


@pytest.mark.parametrize("bound", NETWORK)
@pytest.mark.parametrize("host", [*OURS, *STRANGE, None, ""])
def test_on_the_network_who_is_no_page_may_call_by_any_host(bound: str, host: str | None) -> None:
    assert refusal(Origins(bound), Caller("GET", host)) == 200
    assert refusal(Origins(bound), Caller("POST", host)) == 200


@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0"])
def test_a_client_of_http_1_0_names_no_host_and_is_no_browser(bound: str) -> None:
    for host in (None, ""):
        assert refusal(Origins(bound), Caller("GET", host)) == 200
        assert refusal(Origins(bound), Caller("POST", host, "http://evil.example")) == 403


@pytest.mark.parametrize("bound", ["127.0.0.1", "::1", "0.0.0.0", "10.0.0.5"])
@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize("method", ["GET", "OPTIONS", *POSTS])
def test_an_origin_that_does_not_name_the_host_is_foreign(
    bound: str, tokens: bool, method: str
) -> None:
    origins = Origins(bound, tokens_needed=lambda: tokens)
    foreign = (
        "http://evil.example", "http://evil.example:8080", "null", "", "http://127.0.0.1",
        "http://127.0.0.1:8081", "https://127.0.0.1", "http://localhost:8080", "127.0.0.1:8080",
        "http://127.0.0.1:8080/", "http://127.0.0.1:8080 http://evil.example", "file://",
        "http://127.0.0.1:8080@evil.example", "http://127.0.0.1:8080.evil.example",
        "http://127.0.0.1:8080, http://evil.example", "chrome-extension://127.0.0.1:8080",
        "http://[::1]:8080", "http://127.0.0.1\u0660:8080",
    )  # fmt: skip
    told = {text: refusal(origins, Caller(method, "127.0.0.1:8080", text)) for text in foreign}
    assert told == dict.fromkeys(foreign, 403)
    assert refusal(origins, Caller(method, "127.0.0.1:8080", "http://127.0.0.1:8080")) == 200


@given(st.sampled_from(["http", "https"]), hosts, ports)
def test_a_page_may_call_where_it_came_from_as_browsers_write_it(
    scheme: str, name: str, port: int | None
) -> None:
    # A browser leaves the default port out of both; a proxy may write it into `Host`.
    origins = Origins("0.0.0.0", tokens_needed=lambda: True)
    shown = None if port == DEFAULT_PORTS[scheme] else port
    origin = f"{scheme}://{written(name, shown).lower()}"
    told = [written(name, shown), written(name.upper(), port)]
    if shown is None:
        told.append(written(name, DEFAULT_PORTS[scheme]))
    for host in told:
        assert refusal(origins, Caller("POST", host, origin)) == 200, (host, origin)


@given(st.sampled_from(["http", "https"]), hosts, ports, hosts, ports)
def test_a_page_of_another_name_or_port_is_foreign(
    scheme: str, name: str, port: int | None, other: str, other_port: int | None
) -> None:
    origins = Origins("0.0.0.0", tokens_needed=lambda: True)
    default = DEFAULT_PORTS[scheme]
    mine, page = parse_host(written(name, port)), parse_host(written(other, other_port))
    assert mine is not None
    assert page is not None
    same = (mine.name, mine.port or default) == (page.name, page.port or default)
    asked = Caller("POST", written(name, port), f"{scheme}://{written(other, other_port)}")
    assert refusal(origins, asked) == (200 if same else 403)


@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0"])
def test_a_rebound_page_is_refused_where_no_token_is_asked_for(bound: str) -> None:
    asked = Caller("POST", "evil.example:8080", "http://evil.example:8080", "same-origin")
    assert refusal(Origins(bound), asked) == 403
    assert refusal(Origins(bound, allowed_hosts="evil.example"), asked) == 200


def test_on_the_network_tokens_make_every_host_do_that_the_origin_names() -> None:
    needed = False
    origins = Origins("0.0.0.0", tokens_needed=lambda: needed)
    asked = Caller("POST", "shop.example", "https://shop.example")
    assert refusal(origins, asked) == 403
    needed = True
    assert refusal(origins, asked) == 200, "asked anew with every request"


@pytest.mark.parametrize("address", ["10.0.0.5", "192.0.2.7", "[fd00::5]", "127.0.0.1", "[::1]"])
def test_a_page_that_came_from_an_address_cannot_be_rebound(address: str) -> None:
    asked = Caller("POST", f"{address}:8080", f"http://{address}:8080")
    assert refusal(Origins("0.0.0.0"), asked) == 200


def test_the_bound_name_is_ours() -> None:
    asked = Caller("POST", "holdfast.lan:8080", "http://holdfast.lan:8080")
    assert refusal(Origins("holdfast.lan"), asked) == 200
    assert refusal(Origins("0.0.0.0"), asked) == 403


@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0"])
def test_a_cross_site_call_without_an_origin_may_only_read(bound: str) -> None:
    origins = Origins(bound, tokens_needed=lambda: True)
    for method in POSTS:
        assert refusal(origins, Caller(method, "localhost", None, "cross-site")) == 403
        for site in ("same-origin", "same-site", "none", None):
            assert refusal(origins, Caller(method, "localhost", None, site)) == 200
    assert refusal(origins, Caller("GET", "localhost", None, "cross-site")) == 200, "a link"


def test_an_allowed_origin_may_read_the_answer_and_ask_beforehand() -> None:
    origins = Origins("127.0.0.1", allowed_origins="https://app.example, http://localhost:3000/")
    for origin in ("https://app.example", "http://localhost:3000"):
        headers = dict(
            origins.judge(Caller("POST", "localhost:8080", origin, "cross-site")).headers
        )
        assert headers["Access-Control-Allow-Origin"] == origin
        assert headers["Vary"] == "Origin"
        assert "Retry-After" in headers["Access-Control-Expose-Headers"]
        verdict = origins.judge(Caller("OPTIONS", "localhost:8080", origin, "cross-site", "POST"))
        assert verdict.preflight
        headers = dict(verdict.headers)
        assert headers["Access-Control-Allow-Origin"] == origin
        assert "POST" in headers["Access-Control-Allow-Methods"]
        assert {"Content-Type", "Authorization"} <= set(
            headers["Access-Control-Allow-Headers"].split(", ")
        )
    for other in (
        "https://app.example:8443",
        "http://app.example",
        "https://x.app.example",
        "null",
    ):
        assert refusal(origins, Caller("OPTIONS", "localhost", other, "cross-site", "POST")) == 403


def test_an_answer_varies_by_origin_only_where_origins_are_allowed() -> None:
    varied = Origins("127.0.0.1", allowed_origins="https://app.example")
    assert varied.judge(Caller("GET", "localhost")).headers == (("Vary", "Origin"),)
    assert Origins("127.0.0.1").judge(Caller("GET", "localhost")) == OriginVerdict()


def test_options_without_a_wished_method_is_no_preflight() -> None:
    origins = Origins("127.0.0.1", allowed_origins="https://app.example")
    assert not origins.judge(Caller("OPTIONS", "localhost", "https://app.example")).preflight


def test_an_allowed_origin_needs_our_host_where_no_token_is_asked_for() -> None:
    asked = Caller("POST", "api.example", "https://app.example")
    app, always = "https://app.example", lambda: True
    assert refusal(Origins("0.0.0.0", allowed_origins=app), asked) == 403
    ours = Origins("0.0.0.0", allowed_origins=app, allowed_hosts="api.example")
    assert refusal(ours, asked) == 200
    assert refusal(Origins("0.0.0.0", allowed_origins=app, tokens_needed=always), asked) == 200
    assert refusal(Origins("127.0.0.1", allowed_origins=app, tokens_needed=always), asked) == 403


@given(st.text(max_size=40))
def test_any_text_is_judged_and_never_taken_for_ours(text: str) -> None:
    assert refusal(Origins("127.0.0.1"), Caller("POST", "localhost", text)) in (200, 403)
    status = refusal(Origins("127.0.0.1"), Caller("POST", text))
    ours = parse_host(text)
    assert status == 421 or text == "" or (ours is not None and _loopback(ours.name))
    assert parse_origin(text) is None or "://" in text


def _loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name.split(".")[-1] == "localhost"


@given(hosts, ports)
def test_a_host_has_one_spelling(name: str, port: int | None) -> None:
    parsed = parse_host(written(name, port))
    assert parsed is not None
    assert parsed.port == port
    bracketed = f"[{parsed.name}]" if ":" in parsed.name else parsed.name
    for text in (written(bracketed, port), written(name.upper(), port)):
        assert parse_host(text) == parsed
    if not name.startswith("["):
        assert parse_host(written(f"{name}.", port)) == parsed


def test_an_empty_port_is_none() -> None:
    assert parse_host("localhost:") == Host("localhost", None)


@pytest.mark.parametrize(
    "text", ["*", "http://shop.example", "a b", "shop.example/x", "b\u00fccher.example"]
)
def test_what_is_no_host_is_refused_by_name(text: str) -> None:
    with pytest.raises(SettingsError, match="allowed_hosts") as told:
        parse_hosts(f"good.example, {text}, also wrong")
    assert ascii(text) in str(told.value)
    assert "'also wrong'" in str(told.value), "all faults at once"
    assert "good.example" not in told.value.got
    with pytest.raises(SettingsError, match="allowed_hosts"):
        load({"HOLDFAST_ALLOWED_HOSTS": text})


@pytest.mark.parametrize(
    "text", ["*", "null", "app.example", "https://app.example/x", "https://", "https://a b"]
)
def test_what_is_no_origin_is_refused_by_name(text: str) -> None:
    with pytest.raises(SettingsError, match="allowed_origins") as told:
        parse_origins(f"https://good.example,{text}")
    assert told.value.got == ascii(text)
    with pytest.raises(SettingsError, match="allowed_origins"):
        load({"HOLDFAST_ALLOWED_ORIGINS": text})


def test_the_refusal_says_what_to_set_and_shows_what_came_escaped() -> None:
    with pytest.raises(MisdirectedError, match=r"HOLDFAST_ALLOWED_HOSTS, got 'evil\\x1b\[31m'"):
        Origins("127.0.0.1").judge(Caller("GET", "evil\x1b[31m"))
    with pytest.raises(ForbiddenError, match="HOLDFAST_ALLOWED_ORIGINS"):
        Origins("127.0.0.1").judge(Caller("POST", "localhost", "http://evil.example"))
