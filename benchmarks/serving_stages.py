"""Where the CPU time of a scored request goes, from its first byte to its last.

The service runs in this process behind its own server, the clients in another one. Three runs of
the same requests: an empty application behind the same server (what HTTP costs), the service as it
is (the whole), and the service with timers at the borders of its stages. So the parts do not come
from the whole by subtraction, and whether they add up to it is a check. Timers cost about half a
microsecond each; they are in the parts.

    python -m benchmarks.serving_stages [--requests N] [--rounds N]
"""

import argparse
import asyncio
import functools
import pickle
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import types
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import serving_models as models
from benchmarks.serving import BATCH
from benchmarks.serving_client import Float32s, v2_binary, v2_json
from benchmarks.serving_models import Model
from models.base import logs
from monitoring.counting.queries import Detector
from monitoring.counting.repeats import RepeatCheck
from monitoring.counting.tally import Tally
from monitoring.records.store import RecordStore
from monitoring.records.writer import RecordWriter
from service.access.guard import Guard
from service.app import Application, create_app
from service.configuration.settings import load
from service.fleet.live_runner import LiveRunner
from service.fleet.served import Served
from service.pipeline import Pipeline
from service.protocols.v2 import endpoints
from service.server.server import WorkerServer
from service.server.shared import Shared, WorkerTerms
from service.server.worker import configure
from service.web.front import Front
from service.web.held import Held
from service.web.origins import Origins
from service.web.router import Router

HTTP, THREAD = "HTTP: read, parse, write", "in a thread of its own"
# What is timed: where it is looked up, its name there, and the stage.
STAGES: tuple[tuple[Any, str, str], ...] = (
    (Origins, "judge", "origin"),
    (Router, "match", "route"),
    (Front, "_respond", "body, hand-over to a thread, sending"),
    (Front, "_answer_paced", "body, hand-over to a thread, sending"),
    (Front, "_answer", "call, errors, id in the headers"),
    (Guard, "enter", "guard"),
    (Guard, "leave", "guard"),
    (endpoints, "decode_infer", "decode"),
    (Pipeline, "handle", "flags, id, hand-over"),
    (LiveRunner, "run", "run"),
    (Served, "prints", "prints of rows"),
    (Detector, "look", "query look"),
    (RepeatCheck, "fresh", "repeats"),
    (endpoints, "encode_infer", "encode"),
    (Tally, "settle", f"counts, {THREAD}"),
    (RecordWriter, "_make", f"records, {THREAD}"),
    (RecordStore, "write", f"records, {THREAD}"),
    (RecordStore, "prune", f"records, {THREAD}"),
)
OBSERVE = "observe, log"
SERVER = "what the server does inside the application"  # is in HTTP already


class Timers:
    """CPU seconds by stage, each without the stages inside it."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._own = threading.local()

    def time(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            before = self._enter()
            try:
                result = function(*arguments, **named)
            finally:
                self._leave(stage, *before)
            return self._follow(stage, result) if asyncio.iscoroutine(result) else result

        return timed

    @types.coroutine
    def _follow(self, stage: str, coroutine: Any) -> Any:
        """Time what a coroutine does between its waits."""
        answer = None
        while True:
            before = self._enter()
            try:
                waits_for = coroutine.send(answer)
            except StopIteration as end:
                return end.value
            finally:
                self._leave(stage, *before)
            answer = yield waits_for

    def _enter(self) -> tuple[float, float]:
        inside = getattr(self._own, "inside", 0.0)
        self._own.inside = 0.0
        return inside, time.thread_time()

    def _leave(self, stage: str, inside: float, began: float) -> None:
        whole = time.thread_time() - began
        self.seconds[stage] += whole - self._own.inside
        self._own.inside = inside + whole


@contextmanager
def timed(timers: Timers) -> Iterator[None]:
    """Timers at the borders of all stages."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in STAGES]
    for owner, name, stage in STAGES:
        setattr(owner, name, timers.time(stage, getattr(owner, name)))
    respond: Any = Front._respond

    def respond_beside_server(self: Front, scope: Any, receive: Any, send: Any) -> Any:
        return respond(self, scope, *(timers.time(SERVER, each) for each in (receive, send)))

    Front._respond = respond_beside_server  # type: ignore[method-assign]
    try:
        yield
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)


@contextmanager
def observed(application: Application, timers: Timers) -> Iterator[None]:
    """Timers in what the application looked up when it was made."""
    answer, observe = application.answer, application._observe
    application.answer = application._answer
    application._observe = timers.time(OBSERVE, observe)
    try:
        yield
    finally:
        application.answer, application._observe = answer, observe


async def empty(scope: Any, receive: Callable[[], Awaitable[Any]], send: Any) -> None:
    """An application that reads a request and answers as many bytes as an answer has."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    while (await receive())["more_body"]:
        pass
    size = dict(scope["headers"]).get(b"x-answer-bytes", b"600")
    headers = [(b"content-type", b"application/json"), (b"content-length", size)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": bytes(int(size))})


@contextmanager
def served(app: Any, held: Held) -> Iterator[int]:
    """An application behind our server in a thread of this process; gives the port."""
    shared = Shared(WorkerTerms(60, 60, 0, 3), held, 1000, lambda status: None)
    config = configure(app, shared, backlog=100, keep_alive=75)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        stop, ready = threading.Event(), threading.Event()
        server = _Server(config, shared, tick=lambda _: stop.is_set(), ready=ready.set)
        run = functools.partial(asyncio.run, server.serve(sockets=[listener]))
        thread = threading.Thread(target=run)
        thread.start()
        assert ready.wait(60)
        yield listener.getsockname()[1]
        stop.set()
        thread.join()


class _Server(WorkerServer):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: it runs in a thread."""
        yield


CLIENT = """
import pickle, sys
from benchmarks.serving_client import send
requests, port = pickle.load(sys.stdin.buffer)
send(port, requests, len(requests))
"""


class Requests:
    """Requests of distinct images, in a circle that is longer than a client is remembered."""

    def __init__(self, model: Model, rows: int, make: Callable[[Float32s], bytes]) -> None:
        x = model.x
        self._all = [make(x[k : k + rows]) for k in range(0, len(x) - rows + 1, rows)]
        self._next = 0

    def send(self, port: int, count: int) -> float:
        """Send so many from a process of their own; CPU of this one for each, us."""
        chosen = [self._all[(self._next + k) % len(self._all)] for k in range(count)]
        self._next += count
        request = pickle.dumps((chosen, port))
        began = time.process_time()
        subprocess.run([sys.executable, "-c", CLIENT], input=request, check=True)
        time.sleep(0.4)  # what threads do after the answer counts too
        return (time.process_time() - began) / count * 1e6


@contextmanager
def service(state: Path, name: str) -> Iterator[Application]:
    """The service as by default, on a copy of a state."""
    own = state.parent / f"{state.name}-{name.replace(' ', '-')}"
    shutil.copytree(state / "registry", own / "registry")
    settings = load({"HOLDFAST_STATE": str(own), "HOLDFAST_LOG_LEVEL": "warning"})
    application = create_app(settings)
    try:
        yield application
    finally:
        application.close()


def measure(model: Model, case: str, rows: int, make: Any, options: argparse.Namespace) -> None:
    """Print the table of one kind of request."""
    count, timers = max(100, options.requests // (4 if rows > 1 else 1)), Timers()
    requests = Requests(model, rows, make)
    with ExitStack() as stack:
        ports = {"empty": stack.enter_context(served(empty, Held(2**28)))}
        application = stack.enter_context(service(model.state, f"{case} whole"))
        ports["whole"] = stack.enter_context(served(application, application.held))
        costs: dict[str, list[float]] = {name: [] for name in ports}
        for port in ports.values():
            requests.send(port, count // 2)
        for _ in range(options.rounds):  # in turns, because other programs come and go
            for name, port in ports.items():
                costs[name].append(requests.send(port, count))
            with timed(timers), observed(application, timers):
                requests.send(ports["whole"], count)
    timers.seconds.pop(SERVER)
    parts = [(s, t / count / options.rounds * 1e6) for s, t in timers.seconds.items()]
    http, whole = (statistics.median(costs[name]) for name in ("empty", "whole"))
    print_table(case, [(HTTP, http), *parts], whole)


def print_table(case: str, parts: list[tuple[str, float]], whole: float) -> None:
    """Parts, their sum, and the whole."""
    print(f"\n{case}\n\n| stage | CPU us of a request |\n|---|---|")
    for stage, cost in parts:
        print(f"| {stage} | {cost:.0f} |")
    total = sum(cost for _, cost in parts)
    verdict = "adds up" if abs(total / whole - 1) <= 0.1 else "does not add up"
    print(f"| all parts | {total:.0f} |")
    print(f"| the whole, measured without timers | {whole:.0f} |")
    print(f"\nparts to whole: {total / whole:.2f}, {verdict} within 10 %", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=1000, help="of one image, in a round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    logs.configure("warning")
    with tempfile.TemporaryDirectory() as name:
        model = models.small(Path(name))
        measure(model, "one 28x28 image, V2 JSON", 1, v2_json, options)
        measure(model, "32 images, V2 JSON", BATCH, v2_json, options)
        measure(model, "32 images, V2 binary", BATCH, v2_binary, options)


if __name__ == "__main__":
    main()
