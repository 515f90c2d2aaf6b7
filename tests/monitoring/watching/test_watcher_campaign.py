"""Damage at random, to several models at once, with restarts of the watcher and clocks set anew.

Whatever comes: a look never fails, what is broken is named and nothing else is, every request is
weighed once, and when all is mended nothing is left of it.
"""

import json
import random
from pathlib import Path

import pytest

from tests.monitoring.watching.stage import (
    MODELS,
    CountingService,
    Watching,
    listening,
    registry_of_three,
)
from tests.monitoring.watching.test_one_broken_thing import DAMAGES, PLACES, remove

STEPS = 25
SLOW = range(2, 12)
OPENED = ("manifest", "digest", "reference", "graph")  # what a version needs to be opened


class Campaign:
    """Damages and mends by a seed, and knows what should be wrong now."""

    def __init__(self, watching: Watching, counting: CountingService, seed: int) -> None:
        self.watching, self.counting = watching, counting
        self.rng = random.Random(seed)
        self.whole: dict[tuple[str, str], bytes] = {}  # model and place of what is damaged now
        self.answered = dict.fromkeys(MODELS, 0)
        self.away = self.missed = False  # the service, now and at the last look
        self.begun_again = False  # the service, since the last look
        self.afresh: set[str] = set()  # models whose evidence a restart could not read

    def path(self, model: str, place: str) -> Path:
        return self.watching.folder / PLACES[place].path.format(model)

    def damage(self) -> None:
        """One file of one model that is whole."""
        model, place = self.rng.choice(MODELS), self.rng.choice(list(PLACES))
        path = self.path(model, place)
        if (model, place) in self.whole or not path.is_file():
            return
        self.whole[model, place] = path.read_bytes()
        DAMAGES[self.rng.choice(list(DAMAGES))](path)

    def mend(self) -> None:
        """One file that is damaged."""
        if self.whole:
            self.restore(*self.rng.choice(sorted(self.whole)))

    def restore(self, model: str, place: str) -> None:
        data, path = self.whole.pop((model, place)), self.path(model, place)
        if place != "evidence":
            remove(path)
            path.write_bytes(data)
        elif path.is_dir():
            path.rmdir()

    def restart(self) -> None:
        """A new watcher; of a service that is restarted meanwhile it can only guess what is new."""
        if not self.begun_again:
            self.watching.again()

    def set_clock(self) -> None:
        self.watching.now += self.rng.choice((3600.0, -3600.0, 31_536_000.0, -31_536_000.0))

    def lose_service(self) -> None:
        """It answers nonsense from now on, or its metrics again; not before a restart is seen."""
        if self.begun_again:
            return
        self.away = not self.away
        if self.away:
            self.counting.says(*self.rng.choice((("", 200), ("<html>", 200), ("oh", 500))))
        else:
            self.counting.answer = self.counting.exposition

    def restart_service(self) -> None:
        """It begins at zero; what it counted while nobody looked would be lost with it."""
        unseen = set(MODELS) - set(self.watching.watcher.streams)
        if self.away or self.missed or unseen:
            return
        self.counting.begin_again()
        self.begun_again = True

    def look(self) -> None:
        """Traffic of every model, and a look.

        Evidence that nobody has in memory, and that cannot be read, begins anew.
        """
        for model in MODELS:
            if model not in self.watching.watcher.streams:
                try:
                    json.loads(self.path(model, "evidence").read_bytes())
                except (OSError, ValueError, RecursionError):
                    self.afresh.add(model)
            rows = self.rng.choice((0, 1, 7, 30))
            self.counting.serve(self.watching.bundles[model], rows)
            self.answered[model] += rows
        self.watching.tick()
        self.missed, self.begun_again = self.away, False

    def check(self) -> None:
        """What is broken is named, and a model of which nothing is broken has every request."""
        for model in MODELS:
            broken = {place for name, place in self.whole if name == model}
            expected = set().union(*(PLACES[place].names for place in broken))
            found = self.watching.problems(model)
            # A folder in the place of the evidence stays; a file is written anew and then right.
            # Where a version cannot be opened at a start, nobody looks at its evidence.
            # A model that nobody sees for some looks is told so, with or without a file of it.
            either = {"evidence_state"} | ({"model_unwatched"} if self.away else set())
            found, expected = found - either, expected - either
            if {"alias", "audit"} <= broken:  # which version it was may then be unknown
                assert "alias_file" in found <= expected, (model, broken)
            else:
                assert found == expected, (model, broken)
            if not broken and not self.away and model not in self.afresh:
                assert self.watching.requests(model) == self.answered[model], model
        assert self.watching.watcher.pulse.report().is_ready


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(k, marks=pytest.mark.slow) for k in SLOW)])
def test_a_campaign(seed: int, tmp_path: Path) -> None:
    counting = CountingService(registry_of_three(tmp_path))
    with listening(counting) as url:
        watching = Watching(tmp_path, url)
        watching.tick()
        campaign = Campaign(watching, counting, seed)
        deeds = [campaign.damage] * 5 + [campaign.mend] * 3 + [campaign.restart, campaign.set_clock]
        deeds += [campaign.lose_service, campaign.restart_service]
        for _ in range(STEPS):
            for _ in range(campaign.rng.randint(1, 3)):
                campaign.rng.choice(deeds)()
            campaign.look()
            campaign.check()
        if campaign.away:
            campaign.lose_service()
        for key in sorted(campaign.whole):
            campaign.restore(*key)
        for _ in range(2):
            campaign.look()
        campaign.check()
        for model in MODELS:
            assert watching.problems(model) == set()
            assert watching.row(model)["alarm"] is None
        watching.close()
