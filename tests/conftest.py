"""What many tests share: the digits, and a real version of them that trains in seconds."""

import os
import random
import signal

# Before torch is imported: spinning threads make each other slow on shared cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests start hundreds of processes; each would compile all of our modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# A shell starts what it puts into the background without Ctrl-C, and so would start what we start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from torch import nn

from models import data
from models.data import DataSet
from models.evaluation.subject import Subject
from models.nets import factories
from models.training.loop import Recipe
from models.versions.bundle import Bundle
from models.versions.facts import EventFacts
from models.versions.registry import Registry
from models.versions.runner import Runner
from monitoring.making.opening import rebuild
from monitoring.making.orders import Order
from monitoring.making.version import make_version
from tests.once import make_once

# Modules that take long, the longest first: the test processes end at about the same time.
LONGEST = (
    "monitoring/making/test_version", "service/server/test_gunicorn", "monitoring/loop/test_stores",
    "monitoring/loop/test_answers", "monitoring/loop/test_terms", "monitoring/loop/test_watchdog",
    "monitoring/loop/test_processes", "monitoring/loop/test_child", "monitoring/loop/test_clock",
    "monitoring/loop/test_canary", "models/training/test_loop", "test_places", "test_unasked",
    "monitoring/loop/test_kills", "monitoring/loop/test_errors", "monitoring/loop/test_queue",
    "monitoring/loop/test_lost_champion", "monitoring/loop/test_verdicts",
    "models/attacks/test_onnx",
    "service/fleet/test_canary_workers", "service/fleet/test_several_models", "test_shadowing",
    "service/server/test_streams", "service/server/test_worker", "service/server/test_ipv6",
    "service/access/test_security_workers", "service/cli/terminal/test_progress",
    "monitoring/watching/test_services", "monitoring/records/test_database",
    "service/test_pipeline",
    "service/console/test_openapi_schemathesis", "models/training/test_distributed",
    "models/versions/test_registry_damage", "models/versions/test_runner",
)  # fmt: skip


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest modules first (`--no-loadscope-reorder` keeps them there)."""
    place = {Path(__file__).parent / f"{name}.py": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


def pytest_runtest_setup() -> None:
    """What draws without a seed of its own draws the same in every run, whatever ran before."""
    random.seed(0)
    torch.manual_seed(0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Where a test with a real service fails, the end of its log stands in the report."""
    report = yield
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if hasattr(value, "log_tail"):
                report.sections.append((f"log of {name}", value.log_tail()))
    return report


# CPU shared with others says nothing about the code: no deadlines. The same examples in every run:
# what fails in one fails in the next. `make test-all` looks at new ones (profile "thorough").
settings.register_profile("holdfast", deadline=None, derandomize=True, max_examples=50)
settings.register_profile("thorough", deadline=None, max_examples=200)
settings.load_profile("holdfast")

QUICK = Recipe(epochs=12)
NET = factories.NetSpec("small_conv", {"shape": [1, 8, 8], "classes": 10})


@dataclass(frozen=True)
class Published:
    """A real version of the digits: trained for 12 epochs, instrumented, evaluated, published."""

    registry: Registry
    order: Order
    bundle: Bundle
    runner: Runner
    net: nn.Module

    @property
    def subject(self) -> Subject:
        """The version as the evaluation sees it."""
        return Subject(self.runner, self.net)


@pytest.fixture(scope="session")
def digits() -> DataSet:
    """scikit-learn's digits, split."""
    return data.load_digits()


@pytest.fixture(scope="session")
def published(digits: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """The quickly trained version; nobody may change its registry."""
    order = Order("digits", QUICK, NET, EventFacts("first", "the tests"), "tests")
    registry = Registry(
        make_once(
            tmp_path_factory, "published", lambda at: make_version(Registry(at), digits, order)
        )
    )
    bundle = registry.open("digits", "1")
    return Published(registry, order, bundle, Runner(bundle), rebuild(bundle))


@pytest.fixture
def empty(tmp_path: Path) -> Registry:
    """A registry without models."""
    return Registry(tmp_path / "registry")
