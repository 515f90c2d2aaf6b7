"""curl and requests against a real service: pictures in every way that people send them."""

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from monitoring.records.store import RecordStore
from tests.service import pictures, tables
from tests.service.pictures import saved
from tests.service.processes import Running, running

CURL = shutil.which("curl")
X = tables.colours().test.x[:3]
FILES = [saved(each.transpose(1, 2, 0)) for each in X]
MOST_KILOBYTES = 16_000  # buffers of a worker that was not asked before; the bomb is 900 MB


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    state = tmp_path_factory.mktemp("served")
    shutil.copytree(pictures.published(tmp_path_factory) / "registry", state / "registry")
    with running(state, query_detection="off") as found:
        yield found


@pytest.fixture(scope="module")
def wanted(service: Running) -> Any:
    """What is answered to the same pixels in JSON."""
    body = {"instances": X.tolist()}
    answer = requests.post(f"{service.url}/predict?model=colours", json=body, timeout=120)
    return answer.json()["predictions"]


def check(got: Any, wanted: Any) -> None:
    """The same predictions, but for the last digit: that depends on the other rows of a batch."""
    assert [each["label"] for each in got] == [each["label"] for each in wanted]
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one["probabilities"], other["probabilities"], rtol=1e-4)


def curl(*arguments: str) -> Any:
    if CURL is None:
        pytest.skip("curl is not installed")
    done = subprocess.run(
        [CURL, "--silent", "--show-error", "--fail-with-body", *arguments],
        capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_curl_sends_a_file_or_a_form_of_files(
    service: Running, wanted: Any, tmp_path: Path
) -> None:
    url = f"{service.url}/predict?model=colours"
    paths = [tmp_path / f"{row}.png" for row in range(3)]
    for path, data in zip(paths, FILES, strict=True):
        path.write_bytes(data)
    one = curl("--data-binary", f"@{paths[0]}", "-H", "Content-Type: image/png", url)
    check(one["predictions"], wanted[:1])
    chunked = ("-H", "Content-Type: image/png", "-H", "Transfer-Encoding: chunked")
    check(curl("--data-binary", f"@{paths[1]}", *chunked, url)["predictions"], wanted[1:2])
    check(curl("-F", f"image=@{paths[2]}", url)["predictions"], wanted[2:])
    named = curl(*(f"-Fimage{path.stem}=@{path}" for path in paths), "-HX-Request-Id: me", url)
    check(named["predictions"], wanted)
    assert named["id"] == "me"
    body = json.dumps({"instances": [{"b64": base64.b64encode(each).decode()} for each in FILES]})
    v1 = curl("-d", body, "-X", "POST", f"{service.url}/v1/models/colours:predict")
    check(v1["predictions"], wanted)


def test_requests_sends_files_in_their_order(service: Running, wanted: Any) -> None:
    files = [("image", (f"{row}.png", each, "image/png")) for row, each in enumerate(FILES)]
    url = f"{service.url}/predict?model=colours"
    answer = requests.post(url, files=files[::-1], timeout=120)
    check(answer.json()["predictions"], wanted[::-1])
    answer = requests.post(url, data=FILES[1], headers={"Content-Type": "image/png"}, timeout=120)
    check(answer.json()["predictions"], wanted[1:2])


def test_what_is_recorded_of_a_file_are_its_pixels(service: Running) -> None:
    url = f"{service.url}/predict?model=colours"
    headers = {"Content-Type": "image/png", "X-Request-Id": "kept"}
    label = tables.colours().classes[int(tables.colours().test.y[0])]
    assert requests.post(url, data=FILES[0], headers=headers, timeout=120).status_code == 200
    feedback = {"id": "kept", "label": label}
    got = requests.post(f"{service.url}/feedback", json=feedback, timeout=120)
    assert got.status_code == 200
    store = RecordStore(f"sqlite:///{service.state / 'records.sqlite'}")
    try:
        np.testing.assert_array_equal(
            store.labelled("colours", tables.colours().schema).x[-1:], X[:1]
        )
    finally:
        store.close()


def test_bombs_do_not_grow_a_worker(service: Running) -> None:
    url, v1 = f"{service.url}/predict?model=colours", f"{service.url}/v1/models/colours:predict"
    bomb = pictures.bomb(30_000, 30_000)
    encoded = {"instances": [{"b64": base64.b64encode(bomb).decode()}]}
    kind = {"Content-Type": "image/png"}

    def sent(data: bytes) -> list[requests.Response]:
        return [
            requests.post(url, data=data, headers=kind, timeout=120),
            requests.post(f"{url}&resize=pad", data=data, headers=kind, timeout=120),
            requests.post(f"{url}&resize=pad", files=[("f", ("x", data))] * 3, timeout=120),
        ]

    for _ in range(3):
        sent(b"\x89PNG\r\n\x1a\n" + bytes(len(bomb)))  # what such bodies cost anyway
    before = _most_memory(service)
    for _ in range(3):
        for answer in [*sent(bomb), requests.post(v1, json=encoded, timeout=120)]:
            assert answer.status_code == 400
            assert "pixels" in answer.text
    grown = [after - before[pid] for pid, after in _most_memory(service).items()]
    assert max(grown) < MOST_KILOBYTES


def _most_memory(service: Running) -> dict[int, int]:
    """The most memory (KiB) that each worker has had."""
    found = {}
    for pid in service.workers:
        status = Path(f"/proc/{pid}/status").read_text()
        line = next(each for each in status.splitlines() if each.startswith("VmHWM:"))
        found[pid] = int(line.split()[1])
    return found
