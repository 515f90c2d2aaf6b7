"""`holdfast records` and `holdfast models prune` on a real state directory."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from models.data.lineage import Lineage, LiveRows
from models.data.records import Rows
from models.versions.registry_files import ModelFiles
from monitoring.records.store import Key, Record, RecordStore
from service.cli.kept.copies import find_copies
from service.configuration.settings import load
from tests.printed import data_of
from tests.service.cli.test_changes import Registry, made, registry, run, said, told

__all__ = ["made", "registry"]  # fixtures


@pytest.fixture
def store(registry: Registry) -> RecordStore:
    """Ten requests of two clients; every other one has a label."""
    found = RecordStore(f"sqlite:///{registry.root.parent}/records.sqlite")
    for k in range(10):
        x = np.full(4, k, np.float32).tobytes()
        client = "token shop" if k < 4 else "token bank"
        found.add([Record(f"r{k}", 0, 100.0 + k, "digits", 2, x, 1, 0.5, 0.2, 0.9, 0.3, client)])
    keys = [Key(f"r{k}", 0) for k in range(0, 10, 2)]
    rows = found.find(keys)
    found.add_feedback([(key, rows[key], 3) for key in keys], "token bank", trusted=True)
    found.close()
    return found


def test_stats_tell_what_is_kept_and_its_room(store: RecordStore) -> None:
    value = told("records", "stats")
    (row,) = value["models"]
    assert (row["model"], row["requests"], row["instances"], row["labels"]) == ("digits", 10, 10, 5)
    assert (row["bytes"], row["oldest"]) == (160, "1970-01-01T00:01:40Z")
    assert value["room"]["database"] > 0
    assert value["room"]["segments"] > 0
    assert value["limits"]["inputs"] == "on"
    assert "digits" in said("records", "stats")


def test_an_export_has_every_row_with_label_and_input(store: RecordStore, tmp_path: Path) -> None:
    file = tmp_path / "out.parquet"
    assert told("records", "export", str(file), "--model", "digits")["rows"] == 10
    table = pq.read_table(file).to_pylist()
    assert [row["id"] for row in table] == [f"r{k}" for k in range(10)]
    assert [row["label"] for row in table] == [3, None] * 5
    assert [np.frombuffer(row["x"], np.float32)[0] for row in table] == list(range(10))
    assert table[4]["at"].timestamp() == 104.0
    assert file.stat().st_mode & 0o077 == 0
    since = ("--since", "1970-01-01T00:01:45Z", "--until", "1970-01-01T00:01:47Z")
    said("records", "export", str(file), "--no-inputs", *since)
    part = pq.read_table(file)
    assert part.column("id").to_pylist() == ["r5", "r6"]
    assert "x" not in part.column_names


def test_a_purge_is_asked_for_with_a_reason_and_stands_in_the_audit(
    registry: Registry, store: RecordStore
) -> None:
    assert run("records", "purge").exit_code == 2
    assert run("records", "purge", "--all", "--client", "x", "--reason", "y").exit_code == 2
    assert run("records", "purge", "--all").exit_code == 2
    dry = told("records", "purge", "--client", "token shop", "--dry-run")
    assert dry["chosen"] == [{"model": "digits", "requests": 4, "instances": 4, "labels": 2}]
    assert run("records", "purge", "--client", "token shop", "--reason", "asked").exit_code == 1
    assert store.counts("digits").requests == 10  # nobody said yes
    value = told("records", "purge", "--client", "token shop", "--reason", "asked", "--yes")
    assert [(r["instances"], r["labels"]) for r in value["removed"]] == [(4, 2)]
    assert store.counts("digits").requests == 6
    last = registry.audit("digits")[-1]
    assert (last.action, last.by_person) == ("purge", True)
    assert last.reason == "records of client token shop: asked"
    assert ModelFiles(registry.root / "digits").check_audit().fault == ""
    assert "(purge): 4 rows, 2 of them with a label" in said("records", "stats")
    assert "nothing is recorded of that" in said("records", "purge", "--id", "r0", "--dry-run")
    store.close()


def test_copies_in_windows_of_ended_jobs_go_and_others_are_named(
    registry: Registry, store: RecordStore
) -> None:
    state = registry.root.parent
    x = np.stack([np.full(4, k, np.float32) for k in (0, 5)])
    for name in ("ended", "other"):
        (state / "jobs" / name).mkdir(parents=True)
    np.savez(state / "jobs" / "ended" / "window.npz", x=x)
    np.savez(state / "jobs" / "other" / "window.npz", x=x[1:])
    (state / "jobs" / "torn").mkdir()
    (state / "jobs" / "torn" / "window.npz").write_bytes(b"no")
    done = run("records", "purge", "--id", "r0", "--reason", "asked", "--yes", "--json")
    assert done.exit_code == 0
    copies = {Path(c["where"]).parent.name: c for c in data_of(done.stdout)["copies"]}
    assert {name: (c["rows"], c["gone"]) for name, c in copies.items()} == {
        "ended": (1, True),
        "torn": (None, True),
    }
    assert not (state / "jobs" / "ended" / "window.npz").exists()
    assert (state / "jobs" / "other" / "window.npz").exists()


def test_copies_in_a_version_are_found_by_their_content(
    registry: Registry, store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monitoring.records.keeping.purge import hash_input

    x = np.stack([np.full(4, k, np.float32) for k in (0, 5)])
    live = LiveRows(Rows(x, np.zeros(2, np.int64)), np.zeros(2), np.zeros(2, np.int64))
    monkeypatch.setattr(Lineage, "of", lambda bundle: Lineage({"train": live}))
    settings = load({"HOLDFAST_STATE": str(registry.root.parent)})
    purged = {"wine": {hash_input(x[0].tobytes())}}
    copies = find_copies(settings, registry, purged)
    assert [(c.where, c.rows, c.gone) for c in copies] == [
        (f"wine/{version}", 1, False) for version in (1, 2, 3)
    ]
    done = run("records", "purge", "--id", "r5", "--reason", "asked", "--yes")
    assert done.exit_code == 1
    assert "copies of purged rows stay in digits/1, digits/2, digits/3" in done.output


def test_versions_that_nothing_needs_are_pruned_and_the_others_say_why(
    registry: Registry,
) -> None:
    dry = told("models", "prune", "--model", "digits", "--keep", "0", "--dry-run")
    because = {row["version"]: row["because"] for row in dry}
    assert because[1].startswith("previous")
    assert because[2].startswith("champion")
    assert because[3].startswith("challenger")
    registry.withdraw("digits", 3, actor="a", reason="b")
    assert run("models", "prune", "--model", "digits", "--keep", "0").exit_code == 1  # not asked
    assert registry.versions("digits") == (1, 2, 3)
    evaluations = registry.root.parent / "evaluations" / "digits" / "3"
    evaluations.mkdir(parents=True)
    kept = told("models", "prune", "--model", "digits", "--keep", "1", "--yes")
    assert [row["because"] for row in kept if row["version"] == 3] == ["new"]
    said("models", "prune", "--model", "digits", "--keep", "0", "--yes", "--reason", "room")
    assert registry.versions("digits") == (1, 2)
    assert not evaluations.exists()
    assert registry.versions("wine") == (1, 2, 3)
    last = registry.audit("digits")[-1]
    assert (last.action, last.version, last.reason) == ("remove", 3, "room")
    assert ModelFiles(registry.root / "digits").check_audit().fault == ""
