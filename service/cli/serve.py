"""`holdfast up`, `serve` and `watch`: what runs, and keeps running."""

import errno
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

from models.base import locks
from models.base.direct import open_url
from models.base.errors import HoldfastError, RegistryError
from models.base.processes import child_environment, ends_with_parent
from models.versions.registry import Registry
from service.access.guard import exposure
from service.cli.checks.extras import missing_for_training, need_training
from service.cli.checks.start_checks import check_start
from service.configuration.addresses import family_of, join, listen_address, near, url_of
from service.configuration.settings import Settings
from service.configuration.state_locks import service_lock, try_watcher_lock, watcher_lock

RESTART_PAUSE = 1.0
LOOK_SECONDS = 0.2
READY_PATIENCE = 300.0  # of a busy or small machine; a child that dies is told at once
STOP_PATIENCE = 15.0
CTRL_C_PATIENCE = 5.0
DEMO = "digits"


@click.command()
@click.pass_obj
def serve(settings: Settings) -> None:
    """Serve the champions (gunicorn, several workers).

    \b
    Example:
      HOLDFAST_PORT=8081 holdfast serve
    """
    from service.gunicorn_conf import serve as run_service

    check_start(settings, "service")
    check_alone(service_lock(settings), "service")
    check_service_ports(settings)
    run_service(settings)


@click.command()
@click.pass_obj
def watch(settings: Settings) -> None:
    """Watch the service's traffic and run the loop.

    \b
    Example:
      HOLDFAST_SERVICE_URL=http://10.0.0.5:8080 holdfast watch
    """
    from service.watch_conf import watch as run_watcher

    check_start(settings, "watcher")
    check_watcher_alone(settings)
    check_port(settings.watch_host, settings.watch_port, "HOLDFAST_WATCH_PORT")
    run_watcher(settings)


@click.command()
@click.option("--model", default=DEMO, help="What to train if the registry is empty.")
@click.pass_obj
def up(settings: Settings, model: str) -> None:
    """Serve and watch; where the registry is empty, train the demo model first. Ctrl-C stops both.

    The service starts first, so that its page shows how the training comes along.

    \b
    Example:
      holdfast up
    """
    start(settings, model)


def start(settings: Settings, model: str, environment: Mapping[str, str] | None = None) -> None:
    """Train what is missing, then serve and watch until a signal comes.

    Args:
        settings: of both.
        model: what to train where the registry is empty.
        environment: variables for the children, beside those of this process.

    Raises:
        HoldfastError: it cannot start here, and why.
    """
    check_start(settings, "service", "watcher")
    check_alone(service_lock(settings), "service")
    check_watcher_alone(settings)
    check_service_ports(settings)
    check_port(settings.watch_host, settings.watch_port, "HOLDFAST_WATCH_PORT")
    registry = Registry(settings.registry_dir, settings.keys)
    _need_champion(registry)
    keeper = ProcessKeeper(settings, environment or {})
    if not _has_champion(registry):
        need_training()
        cost = " (about a minute of CPU)" if model == DEMO else ""
        click.echo(f"no model yet: training {model}{cost}", err=True)
        with keeper.serving():
            keeper.train(model)
            _need_champion(registry)
    keeper.run()


def _has_champion(registry: Registry) -> bool:
    """Whether a model has one, or may have: what is damaged is not trained anew."""
    for model in registry.models():
        try:
            if registry.aliases(model).champion is not None:
                return True
        except RegistryError:
            return True
    return False


def _need_champion(registry: Registry) -> None:
    """Raise HoldfastError where there are versions, but none that would answer."""
    waiting = [f"{m} {registry.versions(m)[-1]}" for m in registry.models() if registry.versions(m)]
    if waiting and not _has_champion(registry):
        commands = " or ".join(f"`holdfast models promote {each}`" for each in waiting)
        raise HoldfastError(
            f"no model has a champion, so nothing would be served; {commands} makes a version the "
            "champion (`holdfast models show MODEL VERSION` has its figures); then start again"
        )


class ProcessKeeper:
    """Service and watcher as children that are started again when they die."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self._settings = settings
        self._environment = child_environment() | dict(environment)
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping = False

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Let the service run already; it ends where the block fails."""
        self._start("serve")
        try:
            yield
        except BaseException:
            self._end()
            raise

    def train(self, model: str) -> None:
        """Train a model and keep the service running meanwhile. Raises HoldfastError."""
        settings, told = self._settings, False
        service = url_of(near(settings.host), settings.port)
        trained = subprocess.Popen(
            [*_HOLDFAST, "train", model],
            env=self._environment,
            preexec_fn=ends_with_parent(signal.SIGTERM),
        )
        try:
            while trained.poll() is None:
                time.sleep(LOOK_SECONDS)
                self._revive()
                if not told and (told := answers(f"{service}/healthz")):
                    click.echo(
                        f"page     {service}/   (open it now: it shows the training)", err=True
                    )
        except KeyboardInterrupt:
            # A terminal's Ctrl-C has reached the child, too; a signal to this process has not.
            try:
                trained.wait(CTRL_C_PATIENCE)
            except subprocess.TimeoutExpired:
                trained.send_signal(signal.SIGINT)
                trained.wait()
            raise SystemExit(130) from None  # the child has said that it was interrupted
        if trained.returncode:
            raise HoldfastError("training failed; nothing is served")

    def run(self) -> None:
        """Start both, say where they are, and stay until a signal comes."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        for name in ("serve", "watch"):
            if name not in self._children:
                self._start(name)
        self._tell_when_ready()
        while not self._stopping:
            time.sleep(LOOK_SECONDS)
            self._revive()
        self._end()

    def _start(self, name: str) -> None:
        """A session of its own: Ctrl-C reaches only this process, which stops all in order."""
        self._children[name] = subprocess.Popen(
            [*_HOLDFAST, name],
            env=self._environment,
            start_new_session=True,
            preexec_fn=ends_with_parent(signal.SIGTERM),
        )

    def _revive(self) -> None:
        for name, child in self._children.items():
            if child.poll() is not None and not self._stopping:
                click.echo(f"`holdfast {name}` ended ({child.returncode}); restart", err=True)
                time.sleep(RESTART_PAUSE)
                self._start(name)

    def _stop(self, number: int, _: object) -> None:
        self._stopping = True

    def _tell_when_ready(self) -> None:
        s = self._settings
        service, watcher = url_of(near(s.host), s.port), url_of(near(s.watch_host), s.watch_port)
        deadline = time.monotonic() + READY_PATIENCE
        for url in (f"{service}/readyz", f"{watcher}/healthz"):
            while not answers(url) and not self._stopping:
                if time.monotonic() > deadline or any(c.poll() for c in self._children.values()):
                    self._end()
                    raise HoldfastError(f"{url} does not answer; the log above says why")
                time.sleep(0.2)
        if not self._stopping:
            if (told := exposure(s)) is not None:
                click.echo(f"warning: {told}; `holdfast tokens create` makes tokens", err=True)
            if missing := missing_for_training():
                click.echo(f"note: nothing can be trained here: {missing}", err=True)
            click.echo(
                f"page     {service}/   (open it in a browser)\n"
                f"service  {service}   (POST /predict, /v2, /metrics)\n"
                f"watcher  {watcher}   (/models, /jobs, /metrics)\n"
                f"{examples(Registry(s.registry_dir, s.keys), _program())}"
                "Ctrl-C stops both.",
                err=True,
            )

    def _end(self) -> None:
        for child in self._children.values():
            if child.poll() is None:
                child.terminate()
        deadline = time.monotonic() + STOP_PATIENCE
        for child in self._children.values():
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()


def check_alone(lock: Path, what: str) -> None:
    """Raise HoldfastError if another process of the kind holds the state directory."""
    held = locks.try_exclusive(lock)
    if held is None:
        raise HoldfastError(f"another {what} runs on this state directory (it holds {lock})")
    held.close()


def check_watcher_alone(settings: Settings) -> None:
    """Raise HoldfastError if another watcher holds the state directory and does not share it."""
    held = try_watcher_lock(settings)
    if held is None:
        lock = watcher_lock(settings)
        raise HoldfastError(f"another watcher runs on this state directory (it holds {lock})")
    held.close()


def check_service_ports(settings: Settings) -> None:
    """Raise HoldfastError if nobody could listen on a port of the service.

    gRPC shares its port with whoever allows it, so another service there would not be noticed.
    """
    check_port(settings.host, settings.port, "HOLDFAST_PORT")
    if settings.grpc_port:
        check_port(settings.host, settings.grpc_port, "HOLDFAST_GRPC_PORT")


def check_port(host: str, port: int, name: str) -> None:
    """Raise HoldfastError if nobody could listen there; better now than after a long training."""
    address = listen_address(host)
    with socket.socket(family_of(address)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            other = "host" if error.errno == errno.EADDRNOTAVAIL else "port"
            setting = name.replace("PORT", "HOST") if other == "host" else name
            raise HoldfastError(
                f"cannot listen on {join(host, port)}: {error.strerror}; choose another {other} "
                f"with {setting}"
            ) from None


_HOLDFAST = [sys.executable, "-m", "service"]


def examples(registry: Registry, program: str) -> str:
    """What to try next, with a champion that can be read: the demo model where there is one."""
    names = sorted(registry.models(), key=lambda name: name != DEMO)
    for name in names:
        try:
            champion = registry.aliases(name).champion
            if champion is None:
                continue
            kind = registry.manifest(name, champion).input.kind
        except HoldfastError:
            continue  # the service says what is wrong with it, and serves the one before
        shift = "rotate:25" if kind == "image" else "unit"
        chosen = "" if name == DEMO else f" --model {name}"
        return (
            "try, in another terminal:\n"
            f"  {program} traffic{chosen} --seconds 30 --labels\n"
            f"  {program} traffic{chosen} --seconds 180 --labels --shift {shift}\n"
            f"  {program} jobs list\n"
        )
    return ""


def _program() -> str:
    """How to call this program from the present directory."""
    if shutil.which("holdfast"):
        return "holdfast"
    return os.path.relpath(Path(sys.executable).parent / "holdfast")


def answers(url: str) -> bool:
    """Whether a GET of `url` is answered with 200."""
    return _get(url)[0]


def ask_ready(url: str) -> tuple[bool, str]:
    """Whether the server at `url` says that it is ready, and what it says else."""
    there, body = _get(f"{url}/readyz")
    if there or not body:
        return there, "does not answer"
    try:
        said = json.loads(body)
        words = [str(said[name]) for name in ("status", "reason", "since") if said.get(name)]
    except (ValueError, AttributeError):
        words = []
    return False, f"is not ready: {', '.join(words) or 'it does not say why'}"


def _get(url: str) -> tuple[bool, bytes]:
    """Whether it is answered with 200, and the start of the answer."""
    try:
        with open_url(url, 2) as answer:
            return answer.status == 200, answer.read(4096)
    except urllib.error.HTTPError as error:
        with error:
            return False, error.read(4096)
    except (OSError, http.client.HTTPException):
        return False, b""
