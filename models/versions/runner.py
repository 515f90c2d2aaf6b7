"""One onnxruntime run that answers prediction and scores."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from models.base.errors import BundleError
from models.base.logs import logger
from models.versions.bundle import Bundle
from models.versions.schema import DTYPES, InputArray

PROVIDER = "CPUExecutionProvider"  # sums in float32, on which certificates rest
log = logger("runner")


class Answer(NamedTuple):
    """Outputs of the instrumented graph for N rows, C classes, K channels."""

    probabilities: npt.NDArray[np.float32]  # (N, C)
    drift_p_value: npt.NDArray[np.float32]  # (N,)
    perturbation_likelihood: npt.NDArray[np.float32]  # (N,)
    corruption_likelihood: npt.NDArray[np.float32]  # (N,)
    cells: npt.NDArray[np.int32]  # (N, K)
    certified: npt.NDArray[np.bool_] | None = None  # (N,); None: not trained for certificates
    certified_eps: npt.NDArray[np.float32] | None = None  # (N,)


def session(model: bytes, threads: int = 1) -> ort.InferenceSession:
    """Make an onnxruntime CPU session that does not spin and uses at most `threads` threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(model, options, providers=[PROVIDER])


def in_pieces(
    run: Callable[[InputArray], Sequence[npt.NDArray[np.generic] | None]],
    x: InputArray,
    rows: int = 512,
) -> list[Any]:
    """Call `run` on pieces of `(N, *shape)`, so that memory is bounded, and join the results.

    A result that is None stays None.
    """
    parts = [run(x[start : start + rows]) for start in range(0, len(x), rows)]
    columns = zip(*parts, strict=True)
    return [None if column[0] is None else np.concatenate(column) for column in columns]


class Runner:
    """A loaded and warmed bundle. `run` may be called from several threads."""

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        self.bundle = bundle
        self.manifest = bundle.manifest
        self._outputs = list(bundle.manifest.outputs)
        try:
            self._session = session(bundle.model_bytes, threads)
        except Exception as error:  # onnxruntime raises a family of pybind classes
            raise BundleError(bundle.path, f"onnxruntime cannot load the model: {error}") from error
        self._void = self._find_what_voids_certificates()
        self._check_and_warm()

    def run(self, x: InputArray) -> Answer:
        """Answer `(N, *shape)` raw inputs that have passed `InputSchema.check`."""
        answer = Answer(*self._session.run(self._outputs, {self.manifest.input.name: x}))
        if self._void:
            none = np.zeros(len(x), np.float32)
            return answer._replace(certified=none.astype(np.bool_), certified_eps=none)
        return answer

    def _find_what_voids_certificates(self) -> bool:
        """Whether the bounds' roundings are not those that the graph was built for; says so."""
        providers = self._session.get_providers()
        if self.manifest.certificate is None or providers == [PROVIDER]:
            return False
        log.warning(
            "certificates_off",
            model=self.manifest.model,
            version=self.manifest.version,
            why=f"proofs are for {PROVIDER} alone, this session runs on {', '.join(providers)}",
        )
        return True

    def _check_and_warm(self) -> None:
        schema, path = self.manifest.input, self.bundle.path
        inputs = [i.name for i in self._session.get_inputs()]
        if inputs != [schema.name]:
            raise BundleError(path, f"the graph takes {inputs}, the manifest says {schema.name!r}")
        missing = set(self._outputs) - {o.name for o in self._session.get_outputs()}
        if missing:
            raise BundleError(path, f"the graph lacks the outputs {sorted(missing)}")
        for rows in (1, 2):
            # The least of every value's range, which every schema accepts.
            x = np.broadcast_to(schema.offset, (rows, *schema.shape)).astype(DTYPES[schema.dtype])
            try:
                answer = self.run(x)
            except Exception as error:  # as above
                raise BundleError(path, f"the graph refuses {x.shape}: {error}") from error
            if answer.probabilities.shape != (rows, len(self.manifest.classes)):
                raise BundleError(path, f"probabilities have shape {answer.probabilities.shape}")
            if answer.cells.shape != (rows, len(self.manifest.channels)):
                raise BundleError(path, f"cells have shape {answer.cells.shape}")
