"""The program of today on the state of the version before: it serves, watches and reads it."""

import tarfile
from pathlib import Path

import pytest

from tests import bundles
from tests.e2e.stack import TRAINS_SECONDS, Stack, get, running, status_of
from tests.e2e.states.making import HERE, ROWS

STATES = sorted(HERE.glob("*.tar.gz"))
MOST_BYTES = 300_000


def test_there_is_a_state_of_an_earlier_version_and_it_is_small() -> None:
    assert STATES
    assert all(file.stat().st_size <= MOST_BYTES for file in STATES)


@pytest.mark.parametrize("file", STATES, ids=lambda file: file.name)
def test_a_state_of_an_earlier_version_goes_on(file: Path, tmp_path: Path) -> None:
    with tarfile.open(file) as archive:
        archive.extractall(tmp_path / "state", filter="data")
    stack = Stack(tmp_path / "state")
    (before,) = stack.json("jobs", "list")
    assert (before["model"], before["kind"]) == ("digits", "evaluate")
    assert before["outcome"] == "failed", "as the program of then left it"
    with running(stack):
        rows = bundles.digits().test
        body = {"instances": rows.x[:1].tolist()}
        status, told = status_of(f"{stack.url}/predict", body, {"X-Request-Id": "after"})
        assert (status, told["model"], told["version"]) == (200, "digits", 1)
        for known in (f"before-{ROWS - 1}", "after"):  # a request of then, and one of now
            label = {"id": known, "label": "2"}
            stack.until(
                lambda sent=label: status_of(f"{stack.url}/feedback", sent)[0] == 200,
                f"the label of {known} is taken",
            )
        (watched,) = get(f"{stack.watch_url}/models")
        assert (watched["model"], watched["version"]) == ("digits", 1)
        assert [job["id"] for job in stack.jobs()] == [before["id"]]
        stack.cli("jobs", "start", "digits", "--reason", "after the upgrade")
        stack.until(lambda: len(stack.jobs()) == 2, "a new run beside the one of before")
        stack.until(
            lambda: stack.jobs()[0]["outcome"], "the new run is over", seconds=TRAINS_SECONDS
        )
        after = stack.jobs()[0]
        assert after["id"] != before["id"]
        # The model of the tests names no data: a run of today ends as that of then did.
        assert (after["outcome"], after["detail"]) == (before["outcome"], before["detail"])
    audit = [each["action"] for each in stack.json("models", "show", "digits")["audit"]]
    assert audit[:4] == ["publish", "promote", "hold", "release"]
