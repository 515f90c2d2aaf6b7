"""gRPC's server in the event loop of a worker, on the port of all workers.

Every worker listens on the port by itself (`SO_REUSEPORT`): the kernel deals out connections. When
the worker ends, it takes no new call and finishes those that run.
"""

from pathlib import Path
from typing import Any, NamedTuple

import grpc
import grpc.aio

from models.base.logs import logger
from service.access.certificates import find_faults
from service.configuration.addresses import bind_text
from service.protocols.grpc.calls import Calls
from service.protocols.grpc.places import Places
from service.protocols.grpc.schema import SERVICE, load_methods
from service.web.errors import StateError
from service.web.front import Front

MESSAGE_SPARE = 1 << 16  # of a message beside its tensor: names, shapes, parameters
LEAST_CALLS = 64  # that may run at once in a worker, streams included
LEAST_READING = 16  # of them, those whose message is still coming
MOST_OPEN = 1000  # calls of any method; those without a message end at once
IDLE_MS, PING_MS, PONG_MS = 300_000, 60_000, 20_000  # of a connection
LEAVE_SECONDS = 1.5  # for calls that run; less than a worker has left then


class GrpcTerms(NamedTuple):
    """Where to listen, with which certificate, and how much to take.

    `cert` and `key` are files; empty: no TLS. `client_ca` is one; empty: any client.
    `message_seconds` is the time in which the message of a call must have come.
    """

    host: str
    port: int
    body_bytes: int
    held_bytes: int
    cert: str = ""
    key: str = ""
    client_ca: str = ""
    message_seconds: float = 30.0


class GrpcServer:
    """The server of a worker; start and stop it in the worker's event loop."""

    def __init__(self, front: Front, terms: GrpcTerms) -> None:
        self._front, self._terms = front, terms
        self._server: Any = None

    async def start(self) -> None:
        """Listen.

        Raises:
            StateError: the port is taken, or a file of TLS cannot be used.
        """
        terms = self._terms
        most = terms.held_bytes // terms.body_bytes
        places = Places(max(LEAST_CALLS, most), max(LEAST_READING, most))
        calls = Calls(self._front, places, terms.message_seconds)
        methods = {name: calls.handler(method) for name, method in load_methods().items()}
        options = (
            ("grpc.so_reuseport", 1),
            ("grpc.max_receive_message_length", terms.body_bytes + MESSAGE_SPARE),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_connection_idle_ms", IDLE_MS),
            ("grpc.keepalive_time_ms", PING_MS),
            ("grpc.keepalive_timeout_ms", PONG_MS),
        )
        open_calls = max(MOST_OPEN, 2 * most)
        server = grpc.aio.server(options=options, maximum_concurrent_rpcs=open_calls)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        where = bind_text(terms.host, terms.port)
        try:
            if terms.cert:
                check_credentials(terms)
                server.add_secure_port(where, read_credentials(terms))
            else:
                server.add_insecure_port(where)
        except (RuntimeError, OSError) as error:
            raise StateError(f"gRPC cannot listen on {where}: {error}") from error
        await server.start()
        self._server = server
        logger("grpc").info("listening", address=where, tls=bool(terms.cert))

    async def stop(self) -> None:
        """Take no new call, finish those that run, and end the rest after a moment."""
        if self._server is not None:
            await self._server.stop(LEAVE_SECONDS)


def check_credentials(terms: GrpcTerms) -> None:
    """Raise StateError that names every file of TLS that cannot be used."""
    faults = [
        f"HOLDFAST_GRPC_{each.name.upper()}_FILE: expected {each.expected}, got {each.got}"
        for each in find_faults(terms.cert, terms.key, terms.client_ca)
    ]
    if faults:
        raise StateError("; ".join(faults))


def read_credentials(terms: GrpcTerms) -> Any:
    """Read key, certificate and the authority of clients. Raises OSError."""
    key, cert = Path(terms.key).read_bytes(), Path(terms.cert).read_bytes()
    root = Path(terms.client_ca).read_bytes() if terms.client_ca else None
    return grpc.ssl_server_credentials([(key, cert)], root, require_client_auth=root is not None)
