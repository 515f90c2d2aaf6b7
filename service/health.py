"""Probes, metrics, and what stands at the root."""

from collections.abc import Callable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST

from service.call import Call, Endpoint, Reply, json_reply
from service.reload import Champions


def endpoints(
    champions: Champions, exposition: Callable[[], bytes], version: str
) -> tuple[Endpoint, ...]:
    """The addresses that machines look at."""

    def healthz(call: Call) -> Reply:
        return json_reply({"status": "ok"})

    def readyz(call: Call) -> Reply:
        ready = champions.ready
        document = {"status": "ready" if ready else "no model is loaded", "models": _versions()}
        if ready:
            return json_reply(document)
        return json_reply(document, 503, headers=(("Retry-After", "1"),))

    def metrics(call: Call) -> Reply:
        return Reply(exposition(), media=CONTENT_TYPE_LATEST)

    def root(call: Call) -> Reply:
        calls = ["/predict", "/certify", "/v2", "/feedback", "/metrics", "/healthz", "/readyz"]
        return json_reply(
            {"name": "holdfast", "version": version, "models": _versions(), "calls": calls}
        )

    def _versions() -> dict[str, Any]:
        return {name: served.manifest.version for name, served in champions.served.items()}

    return (
        Endpoint("GET", "/healthz", healthz),
        Endpoint("GET", "/readyz", readyz),
        Endpoint("GET", "/metrics", metrics),
        Endpoint("GET", "/", root),
    )
