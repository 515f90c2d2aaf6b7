from pathlib import Path

import pytest

from service.configuration.model_specs import ModelSpec
from service.configuration.settings import Settings, environment, load
from service.configuration.settings_table import table
from service.web.errors import ManySettingsError, SettingsError


def test_the_environment_wins_over_the_file_which_wins_over_the_default(tmp_path: Path) -> None:
    toml = tmp_path / "holdfast.toml"
    toml.write_text('port = 1234\nworkers = 3\nmode = "manual"\n')
    settings = load({"HOLDFAST_PORT": "4321", "PATH": "/bin"}, toml)
    assert (settings.port, settings.workers, settings.mode) == (4321, 3, "manual")
    assert settings.policy == Settings().policy


def test_urls_are_filled_in_from_what_they_depend_on() -> None:
    settings = load({"HOLDFAST_PORT": "9", "HOLDFAST_STATE": "/srv/h"})
    assert settings.service_url == "http://127.0.0.1:9"
    assert settings.database_url == "sqlite:////srv/h/records.sqlite"
    given = load(
        {"HOLDFAST_DATABASE_URL": "postgresql://db/h", "HOLDFAST_SERVICE_URL": "http://s/"}
    )
    assert given.database_url == "postgresql://db/h"
    assert given.service_url == "http://s"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("port", "eighty", "integer >= 1 <= 65535"),
        ("port", "70000", "integer >= 1 <= 65535"),
        ("workers", "-1", "integer >= 0"),
        ("policy", "refuse", "observe | reject | reject_suspicious"),
        ("reload_interval_seconds", "0", "number > 0"),
        ("drift_c", "nan", "number >= 100"),
    ],
)
def test_a_bad_value_is_refused_by_name_expectation_and_value(
    name: str, value: str, expected: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load({f"HOLDFAST_{name.upper()}": value})
    assert caught.value.name == name
    assert caught.value.expected.startswith(expected)
    assert value in caught.value.got


def test_an_unknown_name_is_refused_in_the_environment_and_in_the_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="prot"):
        load({"HOLDFAST_PROT": "1"})
    toml = tmp_path / "holdfast.toml"
    toml.write_text("prot = 1\n")
    with pytest.raises(SettingsError, match="prot"):
        load({}, toml)
    toml.write_text("port = \n")
    with pytest.raises(SettingsError, match="TOML"):
        load({}, toml)


def test_a_file_value_of_another_type_is_refused(tmp_path: Path) -> None:
    toml = tmp_path / "holdfast.toml"
    toml.write_text("port = true\n")
    with pytest.raises(SettingsError, match="port"):
        load({}, toml)


def test_the_environment_of_settings_gives_them_back() -> None:
    settings = load({"HOLDFAST_MODELS": "a, b@3", "HOLDFAST_DRIFT_C": "12345.5"})
    assert load(environment(settings)) == settings
    assert settings.model_specs == (ModelSpec("a"), ModelSpec("b", 3))


def test_models_and_limits_that_do_not_read_so_are_refused_at_the_start() -> None:
    for name, value in (("models", "a@x"), ("model_limits", "a:rows=0")):
        with pytest.raises(SettingsError) as caught:
            load({f"HOLDFAST_{name.upper()}": value})
        assert caught.value.name == name


def test_counts_that_are_0_are_chosen_and_those_that_are_set_stay() -> None:
    chosen = load({})
    assert chosen.workers >= 1
    assert chosen.threads >= 1
    assert chosen.model_threads >= 1
    kept = load({"HOLDFAST_WORKERS": "5", "HOLDFAST_THREADS": "7", "HOLDFAST_MODEL_THREADS": "3"})
    assert (kept.workers, kept.threads, kept.model_threads) == (5, 7, 3)


def test_the_table_has_help_for_every_setting() -> None:
    rows = table()
    assert [row.name for row in rows] == list(Settings.__struct_fields__)
    assert all(row.help for row in rows)
    assert {row.variable for row in rows} >= {"HOLDFAST_STATE", "HOLDFAST_PORT"}
    assert next(row for row in rows if row.name == "max_body_bytes").unit == "B"


WRONG = {
    "host": ["", " ", "localhost:8080", "http://0.0.0.0", "*"],
    "watch_host": ["", "[::1]:9108", "300.1.1.1"],
    "state": ["", "a\0b"],
    "service_url": ["service:8080", "http://::1:8080", "http://a:8080, b", "http://a:99999"],
    "prometheus_url": ["prometheus:9090", "http://::1:9090", "http://a:99999"],
    "watch_url": ["watcher:9108", "http://::1:9108", "http://a:99999"],
    "database_url": ["postgres://db/h", "mysql://db/h", "sqlite://", "records.sqlite", "postgresql://"],
    "trace_endpoint": ["collector:4318", "grpc://collector:4317"],
    "trusted_proxies": ["10.0.0.0/33", "proxy"],
    "allowed_hosts": ["http://shop.example", "a b", "*"],
    "allowed_origins": ["shop.example", "*", "null"],
    "models": ["Digits", "a,a", "a@0"],
    "model_limits": ["a:rows=0", "a", "a:rows=99999999"],
    "record_limits": ["a", "a:rows=0", "a:rows=1;a:days=2"],
    "record_sample": ["some", "2", "reservoir:0"],
    "trusted_labellers": ["a,,b", "two words", "a\0b"],
    "schedule": ["every day", "0 3 * * mo", "0 0 31 2 *", "0 3 * * * *"],
    "timezone": ["Mars", "UTC+2", "../UTC"],
    "tokens_file": [" ", "a\0b"],
    "admin_token_file": ["a\0b"],
    "alert_token_file": ["a\0b"],
    "trusted_keys": ["a\0b"],
    "signing_key_file": ["a\0b"],
    "grpc_cert_file": ["a\0b"],
    "grpc_key_file": ["a\0b"],
    "grpc_client_ca_file": ["a\0b"],
}  # fmt: skip


def test_every_text_setting_has_values_that_are_refused() -> None:
    texts = {row.name for row in table() if row.type == "text"}
    assert set(WRONG) == texts


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in WRONG.items() for v in values])
def test_a_text_that_cannot_be_meant_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({f"HOLDFAST_{name.upper()}": value})
    assert caught.value.name == name
    assert not isinstance(caught.value, ManySettingsError)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    toml = tmp_path / "holdfast.toml"
    toml.write_text('prot = 1\nworkers = -1\nport = "a"\n')
    env = {"HOLDFAST_HOST": "", "HOLDFAST_SCHEDULE": "every day", "HOLDFAST_PORT": "b"}
    with pytest.raises(ManySettingsError) as caught:
        load(env, toml)
    named = [fault.name for fault in caught.value.faults]
    assert sorted(named) == ["host", "port", "prot", "schedule", "workers"]
    assert str(caught.value).startswith("5 settings cannot be used:\n- setting host: expected ")
    assert "'b'" in str(caught.value)
    toml.write_text("port = ")
    with pytest.raises(ManySettingsError) as caught:
        load(env, toml)
    assert sorted(f.name for f in caught.value.faults) == sorted(
        [str(toml), "host", "port", "schedule"]
    )


def test_a_state_that_cannot_be_a_directory_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for state in (file, file / "below", tmp_path / ("a" * 300)):
        with pytest.raises(SettingsError, match="setting state: expected the path of a directory"):
            load({"HOLDFAST_STATE": str(state)})
    assert load({"HOLDFAST_STATE": str(tmp_path / "new")}).state == str(tmp_path / "new")


def test_no_fault_brings_a_second_one() -> None:
    for name, value in (("max_rows", "0"), ("models", "A"), ("timezone", "Mars")):
        env = {"HOLDFAST_MODEL_LIMITS": "a:rows=64", "HOLDFAST_SCHEDULE": "0 3 * * *"}
        with pytest.raises(SettingsError) as caught:
            load({**env, f"HOLDFAST_{name.upper()}": value})
        assert caught.value.name == name


def test_an_unknown_name_is_told_with_those_that_are_near() -> None:
    with pytest.raises(SettingsError, match=r"did you mean watch_port"):
        load({"HOLDFAST_WATHC_PORT": "9108"})


def test_a_password_in_a_url_that_is_refused_is_not_shown() -> None:
    for url in ("mysql://me:secret@db/h", "postgres://me:secret@db/h?password=secret"):
        with pytest.raises(SettingsError) as caught:
            load({"HOLDFAST_DATABASE_URL": url})
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "kept", "url"),
    [
        ("0.0.0.0", "0.0.0.0", "http://127.0.0.1:8080"),
        ("10.0.0.5", "10.0.0.5", "http://10.0.0.5:8080"),
        ("[::1]", "::1", "http://[::1]:8080"),
        ("localhost", "localhost", "http://localhost:8080"),
    ],
)
def test_the_watcher_asks_where_the_service_listens(host: str, kept: str, url: str) -> None:
    settings = load({"HOLDFAST_HOST": host})
    assert (settings.host, settings.service_url) == (kept, url)
    assert load(environment(settings)) == settings


def test_several_services_are_a_list_of_urls() -> None:
    settings = load({"HOLDFAST_SERVICE_URL": " http://a:1/ , http://[::1]:2"})
    assert settings.service_url == "http://a:1,http://[::1]:2"


def test_a_byte_order_mark_is_skipped_and_another_encoding_is_told(tmp_path: Path) -> None:
    toml = tmp_path / "holdfast.toml"
    toml.write_text("port = 1234\r\n", encoding="utf-8-sig")
    assert load({}, toml).port == 1234
    toml.write_text("port = 1234\n", encoding="utf-16")
    with pytest.raises(SettingsError, match="a TOML file in UTF-8"):
        load({}, toml)
