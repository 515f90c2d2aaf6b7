"""Images built and run by buildah, which needs no daemon and no registry; as root.

No registry is asked: debootstrap makes a stand-in for the Python image that the Dockerfile begins
with, so the Dockerfile is built as it is.
"""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.ops import ROOT
from tests.waiting import PATIENCE_SECONDS

BUILD_SECONDS = 3000.0
CERTIFICATES = "/etc/ssl/certs"


class Buildah:
    """A store of images and containers in a folder, removed with it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def call(self, *arguments: str, seconds: float = BUILD_SECONDS) -> str:
        """Run a subcommand to its end; what it printed.

        Raises:
            AssertionError: it failed; the message ends with what it said.
        """
        command = self._command(*arguments)
        done = subprocess.run(
            command, text=True, env=_env(), timeout=seconds, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, f"buildah {' '.join(arguments)}:\n{done.stdout[-6000:]}"
        return done.stdout

    def make_base(self, name: str) -> None:
        """Make Debian with Python, under the name that a Dockerfile's FROM asks for."""
        root = self._folder / "base"
        packages = "python3,python3-venv,python-is-python3,ca-certificates"
        command = ["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm"]
        with (self._folder / "debootstrap.log").open("wb") as log:
            subprocess.run([*command, str(root)], check=True, stdout=log, stderr=log)
        shutil.rmtree(root / "var/cache/apt/archives", ignore_errors=True)
        (self._folder / "Base").write_text("FROM scratch\nADD base /\n", encoding="utf-8")
        self.call("bud", "--file", str(self._folder / "Base"), "--tag", name, str(self._folder))

    def build(self, target: str) -> str:
        """Build a target of the project's Dockerfile; the image's name.

        pip in there trusts the certificates that this machine trusts, and looks into
        `PIP_FIND_LINKS`, if that is set, as pip does here.
        """
        name, wheels = f"holdfast-{target}", os.environ.get("PIP_FIND_LINKS")
        pip = self._folder / "pip.conf"
        cert = f"cert = {CERTIFICATES}/ca-certificates.crt"
        links = f"find-links = {wheels}" if wheels else ""
        pip.write_text(f"[global]\n{cert}\n{links}\n", encoding="utf-8")
        volumes = {str(pip): "/etc/pip.conf", CERTIFICATES: CERTIFICATES}
        if wheels:
            volumes[wheels] = wheels
        shared = [word for at, to in volumes.items() for word in ("--volume", f"{at}:{to}:ro")]
        self.call(
            "bud", "--pull-never", "--format", "docker", "--target", target, "--tag", name,
            *shared, str(ROOT),
        )  # fmt: skip
        return name

    def size(self, image: str) -> int:
        """Bytes of all files of an image, as it lies unpacked."""
        with self.mounted(image) as root:
            du = subprocess.run(
                ["du", "--summarize", "--block-size=1", str(root)],
                check=True, capture_output=True, text=True,
            )  # fmt: skip
        return int(du.stdout.split()[0])

    @contextmanager
    def mounted(self, image: str) -> Iterator[Path]:
        """A new container's files, to look at from outside."""
        with self.container(image) as container:
            yield Path(self.call("mount", container).strip().splitlines()[-1])

    @contextmanager
    def container(self, image: str) -> Iterator[str]:
        """A new container of an image; its id."""
        container = self.call("from", "--pull-never", image).strip().splitlines()[-1]
        try:
            yield container
        finally:
            self.call("rm", container)

    def run(
        self, container: str, *command: str, volumes: dict[Path, str], env: dict[str, str]
    ) -> str:
        """Run a command in a container to its end; what it printed."""
        return self.call("run", *_options(volumes, env), container, "--", *command)

    @contextmanager
    def running(
        self, container: str, *command: str, volumes: dict[Path, str], env: dict[str, str]
    ) -> Iterator[Path]:
        """Run a command in a container for as long as the block; where its log lies."""
        log = self._folder / f"{container}.log"
        full = self._command("run", *_options(volumes, env), container, "--", *command)
        with log.open("wb") as out:
            process = psutil.Popen(full, stdout=out, stderr=out, env=_env())
        try:
            yield log
        finally:
            for inner in process.children(recursive=True):  # the outer one does not pass signals on
                with contextlib.suppress(psutil.NoSuchProcess):
                    inner.terminate()
            process.wait(PATIENCE_SECONDS)

    def _command(self, *arguments: str) -> list[str]:
        store = ["--root", str(self._folder / "store"), "--runroot", str(self._folder / "run")]
        return ["buildah", "--storage-driver", "vfs", *store, *arguments]


def base_name() -> str:
    """The image that the Dockerfile begins with, in full."""
    first = re.search(r"^FROM (\S+) AS base$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert first, "the Dockerfile has no base"
    return f"docker.io/library/{first[1]}"


def _env() -> dict[str, str]:
    return os.environ | {"BUILDAH_ISOLATION": "chroot"}


def _options(volumes: dict[Path, str], env: dict[str, str]) -> list[str]:
    mounts = [word for path, at in volumes.items() for word in ("--volume", f"{path}:{at}")]
    return [*mounts, *(word for k, v in env.items() for word in ("--env", f"{k}={v}"))]
