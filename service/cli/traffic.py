"""`holdfast traffic`: held-out data to a running service, clean, shifted, corrupted or attacked."""

import math
import threading
import time
from collections.abc import Callable
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from models.data import DataSet, Rows
from models.errors import BundleError, HoldfastError
from models.registry import Registry
from service.cli.output import emit, json_option
from service.cli.sender import Schedule, Sender, Tally
from service.settings import Settings

TELL_EVERY = 5.0
SHIFTS = {  # name: (what the number is, its default)
    "rotate": ("degrees", 25.0),
    "noise": ("sigma", 0.1),
    "blur": ("pixels", 1.0),
    "contrast": ("factor", 0.5),
    "brightness": ("offset", 0.2),
    "attack": ("eps", 0.15),
}
PLAIN = ("clean", "invert")
SHIFT_HELP = (
    ", ".join([*PLAIN, *(f"{name}:{default:g}" for name, (_, default) in SHIFTS.items())])
    + ". The last is PGD against the champion's own weights."
)


@click.command()
@click.option("--shift", default="clean", help=SHIFT_HELP)
@click.option(
    "--share", type=click.FloatRange(0, 1), default=1.0, help="Share of the rows that is shifted."
)
@click.option("--rate", type=click.FloatRange(0.1, 2000), default=40.0, help="Requests per second.")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), default=60.0, help="How long.")
@click.option("--labels", is_flag=True, help="Send the true labels to /feedback.")
@click.option("--slice", "part", default="0/1", help="K/N: every N-th held-out row, from the K-th.")
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
    if name not in (*PLAIN, *SHIFTS) or (text and name in PLAIN):
        raise click.UsageError(f"--shift wants one of {SHIFT_HELP} Got {shift!r}")
    unit, default = SHIFTS.get(name, ("", 0.0))
    try:
        value = float(text) if text else default
        if not math.isfinite(value):
            raise ValueError(value)
    except ValueError:
        raise click.UsageError(f"--shift {name} wants {unit}; got {text!r}") from None
    if name == "clean":
        return lambda rows: rows.x
    if name == "attack":
        return lambda rows: _attacked(settings, model, rows, value)
    change: Callable[[Any], Any] = {
        "rotate": lambda x: c.rotated(x, value),
        "noise": lambda x: c.noisy(x, value, rng),
        "invert": c.inverted,
        "blur": lambda x: c.blurred(x, value),
        "contrast": lambda x: x * value + x.mean((1, 2, 3), keepdims=True) * (1 - value),
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


def _tell_until_done(senders: list[threading.Thread], tally: Tally) -> None:
    told = time.monotonic()
    while any(s.is_alive() for s in senders):
        time.sleep(0.1)
        if time.monotonic() - told >= TELL_EVERY:
            told = time.monotonic()
            with tally.lock:
                click.echo(tally.line(), err=True)
