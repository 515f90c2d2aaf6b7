"""Debian's nginx and haproxy in front of a real service: no request fails, and their rules hold."""

import http.client
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import bundles
from tests.ops import free_port
from tests.service.processes import Running, running
from tests.waiting import wait_until

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
REQUESTS, CLIENTS = 5000, 8
LARGE = 120  # one request of so many is large
PATIENCE = 120.0

NGINX_CONF = """
{user} daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 256; }}
http {{
  access_log off; client_max_body_size 16m;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream holdfast {{ server 127.0.0.1:{service}; keepalive 8; }}
  server {{
    listen 127.0.0.1:{port};
    location = /metrics {{ return 403; }}
    location / {{
      proxy_pass http://holdfast; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host localhost; proxy_next_upstream off;
    }}
  }}
}}
"""
HAPROXY_CONF = """
defaults
  mode http
  timeout connect 10s
  timeout client 60s
  timeout server 60s
  retries 0
frontend front
  bind 127.0.0.1:{port}
  http-request deny if {{ path /metrics }}
  default_backend holdfast
backend holdfast
  http-reuse always
  server one 127.0.0.1:{service}
"""


def nginx(folder: Path) -> list[str]:
    return [str(NGINX), "-c", str(folder / "proxy.conf"), "-e", str(folder / "error.log")]


def haproxy(folder: Path) -> list[str]:
    return [str(HAPROXY), "-db", "-f", str(folder / "proxy.conf")]


PROXIES = {
    "nginx": (NGINX, NGINX_CONF, nginx),
    "haproxy": (HAPROXY, HAPROXY_CONF, haproxy),
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    state = tmp_path_factory.mktemp("state")
    bundles.publish(state / "registry")
    with running(state, query_detection="off") as found:
        yield found


@pytest.fixture(params=sorted(PROXIES))
def port(request: pytest.FixtureRequest, service: Running, tmp_path: Path) -> Iterator[int]:
    program, conf, command = PROXIES[request.param]
    if program is None:
        pytest.skip(f"{request.param} is not installed (Debian's package of the same name)")
    with started(conf, command, service.port, tmp_path) as found:
        yield found


@contextmanager
def started(
    conf: str, command: Callable[[Path], list[str]], service: int, folder: Path
) -> Iterator[int]:
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""  # else it could not write to our folder
    text = conf.format(folder=folder, port=port, service=service, user=user)
    (folder / "proxy.conf").write_text(text)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command(folder), stdout=log, stderr=log)
    try:
        wait_until(lambda: process.poll() is None and status(port, "/healthz") == 200)
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE)


def status(port: int, path: str) -> int:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        link.request("GET", path)
        return link.getresponse().status
    except OSError:
        return 0
    finally:
        link.close()


def test_no_request_of_five_thousand_fails(port: int) -> None:
    rows = bundles.digits().test.x
    small = json.dumps({"instances": rows[:1].tolist()})
    large = json.dumps({"instances": rows[:200].tolist()})
    assert len(large) > 50_000
    wrong: list[str] = []

    def client(count: int) -> None:
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        for index in range(count):
            body, most = (large, 200) if index % LARGE == 0 else (small, 1)
            try:
                link.request("POST", "/predict", body, {"Content-Type": "application/json"})
                answer = link.getresponse()
                document = json.loads(answer.read())
                if answer.status != 200 or len(document["predictions"]) != most:
                    wrong.append(f"{answer.status} {str(document)[:200]}")
            except (OSError, http.client.HTTPException, ValueError) as error:
                wrong.append(repr(error))
                link.close()
        link.close()

    threads = [threading.Thread(target=client, args=(REQUESTS // CLIENTS,)) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    "path", ["/metrics", "//metrics", "/%6detrics", "/metrics/", "/./metrics", "/x/../metrics"]
)
def test_a_rule_of_the_proxy_on_a_path_holds_however_the_path_is_spelt(
    port: int, path: str
) -> None:
    assert status(port, path) in (400, 403, 404)
