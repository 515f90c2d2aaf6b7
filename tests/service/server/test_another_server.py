"""The application under an ASGI server that is not ours."""

import http.client
import os
import subprocess
import sys
from pathlib import Path

import requests

from tests import bundles
from tests.ops import free_port
from tests.waiting import wait_until

PATIENCE = 120.0


def test_a_server_that_is_not_ours_runs_the_application(tmp_path: Path) -> None:
    bundles.publish(tmp_path / "registry")
    port, url = free_port(), "service.app:from_environment"
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--factory", url]
    env = os.environ | {"HOLDFAST_STATE": str(tmp_path)}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--port", str(port)], env=env, stdout=log, stderr=log)
    base = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: process.poll() is None and ready(base), PATIENCE)
        rows = bundles.digits().test.x[:2].tolist()
        answer = requests.post(f"{base}/predict", json={"instances": rows}, timeout=PATIENCE)
        assert answer.status_code == 200
        assert len(answer.json()["predictions"]) == 2
        assert "holdfast_predictions_total" in requests.get(f"{base}/metrics", timeout=9).text
        assert [status(port, path) for path in ("/metrics", "//metrics", "/%6detrics")] == [
            200, 404, 404,
        ]  # fmt: skip
    finally:
        process.terminate()
        process.wait(PATIENCE)


def status(port: int, path: str) -> int:
    """The path as it stands: requests would tidy it."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    link.request("GET", path)
    with link.getresponse() as answer:
        found = answer.status
    link.close()
    return found


def ready(base: str) -> bool:
    try:
        return requests.get(f"{base}/readyz", timeout=5).status_code == 200
    except requests.RequestException:
        return False
