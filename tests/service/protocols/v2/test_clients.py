"""NVIDIA's clients, as they are, against the real service."""

import asyncio
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
import requests
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from models.versions.registry import Registry
from models.versions.runner import Answer, Runner
from models.versions.schema import OUTPUTS
from service.access.auth import secret_in
from service.protocols.v2.codec import ANSWERED
from tests import bundles
from tests.service.processes import Running, running, wait_until

MODEL = "digits"
CODINGS = (None, "gzip", "deflate")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    state = tmp_path_factory.mktemp("state")
    bundles.publish(state / "registry")
    with running(state, max_body_bytes=2**20) as found:
        yield found


@pytest.fixture(scope="module")
def truth(server: Running) -> Runner:
    return Runner(Registry(server.state / "registry").open(MODEL))


@pytest.fixture
def client(server: Running) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as found:
        yield found


def input_of(x: Any, binary: bool, module: Any = triton) -> Any:
    made = module.InferInput("input", list(x.shape), "FP32")
    made.set_data_from_numpy(np.ascontiguousarray(x), binary_data=binary)
    return [made]


def agrees(found: Any, expected: Answer, names: Any = OUTPUTS) -> None:
    for name in names:
        np.testing.assert_array_equal(found.as_numpy(name), getattr(expected, name), strict=True)


@pytest.mark.parametrize(("sent", "answered"), [*product([True, False], [True, False, None])])
def test_every_mix_of_bytes_and_json_gives_the_arrays_of_the_model(
    client: Any, truth: Runner, rows: Any, sent: bool, answered: bool | None
) -> None:
    x = rows[:70]
    outputs = [triton.InferRequestedOutput(n, binary_data=bool(answered)) for n in OUTPUTS]
    asked = None if answered is None else outputs
    found = client.infer(MODEL, input_of(x, sent), outputs=asked, request_id="mine")
    agrees(found, truth.run(x))
    told = found.get_response()
    assert (told["model_name"], told["model_version"], told["id"]) == (MODEL, "1", "mine")
    if answered is None:
        assert [output["name"] for output in told["outputs"]] == list(ANSWERED)
        assert found.as_numpy("query_flagged").dtype == np.bool_


@pytest.mark.parametrize(("sent", "wanted"), [*product(CODINGS, CODINGS)])
def test_both_codings_work_both_ways(
    client: Any, truth: Runner, rows: Any, sent: str | None, wanted: str | None
) -> None:
    x = rows[:40]
    for binary, answered in ((True, True), (False, False)):
        outputs = [triton.InferRequestedOutput(n, binary_data=answered) for n in OUTPUTS]
        found = client.infer(
            MODEL,
            input_of(x, binary),
            outputs=outputs,
            request_compression_algorithm=sent,
            response_compression_algorithm=wanted,
        )
        agrees(found, truth.run(x))


def test_classes_come_as_texts(client: Any, truth: Runner, rows: Any) -> None:
    best = truth.run(rows[:4]).probabilities.argmax(axis=1)
    for binary in (True, False):
        asked = [triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=3)]
        found = client.infer(MODEL, input_of(rows[:4], True), outputs=asked)
        texts = found.as_numpy("probabilities")
        assert texts.shape == (4, 3)
        first = [text.decode() if binary else text for text in texts[:, 0]]
        assert [int(text.split(":")[1]) for text in first] == best.tolist()


def test_what_would_change_nothing_is_taken(client: Any, rows: Any) -> None:
    client.infer(
        MODEL,
        input_of(rows[:1], True),
        model_version="1",
        sequence_id=7,
        sequence_start=True,
        sequence_end=True,
        priority=1,
        timeout=10**6,
        parameters={"mine": 3},
    )


def test_many_at_once_keep_to_their_answers(server: Running, truth: Runner, rows: Any) -> None:
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=4) as client:
        waiting = [
            client.async_infer(MODEL, input_of(rows[k : k + 1], k % 2 == 0), request_id=f"r{k}")
            for k in range(40)
        ]
        for k, each in enumerate(waiting):
            found = each.get_result()
            assert found.get_response()["id"] == f"r{k}"
            agrees(found, truth.run(rows[k : k + 1]))


def test_the_asyncio_client_reads_the_same(server: Running, truth: Runner, rows: Any) -> None:
    async def ask(client: Any, k: int) -> Any:
        coding = CODINGS[k % 3]
        return await client.infer(
            MODEL,
            input_of(rows[k : k + 30], k % 2 == 0, triton_aio),
            request_compression_algorithm=coding,
            response_compression_algorithm=coding,
        )

    async def ask_all() -> list[Any]:
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            assert await client.is_server_ready()
            assert (await client.get_model_metadata(MODEL))["name"] == MODEL
            return await asyncio.gather(*(ask(client, k) for k in range(12)))

    for k, found in enumerate(asyncio.run(ask_all())):
        agrees(found, truth.run(rows[k : k + 30]))


def test_what_the_server_tells_of_itself_is_read(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, "1")
    assert not client.is_model_ready(MODEL, "2")
    assert not client.is_model_ready("nope")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata(MODEL, "1")["versions"] == ["1"]
    assert client.get_model_config(MODEL)["max_batch_size"] == 1024


def test_the_statistics_are_sums_over_the_workers(server: Running, client: Any, rows: Any) -> None:
    def counts() -> tuple[int, int, int]:
        (found,) = client.get_inference_statistics(MODEL, "1")["model_stats"]
        stats = found["inference_stats"]
        return found["inference_count"], found["execution_count"], stats["fail"]["count"]

    server.total("holdfast_predictions_total")  # what was asked before is counted
    before = counts()
    wrong = {"inputs": []}
    for k in range(12):
        with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as each:
            each.infer(MODEL, input_of(rows[:3], k % 2 == 0))
        url = f"{server.url}/v2/models/{MODEL}/infer"
        assert requests.post(url, json=wrong, timeout=120).status_code == 400
    expected = (before[0] + 36, before[1] + 12, before[2] + 12)
    wait_until(lambda: counts() == expected, what="every worker has counted what it answered")
    assert client.get_inference_statistics()["model_stats"][0]["name"] == MODEL


def test_every_refusal_is_read_by_the_client(client: Any, rows: Any) -> None:
    seven = np.zeros((1, 7, 8), np.float32)
    shared = triton.InferInput("input", [1, 1, 8, 8], "FP32")
    shared.set_shared_memory("region", 256)
    for model, inputs, status, text in (
        ("nope", input_of(rows[:1], True), "404", "model"),
        (MODEL, input_of(seven, True), "400", "shape"),
        (MODEL, input_of(seven, False), "400", "shape"),
        (MODEL, input_of(rows[:1] * 100, True), "400", "finite values"),
        (MODEL, [shared], "400", "shared memory"),
    ):
        with pytest.raises(InferenceServerException) as refused:
            client.infer(model, inputs, response_compression_algorithm="gzip")
        assert refused.value.status() == status
        assert text in refused.value.message()
    with pytest.raises(InferenceServerException, match=r"rows|larger"):
        client.infer(
            MODEL,
            input_of(np.zeros((5000, 1, 8, 8), np.float32), True),
            request_compression_algorithm="gzip",
        )


def test_models_are_loaded_and_unloaded_in_every_worker(server: Running, client: Any) -> None:
    token = secret_in("", server.state / "run" / "admin_token")
    admin = {"Authorization": f"Bearer {token}"}
    with pytest.raises(InferenceServerException, match="token"):
        client.get_model_repository_index()
    (found,) = client.get_model_repository_index(headers=admin)
    assert (found["name"], found["version"], found["state"]) == (MODEL, "1", "READY")
    with pytest.raises(InferenceServerException, match="config"):
        client.load_model(MODEL, headers=admin, config="{}")

    def ready() -> set[bool]:
        """As seen over ten connections, so by both workers."""
        url = f"{server.url}/v2/models/{MODEL}/ready"
        return {requests.get(url, timeout=120).status_code == 200 for _ in range(10)}

    client.unload_model(MODEL, headers=admin)
    wait_until(lambda: ready() == {False})
    client.load_model(MODEL, headers=admin)
    wait_until(lambda: ready() == {True})
