from pathlib import Path

import pytest

from service.errors import SettingsError
from service.model_specs import ModelSpec
from service.settings import Settings, environment, load, table


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
        ("policy", "refuse", "observe | reject"),
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
