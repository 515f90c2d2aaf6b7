"""Training under torchrun, two real processes: one model, every row once, as good as with one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.training import distributed

SCRIPT = """
import json, sys
import numpy as np, torch
from models import data
from models.nets import factories
from models.training import distributed
from models.certificates.bounds import worst_margins
from models.certificates.layers import chain_of
from models.attacks.threat import Linf
from models.training.certified import start_certified
from models.training.loop import Recipe, train, _Run

torch.set_num_threads(1)
digits = data.load("digits")
seen, own = [], _Run._unit
def unit(self, index):
    if hasattr(self, "average"):
        seen.extend(index.tolist())
    return own(self, index)
_Run._unit = unit
torch.manual_seed(distributed.rank())  # even from different starts
given = json.loads(sys.argv[1])
recipe = Recipe(**given["recipe"])
certified = recipe.method == "certified"
net = factories.build(factories.NetSpec("small_conv", given["net"]))
if certified:
    start_certified(net, torch.Generator().manual_seed(distributed.rank()))
result = train(net, digits.train, digits.schema, recipe)
x = torch.from_numpy(digits.schema.to_unit(digits.test.x))
y = torch.from_numpy(digits.test.y.astype(np.int64))
right = (result.net(x)[0].argmax(1) == y).double().mean()
if certified:
    right = (worst_margins(chain_of(result.net), x, y, Linf(recipe.eps)) > 0).double().mean()
total = float(sum(p.double().sum() for p in result.net.state_dict().values()))
told = distributed.gather({"seen": seen, "right": float(right), "sum": total})
if distributed.rank() == 0:
    print(json.dumps({"told": told, "rows": len(digits.train), "epochs": recipe.epochs}))
distributed.leave()
"""


NET = {"shape": [1, 8, 8], "classes": 10}
PGD = {"method": "pgd", "epochs": 4, "attack_steps": 2, "eps": 0.1}
CERTIFIED = {
    "method": "certified", "epochs": 20, "batch_size": 64, "eps": 0.05, "beta": 0.0,
    "learning_rate": 3e-3, "eps_warm_up": 0.6, "precision": "fp32",
}  # fmt: skip


def test_two_processes_train_one_model_and_see_every_row_once_an_epoch(tmp_path: Path) -> None:
    two = run_processes(2, {"net": NET | {"batch_norm": True}, "recipe": PGD}, tmp_path)
    one = run_processes(1, {"net": NET | {"batch_norm": True}, "recipe": PGD}, tmp_path)
    assert abs(two - one) < 0.05


@pytest.mark.slow
def test_two_processes_train_for_certificates_as_well_as_one(tmp_path: Path) -> None:
    given = {"net": NET | {"widths": [8, 16], "hidden": 64}, "recipe": CERTIFIED}
    two, one = (run_processes(count, given, tmp_path) for count in (2, 1))
    assert one > 0.4, "what is certified nowhere would show nothing"
    assert abs(two - one) < 0.05


def run_processes(count: int, given: dict[str, Any], folder: Path) -> float:
    """The share of test rows that are right (or proven right), alike in all processes."""
    script = folder / "script.py"
    script.write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, f"--nproc-per-node={count}", str(script), json.dumps(given)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return check_told(done.stdout, count)


def check_told(printed: str, count: int) -> float:
    """Check what `SCRIPT` printed: one model, every row once an epoch; the share that is right."""
    facts = json.loads(printed.splitlines()[-1])
    told, rows, epochs = facts["told"], facts["rows"], facts["epochs"]
    assert len(told) == count
    assert len({each["sum"] for each in told}) == 1, "the weights are the same on all"
    counts = np.bincount([row for each in told for row in each["seen"]], minlength=rows)
    assert (counts == epochs).all()
    sizes = [len(each["seen"]) for each in told]
    assert max(sizes) - min(sizes) <= epochs * rows // 64 + 6
    return float(told[0]["right"])


def test_one_process_needs_no_group() -> None:
    assert (distributed.rank(), distributed.world()) == (0, 1)
    assert not distributed.join_group()
    assert distributed.gather(3) == [3]
    assert distributed.share("a") == "a"
    value = torch.ones(2)
    distributed.add([value])
    assert torch.equal(value, torch.ones(2))
