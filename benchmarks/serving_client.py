"""Requests as bytes, and a client that sends them over a few connections kept alive."""

import json
import socket
import threading
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Float32s = npt.NDArray[np.float32]
CONNECTIONS = 4
PATH = "/v2/models/digits/infer"


def v2_json(x: Float32s) -> bytes:
    """A V2 request with its values flat in JSON, as standard clients send them."""
    tensor = {"name": "input", "shape": x.shape, "datatype": "FP32", "data": x.ravel().tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    return _post(body, "Content-Type: application/json\r\n")


def v2_binary(x: Float32s) -> bytes:
    """A V2 request with its values as bytes, asking for bytes."""
    size = {"binary_data_size": x.nbytes}
    tensor = {"name": "input", "shape": x.shape, "datatype": "FP32", "parameters": size}
    asked = {"binary_data_output": True}
    header = json.dumps({"inputs": [tensor], "parameters": asked}).encode()
    length = f"Inference-Header-Content-Length: {len(header)}\r\n"
    return _post(header + x.tobytes(), f"Content-Type: application/octet-stream\r\n{length}")


def _post(body: bytes, headers: str) -> bytes:
    head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}Content-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


class Connection:
    """One connection kept alive."""

    def __init__(self, port: int) -> None:
        self._link = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = self._link.makefile("rb")

    def close(self) -> None:
        self._stream.close()
        self._link.close()

    def ask(self, request: bytes) -> tuple[dict[str, str], bytes]:
        """Headers (lower case) and body of the answer, which must be 200 and have a length."""
        self._link.sendall(request)
        status, headers = self._stream.readline(), {}
        while (line := self._stream.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        body = self._stream.read(int(headers["content-length"]))
        if b" 200 " not in status:
            raise SystemExit(f"a request failed: {status.decode()} {body[:300].decode()}")
        return headers, body


def send(
    port: int,
    requests: Sequence[bytes],
    count: int,
    *,
    first: int = 0,
    connections: int = CONNECTIONS,
) -> Float32s:
    """Send `count` of the requests, in turn from the `first`; the seconds that each took."""
    seconds: list[list[float]] = [[] for _ in range(connections)]
    failures: list[BaseException] = []

    def run(own: int) -> None:
        try:
            link = Connection(port)
            for index in range(first + own, first + count, connections):
                began = time.perf_counter()
                link.ask(requests[index % len(requests)])
                seconds[own].append(time.perf_counter() - began)
            link.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(own,)) for own in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise SystemExit(f"the traffic failed: {failures[0]!r}")
    return np.concatenate([np.array(part, np.float32) for part in seconds])


def logits_of(headers: dict[str, str], body: bytes) -> Float32s:
    """The first output of an answer, in JSON or in binary, as flat numbers."""
    length = headers.get("inference-header-content-length")
    if length is None:
        return np.array(json.loads(body)["outputs"][0]["data"], np.float32)
    output = json.loads(body[: int(length)])["outputs"][0]
    size = output["parameters"]["binary_data_size"]
    return np.frombuffer(body[int(length) :][:size], np.float32)
