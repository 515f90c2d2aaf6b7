"""The watcher's HTTP: metrics and health for all, alerts and changes for who has a token."""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
from dbos import DBOS
from flask import Flask, Response, request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.exceptions import HTTPException

from models.errors import (
    ChampionMovedError,
    HoldfastError,
    InputError,
    UnknownModelError,
    UnknownVersionError,
)
from monitoring import webhook
from monitoring.alert_decisions import decide_alerts
from monitoring.bearer import is_bearer
from monitoring.jobs import UnknownJobError
from monitoring.json_body import decode_members
from monitoring.logs import logger
from monitoring.triggers import ACTIONS, Event
from monitoring.watcher import Watcher

MAX_BODY = 1 << 20
Body = TypeVar("Body", bound=msgspec.Struct)
RESULTS = {"already_running": 409, "daily_budget": 429, "no_champion": 404}


@dataclass(frozen=True)
class Tokens:
    """Secrets of the two scopes."""

    admin: str
    alert: str


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


class Refused(Exception):
    """An answer with a status of its own."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def create_watch_app(
    watcher: Watcher,
    handled: webhook.HandledAlerts,
    tokens: Tokens,
    clock: Callable[[], float],
) -> Flask:
    """The application; `watcher` may tick in another thread."""
    app = Flask("holdfast-watcher", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY

    @app.get("/healthz")
    def healthz() -> Response:
        return _json({"status": "ok"})

    @app.get("/metrics")
    def metrics() -> Response:
        text = generate_latest(watcher.metrics.registry)
        return Response(text, content_type=CONTENT_TYPE_LATEST)

    @app.get("/models")
    def models() -> Response:
        return _json(watcher.status())

    @app.get("/jobs")
    def jobs() -> Response:
        return _json(watcher.jobs.all(request.args.get("model")))

    @app.get("/jobs/<job_id>")
    def job(job_id: str) -> Response:
        return _json(watcher.jobs.get(job_id))

    @app.post("/alerts")
    def alerts() -> Response:
        _authorise(tokens.alert)
        payload = webhook.parse(request.get_data())
        return _json({"alerts": decide_alerts(payload, watcher, handled, clock)}, 202)

    @app.post("/jobs")
    def start() -> Response:
        _authorise(tokens.admin)
        wish = _body(JobRequest)
        if wish.kind not in ACTIONS:
            raise InputError("kind", f"one of {', '.join(ACTIONS)}", wish.kind[:40])
        event = Event("person", wish.model, wish.kind, wish.since, wish.reason)
        decision = watcher.consider(event, clock(), wish.options)
        if decision.start is None:
            status = RESULTS.get(str(decision.refusal), 409)
            raise Refused(status, f"{decision.refusal}: {decision.detail}")
        return _json(watcher.jobs.get(decision.detail), 202)

    @app.post("/jobs/<job_id>/<any(approve,reject):answer>")
    def approve(job_id: str, answer: str) -> Response:
        _authorise(tokens.admin)
        if (found := watcher.jobs.get(job_id)).state != "waiting":
            raise Refused(409, f"job {job_id} does not wait for approval: it is {found.stage}")
        DBOS.send(job_id, {"approved": answer == "approve", "actor": "admin"}, "approval")
        return _json({"id": job_id, "answer": answer}, 202)

    @app.post("/models/<model>/promote")
    def promote(model: str) -> Response:
        _authorise(tokens.admin)
        wish = _body(Change)
        if wish.version is None:
            raise InputError("version", "the number of a version", "nothing")
        expected = wish.expected
        if expected is None:
            expected = watcher.registry.aliases(model).champion
        after = watcher.registry.promote(
            model, wish.version, expected=expected, actor="admin", reason=wish.reason
        )
        return _json(after)

    @app.post("/models/<model>/rollback")
    def rollback(model: str) -> Response:
        _authorise(tokens.admin)
        wish = _body(Change)
        after = watcher.registry.rollback(
            model, expected=wish.expected, actor="admin", reason=wish.reason
        )
        return _json(after)

    app.register_error_handler(Exception, _problem)
    return app


def _authorise(token: str) -> None:
    if not is_bearer(request.headers.get("Authorization", ""), token):
        raise Refused(401, "this call needs `Authorization: Bearer <token>`")


def _body(kind: type[Body]) -> Body:
    expected = f"JSON of {', '.join(kind.__struct_fields__)}"
    return decode_members(request.get_data() or b"{}", kind, expected)


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, content_type="application/json")


def _problem(error: Exception) -> Response:
    """RFC 9457 for every error; one that nobody foresaw is logged and told without its text."""
    status, detail = 500, "internal error"
    match error:
        case Refused():
            status, detail = error.status, error.detail
        case HTTPException():
            status, detail = error.code or 500, error.description or error.name
        case UnknownJobError() | UnknownModelError() | UnknownVersionError():
            status, detail = 404, str(error)
        case ChampionMovedError():
            status, detail = 409, str(error)
        case InputError() | HoldfastError():
            status, detail = 400, str(error)
        case _:
            logger("watcher").exception("request_failed", path=request.path)
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    answer = Response(msgspec.json.encode(body), status, content_type="application/problem+json")
    if status == HTTPStatus.UNAUTHORIZED:
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer
