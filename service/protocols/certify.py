"""`POST /certify`: how far a row can be changed before the smoothed answer may change.

A certificate takes about a thousand runs of the model, so the runs of a request are limited, and a
worker computes one request at a time. Such a request is a question about the model and not traffic:
it is not counted into cells, scored or recorded.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from secrets import randbits
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from models.base.errors import InputError, show_value
from models.base.json_body import decode_body
from models.versions.schema import InputArray, InputSchema, Manifest
from service.decoding.codec import read_instances
from service.fleet.served import Served
from service.pipeline import new_id
from service.web.call import Call, Endpoint
from service.web.errors import UnavailableError
from service.web.reply import Reply, json_reply

if TYPE_CHECKING:
    from models.evaluation.certify import Certificate

SELECTION = 100  # noisy copies that choose the class, before those that the bound rests on
LARGEST_ALPHA = 0.5


class CertifyBody(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON body."""

    instances: msgspec.Raw
    sigma: float | None = None
    samples: int | None = None
    alpha: float | None = None


class Smoothing(NamedTuple):
    """How a row is certified; a member that is missing or null has the default of this record."""

    sigma: float = 0.25  # in units of the model's range
    samples: int = 1000
    alpha: float = 0.001


_decoder = msgspec.json.Decoder(CertifyBody)


def endpoints(find: Callable[[str | None], Served], max_runs: int) -> tuple[Endpoint, ...]:
    """Return the endpoint.

    Args:
        find: returns the served version of a model, or of the only one.
        max_runs: the most noisy rows that a request may need.
    """
    free = threading.Lock()

    def certify(call: Call) -> Reply:
        served = find(call.argument("model"))
        request_id = call.id()
        call.require_json()
        body = decode_body(_decoder, call.body())
        smoothing = _smoothing(body, max_runs)
        x = _rows(body, smoothing, served.manifest.input, served.max_rows, max_runs)
        with _alone(free):
            certificates, most = _certify_rows(served, x, smoothing)
        manifest, name = served.manifest, request_id or new_id()
        document = _answer(name, manifest, smoothing, certificates, most)
        return json_reply(document, id=name, model=manifest.model, version=manifest.version)

    return (Endpoint("POST", "/certify", certify, "predict"),)


def _smoothing(body: CertifyBody, max_runs: int) -> Smoothing:
    """Read and check the parameters of a body."""
    members = {name: getattr(body, name) for name in Smoothing._fields}
    smoothing = Smoothing(**{name: value for name, value in members.items() if value is not None})
    if not 1 <= smoothing.samples <= max_runs:
        raise InputError("samples", f"1 to {max_runs}", show_value(smoothing.samples))
    if not 0 < smoothing.alpha <= LARGEST_ALPHA:
        raise InputError("alpha", f"above 0, at most {LARGEST_ALPHA:g}", f"{smoothing.alpha:g}")
    return smoothing


def _rows(
    body: CertifyBody, smoothing: Smoothing, schema: InputSchema, max_rows: int, max_runs: int
) -> InputArray:
    """Read the rows and check the cost, before any work is done."""
    x = read_instances(bytes(body.instances), schema, max_rows, "instances")
    if schema.kind == "tabular" and np.isnan(x).any():
        row, column = np.argwhere(np.isnan(x))[0]
        field = f"instances[{row}].{schema.columns[column].name}"
        raise InputError(field, "a number: an L2 length needs them all", "a missing value")
    each = smoothing.samples + SELECTION
    if len(x) * each > max_runs:
        raise InputError(
            "samples",
            f"at most {max_runs} noisy rows in a request (HOLDFAST_CERTIFY_MAX_RUNS)",
            f"{len(x)} x ({smoothing.samples} + {SELECTION}) = {len(x) * each}",
        )
    return x


@contextmanager
def _alone(free: threading.Lock) -> Iterator[None]:
    if not free.acquire(blocking=False):
        raise UnavailableError("this worker is computing another certificate")
    try:
        yield
    finally:
        free.release()


def _certify_rows(
    served: Served, x: InputArray, smoothing: Smoothing
) -> tuple[list["Certificate"], float]:
    """Return a certificate for each row, and the largest radius that this many samples allow."""
    # SciPy is slow to import and large; a worker that is never asked need not have it.
    from models.evaluation.certify import certify, largest_radius

    # Noise that a client could foresee would not bound what that client can do.
    seed = randbits(64)
    certificates = [
        certify(
            served.runner,
            served.manifest.input,
            row,
            sigma=smoothing.sigma,
            samples=smoothing.samples,
            selection=SELECTION,
            alpha=smoothing.alpha,
            seed=(seed, index),
        )
        for index, row in enumerate(x)
    ]
    return certificates, largest_radius(*smoothing)


class RowCertificate(msgspec.Struct, frozen=True):
    """The certificate of a row; no label and index where the smoothed model abstains."""

    label: str | None
    index: int | None
    radius: float
    abstained: bool
    p_low: float
    samples: int


class CertifyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The certificates, and what they rest on."""

    model: str
    version: int
    id: str
    norm: str = "l2"
    unit: str
    sigma: float
    alpha: float
    largest_radius: float
    certificates: tuple[RowCertificate, ...]


def _answer(
    request_id: str,
    manifest: Manifest,
    smoothing: Smoothing,
    certificates: list["Certificate"],
    most: float,
) -> CertifyAnswer:
    return CertifyAnswer(
        model=manifest.model,
        version=manifest.version,
        id=request_id,
        unit=_unit(manifest.input),
        sigma=smoothing.sigma,
        alpha=smoothing.alpha,
        largest_radius=most,
        certificates=tuple(
            RowCertificate(
                label=None if each.index is None else manifest.classes[each.index],
                index=each.index,
                radius=each.radius,
                abstained=each.index is None,
                p_low=each.p_low,
                samples=each.samples,
            )
            for each in certificates
        ),
    )


def _unit(schema: InputSchema) -> str:
    """Say what a length of 1 means."""
    if schema.kind == "tabular":
        return "1 is the range that a column had in training"
    return f"1 is the whole range of a value ({schema.low:g} to {schema.high:g})"
