"""Whatever a client sends: an answer in the dialect of its address, no 5xx, no exception."""

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.fuzz.mutate import mutated
from tests.fuzz.seeds import seeds, sound
from tests.fuzz.target import Target, application

MUTATIONS = 8000


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with application(tmp_path_factory.mktemp("state")) as app:
        yield Target(app)


def test_every_seed_is_answered_by_the_laws_and_some_well(target: Target) -> None:
    statuses = Counter(asked.status for data in seeds(target.rules) if (asked := target(data)))
    assert statuses[200] > 20
    assert statuses[400] > 200


def test_thousands_of_changed_requests_are_answered_by_the_laws(target: Target) -> None:
    rng, kept = random.Random(7), list(seeds(target.rules))
    small = [data for data in kept if len(data) < 20_000]
    statuses: Counter[int] = Counter()
    for _ in range(MUTATIONS):
        if (asked := target(mutated(rng.choice(small), small, rng))) is not None:
            statuses[asked.status] += 1
    assert statuses[200] > 0
    assert statuses[400] > MUTATIONS // 10


def test_the_service_answers_well_after_all_that(target: Target) -> None:
    json = {"Content-Type": "application/json"}
    assert target.send("POST", "/predict", json, sound(0), "model=digits").status == 200
    assert target.send("GET", "/readyz", {}, b"").status == 200
