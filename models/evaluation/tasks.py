"""The units of a suite: what each asks the subject, row by row."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from models import attacks
from models.attacks.catalogue import Strength
from models.attacks.threat import Threat, geometry_of
from models.corruptions import SEVERITIES, Kind, suite, tables
from models.data import Rows
from models.evaluation.adaptive import cost, obstacle, search
from models.evaluation.adversarial import attack_subject, noisy_rows
from models.evaluation.certify import certify
from models.evaluation.plan import Plan
from models.evaluation.subject import Arrays, Subject, ask_rows
from models.evaluation.units import BLOCK, Block, Results, Unit
from models.statistics.intervals import Bools
from models.versions.schema import InputArray

SIGMA = 0.25  # of the noise that certificates rest on
SAMPLES = 1000
SELECTION = 100


@dataclass(frozen=True)
class Tasks:
    """Makes the units for a subject and its rows; `results` is what `run_units` fills."""

    subject: Subject
    rows: Rows
    plan: Plan
    results: Results

    def all(self, window: Rows | None) -> list[Unit]:
        """Every unit of the plan, clean first: the others build on it."""
        plan, schema = self.plan, self.subject.schema
        units = [Unit("clean", self.rows, lambda block: ask_rows(self.subject.runner, block.rows))]
        if window is not None and len(window):
            units.append(
                Unit("window", window, lambda block: ask_rows(self.subject.runner, block.rows))
            )
        units += [self._alone(attack) for attack in plan.alone]
        units += [self._few(plan.few)] if plan.few is not None else []
        units += [self._cascade("cascade", plan.cascade, plan.threat.eps)]
        units += [unit for eps in plan.sizes for unit in self._at(eps)]
        units += [
            self._make_corruption_unit(k, s)
            for k in suite(schema, plan.corruptions)
            for s in SEVERITIES
        ]
        units += [
            self._make_stress_unit(n, s) for n in stresses(self.subject) for s in tables.SEVERITIES
        ]
        units += [self._nearest(attack) for attack in plan.nearest]
        units += [self._adaptive()] * (obstacle(self.subject) is None)
        units += [self._reference()] * plan.autoattack
        units += [self._make_certificate_unit()] * (
            plan.certificate_rows > 0 and self._certifiable()
        )
        units += [self._smallest()] * (plan.gallery_rows > 0)
        return units

    def _threat(self, eps: float | None = None) -> Threat:
        return geometry_of(self.plan.threat, self.subject.schema, eps)

    def _ask_after(self, change: Callable[[Block], InputArray]) -> Callable[[Block], Arrays]:
        """Rows are changed, then asked about."""
        return lambda block: ask_rows(self.subject.runner, Rows(change(block), block.rows.y))

    def _on_survivors(self, block: Block, attack: Callable[[Rows], Bools]) -> Bools:
        """Which rows of a block stay right: an attack sees only those right without it."""
        survived = self.results["clean"]["right"][block.index].astype(bool)
        left = np.flatnonzero(survived)
        if len(left):
            survived[left] = attack(block.rows.take(left))
        return survived

    def _right(self, x: InputArray, rows: Rows) -> Bools:
        return np.asarray(ask_rows(self.subject.runner, Rows(x, rows.y))["right"], dtype=bool)

    def _ask_under_attack(self, by: Strength) -> Callable[[Block], Arrays]:
        """What the graph says of rows under one attack."""

        def change(block: Block) -> InputArray:
            return attack_subject(
                self.subject, block.rows, self._threat(),
                attack=by.attack, budget=by.budget, seed=block.seed,
            )  # fmt: skip

        return self._ask_after(change)

    def _alone(self, by: Strength) -> Unit:
        """One attack on every row, so that the scores are judged on all that it gives."""
        return Unit(f"alone-{by.attack}", self.rows, self._ask_under_attack(by), by.cost)

    def _nearest(self, by: Strength) -> Unit:
        """An attack that looks for the smallest change, on some rows: for the scores alone."""
        rows = self._first(self.plan.nearest_rows)
        return Unit(f"nearest-{by.attack}", rows, self._ask_under_attack(by), by.cost)

    def _few(self, by: Strength) -> Unit:
        """An attack with fewer steps than alone."""
        return Unit(f"few-{by.attack}", self.rows, self._ask_under_attack(by), by.cost)

    def _adaptive(self) -> Unit:
        """The attack that knows the detectors, beside the one that does not."""

        def compute(block: Block) -> Arrays:
            right = self.results["clean"]["right"][block.index].astype(bool)
            return search(self.subject, self.plan, self._threat(), block, right)

        return Unit("adaptive", self._first(self.plan.adaptive_rows), compute, cost(self.plan))

    def _cascade(self, name: str, which: tuple[Strength, ...], eps: float) -> Unit:
        """Attacks one after the other, each on the rows that the former left right.

        A row falls if the net or the served graph is wrong on it: they part where inputs are
        integers, for then the served input is the rounded one.
        """
        subject = self.subject

        def compute(block: Block) -> Arrays:
            after = {f"after-{by.attack}": np.zeros(len(block.index), bool) for by in which}

            def attack(rows: Rows) -> Bools:
                x, y = subject.tensors(rows)
                with subject.logits() as logits_of:
                    told = attacks.cascade(
                        logits_of, x, y, self._threat(eps), attacks=which,
                        batch_size=BLOCK, seed=block.seed,
                    )  # fmt: skip
                own = self.results["clean"]["right"][block.index].astype(bool)
                for by in which:
                    after[f"after-{by.attack}"][own] = told.after[by.attack].cpu().numpy()
                x_adv = subject.schema.from_unit(told.x_adv.cpu().numpy())
                survived = np.asarray(told.survived.cpu().numpy(), dtype=bool)
                return survived & self._right(x_adv, rows)

            return {"right": self._on_survivors(block, attack), **after}

        return Unit(name, self.rows, compute, sum(by.cost for by in which))

    def _at(self, eps: float) -> list[Unit]:
        """What is measured at every size: noise, and the attacks of the curve."""
        plan, subject = self.plan, self.subject

        def noise(block: Block) -> InputArray:
            return noisy_rows(subject.schema, block.rows, self._threat(eps), seed=block.seed)

        return [
            Unit(f"noise-{eps:g}", self.rows, self._ask_after(noise)),
            self._cascade(f"curve-{eps:g}", plan.curve, eps),
        ]

    def _make_corruption_unit(self, kind: Kind, severity: int) -> Unit:
        schema = self.subject.schema

        def change(block: Block) -> InputArray:
            rng = np.random.default_rng(block.seed)
            return kind.on_raw(schema, block.rows.x, severity, rng)

        name = f"corruption-{kind.group}-{kind.name}-{severity}"
        return Unit(name, self.rows, self._ask_after(change), 2)

    def _make_stress_unit(self, name: str, severity: int) -> Unit:
        schema = self.subject.schema

        def change(block: Block) -> InputArray:
            rng = np.random.default_rng(block.seed)
            return tables.apply(name, schema, block.rows.x, severity, rng)

        return Unit(f"stress-{name}-{severity}", self.rows, self._ask_after(change), 2)

    def _reference(self) -> Unit:
        """The authors' own AutoAttack on the rows that are right without it."""

        def attack(block: Block, rows: Rows) -> Bools:
            net = self.subject.net
            assert net is not None
            x, y = self.subject.tensors(rows)
            with attacks.frozen(net):
                told = attacks.reference_autoattack(
                    net, x, y, self._threat(), seed=block.seed % 2**31
                )
            return np.asarray(told.cpu().numpy(), dtype=bool)

        def compute(block: Block) -> Arrays:
            return {"right": self._on_survivors(block, lambda rows: attack(block, rows))}

        return Unit("autoattack", self.rows, compute, 10_000)

    def _certifiable(self) -> bool:
        schema = self.subject.schema
        numbers = all(column.kind == "numeric" for column in schema.columns)
        return schema.kind == "image" or (numbers and not np.isnan(self.rows.x).any())

    def _make_certificate_unit(self) -> Unit:
        """The certified radius of each row: -1 where the smoothed answer is wrong or withheld."""
        runner, rows = self.subject.runner, self._first(self.plan.certificate_rows)

        def compute(block: Block) -> Arrays:
            radius = np.full(len(block.index), -1.0)
            for place, (x, y) in enumerate(zip(block.rows.x, block.rows.y, strict=True)):
                told = certify(
                    runner, self.subject.schema, x, sigma=SIGMA, samples=SAMPLES,
                    selection=SELECTION, seed=(block.seed, place),
                )  # fmt: skip
                if told.index == y:
                    radius[place] = told.radius
            return {"radius": radius}

        return Unit("certificates", rows, compute, SAMPLES + SELECTION)

    def _smallest(self) -> Unit:
        """The smallest perturbation that turns each row (`eps`; infinite where none was found)."""
        subject, plan = self.subject, self.plan

        def compute(block: Block) -> Arrays:
            x, eps = block.rows.x.copy(), np.full(len(block.index), np.inf)
            own = np.flatnonzero(self.results["clean"]["right"][block.index])
            if len(own):
                inputs, labels = subject.tensors(block.rows.take(own))
                generator = torch.Generator(inputs.device).manual_seed(block.seed)
                with subject.logits() as logits_of:
                    found, size = attacks.smallest(
                        logits_of, inputs, labels, self._threat, generator=generator,
                        eps_max=plan.sizes[-1],
                        rounds=plan.gallery_rounds, steps=plan.gallery_steps,
                    )  # fmt: skip
                x[own] = subject.schema.from_unit(found.cpu().numpy())
                eps[own] = size.cpu().numpy()
            told = ask_rows(subject.runner, Rows(x, block.rows.y))
            # Rounding to integers may undo the smallest change: such a row shows nothing.
            eps[np.asarray(told["right"], dtype=bool)] = np.inf
            return {"x": x, "eps": eps, "predicted": told["predicted"]}

        cost = 3 * plan.gallery_rounds * plan.gallery_steps
        return Unit("smallest", self._first(plan.gallery_rows), compute, cost)

    def _first(self, count: int) -> Rows:
        return self.rows.take(np.arange(min(count, len(self.rows))))


def stresses(subject: Subject) -> list[str]:
    """The kinds of tabular stress that apply to the subject; none for images."""
    return [name for name in tables.STRESS if tables.applies(name, subject.schema)]
