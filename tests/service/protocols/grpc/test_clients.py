"""NVIDIA's gRPC client, as it is, against the real service of two workers on one port."""

import queue
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import requests
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from models.versions.registry import Registry
from models.versions.runner import Runner
from models.versions.schema import OUTPUTS
from service.protocols.v2.codec import ANSWERED
from tests import bundles
from tests.ops import free_port
from tests.service.processes import Running, running
from tests.waiting import PATIENCE_SECONDS, wait_until

MODEL = "digits"
SECRET = "an admin token of this test"
ADMIN = {"authorization": f"Bearer {SECRET}"}
BODY_BYTES = 2**20


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Running]:
    state = tmp_path_factory.mktemp("state")
    bundles.publish(state / "registry")
    (state / "token").write_text(SECRET)
    options = {"grpc_port": port, "max_body_bytes": BODY_BYTES, "admin_token_file": state / "token"}
    with running(state, **options) as found:
        yield found


@pytest.fixture(scope="module")
def truth(server: Running) -> Runner:
    return Runner(Registry(server.state / "registry").open(MODEL))


@pytest.fixture
def client(server: Running, port: int) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as found:
        yield found


@pytest.fixture
def stub(server: Running, port: int) -> Iterator[Any]:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def input_of(x: Any, datatype: str = "FP32") -> list[Any]:
    made = triton.InferInput("input", list(x.shape), datatype)
    made.set_data_from_numpy(np.ascontiguousarray(x))
    return [made]


def request_of(x: Any, **changes: Any) -> Any:
    """A message with typed contents."""
    tensor = service_pb2.ModelInferRequest.InferInputTensor(
        name="input", datatype="FP32", shape=x.shape
    )
    tensor.contents.fp32_contents.extend(x.ravel().tolist())
    made = service_pb2.ModelInferRequest(model_name=MODEL, inputs=[tensor])
    made.MergeFrom(service_pb2.ModelInferRequest(**changes))
    return made


def test_the_server_and_its_models_are_told_as_over_http(client: Any, server: Running) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, "1")
    assert not client.is_model_ready(MODEL, "9")
    assert not client.is_model_ready("nope")
    told = requests.get(f"{server.url}/v2", timeout=PATIENCE_SECONDS).json()
    assert client.get_server_metadata(as_json=True) == told
    http = requests.get(f"{server.url}/v2/models/{MODEL}", timeout=PATIENCE_SECONDS).json()
    found = client.get_model_metadata(MODEL)
    assert [each.name for each in found.outputs] == [each["name"] for each in http["outputs"]]
    assert list(found.inputs[0].shape) == http["inputs"][0]["shape"]
    assert found.versions == ["1"]
    config = client.get_model_config(MODEL, as_json=True)["config"]
    assert config["input"] == [{"name": "input", "data_type": "TYPE_FP32", "dims": ["1", "8", "8"]}]
    assert config["version_policy"]["specific"]["versions"] == ["1"]


def test_raw_tensors_give_the_arrays_of_the_model(client: Any, truth: Runner, rows: Any) -> None:
    x = rows[:70]
    found, expected = client.infer(MODEL, input_of(x), request_id="mine"), truth.run(x)
    for name in OUTPUTS:
        np.testing.assert_array_equal(found.as_numpy(name), getattr(expected, name), strict=True)
    told = found.get_response()
    assert (told.model_name, told.model_version, told.id) == (MODEL, "1", "mine")
    assert [output.name for output in told.outputs] == list(ANSWERED)
    assert found.as_numpy("query_flagged").dtype == np.bool_
    asked = [triton.InferRequestedOutput("probabilities", class_count=2)]
    (best, _), *_ = client.infer(MODEL, input_of(x), outputs=asked).as_numpy("probabilities")
    value, place, label = best.decode().split(":")
    assert int(place) == expected.probabilities[0].argmax() == int(label)
    assert float(value) == pytest.approx(expected.probabilities[0].max(), rel=1e-5)


def test_typed_tensors_give_the_same_and_are_answered_typed(
    stub: Any, truth: Runner, rows: Any
) -> None:
    x = rows[:30]
    found, expected = stub.ModelInfer(request_of(x, id="typed")), truth.run(x)
    assert not found.raw_output_contents
    contents = {each.name: (each.contents, tuple(each.shape)) for each in found.outputs}
    for name in OUTPUTS:
        values, shape = contents[name]
        kind = values.int_contents if name == "cells" else values.fp32_contents
        held = np.array(kind, getattr(expected, name).dtype).reshape(shape)
        np.testing.assert_array_equal(held, getattr(expected, name))
    assert list(contents["query_flagged"][0].bool_contents) == [False] * 30


def test_a_stream_answers_in_order_and_goes_on_after_an_error(
    client: Any, truth: Runner, rows: Any
) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for index in range(5):
        client.async_stream_infer(MODEL, input_of(rows[index : index + 1]), request_id=f"r{index}",
                                  enable_empty_final_response=True)  # fmt: skip
    client.async_stream_infer("nope", input_of(rows[:1]), request_id="wrong")
    client.async_stream_infer(MODEL, input_of(rows[5:6]), request_id="r5")
    found = [answers.get(timeout=PATIENCE_SECONDS) for _ in range(7)]
    client.stop_stream()
    for index, (result, error) in enumerate(found):
        if index == 5:
            assert "nope" in str(error)
            continue
        assert error is None
        k = min(index, 5)
        told = result.get_response()
        assert told.id == f"r{k}"
        assert told.parameters["triton_final_response"].bool_param == (k < 5)
        expected = truth.run(rows[k : k + 1]).probabilities
        np.testing.assert_array_equal(result.as_numpy("probabilities"), expected)


def nan_of(x: Any) -> Any:
    found = x.copy()
    found[0, 0, 0, 0] = np.nan
    return found


WRONG: dict[str, tuple[Callable[[Any], Any], grpc.StatusCode, str]] = {
    "unknown model": (lambda x: request_of(x, model_name="nope"),
                      grpc.StatusCode.NOT_FOUND, "nope"),
    "a name that is an address": (lambda x: request_of(x, model_name="digits/versions/1"),
                                  grpc.StatusCode.NOT_FOUND, "digits/versions/1"),
    "no name": (lambda x: service_pb2.ModelInferRequest(),
                grpc.StatusCode.NOT_FOUND, ""),
    "unknown version": (lambda x: request_of(x, model_version="9"),
                        grpc.StatusCode.NOT_FOUND, "served: 1"),
    "not a number": (lambda x: request_of(nan_of(x)),
                     grpc.StatusCode.INVALID_ARGUMENT, "got nan"),
    "wrong shape": (lambda x: request_of(x.reshape(-1, 64)),
                    grpc.StatusCode.INVALID_ARGUMENT, "[N, 1, 8, 8]"),
    "too few values": (lambda x: request_of(np.zeros((0, 1, 8, 8))),
                       grpc.StatusCode.INVALID_ARGUMENT, "shape"),
    "raw and typed": (lambda x: request_of(x, raw_input_contents=[x.tobytes()]),
                      grpc.StatusCode.INVALID_ARGUMENT, "raw_input_contents"),
    "no tensor": (lambda x: service_pb2.ModelInferRequest(model_name=MODEL),
                  grpc.StatusCode.INVALID_ARGUMENT, "one tensor"),
    "unknown output": (lambda x: request_of(x, outputs=[{"name": "nope"}]),
                       grpc.StatusCode.INVALID_ARGUMENT, "nope"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_request_gets_the_status_of_its_kind_and_a_sentence(
    stub: Any, rows: Any, name: str
) -> None:
    make, code, words = WRONG[name]
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(make(rows[:2]))
    assert caught.value.code() == code
    assert words in caught.value.details()


@pytest.mark.parametrize("case", ["dtype", "field", "size", "several", "range"])
def test_tensors_that_do_not_fit_their_description_are_refused(
    stub: Any, rows: Any, case: str
) -> None:
    x = rows[:2]
    request = request_of(x)
    tensor = request.inputs[0]
    if case == "dtype":
        tensor.datatype = "FP64"
    elif case == "field":
        tensor.ClearField("contents")
        tensor.contents.fp64_contents.extend(x.ravel().tolist())
    elif case == "size":
        del tensor.contents.fp32_contents[-1]
    elif case == "several":
        tensor.ClearField("contents")
        request.raw_input_contents.extend([x.tobytes(), x.tobytes()])
    else:
        tensor.contents.fp32_contents[0] = 1e30
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "input" in caught.value.details()


def test_a_message_beyond_the_limit_is_refused_and_the_next_one_is_answered(
    client: Any, rows: Any
) -> None:
    rows_beyond = BODY_BYTES // 256 + 600
    x = np.zeros((rows_beyond, 1, 8, 8), np.float32)
    with pytest.raises(InferenceServerException) as caught:
        client.infer(MODEL, input_of(x))
    assert "RESOURCE_EXHAUSTED" in str(caught.value.status())
    with pytest.raises(InferenceServerException) as caught:
        client.infer(MODEL, input_of(np.zeros((1025, 1, 8, 8), np.float32)))  # rows, not bytes
    assert "INVALID_ARGUMENT" in str(caught.value.status())
    assert client.infer(MODEL, input_of(rows[:1])).as_numpy("probabilities").shape == (1, 10)


def test_requests_are_counted_recorded_and_labelled_as_those_of_http(
    client: Any, server: Running, rows: Any
) -> None:
    rule = "/v2/models/<model>/infer"
    name = "holdfast_http_requests_total"
    before = server.total(name, route=rule, code="200")
    refused = server.total(name, route=rule, code="404")
    failed = server.total("holdfast_predictions_total", model=MODEL)
    for index in range(5):
        client.infer(MODEL, input_of(rows[100 + index : 101 + index]), request_id=f"g{index}")
    with pytest.raises(InferenceServerException):
        client.infer("nope", input_of(rows[:1]))
    server.wait_until_total(before + 5, name, route=rule, code="200")
    server.wait_until_total(refused + 1, name, route=rule, code="404")
    server.wait_until_total(failed + 5, "holdfast_predictions_total", model=MODEL)
    label = {"id": "g3", "label": "3"}
    told = requests.post(f"{server.url}/feedback", json=label, timeout=PATIENCE_SECONDS)
    assert told.status_code == 200, told.text
    stats = client.get_inference_statistics(MODEL).model_stats[0]
    assert stats.inference_stats.success.count >= 5


def test_the_repository_takes_the_admin_token(client: Any) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.get_model_repository_index()
    assert "UNAUTHENTICATED" in str(caught.value.status())
    index = client.get_model_repository_index(headers=ADMIN)
    assert [(each.name, each.version, each.state) for each in index.models] == [
        (MODEL, "1", "READY")
    ]
    client.unload_model(MODEL, headers=ADMIN)
    wait_until(lambda: not client.is_model_ready(MODEL), what="the model is gone")
    client.load_model(MODEL, headers=ADMIN)
    wait_until(lambda: client.is_model_ready(MODEL), what="the model is back")
    with pytest.raises(InferenceServerException) as caught:
        client.load_model(MODEL, headers=ADMIN, config="{}")
    assert "INVALID_ARGUMENT" in str(caught.value.status())


def listening(pid: int, port: int) -> set[str]:
    """The sockets by which a process listens on a port."""
    tables = [Path(f"/proc/{pid}/net/{name}").read_text() for name in ("tcp", "tcp6")]  # mapped
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    found = {f"socket:[{r[9]}]" for r in rows if r[1].endswith(f":{port:04X}") and r[3] == "0A"}
    held = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # one that was closed meanwhile
            held.add(str(link.readlink()))
    return held & found


def test_all_workers_answer_on_the_one_port(server: Running, port: int, rows: Any) -> None:
    """Each listens by itself, and connections of their own are answered, whoever gets them."""
    wait_until(
        lambda: all(listening(pid, port) for pid in server.workers),
        what="every worker listens",
    )
    first, second = (listening(pid, port) for pid in server.workers)
    assert not first & second
    for _ in range(20):
        options = [("grpc.use_local_subchannel_pool", 1)]
        with triton.InferenceServerClient(f"127.0.0.1:{port}", channel_args=options) as each:
            wait_until(lambda ask=each: ask.is_model_ready(MODEL), what="this worker has the model")
            each.infer(MODEL, input_of(rows[:1]))


def test_tokens_come_in_the_metadata(tmp_path: Path, rows: Any) -> None:
    from service.access.auth import create

    bundles.publish(tmp_path / "registry")
    secret = create(tmp_path / "tokens.json", "app", ("predict",))
    port = free_port()
    with running(tmp_path, grpc_port=port), triton.InferenceServerClient(f"127.0.0.1:{port}") as c:
        x = input_of(rows[:1])
        for headers, code in (
            ({}, "UNAUTHENTICATED"), ({"authorization": "Bearer no"}, "UNAUTHENTICATED")
        ):  # fmt: skip
            with pytest.raises(InferenceServerException) as caught:
                c.infer(MODEL, x, headers=headers)
            assert code in str(caught.value.status())
        allowed = {"authorization": f"Bearer {secret}"}
        c.infer(MODEL, x, headers=allowed)
        with pytest.raises(InferenceServerException) as caught:
            c.get_model_repository_index(headers=allowed)
        assert "PERMISSION_DENIED" in str(caught.value.status())


def test_policies_and_rates_refuse_as_over_http(tmp_path: Path) -> None:
    bundles.publish(tmp_path / "registry")
    port = free_port()
    settings = {"grpc_port": port, "policy": "reject", "rate_per_second": 0.001, "rate_burst": 2}
    noise = np.random.default_rng(0).uniform(0, 16, (8, 1, 8, 8)).astype(np.float32)
    with running(tmp_path, **settings), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        infer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        found = []
        for _ in range(3):
            with pytest.raises(grpc.RpcError) as caught:
                infer(request_of(noise))
            found.append(caught.value.code())
        assert found[:2] == [grpc.StatusCode.FAILED_PRECONDITION] * 2
        assert found[2] == grpc.StatusCode.RESOURCE_EXHAUSTED
        trailers = dict(caught.value.trailing_metadata())
        assert int(trailers["retry-after"]) >= 1


def test_calls_are_answered_while_the_service_stops_until_none_is_taken_any_more(
    tmp_path: Path, rows: Any
) -> None:
    """What comes in the very moment in which the server closes is refused before it began."""
    bundles.publish(tmp_path / "registry")
    port, stop = free_port(), threading.Event()
    answers: list[int] = []
    codes: list[grpc.StatusCode] = []

    def ask(stub: Any) -> None:
        while not stop.is_set():
            try:
                stub.ModelInfer(request_of(rows[:1]), timeout=PATIENCE_SECONDS)
                answers.append(1)
            except grpc.RpcError as error:
                codes.append(error.code())
                return

    with running(tmp_path, grpc_port=port, drain_seconds=0.5) as server:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            threads = [threading.Thread(target=ask, args=(stub,)) for _ in range(4)]
            for thread in threads:
                thread.start()
            wait_until(lambda: len(answers) > 20, what="answers")
            assert stub.ServerReady(service_pb2.ServerReadyRequest()).ready
            server.signal(signal.SIGTERM)
            wait_until(
                lambda: not stub.ServerReady(service_pb2.ServerReadyRequest()).ready,
                what="it says that it stops",
            )
            before = len(answers)
            wait_until(lambda: len(answers) > before, what="answers while it stops")
            server.process.wait(PATIENCE_SECONDS)
            stop.set()
            for thread in threads:
                thread.join()
        assert server.process.returncode == 0
    assert len(codes) <= 4
    assert set(codes) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    with closing(sqlite3.connect(tmp_path / "records.sqlite")) as records:
        (kept,) = records.execute("SELECT count(*) FROM requests").fetchone()
    assert kept == len(answers)
