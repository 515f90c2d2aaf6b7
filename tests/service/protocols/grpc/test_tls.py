"""TLS of gRPC's own server: with a certificate, and with those of clients."""

import signal
from pathlib import Path
from typing import Any

import pytest
import requests
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tests import bundles
from tests.ops import free_port
from tests.service.certificates import certificate
from tests.service.processes import running
from tests.waiting import PATIENCE_SECONDS, wait_until


def is_live(port: int, **options: Any) -> bool:
    with triton.InferenceServerClient(f"localhost:{port}", **options) as client:
        try:
            return bool(client.is_server_live(client_timeout=20))
        except InferenceServerException:
            return False


@pytest.mark.parametrize("both", [False, True])
def test_tls_takes_who_trusts_the_certificate_and_nobody_in_plain_text(
    tmp_path: Path, both: bool
) -> None:
    key, cert = certificate(tmp_path, "server")
    client_key, client_cert = certificate(tmp_path, "client")
    bundles.publish(tmp_path / "registry")
    port = free_port()
    options = {"grpc_port": port, "grpc_cert_file": cert, "grpc_key_file": key}
    if both:
        options["grpc_client_ca_file"] = client_cert
    trusting = {"ssl": True, "root_certificates": str(cert)}
    own = {"private_key": str(client_key), "certificate_chain": str(client_cert)}
    with running(tmp_path, **options):
        assert is_live(port, **trusting, **own)
        assert is_live(port, **trusting) != both
        assert not is_live(port)


def test_files_that_went_bad_end_no_worker_and_http_goes_on(tmp_path: Path) -> None:
    """A successor says loudly that gRPC is off, and which file is at fault."""
    key, cert = certificate(tmp_path, "server")
    bundles.publish(tmp_path / "registry")
    port = free_port()
    options = {"grpc_port": port, "grpc_cert_file": cert, "grpc_key_file": key}
    trusted = cert.read_bytes()
    kept = tmp_path / "trusted.crt"
    kept.write_bytes(trusted)
    with running(tmp_path, **options) as server:
        assert is_live(port, ssl=True, root_certificates=str(kept))
        before = server.workers
        cert.write_text("no certificate\n")
        server.signal(signal.SIGHUP)
        wait_until(
            lambda: server.alive() and len(server.workers) == 2 and not server.workers & before,
            what="two successors",
        )
        assert requests.get(f"{server.url}/readyz", timeout=PATIENCE_SECONDS).status_code == 200
        told = [line for line in server.log.splitlines() if "grpc_off" in line]
        named = [x for x in told if "HOLDFAST_GRPC_CERT_FILE" in x and str(cert) in x]
        assert len(named) >= 2, told  # a first worker that was still starting may tell otherwise
        cert.write_bytes(trusted)
        server.signal(signal.SIGHUP)
        wait_until(
            lambda: is_live(port, ssl=True, root_certificates=str(kept)), what="gRPC is back"
        )
