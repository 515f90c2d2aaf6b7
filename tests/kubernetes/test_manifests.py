"""deploy/kubernetes: valid for Kubernetes and for the custom resources, and true to the program."""

import re
from typing import Any

import jsonschema
import kubernetes_validate
import pytest

from service.configuration.settings import Settings, load
from service.configuration.settings_table import table
from tests.kubernetes.resources import (
    BUILDS,
    CRDS,
    EXTRAS,
    OVERLAYS,
    build,
    containers,
    custom_schemas,
    one,
    pods,
    program_version,
)
from tests.ops import ROOT
from tests.test_container_files import stage

# `autoscaling/v2` and `batch/v1` CronJobs with a time zone are from 1.27 on; and the newest.
VERSIONS = ("1.29", "1.32", kubernetes_validate.latest_version())
SETTINGS = {setting.variable for setting in table()}
SECRETS = {"database_url", "tokens.json", "admin_token", "alert_token"}
SERVICE, WATCHER = "service", "watcher"
COMPONENT = "app.kubernetes.io/component"
DOCUMENT = ROOT / "docs" / "kubernetes.md"


def is_custom(resource: dict[str, Any]) -> bool:
    group = resource["apiVersion"].partition("/")[0]
    return "." in group and not group.endswith(".k8s.io")


@pytest.mark.parametrize("name", BUILDS)
@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_accepts_every_resource_and_every_field(name: str, version: str) -> None:
    own = [each for each in build(name) if not is_custom(each)]
    for resource in own:
        kubernetes_validate.validate(resource, version, strict=True)
    assert own or name in EXTRAS


def test_a_field_that_kubernetes_does_not_know_is_found() -> None:
    resource = one("base", "Deployment", "holdfast-watch")
    resource["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(resource, VERSIONS[0], strict=True)


@pytest.mark.skipif(not CRDS.is_dir(), reason="needs the shared schemas of custom resources")
@pytest.mark.parametrize("name", BUILDS)
def test_custom_resources_fit_their_published_schemas(name: str) -> None:
    for resource in filter(is_custom, build(name)):
        schema = custom_schemas()[resource["apiVersion"], resource["kind"]]
        jsonschema.Draft4Validator(schema).validate(resource)


@pytest.mark.skipif(not CRDS.is_dir(), reason="needs the shared schemas of custom resources")
def test_a_field_that_a_custom_resource_does_not_have_is_found() -> None:
    resource = one("overlays/keda", "ScaledObject", "holdfast")
    resource["spec"]["minReplicas"] = 2
    schema = custom_schemas()["keda.sh/v1alpha1", "ScaledObject"]
    with pytest.raises(jsonschema.ValidationError, match="minReplicas"):
        jsonschema.Draft4Validator(schema).validate(resource)


def environments(name: str) -> dict[str, dict[str, Any]]:
    """The environment of each container: texts, or `valueFrom` where the value is a secret."""
    resources = build(name)
    maps = {r["metadata"]["name"]: r["data"] for r in resources if r["kind"] == "ConfigMap"}
    found: dict[str, dict[str, Any]] = {}
    for where, pod in pods(resources):
        for container in containers(pod):
            values = found[f"{where}/{container['name']}"] = {}
            for source in container["envFrom"]:
                values |= maps[source["configMapRef"]["name"]]
            for each in container.get("env", ()):
                values[each["name"]] = each.get("value", each.get("valueFrom"))
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_variable_is_a_setting_and_every_value_is_one_that_it_takes(overlay: str) -> None:
    for where, values in environments(f"overlays/{overlay}").items():
        assert set(values) <= SETTINGS, where
        texts = {k: v for k, v in values.items() if isinstance(v, str)}
        settings = load({**texts, "HOLDFAST_STATE": "."})
        assert settings.host == "0.0.0.0"
        assert settings.watch_port == 9108


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_run_with_few_rights_within_limits_and_with_images_of_this_version(
    overlay: str,
) -> None:
    found = dict(pods(build(f"overlays/{overlay}")))
    assert len(found) >= 3
    for where, pod in found.items():
        of_pod = pod.get("securityContext", {})
        for container in containers(pod):
            own = container["securityContext"]
            asked = {**of_pod, **own}
            assert asked["runAsNonRoot"], where
            assert (asked["runAsUser"], asked["runAsGroup"]) == (10001, 10001), where
            assert asked["seccompProfile"] == {"type": "RuntimeDefault"}, where
            assert not own["allowPrivilegeEscalation"], where
            assert own["readOnlyRootFilesystem"], where
            assert own["capabilities"] == {"drop": ["ALL"]}, where
            for kind in ("requests", "limits"):
                assert set(container["resources"][kind]) == {"cpu", "memory"}, where
            image, tag = container["image"].split(":")
            assert image in ("holdfast-serve", "holdfast-watch"), where
            assert tag == program_version(), where
            paths = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            assert {"/state", "/tmp"} <= set(paths), where
            volumes = {volume["name"]: volume for volume in pod["volumes"]}
            assert "emptyDir" in volumes[paths["/tmp"]], where
            assert set(paths.values()) <= set(volumes), where


def test_pods_of_the_overlays_run_as_the_images_do() -> None:
    for name in ("serve", "watch"):
        assert "USER 10001:10001" in stage(name)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_have_time_to_end_and_are_asked_what_they_answer(overlay: str) -> None:
    for where, pod in pods(build(f"overlays/{overlay}")):
        if where.startswith("CronJob"):
            assert pod["shareProcessNamespace"], where
            continue
        if not where.startswith("ServingRuntime"):
            assert pod["terminationGracePeriodSeconds"] > Settings().grace_seconds, where
            assert pod["enableServiceLinks"] is False, where
        (container,) = pod["containers"]
        assert container["livenessProbe"]["httpGet"]["path"] == "/healthz", where
        assert container["startupProbe"]["httpGet"]["path"] == "/healthz", where
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz", where
    drain = float(environments(f"overlays/{overlay}").popitem()[1]["HOLDFAST_DRAIN_SECONDS"])
    assert 2 < drain < Settings().grace_seconds


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_secrets_are_named_and_each_pod_gets_only_what_it_needs(overlay: str) -> None:
    resources = build(f"overlays/{overlay}")
    assert not [each for each in resources if each["kind"] == "Secret"]
    for where, pod in pods(resources):
        files = [
            item["path"]
            for volume in pod["volumes"] for item in volume.get("secret", {}).get("items", ())
        ]  # fmt: skip
        for values in (c.get("env", ()) for c in containers(pod)):
            keys = [v["valueFrom"]["secretKeyRef"]["key"] for v in values if "valueFrom" in v]
            assert set(keys) | set(files) <= SECRETS, where
        assert ("admin_token" in files) == (
            "watch" in where and "evaluation" not in where and overlay != "one-node"
        ), where
    for where, values in environments(f"overlays/{overlay}").items():
        for name, value in values.items():
            if re.search(r"TOKEN|SECRET|PASSWORD|DATABASE", name) and isinstance(value, str):
                assert name.endswith("_FILE"), where
                assert value.startswith("/run/secrets/holdfast/"), where


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_two_watchers_run_where_a_lease_says_which_one_leads(overlay: str) -> None:
    folder = f"overlays/{overlay}"
    spec = one(folder, "Deployment", "holdfast-watch")["spec"]
    modes = one(folder, "PersistentVolumeClaim", "holdfast-state")["spec"]["accessModes"]
    (container,) = spec["template"]["spec"]["containers"]
    variables = {each["name"] for each in container.get("env", [])}
    if "HOLDFAST_DATABASE_URL" not in variables:  # SQLite: the old one ends before the new starts
        assert (overlay, spec["replicas"], spec["strategy"]) == (
            "one-node",
            1,
            {"type": "Recreate"},
        )
        return
    assert spec["replicas"] == 2
    assert modes == ["ReadWriteMany"], "both go on with the same evidence and jobs"
    # A standby is never ready: with less an update would wait for it for ever.
    update = {"maxSurge": "100%", "maxUnavailable": "100%"}
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": update}
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    (term,) = spec["template"]["spec"]["affinity"]["podAntiAffinity"][
        "preferredDuringSchedulingIgnoredDuringExecution"
    ]
    selector = term["podAffinityTerm"]["labelSelector"]["matchLabels"]
    assert matches(selector, spec["template"]["metadata"]["labels"])


def matches(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


def labels_of_pods(name: str) -> list[dict[str, str]]:
    found = []
    for each in build(name):
        if each["kind"] in ("Deployment", "StatefulSet"):
            found.append(each["spec"]["template"]["metadata"]["labels"])
        elif each["kind"] == "ServingRuntime":
            found.append(each["spec"]["labels"])
        elif each["kind"] == "CronJob":
            found.append(each["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"])
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_services_policies_and_budgets_select_pods_that_are_there(overlay: str) -> None:
    name = f"overlays/{overlay}"
    pods_there = labels_of_pods(name)
    assert len(pods_there) == 3  # service, watcher, evaluation
    for each in build(name):
        spec = each.get("spec", {})
        if each["kind"] == "Service":
            wanted = spec["selector"]
        elif each["kind"] == "PodDisruptionBudget":
            wanted = spec["selector"]["matchLabels"]
        elif each["kind"] == "NetworkPolicy" and "matchLabels" in spec["podSelector"]:
            wanted = spec["podSelector"]["matchLabels"]
        else:
            continue
        selected = [labels for labels in pods_there if matches(wanted, labels)]
        assert len(selected) == 1, each["metadata"]["name"]
    # Every pod is under a policy.
    policies = [
        each["spec"]["podSelector"].get("matchLabels", {})
        for each in build(name) if each["kind"] == "NetworkPolicy"
    ]  # fmt: skip
    for labels in pods_there:
        assert any(policy and matches(policy, labels) for policy in policies)


def test_the_watcher_answers_the_service_and_labelled_namespaces_as_the_document_says() -> None:
    (rule,) = one("base", "NetworkPolicy", "holdfast-watch")["spec"]["ingress"]
    pods_of_service, monitoring = rule["from"]
    assert pods_of_service["podSelector"]["matchLabels"][COMPONENT] == SERVICE
    assert monitoring == {"namespaceSelector": {"matchLabels": {"holdfast/monitoring": "true"}}}
    assert "also where that is Holdfast's own" in DOCUMENT.read_text(encoding="utf-8")


def test_a_fallback_that_needs_a_newer_keda_is_told() -> None:
    spec = one("overlays/keda", "ScaledObject", "holdfast")["spec"]
    values = [each["type"] for each in spec["triggers"] if each["metricType"] == "Value"]
    needs = bool(values and "fallback" in spec)
    assert needs == ("KEDA 2.18" in DOCUMENT.read_text(encoding="utf-8"))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_addresses_in_settings_are_services_and_every_replica_that_stays_is_read_by_its_name(
    overlay: str,
) -> None:
    name = f"overlays/{overlay}"
    services = {r["metadata"]["name"]: r["spec"] for r in build(name) if r["kind"] == "Service"}
    (settings,) = (r["data"] for r in build(name) if r["kind"] == "ConfigMap")
    urls = settings["HOLDFAST_SERVICE_URL"].split(",")
    for url in (*urls, settings["HOLDFAST_WATCH_URL"]):
        found = re.fullmatch(r"http://(?:([\w-]+)\.)?([\w-]+):(\d+)", url)
        assert found, url
        assert int(found[3]) in [port["port"] for port in services[found[2]]["ports"]]
    kind, resource, *path = {
        "one-node": ("Deployment", "holdfast", "replicas"),
        "production": ("HorizontalPodAutoscaler", "holdfast", "minReplicas"),
        "keda": ("ScaledObject", "holdfast", "minReplicaCount"),
        "kserve": ("InferenceService", "digits", "predictor", "maxReplicas"),
    }[overlay]
    least: Any = one(name, kind, resource)["spec"]
    for member in path:
        least = least[member]
    assert len(set(urls)) == least
    if least > 1:
        stateful = one(name, "StatefulSet", "holdfast")["spec"]
        assert "replicas" not in stateful  # else every `kubectl apply` would undo the autoscaler
        assert stateful["podManagementPolicy"] == "Parallel"
        headless = stateful["serviceName"]
        assert services[headless]["clusterIP"] == "None"
        assert services[headless]["publishNotReadyAddresses"]
        assert urls == [f"http://holdfast-{k}.{headless}:8080" for k in range(least)]


def test_replicas_share_the_registry_which_they_only_read_and_no_other_state() -> None:
    for overlay, kind, name in (
        ("production", "StatefulSet", "holdfast"), ("kserve", "ServingRuntime", "holdfast")
    ):  # fmt: skip
        found = dict(pods(build(f"overlays/{overlay}")))[f"{kind} {name}"]
        volumes = {volume["name"]: volume for volume in found["volumes"]}
        (container,) = found["containers"]
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        assert "emptyDir" in volumes[mounts["/state"]["name"]]
        assert mounts["/state/registry"]["readOnly"]
        claim = volumes[mounts["/state/registry"]["name"]]["persistentVolumeClaim"]["claimName"]
        volume = one(f"overlays/{overlay}", "PersistentVolumeClaim", claim)
        assert volume["spec"]["accessModes"] == ["ReadWriteMany"]
        watcher = dict(pods(build(f"overlays/{overlay}")))["Deployment holdfast-watch"]
        claims = [v.get("persistentVolumeClaim", {}).get("claimName") for v in watcher["volumes"]]
        assert {claim, "holdfast-state"} <= set(claims)


def test_the_model_of_kserve_is_the_name_that_its_clients_ask_for() -> None:
    service = one("overlays/kserve", "InferenceService", "digits")["spec"]["predictor"]["model"]
    runtime = one("overlays/kserve", "ServingRuntime", service["runtime"])["spec"]
    formats = [each["name"] for each in runtime["supportedModelFormats"]]
    assert service["modelFormat"]["name"] in formats
    assert service["protocolVersion"] in runtime["protocolVersions"]
