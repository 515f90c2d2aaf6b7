"""Laws of the registry: versions never change, aliases move by compare-and-swap, crashes mend."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from models.base.errors import (
    BundleError,
    ChampionMovedError,
    RegistryError,
    UnknownModelError,
    UnknownVersionError,
)
from models.versions.bundle import MODEL
from models.versions.facts import EventFacts
from models.versions.registry import Aliases, Registry
from tests.killing import in_child
from tests.models.versions.test_bundle import contents, manifest

WHY: dict[str, Any] = {"actor": "tests", "reason": "the laws"}


def publish(registry: Registry, event: str | None = None, model: str = "tiny") -> int:
    """Publish a small bundle."""

    def make(version: int) -> tuple[dict[str, bytes], Any]:
        return contents(), manifest(model, version, None if event is None else EventFacts(event))

    return registry.publish(model, make, event=event, **WHY)


def with_versions(root: Path, count: int, champion: int | None = 1) -> Registry:
    """A registry with some versions, one of them promoted."""
    registry = Registry(root)
    for _ in range(count):
        publish(registry)
    if champion is not None:
        registry.promote("tiny", champion, expected=None, **WHY)
    return registry


def snapshot(root: Path) -> dict[str, bytes]:
    """All files below `root`."""
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


# Every line is a minute or two of forks; some are looked at each time, all in the slow tests.
some_lines = pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])


def deaths(
    root: Path,
    action: Callable[[Registry], Any],
    judge: Callable[[Registry], Any],
    *,
    every: int = 1,
) -> int:
    """Kill `action` at every seventh line, say, on a fresh copy each time; the last such line."""
    line = 1 - every
    with_versions(root / "fresh", 2)
    while True:
        line += every
        with TemporaryDirectory(dir=root) as folder:
            shutil.copytree(root / "fresh", folder, dirs_exist_ok=True)
            registry = Registry(Path(folder))
            killed = in_child(lambda r=registry: action(r), die_at_line=line)
            for version in registry.versions("tiny"):
                registry.open("tiny", str(version))
            judge(Registry(Path(folder)))
            assert not list(Path(folder).glob("tiny/.staging-*"))
            assert registry.aliases("tiny") == registry.audit("tiny")[-1].aliases
        if not killed:
            return line - every


def test_versions_rise_and_never_change(empty: Registry) -> None:
    assert [publish(empty) for _ in range(3)] == [1, 2, 3]
    before = snapshot(empty.root)
    empty.promote("tiny", 2, expected=None, **WHY)
    empty.promote("tiny", 1, expected=2, **WHY)
    empty.rollback("tiny", **WHY)
    assert publish(empty) == 4
    after = snapshot(empty.root)
    folders = tuple(f"tiny/{version}/" for version in (1, 2, 3))
    kept = {name: data for name, data in before.items() if name.startswith(folders)}
    assert len(kept) == 15
    assert {name: after[name] for name in kept} == kept


def test_publish_makes_the_challenger_and_no_champion(empty: Registry) -> None:
    publish(empty)
    assert empty.aliases("tiny") == Aliases(champion=None, challenger=1, previous=None)
    with pytest.raises(UnknownVersionError, match="no version champion"):
        empty.open("tiny")


def test_publish_is_once_per_event(empty: Registry) -> None:
    first = publish(empty, "job-1")
    second = publish(empty, "job-2")
    assert publish(empty, "job-1") == first
    assert publish(empty, "job-2") == second
    assert publish(empty) == 3
    assert [r.event for r in empty.audit("tiny")] == ["job-1", "job-2", None]
    assert empty.aliases("tiny").challenger == 3, "a repeat must not bring the challenger back"


def test_publish_that_fails_leaves_no_version(empty: Registry) -> None:
    def fails(version: int) -> Any:
        raise ZeroDivisionError

    def unfit(version: int) -> Any:
        return {MODEL: b"graph"}, manifest()

    for make, error in ((fails, ZeroDivisionError), (unfit, BundleError)):
        with pytest.raises(error):
            empty.publish("tiny", make, **WHY)
    assert empty.versions("tiny") == ()
    assert empty.models() == ()
    assert not list(empty.root.glob("tiny/.staging-*"))


@pytest.mark.parametrize("name", ["", "../x", "A", "a/b", ".hidden", "x" * 64, "-a", "a b", "a\n"])
def test_names_that_are_no_model_are_refused(empty: Registry, name: str) -> None:
    with pytest.raises(RegistryError, match="model name"):
        publish(empty, model=name)
    assert not empty.root.exists()
    with pytest.raises(UnknownModelError):
        empty.open(name)


@pytest.mark.parametrize(
    "which", ["3", "0", "-1", "01x", "", "best", "²", "९", "9" * 5000, "../1", "1/2"]
)
def test_what_names_no_version_is_refused_with_those_there_are(tmp_path: Path, which: str) -> None:
    registry = with_versions(tmp_path, 2)
    with pytest.raises(UnknownVersionError, match="known: 1, 2"):
        registry.open("tiny", which)


def test_every_name_of_a_version_opens_it(tmp_path: Path) -> None:
    registry = with_versions(tmp_path, 2)
    registry.promote("tiny", 2, expected=1, **WHY)
    opened = {
        w: registry.open("tiny", w).manifest.version for w in ("1", "2", "champion", "previous")
    }
    assert opened == {"1": 1, "2": 2, "champion": 2, "previous": 1}
    with pytest.raises(UnknownVersionError):
        registry.resolve("tiny", "challenger")
    with pytest.raises(UnknownModelError, match="known: tiny"):
        registry.resolve("other")


def test_promote_refuses_when_the_champion_moved(tmp_path: Path) -> None:
    registry = with_versions(tmp_path, 3)
    registry.promote("tiny", 2, expected=1, **WHY)
    before = snapshot(tmp_path)
    for expected in (1, None, 7):
        with pytest.raises(ChampionMovedError, match="the champion is 2; judge it again") as caught:
            registry.promote("tiny", 3, expected=expected, **WHY)
        assert (caught.value.expected, caught.value.champion) == (expected, 2)
    assert snapshot(tmp_path) == before


def test_promote_of_the_champion_changes_nothing(tmp_path: Path) -> None:
    registry = with_versions(tmp_path, 2)
    before = snapshot(tmp_path)
    assert registry.promote("tiny", 1, expected=2, **WHY).champion == 1
    assert snapshot(tmp_path) == before


def test_damaged_version_is_neither_promoted_nor_rolled_back_to(tmp_path: Path) -> None:
    registry = with_versions(tmp_path, 3)
    registry.promote("tiny", 2, expected=1, **WHY)
    for version in (1, 3):
        (tmp_path / "tiny" / str(version) / MODEL).write_bytes(b"other")
    before = snapshot(tmp_path)
    with pytest.raises(BundleError):
        registry.promote("tiny", 3, expected=2, **WHY)
    with pytest.raises(BundleError):
        registry.rollback("tiny", **WHY)
    assert snapshot(tmp_path) == before


def test_withdraw_ends_a_challenge_and_nothing_else(tmp_path: Path) -> None:
    registry = with_versions(tmp_path, 3)
    assert registry.withdraw("tiny", 2, **WHY) == Aliases(champion=1, challenger=3)
    assert registry.withdraw("tiny", 3, **WHY) == Aliases(champion=1)
    assert registry.audit("tiny")[-1].action == "withdraw"
    assert registry.versions("tiny") == (1, 2, 3)


def test_rollback_swaps_champion_and_previous(tmp_path: Path) -> None:
    registry = with_versions(tmp_path, 2)
    with pytest.raises(RegistryError, match="no previous champion"):
        registry.rollback("tiny", **WHY)
    registry.promote("tiny", 2, expected=1, **WHY)
    with pytest.raises(ChampionMovedError):
        registry.rollback("tiny", expected=1, **WHY)
    after = registry.rollback("tiny", expected=2, **WHY)
    assert after == registry.aliases("tiny") == Aliases(champion=1, challenger=None, previous=2)
    assert [r.action for r in registry.audit("tiny")][-2:] == ["promote", "rollback"]


def test_of_many_processes_exactly_one_promotes(tmp_path: Path) -> None:
    contenders = 8
    registry = with_versions(tmp_path, contenders + 1)
    go = tmp_path / "go"

    def contend(version: int) -> None:
        while not go.exists():
            time.sleep(0.001)
        registry.promote("tiny", version, expected=1, **WHY)

    for _ in range(3):
        champion = registry.aliases("tiny").champion
        if champion != 1:
            registry.promote("tiny", 1, expected=champion, **WHY)
        before = len(registry.audit("tiny"))
        children = [in_child(lambda v=v: contend(v)) for v in range(2, contenders + 2)]
        time.sleep(0.05)
        go.touch()
        ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        go.unlink()
        assert sorted(ends) == [0] + [3] * (contenders - 1)
        winner = 2 + ends.index(0)
        assert registry.aliases("tiny") == Aliases(
            champion=winner, challenger=registry.aliases("tiny").challenger, previous=1
        )
        assert len(registry.audit("tiny")) == before + 1


def test_of_many_processes_each_publishes_its_own_version(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    publish(registry)
    children = [in_child(lambda k=k: publish(registry, f"job-{k % 5}")) for k in range(10)]
    assert {os.waitpid(child, 0)[1] for child in children} == {0}
    assert registry.versions("tiny") == (1, 2, 3, 4, 5, 6)
    assert sorted(str(r.event) for r in registry.audit("tiny")[1:]) == [
        f"job-{k}" for k in range(5)
    ]


@some_lines
def test_publish_killed_at_any_line_is_finished_by_its_repeat(tmp_path: Path, every: int) -> None:
    def judge(registry: Registry) -> None:
        assert registry.aliases("tiny").champion == 1
        assert publish(registry, "job") == 3
        assert registry.versions("tiny") == (1, 2, 3)
        assert [r.version for r in registry.audit("tiny") if r.event == "job"] == [3]
        assert registry.aliases("tiny") == Aliases(champion=1, challenger=3)

    last = deaths(tmp_path, lambda registry: publish(registry, "job"), judge, every=every)
    assert last > 80


@some_lines
def test_promote_killed_at_any_line_is_finished_by_its_repeat(tmp_path: Path, every: int) -> None:
    def promote(registry: Registry) -> None:
        registry.promote("tiny", 2, expected=1, event="job", **WHY)

    def judge(registry: Registry) -> None:
        assert registry.aliases("tiny").champion in (1, 2)
        promote(registry)
        assert [r.version for r in registry.audit("tiny") if r.event == "job"] == [2]
        assert registry.aliases("tiny") == Aliases(champion=2, previous=1)

    assert deaths(tmp_path, promote, judge, every=every) > 50


def test_torn_last_audit_line_never_took_effect(tmp_path: Path) -> None:
    registry = with_versions(tmp_path, 2)
    log = tmp_path / "tiny" / "audit.jsonl"
    whole, records = log.read_bytes(), registry.audit("tiny")
    line = whole[whole[:-1].rfind(b"\n") + 1 :]
    for torn in range(1, len(line)):
        log.write_bytes(whole + line[:torn])
        assert registry.audit("tiny") == records
    registry.promote("tiny", 2, expected=1, **WHY)
    assert log.read_bytes().startswith(whole), "what was written stays byte for byte"
    assert registry.audit("tiny")[:-1] == records


@pytest.mark.parametrize("found", [b"", b"{", b'{"champion": 2}', b'{"champion": "x"}', None])
def test_aliases_that_disagree_with_the_audit_are_written_anew(
    tmp_path: Path, found: bytes | None
) -> None:
    registry = with_versions(tmp_path, 2)
    aliases = tmp_path / "tiny" / "aliases.json"
    if found is None:
        aliases.unlink()
    else:
        aliases.write_bytes(found)
    assert registry.promote("tiny", 2, expected=1, **WHY).champion == 2
    assert msgspec.json.decode(aliases.read_bytes(), type=Aliases).champion == 2


def test_unaudited_version_of_another_job_is_never_an_alias(tmp_path: Path) -> None:
    registry = with_versions(tmp_path, 1)
    small = [tmp_path / "tiny" / name for name in ("audit.jsonl", "aliases.json")]
    before = [path.read_bytes() for path in small]
    publish(registry, "lost")
    for path, data in zip(small, before, strict=True):
        path.write_bytes(data)  # as if it was killed before its record
    assert publish(registry, "other") == 3
    assert registry.aliases("tiny") == Aliases(champion=1, challenger=3)
    assert publish(registry, "lost") == 2, "its own job finds it again"


def test_damaged_files_are_named(tmp_path: Path) -> None:
    registry = with_versions(tmp_path, 1)
    (tmp_path / "tiny" / "aliases.json").write_bytes(b"{")
    with pytest.raises(RegistryError, match=r"aliases\.json is damaged"):
        registry.aliases("tiny")
    (tmp_path / "tiny" / "audit.jsonl").write_bytes(b"no\n")
    with pytest.raises(RegistryError, match=r"audit\.jsonl is damaged"):
        registry.audit("tiny")


class RegistryMachine(RuleBasedStateMachine):
    """Any order of changes, against a model of three numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.registry = Registry(Path(self.folder.name))
        self.count, self.expected = 0, Aliases()
        self.events: dict[str, int] = {}

    @rule(event=st.sampled_from(["a", "b", "c", None]))
    def publish(self, event: str | None) -> None:
        version = publish(self.registry, event)
        if event in self.events:
            assert version == self.events[event]
            return
        self.count += 1
        assert version == self.count
        if event is not None:
            self.events[event] = version
        self.expected = msgspec.structs.replace(self.expected, challenger=version)

    @precondition(lambda self: self.count)
    @rule(data=st.data())
    def promote(self, data: st.DataObject) -> None:
        version = data.draw(st.integers(1, self.count))
        judged = data.draw(st.sampled_from([self.expected.champion, None, 1, self.count]))
        before = self.expected
        if before.champion not in (version, judged):
            with pytest.raises(ChampionMovedError):
                self.registry.promote("tiny", version, expected=judged, **WHY)
            return
        after = self.registry.promote("tiny", version, expected=judged, **WHY)
        if before.champion != version:
            challenger = None if before.challenger == version else before.challenger
            self.expected = Aliases(version, challenger, before.champion)
        assert after == self.expected

    @precondition(lambda self: self.expected.previous)
    @rule()
    def rollback(self) -> None:
        before = self.expected
        self.expected = Aliases(before.previous, before.challenger, before.champion)
        assert self.registry.rollback("tiny", **WHY) == self.expected

    @precondition(lambda self: self.count)
    @rule(torn=st.binary(max_size=20).filter(lambda b: b"\n" not in b))
    def crash_while_appending(self, torn: bytes) -> None:
        with (Path(self.folder.name) / "tiny" / "audit.jsonl").open("ab") as stream:
            stream.write(torn)

    @invariant()
    def champion_is_a_verified_version_and_the_audit_leads_to_the_aliases(self) -> None:
        if not self.count:
            assert self.registry.models() == ()
            return
        aliases = self.registry.aliases("tiny")
        assert aliases == self.expected == self.registry.audit("tiny")[-1].aliases
        assert self.registry.versions("tiny") == tuple(range(1, self.count + 1))
        if aliases.champion is not None:
            assert self.registry.open("tiny").manifest.version == aliases.champion

    def teardown(self) -> None:
        self.folder.cleanup()


TestRegistryMachine = RegistryMachine.TestCase
TestRegistryMachine.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
