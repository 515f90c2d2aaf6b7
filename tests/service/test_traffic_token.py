"""What `holdfast traffic` sends with, against a service that asks for tokens."""

from pathlib import Path

import numpy as np

from service.auth import create
from service.cli.sender import Schedule, Sender, Tally
from service.settings import load
from tests import bundles
from tests.service.processes import running


def test_traffic_is_let_in_with_its_token_and_refused_without(tmp_path: Path) -> None:
    bundles.publish(tmp_path / "registry")
    data = bundles.digits()
    path = load({"HOLDFAST_STATE": str(tmp_path)}).tokens_path
    secret = create(path, "traffic", ("predict", "feedback"))
    with running(tmp_path) as service:
        for token in ("", secret):
            tally = Tally()
            plan = Schedule(len(data.test), 50.0, 0.3, np.random.default_rng(0))
            Sender(service.url, "digits", data.test, tally, data.classes, token).run(plan)
            assert tally.sent > 0
            assert tally.failed == (0 if token else tally.sent)
            assert tally.labels_failed == 0
