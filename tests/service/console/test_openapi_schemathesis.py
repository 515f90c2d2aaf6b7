"""Every call of a real service, with requests made from the description by schemathesis.

It runs as a program of its own: what it warns of is not ours. `narrowed` makes it send what the
model answers; as it stands the description allows any rows, most of them of another shape.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests

from service.access.auth import create
from tests import bundles
from tests.service.described import DESCRIPTION, MOST_ROWS, narrowed, operations
from tests.service.processes import Running, running

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "allow_header_conformance",
    "unsupported_method",
    "ignored_auth",
)
COUNTED = re.compile(
    r'^holdfast_http_requests_total{code="2\d\d",method="(\w+)",route="([^"]+)"} [1-9]',
    re.MULTILINE,
)
SETTINGS = {
    "models": "digits",
    "max_rows": MOST_ROWS,
    "certify_max_runs": 1100 * MOST_ROWS,
    "feedback_wait_seconds": 0.05,
}


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with a model that is served and one that can be."""
    made = tmp_path_factory.mktemp("described")
    for model in ("digits", "spare"):
        bundles.publish(made / "registry", model)
    return made


@pytest.fixture
def open_service(state: Path) -> Iterator[Running]:
    """A service that asks for no tokens."""
    with running(state, **SETTINGS) as service:
        yield service


def sent(service: Running, description: dict[str, Any], *options: str) -> None:
    """Let schemathesis send its requests; fail with its report where an answer is not described."""
    path = service.state / "description.json"
    path.write_bytes(orjson.dumps(description))
    done = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"), "run", path, "--url", service.url,
            "--checks", ",".join(CHECKS), "--generation-deterministic", "--no-color",
            "--suppress-health-check", "all", *options,
        ],
        cwd=service.state, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def answered_well(service: Running) -> set[tuple[str, str]]:
    """Method and path of the calls that were answered with 2xx."""
    counted = COUNTED.findall(requests.get(f"{service.url}/metrics", timeout=120).text)
    return {(method, re.sub(r"<(\w+)>", r"{\1}", rule)) for method, rule in counted}


def test_every_call_is_answered_as_described(state: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    secret = create(tokens, "everything", ("admin",))
    with running(state, tokens_file=tokens, **SETTINGS) as service:
        sent(
            service, narrowed("digits", "spare"),
            "--phases", "examples,coverage,fuzzing", "--max-examples", "3",
            "--header", f"Authorization: Bearer {secret}",
        )  # fmt: skip
        assert {(method, path) for method, path, _ in operations()} <= answered_well(service)


@pytest.mark.slow
def test_every_call_of_an_open_service_is_answered_as_described(open_service: Running) -> None:
    for description in (DESCRIPTION, narrowed("digits", "spare")):
        sent(open_service, description, "--max-examples", "60")
