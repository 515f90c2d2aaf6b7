"""Running a model as it was given, or parts of it, on many rows."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import onnx
import onnxruntime as ort

from models.base.errors import AdaptError
from models.versions.runner import session
from models.versions.schema import InputSchema
from models.wrapping.graphs.edit import PREFIX, Array, Builder, with_outputs
from models.wrapping.graphs.read import first_line

CHUNK = 256
FATAL = 4  # onnxruntime's log: what it refuses is told by an error already


class Feed(Protocol):
    """A way to give raw rows to a model."""

    @property
    def words(self) -> dict[str, str]:
        """What the plan is, for people: `layout` and `scale`."""

    def feeds(self, x: Array) -> dict[str, Array]:
        """The model's inputs for raw rows `(N, *shape)`."""

    def emit(self, builder: Builder, x: str, schema: InputSchema) -> None:
        """Nodes that compute the same from the tensor `x`."""


class Runs:
    """A session that answers some tensors of a model.

    Args:
        model: any valid model.
        outputs: tensors to answer; all outputs of the model by default.
        batch: run exactly so many rows at a time (the last are repeated to fill up).
    """

    def __init__(
        self, model: onnx.ModelProto, outputs: Sequence[str] = (), *, batch: int | None = None
    ) -> None:
        declared = [output.name for output in model.graph.output]
        self.outputs = list(outputs) or declared
        self._batch = batch
        if not set(self.outputs) <= set(declared):
            model = with_outputs(model, self.outputs)
        try:
            self._session = session(model.SerializeToString())
        except Exception as error:  # onnxruntime raises a family of pybind classes
            raise AdaptError(f"onnxruntime cannot load the model: {_reason(error)}") from error
        self._quiet = ort.RunOptions()
        self._quiet.log_severity_level = FATAL

    def answer(self, feeds: dict[str, Array]) -> list[Any]:
        """The outputs for all rows: arrays `(N, ...)`, or lists of one entry per row.

        Raises:
            AdaptError: onnxruntime refuses the rows.
        """
        rows = len(next(iter(feeds.values())))
        size = self._batch or CHUNK
        parts = [
            self._some({k: v[at : at + size] for k, v in feeds.items()}, min(size, rows - at))
            for at in range(0, rows, size)
        ]
        return [_join_parts([part[i] for part in parts]) for i in range(len(self.outputs))]

    def _some(self, feeds: dict[str, Array], rows: int) -> list[Any]:
        if self._batch is not None and rows < self._batch:
            index = np.minimum(np.arange(self._batch), rows - 1)
            feeds = {name: values[index] for name, values in feeds.items()}
        try:
            answers = self._session.run(self.outputs, feeds, self._quiet)
        except Exception as error:  # as above
            shapes = ", ".join(f"{list(v.shape)} {v.dtype}" for v in feeds.values())
            raise AdaptError(f"the model refuses rows of {shapes}: {_reason(error)}") from error
        if self._batch is None:
            return list(answers)
        return [a[:rows] if np.ndim(a) or isinstance(a, list) else a for a in answers]


def _reason(error: Exception) -> str:
    """What onnxruntime says, with names as the user's own model has them."""
    return first_line(error).replace(PREFIX, "")


def _join_parts(parts: list[Any]) -> Any:
    if isinstance(parts[0], list):
        return [row for part in parts for row in part]
    return np.concatenate([np.atleast_1d(part) for part in parts])
