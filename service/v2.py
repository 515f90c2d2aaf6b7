"""The addresses of the Open Inference Protocol (KServe V2)."""

from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, request

from models.schema import InputSchema
from service.errors import NotFoundError, RequestError, shown
from service.pipeline import Decoded, Pipeline, Served
from service.v2_codec import NO_BINARY, decode_infer, encode_infer, metadata
from service.web import header_id, json_response, read_body


def blueprint(
    pipeline: Pipeline,
    find: Callable[[str | None], Served],
    ready: Callable[[], bool],
    client: Callable[[], str],
    *,
    max_rows: int,
    version: str,
) -> Blueprint:
    """All addresses below /v2; bodies are JSON whatever the content type says."""
    routes = Blueprint("v2", __name__)

    @routes.get("/v2")
    def server() -> Response:
        return json_response({"name": "holdfast", "version": version, "extensions": []})

    @routes.get("/v2/health/live")
    def live() -> Response:
        return json_response({"live": True})

    @routes.get("/v2/health/ready")
    def server_ready() -> Response:
        now = ready()
        return json_response({"ready": now}, 200 if now else 503)

    @routes.get("/v2/models/<model>")
    @routes.get("/v2/models/<model>/versions/<version>")
    def model_metadata(model: str, version: str | None = None) -> Response:
        return json_response(metadata(_version_of(find(model), version).manifest))

    @routes.get("/v2/models/<model>/ready")
    @routes.get("/v2/models/<model>/versions/<version>/ready")
    def model_ready(model: str, version: str | None = None) -> Response:
        _version_of(find(model), version)
        return json_response({"name": model, "ready": True})

    @routes.post("/v2/models/<model>/infer")
    @routes.post("/v2/models/<model>/versions/<version>/infer")
    def infer(model: str, version: str | None = None) -> Response:
        served = _version_of(find(model), version)
        if "Inference-Header-Content-Length" in request.headers:
            raise RequestError(NO_BINARY)
        outputs: Any = ()

        def decode(schema: InputSchema) -> Decoded:
            nonlocal outputs
            header = header_id()
            decoded = decode_infer(read_body(), schema, max_rows)
            outputs = decoded.outputs
            return Decoded(decoded.x, decoded.id or header)

        return json_response(
            pipeline.handle(served, client(), decode, lambda scored: encode_infer(scored, outputs))
        )

    return routes


def _version_of(served: Served, version: str | None) -> Served:
    manifest = served.manifest
    if version is not None and version != str(manifest.version):
        raise NotFoundError(
            f"model {manifest.model!r}: version {shown(version)} is not served; "
            f"served: {manifest.version}",
            field="version",
            expected=str(manifest.version),
            got=shown(version),
        )
    return served
