"""One onnxruntime run that answers prediction and scores."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from models.base.errors import BundleError
from models.base.logs import logger
from models.versions.bundle import Bundle
from models.versions.schema import DTYPES, SCHEMA_VERSION, InputArray

PROVIDER = "CPUExecutionProvider"  # sums in float32, on which certificates rest
log = logger("runner")


class Answer(NamedTuple):
    """Outputs of the instrumented graph for N rows, C classes, K channels."""

    probabilities: npt.NDArray[np.float32]  # (N, C)
    drift_p_value: npt.NDArray[np.float32]  # (N,)
    perturbation_likelihood: npt.NDArray[np.float32]  # (N,)
    corruption_likelihood: npt.NDArray[np.float32]  # (N,)
    cells: npt.NDArray[np.int32]  # (N, K)
    suspicion: npt.NDArray[np.float32]  # (N,), 1 - p(clean)
    certified: npt.NDArray[np.bool_] | None = None  # (N,); None: not trained for certificates
    certified_eps: npt.NDArray[np.float32] | None = None  # (N,)


def densities_of(
    perturbation: npt.ArrayLike, corruption: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Densities of attacked and of corrupted rows over that of clean ones, `(N,)` each.

    The likelihoods are P = 2a / (1 + k + 2a) and Q = 2k / (1 + 2k + a) of the densities a, k; so
    k = Q (1 + r) / (2 (1 - Q) - Q r) with r = P / (2 (1 - P)), and a = r (1 + k).

    Args:
        perturbation, corruption: `(N,)` in [0, 1], each at equal prior odds.

    >>> a, k = densities_of([0.5, 0.0], [0.5, 0.0])
    >>> a.round(3).tolist(), k.round(3).tolist()
    ([1.0, 0.0], [1.0, 0.0])
    """
    most = 1 - 1e-6  # float32 has no finer ones
    p, q = (np.minimum(np.asarray(v, np.float64), most) for v in (perturbation, corruption))
    r = p / (2 * (1 - p))
    k = q * (1 + r) / np.maximum(2 * (1 - q) - q * r, 1e-9)
    return r * (1 + k), k


def suspicion_of(
    perturbation: npt.NDArray[np.float32], corruption: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """The suspicion that both likelihoods imply, for graphs that do not answer it.

    It is (a + k) / (2 + a + k) with the densities a, k of `densities_of`.

    Args:
        perturbation, corruption: `(N,)` in [0, 1], each at equal prior odds.

    >>> suspicion_of(np.float32([0.5, 0.0]), np.float32([0.5, 0.0])).round(3).tolist()
    [0.5, 0.0]
    """
    attacked, corrupted = densities_of(perturbation, corruption)
    odds = attacked + corrupted
    suspicion: npt.NDArray[np.float32] = (odds / (2 + odds)).astype(np.float32)
    return suspicion


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
        self._derived = self.manifest.schema_version < SCHEMA_VERSION
        self._outputs = [
            name for name in bundle.manifest.outputs if not (self._derived and name == "suspicion")
        ]
        self._reach = self.manifest.input.reach
        try:
            self._session = session(bundle.model_bytes, threads)
        except Exception as error:  # onnxruntime raises a family of pybind classes
            raise BundleError(bundle.path, f"onnxruntime cannot load the model: {error}") from error
        self._void = self._find_what_voids_certificates()
        self._check_and_warm()

    def run(self, x: InputArray) -> Answer:
        """Answer `(N, *shape)` raw inputs that have passed `InputSchema.check`."""
        told = self._session.run(self._outputs, {self.manifest.input.name: x})
        if self._derived:
            told.append(suspicion_of(told[2], told[3]))
        answer = Answer(*told)
        if self._void:
            none = np.zeros(len(x), np.float32)
            return answer._replace(certified=none.astype(np.bool_), certified_eps=none)
        return answer

    def out_of_range(self, x: InputArray) -> npt.NDArray[np.bool_] | None:
        """`(N,)`: some number of the row lies beyond the range of training by more than a span.

        It needs no calibration. A missing value is not out of range. None for images.

        Args:
            x: `(N, D)` raw rows that have passed `InputSchema.check`.
        """
        if self._reach is None:
            return None
        low, high = self._reach
        return np.asarray(((x < low) | (x > high)).any(axis=1))

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
