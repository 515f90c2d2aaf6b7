"""The V1 protocol: the REST interface of TensorFlow Serving, also used by KServe.

Rows are in `instances`, or in `inputs` as the only input of the model. Where the two servers
differ, answers have the members of both: to `inputs` TensorFlow Serving answers with `outputs` by
name, KServe with `predictions`; each has its own members for the state of a model.

Sources: TensorFlow Serving, "RESTful API"; KServe, "Data Plane (V1)", which leaves further members
of an answer to the server.
"""

from collections.abc import Sequence
from typing import TypedDict

import msgspec
import numpy as np
import numpy.typing as npt
import orjson

from models.base.errors import InputError, show_value
from models.base.json_body import decode_body
from service.decoding.images import MAX_PIXELS
from service.decoding.instances import read_rows_of, unwrap_member
from service.fleet.served import Served
from service.fleet.served_models import DOES_NOT_RUN, Champions
from service.pipeline import Decoded, Pipeline, Scored, column_of, verdict
from service.protocols.predict import Prediction, predictions
from service.protocols.v2.metadata import version_of
from service.web.call import Call, Endpoint
from service.web.errors import UnavailableError
from service.web.reply import Reply, json_reply

SIGNATURES = ("serving_default", "", None)


class V1Body(msgspec.Struct):
    """The JSON body of a prediction; an empty text and null mean that the member is missing."""

    instances: msgspec.Raw = msgspec.Raw()
    inputs: msgspec.Raw = msgspec.Raw()
    signature_name: str | None = None


_body = msgspec.json.Decoder(V1Body)


Column = npt.NDArray[np.generic] | list[str]


class V1Answer(TypedDict, total=False):
    """A prediction; a plain dictionary, because it is made for every request."""

    predictions: list[Prediction]
    outputs: dict[str, Column]
    model: str
    version: int
    id: str


class VersionError(msgspec.Struct, frozen=True):
    """Why a version failed to load; a served one has not failed."""

    error_code: str = "OK"
    error_message: str = ""


class VersionStatus(msgspec.Struct, frozen=True):
    """The state of a version, as TensorFlow Serving has it."""

    version: str
    state: str = "AVAILABLE"
    status: VersionError = VersionError()


class ModelStatus(msgspec.Struct, frozen=True):
    """The state of a model for the clients of both servers."""

    name: str
    ready: bool
    model_version_status: tuple[VersionStatus, ...]
    classes: Sequence[str]


def endpoints(
    pipeline: Pipeline, champions: Champions, max_pixels: int = MAX_PIXELS
) -> tuple[Endpoint, ...]:
    """Return the endpoints below /v1; bodies are read as JSON, whatever their media type."""

    def models(call: Call) -> Reply:
        return json_reply({"models": sorted(champions.served)})

    def status(call: Call, model: str, version: str | None = None) -> Reply:
        return json_reply(status_of(version_of(champions.find(model), version)))

    def predict(call: Call, model: str, version: str | None = None) -> Reply:
        if version is None:
            served = champions.choose(model, call)
        else:
            served = version_of(champions.find(model), version)
        field = ""

        def decode() -> Decoded:
            nonlocal field
            request_id = call.id()
            field, raw = read_body(call.body())
            if field == "inputs" and raw.lstrip().startswith(b"{"):
                raw = unwrap_member(raw, served.manifest.input.name, field)
            return Decoded(
                read_rows_of(raw, field, served.manifest.input, served.max_rows, call, max_pixels),
                request_id,
            )

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
    """Return the name and JSON text of the member with the rows. Raises InputError."""
    content = decode_body(_body, body)
    if content.signature_name not in SIGNATURES:
        raise InputError("signature_name", repr(SIGNATURES[0]), show_value(content.signature_name))
    members = (bytes(each) for each in (content.instances, content.inputs))
    instances, inputs = (b"" if each == b"null" else each for each in members)
    if bool(instances) == bool(inputs):
        raise InputError("instances", "either instances or inputs", "both" if inputs else "neither")
    return ("instances", instances) if instances else ("inputs", inputs)


def encode(scored: Scored, field: str) -> Reply:
    """Encode the objects of `/predict`, and after `inputs` also the outputs by name."""
    manifest = scored.manifest
    document: V1Answer = {"predictions": predictions(scored)}
    if field == "inputs":
        document["outputs"] = _columns(scored)
    document |= {"model": manifest.model, "version": manifest.version, "id": scored.id}
    return scored.reply(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY))


def status_of(served: Served) -> ModelStatus:
    """Return the state of a served model. Raises UnavailableError where it does not run."""
    manifest = served.manifest
    if served.runner.failing:
        raise UnavailableError(f"model {manifest.model!r} does not run: {DOES_NOT_RUN}")
    return ModelStatus(
        name=manifest.model,
        ready=True,
        model_version_status=(VersionStatus(str(manifest.version)),),
        classes=manifest.classes,
    )


def _columns(scored: Scored) -> dict[str, Column]:
    """Return the outputs of the graph, flags and labels, each with N rows."""
    classes, flags = scored.manifest.classes, scored.flags
    return {
        **{name: column_of(scored, name) for name in scored.manifest.outputs},
        "label": [classes[index] for index in scored.predicted],
        "drift_flagged": flags.drift,
        "perturbation_flagged": flags.perturbation,
        "suspicious": flags.suspicious,
        "verdict": list(map(verdict, flags.suspicious.tolist(), flags.attack.tolist())),
        "query_flagged": flags.query,
    }
