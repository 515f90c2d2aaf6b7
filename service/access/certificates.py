"""Whether files of TLS can be used, before a server is made of them.

gRPC says neither which file is wrong nor why.
"""

import ssl
from collections.abc import Iterator
from typing import NamedTuple


class CertificateFault(NamedTuple):
    """A file that cannot be used: `cert`, `key` or `client_ca`, what it must be, and what it is."""

    name: str
    expected: str
    got: str


def find_faults(cert: str, key: str, client_ca: str = "") -> Iterator[CertificateFault]:
    """Yield what is wrong with the files of a server: its certificate, key, authority of clients.

    A key with a passphrase is a fault: nobody is there to enter one. Dates are not looked at.
    """
    sound = True
    for name, path in (("cert", cert), ("client_ca", client_ca)):
        if not path:
            continue
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cafile=path)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            sound = sound and name != "cert"
            yield CertificateFault(name, "a file of certificates in PEM", _tell(path, error))
    if sound:
        try:
            # An empty passphrase: else it would be asked for at the terminal.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
        except (OSError, ValueError) as error:
            expected = "the key of the certificate in PEM, without a passphrase"
            yield CertificateFault("key", expected, _tell(key, error))


def _tell(path: str, error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    return f"{path}: {reason}"
