"""The addresses of the Open Inference Protocol (KServe V2) itself.

Its extensions (statistics, the model repository) have modules of their own.
"""

from collections.abc import Callable, Sequence

from service.fleet.served_models import Champions
from service.pipeline import Decoded, Pipeline, Scored
from service.protocols.v2.binary import HEADER
from service.protocols.v2.codec import WantedOutput, answered_by, decode_infer, encode_infer
from service.protocols.v2.metadata import configuration, metadata, version_of
from service.web.call import Call, Endpoint
from service.web.reply import Reply, json_reply

EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "statistics",
)
OF_MODEL = ("/v2/models/<model>", "/v2/models/<model>/versions/<version>")


def endpoints(
    pipeline: Pipeline,
    champions: Champions,
    ready: Callable[[], bool],
    *,
    version: str,
) -> tuple[Endpoint, ...]:
    """Return the endpoints of server, health, models and inference.

    Args:
        pipeline: answers a prediction.
        champions: the served models; their errors are the answers.
        ready: whether predictions can be answered.
        version: of this program.
    """

    find = champions.find

    def server(call: Call) -> Reply:
        return json_reply({"name": "holdfast", "version": version, "extensions": EXTENSIONS})

    def live(call: Call) -> Reply:
        return json_reply({"live": True})

    def server_ready(call: Call) -> Reply:
        now = ready()
        return json_reply({"ready": now}, 200 if now else 503)

    def model_metadata(call: Call, model: str, version: str | None = None) -> Reply:
        return json_reply(metadata(version_of(find(model), version).manifest))

    def model_ready(call: Call, model: str, version: str | None = None) -> Reply:
        runs = not version_of(find(model), version).runner.failing
        return json_reply({"name": model, "ready": runs}, 200 if runs else 503)

    def config(call: Call, model: str, version: str | None = None) -> Reply:
        served = version_of(find(model), version)
        return json_reply(configuration(served.manifest, served.max_rows))

    def infer(call: Call, model: str, version: str | None = None) -> Reply:
        if version is None:
            served = champions.choose(model, call)
        else:
            served = version_of(find(model), version)
        outputs: Sequence[WantedOutput] = ()
        given_id = ""

        def decode() -> Decoded:
            nonlocal outputs, given_id
            header, length = call.id(), call.header(HEADER)
            schema, max_rows = served.manifest.input, served.max_rows
            request = decode_infer(
                call.body(), schema, max_rows, length, answered_by(served.manifest)
            )
            outputs, given_id = request.outputs, request.given_id
            return Decoded(request.x, request.id or header)

        def encode(scored: Scored) -> Reply:
            return encode_infer(scored, outputs, given_id)

        return pipeline.handle(served, call.caller, decode, encode)

    return (
        *(Endpoint("GET", rule, server) for rule in ("/v2", "/v2/")),
        Endpoint("GET", "/v2/health/live", live),
        Endpoint("GET", "/v2/health/ready", server_ready),
        *(Endpoint("GET", rule, model_metadata) for rule in OF_MODEL),
        *(Endpoint("GET", f"{rule}/ready", model_ready) for rule in OF_MODEL),
        *(Endpoint("GET", f"{rule}/config", config) for rule in OF_MODEL),
        *(Endpoint("POST", f"{rule}/infer", infer, "predict", hot=True) for rule in OF_MODEL),
    )
