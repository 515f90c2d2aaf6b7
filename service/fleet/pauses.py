"""Pauses between attempts to load a model: doubled after each failure, skipped on a change."""

import time
from dataclasses import dataclass

from service.fleet.overrides import Signature

FIRST_PAUSE_SECONDS = 15.0
LONGEST_PAUSE_SECONDS = 600.0


@dataclass(frozen=True)
class Failure:
    """Why a model could not be loaded from these files, and when to try again."""

    signature: Signature | None
    pause_seconds: float
    retry_at: float
    reason: str


class Pauses:
    """The failures of one worker, by model."""

    def __init__(self) -> None:
        self._failures: dict[str, Failure] = {}

    def waits(self, model: str, signature: Signature | None) -> bool:
        """Whether these files have failed and their pause is not over."""
        failure = self._of(model, signature)
        return failure is not None and time.monotonic() < failure.retry_at

    def note_failure(self, model: str, signature: Signature | None, reason: str) -> float:
        """Note a failure; returns the pause in seconds."""
        last, pause = self._of(model, signature), FIRST_PAUSE_SECONDS
        if last is not None:
            pause = min(2 * last.pause_seconds, LONGEST_PAUSE_SECONDS)
        self._failures[model] = Failure(signature, pause, time.monotonic() + pause, reason)
        return pause

    def reason(self, model: str) -> str:
        """Return why the last attempt failed; empty where it did not."""
        failure = self._failures.get(model)
        return failure.reason if failure else ""

    def forget(self, model: str | None = None) -> None:
        """Let the model, or all models, be tried at once."""
        if model is None:
            self._failures.clear()
        else:
            self._failures.pop(model, None)

    def _of(self, model: str, signature: Signature | None) -> Failure | None:
        failure = self._failures.get(model)
        return failure if failure is not None and failure.signature == signature else None
