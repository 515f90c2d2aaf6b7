"""The anchor of a model: the version that a person approved last."""

from pathlib import Path

from models.versions.registry import Registry
from tests.models.versions.test_registry import WHY, with_versions


def anchor_of(registry: Registry) -> tuple[int, int] | None:
    """Version and attempts of the anchor."""
    anchor = registry.state("tiny").anchor
    return None if anchor is None else (anchor.version, anchor.attempts)


def test_anchor_is_the_first_champion_until_a_person_approves_another(tmp_path: Path) -> None:
    registry = with_versions(tmp_path, 3, champion=None)
    assert anchor_of(registry) is None
    registry.promote("tiny", 1, expected=None, **WHY)
    assert anchor_of(registry) == (1, 0)
    for _ in range(2):  # a step that runs twice counts once
        registry.note_attempt("tiny", 2, alpha=0.03, passed=True, event="job", actor="tests")
    registry.promote("tiny", 2, expected=1, **WHY)
    assert anchor_of(registry) == (1, 1), "what the loop promotes moves no anchor"
    registry.promote("tiny", 2, expected="any", by_person=True, **WHY)
    assert anchor_of(registry) == (2, 0), "a person who promotes the champion approves it"
    assert registry.aliases("tiny").previous == 1
    registry.promote("tiny", 3, expected=2, approved=True, **WHY)
    assert anchor_of(registry) == (3, 0), "so does one who approves a job"
    registry.rollback("tiny", **WHY)
    assert anchor_of(registry) == (3, 0), "what the loop takes back moves no anchor"
    registry.rollback("tiny", by_person=True, **WHY)
    assert anchor_of(registry) == (3, 0)
    registry.rollback("tiny", by_person=True, **WHY)
    assert anchor_of(registry) == (2, 0), "what a person brings back is the anchor"
    actions = [(record.action, record.anchor) for record in registry.audit("tiny")][-4:]
    assert [action for action, _ in actions] == ["promote", *["rollback"] * 3]
    assert "approve" in [record.action for record in registry.audit("tiny")]
    (registry.root / "tiny" / "aliases.json").unlink()
    registry.withdraw("tiny", 9, actor="tests", reason="the file is written again")
    assert anchor_of(registry) == (2, 0), "the audit alone tells it"
