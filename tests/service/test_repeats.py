"""A row that a client sends again is answered, and is no second observation."""

import signal
from pathlib import Path

import pytest
import requests

from tests import bundles
from tests.asgi import client_of
from tests.monitoring.counting.test_metrics import samples
from tests.service.conftest import MakeApp
from tests.service.processes import running, wait_until

CELLS, ROWS, REPEATS = (
    f"holdfast_{name}_total" for name in ("cell_observations", "predictions", "repeats")
)


@pytest.mark.parametrize("detection", ["on", "off"])
def test_repeats_are_answered_and_counted_beside_the_cells(
    make_app: MakeApp, published_state: Path, detection: str
) -> None:
    client = client_of(make_app(published_state, query_detection=detection))
    x = bundles.digits().test.x[:3].tolist()
    for instances in (x, x[:1], x):
        body = client.post("/predict", json={"instances": instances}).get_json()
        assert len(body["predictions"]) == len(instances)
    sums: dict[str, float] = {}
    for (name, labels), value in samples(client.get("/metrics").data).items():
        if dict(labels).get("channel") in (None, "class"):
            sums[name] = sums.get(name, 0.0) + value
    assert (sums[CELLS], sums[ROWS], sums[REPEATS]) == (3, 7, 4)
    (stats,) = client.get("/v2/models/digits/stats").get_json()["model_stats"]
    assert stats["inference_count"] == 7


def test_retries_that_reach_another_worker_count_once(tmp_path: Path) -> None:
    bundles.publish(tmp_path / "registry")
    with running(tmp_path) as server:

        def send() -> None:
            for row in bundles.digits().test.x[:10]:
                answer = requests.post(
                    f"{server.url}/predict", json={"instances": [row.tolist()]}, timeout=120
                )
                assert answer.status_code == 200

        send()
        send()
        old = server.workers
        assert len(old) == 2
        server.signal(signal.SIGHUP)
        wait_until(lambda: len(server.workers) == 2 and not server.workers & old)
        send()  # no process is there that answered them before
        server.wait_until_total(30, ROWS)
        server.wait_until_total(20, REPEATS)
        server.wait_until_total(10, CELLS, channel="class")
