"""What a scored request costs beside a plain one.

Every server is started here, the peers in environments of their own: Holdfast with all scoring,
detection of probing clients and records on; the peers with the same plain model and no scoring.
They answer the same requests from the same client over four connections kept alive, in turns in
one run. Cost is user + system time of all processes of a server, from /proc. Beyond that: a net of
ResNet-18's size against onnxruntime alone, memory and start of a worker, onnxruntime alone.

    python -m benchmarks.serving [--only json,batch,binary,resnet,memory,run] [--peers NAMES]
                                 [--requests N] [--rounds N] [--json FILE] [--before CHECKOUT]
                                 [--quick]

At the end stands the table of ratios with the targets. `--quick` is two minutes: fewer requests,
and only the peers of that table. `--before` takes another checkout of Holdfast as one more
contestant: what a change costs.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import serving_models as models
from benchmarks import serving_servers as servers
from benchmarks.peers import PeerError
from benchmarks.serving_client import Connection, Float32s, logits_of, send, v2_binary, v2_json
from benchmarks.serving_models import Model
from benchmarks.serving_servers import Server
from benchmarks.serving_targets import (
    FASTAPI,
    FLASK,
    MLSERVER,
    NO_ANSWER,
    OURS,
    PEERS,
    TRITON,
    print_targets,
)
from models.versions.runner import session

BEFORE = "Holdfast, before"
BATCH = 32
Named = dict[str, Server]
Start = Callable[[], AbstractContextManager[Server]]


def contestants(model: Model, folder: Path) -> dict[str, Start]:
    plain = model.plain
    return {
        OURS: lambda: servers.holdfast(model.state),
        FLASK: lambda: servers.flask(plain),
        MLSERVER: lambda: servers.mlserver(plain, folder, 0),
        "MLServer, two workers": lambda: servers.mlserver(plain, folder, 2),
        TRITON: lambda: servers.triton(plain, folder),
        FASTAPI: lambda: servers.fastapi(plain),
        "KServe": lambda: servers.kserve(plain),
    }


def started(stack: ExitStack, chosen: dict[str, Start]) -> Named:
    """All that start here; of the others, why not."""
    running: Named = {}
    for name, start in chosen.items():
        try:
            running[name] = stack.enter_context(start())
        except PeerError as error:
            print(f"left out: {name}: {error}", flush=True)
    return running


def answers_right(name: str, server: Server, model: Model, request: Callable[..., bytes]) -> bool:
    """Whether it speaks this protocol; SystemExit where it answers, but wrongly."""
    x = model.x[:BATCH]
    (logits,) = session(model.plain.read_bytes()).run(["logits"], {"input": x})
    link = Connection(server.port)
    try:
        told = logits_of(*link.ask(request(x))).reshape(logits.shape)
    except (SystemExit, KeyError, ValueError) as error:
        print(f"left out: {name}: {str(error)[:200]}", flush=True)
        return False
    finally:
        link.close()
    same = told.argmax(axis=1) == logits.argmax(axis=1)
    if not same.all() or (name not in (OURS, BEFORE) and not np.allclose(told, logits, atol=1e-4)):
        raise SystemExit(f"{name} answers something else than the model")
    return True


class Traffic:
    """Requests of distinct images, never the same one twice within a client's memory."""

    def __init__(self, x: Float32s, rows: int, request: Callable[[Float32s], bytes]) -> None:
        parts = [x[k : k + rows] for k in range(0, len(x) - rows + 1, rows)]
        self._requests = [request(part) for part in parts]
        self._next: dict[int, int] = {}

    def send(self, server: Server, count: int, connections: int = 4) -> Float32s:
        """Seconds of each request."""
        first = self._next.get(server.port, 0)
        self._next[server.port] = first + count
        return send(server.port, self._requests, count, first=first, connections=connections)

    def cost_ms(self, server: Server, count: int, connections: int = 4) -> float:
        """Server CPU per request."""
        before = server.cpu_seconds()
        self.send(server, count, connections)
        time.sleep(0.3)  # the writer thread finishes its batch: its time counts too
        return (server.cpu_seconds() - before) / count * 1000


def compare(running: Named, traffic: Traffic, count: int, rounds: int) -> dict[str, Any]:
    """CPU per request of each server and our ratio to it, round by round."""
    for server in running.values():
        traffic.send(server, max(40, count // 3))
    found: dict[str, list[float]] = {name: [] for name in running}
    for _ in range(rounds):
        for name, server in running.items():
            found[name].append(traffic.cost_ms(server, count))
    ours = found[OURS]
    return {
        name: {
            "cpu_ms": spread(times),
            "ratio": spread([a / b for a, b in zip(ours, times, strict=True)]),
        }
        for name, times in found.items()
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "least": round(min(values), 3),
        "most": round(max(values), 3),
    }


def shown(value: dict[str, float]) -> str:
    return f"{value['median']:.3g} ({value['least']:.3g}..{value['most']:.3g})"


def print_comparison(title: str, found: dict[str, Any]) -> None:
    print(f"\n{title}\n\n| server | CPU per request, ms | Holdfast is x of it |\n|---|---|---|")
    for name, row in found.items():
        ratio = "" if name == OURS else shown(row["ratio"])
        print(f"| {name} | {shown(row['cpu_ms'])} | {ratio} |", flush=True)


def against_peers(options: argparse.Namespace, folder: Path, only: set[str]) -> Iterator[Any]:
    """One image and 32, in JSON and in binary."""
    model = models.small(folder)
    wanted = {name.strip().lower() for name in options.peers.split(",") if name.strip()}
    chosen = {
        name: start
        for name, start in contestants(model, folder).items()
        if name == OURS or not wanted or any(part in name.lower() for part in wanted)
    }
    if options.before is not None:
        state = folder / "before"  # a state of its own: formats of what lies there may differ
        shutil.copytree(model.state / "registry", state / "registry")
        chosen[BEFORE] = lambda: servers.holdfast(state, options.before.absolute())
    count, rounds = options.requests, options.rounds
    cases = {
        "json": ("one 28x28 image, V2 JSON", 1, v2_json, count),
        "batch": ("32 images, V2 JSON", BATCH, v2_json, max(60, count // 10)),
        "binary": ("32 images, V2 binary", BATCH, v2_binary, max(60, count // 5)),
    }
    with ExitStack() as stack:
        running = started(stack, chosen)
        for case, (title, rows, request, number) in cases.items():
            if case not in only:
                continue
            for name in [name for name in running if (case, name) in NO_ANSWER]:
                print(f"left out: {name}: {NO_ANSWER[case, name]}", flush=True)
            able = {
                name: server
                for name, server in running.items()
                if (case, name) not in NO_ANSWER and answers_right(name, server, model, request)
            }
            found = compare(able, Traffic(model.x, rows, request), number, rounds)
            print_comparison(title, found)
            yield case, found


def resnet(options: argparse.Namespace, folder: Path) -> Any:
    """A net of ResNet-18's size: CPU per request against a bare run, and latency."""
    model = models.resnet18(folder)
    traffic, x = Traffic(model.x, 1, v2_json), model.x[:60]
    runner = session(model.plain.read_bytes())
    count = max(60, options.requests // 20)

    def bare_ms() -> float:
        began = time.process_time()
        for k in range(len(x)):
            runner.run(["logits"], {"input": x[k : k + 1]})
        return (time.process_time() - began) / len(x) * 1000

    with servers.holdfast(model.state) as server:
        traffic.send(server, 60)
        bare_ms()
        rounds = [(bare_ms(), traffic.cost_ms(server, count, 1)) for _ in range(options.rounds)]
        seconds = np.concatenate([traffic.send(server, 4 * count) for _ in range(2)])
    p50, p99 = (float(np.percentile(seconds, q)) * 1000 for q in (50, 99))
    found = {
        "bare_ms": spread([a for a, _ in rounds]),
        "holdfast_ms": spread([b for _, b in rounds]),
        "ratio": spread([b / a for a, b in rounds]),
        "p50_ms": round(p50, 1),
        "p99_ms": round(p99, 1),
        "p99_to_p50": round(p99 / p50, 2),
    }
    print("\nResNet-18, one 3x32x32 image, V2 JSON\n\n| measure | value |\n|---|---|")
    print(f"| plain net in onnxruntime alone, CPU ms | {shown(found['bare_ms'])} |")
    print(f"| Holdfast, server CPU ms per request, 1 connection | {shown(found['holdfast_ms'])} |")
    print(f"| ratio | {shown(found['ratio'])} |")
    print(f"| p50, p99 at 4 connections, ms | {p50:.1f}, {p99:.1f}: x{p99 / p50:.2f} |", flush=True)
    return found


def memory(options: argparse.Namespace, folder: Path) -> Any:
    """Workers with the MNIST model: ready when, and how large before and after traffic."""
    model = models.small(folder / "memory")
    starts = []
    for _ in range(3):
        with servers.holdfast(model.state) as server:
            starts.append((server.ready_seconds, server.ready_cpu_seconds))
            if len(starts) < 3:
                continue
            traffic, sizes = Traffic(model.x, 1, v2_json), [server.memory_mib()]
            for _ in range(4):
                traffic.send(server, 2 * options.requests)
                sizes.append(server.memory_mib())
    found = {
        "ready_seconds": spread([a for a, _ in starts]),
        "ready_cpu_seconds": spread([b for _, b in starts]),
        "rss_mib": [[round(rss, 1) for rss, _ in size] for size in sizes],
        "pss_mib": [[round(pss, 1) for _, pss in size] for size in sizes],
    }
    print("\nA service of two workers with the MNIST model\n\n| measure | value |\n|---|---|")
    print(f"| start to the first 200 of /readyz, s | {shown(found['ready_seconds'])} |")
    print(f"| CPU until then, all processes, s | {shown(found['ready_cpu_seconds'])} |")
    for name in ("rss_mib", "pss_mib"):
        first, last = found[name][0], found[name][-1]
        title = f"| {name[:3].upper()} of each worker, MiB, idle; after {8 * options.requests}"
        print(f"{title} requests | {first}; {last} |", flush=True)
    return found


def run_alone(options: argparse.Namespace, folder: Path) -> Any:
    """onnxruntime alone: the scored graph against the plain one."""
    model = models.small(folder / "run")
    sessions = {"plain": session(model.plain.read_bytes()), "scored": session(model.scored)}
    found: dict[str, Any] = {}
    print("\nonnxruntime alone, CPU us of a run\n")
    print("| rows | plain | scored | ratio |\n|---|---|---|---|")
    for rows in (1, BATCH):
        times: dict[str, list[float]] = {name: [] for name in sessions}
        for k in range(400):
            x = model.x[k : k + rows]
            for name, runner in sessions.items():
                began = time.thread_time()
                runner.run(None, {"input": x})
                times[name].append((time.thread_time() - began) * 1e6)
        plain, scored = (statistics.median(times[name]) for name in sessions)
        found[str(rows)] = {"plain_us": round(plain, 1), "scored_us": round(scored, 1)}
        print(f"| {rows} | {plain:.1f} | {scored:.1f} | {scored / plain:.2f} |", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = "run,json,batch,binary,resnet,memory"
    parser.add_argument("--only", default=parts, help=f"some of {parts}")
    parser.add_argument("--peers", default="", help="parts of names, by comma; empty: all")
    parser.add_argument("--requests", type=int, default=1500, help="of one image, in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--before", type=Path, help="another checkout of Holdfast")
    parser.add_argument("--quick", action="store_true", help="few requests, the peers with targets")
    options = parser.parse_args()
    if options.quick:
        options.requests, options.rounds = min(options.requests, 400), min(options.rounds, 3)
        options.peers = options.peers or ",".join(part.partition(",")[2] or part for part in PEERS)
    only, results = set(options.only.split(",")), {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "run" in only:
            results["run"] = run_alone(options, folder)
        if only & {"json", "batch", "binary"}:
            results.update(against_peers(options, folder, only))
        if "resnet" in only:
            results["resnet"] = resnet(options, folder)
        if "memory" in only:
            results["memory"] = memory(options, folder)
    print_targets(results)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
