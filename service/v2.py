"""The addresses of the Open Inference Protocol (KServe V2)."""

from collections.abc import Callable, Sequence

from service.call import Call, Endpoint, Reply, json_reply
from service.errors import NotFoundError, RequestError, shown
from service.pipeline import Decoded, Pipeline, Scored, Served
from service.v2_codec import ANSWERED, NO_BINARY, decode_infer, encode_infer, metadata


def endpoints(
    pipeline: Pipeline,
    find: Callable[[str | None], Served],
    ready: Callable[[], bool],
    *,
    version: str,
) -> tuple[Endpoint, ...]:
    """All addresses below /v2; bodies are JSON whatever the content type says."""

    def server(call: Call) -> Reply:
        return json_reply({"name": "holdfast", "version": version, "extensions": []})

    def live(call: Call) -> Reply:
        return json_reply({"live": True})

    def server_ready(call: Call) -> Reply:
        now = ready()
        return json_reply({"ready": now}, 200 if now else 503)

    def model_metadata(call: Call, model: str, version: str | None = None) -> Reply:
        return json_reply(metadata(_version_of(find(model), version).manifest))

    def model_ready(call: Call, model: str, version: str | None = None) -> Reply:
        _version_of(find(model), version)
        return json_reply({"name": model, "ready": True})

    def infer(call: Call, model: str, version: str | None = None) -> Reply:
        served = _version_of(find(model), version)
        if call.header("Inference-Header-Content-Length") is not None:
            raise RequestError(NO_BINARY)
        outputs: Sequence[str] = ANSWERED

        def decode() -> Decoded:
            nonlocal outputs
            header = call.id()
            decoded = decode_infer(call.body(), served.manifest.input, served.max_rows)
            outputs = decoded.outputs
            return Decoded(decoded.x, decoded.id or header)

        def encode(scored: Scored) -> Reply:
            return encode_infer(scored, outputs)

        return pipeline.handle(served, call.caller, decode, encode)

    of_model = "/v2/models/<model>", "/v2/models/<model>/versions/<version>"
    return (
        Endpoint("GET", "/v2", server),
        Endpoint("GET", "/v2/health/live", live),
        Endpoint("GET", "/v2/health/ready", server_ready),
        *(Endpoint("GET", rule, model_metadata) for rule in of_model),
        *(Endpoint("GET", f"{rule}/ready", model_ready) for rule in of_model),
        *(Endpoint("POST", f"{rule}/infer", infer, "predict", hot=True) for rule in of_model),
    )


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
