"""Keys and certificates, made for a test."""

import subprocess
from pathlib import Path


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
