"""`python -m benchmarks.tables`: clean accuracy on bundled tables, beside scikit-learn's best.

Several seeds, each on the same split: the preset's robust MLP, a standard one, logistic
regression, and gradient-boosted trees. Accuracy on the test part in the mean over the seeds.
"""

import time
import warnings

import msgspec
import numpy as np
import torch
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from models import attacks, data
from models.attacks.threat import geometry_of
from models.data import DataSet, Rows
from models.nets import factories
from models.training.loop import train
from models.training.presets import preset

SEEDS = range(10)


def resplit(found: DataSet, seed: int) -> tuple[Rows, Rows]:
    """Training and test rows, 75 : 25, dealt anew and by class."""
    whole = found.train.joined(found.calibration).joined(found.test)
    rng = np.random.default_rng(seed)
    test = np.zeros(len(whole), dtype=bool)
    for label in range(len(found.classes)):
        own = rng.permutation(np.flatnonzero(whole.y == label))
        test[own[: len(own) // 4]] = True
    return whole.take(~test), whole.take(test)


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in ("breast_cancer", "wine"):
        found = data.load(name)
        scores: dict[str, list[float]] = {}
        for seed in SEEDS:
            fit, test = resplit(found, seed)
            start = preset(found.schema, len(fit))
            for method in (start.recipe.method, "standard"):
                recipe = msgspec.structs.replace(start.recipe, method=method, seed=seed)
                torch.manual_seed(seed)
                began = time.process_time()
                made = factories.build(factories.spec_for(found.schema, len(found.classes)))
                net = train(made, fit, found.schema, recipe).net
                used = time.process_time() - began
                x = torch.from_numpy(found.schema.to_unit(test.x))
                y = torch.from_numpy(test.y)
                with attacks.frozen(net):
                    f = attacks.logits_only(net)
                    right = f(x).argmax(1) == y
                    threat = geometry_of(start.threat, found.schema)
                    verdict = attacks.cascade(
                        f, x, y, threat, attacks=attacks.standard(queries=300)
                    )
                scores.setdefault(f"own {method}", []).append(float(right.float().mean()))
                robust = float(verdict.survived.float().mean())
                scores.setdefault(f"own {method}, attacked at {threat.eps:g}", []).append(robust)
                scores.setdefault(f"own {method}, CPU-s", []).append(used)
            for label, peer in (
                ("logistic regression", make_pipeline(StandardScaler(), LogisticRegressionCV())),
                ("gradient-boosted trees", GradientBoostingClassifier(random_state=seed)),
            ):
                peer.fit(fit.x, fit.y)
                scores.setdefault(label, []).append(peer.score(test.x, test.y))
        for label, values in scores.items():
            error = np.std(values) / np.sqrt(len(values))
            print(f"{name:14} {label:32} {np.mean(values):.4f} +- {error:.4f}")


if __name__ == "__main__":
    main()
