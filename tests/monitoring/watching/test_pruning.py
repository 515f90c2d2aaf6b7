"""Files of old jobs go, those of jobs that go on stay."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from monitoring.watching.pruning import prune_jobs

DAY = 86_400.0
NOW = 1e9


def test_files_of_old_jobs_go_unless_the_job_goes_on(tmp_path: Path) -> None:
    for name, age in (("old", 9), ("fresh", 1), ("touched", 9), ("running", 9)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "window.npz").write_bytes(b"rows")
        for path in (folder / "window.npz", folder):
            os.utime(path, (NOW - age * DAY,) * 2)
    os.utime(tmp_path / "touched" / "window.npz", (NOW,) * 2)
    jobs: Any = SimpleNamespace(unfinished=lambda: [SimpleNamespace(id="running")])
    assert prune_jobs(tmp_path, jobs, NOW - 5 * DAY) == ["old"]
    assert {path.name for path in tmp_path.iterdir()} == {"fresh", "touched", "running"}
    assert prune_jobs(tmp_path / "absent", jobs, NOW) == []
