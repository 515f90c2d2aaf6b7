"""Probes, metrics, and what stands at the root."""

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service.reload import Champions
from service.web import json_response


def blueprint(champions: Champions, exposition: Callable[[], bytes], version: str) -> Blueprint:
    """The addresses that machines look at."""
    routes = Blueprint("health", __name__)

    @routes.get("/healthz")
    def healthz() -> Response:
        return json_response({"status": "ok"})

    @routes.get("/readyz")
    def readyz() -> Response:
        ready = champions.ready
        document = {"status": "ready" if ready else "no model is loaded", "models": _versions()}
        response = json_response(document, 200 if ready else 503)
        if not ready:
            response.headers["Retry-After"] = "1"
        return response

    @routes.get("/metrics")
    def metrics() -> Response:
        return Response(exposition(), content_type=CONTENT_TYPE_LATEST)

    @routes.get("/")
    def root() -> Response:
        calls = ["/predict", "/certify", "/v2", "/feedback", "/metrics", "/healthz", "/readyz"]
        return json_response(
            {"name": "holdfast", "version": version, "models": _versions(), "calls": calls}
        )

    def _versions() -> dict[str, Any]:
        return {name: served.manifest.version for name, served in champions.served.items()}

    return routes
