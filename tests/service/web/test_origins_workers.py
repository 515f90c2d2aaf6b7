"""Pages of other sites against real workers and a real watcher, over sockets."""

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from service.access import auth
from tests import bundles
from tests.ops import free_port
from tests.service.processes import Running, running, wait_until

ROWS = json.dumps({"instances": bundles.digits().test.x[:1].tolist()})
EVIL = {"Origin": "http://evil.example"}
REBOUND = {"Host": "evil.example:8080", "Origin": "http://evil.example:8080"}
ADDRESSES = ("/predict", "/v1/models/digits:predict", "/v2/models/digits/infer", "/feedback", "/no")
OPEN = ("/", "/metrics", "/readyz", "/healthz", "/docs", "/v2", "/v1/models", "/no")
APP = "https://app.example"
CURL = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Bound to loopback, without tokens."""
    state = published(tmp_path_factory.mktemp("loopback"))
    with running(state, allowed_origins=APP, allowed_hosts="shop.example") as found:
        yield found


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Bound to every address, without tokens."""
    with running(published(tmp_path_factory.mktemp("network")), host="0.0.0.0") as found:
        yield found


def published(state: Path) -> Path:
    bundles.publish(state / "registry")
    return state


def call(url: str, method: str, path: str, body: str | None = None, **headers: Any) -> Any:
    """One request with exactly these headers; a `Host` among them replaces the usual one."""
    place = url.removeprefix("http://")
    connection = http.client.HTTPConnection(place, timeout=20)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.putrequest(method, path, skip_host="Host" in given)
    if body is not None:
        given |= {"Content-Length": str(len(body))}
    for name, value in given.items():
        connection.putheader(name, value)
    connection.endheaders(body.encode() if body is not None else None)
    answer = connection.getresponse()
    answer.content = answer.read()  # type: ignore[attr-defined]
    connection.close()
    return answer


def post(url: str, path: str, **headers: Any) -> int:
    status: int = call(
        url, "POST", path, ROWS, **{"Content-Type": "application/json"} | headers
    ).status
    return status


def test_a_page_of_another_site_can_neither_label_nor_ask(
    server: Running, exposed: Running
) -> None:
    for url in (server.url, exposed.url):
        for path in ADDRESSES:
            for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
                assert post(url, path, **EVIL, **{"Content-Type": kind}) == 403
            assert call(url, "POST", path, ROWS, **EVIL).status == 403, "no content type"
            assert post(url, path, **REBOUND, Sec_Fetch_Site="same-origin") == 403
            assert post(url, path, Origin="null") == 403
        for path in OPEN:
            assert call(url, "GET", path, **EVIL).status == 403


def test_a_rebound_page_cannot_read_from_loopback(server: Running) -> None:
    for path in OPEN:
        assert call(server.url, "GET", path, Host=f"evil.example:{server.port}").status == 421
        assert call(server.url, "GET", path, Host=f"shop.example:{server.port}").status < 420
    assert post(server.url, "/predict", Host="evil.example") == 421


def test_the_answer_has_the_dialect_of_the_address(server: Running) -> None:
    for path in ("/v1/models/digits:predict", "/v2/models/digits/infer", "/v2/no"):
        answer = call(server.url, "POST", path, ROWS, **EVIL)
        assert list(json.loads(answer.content)) == ["error"]
    answer = call(server.url, "GET", "/no", Host="evil.example")
    problem = json.loads(answer.content)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (problem["status"], problem["title"]) == (421, "Misdirected Request")
    assert "HOLDFAST_ALLOWED_HOSTS" in problem["detail"]


def test_refused_pages_are_counted(server: Running) -> None:
    def refused() -> float:
        labels = {"route": "unmatched", "method": "DELETE", "code": "421"}
        return server.total("holdfast_http_requests_total", **labels)

    before = refused()
    for _ in range(3):
        call(server.url, "DELETE", "/predict", Host="evil.example")
    wait_until(lambda: refused() == before + 3)


def test_everybody_else_goes_on(server: Running, exposed: Running) -> None:
    for url, port in ((server.url, server.port), (exposed.url, exposed.port)):
        assert post(url, "/predict") == 200
        assert post(url, "/predict", Origin=url) == 200, "its own page"
        own = {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"}
        assert post(url, "/predict", **own, Sec_Fetch_Site="same-origin") == 200
        assert call(url, "GET", "/", Sec_Fetch_Site="cross-site").status == 200, "a link"
    for host in ("10.0.0.9:8080", "holdfast.monitoring.svc", "evil.example"):
        assert call(exposed.url, "GET", "/metrics", Host=host).status == 200, "Prometheus"
        assert post(exposed.url, "/predict", Host=host) == 200, "a proxy"


@CURL
@pytest.mark.parametrize("path", ["/predict", "/v1/models/digits:predict"])
def test_curl_sends_json_without_saying_so(server: Running, path: str) -> None:
    for option in ("-d", "--json", "--data-binary"):
        command = ["curl", "-s", "-w", "%{http_code}", "-o", "/dev/null", option, ROWS]
        command.append(f"{server.url}{path}")
        told = subprocess.run(command, capture_output=True, text=True, check=True)
        assert told.stdout == "200"


@CURL
def test_curl_labels_without_saying_json(server: Running) -> None:
    label = json.dumps({"id": "nobody-has-this", "label": "0"})
    command = ["curl", "-s", "-d", label, f"{server.url}/feedback"]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(told.stdout)["status"] == 404, "it was read, and there is no such record"


@pytest.mark.parametrize("head", [b"", b"Host:\r\n"])
def test_a_client_of_http_1_0_may_leave_out_the_host(server: Running, head: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        connection.sendall(b"GET /readyz HTTP/1.0\r\n" + head + b"\r\n")
        assert connection.recv(100).split()[1] == b"200"


def test_an_allowed_page_asks_beforehand_calls_and_reads(server: Running) -> None:
    page = {"Origin": APP, "Sec_Fetch_Site": "cross-site"}
    wish = {
        "Access_Control_Request_Method": "POST",
        "Access_Control_Request_Headers": "content-type",
    }
    for path in ADDRESSES:
        answer = call(server.url, "OPTIONS", path, **page, **wish)
        assert (answer.status, answer.content) == (204, b"")
        assert answer.headers["Access-Control-Allow-Origin"] == APP
        assert "Content-Type" in answer.headers["Access-Control-Allow-Headers"]
    for path, status in (("/predict", 200), ("/no", 404), ("/feedback", 400)):
        answer = call(server.url, "POST", path, ROWS, **page, Content_Type="application/json")
        assert answer.status == status
        assert answer.headers["Access-Control-Allow-Origin"] == APP, "errors can be read, too"
        assert "Origin" in answer.headers["Vary"]
    assert call(server.url, "OPTIONS", "/predict", **EVIL, **wish).status == 403
    assert "Access-Control-Allow-Origin" not in call(server.url, "GET", "/").headers


def test_with_tokens_a_page_behind_a_proxy_is_its_own(tmp_path: Path) -> None:
    secret = auth.create(tmp_path / "tokens.json", "app", ("predict",))
    with running(published(tmp_path), host="0.0.0.0") as found:
        own = {"Host": "shop.example", "Origin": "https://shop.example"}
        assert post(found.url, "/predict", **own, Authorization=f"Bearer {secret}") == 200
        assert post(found.url, "/predict", **own) == 401
        assert post(found.url, "/predict", **EVIL, Authorization=f"Bearer {secret}") == 403


@contextmanager
def watching(state: Path, **settings: str) -> Iterator[str]:
    """A real watcher that nothing answers; gives its address."""
    port = free_port()
    env = {f"HOLDFAST_{name.upper()}": value for name, value in settings.items()}
    env |= {"HOLDFAST_STATE": str(state), "HOLDFAST_WATCH_PORT": str(port)}
    env |= {"HOLDFAST_SERVICE_URL": f"http://127.0.0.1:{free_port()}"}
    with (state / "watch.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "service.watch_conf"], env={**os.environ, **env},
            stdout=log, stderr=log,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"

    def lives() -> bool:
        assert process.poll() is None, (state / "watch.log").read_text()[-500:]
        try:
            return requests.get(f"{url}/healthz", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    try:
        wait_until(lives, 60)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def test_the_watcher_refuses_pages_of_other_sites(tmp_path: Path) -> None:
    with watching(tmp_path, allowed_origins=APP) as url:
        token = (tmp_path / "run" / "admin_token").read_text().strip()
        admin = {"Authorization": f"Bearer {token}"}
        for path in ("/jobs", "/models", "/metrics", "/healthz", "/no"):
            assert call(url, "GET", path, Host="evil.example").status == 421
            assert call(url, "GET", path, **EVIL).status == 403
        for path in ("/alerts", "/jobs", "/models/digits/promote", "/no"):
            answer = call(url, "POST", path, "{}", **REBOUND, **admin)
            assert answer.status == 403
            assert json.loads(answer.content)["title"] == "Forbidden"
        assert call(url, "GET", "/jobs").status == 200
        assert call(url, "POST", "/jobs", "{}", **admin).status == 400, "read, and found wanting"
        answer = call(url, "GET", "/no", Origin=APP)
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (404, APP)
        wish = {"Access_Control_Request_Method": "POST"}
        answer = call(url, "OPTIONS", "/jobs", Origin=APP, **wish)
        assert (answer.status, answer.content) == (204, b"")


def test_a_watcher_on_the_network_asks_alertmanager_and_prometheus_for_no_host(
    tmp_path: Path,
) -> None:
    with watching(tmp_path, watch_host="0.0.0.0") as url:
        token = (tmp_path / "run" / "alert_token").read_text().strip()
        assert call(url, "GET", "/metrics", Host="10.0.0.9:9108").status == 200
        alert = {"Host": "holdfast-watch:9108", "Authorization": f"Bearer {token}"}
        assert call(url, "POST", "/alerts", "{}", **alert).status == 400, "read, and found wanting"
        assert call(url, "POST", "/alerts", "{}", **REBOUND).status == 403
        assert call(url, "GET", "/jobs", **EVIL).status == 403
