"""The audit's hash chain: what breaks it is named, what does not goes on."""

import json
import os
import shutil
import signal
from pathlib import Path

import msgspec
import pytest

from models.base.errors import RegistryError
from models.versions.audit_chain import NOTHING, follow_chain, hash_bytes
from models.versions.registry import Registry
from models.versions.registry_files import ModelFiles
from tests.killing import in_child
from tests.models.versions.test_registry import WHY, publish


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    registry = Registry(tmp_path_factory.mktemp("made"))
    for _ in range(2):
        publish(registry, model="tiny")
    registry.promote("tiny", 1, expected=None, **WHY)
    registry.promote("tiny", 2, expected=1, **WHY)
    return registry.root


@pytest.fixture
def registry(made: Path, tmp_path: Path) -> Registry:
    shutil.copytree(made, tmp_path / "registry")
    return Registry(tmp_path / "registry")


def audit_file(registry: Registry) -> Path:
    return registry.root / "tiny" / "audit.jsonl"


def lines_of(registry: Registry) -> list[bytes]:
    return audit_file(registry).read_bytes().splitlines()


def test_each_line_holds_the_hash_of_the_line_before(registry: Registry) -> None:
    lines = lines_of(registry)
    assert len(lines) == 4
    held = [json.loads(line)["line_before"] for line in lines]
    assert held == [NOTHING, *(hash_bytes(line) for line in lines[:-1])]
    checked = ModelFiles(registry.root / "tiny").check_audit()
    assert (checked.fault, checked.records, checked.head) == ("", 4, hash_bytes(lines[-1]))


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_changed_reason_is_named_by_its_line(registry: Registry, number: int) -> None:
    lines = lines_of(registry)
    record = json.loads(lines[number - 1]) | {"reason": "nothing to see"}
    lines[number - 1] = msgspec.json.encode(record)
    audit_file(registry).write_bytes(b"\n".join(lines) + b"\n")
    checked = ModelFiles(registry.root / "tiny").check_audit()
    # The line after it no longer fits; of the last one the alias file knows the hash.
    assert str(min(number + 1, 4)) in checked.fault or checked.line == number + 1
    assert checked.fault
    with pytest.raises(RegistryError, match="damaged"):
        registry.audit("tiny")
    with pytest.raises(RegistryError, match="begins a new"):
        registry.promote("tiny", 1, expected=2, **WHY)
    registry.promote("tiny", 1, expected=2, by_person=True, **WHY)  # a person begins a new one
    assert ModelFiles(registry.root / "tiny").check_audit().fault == ""


@pytest.mark.parametrize("gone", [1, 2, 3, 4])
def test_a_line_that_is_gone_is_missed(registry: Registry, gone: int) -> None:
    lines = lines_of(registry)
    del lines[gone - 1]
    audit_file(registry).write_bytes(b"\n".join(lines) + b"\n")
    checked = ModelFiles(registry.root / "tiny").check_audit()
    assert checked.fault
    if gone < 4:
        assert checked.line == gone


def test_an_audit_of_an_earlier_program_is_continued_by_a_line_that_holds_its_hash(
    registry: Registry,
) -> None:
    old = [json.loads(line) for line in lines_of(registry)]
    for record in old:
        del record["line_before"]
    data = b"".join(msgspec.json.encode(record) + b"\n" for record in old)
    audit_file(registry).write_bytes(data)
    aliases = json.loads((registry.root / "tiny" / "aliases.json").read_bytes())
    del aliases["head"]
    (registry.root / "tiny" / "aliases.json").write_bytes(msgspec.json.encode(aliases))
    assert ModelFiles(registry.root / "tiny").check_audit().unchained == 4

    registry.withdraw("tiny", 1, **WHY)
    registry.promote("tiny", 1, expected=2, **WHY)
    registry.hold("tiny", **WHY)
    after = lines_of(registry)
    assert json.loads(after[4])["line_before"] == hash_bytes(data)
    assert json.loads(after[5])["line_before"] == hash_bytes(after[4])
    checked = ModelFiles(registry.root / "tiny").check_audit()
    assert (checked.fault, checked.unchained, checked.records) == ("", 4, 6)

    audit_file(registry).write_bytes(b"\n".join([after[1], after[0], *after[2:]]) + b"\n")
    changed = ModelFiles(registry.root / "tiny").check_audit()
    assert changed.line == 5
    assert "line before was changed" in changed.fault


def test_a_torn_tail_is_told_and_the_chain_goes_on(registry: Registry) -> None:
    with audit_file(registry).open("ab") as stream:
        stream.write(b'{"at":"2026')
    checked = ModelFiles(registry.root / "tiny").check_audit()
    assert (checked.fault, checked.torn_bytes) == ("", 11)
    registry.hold("tiny", **WHY)
    checked = ModelFiles(registry.root / "tiny").check_audit()
    assert (checked.fault, checked.torn_bytes, checked.records) == ("", 0, 5)


def test_two_processes_write_one_chain(registry: Registry) -> None:
    def write() -> None:
        for _ in range(20):
            registry.hold("tiny", **WHY)
            registry.release("tiny", **WHY)

    children = [in_child(write) for _ in range(2)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    checked = ModelFiles(registry.root / "tiny").check_audit()
    assert checked.fault == ""
    assert checked.records > 4 + 40  # a release where nothing is held writes nothing


def test_a_writer_that_is_killed_leaves_a_chain_that_goes_on(registry: Registry) -> None:
    for _ in range(5):
        before = len(lines_of(registry))
        child = in_child(lambda: [registry.hold("tiny", **WHY) for _ in range(10**6)])
        while len(lines_of(registry)) < before + 3:
            pass
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert ModelFiles(registry.root / "tiny").check_audit().fault == ""
        registry.release("tiny", **WHY)
        checked = ModelFiles(registry.root / "tiny").check_audit()
        assert (checked.fault, checked.torn_bytes) == ("", 0)


def test_the_chain_of_no_lines_begins_with_the_hash_of_nothing() -> None:
    assert follow_chain([]).head == NOTHING
