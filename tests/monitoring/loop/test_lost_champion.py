"""A champion whose folder is lost while jobs run: its job ends by name, others do not notice."""

from pathlib import Path

import pytest

from tests.monitoring.loop.lab import Lab, audit, job_of


@pytest.mark.parametrize(
    ("step", "stage"),
    [("evaluate", "evaluating"), pytest.param("train", "training", marks=pytest.mark.slow)],
)
def test_a_champions_folder_deleted_while_jobs_run_and_brought_back(
    step: str, stage: str, tmp_path: Path
) -> None:
    lab = Lab(tmp_path / "state", ("lost", "other"), trainings=2)
    lab.put(*[job_of(f"{model}-1", model, held=[step]) for model in lab.models])
    life = lab.begin()
    lab.until("lost-1", stage)
    place, away = lab.folder / "registry" / "lost" / "1", tmp_path / "away"
    place.rename(away)
    for model in lab.models:
        lab.let_go(f"{model}-1", step)
    assert lab.wait(life) == 0
    jobs = lab.jobs()
    assert (jobs["lost-1"].state, jobs["lost-1"].outcome) == ("done", "failed")
    assert "lost" in jobs["lost-1"].detail
    assert (jobs["other-1"].state, jobs["other-1"].outcome) == ("done", "promoted")
    assert "promote" not in audit(lab, "lost")[2:], "only the first version ever was"
    away.rename(place)
    lab.put(job_of("lost-2", "lost"))
    assert lab.run() == 0
    assert lab.jobs()["lost-2"].outcome == "promoted"
