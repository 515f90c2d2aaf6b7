"""Training under torchrun, two real processes: one model, every row once, as good as with one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from models.data import DataSet
from models.nets import factories
from models.training import distributed
from models.training.loop import Recipe, train

SCRIPT = """
import json, sys
import numpy as np, torch
from models import data
from models.nets import factories
from models.training import distributed
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
spec = {"shape": [1, 8, 8], "classes": 10, "batch_norm": True}
net = factories.build(factories.NetSpec("small_conv", spec))
recipe = Recipe(method="pgd", epochs=4, attack_steps=2, eps=0.1)
result = train(net, digits.train, digits.schema, recipe)
x = torch.from_numpy(digits.schema.to_unit(digits.test.x))
right = (result.net(x)[0].argmax(1).numpy() == digits.test.y).mean()
total = float(sum(p.double().sum() for p in result.net.state_dict().values()))
told = distributed.gather({"seen": seen, "right": float(right), "sum": total})
if distributed.rank() == 0:
    print(json.dumps({"told": told, "rows": len(digits.train), "epochs": recipe.epochs}))
distributed.leave()
"""


def test_two_processes_train_one_model_and_see_every_row_once_an_epoch(
    digits: DataSet, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [*command, str(script)], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    facts = json.loads(done.stdout.splitlines()[-1])
    one, two = facts["told"]
    assert one["sum"] == two["sum"], "the weights are the same on both"
    counts = np.bincount(one["seen"] + two["seen"], minlength=facts["rows"])
    assert (counts == facts["epochs"]).all()
    assert abs(len(one["seen"]) - len(two["seen"])) <= facts["epochs"] * facts["rows"] // 64 + 6
    torch.manual_seed(0)
    spec = {"shape": [1, 8, 8], "classes": 10, "batch_norm": True}
    net = factories.build(factories.NetSpec("small_conv", spec))
    alone = train(
        net, digits.train, digits.schema, Recipe(method="pgd", epochs=4, attack_steps=2, eps=0.1)
    ).net
    x = torch.from_numpy(digits.schema.to_unit(digits.test.x))
    right = float((alone(x)[0].argmax(1).numpy() == digits.test.y).mean())
    assert abs(one["right"] - right) < 0.05


def test_one_process_needs_no_group() -> None:
    assert (distributed.rank(), distributed.world()) == (0, 1)
    assert not distributed.join_group()
    assert distributed.gather(3) == [3]
    assert distributed.share("a") == "a"
    value = torch.ones(2)
    distributed.add([value])
    assert torch.equal(value, torch.ones(2))
