"""Clients that send nothing, too much, or no token, against the real service."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from service.access.auth import create
from tests import bundles
from tests.ops import free_port
from tests.service.processes import Running, running
from tests.waiting import PATIENCE_SECONDS

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
RULE = "/v2/models/<model>/infer"
COUNTED = "holdfast_http_requests_total"
IDLE = 80  # more than a worker answers at once


def request_of(rows: Any) -> Any:
    tensor = service_pb2.ModelInferRequest.InferInputTensor(
        name="input", datatype="FP32", shape=rows.shape
    )
    tensor.contents.fp32_contents.extend(rows.ravel().tolist())
    return service_pb2.ModelInferRequest(model_name="digits", inputs=[tensor])


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[Any, Any]]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel, service_pb2_grpc.GRPCInferenceServiceStub(channel)


def open_idle(channel: Any, count: int) -> list[Any]:
    """Calls of both kinds that send no message."""
    kinds = (channel.stream_unary(INFER), channel.stream_stream(STREAM))
    return [kinds[index % 2]() for index in range(count)]


async def code_of(call: Any) -> grpc.StatusCode:
    return await asyncio.wait_for(call.code(), PATIENCE_SECONDS)


async def is_answered(stub: Any, request: Any) -> bool:
    try:
        await stub.ModelInfer(request, timeout=PATIENCE_SECONDS)
    except grpc.aio.AioRpcError as error:
        if error.code() == grpc.StatusCode.UNAVAILABLE:
            return False
        raise
    return True


def test_idle_calls_keep_nobody_out(tmp_path: Path, rows: Any) -> None:
    """One connection is one worker: all of its places are taken, and the oldest makes room."""
    bundles.publish(tmp_path / "registry")
    port = free_port()

    async def scene() -> None:
        async with connected(port) as (channel, stub):
            await stub.ServerLive(service_pb2.ServerLiveRequest(), wait_for_ready=True)
            idle = open_idle(channel, IDLE)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not any(call.done() for call in idle):  # no place was left for one
                    live = await stub.ServerLive(service_pb2.ServerLiveRequest())
                    assert live.live
                while not await is_answered(stub, request_of(rows[:1])):
                    await asyncio.sleep(0.05)
            assert any(not call.done() for call in idle)
            for call in idle:
                call.cancel()

    with running(tmp_path, grpc_port=port) as server:
        asyncio.run(scene())
        assert server.total(COUNTED, route=RULE, code="503") > 0
        server.wait_until_total(1, COUNTED, route=RULE, code="200")


def test_a_message_that_does_not_come_ends_its_call(tmp_path: Path) -> None:
    bundles.publish(tmp_path / "registry")
    port = free_port()

    async def scene() -> grpc.StatusCode:
        async with connected(port) as (channel, stub):
            await stub.ServerLive(service_pb2.ServerLiveRequest(), wait_for_ready=True)
            return await code_of(channel.stream_unary(INFER)())

    with running(tmp_path, grpc_port=port, body_timeout_seconds=0.2) as server:
        assert asyncio.run(scene()) == grpc.StatusCode.DEADLINE_EXCEEDED
        server.wait_until_total(1, COUNTED, route=RULE, code="408")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    state, port = tmp_path_factory.mktemp("state"), free_port()
    bundles.publish(state / "registry")
    secret = create(state / "tokens.json", "app", ("predict",))
    with running(state, grpc_port=port) as server:
        yield server, port, (("authorization", f"Bearer {secret}"),)


def test_without_a_token_no_message_is_read(guarded: tuple[Running, int, Any], rows: Any) -> None:
    server, port, allowed = guarded
    before = server.total(COUNTED, route=RULE, code="401")

    async def scene() -> set[grpc.StatusCode]:
        async with connected(port) as (channel, stub):
            await stub.ServerLive(service_pb2.ServerLiveRequest(), wait_for_ready=True)
            codes = {await code_of(call) for call in open_idle(channel, IDLE)}
            assert (await stub.ModelInfer(request_of(rows[:1]), metadata=allowed)).id
            return codes

    assert asyncio.run(scene()) == {grpc.StatusCode.UNAUTHENTICATED}
    server.wait_until_total(before + IDLE, COUNTED, route=RULE, code="401")


@pytest.mark.parametrize("case", ["both", "many", "broken"])
def test_what_is_wrong_with_a_message_is_told_to_who_may_call_and_counted(
    guarded: tuple[Running, int, Any], rows: Any, case: str
) -> None:
    server, port, allowed = guarded
    both = request_of(rows[:1])
    both.raw_input_contents.append(rows[:1].tobytes())
    sent = {
        "both": both.SerializeToString(), "many": b"\x2a\x00" * 2**19, "broken": b"\x0a\xff"
    }[case]  # fmt: skip
    before = {code: server.total(COUNTED, route=RULE, code=code) for code in ("400", "401")}
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        infer = channel.unary_unary(INFER)
        for metadata, code in (
            ((), grpc.StatusCode.UNAUTHENTICATED), (allowed, grpc.StatusCode.INVALID_ARGUMENT)
        ):  # fmt: skip
            with pytest.raises(grpc.RpcError) as caught:
                infer(sent, metadata=metadata, timeout=PATIENCE_SECONDS)
            assert caught.value.code() == code, caught.value
    for code, count in before.items():
        server.wait_until_total(count + 1, COUNTED, route=RULE, code=code)


def resident_bytes(server: Running) -> int:
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in server.workers]
    return sum(pages) * 4096


def test_a_message_of_empty_inputs_costs_hardly_more_than_its_bytes(
    guarded: tuple[Running, int, Any],
) -> None:
    server, port, allowed = guarded
    sent = b"\x2a\x00" * 2**22  # 8 MiB
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        infer = channel.unary_unary(INFER)
        with pytest.raises(grpc.RpcError):
            infer(b"", metadata=allowed, timeout=PATIENCE_SECONDS)
        before = resident_bytes(server)
        with pytest.raises(grpc.RpcError, match="at most 1000 inputs"):
            infer(sent, metadata=allowed, timeout=PATIENCE_SECONDS)
        assert resident_bytes(server) - before < 8 * len(sent)
