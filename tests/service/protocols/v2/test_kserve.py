"""KServe's Python client, as it is, against the real service.

It needs environments of its own: it pins psutil below 6 and protobuf below 7.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.peers import PeerError, environment
from models.versions.registry import Registry
from models.versions.runner import Runner
from models.versions.schema import OUTPUTS
from tests import bundles
from tests.service.processes import running


@pytest.mark.slow
def test_kserves_client_reads_the_arrays_of_the_model(tmp_path: Path, rows: Any) -> None:
    try:
        home = environment("kserve_client", "kserve==0.21.0")
    except PeerError as error:
        pytest.skip(f"kserve cannot be installed here: {error}")
    bundles.publish(tmp_path / "registry")
    x = np.ascontiguousarray(rows[:30])
    np.save(tmp_path / "rows.npy", x)
    with running(tmp_path) as server:
        script = Path(__file__).with_name("kserve_client.py")
        command = [home / "bin" / "python", script, server.url, "digits", tmp_path / "rows.npy"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert [found[name] for name in ("live", "ready", "model", "nope")] == [True, True, True, False]
    truth = Runner(Registry(tmp_path / "registry").open("digits")).run(x)
    for mix in ("True True", "True False", "False True", "False False"):
        assert found[mix]["id"] == "mine"
        for name in OUTPUTS:
            expected = getattr(truth, name)
            seen = np.array(found[mix]["outputs"][name], expected.dtype)
            np.testing.assert_array_equal(seen, expected, strict=True)
    status, text = found["refused"]
    assert status == 400
    assert "inputs[0].name" in text
