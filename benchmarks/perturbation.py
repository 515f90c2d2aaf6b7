"""How well the perturbation likelihood tells attacks from clean and from benign images.

    python -m benchmarks.perturbation [DATA] [--load FILE] [--method standard] [--no-held-out]

Trains a net (or takes `--load`), fits the head, and prints per attack and size AUROC and TPR at
1 % and 5 % false positives (clean rows as negatives; in brackets the AUROC of 1 - the largest
probability), the shares that are flagged, suspicious, and both suspicious and rather attacked than
corrupted as served; the share of every benign kind that is flagged, and the reliability of the
probability. With held-out families the head is fitted anew without each family
of attacks and of corruptions, and judged on that family. Equal prior odds: half attacked, a
quarter clean, a quarter corrupted.
"""

import argparse
import time
from pathlib import Path

import msgspec
import numpy as np
import onnx
import torch
from torch import nn

from benchmarks.perturbation_data import (
    ATTACK_FAMILIES,
    ATTACKS,
    CORRUPTION_FAMILIES,
    FOUND,
    FREE,
    LINF,
    SHARES,
    SPARSE,
    Judged,
    family_of,
    judged,
)
from models import data
from models.base.allocation import keep_freed_memory
from models.data import DataSet
from models.nets import export, factories
from models.statistics.arrays import FloatArray
from models.statistics.intervals import auroc
from models.training.loop import train
from models.training.presets import preset
from models.versions.judging import ThreatModel
from models.versions.runner import session
from monitoring.scoring.instrument import Instrumented, instrument, run_graph
from monitoring.scoring.material import Victim, head_material
from monitoring.scoring.perturbation import negatives as hn

BINS = 10
UNSEEN = ("apgd-dlr", "cw-l2")  # attacks of which only relatives are fitted on
Weighed = tuple[FloatArray, FloatArray, FloatArray]  # probability, attacked or not, weight


def trained(rows: DataSet, options: argparse.Namespace) -> nn.Module:
    """The net of `--load`, or one trained by the preset."""
    start = preset(rows.schema, len(rows.train), quick=options.quick)
    torch.manual_seed(0)
    net = factories.build(factories.spec_for(rows.schema, len(rows.classes)))
    if options.load is not None:
        return export.load_weights(net, options.load.read_bytes())
    recipe = msgspec.structs.replace(start.recipe, method=options.method)
    if options.method == "standard":
        recipe = msgspec.structs.replace(recipe, epochs=max(2, recipe.epochs // 2))
    return train(net, rows.train, rows.schema, recipe).net


class Fitted:
    """A head fitted with or without some families, asked for likelihoods of unit-range images."""

    def __init__(
        self,
        net: nn.Module,
        plain: onnx.ModelProto,
        rows: DataSet,
        eps: float,
        attacks: tuple[str, ...] = (),
        kinds: tuple[str, ...] = (),
        seed: int = 0,
    ) -> None:
        began = time.process_time()
        victim = Victim(rows.schema, ThreatModel(eps=eps), net, plain, frozenset(attacks))
        material, source = head_material(victim, rows, None, seed, without=kinds)
        self.made: Instrumented = instrument(
            plain, rows.schema, rows.classes, material, source=source, seed=seed
        )
        self.cpu_seconds = time.process_time() - began
        self.threshold = self.made.calibration.perturbation_threshold
        self._schema = rows.schema

    def likelihood(self, x_unit: FloatArray) -> FloatArray:
        return self._asked(x_unit, "perturbation_likelihood")

    def suspicious(self, x_unit: FloatArray) -> tuple[float, float]:
        """Shares that are suspicious, and of those that rather are attacks."""
        limit = self.made.calibration.suspicion_threshold
        assert limit is not None
        likely, corrupted = self.likelihood(x_unit), self._asked(x_unit, "corruption_likelihood")
        above = self._asked(x_unit, "suspicion") > limit
        return float(above.mean()), float((above & (likely > corrupted)).mean())

    def doubt(self, x_unit: FloatArray) -> FloatArray:
        """1 - the largest probability."""
        return 1 - self._asked(x_unit, "probabilities").max(axis=1)

    def _asked(self, x_unit: FloatArray, output: str) -> FloatArray:
        return run_graph(self.made.model, self._schema, self._schema.from_unit(x_unit), output)[0]


def attack_table(head: Fitted, rows: Judged, step: float) -> None:
    clean, doubt = head.likelihood(rows.clean), head.doubt(rows.clean)
    limits = np.quantile(clean, [0.99, 0.95])
    head_row = "attack | size | AUROC (softmax) | rounded | TPR 1 % | TPR 5 % | flagged"
    print(f"\n| {head_row} | suspicious | an attack |\n|---|---|---|---|---|---|---|---|---|")
    means: dict[str, list[list[float]]] = {}
    for name in (*ATTACKS, *FREE):
        for share in (*SHARES, FOUND):
            if (name, share) not in rows.attacked:
                continue
            x = rows.attacked[name, share]
            p = head.likelihood(x)
            mended = head.likelihood(np.clip(np.rint(x / step) * step, 0, 1).astype(np.float32))
            figures = [auroc(clean, p), auroc(doubt, head.doubt(x)), auroc(clean, mended)]
            figures += [float((p > limit).mean()) for limit in (*limits, head.threshold)]
            figures += head.suspicious(x)
            print(attack_row(name, f"{share:g} eps" if share else "as found", figures))
            for group, inside in (
                ("all of fixed sizes", bool(share)),
                ("L-inf at eps", name in LINF and share == 1),
                ("sparse, learnt", name in SPARSE),
            ):
                if inside:
                    means.setdefault(group, []).append(figures)
    for group, rows_of in means.items():
        print(attack_row(f"**mean: {group}**", "", list(np.mean(rows_of, axis=0))))
    suspicious = head.suspicious(rows.clean)[0]
    print(
        f"\nclean rows flagged: {(clean > head.threshold).mean():.2%} at {head.threshold:.4f}, "
        f"suspicious: {suspicious:.2%}"
    )


def attack_row(name: str, size: str, figures: list[float]) -> str:
    """A row of the table of attacks."""
    a, s, q, *shares = figures
    told = " | ".join(f"{share:.1%}" for share in shares)
    return f"| {name} | {size} | {a:.3f} ({s:.3f}) | {q:.3f} | {told} |"


def flagged(head: Fitted, rows: Judged, family: str = "") -> dict[str, list[float]]:
    """Share flagged per kind, for severities 1 to 5."""
    shares: dict[str, list[float]] = {}
    for (kind, _), x in rows.corrupted.items():
        if not family or family_of(kind) == family:
            share = float((head.likelihood(x) > head.threshold).mean())
            shares.setdefault(kind, []).append(share)
    return shares


def corruption_table(shares: dict[str, list[float]], held_out: dict[str, list[float]]) -> None:
    print("\n| benign kind | flagged | worst severity | flagged, family held out |")
    print("|---|---|---|---|")
    for kind, values in sorted(shares.items(), key=lambda pair: -np.mean(pair[1])):
        apart = f"{np.mean(held_out[kind]):.1%}" if kind in held_out else "-"
        print(f"| {kind} | {np.mean(values):.1%} | {max(values):.1%} | {apart} |")


def weighed(
    head: Fitted, rows: Judged, attacks: tuple[str, ...] = ATTACKS, family: str = ""
) -> Weighed:
    """Probabilities of attacked, clean and corrupted rows with their weights at equal odds."""
    found = [x for (name, share), x in rows.attacked.items() if in_family(name, share, attacks)]
    benign = [
        x for (kind, _), x in rows.corrupted.items() if not family or family_of(kind) == family
    ]
    parts = [
        head.likelihood(x) for x in (np.concatenate(found), rows.clean, np.concatenate(benign))
    ]
    weight = [np.full(len(p), w / len(p)) for p, w in zip(parts, (0.5, 0.25, 0.25), strict=True)]
    truth = np.repeat([1.0, 0.0, 0.0], [len(p) for p in parts])
    return np.concatenate(parts), truth, np.concatenate(weight)


def in_family(name: str, share: float, attacks: tuple[str, ...]) -> bool:
    """Whether rows are of these attacks, at a size that is judged."""
    return name in attacks and bool(share or name in FREE)


def joined(parts: list[Weighed]) -> Weighed:
    p, truth, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
    return p, truth, weight / len(parts)


def reliability(parts: Weighed) -> tuple[float, list[tuple[float, float, float]]]:
    """ECE = sum_b |sum_i w_i (p_i - y_i)| over ten bins, and per bin mean p, share, weight."""
    p, truth, weight = parts
    place, bins, error = np.minimum((p * BINS).astype(int), BINS - 1), [], 0.0
    for b in range(BINS):
        w = weight[place == b]
        if w.sum() > 0:
            said, is_so = (np.average(v[place == b], weights=w) for v in (p, truth))
            bins.append((float(said), float(is_so), float(w.sum())))
            error += float(w.sum()) * abs(float(said) - float(is_so))
    return error, bins


def run_cost(made: Instrumented, plain: onnx.ModelProto, rows: DataSet) -> str:
    """CPU time of a scored run over that of a plain one, measured in turns."""
    bare = onnx.ModelProto()
    bare.CopyFrom(plain)
    del bare.graph.output[1:]
    both = [session(model.SerializeToString()) for model in (bare, made.model)]
    told = []
    for batch in (1, 32):
        x, best = rows.test.x[:batch], [float("inf")] * 2
        for _ in range(60):
            for k, runner in enumerate(both):
                began = time.process_time()
                for _ in range(10):
                    runner.run(None, {rows.schema.name: x})
                best[k] = min(best[k], (time.process_time() - began) / 10)
        told.append(f"batch {batch}: {best[1] / best[0]:.2f} ({best[0] * 1e6:.0f} us plain)")
    return "run time scored / plain, " + "; ".join(told)


def held_out_families(
    net: nn.Module,
    plain: onnx.ModelProto,
    data_set: DataSet,
    rows: Judged,
    eps: float,
    seed: int,
) -> dict[str, list[float]]:
    """Fits without each family, their ECE; shares flagged of the held-out kinds."""
    print("\n| held-out family | AUROC | ECE |\n|---|---|---|")
    unseen: list[Weighed] = []
    for name, (attacks, families) in ATTACK_FAMILIES.items():
        head = Fitted(net, plain, data_set, eps, attacks=families, seed=seed)
        clean = head.likelihood(rows.clean)
        figures = [
            auroc(clean, head.likelihood(x))
            for (attack, share), x in rows.attacked.items()
            if in_family(attack, share, attacks)
        ]
        unseen.append(weighed(head, rows, attacks))
        print(f"| {name} | {np.mean(figures):.3f} | {reliability(unseen[-1])[0]:.3f} |", flush=True)
    apart: list[Weighed] = []
    shares: dict[str, list[float]] = {}
    for name, kinds in CORRUPTION_FAMILIES.items():
        head = Fitted(net, plain, data_set, eps, kinds=kinds, seed=seed)
        shares |= flagged(head, rows, name)
        apart.append(weighed(head, rows, family=name))
        print(f"| {name} | - | {reliability(apart[-1])[0]:.3f} |", flush=True)
    reliability_table({"attacks": joined(unseen), "corruptions": joined(apart)})
    return shares


def reliability_table(parts: dict[str, Weighed]) -> None:
    print("\n| judged on | ECE | mean p: share attacked (weight), by bin |\n|---|---|---|")
    for name, weighed_rows in parts.items():
        error, bins = reliability(weighed_rows)
        told = ", ".join(f"{p:.2f}: {share:.2f} ({w:.2f})" for p, share, w in bins)
        print(f"| {name} | {error:.3f} | {told} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="?", default="digits")
    parser.add_argument("--load", type=Path, help="weights of the net that the preset names")
    parser.add_argument("--method", default="trades", help="standard, trades, ...")
    parser.add_argument("--quick", action="store_true", help="train for a third of the time")
    parser.add_argument("--eps", type=float)
    parser.add_argument("--rows", type=int, default=360, help="test rows")
    parser.add_argument("--no-held-out", action="store_true")
    parser.add_argument("--seed", type=int, default=0, help="of the head's material and fit")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    data_set = data.load(options.data)
    usual = preset(data_set.schema, len(data_set.train)).threat.eps
    eps = usual if options.eps is None else options.eps
    net = trained(data_set, options).eval()
    plain = export.to_onnx(net, data_set.schema)
    rows = judged(net, data_set, eps, options.rows)
    head = Fitted(net, plain, data_set, eps, seed=options.seed)
    what = "loaded" if options.load else options.method
    print(f"{data_set.name}, {what}, eps {eps:.4g}; material and fit {head.cpu_seconds:.1f} CPU-s")
    print(run_cost(head.made, plain, data_set), flush=True)
    attack_table(head, rows, hn.grid_step(rows.clean))
    parts = {"all": weighed(head, rows), "APGD, CW (never fitted on)": weighed(head, rows, UNSEEN)}
    reliability_table(parts)
    apart = {}
    if not options.no_held_out:
        apart = held_out_families(net, plain, data_set, rows, eps, options.seed)
    corruption_table(flagged(head, rows), apart)


if __name__ == "__main__":
    main()
