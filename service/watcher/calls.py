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
from service.watcher.demo import Demo
from service.watcher.overview import describe_all, draw
from service.web.call import Call, Endpoint
from service.web.errors import ConflictError, UnavailableError
from service.web.page_headers import page_headers
from service.web.reply import Reply, json_reply

STYLES = re.compile("<style>(.*?)</style>", re.DOTALL)


def endpoints(
    watcher: Watcher,
    handled: HandledAlerts,
    clock: Callable[[], float],
    demo: Demo | None = None,
    *,
    mode: str = "auto",
    min_labels: int = 300,
) -> tuple[Endpoint, ...]:
    """The addresses; `watcher` may tick in another thread.

    Args:
        watcher: that is asked.
        handled: alerts that were handled before.
        clock: seconds since 1970.
        demo: sends the traffic of the demonstration; None: there is none.
        mode, min_labels: settings of the loop that people are told.
    """
    shown = demo or Demo(watcher.registry, "", lambda: True)
    changes = Changes(watcher, clock, shown)

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

    def overview(call: Call) -> Reply:
        return json_reply(describe_all(watcher, shown, mode, min_labels, clock()))

    def history(call: Call) -> Reply:
        return json_reply(draw(watcher.pictures.of, call.argument("model"), call.argument("span")))

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
        Endpoint("GET", "/overview", say_what_passes(overview)),
        Endpoint("GET", "/history", history),
        Endpoint("GET", "/jobs", say_what_passes(jobs)),
        Endpoint("GET", "/jobs/<job_id>", say_what_passes(job)),
        Endpoint("GET", "/jobs/<job_id>/verdict", say_what_passes(verdict)),
        Endpoint("POST", "/alerts", alerts, "alert"),
        *changes.endpoints(),
    )
