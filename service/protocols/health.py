"""Probes, metrics, and what is at `/`: the console for browsers, a summary for others."""

import re
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST

from service.fleet.served_models import Champions
from service.web.call import Call, Endpoint
from service.web.reply import Reply, json_reply


def is_ready(champions: Champions, draining: Path | None) -> bool:
    """Whether the service can take requests; false once it has begun to stop."""
    return champions.ready and not (draining is not None and draining.exists())


def wants_html(accept: str) -> bool:
    """Whether an `Accept` header names HTML, as that of browsers does and that of curl does not.

    >>> wants_html("text/html,application/xhtml+xml;q=0.9"), wants_html("*/*")
    (True, False)
    >>> wants_html("application/json, text/html;q=0")
    False
    """
    for part in accept.lower().split(","):
        kind, *parameters = (text.strip() for text in part.split(";"))
        refused = any(re.fullmatch(r"q=0(\.0*)?", text) for text in parameters)
        if kind in ("text/html", "application/xhtml+xml") and not refused:
            return True
    return False


CALLS = (
    "/predict", "/certify", "/v1", "/v2", "/feedback", "/metrics", "/healthz", "/readyz",
    "/openapi.json", "/docs",
)  # fmt: skip


def endpoints(
    champions: Champions,
    exposition: Callable[[], bytes],
    version: str,
    draining: Path | None = None,
    page: Callable[[], Reply] | None = None,
) -> tuple[Endpoint, ...]:
    """Return the endpoints.

    Args:
        champions: the served models.
        exposition: makes the text of the metrics.
        version: of the program.
        draining: a file that exists while the service stops.
        page: the console, which browsers get at `/`; None: there is none.
    """

    def healthz(call: Call) -> Reply:
        return json_reply({"status": "ok"})

    def readyz(call: Call) -> Reply:
        ready = is_ready(champions, draining)
        why_not = "stopping" if champions.ready else "a model is not loaded or does not run"
        document = {"status": "ready" if ready else why_not, "models": list_versions()}
        if ready:
            return json_reply(document)
        return json_reply(document, 503, headers=(("Retry-After", "1"),))

    def metrics(call: Call) -> Reply:
        return Reply(exposition(), media=CONTENT_TYPE_LATEST)

    def root(call: Call) -> Reply:
        if page is not None and wants_html(call.header("accept") or ""):
            return page()
        document = {"status": "alive", "name": "holdfast", "version": version}
        told = {**document, "models": list_versions(), "calls": CALLS}
        return json_reply(told, headers=(("Vary", "Accept"),))

    def list_versions() -> dict[str, int]:
        return {name: served.manifest.version for name, served in champions.served.items()}

    return (
        Endpoint("GET", "/healthz", healthz),
        Endpoint("GET", "/readyz", readyz),
        Endpoint("GET", "/metrics", metrics),
        Endpoint("GET", "/", root),
    )
