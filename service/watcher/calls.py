"""What the watcher is asked: metrics and health by all, alerts and changes by who has a token."""

import re
from collections.abc import Callable
from http import HTTPStatus

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from monitoring.alerts import webhook
from monitoring.alerts.decisions import UndecidedError, decide_alerts
from monitoring.alerts.handled_alerts import HandledAlerts
from monitoring.loop.verdict_page import render_job
from monitoring.watching.status import describe_models
from monitoring.watching.watcher import Watcher
from service.watcher.changes import Changes, say_what_passes
from service.web.call import Call, Endpoint
from service.web.errors import ConflictError, UnavailableError
from service.web.page_headers import page_headers
from service.web.reply import Reply, json_reply

STYLES = re.compile("<style>(.*?)</style>", re.DOTALL)


def endpoints(
    watcher: Watcher, handled: HandledAlerts, clock: Callable[[], float]
) -> tuple[Endpoint, ...]:
    """The addresses; `watcher` may tick in another thread."""
    changes = Changes(watcher, clock)

    def healthz(call: Call) -> Reply:
        return json_reply({"status": "ok"})

    def readyz(call: Call) -> Reply:
        report = watcher.pulse.report()
        status = HTTPStatus.OK if report.is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        return json_reply(report, status)

    def metrics(call: Call) -> Reply:
        return Reply(generate_latest(watcher.metrics.registry), media=CONTENT_TYPE_LATEST)

    def models(call: Call) -> Reply:
        return json_reply(describe_models(watcher))

    def jobs(call: Call) -> Reply:
        return json_reply(watcher.jobs.all(call.argument("model")))

    def job(call: Call, job_id: str) -> Reply:
        return json_reply(changes.find(job_id))

    def verdict(call: Call, job_id: str) -> Reply:
        found = changes.find(job_id)
        if found.outcome is None:
            raise ConflictError(f"job {job_id} has not ended: it is {found.stage}")
        page = render_job(found)
        headers = page_headers(styles=STYLES.findall(page))
        return Reply(page.encode(), media="text/html; charset=utf-8", headers=headers)

    def alerts(call: Call) -> Reply:
        payload = webhook.parse(call.body())
        try:
            decisions = decide_alerts(payload, watcher, handled, clock)
        except UndecidedError as error:  # what has started is known: all may be sent again
            raise UnavailableError(str(error)) from None
        return json_reply({"alerts": decisions}, HTTPStatus.ACCEPTED)

    return (
        Endpoint("GET", "/healthz", healthz),
        Endpoint("GET", "/readyz", readyz),
        Endpoint("GET", "/metrics", metrics),
        Endpoint("GET", "/models", models),
        Endpoint("GET", "/jobs", say_what_passes(jobs)),
        Endpoint("GET", "/jobs/<job_id>", say_what_passes(job)),
        Endpoint("GET", "/jobs/<job_id>/verdict", say_what_passes(verdict)),
        Endpoint("POST", "/alerts", alerts, "alert"),
        *changes.endpoints(),
    )
