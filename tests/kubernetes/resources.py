"""What `kubectl kustomize` makes of deploy/kubernetes, and the schemas it is held against."""

import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ops import ROOT, missing_programs

FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("one-node", "production", "keda", "kserve")
EXTRAS = ("prometheus-operator", "argo-rollouts", "kubeflow")
BUILDS = ("base", *(f"overlays/{name}" for name in OVERLAYS), *EXTRAS)
CRDS = (ROOT / "../shared/crds").resolve()
Resource = dict[str, Any]


@cache
def build_text(name: str) -> str:
    """The text that kustomize makes of a folder; skips where there is no kubectl."""
    if missing_programs("kubectl"):
        pytest.skip("kubectl is not installed (Debian: kubernetes-client)")
    command = ["kubectl", "kustomize", str(FOLDER / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(name: str) -> list[Resource]:
    """The resources that kustomize makes of a folder."""
    return list(yaml.safe_load_all(build_text(name)))


def one(name: str, kind: str, resource: str) -> Resource:
    """The resource of a folder of this kind and name."""
    (found,) = (
        each for each in build(name)
        if each["kind"] == kind and each["metadata"]["name"] == resource
    )  # fmt: skip
    return found


def pods(resources: list[Resource]) -> Iterator[tuple[str, Resource]]:
    """The pods that resources lead to: kind and name, and the pod's `spec`."""
    for each in resources:
        where = f"{each['kind']} {each['metadata']['name']}"
        if each["kind"] in ("Deployment", "StatefulSet"):
            yield where, each["spec"]["template"]["spec"]
        elif each["kind"] == "CronJob":
            yield where, each["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        elif each["kind"] == "ServingRuntime":
            yield where, each["spec"]


def containers(pod: Resource) -> list[Resource]:
    """All containers of a pod, those of its start, too."""
    return [*pod.get("initContainers", ()), *pod["containers"]]


@cache
def custom_schemas() -> Mapping[tuple[str, str], Resource]:
    """The schemas of other projects' resources, by `apiVersion` and kind."""
    found: dict[tuple[str, str], Resource] = {}
    for path in sorted(CRDS.glob("*.yaml")):
        for crd in yaml.load_all(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader):
            spec = crd["spec"]
            for version in spec["versions"]:
                name = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                found[name] = close_schema(version["schema"]["openAPIV3Schema"])
    return found


def close_schema(schema: Any) -> Any:
    """A schema in which an object has only the members that it names.

    A server drops unknown members of custom resources without a word; here they are errors.

    >>> close_schema({"properties": {"a": {}}})["additionalProperties"]
    False
    >>> close_schema({"properties": {"a": {}}, "x-kubernetes-preserve-unknown-fields": True})
    {'properties': {'a': {}}, 'x-kubernetes-preserve-unknown-fields': True}
    """
    if isinstance(schema, list):
        return [close_schema(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {
        key: {name: close_schema(each) for name, each in value.items()}
        if key == "properties"
        else close_schema(value)
        for key, value in schema.items()
    }
    keeps = schema.get("x-kubernetes-preserve-unknown-fields", False)
    # A bare object, as `metadata` is: the server knows its members.
    if schema.get("properties") and not keeps and "additionalProperties" not in schema:
        closed["additionalProperties"] = False
    return closed


def program_version() -> str:
    """The version of the program, which is the tag of its images."""
    line = next(
        line for line in (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
        if line.startswith("version = ")
    )  # fmt: skip
    return line.split('"')[1]


def text_of(*parts: str) -> str:
    """A file of the manifests."""
    return Path(FOLDER, *parts).read_text(encoding="utf-8")
