"""Laws of counters that stand still, and of a watcher that sees nothing; a quiet night is none."""

from pathlib import Path

import pytest

from monitoring.counting.counters import Page
from monitoring.watching.stillness import STILL_LOOKS, UNSEEN_LOOKS, Stillness
from tests import bundles
from tests.monitoring.watching.stage import CountingService, Watching, listening, registry_of_three
from tests.ops import free_port


def page(answered: float, **cells: float) -> Page:
    """Rows answered for model m, and cells by version (`v2=7`)."""
    return Page(
        {("m", version[1:], "energy", 0): count for version, count in cells.items()},
        {"m": answered},
    )


def test_no_traffic_is_not_known() -> None:
    still = Stillness("m", 1)
    assert {still.look({"s": page(10, v1=10)}).still for _ in range(50)} == {None}


def test_cells_that_move_are_no_problem_and_one_that_moved_stays_none_in_the_night() -> None:
    still = Stillness("m", 1)
    for k in range(10):
        still.look({"s": page(k, v1=k)})
    assert {still.look({"s": page(9, v1=9)}).still for _ in range(50)} == {""}


def test_answers_without_a_cell_are_still_after_some_looks_and_over_with_the_first_cell() -> None:
    still = Stillness("m", 1)
    found = [still.look({"s": page(k, v1=5)}).still for k in range(STILL_LOOKS + 3)]
    assert found[:STILL_LOOKS] == [None] * STILL_LOOKS
    assert "its cells are not counted" in (found[STILL_LOOKS] or "")
    quiet = still.look({"s": page(STILL_LOOKS + 2, v1=5)}).still
    assert quiet, "a pause of the traffic mends nothing"
    assert still.look({"s": page(50, v1=6)}).still == ""


def test_a_client_that_only_repeats_itself_is_no_stillness() -> None:
    still = Stillness("m", 1)
    for k in range(4 * STILL_LOOKS):
        told = page(100 + k, v1=100)
        told.repeats["m"] = k
        assert still.look({"s": told}).still is None


def test_another_version_that_is_served_is_named() -> None:
    still = Stillness("m", 2)
    found = [still.look({"s": page(k, v1=k, v2=0)}).still for k in range(STILL_LOOKS + 1)]
    assert "version 1 is served there" in (found[-1] or "")


def test_a_canary_that_gets_every_request_for_a_while_is_no_stillness() -> None:
    still = Stillness("m", 1)
    found = [still.look({"s": page(k, v1=0, v2=k)}, 2).still for k in range(3 * STILL_LOOKS)]
    assert set(found) == {None, ""}
    assert found[-1] == ""


def test_a_restart_of_the_service_forgets_nothing_and_invents_nothing() -> None:
    still = Stillness("m", 1)
    for k in range(STILL_LOOKS):
        still.look({"s": page(100 + k, v1=5)})
    assert still.look({"s": page(0, v1=0)}).still is None, "fewer than before are no answers"
    assert still.look({"s": page(1, v1=0)}).still, "the one that was missing"


def test_each_service_is_judged_by_itself() -> None:
    still = Stillness("m", 2)
    for k in range(STILL_LOOKS + 1):
        verdict = still.look({"good": page(k, v2=k), "old": page(k, v1=k, v2=0)})
    assert (verdict.still or "").startswith("old answers for m")


def test_a_version_that_nobody_has_is_unseen_after_some_looks() -> None:
    still = Stillness("m", 3)
    found = [still.look({"s": page(0, v1=0, v2=0)}).unseen for _ in range(UNSEEN_LOOKS)]
    assert found[:-1] == [None] * (UNSEEN_LOOKS - 1)
    assert found[-1] == "no service counts version 3; there is only version 1, 2"
    assert still.look({}).unseen == "no service can be read"
    assert still.look({"s": Page()}).unseen == "no service that can be read counts anything of m"
    assert still.look({"s": page(0, v3=0)}).unseen == ""


@pytest.fixture
def counting(tmp_path: Path) -> CountingService:
    return CountingService(registry_of_three(tmp_path))


def test_a_watcher_names_the_model_whose_counters_stand_still(
    counting: CountingService, tmp_path: Path
) -> None:
    with listening(counting) as url:
        watching = Watching(tmp_path, url)
        champions = {m: watching.registry.open(m) for m in ("alpha", "beta")}
        watching.tick()
        for _ in range(STILL_LOOKS):
            counting.serve(champions["alpha"], 20, counted=False)
            counting.serve(champions["beta"], 20)
            watching.tick()
        assert watching.problems("alpha") == {"counters_still"}
        assert watching.problems("beta") == watching.problems("gamma") == set()
        still = {"problem": "counters_still"}
        assert watching.sample("holdfast_watch_problem", model="alpha", **still) == 1
        assert watching.sample("holdfast_watch_problem", model="beta", **still) == 0
        assert watching.sample("holdfast_watch_problem", model="gamma", **still) is None
        counting.serve(champions["alpha"], 20)
        watching.tick()
        assert watching.problems("alpha") == set()
        watching.close()


def test_a_service_that_keeps_the_old_version_is_named(
    counting: CountingService, tmp_path: Path
) -> None:
    with listening(counting) as url:
        watching = Watching(tmp_path, url)
        old = watching.registry.open("alpha")
        watching.tick()
        bundles.publish(watching.registry.root, "alpha", bend=0.9)
        for _ in range(UNSEEN_LOOKS):
            watching.tick()
        assert watching.problems("alpha") == {"model_unwatched"}
        counting.load(watching.registry.open("alpha"))  # loaded there, and never answering
        watching.tick()
        for _ in range(STILL_LOOKS):
            counting.serve(old, 20)
            watching.tick()
        assert watching.problems("alpha") == {"counters_still"}
        assert "version 1 is served there" in watching.row("alpha")["problems"][0]["detail"]
        watching.close()


def test_a_watcher_that_sees_nothing_says_so_for_every_model(tmp_path: Path) -> None:
    watching = Watching(tmp_path, f"http://127.0.0.1:{free_port()}")
    watching.tick(UNSEEN_LOOKS)
    for model in ("alpha", "beta", "gamma"):
        assert watching.problems(model) == {"model_unwatched"}
        labels = {"model": model, "problem": "model_unwatched"}
        assert watching.sample("holdfast_watch_problem", **labels) == 1
        assert watching.sample("holdfast_watch_problems_total", **labels) == 1
    watching.close()
