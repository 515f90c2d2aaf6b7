"""Both images, built from the Dockerfile as it is: an answer with scores, and a retraining."""

import importlib.metadata
import json
import os
import shutil
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tests.containers.buildah import Buildah, base_name
from tests.ops import free_port, missing_programs
from tests.postgres import Postgres, postgres
from tests.waiting import wait_until

MISSING = missing_programs("buildah", "debootstrap", "crun")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="buildah needs root here"),
]
MB = 1_000_000
LARGEST_SERVE = 600 * MB
SLIM_BASE = 125 * MB  # python:3.11-slim-bookworm unpacked, by its publisher
TRAINS_SECONDS = 1200.0
USER = 10001


@dataclass(frozen=True)
class Images:
    """The two images, in a store of their own."""

    store: Buildah
    base_bytes: int
    serve: str
    watch: str


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    folder = tmp_path_factory.mktemp("images")
    store = Buildah(folder)
    base = base_name()
    store.make_base(base)
    yield Images(store, store.size(base), store.build("serve"), store.build("watch"))
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as found:
        yield found


def listed(images: Images, image: str) -> dict[str, str]:
    """Versions by package URL without its version, of an image's bill of materials."""
    with images.store.mounted(image) as root:
        bom = json.loads((root / "opt/holdfast/sbom.cdx.json").read_text())
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    assert bom["metadata"]["component"]["name"] == image
    return {each["purl"].rsplit("@", 1)[0]: each["version"] for each in bom["components"]}


def test_images_hold_what_they_need_and_list_it(images: Images) -> None:
    serve, watch = listed(images, images.serve), listed(images, images.watch)
    assert serve["pkg:pypi/numpy"] == importlib.metadata.version("numpy")  # as pinned
    assert {"pkg:pypi/holdfast", "pkg:pypi/psycopg", "pkg:deb/debian/libc6"} <= set(serve)
    assert "pkg:pypi/torch" in watch
    heavy = {f"pkg:pypi/{name}" for name in ("torch", "onnx", "scikit-learn", "pip", "setuptools")}
    assert not heavy & set(serve)
    with images.store.mounted(images.serve) as root:
        assert not [*root.glob("usr/local/lib/python3*/site-packages/pip")]
        assert not [*root.glob("opt/holdfast/lib/python3*/site-packages/pip")]


def test_the_serving_image_is_small(images: Images) -> None:
    sizes = {name: images.store.size(name) for name in (images.serve, images.watch)}
    own = {name: size - images.base_bytes for name, size in sizes.items()}
    for name, size in own.items():
        print(f"{name}: {size / MB:.0f} MB on a base of {images.base_bytes / MB:.0f} MB here")
    assert own[images.serve] + SLIM_BASE <= LARGEST_SERVE


def ask(url: str, body: object = None) -> Any:
    """The JSON of an answer; None where nobody answers yet."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
    except OSError:
        return None


def test_a_scored_answer_and_a_retraining(images: Images, server: Postgres, tmp_path: Path) -> None:
    state, secret = tmp_path / "state", tmp_path / "password"
    state.mkdir()
    os.chown(state, USER, 0)
    secret.write_text("not asked for here\n", encoding="utf-8")
    ports = {"HOLDFAST_PORT": str(free_port()), "HOLDFAST_WATCH_PORT": str(free_port())}
    service, watcher = (f"http://127.0.0.1:{port}" for port in ports.values())
    env = ports | {
        "HOLDFAST_DATABASE_URL": f"{server.url}?password_file=/run/secrets/postgres_password",
        "HOLDFAST_SERVICE_URL": service,
        "HOLDFAST_SHADOW_SECONDS": "4",
        "HOLDFAST_PROBATION_SECONDS": "4",
        "OMP_NUM_THREADS": "1",
    }
    volumes = {state: "/state", secret: "/run/secrets/postgres_password:ro"}
    store = images.store
    with store.container(images.serve) as serving, store.container(images.watch) as watching:
        train = ("holdfast", "train", "digits", "--epochs", "10")
        store.run(watching, *train, volumes=volumes, env=env)
        owners = {path.stat().st_uid for path in state.rglob("*")}
        assert owners == {USER}
        with store.running(serving, "holdfast", "serve", volumes=volumes, env=env):
            wait_until(lambda: ask(f"{service}/readyz"), what="the service is ready")
            rows = np.asarray(load_digits().images[:1], np.float32)[:, None]
            answer = ask(f"{service}/predict", {"instances": rows.tolist()})
            (prediction,) = answer["predictions"]
            assert prediction["label"] == "0"
            assert 0 <= prediction["perturbation"]["likelihood"] <= 1
            assert 0 <= prediction["drift"]["p_value"] <= 1
            with store.running(watching, "holdfast", "watch", volumes=volumes, env=env):
                wait_until(lambda: ask(f"{watcher}/readyz"), what="the watcher has looked")
                options = json.dumps({"recipe": {"epochs": 3}})
                start = ("holdfast", "jobs", "start", "digits", "--kind", "retrain")
                store.run(
                    watching, *start, "--reason", "a test", "--options", options,
                    volumes=volumes, env=env,
                )  # fmt: skip
                made = state / "registry" / "digits" / "2" / "manifest.json"
                wait_until(made.exists, TRAINS_SECONDS, what="version 2 was trained")
