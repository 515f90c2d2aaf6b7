"""Every view of the page in every state, as what its watcher says and what its registry holds.

`tests.service.console.test_looks` measures them in a browser, and
`python -m tests.console_pictures FOLDER` takes pictures of them.
"""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from models.data import DataSet
from models.versions import bundle as files
from models.versions.examples import EXAMPLES, encode_examples
from models.versions.registry import Registry
from service.access import auth
from service.app import Application
from tests import bundles
from tests.asgi import client_of
from tests.chromium import Page
from tests.service import tables
from tests.service.console.browsing import listening
from tests.service.console.watching import ALARM, FakeWatcher, job_row, model_row

NOW = time.time()
HARM = {
    "labels": 500, "evidence_log10": 9.2, "threshold_log10": 6.0, "floor": 0.88,
    "words": "of 500 labels since the promise 390 were right", "promise": "at most one false alarm "
    "in 1,000,000 labels", "alarm": {"since": NOW - 200},
}  # fmt: skip
ESTIMATED = {
    "estimated": {"value": 0.87, "low": 0.82, "high": 0.91, "n": 4000, "trustworthy": True}
}
REFUSED = [{
    "service": "http://127.0.0.1:8080", "status": "refused", "since": NOW - 300,
    "detail": "401: the token was refused", "advice": "give the watcher the token of the state",
}]  # fmt: skip
TROUBLES = [
    {"problem": "records", "since": NOW - 4000, "detail": "the database is locked",
     "advice": "see who holds it"},
    {"problem": "disk", "since": NOW - 70, "detail": "less than 1 GB is free",
     "advice": "free some"},
]  # fmt: skip
ENDED: dict[str, Any] = {
    "state": "done", "stage": "", "outcome": "refused", "ended_at": NOW - 4000,
    "created_at": NOW - 4400, "waits_until": None, "failed": 1, "passed": 17, "unknown": 1,
    "detail": "size: 4x the champion, at most 3x", "id": "20260101-000000-def456",
}  # fmt: skip
ALARMED: dict[str, Any] = {
    **ALARM, "alarm_since": NOW - 240,
    "last_alarm": {**ALARM["last_alarm"], "raised_at": NOW - 240, "first_at": NOW - 420,
                   "last_at": NOW - 300},
}  # fmt: skip
MANY = {f"channel number {k}": 19.5 / (k + 1) for k in range(12)}
SHOWN = "document.querySelector('main h1') && document.querySelector('main').innerText.length > 30"
EXAMPLE = "document.querySelectorAll('.strip button')[2].click()"
CLICK = "[...document.querySelectorAll('button,a,[role=tab]')].find(e => e.innerText.includes({}))"


@dataclass(frozen=True)
class Look:
    """A view in a state: which registry answers, what the watcher says, and what is clicked.

    Args:
        view: what follows `#` in the address.
        state: name of the state directory (see `make_states`).
        row, rates: what differs in the watcher's row of the model, and in its rates.
        jobs, demo: the runs, and the demonstration.
        settings: of the service.
        away: whether the watcher is away; dead: whether the service stops to answer.
        steps: what is done once the view stands: an expression that is run, or words to click
            (begin with `>`); each is followed by an expression to wait for.
    """

    view: str = "now"
    state: str = "digits"
    row: dict[str, Any] = field(default_factory=dict)
    rates: dict[str, Any] = field(default_factory=dict)
    jobs: tuple[dict[str, Any], ...] = ()
    demo: dict[str, Any] = field(default_factory=lambda: {"running": False})
    settings: dict[str, Any] = field(default_factory=dict)
    away: bool = False
    dead: bool = False
    steps: tuple[tuple[str, str], ...] = ()


TRY = ((EXAMPLE, "document.querySelector('.said .class')"),)
FILL = (("document.querySelector('.strip button').click()",
         "document.querySelector('.said .class')"),)  # fmt: skip
ATTACK = (">Attack with", "/flipped|1000 of 1000/.test(document.querySelector('#main').innerText)")
DIALOG = "document.querySelector('dialog[open]')"
TOKENS = {"state": "tokens"}
LOOKS: dict[str, Look] = {
    "now": Look(),
    "now-no-labels": Look(row={"accuracy": ESTIMATED, "harm": None}),
    "now-no-estimate": Look(row={"accuracy": None, "harm": None}),
    "now-ready": Look(row={"requests": 0, "accuracy": None, "harm": None, "evidence_log10": {}}),
    "now-early": Look(row={"requests": 12, "accuracy": None, "harm": None}),
    "now-alarm": Look(row=ALARMED),
    "now-harmless": Look(row={**ALARMED, "harmless": "500 labels since say that it is right"}),
    "now-harm": Look(row={**ALARMED, "harm": HARM}, jobs=(job_row(
        state="running", stage="training", waits_until=None),)),
    "now-probed": Look(rates={"perturbed": 900, "probing": 41, "suspicious": 300}),
    "now-errors": Look(rates={"failed_hour": 100}),
    "now-approval": Look(row=ALARMED, jobs=(job_row(challenger=3), job_row(**ENDED))),
    "now-labels-changed": Look(row=ALARMED, jobs=(job_row(stage="approval of changed labels"),)),
    "now-waits-for-labels": Look(row=ALARMED, jobs=(job_row(
        state="running", stage="awaiting labels", waits_until=None),)),
    "now-held": Look(row={**ALARMED, "hold": {"actor": "token ada", "reason": "audit week",
                                               "until": NOW + 80_000, "stops": "everything"}}),
    "now-waits": Look(row={**ALARMED, "waits": [
        {"reason": "cool_down", "sentence": "it rests for another 20 minutes after a refusal"}]}),
    "now-troubles": Look(row={"problems": TROUBLES}),
    "now-blind": Look(row={"services": REFUSED}),
    "now-away": Look(away=True),
    "now-dead": Look(dead=True),
    "now-refused": Look(state="refused"),
    "now-training": Look(state="training"),
    "now-no-model": Look(state="empty"),
    "now-several": Look(state="several"),
    "now-demo": Look(demo={"running": True, "model": "digits", "words": "turned by 25°",
                           "until": NOW + 100}),
    "now-dialog": Look(row=ALARMED, jobs=(job_row(challenger=3),), steps=((">Approve …", DIALOG),)),
    "now-keys": Look(steps=((">Keys", DIALOG),)),
    "try": Look("try"),
    "try-answer": Look("try", steps=TRY),
    "try-attack": Look("try", steps=(*TRY, ATTACK)),
    "try-upload": Look("try", steps=(*TRY, (">Upload", "document.querySelector('[type=file]')"))),
    "try-json": Look("try", steps=(*TRY, (">JSON", "document.querySelector('textarea')"))),
    "try-training": Look("try", state="training"),
    "try-no-model": Look("try", state="empty"),
    "try-token": Look("try", **TOKENS),
    "try-table": Look("try", state="table"),
    "try-table-answer": Look("try", state="table", steps=FILL),
    "try-table-attack": Look("try", state="table", steps=(*FILL, ATTACK)),
    "try-table-json": Look("try", state="table", steps=(
        *FILL, (">JSON", "document.querySelector('textarea')"))),
    "try-colours": Look("try", state="colours", steps=TRY),
    "drift": Look("drift"),
    "drift-alarm": Look("drift", row=ALARMED),
    "drift-many": Look("drift", row={**ALARMED, "evidence_log10": MANY}),
    "drift-early": Look("drift", row={"requests": 3, "evidence_log10": None}),
    "drift-accepted": Look("drift", row={"accepted": {
        "since": NOW - 9000, "until": NOW + 9000, "actor": "token ada", "reason": "new camera"}}),
    "drift-away": Look("drift", away=True),
    "drift-token": Look("drift", row=ALARMED, **TOKENS),
    "drift-no-model": Look("drift", state="empty"),
    "drift-table": Look("drift", state="table", row=ALARMED),
    "loop": Look("loop"),
    "loop-approval": Look("loop", row=ALARMED, jobs=(job_row(challenger=3), job_row(**ENDED))),
    "loop-training": Look("loop", row=ALARMED, jobs=(job_row(
        state="running", stage="training", challenger=None, waits_until=None),)),
    "loop-refused": Look("loop", jobs=(job_row(**ENDED),)),
    "loop-held": Look("loop", row={"hold": {"actor": "token ada", "reason": "audit week",
                                             "until": None, "stops": "everything"}}),
    "loop-away": Look("loop", away=True),
    "loop-no-model": Look("loop", state="empty"),
    "versions": Look("versions"),
    "versions-compare": Look("versions?compare=2,1"),
    "versions-token": Look("versions", **TOKENS),
    "versions-no-model": Look("versions", state="empty"),
    "versions-rollback": Look("versions", steps=((">Roll back", DIALOG),)),
    "label": Look("label"),
    "label-said": Look("label", steps=((
        "document.querySelectorAll('.digits button')[2].click()",
        "document.body.innerText.includes('you said')"),)),
    "label-nothing": Look("label", state="several"),
    "label-table": Look("label", state="table"),
    "label-token": Look("label", **TOKENS),
    "label-no-model": Look("label", state="empty"),
}  # fmt: skip


def make_states(root: Path) -> None:
    """State directories by name: digits (two versions), table, colours, several, and odd ones."""
    bundles.publish(root / "refused" / "registry")
    tables.publish_table(root / "table" / "registry", tables.wine())
    tables.publish_colours(root / "colours" / "registry")
    for state, model in (("digits", "digits"), ("tokens", "digits"), ("several", "digits"),
                         ("several", "wine")):  # fmt: skip
        made = root / ("table" if model == "wine" else "refused") / "registry" / model
        shutil.copytree(made, root / state / "registry" / model)
    auth.create(root / "tokens" / "tokens.json", "ada", ("admin",))
    for state, data in (("digits", bundles.digits()), ("tokens", bundles.digits()),
                        ("table", tables.wine()), ("colours", tables.colours())):  # fmt: skip
        _add_examples(root / state / "registry", data)
    for state in ("empty", "training"):
        (root / state / "run").mkdir(parents=True)
    progress = {"model": "digits", "stage": "training", "done": 831, "total": 2023,
                "words": "epoch 9 of 20, accuracy 91.2%", "seconds_left": 41.0}  # fmt: skip
    (root / "training" / "run" / "progress.json").write_text(json.dumps(progress))
    (root / "records").mkdir()
    for state, data in (("digits", bundles.digits()), ("table", tables.wine())):
        with tables.served(root / state, database_url=records_of(root, state)) as app:
            _send_requests(app, data)


def records_of(root: Path, state: str) -> str:
    """Where the records of a state are."""
    return f"sqlite:///{root / 'records' / state}.sqlite"


def publish_with_examples(root: Path) -> None:
    """Two versions of the digits; the second one, with held-out rows, is the champion."""
    bundles.publish(root)
    _add_examples(root, bundles.digits())


def _add_examples(root: Path, data: DataSet) -> None:
    """A further version, with held-out rows, that becomes the champion."""
    registry, model = Registry(root), data.name
    bundle = registry.open(model, "champion")
    contents = {name: bundle.read(name) for name in (files.MODEL, files.REFERENCE)}
    contents[EXAMPLES] = encode_examples(data.test.x[:24], data.test.y[:24])
    before = bundle.manifest.version

    def make(version: int) -> Any:
        return contents, msgspec.structs.replace(bundle.manifest, version=version)

    version = registry.publish(model, make, actor="token ada", reason="examples to try")
    registry.promote(model, version, expected=before, actor="token ada", reason="they are there")


def _break_champion(root: Path, app: Application) -> None:
    """A champion that cannot be loaded, found by a service that runs."""
    registry = Registry(root)
    bundle = registry.open("digits", "1")
    contents = {name: bundle.read(name) for name in (files.MODEL, files.REFERENCE)}

    def make(version: int) -> Any:
        return contents, msgspec.structs.replace(bundle.manifest, version=version)

    version = registry.publish("digits", make, actor="test", reason="test")
    registry.promote("digits", version, expected=1, actor="test", reason="test")
    model = next(root.glob(f"digits/**/{version}/{files.MODEL}"))
    model.chmod(0o644)
    model.write_bytes(b"torn")
    app.service.champions.refresh()


def _send_requests(app: Application, data: DataSet) -> None:
    """Sixty requests on record, most with a true label; of images some are upside down."""
    client, image = client_of(app), data.schema.kind == "image"
    rows = list(data.test.x[:60]) if image else tables.as_objects(data, data.test.x[:60])
    for k, (row, y) in enumerate(zip(rows, data.test.y, strict=False)):
        sent = (row[:, ::-1] if k % 7 == 0 else row).tolist() if image else row
        client.post("/predict", json={"instances": [sent]}, headers={"X-Request-Id": f"r{k}"})
        if k % 4:
            client.post("/feedback", json={"id": f"r{k}", "label": data.classes[int(y)]})


@contextmanager
def serving(look: Look, root: Path) -> Iterator[str]:
    """The address of a service in the state of a look."""
    settings: dict[str, Any] = {**look.settings}
    watcher = FakeWatcher()
    with ExitStack() as stack:
        copy = Path(stack.enter_context(TemporaryDirectory()))
        state = shutil.copytree(root / look.state, copy / look.state)
        if (progress := state / "run" / "progress.json").exists():
            progress.touch()  # an old one is of a process that has gone
        if look.away:
            watcher.close()
        else:
            stack.callback(watcher.close)
        if look.state in ("digits", "table"):
            shutil.copytree(root / "records", copy / "records")
            settings["database_url"] = records_of(copy, look.state)
        app = stack.enter_context(tables.served(state, watch_url=watcher.url, **settings))
        served = {k: each.manifest.version for k, each in app.service.champions.served.items()}
        name = min(served, default="digits")
        version = served.get(name)
        previous = version - 1 if version and version > 1 else None
        aliases = {"champion": version, "challenger": None, "previous": previous}
        if look.state == "refused":
            _break_champion(state / "registry", app)
            aliases |= {"champion": 2, "previous": 1}
        watcher.row = model_row(model=name, version=version, aliases=aliases) | look.row
        watcher.rates |= look.rates
        watcher.jobs = [{**job, "model": name, "champion": version} for job in look.jobs]
        watcher.demo = look.demo
        yield stack.enter_context(listening(app))


def open_look(page: Page, url: str, look: Look) -> None:
    """Open a view, and bring it into its state."""
    page.open("about:blank")  # an address that differs after # alone would load nothing
    page.open(f"{url}/#{look.view}")
    page.until(SHOWN, f"{look.view} shows something")
    for do, wanted in look.steps:
        if do.startswith(">"):
            do = CLICK.format(json.dumps(do[1:]))
            page.until(do, do)
            do += ".click()"
        page.until(do.removesuffix(".click()"), do)
        page.run(do)
        page.until(wanted, wanted)
    if look.dead:
        page.run("window.fetch = () => Promise.reject(new TypeError('no'))")
        page.until("document.body.innerText.includes('has not answered for')", "nobody answers")
