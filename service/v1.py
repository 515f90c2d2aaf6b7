"""The V1 protocol: the REST interface of TensorFlow Serving, which KServe speaks, too.

Rows stand in `instances`, or in `inputs` as the one input of the model. Where the two servers
differ, an answer serves the clients of both: to `inputs` TensorFlow Serving answers `outputs` by
name, KServe `predictions`; of a model's state each tells in members of its own.

Sources: TensorFlow Serving, "RESTful API"; KServe, "Data Plane (V1)", which leaves further members
of an answer to the server.
"""

import re
from typing import Any

import msgspec
import orjson

from models.errors import InputError
from models.schema import OUTPUTS, InputArray, InputSchema
from service.call import Call, Endpoint, Reply, json_reply
from service.codec import decode_body, read_instances
from service.errors import UnavailableError, shown
from service.images import MAX_PIXELS, Upload, decode_images, takes_images
from service.pipeline import Decoded, Pipeline, Scored, Served
from service.predict import predictions
from service.reload import DOES_NOT_RUN, Champions
from service.v2_model import version_of

SIGNATURES = ("serving_default", "")
_FILES = re.compile(rb'\s*\[\s*\{\s*"b64"\s*:')
_OBJECTS = re.compile(rb"\s*\[\s*\{")


class V1Body(msgspec.Struct):
    """The JSON body of a prediction; an empty text is a member that is missing."""

    instances: msgspec.Raw = msgspec.Raw()
    inputs: msgspec.Raw = msgspec.Raw()
    signature_name: str = ""


class Encoded(msgspec.Struct):
    """A file in base64."""

    b64: bytes


_body = msgspec.json.Decoder(V1Body)
_files = msgspec.json.Decoder(list[Encoded])
_named = msgspec.json.Decoder(dict[str, msgspec.Raw])
_named_rows = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


def endpoints(
    pipeline: Pipeline, champions: Champions, max_pixels: int = MAX_PIXELS
) -> tuple[Endpoint, ...]:
    """All addresses below /v1; bodies are JSON whatever the content type says."""

    def models(call: Call) -> Reply:
        return json_reply({"models": sorted(champions.served)})

    def status(call: Call, model: str, version: str | None = None) -> Reply:
        return json_reply(status_of(version_of(champions.find(model), version)))

    def predict(call: Call, model: str, version: str | None = None) -> Reply:
        served = version_of(champions.find(model), version)
        field = ""

        def decode() -> Decoded:
            nonlocal field
            request_id = call.id()
            field, raw = read_body(call.body())
            return Decoded(rows_of(raw, field, served, call, max_pixels), request_id)

        def encode_it(scored: Scored) -> Reply:
            return encode(scored, field)

        return pipeline.handle(served, call.caller, decode, encode_it)

    of_model = "/v1/models/<model>", "/v1/models/<model>/versions/<version>"
    return (
        Endpoint("GET", "/v1/models", models),
        *(Endpoint("GET", rule, status) for rule in of_model),
        *(Endpoint("POST", f"{rule}:predict", predict, "predict", hot=True) for rule in of_model),
    )


def read_body(body: bytes) -> tuple[str, bytes]:
    """The member of a body that holds the rows, and its JSON text. Raises InputError."""
    decoded = decode_body(_body, body)
    if decoded.signature_name not in SIGNATURES:
        raise InputError("signature_name", repr(SIGNATURES[0]), shown(decoded.signature_name))
    instances, inputs = bytes(decoded.instances), bytes(decoded.inputs)
    if bool(instances) == bool(inputs):
        raise InputError("instances", "either instances or inputs", "both" if inputs else "neither")
    return ("instances", instances) if instances else ("inputs", inputs)


def rows_of(raw: bytes, field: str, served: Served, call: Call, max_pixels: int) -> InputArray:
    """Rows as `(N, *shape)` in the schema's dtype, checked.

    Args:
        raw: JSON text of a list of rows, or of an object that holds them by the input's name.
            Rows of a picture may be `{"b64": ...}`: a PNG or JPEG file in base64.
        field: the member that holds it.
        served: what is asked.
        call: may say how pictures of another size are resized.
        max_pixels: the most pixels of all pictures.
    """
    schema = served.manifest.input
    raw = _unnamed(raw, schema, field)
    if not (takes_images(schema) and _FILES.match(raw)):
        return read_instances(raw, schema, served.max_rows, field)
    encoded = decode_body(_files, raw, field)
    files = [Upload(f"{field}[{row}].b64", each.b64) for row, each in enumerate(encoded)]
    return decode_images(
        files, schema, served.max_rows, resize=call.argument("resize"), max_pixels=max_pixels
    )


def encode(scored: Scored, field: str) -> Reply:
    """The objects of `/predict`, to `inputs` the outputs by name as well, and whose they are."""
    manifest = scored.manifest
    document: dict[str, Any] = {"predictions": predictions(scored)}
    if field == "inputs":
        document["outputs"] = _columns(scored)
    document |= {"model": manifest.model, "version": manifest.version, "id": scored.id}
    return scored.reply(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY))


def status_of(served: Served) -> dict[str, Any]:
    """What is known of a model that is served. Raises UnavailableError where it does not run."""
    manifest = served.manifest
    if served.runner.failing:
        raise UnavailableError(f"model {manifest.model!r} does not run: {DOES_NOT_RUN}")
    available = {
        "version": str(manifest.version),
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    return {"name": manifest.model, "ready": True, "model_version_status": [available]}


def _unnamed(raw: bytes, schema: InputSchema, field: str) -> bytes:
    """Without the input's name where the rows, or each row of a picture, are held by it."""
    if field == "inputs" and raw.lstrip().startswith(b"{"):
        return _held(decode_body(_named, raw, field), schema.name, field)
    if schema.kind == "image" and _OBJECTS.match(raw) and not _FILES.match(raw):
        rows = decode_body(_named_rows, raw, field)
        held = [_held(each, schema.name, f"{field}[{row}]") for row, each in enumerate(rows)]
        return b"[" + b",".join(held) + b"]"
    return raw


def _held(values: dict[str, msgspec.Raw], name: str, field: str) -> bytes:
    if list(values) != [name]:
        raise InputError(field, f"an object of one member, {name!r}", shown(list(values)[:3]))
    return bytes(values[name])


def _columns(scored: Scored) -> dict[str, Any]:
    """The outputs of the graph, flags and labels, each with N rows."""
    classes, flags = scored.manifest.classes, scored.flags
    return {
        **{name: getattr(scored.answer, name) for name in OUTPUTS},
        "label": [classes[index] for index in scored.predicted],
        "drift_flagged": flags.drift,
        "perturbation_flagged": flags.perturbation,
        "query_flagged": flags.query,
    }
