"""Laws of what is looked at before a start: all faults at once, only those of the part."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.base.errors import HoldfastError
from service.access import auth
from service.cli.checks import doctor, start_checks
from service.cli.checks.start_checks import check_start
from service.cli.serve import check_port
from service.configuration.settings import Settings, load
from service.web.errors import ManySettingsError, SettingsError
from tests.service.certificates import certificate

FILES = ("tokens_file", "admin_token_file", "alert_token_file", "trusted_keys", "signing_key_file")
OF_SERVICE = ["admin_token_file", "tokens_file", "trusted_keys"]
OF_WATCHER = ["admin_token_file", "alert_token_file", "signing_key_file", "trusted_keys"]


def loaded(**values: object) -> Settings:
    return load({f"HOLDFAST_{name.upper()}": str(value) for name, value in values.items()})


def faults(settings: Settings, *parts: start_checks.Part) -> list[str]:
    """Names of the settings that are refused."""
    try:
        check_start(settings, *parts)
    except ManySettingsError as error:
        return sorted(fault.name for fault in error.faults)
    except SettingsError as error:
        return [error.name]
    return []


def test_files_that_are_not_there_are_told_all_at_once_to_who_reads_them(tmp_path: Path) -> None:
    settings = loaded(**dict.fromkeys(FILES, tmp_path / "absent"))
    assert faults(settings, "service") == OF_SERVICE
    assert faults(settings, "watcher") == OF_WATCHER
    assert faults(settings, "service", "watcher") == sorted(FILES)
    with pytest.raises(ManySettingsError, match=r"absent.*No such file"):
        check_start(settings, "service")


def test_files_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    for content in (b"short", b"\xff\xfe" * 100):
        other.write_bytes(content)
        other.chmod(0o600)
        settings = loaded(**dict.fromkeys(FILES, other))
        assert faults(settings, "service", "watcher") == sorted(FILES)
    folder = loaded(**dict.fromkeys(FILES, tmp_path))
    assert faults(folder, "service", "watcher") == sorted(FILES)


def test_files_that_are_right_are_not_refused(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    private, public = tmp_path / "key.pem", tmp_path / "key.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    secret = tmp_path / "secret"
    secret.write_text("s" * auth.LEAST_CHARACTERS)
    auth.create(tmp_path / "tokens.json", "me", ("predict",))
    settings = loaded(
        tokens_file=tmp_path / "tokens.json", admin_token_file=secret, alert_token_file=secret,
        trusted_keys=public, signing_key_file=private,
    )  # fmt: skip
    assert faults(settings, "service", "watcher") == []
    looked = {each.name: each.detail for each in start_checks.look(settings)}
    assert set(looked) == {"host", "watch_host", "database_url", *FILES}
    assert looked["tokens_file"].endswith(": 1 tokens")
    assert looked["trusted_keys"].endswith(": 1 public keys")
    assert "s" * auth.LEAST_CHARACTERS not in str(looked)


def test_a_host_that_nobody_knows_is_refused_to_who_listens_there() -> None:
    settings = loaded(host="nowhere.invalid")
    assert faults(settings, "service") == ["host"]
    assert faults(settings, "watcher") == []


def test_a_database_whose_driver_is_absent_or_whose_url_is_none_is_refused() -> None:
    for url in ("postgresql+nothing://me:secret@db/h", "sqlite+nothing:///x"):
        settings = loaded(database_url=url)
        assert faults(settings, "watcher") == ["database_url"]
        with pytest.raises(SettingsError) as caught:
            check_start(settings, "service")
        assert "secret" not in str(caught.value)


def test_service_and_watcher_do_not_take_the_same_port() -> None:
    for host, watch_host, clash in (
        ("127.0.0.1", "127.0.0.1", True),
        ("0.0.0.0", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
    ):
        settings = loaded(port=9108, host=host, watch_host=watch_host)
        assert faults(settings, "service", "watcher") == ["watch_port"] * clash
        assert faults(settings, "service") == []


def test_an_address_of_another_machine_is_told_as_the_hosts_fault() -> None:
    with pytest.raises(HoldfastError, match=r"192\.0\.2\.1:8080: .* host with HOLDFAST_WATCH_HOST"):
        check_port("192.0.2.1", 8080, "HOLDFAST_WATCH_PORT")
    with pytest.raises(HoldfastError, match=r"\[2001:db8::5\]:8080: "):
        check_port("2001:db8::5", 8080, "HOLDFAST_PORT")


@pytest.mark.parametrize(
    ("command", "line"),
    [("watch", "every day"), ("up", "0 3 * * mo"), ("doctor", "0 0 31 2 *")],
)
def test_a_schedule_that_is_none_ends_the_command_in_a_sentence(
    command: str, line: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "service", command],
        env={**os.environ, "HOLDFAST_STATE": str(tmp_path), "HOLDFAST_SCHEDULE": line},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("holdfast: setting schedule: expected ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_what_opentelemetrys_variables_ask_for_is_looked_at_before_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "console")
    assert faults(loaded(), "service") == ["OTEL_METRICS_EXPORTER"]
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp")
    assert faults(loaded(), "service", "watcher") == []
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "soon")
    assert faults(loaded(), "watcher") == ["OTEL_METRIC_EXPORT_INTERVAL"]


def test_an_address_of_opentelemetry_alone_is_looked_at_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
    assert faults(loaded(), "service", "watcher") == []
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    assert faults(loaded(), "service") == ["OTEL_EXPORTER_OTLP_PROTOCOL"]
    assert faults(loaded(), "watcher") == [], "it sends no traces"
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_PROTOCOL")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    assert faults(loaded(), "service") == ["OTEL_EXPORTER_OTLP_ENDPOINT"]
    named = loaded(trace_endpoint="http://127.0.0.1:4318")
    assert faults(named, "service") == ["trace_endpoint"]
    with pytest.raises(SettingsError, match=r"pip install 'holdfast\[tracing\]'"):
        check_start(named, "service")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert faults(loaded(), "service") == []


def test_grpc_without_its_extra_is_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc.aio", None)
    settings = loaded(grpc_port=8081)
    with pytest.raises(SettingsError, match=r"grpc_port: expected 0, or the extra: pip install"):
        check_start(settings, "service")
    assert faults(settings, "watcher") == []
    assert faults(loaded(), "service") == []


def test_what_does_not_go_together_of_grpc_is_told_at_once(tmp_path: Path) -> None:
    pytest.importorskip("grpc")
    there, absent = tmp_path / "there", tmp_path / "absent"
    there.write_text("x")
    assert faults(loaded(grpc_port=8081), "service") == []
    assert faults(loaded(grpc_port=8080, grpc_cert_file=absent), "service") == [
        "grpc_cert_file", "grpc_key_file", "grpc_port"
    ]  # fmt: skip
    assert faults(loaded(grpc_port=8081, grpc_key_file=there), "service") == ["grpc_cert_file"]
    assert faults(loaded(grpc_port=8081, grpc_client_ca_file=there), "service") == [
        "grpc_cert_file"
    ]
    whole = loaded(grpc_port=8081, grpc_cert_file=there, grpc_key_file=there)
    assert faults(whole, "service") == ["grpc_cert_file"]


def test_files_that_are_none_of_tls_are_refused_by_name_and_doctor_tells_the_same(
    tmp_path: Path,
) -> None:
    pytest.importorskip("grpc")
    key, cert = certificate(tmp_path, "server")
    other, _ = certificate(tmp_path, "other")
    text, locked = tmp_path / "text", tmp_path / "locked.key"
    text.write_text("no certificate\n")
    subprocess.run(
        ["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:x", "-out", locked], check=True
    )
    for files, wrong in (
        ({}, []),
        ({"grpc_client_ca_file": cert}, []),
        ({"grpc_cert_file": text}, ["grpc_cert_file"]),
        ({"grpc_cert_file": key}, ["grpc_cert_file"]),
        ({"grpc_key_file": text}, ["grpc_key_file"]),
        ({"grpc_key_file": other}, ["grpc_key_file"]),
        ({"grpc_key_file": locked}, ["grpc_key_file"]),
        ({"grpc_client_ca_file": text}, ["grpc_client_ca_file"]),
        ({"grpc_cert_file": text, "grpc_client_ca_file": text},
         ["grpc_cert_file", "grpc_client_ca_file"]),
    ):  # fmt: skip
        given = {"grpc_port": 8081, "grpc_cert_file": cert, "grpc_key_file": key, **files}
        settings = loaded(state=tmp_path, **given)
        assert faults(settings, "service") == wrong
        told = [each for each in doctor._check_settings(settings) if not each.ok]
        assert sorted(each.what for each in told) == [f"setting {name}" for name in wrong]
    with pytest.raises(SettingsError, match=f"grpc_cert_file: expected .* in PEM, got {text}"):
        check_start(loaded(grpc_port=8081, grpc_cert_file=text, grpc_key_file=key), "service")


def test_the_watcher_does_not_take_the_port_of_grpc() -> None:
    settings = loaded(grpc_port=9108)
    assert faults(settings, "service", "watcher") == ["watch_port"]
    assert faults(settings, "service") == []
    elsewhere = loaded(grpc_port=9108, watch_host="127.0.0.2")
    assert faults(elsewhere, "service", "watcher") == []
    told = [each for each in doctor._check_settings(settings) if not each.ok]
    assert [each.what for each in told] == ["ports"]
    clash = loaded(grpc_port=8080)
    told = [each for each in doctor._check_settings(clash) if not each.ok]
    assert [each.what for each in told] == ["setting grpc_port"]
