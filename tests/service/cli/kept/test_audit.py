"""`holdfast audit verify` on real registries."""

from models.versions.audit_chain import hash_bytes
from tests.service.cli.test_changes import Registry, made, registry, run, said, told

__all__ = ["made", "registry"]  # fixtures


def test_a_whole_audit_is_told_with_its_head(registry: Registry) -> None:
    rows = told("audit", "verify")
    assert [(row["model"], row["records"], row["fault"]) for row in rows] == [
        ("digits", 5, ""),
        ("wine", 5, ""),
    ]
    head = rows[0]["head"]
    said("models", "hold", "digits")
    assert "digits: 6 records" in said("audit", "verify", "digits", "--head", head)
    assert run("audit", "verify", "digits", "--head", "0" * 64).exit_code == 1
    assert run("audit", "verify", "--head", head).exit_code == 2
    assert run("audit", "verify", "none").exit_code == 1


def test_a_changed_line_is_named_and_the_status_is_1(registry: Registry) -> None:
    path = registry.root / "digits" / "audit.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[1].replace(b"publish", b"Publish"), *lines[2:]]))
    done = run("audit", "verify")
    assert done.exit_code == 1
    assert "digits: BROKEN: line 3: its hash is not that of the line before" in done.output
    assert "wine: 5 records" in done.output


def test_a_head_of_before_a_new_audit_is_followed_into_what_was_kept(registry: Registry) -> None:
    path = registry.root / "digits" / "audit.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    head = hash_bytes(lines[0][:-1])
    path.write_bytes(b"".join([lines[0], lines[1].replace(b"publish", b"Publish"), *lines[2:]]))
    said("models", "promote", "digits", "1")
    assert run("audit", "verify", "digits", "--head", head).exit_code == 0
    assert run("audit", "verify", "digits", "--head", "0" * 64).exit_code == 1
    path.unlink()
    said("models", "promote", "digits", "2")
    assert "what was before a new audit began is not known" in said("audit", "verify", "digits")
    done = run("audit", "verify", "digits", "--head", head)
    assert done.exit_code == 1
    assert "whether one did is not known" in done.output
