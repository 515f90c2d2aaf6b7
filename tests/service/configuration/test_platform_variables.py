"""Laws of the platform's variables: they are passed over, and nothing that is misspelt is."""

import pytest

from service.configuration.platform_variables import without_platforms
from service.configuration.settings import Settings, load
from service.web.errors import SettingsError


def kubernetes(service: str, host: str = "10.0.0.1", port: int = 8080) -> dict[str, str]:
    """What the kubelet sets for a Service with a port named `http`."""
    name = service.upper().replace("-", "_")
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return {
        f"{name}_SERVICE_HOST": host,
        f"{name}_SERVICE_PORT": str(port),
        f"{name}_SERVICE_PORT_HTTP": str(port),
        f"{name}_PORT": f"tcp://{where}",
        f"{name}_PORT_{port}_TCP": f"tcp://{where}",
        f"{name}_PORT_{port}_TCP_PROTO": "tcp",
        f"{name}_PORT_{port}_TCP_PORT": str(port),
        f"{name}_PORT_{port}_TCP_ADDR": host,
        f"{name}_PORT_53_UDP": f"udp://{where}",
        f"{name}_PORT_53_UDP_PROTO": "udp",
    }


@pytest.mark.parametrize("host", ["10.0.0.1", "fd00::1"])
@pytest.mark.parametrize(
    "service", ["holdfast", "holdfast-watch", "holdfast-metrics", "holdfast-v2-http"]
)
def test_a_service_of_our_name_sets_nothing(service: str, host: str) -> None:
    env = kubernetes(service, host)
    assert without_platforms(env) == {}
    settings = load({**env, "HOLDFAST_MODE": "manual"})
    assert (settings.port, settings.watch_port) == (Settings().port, Settings().watch_port)
    assert settings.mode == "manual"


def test_a_port_that_is_a_number_is_the_setting() -> None:
    env = {**kubernetes("holdfast"), "HOLDFAST_PORT": "8081"}
    assert load(env).port == 8081


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOLDFAST_PROT", "8080"),
        ("HOLDFAST_WATHC_PORT", "9108"),
        ("HOLDFAST_SERVICE_PORT", "8080"),  # no platform sets it without the host
        ("HOLDFAST_SERVICE_HOST", "example.org"),
        ("HOLDFAST_PORTS", "tcp://10.0.0.1:8080"),
        ("HOLDFAST_PORT_NUMBER", "8080"),
        ("HOLDFAST_SERVICE_PORT_HTTP", "http"),
        ("HOLDFAST_PORT", "http://10.0.0.1:8080"),
        ("HOLDFAST_PORT", "tcp://10.0.0.1"),
        ("HOLDFAST_HOST", "tcp://10.0.0.1:8080"),
        ("HOLDFAST_METRICS_PORT", "9108"),
    ],
)
def test_what_is_misspelt_is_refused_still(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name.removeprefix("HOLDFAST_").lower()):
        load({name: value})
