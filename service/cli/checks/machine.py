"""Checks of the machine: Python and packages, extras, the clock, the disk, permissions."""

import importlib.metadata
import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from models.base.errors import HoldfastError
from models.versions.registry import Registry
from service.cli.checks.extras import INSTALL, missing_for_training
from service.cli.checks.findings import Finding, failed, noted, passed
from service.configuration.settings import Settings

LEAST_PYTHON = (3, 11)
PACKAGES = ("onnxruntime", "flask", "gunicorn", "dbos", "prometheus-client")
FREE_BYTES = 1 << 30  # as the alert HoldfastStateDiskLow has it
AHEAD_SECONDS = 60.0  # that a file may be newer than now
MADE_IN = 1_767_225_600.0  # 2026-01-01: no clock that is right shows less
SHOWN_PATHS = 3


def check_packages() -> Iterator[Finding]:
    """Python, what is installed, and the extras."""
    version = sys.version.split()[0]
    if sys.version_info >= LEAST_PYTHON:
        yield passed("python", version)
    else:
        yield failed("python", version, "install Python 3.11 or newer, and make a new environment")
    for name in PACKAGES:
        try:
            yield passed(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield failed(name, "is not installed", "pip install --force-reinstall holdfast")
    if importlib.util.find_spec("gunicorn_h1c") is not None:
        yield passed("gunicorn_h1c", "it reads HTTP, instead of gunicorn")
    if missing := missing_for_training():
        yield noted("training", f"{missing.partition(':')[0]}: it only serves and scores", INSTALL)
    else:
        yield passed("training", "torch, onnx and scikit-learn are there")


def check_clock(settings: Settings, now: float | None = None) -> Finding:
    """Whether the clock is right as far as the state can tell: nothing there is from the future."""
    now = time.time() if now is None else now
    fix = "set the clock (timedatectl set-ntp true, or chronyd), then start again"
    if now < MADE_IN:
        return failed("clock", f"it shows {_utc(now)}, before this program was made", fix)
    for path in _newest(settings):
        ahead = path.stat().st_mtime - now
        if ahead > AHEAD_SECONDS:
            detail = f"it shows {_utc(now)}, and {path} was written {ahead:.0f} s later"
            return failed("clock", detail, fix)
    return passed("clock", f"{_utc(now)}; nothing in the state is from later")


def check_disk(settings: Settings) -> Finding:
    """Whether there is space left for records, versions and jobs."""
    base = _existing(Path(settings.state))
    free = shutil.disk_usage(base).free
    detail = f"{free / 2**30:.1f} GiB free at {base}"
    if free < FREE_BYTES:
        fix = "keep less (HOLDFAST_RECORD_BYTES_KEPT), or give the state a larger disk"
        return failed("disk", detail, fix)
    return passed("disk", detail)


def check_permission(settings: Settings, may: Callable[[Path, int], bool] = os.access) -> Finding:
    """Whether this user may read and write the state directory and what lies in it.

    Args:
        settings: name the directory.
        may: whether a path may be used so; `os.access`.
    """
    state = Path(settings.state)
    base = _existing(state)
    closed = [base] if not may(base, os.W_OK | os.X_OK) else []
    if not closed and state.exists():
        ours = dict.fromkeys(_ours(settings, may))
        closed = [path for path in ours if not may(path, _needed(path))]
    if not closed:
        return passed("permission", f"{state.absolute()} may be written")
    named = ", ".join(str(path) for path in closed[:SHOWN_PATHS])
    more = f" and {len(closed) - SHOWN_PATHS} more" if len(closed) > SHOWN_PATHS else ""
    detail = f"user {os.geteuid()} may not use {named}{more}"
    fix = f"chown -R {os.geteuid()} {closed[0]}, or run as the user that the files belong to"
    return failed("permission", detail, fix)


def _needed(path: Path) -> int:
    return os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0)


def _ours(settings: Settings, may: Callable[[Path, int], bool]) -> Iterable[Path]:
    """The folders and files of the state that are changed; the files of versions never are.

    What lies in a folder that may not be listed is left out: the folder itself is what is wrong.
    """
    state = Path(settings.state)
    for folder in (state, settings.registry_dir, settings.metrics_dir, state / "jobs"):
        if folder.is_dir():
            yield folder
            if may(folder, os.R_OK | os.X_OK):
                yield from sorted(p for p in folder.iterdir() if p != settings.registry_dir)


def _newest(settings: Settings) -> Iterator[Path]:
    """Files whose times tell when somebody last wrote here."""
    state = Path(settings.state)
    if state.is_dir():
        yield from (path for path in state.iterdir() if path.is_file())
    try:
        registry = Registry(settings.registry_dir)
        for model in registry.models():
            for version in registry.versions(model):
                yield registry.path(model, version)
    except (HoldfastError, OSError):
        return  # the check of the models says what is wrong there


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def _utc(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
