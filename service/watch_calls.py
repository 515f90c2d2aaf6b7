"""What the watcher is asked: metrics and health by all, alerts and changes by who has a token."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from models.errors import InputError
from monitoring import webhook
from monitoring.alert_decisions import UndecidedError, decide_alerts
from monitoring.handled_alerts import HandledAlerts
from monitoring.jobs import Answer, AnsweredError, Job, NotWaitingError, UnknownJobError
from monitoring.json_body import decode_members
from monitoring.pulse import is_ready
from monitoring.triggers import ACTIONS, Event
from monitoring.watcher import Watcher
from service.call import Call, Endpoint, Reply
from service.errors import (
    ConflictError,
    NotFoundError,
    RequestError,
    TooManyError,
    UnavailableError,
)

Body = TypeVar("Body", bound=msgspec.Struct)
BUDGET_PAUSE_SECONDS = 3600


class JobRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `POST /jobs`."""

    model: str
    kind: str
    reason: str = "asked for by a person"
    since: float = 0.0
    options: dict[str, Any] = {}


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of promote and rollback. `expected` is the champion that the caller has seen."""

    version: int | None = None
    expected: int | None = None
    reason: str = "asked for by a person"


def endpoints(
    watcher: Watcher, handled: HandledAlerts, clock: Callable[[], float]
) -> tuple[Endpoint, ...]:
    """The addresses; `watcher` may tick in another thread."""

    def healthz(call: Call) -> Reply:
        return _reply({"status": "ok"})

    def readyz(call: Call) -> Reply:
        report = watcher.pulse.report()
        ready = is_ready(report)
        return _reply(report, HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)

    def metrics(call: Call) -> Reply:
        return Reply(generate_latest(watcher.metrics.registry), media=CONTENT_TYPE_LATEST)

    def models(call: Call) -> Reply:
        return _reply(watcher.status())

    def jobs(call: Call) -> Reply:
        return _reply(watcher.jobs.all(call.argument("model")))

    def job(call: Call, job_id: str) -> Reply:
        return _reply(find_job(job_id))

    def find_job(job_id: str) -> Job:
        try:
            return watcher.jobs.get(job_id)
        except UnknownJobError as error:
            raise NotFoundError(str(error)) from None

    def alerts(call: Call) -> Reply:
        payload = webhook.parse(call.body())
        try:
            decisions = decide_alerts(payload, watcher, handled, clock)
        except UndecidedError as error:  # what has started is known: all may be sent again
            raise UnavailableError(str(error)) from None
        return _reply({"alerts": decisions}, HTTPStatus.ACCEPTED)

    def start(call: Call) -> Reply:
        wish = _body(call, JobRequest)
        if wish.kind not in ACTIONS:
            raise InputError("kind", f"one of {', '.join(ACTIONS)}", wish.kind[:40])
        event = Event("person", wish.model, wish.kind, wish.since, wish.reason)
        decision = watcher.dispatcher.consider(event, clock(), wish.options)
        if decision.start is None:
            raise _refusal(str(decision.refusal), decision.detail)
        return _reply(watcher.jobs.get(decision.detail), HTTPStatus.ACCEPTED)

    def answer(call: Call, job_id: str, answer: str) -> Reply:
        find_job(job_id)
        try:
            watcher.jobs.answer(job_id, Answer(answer == "approve", "admin", "", clock()))
        except (AnsweredError, NotWaitingError) as error:
            raise ConflictError(str(error)) from None
        return _reply({"id": job_id, "answer": answer}, HTTPStatus.ACCEPTED)

    def promote(call: Call, model: str) -> Reply:
        wish = _body(call, Change)
        if wish.version is None:
            raise InputError("version", "the number of a version", "nothing")
        expected = wish.expected
        if expected is None:
            expected = watcher.registry.aliases(model).champion
        after = watcher.registry.promote(
            model, wish.version, expected=expected, actor="admin", reason=wish.reason
        )
        return _reply(after)

    def rollback(call: Call, model: str) -> Reply:
        wish = _body(call, Change)
        after = watcher.registry.rollback(
            model, expected=wish.expected, actor="admin", reason=wish.reason
        )
        return _reply(after)

    return (
        Endpoint("GET", "/healthz", healthz),
        Endpoint("GET", "/readyz", readyz),
        Endpoint("GET", "/metrics", metrics),
        Endpoint("GET", "/models", models),
        Endpoint("GET", "/jobs", jobs),
        Endpoint("GET", "/jobs/<job_id>", job),
        Endpoint("POST", "/alerts", alerts, "alert"),
        Endpoint("POST", "/jobs", start, "admin"),
        Endpoint("POST", "/jobs/<job_id>/<any(approve,reject):answer>", answer, "admin"),
        Endpoint("POST", "/models/<model>/promote", promote, "admin"),
        Endpoint("POST", "/models/<model>/rollback", rollback, "admin"),
    )


def _refusal(name: str, detail: str) -> RequestError:
    """Why a person's job did not start, as the answer."""
    text = f"{name}: {detail}"
    if name == "no_champion":
        return NotFoundError(text)
    if name == "daily_budget":
        return TooManyError(text, BUDGET_PAUSE_SECONDS)
    return ConflictError(text)


def _body(call: Call, kind: type[Body]) -> Body:
    return decode_members(
        call.body() or b"{}", kind, f"JSON of {', '.join(kind.__struct_fields__)}"
    )


def _reply(value: Any, status: int = HTTPStatus.OK) -> Reply:
    return Reply(msgspec.json.encode(value), status)
