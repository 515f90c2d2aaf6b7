"""The audit's hash chain: what breaks it is named, what does not goes on."""

import json
import os
import shutil
import signal
from functools import partial
from pathlib import Path

import msgspec
import pytest

from models.base.errors import RegistryError
from models.versions.audit_chain import NOTHING, follow_chain, hash_bytes
from models.versions.registry import Registry
from models.versions.registry_files import ModelFiles
from tests.killing import in_child
from tests.models.versions.test_registry import WHY, publish
from tests.waiting import wait_until


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


def _has_written(registry: Registry, lines: int, child: int) -> bool:
    assert os.waitpid(child, os.WNOHANG) == (0, 0), "the child has ended"
    return len(lines_of(registry)) >= lines


def test_a_writer_that_is_killed_leaves_a_chain_that_goes_on(registry: Registry) -> None:
    for _ in range(5):
        before = len(lines_of(registry))
        child = in_child(lambda: [registry.hold("tiny", **WHY) for _ in range(10**6)])
        wait_until(partial(_has_written, registry, before + 3, child), what="three lines")
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert ModelFiles(registry.root / "tiny").check_audit().fault == ""
        registry.release("tiny", **WHY)
        checked = ModelFiles(registry.root / "tiny").check_audit()
        assert (checked.fault, checked.torn_bytes) == ("", 0)


def test_the_chain_of_no_lines_begins_with_the_hash_of_nothing() -> None:
    assert follow_chain([]).head == NOTHING


def alias_file(registry: Registry) -> Path:
    return registry.root / "tiny" / "aliases.json"


def test_without_the_alias_file_the_end_is_not_known(registry: Registry) -> None:
    path, files = alias_file(registry), ModelFiles(registry.root / "tiny")
    whole = json.loads(path.read_bytes())
    path.write_bytes(msgspec.json.encode({k: v for k, v in whole.items() if k != "head"}))
    assert "the end is not known" in files.check_audit().fault
    path.write_bytes(msgspec.json.encode(whole | {"records": 1, "head": whole["head"]}))
    assert files.check_audit().fault
    path.write_bytes(b"{")
    assert "the end is not known" in files.check_audit().fault
    path.unlink()
    assert "the end is not known" in files.check_audit().fault
    audit_file(registry).write_bytes(b"\n".join(lines_of(registry)[:-2]) + b"\n")
    assert "the end is not known" in files.check_audit().fault


def test_an_alias_file_of_much_earlier_does_not_tell_the_end(registry: Registry) -> None:
    files, old = ModelFiles(registry.root / "tiny"), alias_file(registry).read_bytes()
    registry.hold("tiny", **WHY)
    alias_file(registry).write_bytes(old)  # a crash before it was written leaves this
    assert files.check_audit().fault == ""
    registry.release("tiny", **WHY)
    alias_file(registry).write_bytes(old)
    assert "knows 4 of 6 lines" in files.check_audit().fault


def begin_anew(registry: Registry) -> str:
    """Let a person begin a new audit, since line 3 was changed; returns the head of line 1."""
    lines = lines_of(registry)
    lines[2] = lines[2].replace(b"promote", b"Promote")
    audit_file(registry).write_bytes(b"\n".join(lines) + b"\n")
    registry.promote("tiny", 1, expected=2, by_person=True, **WHY)
    return hash_bytes(lines[0])


def test_an_audit_that_was_set_aside_is_followed_and_missed(registry: Registry) -> None:
    head, files = begin_anew(registry), ModelFiles(registry.root / "tiny")
    checked = files.check_audit()
    assert (checked.fault, checked.unknown) == ("", "")
    assert head in checked.links
    (aside,) = audit_file(registry).parent.glob("audit.jsonl.damaged-*")
    data = aside.read_bytes()
    aside.write_bytes(data.replace(b"publish", b"Publish"))
    assert "is not the file that was set aside" in files.check_audit().fault
    aside.unlink()
    checked = files.check_audit()
    assert "what was before is not known" in checked.fault
    assert head not in checked.links


def test_of_an_audit_that_was_gone_nothing_before_is_known(registry: Registry) -> None:
    audit_file(registry).unlink()
    registry.promote("tiny", 1, expected=2, by_person=True, **WHY)
    checked = ModelFiles(registry.root / "tiny").check_audit()
    assert (checked.fault, "not known" in checked.unknown) == ("", True)


def test_the_number_of_a_removed_version_is_not_given_again(registry: Registry) -> None:
    assert publish(registry, model="tiny") == 3
    registry.withdraw("tiny", 3, **WHY)
    registry.remove("tiny", 3, **WHY)
    begin_anew(registry)
    assert publish(registry, model="tiny") == 4
    registry.withdraw("tiny", 4, **WHY)
    registry.remove("tiny", 4, **WHY)
    audit_file(registry).unlink()  # the alias file alone knows
    registry.promote("tiny", 2, expected=1, by_person=True, **WHY)
    assert publish(registry, model="tiny") == 5
