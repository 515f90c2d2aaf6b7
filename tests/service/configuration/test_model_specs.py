from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.versions.registry import MODEL_NAME
from service.configuration import model_specs
from service.configuration.model_specs import (
    ModelLimits,
    ModelSpec,
    Slots,
    parse_limits,
    parse_models,
)
from service.web.errors import SettingsError, UnavailableError

NAMES = st.from_regex(MODEL_NAME, fullmatch=True)
SPECS = st.dictionaries(NAMES, st.none() | st.integers(1, 999_999_999), max_size=5)
LIMITS = st.dictionaries(
    NAMES,
    st.tuples(st.none() | st.integers(1, 1024), st.none() | st.integers(1, 99)).filter(any),
    max_size=4,
)


def test_a_name_here_is_a_name_of_the_registry() -> None:
    assert model_specs._NAME.pattern == MODEL_NAME.pattern


@given(SPECS)
def test_models_read_back_as_they_were_written(wished: dict[str, int | None]) -> None:
    text = ", ".join(name if v is None else f"{name}@{v}" for name, v in wished.items())
    assert parse_models(text) == tuple(ModelSpec(*item) for item in wished.items())


@given(LIMITS)
def test_limits_read_back_as_they_were_written(
    wished: dict[str, tuple[int | None, int | None]],
) -> None:
    def written(limits: tuple[int | None, int | None]) -> str:
        named = zip(ModelLimits._fields, limits, strict=True)
        return ",".join(f"{name}={value}" for name, value in named if value is not None)

    text = ";".join(f"{name}:{written(limits)}" for name, limits in wished.items())
    assert parse_limits(text, 1024, ()) == {n: ModelLimits(*limits) for n, limits in wished.items()}


def refused(parse: Callable[[], object]) -> str | None:
    """The name in the error, or None where there is none."""
    try:
        parse()
    except SettingsError as error:
        return error.name
    return None


@given(st.text())
def test_whatever_is_written_is_read_or_refused_by_the_name_of_the_setting(text: str) -> None:
    assert refused(lambda: parse_models(text)) in (None, "models")
    assert refused(lambda: parse_limits(text, 8, ())) in (None, "model_limits")


@pytest.mark.parametrize(
    "text", ["A", "a@", "a@0", "a@-1", "a@x", "a@1@2", "@3", "a b", "../a", "a,a", "a@1,a@2", "é"]
)
def test_a_bad_name_or_version_or_a_model_named_twice_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="models"):
        parse_models(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a", "rows=N"),
        ("a:", "rows=N"),
        ("a:rows", "rows=N"),
        ("a:rows=0", "rows=N"),
        ("a:rows=x", "rows=N"),
        ("a:size=3", "rows=N"),
        ("a:rows=1,rows=2", "rows=N"),
        ("a:rows=1;a:rows=2", "twice"),
        ("a:rows=1025", "rows <= max_rows"),
        ("c:rows=1", "one of a, b"),
    ],
)
def test_a_bad_limit_is_refused(text: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        parse_limits(text, 1024, (ModelSpec("a"), ModelSpec("b")))


def test_a_slot_is_free_again_also_after_an_error() -> None:
    slots = Slots("a", 2)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), slots:
            raise ZeroDivisionError
    with slots, slots:
        with pytest.raises(UnavailableError) as caught, slots:
            raise AssertionError("three at once")
        assert caught.value.headers["Retry-After"] == "1"
