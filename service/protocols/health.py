"""Probes, metrics, and the summary at `/`."""

from collections.abc import Callable
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST

from service.fleet.served_models import Champions
from service.web.call import Call, Endpoint
from service.web.reply import Reply, json_reply


def is_ready(champions: Champions, draining: Path | None) -> bool:
    """Whether the service can take requests; false once it has begun to stop."""
    return champions.ready and not (draining is not None and draining.exists())


CALLS = (
    "/predict", "/certify", "/v1", "/v2", "/feedback", "/metrics", "/healthz", "/readyz",
    "/openapi.json", "/docs",
)  # fmt: skip


def endpoints(
    champions: Champions,
    exposition: Callable[[], bytes],
    version: str,
    draining: Path | None = None,
) -> tuple[Endpoint, ...]:
    """Return the endpoints; the file `draining` exists while the service stops."""

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
        document = {"status": "alive", "name": "holdfast", "version": version}
        return json_reply({**document, "models": list_versions(), "calls": CALLS})

    def list_versions() -> dict[str, int]:
        return {name: served.manifest.version for name, served in champions.served.items()}

    return (
        Endpoint("GET", "/healthz", healthz),
        Endpoint("GET", "/readyz", readyz),
        Endpoint("GET", "/metrics", metrics),
        Endpoint("GET", "/", root),
    )
