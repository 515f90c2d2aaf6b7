"""`holdfast traffic`: held-out data to a running service, clean, shifted, corrupted or attacked."""

import http.client
import json
import threading
import time
import urllib.parse
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from models.data import DataSet, Rows
from models.errors import BundleError, HoldfastError
from models.registry import Registry
from service.cli.output import emit, json_option
from service.settings import Settings

TELL_EVERY = 5.0
LABELS_EVERY = 8
PARAMETER = {"rotate": "degrees", "noise": "sigma", "blur": "pixels", "contrast": "factor",
             "brightness": "offset", "attack": "eps"}  # fmt: skip
DEFAULTS = {"rotate": 25.0, "noise": 0.1, "blur": 1.0, "contrast": 0.5, "brightness": 0.2, "attack": 0.15}  # fmt: skip


@dataclass
class Tally:
    """What came back; shared by the senders."""

    sent: int = 0
    failed: int = 0
    reconnects: int = 0
    right: int = 0
    drift_flagged: int = 0
    perturbation_flagged: int = 0
    labels: int = 0
    labels_failed: int = 0
    versions: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def summary(self) -> dict[str, Any]:
        """Plain data; shares are of the answered requests."""
        answered = max(self.sent - self.failed, 1)
        return {
            "sent": self.sent,
            "failed": self.failed,
            "reconnects": self.reconnects,
            "accuracy": round(self.right / answered, 4),
            "drift_flagged": round(self.drift_flagged / answered, 4),
            "perturbation_flagged": round(self.perturbation_flagged / answered, 4),
            "labels": self.labels,
            "labels_failed": self.labels_failed,
            "versions": {str(k): v for k, v in sorted(self.versions.items())},
            "errors": dict(self.errors),
        }

    def line(self) -> str:
        """One line for people."""
        s = self.summary()
        versions = ", ".join(f"version {k}: {v}" for k, v in s["versions"].items())
        return (
            f"sent {s['sent']}, failed {s['failed']}, right {s['accuracy']:.1%}, flagged drift "
            f"{s['drift_flagged']:.1%} / perturbation {s['perturbation_flagged']:.1%}, "
            f"labels {s['labels']}  [{versions}]"
        )


@click.command()
@click.option("--shift", default="clean", help="clean, rotate:25, noise:0.1, invert, blur:1, contrast:0.5, brightness:0.2, attack:0.15 (PGD against the champion's own weights).")  # fmt: skip
@click.option("--share", type=click.FloatRange(0, 1), default=1.0, help="Share of the requests that is shifted.")  # fmt: skip
@click.option("--rate", type=click.FloatRange(0.1, 2000), default=40.0, help="Requests per second.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=60.0, help="How long.")
@click.option("--labels", is_flag=True, help="Send the true labels to /feedback.")
@click.option("--slice", "part", default="0/1", help="K/N: only every N-th held-out row, from the K-th.")  # fmt: skip
@click.option(
    "--connections", type=click.IntRange(1, 64), default=2, help="Connections, in parallel."
)
@click.option("--seed", type=int, default=0, help="Of the order of rows and the noise.")
@click.option("--model", default="digits", help="The model that is asked.")
@click.option("--url", help="The service; http://HOST:PORT of the settings by default.")
@json_option
@click.pass_obj
def traffic(
    settings: Settings,
    shift: str,
    share: float,
    rate: float,
    seconds: float,
    labels: bool,
    part: str,
    connections: int,
    seed: int,
    model: str,
    url: str | None,
    as_json: bool,
) -> None:
    """Send held-out data to a running service and say what came back.

    The status is 1 if a request failed. A connection that the server closed before it read a
    request is opened again once, as HTTP clients do; that counts as a reconnect, not a failure.

    \b
    Example:
      holdfast traffic --shift rotate:25 --labels --rate 40 --seconds 90
    """
    rng = np.random.default_rng(seed)
    rows = shifted_rows(settings, model, shift, share, part, rng)
    target = url or f"http://{settings.host}:{settings.port}"
    tally = Tally()
    plan = Schedule(len(rows), rate, seconds, rng)
    senders = [
        threading.Thread(target=Sender(target, model, rows, tally, labels).run, args=(plan,))
        for _ in range(connections)
    ]
    for sender in senders:
        sender.start()
    try:
        _tell_until_done(senders, tally)
    except KeyboardInterrupt:
        plan.stop()
        click.echo("stopped", err=True)
    for sender in senders:
        sender.join()
    emit(tally.summary(), as_json, tally.line)
    if tally.failed or tally.labels_failed:
        detail = "; ".join(f"{n} x {text}" for text, n in tally.errors.most_common(3))
        raise HoldfastError(
            f"{tally.failed} requests and {tally.labels_failed} labels failed: {detail}"
        )


def shifted_rows(
    settings: Settings, model: str, shift: str, share: float, part: str, rng: np.random.Generator
) -> Rows:
    """The held-out rows of the model's data, the chosen share of them shifted."""
    from models import data as sets

    dataset = sets.load(_data_name(Registry(settings.registry_dir), model))
    test = _part(dataset.test, part)
    changed = _shifts(settings, dataset, model, shift, rng)(test)
    keep = rng.random(len(test)) >= share
    x = np.where(keep.reshape(-1, *[1] * (test.x.ndim - 1)), test.x, changed)
    return Rows(x.astype(test.x.dtype), test.y)


def _data_name(registry: Registry, model: str) -> str:
    """The data a model was trained on; its own name where no version can be read."""
    for version in registry.versions(model):
        try:
            return str(registry.manifest(model, version).training["data"]["name"])
        except BundleError:
            continue
    return model


def _part(rows: Rows, part: str) -> Rows:
    try:
        first, step = (int(text) for text in part.split("/"))
    except ValueError:
        raise click.UsageError(f"--slice wants K/N, e.g. 0/2; got {part!r}") from None
    if not 0 <= first < step:
        raise click.UsageError(f"--slice wants 0 <= K < N; got {part!r}")
    return rows.take(np.arange(first, len(rows), step))


def _shifts(
    settings: Settings, dataset: DataSet, model: str, shift: str, rng: np.random.Generator
) -> Callable[[Rows], npt.NDArray[Any]]:
    from models import corruptions as c

    name, _, text = shift.partition(":")
    if name not in ("clean", "invert", *PARAMETER) or (text and name not in PARAMETER):
        known = "clean, invert, " + ", ".join(f"{k}:{v.upper()}" for k, v in PARAMETER.items())
        raise click.UsageError(f"--shift wants one of {known}; got {shift!r}")
    try:
        value = float(text) if text else DEFAULTS.get(name, 0.0)
    except ValueError:
        raise click.UsageError(f"--shift {name} wants a number of {PARAMETER[name]}; got {text!r}") from None  # fmt: skip
    if name == "clean":
        return lambda rows: rows.x
    if name == "attack":
        return lambda rows: _attacked(settings, model, rows, value)
    change: Callable[[Any], Any] = {
        "rotate": lambda x: c.rotated(x, value),
        "noise": lambda x: c.noisy(x, value, rng),
        "invert": c.inverted,
        "blur": lambda x: c.blurred(x, value),
        "contrast": lambda x: (
            (x - x.mean((1, 2, 3), keepdims=True)) * value + x.mean((1, 2, 3), keepdims=True)
        ),  # fmt: skip
        "brightness": lambda x: np.clip(x + value, 0, 1),
    }[name]
    schema = dataset.schema
    return lambda rows: schema.from_unit(np.clip(change(schema.to_unit(rows.x)), 0, 1))


def _attacked(settings: Settings, model: str, rows: Rows, eps: float) -> npt.NDArray[Any]:
    from service.cli.train import need_training

    need_training()
    from models.evaluate import attacked_rows
    from monitoring.assemble import rebuild

    bundle = Registry(settings.registry_dir).open(model)
    try:
        return attacked_rows(
            rebuild(bundle), bundle.manifest.input, rows, eps, attack="pgd", steps=40
        )
    except ValueError as error:
        raise HoldfastError(f"--shift attack: {error}") from None


class Schedule:
    """Which row is due when: shuffled rounds through all rows, at an even pace."""

    def __init__(self, rows: int, rate: float, seconds: float, rng: np.random.Generator) -> None:
        self._order = self._rounds(rows, rng)
        self._rate, self._seconds = rate, seconds
        self._started = time.monotonic()
        self._taken = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def next(self) -> int | None:
        """Wait for the next turn; None when the time is over."""
        with self._lock:
            due = self._started + self._taken / self._rate
            if self._stopped.is_set() or due - self._started >= self._seconds:
                return None
            self._taken += 1
            row = next(self._order)
        if self._stopped.wait(max(0.0, due - time.monotonic())):
            return None
        return row

    @staticmethod
    def _rounds(rows: int, rng: np.random.Generator) -> Iterator[int]:
        while True:
            yield from (int(k) for k in rng.permutation(rows))


class Sender:
    """One connection: predict, and now and then the labels of what was answered."""

    def __init__(self, url: str, model: str, rows: Rows, tally: Tally, labels: bool) -> None:
        parts = urllib.parse.urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._connection: http.client.HTTPConnection | None = None
        self._path = f"/predict?model={urllib.parse.quote(model)}"
        self._rows, self._tally, self._labels = rows, tally, labels
        self._pending: list[dict[str, str]] = []
        self._names: list[str] | None = None

    def run(self, plan: Schedule) -> None:
        """Send until the schedule ends."""
        while (row := plan.next()) is not None:
            self._predict(row)
            if len(self._pending) >= LABELS_EVERY:
                self._send_labels()
        self._send_labels()
        if self._connection is not None:
            self._connection.close()

    def _predict(self, row: int) -> None:
        tally, truth = self._tally, str(self._rows.y[row])
        body = json.dumps({"instances": [self._rows.x[row].tolist()]})
        request_id = f"traffic-{uuid.uuid4().hex}"
        told = self._post(self._path, body, request_id)
        with tally.lock:
            tally.sent += 1
            if isinstance(told, str):
                tally.failed += 1
                tally.errors[told] += 1
                return
            one = told["predictions"][0]
            tally.right += str(one["index"]) == truth
            tally.drift_flagged += one["drift"]["flagged"]
            tally.perturbation_flagged += one["perturbation"]["flagged"]
            tally.versions[told["version"]] += 1
        if self._labels:
            self._pending.append({"id": told["id"], "label": truth})

    def _send_labels(self) -> None:
        if not self._pending:
            return
        told = self._post("/feedback", json.dumps(self._pending), None)
        with self._tally.lock:
            if isinstance(told, str):
                self._tally.labels_failed += len(self._pending)
                self._tally.errors[told] += 1
            else:
                self._tally.labels += len(self._pending)
        self._pending = []

    def _post(self, path: str, body: str, request_id: str | None) -> Any:
        """The decoded answer, or a sentence saying what failed."""
        headers = {"Content-Type": "application/json"}
        if request_id is not None:
            headers["X-Request-Id"] = request_id
        for attempt in (1, 2):
            fresh = self._connection is None
            try:
                if self._connection is None:
                    self._connection = http.client.HTTPConnection(
                        self._host, self._port, timeout=30
                    )
                self._connection.request("POST", path, body, headers)
                answer = self._connection.getresponse()
                data = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self._connection = None
                if fresh or attempt == 2:
                    return f"{type(error).__name__}: {error}"
                with self._tally.lock:
                    self._tally.reconnects += 1
                continue
            if answer.getheader("Connection", "").lower() == "close":
                self._connection.close()
                self._connection = None
            if answer.status != 200:
                return f"status {answer.status}: {data[:200].decode(errors='replace')}"
            return json.loads(data)
        raise AssertionError("unreachable")


def _tell_until_done(senders: list[threading.Thread], tally: Tally) -> None:
    told = time.monotonic()
    while any(s.is_alive() for s in senders):
        time.sleep(0.1)
        if time.monotonic() - told >= TELL_EVERY:
            told = time.monotonic()
            with tally.lock:
                click.echo(tally.line(), err=True)
