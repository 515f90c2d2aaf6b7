"""What the console asks for. These addresses are its own: they are no part of the contract.

Figures are open, as `/metrics` is; inputs need a token of scope `feedback` or `admin`, actions one
of scope `admin`. Where nobody but this machine can call and there are no tokens, the page needs
none (`service.access.guard.Guard.trusts`).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeVar

import msgspec

from models.base.errors import InputError, show_value
from models.versions.registry import Registry
from service.access.guard import Guard
from service.console.inputs import Inputs, read_report
from service.console.listing import Versions, list_changes, list_versions
from service.console.page import page_reply_headers, read_page
from service.console.relay import Reading, Relay
from service.console.state import States
from service.console.telling.blocks import Document
from service.console.telling.drift import tell_drift
from service.console.telling.loop import tell_loop
from service.console.telling.versions import tell_versions
from service.console.watched import FullJob, View
from service.web.call import Call, Endpoint
from service.web.errors import JSON, NotFoundError, UnavailableError
from service.web.reply import Reply, json_reply

SPANS = ("10m", "6h", "7d")
HTML = "text/html; charset=utf-8"
# A report has styles of its own and pictures as data, and runs nothing.
REPORT_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
Record = TypeVar("Record")
PRIVATE = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))


@dataclass(frozen=True)
class Console:
    """The calls of the page; threads share one."""

    states: States
    inputs: Inputs
    relay: Relay
    registry: Registry
    guard: Guard

    def page(self) -> Reply:
        """The page itself."""
        return Reply(read_page().html, 200, HTML, page_reply_headers())

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Their addresses."""
        reads: dict[str, Callable[..., Reply]] = {
            "/console/page/<name>": self.asset,
            "/console/state": self.state,
            "/console/history": self.history,
            "/console/drift": self.drift,
            "/console/jobs": self.jobs,
            "/console/jobs/<job_id>": self.job,
            "/console/versions": self.versions,
            "/console/audit": self.audit,
            "/console/view/<any(drift,loop,versions):name>": self.view,
        }
        return (
            *(Endpoint("GET", rule, handler) for rule, handler in reads.items()),
            Endpoint("GET", "/console/report/<model>/<version>", self.report, "inputs"),
            Endpoint("GET", "/console/examples", _private(self.inputs.examples), "inputs"),
            Endpoint("GET", "/console/rows", _private(self.inputs.rows), "inputs"),
            Endpoint("POST", "/console/predict", _private(self.inputs.predict), "console"),
            Endpoint("POST", "/console/jobs", self.start, "console"),
            Endpoint(
                "POST", "/console/jobs/<job_id>/<any(approve,reject):answer>", self.answer,
                "console",
            ),
            Endpoint(
                "POST",
                "/console/models/<model>/<any(promote,rollback,hold,release):change>",
                self.change, "console",
            ),
            Endpoint("POST", "/console/models/<model>/accept-drift", self.accept, "console"),
            Endpoint("POST", "/console/demo", self.demo, "console"),
        )  # fmt: skip

    def asset(self, call: Call, name: str) -> Reply:
        """A module or the style of the page."""
        found = read_page().assets.get(name)
        if found is None:
            raise NotFoundError(f"no file of the page: {show_value(name)}")
        return Reply(found.body, 200, found.media, found.headers)

    def state(self, call: Call) -> Reply:
        """What the page shows first, or 304 where it has it already."""
        body = self.states.encode(call.argument("model"))
        # Whether a token is needed is of the caller, not of the model.
        free = b"true" if self.guard.trusts(call) else b"false"
        return _tagged(call, b'{"free":%s,%s' % (free, body.removeprefix(b"{")))

    def history(self, call: Call) -> Reply:
        """Points of a picture."""
        span = call.argument("span") or "10m"
        if span not in SPANS:
            raise InputError("span", f"one of {', '.join(SPANS)}", show_value(span))
        model = self.states.choose(call.argument("model"))
        return _tagged(call, _said(self.relay.read("/history", model=model, span=span)))

    def drift(self, call: Call) -> Reply:
        """All that the watcher knows of a model."""
        model = self.states.choose(call.argument("model"))
        body = _said(self.relay.read("/overview"))
        for row in _read(body, _Rows).models:
            if _read(bytes(row), _Named).model == model:
                return _tagged(call, bytes(row))
        raise NotFoundError(f"the watcher knows no model {show_value(model)}")

    def jobs(self, call: Call) -> Reply:
        """The newest runs of the loop, without their figures."""
        body = _said(self.relay.read("/overview"))
        return _tagged(call, bytes(_read(body, _Jobs).jobs))

    def job(self, call: Call, job_id: str) -> Reply:
        """A run with all its figures."""
        return _tagged(call, _said(self.relay.read("/jobs/{}", job_id)))

    def versions(self, call: Call) -> Reply:
        """The versions of a model."""
        model = self.states.choose(call.argument("model"))
        return _tagged(call, msgspec.json.encode(list_versions(self.registry, model)))

    def audit(self, call: Call) -> Reply:
        """Who changed what."""
        model = self.states.choose(call.argument("model"))
        return _tagged(call, msgspec.json.encode(list_changes(self.registry, model)))

    def view(self, call: Call, name: str) -> Reply:
        """What a view says, as the page draws it."""
        model = self.states.choose(call.argument("model"))
        view = self.states.view(model, time.time())
        made: Document
        if name == "drift":
            made = tell_drift(view)
        elif name == "loop":
            made = tell_loop(view, self._full_job(view, call.argument("job")))
        else:
            listed = list_versions(self.registry, model) if model else Versions("", 0, [])
            made = tell_versions(view, listed, _numbers(call.argument("compare") or ""))
        return _tagged(call, msgspec.json.encode(made))

    def _full_job(self, view: View, chosen: str | None) -> FullJob | None:
        """The run that is asked for, else one that waits, or is open, else the last one."""
        waiting = next((job for job in view.jobs if job.state == "waiting"), None)
        job = waiting or view.open_job or next(iter(view.jobs), None)
        which = chosen or (None if job is None else job.id)
        if which is None:
            return None
        reading = self.relay.read("/jobs/{}", which)
        if reading.away or reading.status != 200:
            return None
        try:
            return msgspec.json.decode(reading.body, type=FullJob)
        except (msgspec.DecodeError, UnicodeDecodeError):  # of a watcher of another version
            return None

    def report(self, call: Call, model: str, version: str) -> Reply:
        """The evaluation of a version, in a sandbox."""
        headers = (("Content-Security-Policy", REPORT_POLICY), ("Referrer-Policy", "no-referrer"))
        return Reply(read_report(self.registry, model, version), 200, HTML, (*headers, *PRIVATE))

    def start(self, call: Call) -> Reply:
        """Start a run of the loop."""
        return self._send(call, "/jobs")

    def answer(self, call: Call, job_id: str, answer: str) -> Reply:
        """Approve or reject a challenger."""
        return self._send(call, f"/jobs/{{}}/{answer}", job_id)

    def change(self, call: Call, model: str, change: str) -> Reply:
        """Promote, roll back, hold or release."""
        return self._send(call, f"/models/{{}}/{change}", model)

    def accept(self, call: Call, model: str) -> Reply:
        """Take the traffic since the alarm for normal."""
        return self._send(call, "/models/{}/accept-drift", model)

    def demo(self, call: Call) -> Reply:
        """Begin or end the demonstration."""
        return self._send(call, "/demo")

    def _send(self, call: Call, address: str, *names: str) -> Reply:
        call.require_json()
        reply = self.relay.send(address, names, call.body(), call.header("authorization") or "")
        self.states.forget()
        return reply


class _Rows(msgspec.Struct):
    models: tuple[msgspec.Raw, ...] = ()


class _Named(msgspec.Struct):
    model: str = ""


class _Jobs(msgspec.Struct):
    jobs: msgspec.Raw = msgspec.Raw(b"[]")


def _read(body: bytes, kind: type[Record]) -> Record:
    """What the watcher said, as a record. Raises UnavailableError where it does not fit."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise UnavailableError("the watcher is of another version than the service") from None


def _numbers(text: str) -> list[int]:
    """Two numbers of versions, as `2,1`; none where it is no such text."""
    parts = text.split(",")
    fit = len(parts) == 2 and all(p.isascii() and p.isdigit() and len(p) < 10 for p in parts)
    return [int(part) for part in parts] if fit else []


def _said(reading: Reading) -> bytes:
    """What the watcher said. Raises UnavailableError where it is away, NotFoundError for a 404."""
    if reading.away:
        raise UnavailableError(f"the watcher does not answer: {reading.away}")
    if reading.status == 404:
        raise NotFoundError("the watcher knows no such thing")
    if reading.status != 200:
        raise UnavailableError(f"the watcher answered {reading.status}")
    return reading.body


def _tagged(call: Call, body: bytes) -> Reply:
    """JSON with a tag, by which a page that has it already is told so."""
    tag = f'"{sha256(body).hexdigest()[:20]}"'
    headers = (("ETag", tag), ("Cache-Control", "no-cache"), ("X-Content-Type-Options", "nosniff"))
    if call.header("if-none-match") == tag:
        return Reply(b"", 304, JSON, headers)
    return json_reply(body, headers=headers)


def _private(handler: Callable[[Call], Reply]) -> Callable[[Call], Reply]:
    """The handler, whose answers no cache keeps."""

    def answer(call: Call) -> Reply:
        reply = handler(call)
        return reply._replace(headers=(*reply.headers, *PRIVATE))

    return answer
