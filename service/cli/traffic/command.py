"""`holdfast traffic`: held-out data to a running service, clean, shifted, corrupted or attacked."""

import threading
import time

import click
import numpy as np

from models.base.errors import BundleError, HoldfastError, UnknownModelError
from models.data import BUNDLED, DataSet, Rows, Source
from models.data.source import source_of
from models.versions.registry import Registry
from models.versions.schema import InputArray, InputSchema
from service.access.auth import secret_of
from service.cli.terminal.output import emit, fail_with_data, json_option
from service.cli.traffic import shifts
from service.cli.traffic.sender import Outcomes, Schedule, Sender
from service.configuration.addresses import AddressError, near, read_url, url_of
from service.configuration.settings import Settings

TELL_EVERY = 5.0
ATTACKED_ROWS = 1000  # of a large test set: attacks take their time


@click.command()
@click.option("--shift", default="clean", help=shifts.HELP)
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
@click.option("--token-file", help="File with a token of scope predict; feedback, for --labels.")
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
    token_file: str | None,
    as_json: bool,
) -> None:
    """Send held-out data to a running service and say what came back.

    Ctrl-C ends it early, with the summary. The status is 1 if a request failed, else 0.
    A connection that the server closed before it read a request is opened again once, as HTTP
    clients do; that counts as a reconnect, not a failure.

    \b
    Example:
      holdfast traffic --shift rotate:25 --labels --rate 40 --seconds 90
    """
    target = _target(url, settings)
    rng = np.random.default_rng(seed)
    shifted, dataset = _load_and_shift(settings, model, shift, share, part, rng)
    rows, names = as_sent(shifted, dataset.schema), dataset.classes if labels else None
    token = secret_of(token_file) if token_file else ""
    tally = Outcomes()
    plan = Schedule(len(rows), rate, seconds, rng)
    senders = [
        threading.Thread(target=Sender(target, model, rows, tally, names, token).run, args=(plan,))
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
        fail_with_data(f"{tally.failed} requests and {tally.labels_failed} labels failed: {detail}")


def _target(url: str | None, settings: Settings) -> str:
    """The service that is asked. Raises UsageError for a --url that is none."""
    target = url or url_of(near(settings.host), settings.port)
    try:
        read_url(target)
    except AddressError as error:
        raise click.UsageError(f"--url: {error}") from None
    return target


def shifted_rows(
    settings: Settings, model: str, shift: str, share: float, part: str, rng: np.random.Generator
) -> Rows:
    """The held-out rows of the model's data, the chosen share of them shifted."""
    return _load_and_shift(settings, model, shift, share, part, rng)[0]


def as_sent(rows: Rows, schema: InputSchema) -> Rows:
    """Rows as their values stand in JSON: a table's categories as texts, missing ones as None."""
    if schema.kind == "image":
        return rows
    x = rows.x.astype(object)
    for index, column in enumerate(schema.columns):
        values = rows.x[:, index]
        if column.kind == "categorical":
            names = [*column.categories, shifts.UNSEEN]  # the place -1 is the last
            x[:, index] = [None if np.isnan(v) else names[int(v)] for v in values]
        x[np.isnan(values), index] = None
    return Rows(x, rows.y)


def _load_and_shift(
    settings: Settings, model: str, shift: str, share: float, part: str, rng: np.random.Generator
) -> tuple[Rows, DataSet]:
    from models import data as sets

    dataset = sets.load(_source(Registry(settings.registry_dir, settings.keys), model))
    schema, test = dataset.schema, _part(dataset.test, part)
    name, value = shifts.parse(shift, schema)
    if name == "attack":
        test = test.take(np.arange(min(len(test), ATTACKED_ROWS)))
        changed = _attack_rows(settings, model, test, value)
    else:
        changed = shifts.change_of(name, value, schema, rng)(test.x)
    keep = rng.random(len(test)) >= share
    x = np.where(keep.reshape(-1, *[1] * (test.x.ndim - 1)), test.x, changed)
    return Rows(x.astype(test.x.dtype), test.y), dataset


def _source(registry: Registry, model: str) -> Source:
    """The data a model was trained on; its own name where no version can be read."""
    for version in registry.versions(model):
        try:
            return source_of(registry.manifest(model, version))
        except BundleError:
            continue
    if model not in BUNDLED:
        raise UnknownModelError(model, registry.models())
    return Source(path=model)


def _part(rows: Rows, part: str) -> Rows:
    try:
        first, step = (int(text) for text in part.split("/"))
    except ValueError:
        raise click.UsageError(f"--slice wants K/N, e.g. 0/2; got {part!r}") from None
    if not 0 <= first < step:
        raise click.UsageError(f"--slice wants 0 <= K < N; got {part!r}")
    return rows.take(np.arange(first, len(rows), step))


def _attack_rows(settings: Settings, model: str, rows: Rows, eps: float) -> InputArray:
    from service.cli.checks.extras import need_training

    need_training()
    from models.attacks.threat import geometry_of
    from models.evaluation.adversarial import attack_subject
    from models.versions.judging import ThreatModel
    from monitoring.making.opening import open_subject

    bundle = Registry(settings.registry_dir, settings.keys).open(model)
    judged = bundle.manifest.evaluation
    threat = ThreatModel() if judged is None else judged.threat
    subject = open_subject(bundle)
    attack, budget = ("square", 400) if subject.black_box else ("pgd", 40)
    try:
        geometry = geometry_of(threat, bundle.manifest.input, eps)
        return attack_subject(subject, rows, geometry, attack=attack, budget=budget)
    except HoldfastError as error:
        raise HoldfastError(f"--shift attack: {error}") from None


def _tell_until_done(senders: list[threading.Thread], tally: Outcomes) -> None:
    told = time.monotonic()
    while any(s.is_alive() for s in senders):
        time.sleep(0.1)
        if time.monotonic() - told >= TELL_EVERY:
            told = time.monotonic()
            with tally.lock:
                click.echo(tally.line(), err=True)
