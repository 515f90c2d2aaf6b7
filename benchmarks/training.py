"""`python -m benchmarks.training`: images per CPU-second of robust training, beside ART's trainers.

The same net, rows, batch size and number of attack steps, in turns in one process on one thread;
medians over the rounds. ART (the Adversarial Robustness Toolbox) is installed for this run only.
"""

import statistics
import time
import warnings
from collections.abc import Callable

import msgspec
import numpy as np
import torch

from benchmarks.peers import add_peer
from models.data import Rows
from models.nets import factories
from models.training.loop import train
from models.training.recipe import Recipe
from models.versions.schema import InputSchema

SCHEMA = InputSchema("input", (1, 28, 28), "float32", 0.0, 1.0, "image")
SPEC = factories.spec_for(SCHEMA, 10, "conv4")
BATCH, STEPS, EPS, ROUNDS, ROWS = 128, 7, 0.3, 5, 512


class Logits(torch.nn.Module):
    """ART wants a module that gives logits alone."""

    def __init__(self) -> None:
        super().__init__()
        self.net = factories.build(SPEC)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)[0]


def own(method: str, precision: str) -> Callable[[Rows], None]:
    """One epoch of ours."""
    recipe = msgspec.convert(
        {"method": method, "eps": EPS, "batch_size": BATCH, "attack_steps": STEPS, "epochs": 1,
         "eps_warm_up": 0.0, "precision": precision}, Recipe,
    )  # fmt: skip
    net = factories.build(SPEC)
    return lambda rows: void(train(net, rows, SCHEMA, recipe))


def void(_: object) -> None:
    pass


def art(method: str) -> Callable[[Rows], None]:
    """One epoch of ART's trainer."""
    from art.attacks.evasion import ProjectedGradientDescent
    from art.defences.trainer import AdversarialTrainerMadryPGD, AdversarialTrainerTRADESPyTorch
    from art.estimators.classification import PyTorchClassifier

    module = Logits()
    classifier = PyTorchClassifier(
        module,
        torch.nn.CrossEntropyLoss(),
        (1, 28, 28),
        10,
        torch.optim.AdamW(module.parameters(), lr=2e-3),
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    step = 2.5 * EPS / STEPS
    if method == "pgd":
        trainer = AdversarialTrainerMadryPGD(
            classifier, nb_epochs=1, batch_size=BATCH, eps=EPS, eps_step=step, max_iter=STEPS,
            num_random_init=1,
        )  # fmt: skip
        return lambda rows: void(trainer.fit(rows.x, np.eye(10, dtype=np.float32)[rows.y]))
    attack = ProjectedGradientDescent(
        classifier, eps=EPS, eps_step=step, max_iter=STEPS, batch_size=BATCH, verbose=False
    )
    trades = AdversarialTrainerTRADESPyTorch(classifier, attack, 6.0)
    return lambda rows: void(
        trades.fit(rows.x, np.eye(10, dtype=np.float32)[rows.y], batch_size=BATCH, nb_epochs=1)
    )


def main() -> None:
    add_peer("art", "adversarial-robustness-toolbox>=1.20,<2", "six", "tqdm")
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    rows = Rows(rng.random((ROWS, 1, 28, 28), dtype=np.float32), rng.integers(0, 10, ROWS))
    print(f"images per CPU-second, {ROWS} images, batch {BATCH}, {STEPS} attack steps, one thread")
    for method in ("pgd", "trades"):
        runs = {
            "own fp32": own(method, "fp32"),
            "own auto": own(method, "auto"),
            "ART": art(method),
        }
        rates: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(ROUNDS + 1):
            for name, run in runs.items():
                began = time.process_time()
                run(rows)
                if turn:  # the first round warms up
                    rates[name].append(ROWS / (time.process_time() - began))
        medians = {name: statistics.median(values) for name, values in rates.items()}
        for name in ("own fp32", "own auto"):
            ratios = [a / b for a, b in zip(rates[name], rates["ART"], strict=True)]
            print(
                f"{method}-{STEPS:<3} {name:9} {medians[name]:7.0f}   ART {medians['ART']:6.0f}   "
                f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            )


if __name__ == "__main__":
    main()
