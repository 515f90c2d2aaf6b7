"""Bodies of changes become records; all that is wrong with one is named at once."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.base.errors import InputError
from service.watcher.bodies import (
    CHECKS,
    AcceptBody,
    DemoBody,
    FaultsError,
    HoldBody,
    PromoteBody,
    ReasonBody,
    RollbackBody,
    StartBody,
    read_record,
)
from service.watcher.reasons import NO_REASON

KINDS: tuple[type[msgspec.Struct], ...] = (
    ReasonBody,
    HoldBody,
    AcceptBody,
    RollbackBody,
    PromoteBody,
    StartBody,
    DemoBody,
)


def test_every_member_of_every_record_has_a_check() -> None:
    names = {field.name for kind in KINDS for field in msgspec.structs.fields(kind)}
    assert names == CHECKS.keys()


def test_members_that_are_left_out_or_null_have_their_defaults() -> None:
    assert read_record(b"", ReasonBody) == ReasonBody(NO_REASON)
    assert read_record(b'{"expected": null, "version": 3}', PromoteBody) == PromoteBody(3)
    assert read_record(b'{"model": "m", "kind": "retrain"}', StartBody).options == {}


def test_a_null_does_not_stand_for_a_member_that_must_be_there() -> None:
    with pytest.raises(InputError, match="version: expected a value, got nothing"):
        read_record(b'{"version": null}', PromoteBody)


@pytest.mark.parametrize("kind", KINDS)
@given(
    members=st.dictionaries(
        st.sampled_from([*CHECKS, "x"]), st.none() | st.integers() | st.text() | st.booleans()
    )
)
def test_each_fault_is_named_once_and_only_once(
    kind: type[msgspec.Struct], members: dict[str, object]
) -> None:
    names = {field.name for field in msgspec.structs.fields(kind)}
    body = msgspec.json.encode(members)
    faults = list_faults(body, kind)
    assert len(faults) == len(set(faults))
    assert {name for name in members if name not in names} <= set(faults)
    if not faults:
        assert isinstance(read_record(body, kind), kind)


def list_faults(body: bytes, kind: type[msgspec.Struct]) -> list[str]:
    """The members that a refusal names; none where the body is taken."""
    try:
        read_record(body, kind)
    except FaultsError as error:
        return [fault["field"] for fault in error.members["errors"]]
    except InputError as error:
        return [error.field]
    return []
