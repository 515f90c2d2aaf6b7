"""Tokens, limits and signatures on real workers; nothing secret in what they log."""

import json
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from models.versions.bundle import MANIFEST
from models.versions.signature import Keys
from service.access import auth
from tests import bundles
from tests.service.processes import Running, running, wait_until

CALL = {"instances": bundles.digits().test.x[:1].tolist()}
UNKNOWN = "an-unknown-secret"
MALFORMED = [
    f"Bearer {UNKNOWN}", f"bearer  {UNKNOWN}", f"Basic {UNKNOWN}", UNKNOWN, f"Bearer {UNKNOWN} x",
    f"Bearer\t{UNKNOWN}", f"Bearer {UNKNOWN}\xe9", f"Bearer {UNKNOWN}," * 200, f'"{UNKNOWN}"',
]  # fmt: skip


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory whose champion is signed."""
    made = tmp_path_factory.mktemp("state")
    key, trusted = made / "signing.pem", made / "trusted.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", trusted], check=True)
    bundles.publish(made / "registry")
    folder = made / "registry" / "digits" / "1"
    Keys(signing=str(key)).sign(folder, (folder / MANIFEST).read_bytes())
    return made


@pytest.fixture(scope="module")
def secret(state: Path) -> str:
    """Of a token that is there when the service starts."""
    return auth.create(state / "tokens.json", "app", ("predict", "feedback"))


@pytest.fixture(scope="module")
def server(state: Path, secret: str) -> Iterator[Running]:
    limits = {"rate_per_second": 2, "rate_burst": 12, "client_concurrency": 3}
    keys = {"trusted_keys": state / "trusted.pem"}
    with running(state, log_level="debug", **limits, **keys) as found:
        yield found


def post(server: Running, secret: str, path: str = "/predict", **headers: str) -> requests.Response:
    given = {"Authorization": f"Bearer {secret}", "Connection": "close"} | headers
    return requests.post(f"{server.url}{path}", json=CALL, headers=given, timeout=120)


def test_all_workers_know_a_new_token_and_forget_a_revoked_one_within_a_second(
    server: Running,
) -> None:
    path = server.state / "tokens.json"
    other = auth.create(path, "other", ("predict",))
    time.sleep(1.1 * auth.LOOK_SECONDS)
    assert [post(server, other).status_code for _ in range(4)] == [200] * 4
    assert post(server, other, "/feedback").status_code == 403
    auth.revoke(path, "other")
    time.sleep(1.1 * auth.LOOK_SECONDS)
    for _ in range(8):
        answer = post(server, other)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].endswith('error="invalid_token"')
    assert requests.get(f"{server.url}/readyz", timeout=120).status_code == 200


def test_the_rate_holds_over_all_workers(server: Running, secret: str) -> None:
    with ThreadPoolExecutor(3) as pool:
        began = time.monotonic()
        answers = list(pool.map(lambda _: post(server, secret), range(40)))
        seconds = time.monotonic() - began
    counts = Counter(answer.status_code for answer in answers)
    assert set(counts) <= {200, 429}
    assert counts[200] <= 12 + 2 * seconds
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)


def test_no_secret_reaches_the_log_or_the_metrics(server: Running, secret: str) -> None:
    for header in MALFORMED:
        raw(server, header.encode("latin-1"))
    for path in ("/v2/models/digits/infer", "/feedback", f"/predict?token={secret}", f"/{secret}"):
        post(server, secret, path), post(server, UNKNOWN, path)
    for unfit in ("a\nb", "x" * 200, "\x1b[31m", "${jndi:x}"):
        raw(server, f"Bearer {secret}".encode(), unfit.encode())
    assert requests.get(f"{server.url}/readyz", timeout=120).status_code == 200
    seen = server.log + requests.get(f"{server.url}/metrics", timeout=120).text
    for hidden in (secret, secret[9:], UNKNOWN, "${", "\x1b"):
        assert hidden not in seen
    assert "127.0.0.1" not in requests.get(f"{server.url}/metrics", timeout=120).text


def test_the_body_of_a_call_that_is_refused_is_never_taken_for_the_next_call(
    server: Running, secret: str
) -> None:
    smuggled = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n" * 2000
    with requests.Session() as session:
        for _ in range(3):
            answer = session.post(
                f"{server.url}/feedback", data=smuggled, timeout=120,
                headers={"Authorization": f"Bearer {UNKNOWN}", "Content-Type": "application/json"},
            )  # fmt: skip
            assert answer.status_code == 401
            assert session.get(f"{server.url}/healthz", timeout=120).json() == {"status": "ok"}


def raw(server: Running, authorization: bytes, request_id: bytes = b"an-id") -> bytes:
    """What a client with headers of its own making is answered."""
    body = json.dumps(CALL).encode()
    head = (
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n"
        b"Authorization: %b\r\nX-Request-Id: %b\r\n\r\n" % (len(body), authorization, request_id)
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=120) as connection:
        connection.sendall(head + body)
        return connection.recv(1 << 16)


def test_an_unsigned_version_is_refused_loudly_and_the_signed_one_serves_on(
    server: Running,
) -> None:
    bundles.publish(server.state / "registry")
    wait_until(lambda: server.log.count("model_refused") >= 2)
    assert "not signed; `holdfast models sign` signs it" in server.log
    document = requests.get(f"{server.url}/readyz", timeout=120).json()
    assert document["models"] == {"digits": 1}
