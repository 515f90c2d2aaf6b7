"""Versions that a person approved, made as the program makes them, and what it says of windows."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import nn

from benchmarks.gates.windows import Drawn, World, deal
from models.data import DataSet
from models.data.lineage import NO_LINEAGE, Lineage, LiveRows
from models.evaluation.gates.catalogue import undecided
from models.evaluation.gates.referee import Referee
from models.evaluation.subject import Subject
from models.nets import factories
from models.training.recipe import Recipe
from models.versions.bundle import Bundle
from models.versions.facts import EventFacts
from models.versions.judging import ThreatModel
from models.versions.registry import Registry
from monitoring.loop.deciding.labels import LabelledWindow, Ruling, prepare_referee, rule_on_window
from monitoring.making.matching import Match
from monitoring.making.opening import open_subject
from monitoring.making.orders import Order
from monitoring.making.version import make_version


class Said(NamedTuple):
    """What the program does with a window: refuse it, ask a person, or train; and the ruling."""

    word: str
    ruling: Ruling


@dataclass
class Version:
    """A version of a data set, with the referees that were made of it."""

    world: World
    recipe: Recipe
    bundle: Bundle
    _referees: dict[tuple[str, int], Referee] = field(default_factory=dict)

    @property
    def source(self) -> DataSet:
        """What it was made from."""
        return self.world.source

    @cached_property
    def subject(self) -> Subject:
        """As the evaluation sees it."""
        return open_subject(self.bundle)

    @property
    def spec(self) -> factories.NetSpec:
        """What its net is."""
        return factories.spec_for(self.source.schema, len(self.source.classes))

    @property
    def net(self) -> nn.Module:
        """Its net."""
        assert self.subject.net is not None
        return self.subject.net

    def judge(self, drawn: Drawn, lineage: Lineage = NO_LINEAGE) -> Said:
        """The loop's own ruling, and what it does: the worst of the checks before a training.

        A check whose doubt waits for nobody (`deciding` of its gate) is told, as in the loop.
        """
        rows, before = drawn.rows, drawn.earlier
        at, none = np.arange(len(rows), dtype=np.float64), np.zeros(len(before), dtype=np.int64)
        earlier = LiveRows(before, none - 1.0, none)
        window = LabelledWindow(rows, rows.y, tuple(drawn.clients.tolist()), at, earlier)
        ruling = rule_on_window(
            self.subject, self.source, window, lineage, champion=self.bundle, prepare=self._prepare
        )
        checks = ruling.told.checks
        failing = [check.name for check in checks if check.verdict == "fail"]
        if failing:
            return Said("fail", ruling)
        return Said("unknown" if undecided(checks) else "pass", ruling)

    def _prepare(self, anchor: Subject, data: DataSet, match: Match | None) -> Referee:
        """A referee that has learnt the same change of the same rows is the same one."""
        named = match is not None and match.apply is not None
        key = (match.facts.name, match.facts.severity) if match is not None and named else ("", 0)
        if data is not self.source:  # relabelled: of one window alone
            return prepare_referee(anchor, data, match)
        if key not in self._referees:
            self._referees[key] = prepare_referee(anchor, data, match)
        return self._referees[key]


def make_anchor(folder: Path, whole: DataSet, recipe: Recipe, seed: int) -> Version:
    """The version of a seed; made once in a folder.

    Args:
        folder: a registry.
        whole, recipe: what it is made from, in part.
        seed: of the part, and of the training.
    """
    made = Recipe(
        eps=recipe.eps, beta=recipe.beta, epochs=recipe.epochs, seed=seed,
        attack_steps=recipe.attack_steps, batch_size=recipe.batch_size,
    )  # fmt: skip
    registry, world = Registry(folder), deal(whole, seed)
    source = world.source
    order = Order(
        model=source.name.replace(" ", "-"), recipe=made,
        net=factories.spec_for(source.schema, len(source.classes)),
        event=EventFacts(f"seed-{seed}", "a benchmark"), actor="benchmark",
        threat=ThreatModel(eps=0.6 * recipe.eps),
    )  # fmt: skip
    number = make_version(registry, source, order)
    return Version(world, made, registry.open(order.model, str(number)))
