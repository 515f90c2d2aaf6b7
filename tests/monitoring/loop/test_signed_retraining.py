"""The loop under signatures: what it makes is signed, and what it could not sign is not made."""

import subprocess
from pathlib import Path

import pytest

from models import data
from models.base.errors import BundleError, HoldfastError
from models.training.loop import Recipe
from models.versions.bundle import MANIFEST
from models.versions.facts import EventFacts
from models.versions.judging import ThreatModel
from models.versions.registry import Registry
from models.versions.signature import Keys
from monitoring.loop import child
from monitoring.loop.jobs import Task
from monitoring.making.orders import Order
from monitoring.making.version import make_version
from tests.monitoring.loop.test_child import task_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    key, trusted = folder / "signing.pem", folder / "trusted.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", trusted], check=True)
    return Keys(trusted=str(trusted), signing=str(key))


def test_retraining_opens_signed_versions_only_and_signs_what_it_makes(
    keys: Keys, tmp_path: Path
) -> None:
    from models.nets import factories

    cancer, plain = data.load("breast_cancer"), Registry(tmp_path / "registry")
    order = Order(
        "trained", Recipe(eps=0.05, beta=2.0, epochs=10), factories.spec_for(cancer.schema, 2),
        EventFacts("first", "the tests"), "tests", threat=ThreatModel(eps=0.05),
    )  # fmt: skip
    make_version(plain, cancer, order)
    plain.promote("trained", 1, expected=None, actor="tests", reason="first")

    def task(given: Keys) -> Task:
        made = task_of(plain, tmp_path, "trained", kind="retrain")
        return Task(made.job, made.registry, made.database_url, retrain_epochs=4, keys=given)

    with pytest.raises(HoldfastError, match="HOLDFAST_SIGNING_KEY_FILE"):
        child.train(task(Keys(trusted=keys.trusted)), tmp_path)
    with pytest.raises(BundleError, match="not signed"):
        child.train(task(keys), tmp_path)
    folder = plain.path("trained", 1)
    keys.sign(folder, (folder / MANIFEST).read_bytes())
    assert child.train(task(keys), tmp_path) == {"version": 2}
    Registry(plain.root, Keys(trusted=keys.trusted)).open("trained", "2")
