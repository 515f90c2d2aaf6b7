"""A runner that notes whether its model still runs, and limits how many runs are under way.

Only a run that raises costs anything extra. Then a canned row is run. If that fails too, the model
counts as failing and the worker is not ready until a later trial succeeds (the reload thread
tries). If it succeeds, the rows of the request or a short lack of memory were the cause; so no
client can make the worker look broken.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from models.base.logs import logger
from models.versions.bundle import Bundle
from models.versions.runner import Answer, Runner
from models.versions.schema import DTYPES, InputArray
from service.configuration.model_specs import Slots
from service.web.errors import UnavailableError

LOG_EVERY_SECONDS = 1.0


class LiveRunner(Runner):
    """`failing` says why the model does not run, and is empty while it does.

    Args:
        bundle: verified; its model bytes are dropped once onnxruntime has read them.
        threads: of onnxruntime.
        failed: called for every run that fails.
        slots: limits the runs at once in this worker; None: as many as there are threads.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int = 1,
        failed: Callable[[], object] = lambda: None,
        slots: Slots | None = None,
    ) -> None:
        self.failing = ""
        self._failed = failed
        self._slots: Slots | None = None  # nor yet: the warm-up takes no request's place
        self._canned: InputArray | None = None  # none yet: the warm-up tells its own errors
        self._quiet_until = 0.0
        self._trying = threading.Lock()
        super().__init__(bundle, threads=threads)
        self._slots = slots
        self.bundle = replace(bundle, model_bytes=b"")
        schema = bundle.manifest.input
        row = np.broadcast_to(schema.offset, (1, *schema.shape))
        self._canned = row.astype(DTYPES[schema.dtype])

    def run(self, x: InputArray) -> Answer:
        """Answer `(N, *shape)` raw inputs that have passed `InputSchema.check`.

        Raises:
            UnavailableError: onnxruntime cannot run it, or too many runs are under way.
        """
        try:
            if self._slots is None:
                return super().run(x)
            with self._slots:
                return super().run(x)
        except UnavailableError:
            raise
        except Exception as error:  # onnxruntime raises a family of pybind classes
            if self._canned is None:
                raise
            self._note(x, error)
            manifest = self.manifest
            raise UnavailableError(
                f"version {manifest.version} of model {manifest.model!r} could not run; "
                "the log of the service says why"
            ) from error

    def trial(self) -> bool:
        """Run a canned row and set `failing`; returns whether it ran."""
        assert self._canned is not None
        with self._trying:
            try:
                super().run(self._canned)
            except Exception as error:  # as above
                self.failing = str(error) or type(error).__name__
            else:
                self.failing = ""
        return not self.failing

    def _note(self, x: InputArray, error: Exception) -> None:
        self._failed()
        runs = self.trial()
        if time.monotonic() < self._quiet_until:
            return
        self._quiet_until = time.monotonic() + LOG_EVERY_SECONDS
        logger("runner").error(
            "run_failed", model=self.manifest.model, version=self.manifest.version, rows=len(x),
            reason=str(error), canned_row_runs=runs,
        )  # fmt: skip
