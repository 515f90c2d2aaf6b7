"""The demonstration of the console: `holdfast traffic` with shifted data, as a child, for a while.

One at a time, only for models of the bundled data, and never where the service needs tokens. What
it sends is ordinary traffic: it is counted, recorded and labelled.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO

import msgspec

from models.base.errors import HoldfastError
from models.base.processes import child_environment, ends_with_parent
from models.versions.registry import Registry

SECONDS, RATE = 180.0, 20.0
STOP_PATIENCE = 5.0
SAID_BYTES = 400
SHIFTS = {"image": ("rotate:25", "turned by 25°"), "tabular": ("unit", "in other units")}


class DemoError(HoldfastError):
    """The demonstration cannot be started; says why."""


class DemoState(msgspec.Struct, frozen=True):
    """What the demonstration does; times are seconds since 1970.

    Args:
        running: whether it sends now; `model`, `shift`: what; `until`: when it ends by itself.
        words: the shift in words.
        failed: why the last one ended before its time; empty where it did not.
    """

    running: bool = False
    model: str = ""
    shift: str = ""
    words: str = ""
    until: float | None = None
    failed: str = ""


@dataclass
class Demo:
    """At most one child that sends; threads share one.

    Args:
        registry: of the models.
        service: URL of the service that is asked.
        needs_tokens: whether its calls need tokens.
        start: makes the child; for tests.
    """

    registry: Registry
    service: str
    needs_tokens: Callable[[], bool]
    start: Callable[..., "subprocess.Popen[bytes]"] = subprocess.Popen
    _child: "subprocess.Popen[bytes] | None" = None
    _said: IO[bytes] | None = None
    _state: DemoState = field(default_factory=DemoState)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, model: str) -> DemoState:
        """Start to send. Raises DemoError where that is not possible."""
        with self._lock:
            self._settle()
            if self._state.running:
                raise DemoError(f"a demonstration runs already, for {self._state.model}")
            if self.needs_tokens():
                raise DemoError(
                    "calls need tokens here, so this is no place for a demonstration; "
                    "`holdfast traffic --token-file FILE` sends the same"
                )
            shift, words = SHIFTS[self._kind_of(model)]
            self._said = tempfile.TemporaryFile()  # noqa: SIM115
            self._child = self.start(
                [
                    sys.executable, "-m", "service", "traffic", "--model", model, "--shift", shift,
                    "--labels", "--rate", f"{RATE:g}", "--seconds", f"{SECONDS:g}",
                    "--url", self.service,
                ],
                env=child_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                start_new_session=True,
                preexec_fn=ends_with_parent(signal.SIGTERM),
            )  # fmt: skip
            self._state = DemoState(True, model, shift, words, time.time() + SECONDS)
            return self._state

    def end(self) -> DemoState:
        """Stop sending; nothing to do where nothing is sent."""
        with self._lock:
            child = self._child
            if child is not None and child.poll() is None:
                child.send_signal(signal.SIGINT)
                try:
                    child.wait(STOP_PATIENCE)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()
            self._child = None
            self._take_words()
            self._state = DemoState()
            return self._state

    def state(self) -> DemoState:
        """What it does now."""
        with self._lock:
            self._settle()
            return self._state

    def _settle(self) -> None:
        """Note that the child has ended by itself."""
        if self._child is None or (status := self._child.poll()) is None:
            return
        self._child = None
        words = self._take_words()
        self._state = DemoState(failed="" if status in (0, -signal.SIGINT) else words)

    def _take_words(self) -> str:
        """The last line that the child has said; its file is closed."""
        said, self._said = self._said, None
        if said is None:
            return ""
        with said:
            said.seek(0, os.SEEK_END)
            said.seek(max(0, said.tell() - SAID_BYTES))
            lines = said.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it ended early, without a word"

    def _kind_of(self, model: str) -> str:
        champion = self.registry.aliases(model).champion
        if champion is None:
            raise DemoError(f"{model} has no champion")
        manifest = self.registry.manifest(model, champion)
        training = manifest.training
        if training is None or training.data.source.get("format") != "bundled":
            raise DemoError(
                f"{model} was not made of bundled data: a demonstration would send strangers to "
                "your own model; `holdfast traffic` does so if you want it"
            )
        return manifest.input.kind
