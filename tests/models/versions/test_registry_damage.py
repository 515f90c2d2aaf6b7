"""What damaged files of the registry do: they are named, they stop no other model, and mend."""

import errno
import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.base.errors import BundleError, RegistryError
from models.versions import registry_files
from models.versions.registry import Aliases, Registry
from models.versions.registry_state import HeldError
from tests.models.versions.test_registry import WHY, publish, snapshot

ALIASES, AUDIT = "aliases.json", "audit.jsonl"
ADA: dict[str, Any] = {"actor": "token ada", "reason": "complaints"}
TEARS: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "a byte": lambda data: data[:1],
    "all but the end": lambda data: data[:-2],
    "zeros": lambda data: bytes(len(data)),
    "a page of zeros after it": lambda data: data[:-1] + bytes(4096),
    "not UTF-8": lambda data: data.replace(b"tiny", b"t\xffny").replace(b"a", b"\xff", 1),
    "another text": lambda data: b"<html>\n",
    "a list": lambda data: b"[]\n",
    "a name torn": lambda data: data.replace(b"champion", b"chimpion"),
}
AUDIT_TEARS = TEARS | {
    "the first line torn": lambda data: data[30:],
    "a line in the middle torn": lambda data: data.replace(b'{"at', b"", 2).replace(b"", b"", 1),
    "lines twice": lambda data: data.replace(b"\n", b"", 1),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models of three versions: one held, one that is to be torn, and a fine one."""
    found = Registry(tmp_path_factory.mktemp("made"))
    for model in ("fine", "held", "torn"):
        for _ in range(3):
            publish(found, model=model)
        found.promote(model, 1, expected=None, **WHY)
    for model in ("held", "torn"):
        found.hold(model, **ADA)
    return found.root


@pytest.fixture
def registry(made: Path, tmp_path: Path) -> Registry:
    """The three models, for this test alone."""
    shutil.copytree(made, tmp_path / "registry")
    return Registry(tmp_path / "registry")


def tear(registry: Registry, name: str, how: str, model: str = "torn") -> bytes:
    """Damage a file of a model; the bytes that it has then."""
    path = registry.root / model / name
    torn = AUDIT_TEARS[how](path.read_bytes())
    path.write_bytes(torn)
    return torn


def others(registry: Registry) -> list[Any]:
    """What readers know of the models that are whole."""
    known = registry.models()
    assert known == ("fine", "held", "torn")
    return [(registry.state(m), registry.audit(m), registry.open(m)) for m in ("fine", "held")]


def kept(registry: Registry, model: str = "torn") -> list[bytes]:
    """The damaged audit files that were kept."""
    return [
        path.read_bytes()
        for path in (registry.root / model).glob(f"{AUDIT}.damaged-*")
        if path.is_file()
    ]


@pytest.mark.parametrize("how", [*TEARS, "gone", "a folder"])
@pytest.mark.parametrize("act", ["promote", "release", "hold", "withdraw", "publish", "rollback"])
def test_a_torn_alias_file_is_named_and_mended_by_any_change(
    registry: Registry, how: str, act: str
) -> None:
    registry.promote("torn", 2, expected=1, by_person=True, **ADA)
    before, path = registry.state("torn"), registry.root / "torn" / ALIASES
    if how in TEARS:
        tear(registry, ALIASES, how)
    else:
        path.unlink()
        if how == "a folder":
            path.mkdir()
    for read in (registry.aliases, registry.find_hold, registry.open):
        with pytest.raises(RegistryError, match=r"torn.aliases\.json"):
            read("torn")
    assert len(others(registry)) == 2
    {
        "promote": lambda: registry.promote("torn", 2, expected=2, **WHY),
        "release": lambda: registry.release("torn", **ADA),
        "hold": lambda: registry.hold("torn", **ADA),
        "withdraw": lambda: registry.withdraw("torn", 9, **WHY),
        "publish": lambda: publish(registry, model="torn"),
        "rollback": lambda: registry.rollback("torn", **WHY),
    }[act]()
    after = registry.state("torn")
    assert after.aliases.champion == (1 if act == "rollback" else 2)
    assert (after.find_hold(0.0) is None) == (act == "release")
    if act == "withdraw":
        assert after == before
    assert not kept(registry), "the audit is whole"


@pytest.mark.parametrize("how", [*AUDIT_TEARS, "gone", "a folder"])
def test_a_damaged_audit_is_named_and_a_person_begins_a_new_one(
    registry: Registry, how: str
) -> None:
    path, known = registry.root / "torn" / AUDIT, registry.state("torn")
    if how in AUDIT_TEARS:
        torn = tear(registry, AUDIT, how)
    else:
        path.unlink()
        if how == "a folder":
            path.mkdir()
    before = snapshot(registry.root)
    with pytest.raises(RegistryError, match=r"torn.audit\.jsonl"):
        registry.audit("torn")
    changes = [
        lambda: registry.promote("torn", 2, expected=1, **WHY),
        lambda: registry.withdraw("torn", 3, **WHY),
        lambda: publish(registry, model="torn"),
    ]
    for change in changes:
        with pytest.raises(RegistryError, match="holdfast models promote torn VERSION"):
            change()
    assert registry.state("torn") == known, "what is served goes on"
    assert len(others(registry)) == 2
    assert snapshot(registry.root) == before
    registry.promote("torn", 2, expected="any", by_person=True, **ADA)
    first, second = registry.audit("torn")
    assert (first.action, first.aliases, first.actor) == ("new_audit", known.aliases, "token ada")
    assert "audit.jsonl" in first.reason
    assert (second.action, second.aliases) == ("promote", Aliases(2, 3, 1))
    assert registry.find_hold("torn") == known.find_hold(0.0), "a hold is not lost"
    assert kept(registry) == ([torn] if how in AUDIT_TEARS else [])
    with pytest.raises(HeldError):
        registry.promote("torn", 3, expected=2, **WHY)
    publish(registry, model="torn")


@pytest.mark.parametrize("audit", [*AUDIT_TEARS, "gone"])
@pytest.mark.parametrize("alias", ["half", "zeros", "not UTF-8", "gone"])
def test_where_both_are_damaged_a_person_promotes_and_all_is_readable(
    registry: Registry, alias: str, audit: str
) -> None:
    for name, how in ((ALIASES, alias), (AUDIT, audit)):
        if how == "gone":
            (registry.root / "torn" / name).unlink()
        else:
            tear(registry, name, how)
    assert len(others(registry)) == 2
    registry.promote("torn", 2, expected="any", by_person=True, **ADA)
    assert registry.aliases("torn").champion == 2
    assert registry.audit("torn")[-1].aliases == registry.aliases("torn")
    assert publish(registry, model="torn") == 4
    assert registry.open("torn").manifest.version == 2


@pytest.mark.parametrize("step", [37, pytest.param(1, marks=pytest.mark.slow)])
def test_files_torn_at_every_byte_are_mended_and_the_hold_stays(
    registry: Registry, step: int
) -> None:
    folder, hold = registry.root / "torn", registry.find_hold("torn")
    whole = {name: (folder / name).read_bytes() for name in (ALIASES, AUDIT)}
    for name, data in whole.items():
        for length in range(0, len(data), step):
            for other, content in whole.items():
                (folder / other).write_bytes(content if other != name else data[:length])
            version = 2 + length % 2
            after = registry.promote("torn", version, expected=1, by_person=True, **ADA)
            assert after == registry.aliases("torn")
            assert (after.champion, after.previous) == (version, 1)
            assert registry.find_hold("torn") == hold
            assert registry.audit("torn")[-1].aliases == after


@given(st.data())
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_bytes_are_flipped_a_person_can_promote(
    registry: Registry, data: st.DataObject
) -> None:
    folder = registry.root / "torn"
    whole = {name: (folder / name).read_bytes() for name in (ALIASES, AUDIT)}
    try:
        for name in data.draw(st.sampled_from([[ALIASES], [AUDIT], [ALIASES, AUDIT]])):
            content = bytearray(whole[name])
            for _ in range(data.draw(st.integers(1, 4))):
                content[data.draw(st.integers(0, len(content) - 1))] = data.draw(
                    st.integers(0, 255)
                )
            (folder / name).write_bytes(content)
        for read in (registry.state, registry.audit, registry.find_hold):
            with suppress(RegistryError):  # and nothing else
                read("torn")
        registry.promote("torn", 2, expected="any", by_person=True, **ADA)
        assert registry.aliases("torn").champion == 2
        assert registry.audit("torn")[-1].aliases == registry.aliases("torn")
        registry.promote("torn", 3, expected=2, by_person=True, **ADA)
        assert registry.audit("torn")[-1].aliases == registry.aliases("torn")
    finally:
        for name, content in whole.items():
            (folder / name).write_bytes(content)


def test_a_record_that_was_lost_at_the_end_is_missed(registry: Registry) -> None:
    path = registry.root / "torn" / AUDIT
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(RegistryError, match="it has 4 of 5 records"):
        registry.audit("torn")
    with pytest.raises(RegistryError, match="it has 4 of 5 records"):
        registry.promote("torn", 2, expected=1, **WHY)
    assert registry.find_hold("torn") is not None, "that record was the hold"
    registry.promote("torn", 2, expected=1, by_person=True, **ADA)
    assert registry.find_hold("torn") is not None


def test_probation_can_roll_back_although_the_audit_is_damaged(registry: Registry) -> None:
    registry.promote("torn", 2, expected=1, by_person=True, **ADA)
    tear(registry, AUDIT, "a line in the middle torn")
    assert registry.rollback("torn", expected=2, **WHY).champion == 1
    assert [r.action for r in registry.audit("torn")] == ["new_audit", "rollback"]
    assert registry.find_hold("torn") is not None


WRITES = ("write_atomic", "write_durable", "fsync")


@pytest.mark.parametrize("damage", ["none", "alias", "audit", "both"])
def test_a_disk_that_is_full_at_any_write_leaves_what_the_next_change_mends(
    registry: Registry, damage: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if damage in ("alias", "both"):
        tear(registry, ALIASES, "half")
    if damage in ("audit", "both"):
        tear(registry, AUDIT, "a line in the middle torn")
    (hold,) = registry.audit("held")[-1].holds
    place = 0
    while True:
        shutil.copytree(registry.root, tmp_path / str(place))
        copy, left = Registry(tmp_path / str(place)), [place]

        def act(found: Registry = copy) -> None:
            found.promote("torn", 2, expected="any", by_person=True, **ADA)

        with monkeypatch.context() as patch:
            fail_after(patch, left)
            with suppress(OSError):
                act()
        act()
        assert copy.aliases("torn").champion == 2
        assert copy.audit("torn")[-1].aliases == copy.aliases("torn")
        held = copy.find_hold("torn")
        assert held is not None
        assert (held.actor, held.stops) == (hold.actor, hold.stops)
        actions = [record.action for record in copy.audit("torn")]
        assert actions.count("promote") == (2 if damage in ("none", "alias") else 1)
        if left[0] >= 0:
            break
        place += 1
    assert place >= 3


def fail_after(patch: pytest.MonkeyPatch, left: list[int]) -> None:
    """The disk is full from the write on that `left` counts down to; half of it gets through."""

    def full() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write_half(path: Path, data: bytes, mode: int = 0o666) -> None:
        try:
            full()
        except OSError:
            path.write_bytes(data[: len(data) // 2])
            raise
        path.write_bytes(data)

    def replace(path: Path, data: bytes, mode: int = 0o666) -> None:
        full()
        write_atomic(path, data)

    def sync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode):
                os.ftruncate(descriptor, found.st_size - min(found.st_size, 30))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_atomic = registry_files.write_atomic
    patch.setattr(registry_files, "write_durable", write_half)
    patch.setattr(registry_files, "write_atomic", replace)
    patch.setattr(registry_files.os, "fsync", sync)


def test_a_champion_without_a_folder_is_read_and_replaced_and_its_number_not_given_again(
    registry: Registry,
) -> None:
    registry.promote("fine", 3, expected=1, **WHY)
    shutil.rmtree(registry.root / "fine" / "3")
    assert registry.aliases("fine").champion == 3
    assert registry.models() == ("fine", "held", "torn")
    with pytest.raises(RegistryError, match="no version 3"):
        registry.open("fine")
    assert publish(registry, model="fine") == 4, "version 3 was another one"
    assert registry.promote("fine", 2, expected=3, **WHY).champion == 2
    with pytest.raises(RegistryError, match="no version 3"):
        registry.rollback("fine", **WHY)
    assert registry.aliases("fine").champion == 2


def test_a_damaged_version_that_no_record_knows_stops_no_publication(registry: Registry) -> None:
    folder = registry.root / "fine" / "4"
    shutil.copytree(registry.root / "fine" / "3", folder)
    (folder / "manifest.json").write_bytes(b"{")
    with pytest.raises(BundleError):
        registry.manifest("fine", 4)
    assert publish(registry, event="job", model="fine") == 5
    assert publish(registry, event="job", model="fine") == 5
