"""The servers that are compared, each started here in an environment of its own, and their cost.

Every one may use two workers (or its own idea of them), one thread of onnxruntime in each, and no
access log. What a server is told beyond that is in its function.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.peers import PeerError, environment

WORKERS, THREADS = 2, 4
PATIENCE_SECONDS = 90.0
TICK = os.sysconf("SC_CLK_TCK")
HERE = Path(__file__).parent
LAUNCHERS = HERE / "serving_peers"
ONNXRUNTIME = f"onnxruntime=={version('onnxruntime')}"
QUIET = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    port: int
    pid: int
    ready_seconds: float  # from its start to its first 200
    ready_cpu_seconds: float

    def cpu_seconds(self) -> float:
        """User and system time of all its processes so far."""
        return sum(map(cpu_seconds, family(self.pid)))

    def memory_mib(self) -> list[tuple[float, float]]:
        """Resident and proportional memory of every process but the first, its workers."""
        return [memory_mib(pid) for pid in family(self.pid)[1:]]


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        own = [int(c) for task in tasks for c in (task / "children").read_text().split()]
    except FileNotFoundError:  # it has ended meanwhile
        return []
    return [pid, *(found for child in own for found in family(child))]


def cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICK


def memory_mib(pid: int) -> tuple[float, float]:
    """RSS and PSS."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kib = {name: int(value.split()[0]) for name, _, value in (x.partition(":") for x in lines)}
    return kib["Rss"] / 1024, kib["Pss"] / 1024


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def holdfast(state: Path, checkout: Path | None = None) -> Iterator[Server]:
    """All scoring, query detection and records on, as by default; maybe another checkout's."""
    port = free_port()
    env = {
        "HOLDFAST_STATE": str(state),
        "HOLDFAST_PORT": str(port),
        "HOLDFAST_WORKERS": str(WORKERS),
        "HOLDFAST_THREADS": str(THREADS),
        "HOLDFAST_LOG_LEVEL": "warning",
    }
    command = [sys.executable, "-m", "service.gunicorn_conf"]
    if checkout is not None:
        env |= {"PYTHONPATH": str(checkout)}
    with _started(command, port, "/readyz", env, checkout) as server:
        yield server


@contextmanager
def flask(plain: Path) -> Iterator[Server]:
    """What one writes in ten minutes, with JSON and binary tensors."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.plain_app", str(plain)]
    numbers = [str(port), str(WORKERS), str(THREADS)]
    with _started([*command, *numbers], port, "/ready") as server:
        yield server


@contextmanager
def mlserver(plain: Path, folder: Path, workers: int) -> Iterator[Server]:
    """MLServer with a custom runtime; `workers` 0 is in-process."""
    home = environment("serving_mlserver", "mlserver==1.7.1", "uvloop<0.22", ONNXRUNTIME)
    ports = {f"{name}_port": free_port() for name in ("http", "grpc", "metrics")}
    settings = {"debug": False, "host": "127.0.0.1", "parallel_workers": workers, **ports}
    model = {
        "name": "digits",
        "implementation": "mlserver_runtime.Plain",
        "parameters": {"uri": str(plain)},
    }
    folder = folder / f"mlserver-{workers}"
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    command = [str(home / "bin" / "mlserver"), "start", str(folder)]
    env = {"PYTHONPATH": str(LAUNCHERS)}
    ready = "/v2/models/digits/ready"
    with _started(command, ports["http_port"], ready, env, cwd=folder) as server:
        yield server


@contextmanager
def triton(plain: Path, folder: Path) -> Iterator[Server]:
    """Triton's own binary (as `nvidia-pytriton` brings it) with two instances in Python."""
    home = environment("serving_pytriton", "nvidia-pytriton==0.7.0", ONNXRUNTIME)
    packages = next(home.glob("lib/python*/site-packages"))
    bundled = packages / "pytriton" / "tritonserver"
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = bundled / "backends" / "python" / "triton_python_backend_stub"
    if not stub.exists():
        stub.symlink_to(bundled / "python_backend_stubs" / python / stub.name)
    version = folder / "triton" / "digits" / "1"
    version.mkdir(parents=True)
    (version / "model.py").symlink_to(LAUNCHERS / "triton_model.py")
    (version / "plain.onnx").symlink_to(plain)
    (version.parent / "config.pbtxt").write_text(TRITON_CONFIG)
    port = free_port()
    options = {
        "model-repository": version.parents[1],
        "backend-directory": bundled / "backends",
        "http-port": port,
        "http-address": "127.0.0.1",
        "allow-grpc": "false",
        "allow-metrics": "false",
        "log-info": "false",
        "exit-timeout-secs": 1,
    }
    command = [str(bundled / "bin" / "tritonserver"), *(f"--{k}={v}" for k, v in options.items())]
    libraries = f"{packages / 'nvidia_pytriton.libs'}:{sys.base_prefix}/lib"
    # The interpreter inside Triton finds its packages by the first python of the path.
    env = {"PATH": f"{home / 'bin'}:{os.environ['PATH']}", "LD_LIBRARY_PATH": libraries}
    with _started(command, port, "/v2/health/ready", env) as server:
        yield server


TRITON_CONFIG = """
name: "digits"
backend: "python"
max_batch_size: 1024
input [{ name: "input" data_type: TYPE_FP32 dims: [ 1, 28, 28 ] }]
output [{ name: "logits" data_type: TYPE_FP32 dims: [ 10 ] }]
instance_group [{ count: 2 kind: KIND_CPU }]
"""


@contextmanager
def fastapi(plain: Path) -> Iterator[Server]:
    """FastAPI and orjson behind two workers of uvicorn."""
    home = environment("serving_fastapi", "fastapi", "uvicorn[standard]", "orjson", ONNXRUNTIME)
    port = free_port()
    command = [str(home / "bin" / "python"), "-m", "uvicorn", "fastapi_app:app"]
    options = ["--port", str(port), "--workers", str(WORKERS), "--no-access-log"]
    quiet = ["--log-level", "warning"]
    env = {"PYTHONPATH": str(LAUNCHERS), "MODEL": str(plain)}
    with _started([*command, *options, *quiet], port, "/ready", env) as server:
        yield server


@contextmanager
def kserve(plain: Path) -> Iterator[Server]:
    """KServe's Python server, one worker as by default."""
    home = environment("serving_kserve", "kserve==0.21.0", ONNXRUNTIME)
    port = free_port()
    launcher = str(LAUNCHERS / "kserve_app.py")
    command = [str(home / "bin" / "python"), launcher, str(plain), str(port)]
    with _started(command, port, "/v2/models/digits/ready") as server:
        yield server


@contextmanager
def _started(
    command: list[str],
    port: int,
    ready: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[Server]:
    """Run a command until it answers `ready` with 200; it is ended at the end."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, env={**os.environ, **QUIET, **(env or {})}, cwd=cwd, stdout=log, stderr=log
        )
        try:
            _wait(lambda: _answers(port, ready), process, began)
            taken = time.monotonic() - began
            used = sum(map(cpu_seconds, family(process.pid)))
            time.sleep(2.0)  # the other workers come up
            yield Server(port, process.pid, taken, used)
        except PeerError as error:
            log.seek(0)
            last = log.read()[-2000:].decode(errors="replace")
            raise PeerError(f"{error}: {last}") from None
        finally:
            _end(process)


def _wait(ready: Callable[[], bool], process: subprocess.Popen[bytes], began: float) -> None:
    while not ready():
        if process.poll() is not None:
            raise PeerError(f"it ended with {process.returncode}")
        if time.monotonic() > began + PATIENCE_SECONDS:
            raise PeerError("it does not answer")
        time.sleep(0.02)


def _answers(port: int, path: str) -> bool:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        link.request("GET", path)
        return link.getresponse().status == 200
    except OSError:
        return False
    finally:
        link.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(40)
    except subprocess.TimeoutExpired:
        for pid in family(process.pid):
            os.kill(pid, 9)
        process.wait()
