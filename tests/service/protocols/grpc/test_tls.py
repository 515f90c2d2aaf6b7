"""TLS of gRPC's own server: with a certificate, and with those of clients."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tests import bundles
from tests.ops import free_port
from tests.service.processes import running


def certificate(folder: Path, name: str, authority: str | None = None) -> tuple[Path, Path]:
    """A key and a certificate for this machine, of an authority or of itself."""
    key, cert = folder / f"{name}.key", folder / f"{name}.crt"
    signed = [] if authority is None else ["-CA", folder / f"{authority}.crt",
                                           "-CAkey", folder / f"{authority}.key"]  # fmt: skip
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", f"/CN={name}",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", *signed],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, cert


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
