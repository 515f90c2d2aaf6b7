"""The model repository extension of V2: the index of models, load and unload.

Sources: Triton's `extension_model_repository`, and for the answers Triton's server.
"""

from typing import TypeVar

import msgspec

from models.base.errors import show_value
from models.base.json_body import decode_body
from service.decoding.json_amount import MOST_OBJECTS, check_count
from service.fleet.served_models import Champions, ModelState
from service.web.call import Call, Endpoint
from service.web.errors import RequestError
from service.web.reply import Reply, json_reply

READY = "READY"
T = TypeVar("T")


class IndexBody(msgspec.Struct):
    """The JSON body of an index request."""

    ready: bool | None = None


class ChangeBody(msgspec.Struct):
    """The JSON body of a request to load or unload."""

    parameters: dict[str, msgspec.Raw] | None = None


_index_decoder = msgspec.json.Decoder(IndexBody)
_change_decoder = msgspec.json.Decoder(ChangeBody)


def endpoints(champions: Champions) -> tuple[Endpoint, ...]:
    """Return the endpoints below /v2/repository."""

    def list_index(call: Call) -> Reply:
        body = _body(call, _index_decoder)
        only_ready = body is not None and bool(body.ready)
        entries = [
            _entry(each) for each in champions.index() if each.state == READY or not only_ready
        ]
        return json_reply(entries)

    def load_model(call: Call, model: str) -> Reply:
        body = _body(call, _change_decoder)
        _refuse_parameters(body, ())
        champions.load(model)
        return json_reply(b"")

    def unload_model(call: Call, model: str) -> Reply:
        # No model depends on another, so `unload_dependents` has no effect.
        _refuse_parameters(_body(call, _change_decoder), ("unload_dependents",))
        champions.unload(model)
        return json_reply(b"")

    return (
        Endpoint("POST", "/v2/repository/index", list_index, "admin"),
        Endpoint("POST", "/v2/repository/models/<model>/load", load_model, "admin"),
        Endpoint("POST", "/v2/repository/models/<model>/unload", unload_model, "admin"),
    )


def _entry(state: ModelState) -> dict[str, str]:
    version = {} if state.version is None else {"version": str(state.version)}
    return {"name": state.name, **version, "state": state.state, "reason": state.reason}


def _body(call: Call, decoder: msgspec.json.Decoder[T]) -> T | None:
    """Decode the body; None where it is empty."""
    body = call.body()
    check_count(body, b":", MOST_OBJECTS, "body", "members")
    return decode_body(decoder, body) if body.strip() else None


def _refuse_parameters(change: ChangeBody | None, ignored: tuple[str, ...]) -> None:
    """Refuse `config` and files: only a bundle defines a model, and none comes over HTTP."""
    for name in (change.parameters or ()) if change is not None else ():
        if name not in ignored:
            raise RequestError(
                f"parameters: expected none, got {show_value(name)}: a version is published with "
                "`holdfast train` or `holdfast wrap`, and never changed over the network"
            )
