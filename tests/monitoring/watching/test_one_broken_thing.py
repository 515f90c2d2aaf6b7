"""One broken thing stops nothing else: it has a name, the others go on, and mended it is over."""

import os
import shutil
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from structlog.testing import capture_logs

from tests import bundles
from tests.monitoring.watching.stage import (
    MODELS,
    CountingService,
    Watching,
    listening,
    registry_of_three,
)


class Place(NamedTuple):
    """A file of a model, and the problems that its damage may be named by."""

    path: str
    names: frozenset[str]


PLACES = {
    "alias": Place("registry/{}/aliases.json", frozenset({"alias_file"})),
    "audit": Place("registry/{}/audit.jsonl", frozenset({"audit_file"})),
    "evidence": Place("watch/{}.json", frozenset({"evidence_state"})),
    "manifest": Place("registry/{}/1/manifest.json", frozenset({"champion_damaged"})),
    "digest": Place("registry/{}/1/manifest.json.sha256", frozenset({"champion_damaged"})),
    "reference": Place("registry/{}/1/reference.npz", frozenset({"champion_damaged"})),
    "graph": Place("registry/{}/1/model.onnx", frozenset({"champion_damaged"})),
}


def cut(share: float) -> Callable[[Path], None]:
    """Keep so much of a file."""

    def damage(path: Path) -> None:
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])

    return damage


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def no_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe" + path.read_bytes()[2:])


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def nested(path: Path) -> None:
    path.write_bytes(b"[" * 200_000)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "empty": cut(0),
    "cut at the start": cut(0.02),
    "cut in the middle": cut(0.5),
    "cut near the end": cut(0.97),
    "zeros": zeros,
    "no text": no_text,
    "a folder": folder,
    "nested": nested,
    "gone": Path.unlink,
}
QUICK = ("alias", "evidence")  # the other files, the same way, take minutes together
EACH_FILE = pytest.mark.parametrize(
    "place", [pytest.param(p, marks=() if p in QUICK else pytest.mark.slow) for p in PLACES]
)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[tuple[Watching, CountingService]]:
    """A watcher of three models that has seen some traffic of each."""
    counting = CountingService(registry_of_three(tmp_path))
    with listening(counting) as url:
        watching = Watching(tmp_path, url)
        watching.tick()
        traffic(watching, counting)
        yield watching, counting
    watching.close()


def traffic(watching: Watching, counting: CountingService, rows: int = 30) -> None:
    """Rows of every model are answered, and the watcher looks."""
    for model in MODELS:
        counting.serve(watching.bundles[model], rows)
    watching.tick()


def remove(path: Path) -> None:
    """Whatever it is, if it is."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@EACH_FILE
def test_each_file_in_each_way_damaged_while_it_is_watched(
    place: str, scene: tuple[Watching, CountingService], tmp_path: Path
) -> None:
    """One after another, on one model and on all; where a person mends it, it is over."""
    watching, counting = scene
    answered = 30
    for number, damage in enumerate(DAMAGES):
        broken = MODELS if number % 4 == 3 else (MODELS[number % 3],)
        paths = [tmp_path / PLACES[place].path.format(model) for model in broken]
        whole = [path.read_bytes() for path in paths]
        for path in paths:
            DAMAGES[damage](path)
        traffic(watching, counting)
        answered += 30
        for model in MODELS:
            assert watching.requests(model) == answered, (place, damage, model)
            expected = PLACES[place].names if model in broken else set()
            assert watching.problems(model) == expected, (place, damage, model)
            row = watching.row(model)
            if model in broken:
                assert row["problem"] in expected
                assert row["since"] == watching.now
                assert row["advice"]
        for path, data in zip(paths, whole, strict=True):
            if place != "evidence":
                remove(path)
                path.write_bytes(data)
            elif path.is_dir():
                path.rmdir()  # a file of it the watcher writes anew by itself
        traffic(watching, counting)
        traffic(watching, counting)
        answered += 60
        for model in MODELS:
            assert watching.problems(model) == set(), (place, damage, model, "mended")
            assert watching.requests(model) == answered
    assert watching.row("alpha")["version"] == 1


@EACH_FILE
def test_each_file_damaged_before_the_watcher_starts(
    place: str, scene: tuple[Watching, CountingService], tmp_path: Path
) -> None:
    watching, counting = scene
    for number, damage in enumerate(DAMAGES):
        broken = MODELS[number % 3]
        path = tmp_path / PLACES[place].path.format(broken)
        whole = path.read_bytes()
        DAMAGES[damage](path)
        watching.again()
        watching.tick()
        for model in MODELS:
            expected = PLACES[place].names if model == broken else set()
            if (place, damage, model) == ("evidence", "gone", broken):
                expected = set()  # as of a model that was never watched
            assert watching.problems(model) == expected, (place, damage, model)
        watched = broken in watching.watcher.streams
        assert watched == (place in ("alias", "audit", "evidence")), (place, damage)
        remove(path)
        path.write_bytes(whole)
        watching.tick(2)
        assert watching.problems(broken) == set(), (place, damage)
        assert watching.row(broken)["version"] == 1
        for aside in (tmp_path / "watch").glob("*.damaged"):
            remove(aside)
    traffic(watching, counting)


def test_alias_and_audit_torn_together_leave_the_stream_or_a_row_that_says_so(
    scene: tuple[Watching, CountingService], tmp_path: Path
) -> None:
    watching, counting = scene
    for name in ("aliases.json", "audit.jsonl"):
        zeros(tmp_path / "registry" / "alpha" / name)
    traffic(watching, counting)
    assert watching.problems("alpha") == {"alias_file", "audit_file"}
    assert watching.requests("alpha") == 60, "the version of before is watched on"
    watching.again()
    traffic(watching, counting)
    assert watching.row("alpha")["version"] is None
    assert watching.row("alpha")["problem"] == "alias_file"
    assert watching.requests("beta") == 90
    registry = watching.registry
    registry.promote("alpha", 1, expected="any", actor="me", reason="mend it", by_person=True)
    watching.tick()
    assert watching.problems("alpha") == set()
    assert watching.row("alpha")["version"] == 1


def test_a_champions_folder_that_is_deleted_and_brought_back(
    scene: tuple[Watching, CountingService], tmp_path: Path
) -> None:
    watching, counting = scene
    place, away = tmp_path / "registry" / "beta" / "1", tmp_path / "away"
    for _ in range(3):
        place.rename(away)
        traffic(watching, counting)
        traffic(watching, counting)
        assert watching.problems("beta") == {"champion_missing"}
        assert watching.problems("alpha") == watching.problems("gamma") == set()
        away.rename(place)
        traffic(watching, counting)
        assert watching.problems("beta") == set()
    assert watching.requests("beta") == 30 + 9 * 30, "the service answers on: so does the watch"


def test_a_folder_deleted_before_the_start_is_a_row_and_is_watched_once_it_is_back(
    scene: tuple[Watching, CountingService], tmp_path: Path
) -> None:
    watching, counting = scene
    place, away = tmp_path / "registry" / "beta" / "1", tmp_path / "away"
    place.rename(away)
    watching.again()
    traffic(watching, counting)
    row = watching.row("beta")
    assert (row["version"], row["problem"]) == (None, "champion_missing")
    assert "promote another version" in row["advice"]
    away.rename(place)
    watching.tick()
    assert watching.row("beta")["version"] == 1
    assert watching.requests("beta") == 60, "its evidence goes on, and nothing was lost"


def test_a_champion_that_is_mended_under_the_same_number_is_watched(
    scene: tuple[Watching, CountingService], tmp_path: Path
) -> None:
    """Also by another bundle than before: its reference is what counts from then on."""
    watching, _ = scene
    other = tmp_path / "other"
    bundles.publish(other, "alpha", bend=0.9)
    before = watching.watcher.streams["alpha"].bundle.manifest
    place = tmp_path / "registry" / "alpha" / "1"
    zeros(place / "model.onnx")
    watching.tick()
    assert watching.problems("alpha") == {"champion_damaged"}
    shutil.rmtree(place)
    shutil.copytree(other / "alpha" / "1", place)
    watching.tick()
    assert watching.problems("alpha") == set()
    assert watching.watcher.streams["alpha"].bundle.manifest != before


def test_a_broken_champion_is_tried_again_with_longer_and_longer_pauses(
    scene: tuple[Watching, CountingService], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching, _ = scene
    bundles.publish(tmp_path / "registry", "alpha")
    zeros(tmp_path / "registry" / "alpha" / "2" / "reference.npz")
    tried: list[float] = []
    opening = watching.registry.open

    def counted(model: str, which: str) -> object:
        tried.append(watching.now)
        return opening(model, which)

    monkeypatch.setattr(watching.registry, "open", counted)

    def find(seconds: float) -> None:
        watching.now += seconds
        watching.watcher.watched.find("alpha", watching.now)

    for _ in range(1000):
        find(2.0)
    pauses = [after - before for before, after in pairwise(tried)]
    assert pauses[:4] == [2, 4, 8, 16]
    assert pauses == sorted(pauses)
    assert max(pauses) == 300
    assert watching.row("alpha")["version"] == 1, "what is served is watched meanwhile"
    find(-40_000_000.0)
    assert tried[-1] == watching.now, "a clock that was set back is no reason to wait"
    at = len(tried)
    os.utime(tmp_path / "registry" / "alpha" / "2" / "reference.npz")
    find(0.1)
    assert tried[-1] == watching.now, "a file that has changed is looked at at once"
    assert len(tried) == at + 1


def test_a_problem_is_logged_once_and_every_hour_and_counted_once(
    scene: tuple[Watching, CountingService], tmp_path: Path
) -> None:
    watching, _ = scene
    alias = tmp_path / "registry" / "gamma" / "aliases.json"
    whole = alias.read_bytes()
    zeros(alias)
    labels = {"model": "gamma", "problem": "alias_file"}
    with capture_logs() as logged:
        watching.tick(10, seconds=900.0)
        assert watching.sample("holdfast_watch_problem", **labels) == 1
        alias.write_bytes(whole)
        watching.tick()
    said = [line["event"] for line in logged if line.get("problem") == "alias_file"]
    assert said == ["problem"] * 3 + ["problem_over"], "two and a half hours"
    assert watching.sample("holdfast_watch_problem", **labels) == 0
    assert watching.sample("holdfast_watch_problems_total", **labels) == 1
