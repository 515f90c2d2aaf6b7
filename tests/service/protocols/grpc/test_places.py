"""Places of calls: who waits longest makes room, and a place is free once nobody uses it."""

import asyncio
from typing import Any

import pytest

from service.protocols.grpc import places
from service.protocols.grpc.calls import Opened
from service.protocols.grpc.places import Places
from service.web.errors import RequestTimeoutError, UnavailableError
from tests.waiting import PATIENCE_SECONDS


class Silent:
    """A call whose message comes when it is told to."""

    def __init__(self) -> None:
        self.comes = asyncio.Event()

    async def read(self) -> bytes:
        await self.comes.wait()
        return b"a message"


def start(found: Places, call: Silent, seconds: float = PATIENCE_SECONDS) -> asyncio.Task[Any]:
    return asyncio.ensure_future(found.read(call, seconds))


def test_the_call_that_waits_longest_makes_room_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene() -> None:
        found = Places(most=3, reading=2)
        calls = [Silent() for _ in range(3)]
        first, second = start(found, calls[0]), start(found, calls[1])
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError):  # they have only begun
            await found.read(calls[2], PATIENCE_SECONDS)
        monkeypatch.setattr(places, "LEAST_WAIT_SECONDS", 0.0)
        third = start(found, calls[2])
        with pytest.raises(RequestTimeoutError):
            await first
        for call in calls:
            call.comes.set()
        assert await second == await third == b"a message"

    asyncio.run(scene())


def test_a_call_whose_time_is_over_already_makes_room_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "LEAST_WAIT_SECONDS", 0.0)

    async def scene() -> None:
        found = Places(most=1, reading=1)
        found.take()
        late = start(found, Silent(), seconds=0.0)
        for _ in range(2):  # it begins to wait; its time is over, and it has not left yet
            await asyncio.sleep(0)
        assert not late.done()
        found.take()
        with pytest.raises(RequestTimeoutError):
            await late

    asyncio.run(scene())


def test_a_place_is_free_once_nobody_works_on_the_call() -> None:
    async def scene() -> None:
        found = Places(most=1, reading=1)
        with Opened(found) as opened:
            opened.__enter__()  # as the answer that is being made
        with pytest.raises(UnavailableError):
            Opened(found)
        opened.leave()
        assert found.taken == 0
        with Opened(found):
            assert found.taken == 1
        assert found.taken == 0

    asyncio.run(scene())
