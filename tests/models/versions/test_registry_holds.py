"""Laws of holds: a person's word stands until its time or its release, whatever else happens."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from models.base.errors import ChampionMovedError, RegistryError, UnknownModelError
from models.versions.registry import Aliases, Hold, Registry
from models.versions.registry_state import LONGEST_HOLD_SECONDS, HeldError
from tests.killing import in_child
from tests.models.versions.test_registry import (
    WHY,
    deaths,
    publish,
    snapshot,
    some_lines,
    with_versions,
)

ADA: dict[str, Any] = {"actor": "token ada", "reason": "complaints"}


def promote_by_loop(registry: Registry, version: int) -> Aliases:
    champion = registry.aliases("tiny").champion
    return registry.promote("tiny", version, expected=champion, **WHY)


def test_a_hold_stops_a_promotion_by_name_and_a_person_goes_through_it(tmp_path: Path) -> None:
    registry = with_versions(tmp_path, 3)
    hold = registry.hold("tiny", **ADA)
    before = snapshot(tmp_path)
    with pytest.raises(HeldError, match="held by token ada until it is released") as caught:
        promote_by_loop(registry, 2)
    assert caught.value.hold == hold
    assert "holdfast models release tiny" in str(caught.value)
    assert snapshot(tmp_path) == before
    after = registry.promote("tiny", 2, expected=1, by_person=True, **ADA)
    assert after.champion == 2
    assert registry.find_hold("tiny") == hold, "it stays"
    assert registry.release("tiny", **ADA) == hold
    assert registry.find_hold("tiny") is None
    assert promote_by_loop(registry, 3).champion == 3


def test_every_change_is_in_the_audit_with_who_why_and_the_holds_after_it(tmp_path: Path) -> None:
    registry = with_versions(tmp_path, 2)
    hold = registry.hold("tiny", until=time.time() + 60, **ADA)
    registry.promote("tiny", 2, expected="any", by_person=True, **ADA)
    registry.release("tiny", **ADA)
    told = [(r.action, r.actor, r.reason, r.by_person, r.holds) for r in registry.audit("tiny")]
    who = ("token ada", "complaints", True)
    assert told[-3:] == [
        ("hold", *who, (hold,)),
        ("promote", *who, (hold,)),
        ("release", *who, ()),
    ]
    assert not any(by_person for *_, by_person, _ in told[:-3])


def test_a_hold_ends_by_itself_at_its_time(tmp_path: Path) -> None:
    registry = with_versions(tmp_path, 2)
    end = time.time() + 3600
    registry.hold("tiny", until=end, **ADA)
    assert registry.find_hold("tiny", end - 1) is not None
    assert registry.find_hold("tiny", end) is None
    registry.hold("tiny", until=time.time() + 0.05, **ADA)
    while registry.find_hold("tiny") is not None:
        time.sleep(0.01)
    assert promote_by_loop(registry, 2).champion == 2


@pytest.mark.parametrize(
    "until", [float("nan"), float("inf"), 0.0, -1.0, 2 * LONGEST_HOLD_SECONDS + 2e9]
)
def test_a_hold_that_ends_never_or_before_it_begins_is_refused(
    tmp_path: Path, until: float
) -> None:
    registry = with_versions(tmp_path, 1)
    before = snapshot(tmp_path)
    with pytest.raises(RegistryError, match="a time to come"):
        registry.hold("tiny", until=until, **ADA)
    assert snapshot(tmp_path) == before


def test_an_unknown_model_is_not_held(empty: Registry) -> None:
    for call in (empty.hold, empty.release, empty.rollback):
        with pytest.raises(UnknownModelError):
            call("tiny", **ADA)
        with pytest.raises(UnknownModelError):
            call("../tiny", **ADA)


def test_a_persons_rollback_holds_promotions_in_the_same_record(tmp_path: Path) -> None:
    registry = with_versions(tmp_path, 3)
    promote_by_loop(registry, 2)
    registry.rollback("tiny", by_person=True, **ADA)
    record = registry.audit("tiny")[-1]
    assert (record.action, record.aliases.champion, len(record.holds)) == ("rollback", 1, 1)
    held = registry.find_hold("tiny")
    assert held == record.holds[0]
    assert (held.stops, held.until, held.actor) == ("promotions", None, "token ada")
    assert "from version 2 to 1: complaints" in held.reason
    with pytest.raises(HeldError):
        promote_by_loop(registry, 3)


def test_a_rollback_by_the_loop_is_never_stopped_and_holds_nothing(tmp_path: Path) -> None:
    registry = with_versions(tmp_path, 2)
    promote_by_loop(registry, 2)
    hold = registry.hold("tiny", **ADA)
    assert registry.rollback("tiny", expected=2, **WHY).champion == 1
    assert registry.find_hold("tiny") == hold
    registry.release("tiny", **ADA)
    registry.rollback("tiny", **WHY)
    assert registry.find_hold("tiny") is None


def test_a_hold_for_some_hours_does_not_end_that_of_a_rollback(tmp_path: Path) -> None:
    registry = with_versions(tmp_path, 2)
    promote_by_loop(registry, 2)
    registry.rollback("tiny", by_person=True, **ADA)
    end = time.time() + 3600
    registry.hold("tiny", until=end, actor="token bob", reason="moving house")
    now, later = registry.find_hold("tiny"), registry.find_hold("tiny", end)
    assert (now.stops, now.actor) == ("everything", "token bob")
    assert (later.stops, later.actor) == ("promotions", "token ada")
    registry.release("tiny", **ADA)
    assert registry.state("tiny").holds == (), "a release ends both"


def test_a_release_of_what_is_not_held_writes_nothing(tmp_path: Path) -> None:
    registry = with_versions(tmp_path, 1)
    before = snapshot(tmp_path)
    assert registry.release("tiny", **ADA) is None
    assert snapshot(tmp_path) == before


def test_files_from_before_there_were_holds_are_read(tmp_path: Path) -> None:
    registry = with_versions(tmp_path, 2)
    folder = tmp_path / "tiny"
    lines = [
        {name: record[name] for name in record if name not in ("holds", "by_person")}
        for record in map(msgspec.json.decode, (folder / "audit.jsonl").read_bytes().splitlines())
    ]
    (folder / "audit.jsonl").write_bytes(b"".join(msgspec.json.encode(x) + b"\n" for x in lines))
    (folder / "aliases.json").write_bytes(b'{"champion":1,"challenger":2,"previous":null}')
    assert registry.find_hold("tiny") is None
    assert registry.aliases("tiny") == Aliases(1, 2)
    registry.hold("tiny", **ADA)
    with pytest.raises(HeldError):
        promote_by_loop(registry, 2)


@some_lines
@pytest.mark.parametrize("act", ["hold", "release", "rollback"])
def test_a_change_killed_at_any_line_is_whole_or_has_not_happened(
    tmp_path: Path, act: str, every: int
) -> None:
    def change(registry: Registry) -> None:
        if act == "rollback":
            registry.promote("tiny", 2, expected=1, **WHY)
            registry.rollback("tiny", by_person=True, **ADA)
        else:
            registry.hold("tiny", **ADA)
            if act == "release":
                registry.release("tiny", **ADA)

    def judge(registry: Registry) -> None:
        registry.withdraw("tiny", 99, **WHY)  # the next change mends, this one changes nothing
        state, last = registry.state("tiny"), registry.audit("tiny")[-1]
        assert (state.aliases, state.holds) == (last.aliases, last.holds)
        held, rolled = registry.find_hold("tiny"), last.action == "rollback"
        assert (held is not None) == (last.action in ("hold", "rollback"))
        assert (state.aliases.previous == 2) == rolled

    assert deaths(tmp_path, change, judge, every=every) > 40


def test_of_processes_at_once_none_promotes_after_the_hold_of_another(tmp_path: Path) -> None:
    registry, go = with_versions(tmp_path, 9), tmp_path / "go"

    def contend(act: Callable[[], object]) -> int:
        def run() -> None:
            while not go.exists():
                time.sleep(0.001)
            with suppress(HeldError, ChampionMovedError):
                act()

        return in_child(run)

    def promote_next(version: int) -> None:
        for _ in range(20):
            with suppress(ChampionMovedError):
                promote_by_loop(registry, version)

    children = [contend(lambda v=version: promote_next(v)) for version in range(2, 9)]
    children.append(contend(lambda: registry.hold("tiny", **ADA)))
    go.touch()
    assert {os.waitpid(child, 0)[1] for child in children} == {0}
    actions = [record.action for record in registry.audit("tiny")]
    assert "promote" not in actions[actions.index("hold") :]
    assert registry.find_hold("tiny") is not None


class HeldMachine(RuleBasedStateMachine):
    """Any order of changes on three models, against a model of aliases and holds."""

    MODELS = ("fine", "held", "other")

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.registry = Registry(Path(self.folder.name))
        self.count = dict.fromkeys(self.MODELS, 0)
        self.aliases = dict.fromkeys(self.MODELS, Aliases())
        self.holds: dict[str, dict[str, Hold]] = {model: {} for model in self.MODELS}

    models = st.sampled_from(MODELS)

    @rule(model=models)
    def publish(self, model: str) -> None:
        self.count[model] += 1
        assert publish(self.registry, model=model) == self.count[model]
        self.aliases[model] = msgspec.structs.replace(
            self.aliases[model], challenger=self.count[model]
        )

    @rule(model=models, data=st.data(), by_person=st.booleans())
    def promote(self, model: str, data: st.DataObject, by_person: bool) -> None:
        if not self.count[model]:
            return
        version = data.draw(st.integers(1, self.count[model]))
        before = self.aliases[model]
        expected = data.draw(st.sampled_from([before.champion, None, 1]))

        def act() -> Aliases:
            return self.registry.promote(
                model, version, expected=expected, by_person=by_person, **WHY
            )

        if before.champion == version:
            assert act() == before
        elif before.champion != expected:
            with pytest.raises(ChampionMovedError):
                act()
        elif self.holds[model] and not by_person:
            with pytest.raises(HeldError):
                act()
        else:
            challenger = None if before.challenger == version else before.challenger
            self.aliases[model] = Aliases(version, challenger, before.champion)
            assert act() == self.aliases[model]

    @rule(model=models, by_person=st.booleans())
    def rollback(self, model: str, by_person: bool) -> None:
        before = self.aliases[model]
        if before.previous is None:
            with pytest.raises(RegistryError):
                self.registry.rollback(model, by_person=by_person, **WHY)
            return
        self.aliases[model] = Aliases(before.previous, before.challenger, before.champion)
        assert self.registry.rollback(model, by_person=by_person, **WHY) == self.aliases[model]
        if by_person:
            self.holds[model]["promotions"] = self.registry.audit(model)[-1].holds[-1]

    @rule(model=models)
    def withdraw(self, model: str) -> None:
        before = self.aliases[model]
        if before.challenger is not None:
            self.aliases[model] = msgspec.structs.replace(before, challenger=None)
            assert self.registry.withdraw(model, before.challenger, **WHY) == self.aliases[model]

    @rule(model=models, stops=st.sampled_from(["everything", "promotions"]))
    def hold(self, model: str, stops: Any) -> None:
        if self.count[model]:
            self.holds[model][stops] = self.registry.hold(model, stops=stops, **ADA)

    @rule(model=models)
    def release(self, model: str) -> None:
        if self.count[model]:
            released = self.registry.release(model, **ADA)
            assert released == self._in_force(model)
            self.holds[model] = {}

    @precondition(lambda self: any(self.count.values()))
    @rule(model=models, alias=st.sampled_from([b"", b"{", b"\x00" * 90, b"\xff\xfe", None]))
    def tear(self, model: str, alias: bytes | None) -> None:
        """The alias file is torn; the next change of this model mends it."""
        if not self.count[model]:
            return
        path = Path(self.folder.name) / model / "aliases.json"
        path.unlink() if alias is None else path.write_bytes(alias)
        for other in self.MODELS:
            if other != model and self.count[other]:
                assert self.registry.aliases(other) == self.aliases[other]
        if alias is not None:
            with pytest.raises(RegistryError, match=r"aliases\.json is damaged"):
                self.registry.aliases(model)
        self.registry.withdraw(model, 999, **WHY)

    def _in_force(self, model: str) -> Hold | None:
        return self.holds[model].get("everything") or self.holds[model].get("promotions")

    @invariant()
    def every_model_is_as_it_was_left(self) -> None:
        known = {model for model in self.MODELS if self.count[model]}
        assert set(self.registry.models()) == known
        for model in known:
            assert self.registry.aliases(model) == self.aliases[model]
            assert self.registry.find_hold(model) == self._in_force(model)
            last = self.registry.audit(model)[-1]
            assert last.aliases == self.aliases[model]
            assert set(last.holds) == set(self.holds[model].values())

    def teardown(self) -> None:
        self.folder.cleanup()


TestHeldMachine = HeldMachine.TestCase
TestHeldMachine.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
