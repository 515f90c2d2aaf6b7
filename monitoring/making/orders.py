"""What to make: an order for a version that is trained, or for a graph that exists."""

from dataclasses import dataclass

from models.data.lineage import NO_LINEAGE, Lineage
from models.data.window import Window
from models.nets.factories import NetSpec
from models.training.recipe import Device, Recipe
from models.versions.bundle import Bundle
from models.versions.facts import EventFacts, FollowedFacts, WrappingFacts
from models.versions.judging import ThreatModel
from monitoring.scoring.perturbation.benign import Benign

THREAT = ThreatModel(eps=0.15)  # where the order names none


@dataclass(frozen=True)
class Order:
    """What to make and why.

    `threat` is what the version is judged by and the heads learn. `lineage` is what is known of
    live traffic so far, `followed` which changes of labels are in it.
    """

    model: str
    recipe: Recipe
    net: NetSpec
    event: EventFacts
    actor: str
    parent: Bundle | None = None  # its weights are the start
    window: Window | None = None
    shuffle_labels: bool = False  # for tests of the gates: a challenger that must be refused
    threat: ThreatModel = THREAT
    benign: Benign | None = None  # the user's own examples of what is no attack
    examples: bool = True  # whether some held-out rows go into the bundle
    device: Device = "cpu"  # that it is trained and judged on; the loop names no other
    lineage: Lineage = NO_LINEAGE
    followed: tuple[FollowedFacts, ...] = ()


@dataclass(frozen=True)
class WrapOrder:
    """What to make of a graph that exists: `origin` says where it comes from."""

    model: str
    event: EventFacts
    actor: str
    threat: ThreatModel
    origin: WrappingFacts
    seed: int = 0
    benign: Benign | None = None
    examples: bool = True
