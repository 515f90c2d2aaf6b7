"""What `holdfast traffic` sends with and where to: tokens, TLS, addresses that are none."""

import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from models.data import Rows
from service.access.auth import create
from service.cli import CONTEXT
from service.cli.traffic.command import traffic
from service.cli.traffic.sender import Outcomes, Schedule, Sender
from service.configuration.settings import load
from tests import bundles
from tests.service.processes import running


def test_traffic_is_let_in_with_its_token_and_refused_without(tmp_path: Path) -> None:
    bundles.publish(tmp_path / "registry")
    data = bundles.digits()
    path = load({"HOLDFAST_STATE": str(tmp_path)}).tokens_path
    secret = create(path, "traffic", ("predict", "feedback"))
    with running(tmp_path) as service:
        for token in ("", secret):
            tally = Outcomes()
            plan = Schedule(len(data.test), 50.0, 0.3, np.random.default_rng(0))
            Sender(service.url, "digits", data.test, tally, data.classes, token).run(plan)
            assert tally.sent > 0
            assert tally.failed == (0 if token else tally.sent)
            assert tally.labels_failed == 0


def test_an_address_that_is_none_is_wrong_usage(tmp_path: Path) -> None:
    for url in ("localhost:8080", "http://::1:8080", "ftp://a"):
        settings = load({"HOLDFAST_STATE": str(tmp_path)})
        done = CliRunner().invoke(traffic, ["--url", url], obj=settings, **CONTEXT)
        assert done.exit_code == 2
        assert "--url: expected a URL such as" in done.output


def test_https_is_spoken_where_the_url_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a server of its own certificate, below a path as behind a proxy."""
    key, certificate, paths = tmp_path / "key.pem", tmp_path / "cert.pem", []
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "2", "-keyout", key,
         "-out", certificate, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            paths.append(self.path)
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        rows, tally = Rows(np.zeros((1, 2)), np.zeros(1)), Outcomes()
        plan = Schedule(1, 50.0, 0.1, np.random.default_rng(0))
        Sender(f"https://localhost:{server.server_port}/p/", "m", rows, tally, None).run(plan)
        server.shutdown()
    assert paths == ["/p/predict?model=m"] * tally.sent
    assert set(tally.errors) == {"status 503: "}
