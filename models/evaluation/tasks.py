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
from models.evaluation.gaps import Gaps
from models.evaluation.plan import Plan
from models.evaluation.proven import bound_rows
from models.evaluation.subject import Arrays, Subject, ask_rows
from models.evaluation.units import BLOCK, Block, Results, Unit
from models.statistics.arrays import Bools
from models.versions.schema import InputArray

SIGMA = 0.25  # of the noise that certificates rest on
SAMPLES = 1000
SELECTION = 100
ADAPTIVE, CERTIFICATES = "adaptive attack", "certificates"  # as people call them


@dataclass(frozen=True)
class Tasks:
    """Makes the units for a subject and its rows; `results` is what `run_units` fills."""

    subject: Subject
    rows: Rows
    plan: Plan
    results: Results

    def all(self, window: Rows | None, gaps: Gaps) -> list[Unit]:
        """Every unit of the plan, clean first: the others build on it.

        What cannot be measured at all goes to the `gaps`.
        """
        units = self._clean(window) + self._attacked() + self._changed()
        units += [self._nearest(attack) for attack in self.plan.nearest]
        if (reason := obstacle(self.subject)) is None:
            units.append(self._adaptive())
        else:
            gaps.add(ADAPTIVE, reason)
        units += [self._reference()] * self.plan.autoattack
        if self.plan.certificate_rows > 0:
            if self._certifiable():
                units.append(self._make_certificate_unit())
            else:
                gaps.add(CERTIFICATES, "a length over categories or missing values means nothing")
        if self.subject.runner.manifest.certificate is not None and self.subject.net is not None:
            units.append(
                Unit("bounds", self.rows, lambda block: bound_rows(self.subject, self.plan, block),
                     len(self.plan.sizes) * 4, "certified accuracy")
            )  # fmt: skip
        return units + [self._smallest()] * (self.plan.gallery_rows > 0)

    def _clean(self, window: Rows | None) -> list[Unit]:
        """The rows as they are: what everything else is held against."""
        runner = self.subject.runner

        def ask(block: Block) -> Arrays:
            return ask_rows(runner, block.rows, whole=True)

        units = [Unit("clean", self.rows, ask, label="clean accuracy", needed=True)]
        if window is not None and len(window):
            units.append(
                Unit("window", window, lambda block: ask_rows(runner, block.rows),
                     label="accuracy on the live window")
            )  # fmt: skip
        return units

    def _attacked(self) -> list[Unit]:
        """Attacks at the size of the threat, alone and after each other, and at every size."""
        plan = self.plan
        units = [self._alone(attack) for attack in plan.alone]
        units += [self._few(plan.few)] if plan.few is not None else []
        units += [self._cascade("cascade", plan.cascade, plan.threat.eps)]
        return units + [unit for eps in plan.sizes for unit in self._at(eps)]

    def _changed(self) -> list[Unit]:
        """Corruptions of images, and errors in tables."""
        kinds = suite(self.subject.schema, self.plan.corruptions)
        units = [self._make_corruption_unit(k, s) for k in kinds for s in SEVERITIES]
        names = stresses(self.subject)
        return units + [self._make_stress_unit(n, s) for n in names for s in tables.SEVERITIES]

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
        ask = self._ask_under_attack(by)
        return Unit(f"alone-{by.attack}", self.rows, ask, by.cost, f"accuracy under {by}")

    def _nearest(self, by: Strength) -> Unit:
        """An attack that looks for the smallest change, on some rows: for the scores alone."""
        rows = self._first(self.plan.nearest_rows)
        ask = self._ask_under_attack(by)
        return Unit(f"nearest-{by.attack}", rows, ask, by.cost, f"score under {by}")

    def _few(self, by: Strength) -> Unit:
        """An attack with fewer steps than alone."""
        ask = self._ask_under_attack(by)
        return Unit(f"few-{by.attack}", self.rows, ask, by.cost, f"accuracy under {by}")

    def _adaptive(self) -> Unit:
        """The attack that knows the detectors, beside the one that does not."""

        def compute(block: Block) -> Arrays:
            right = self.results["clean"]["right"][block.index].astype(bool)
            return search(self.subject, self.plan, self._threat(), block, right)

        rows = self._first(self.plan.adaptive_rows)
        return Unit("adaptive", rows, compute, cost(self.plan), ADAPTIVE)

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
                    outcome = attacks.cascade(
                        logits_of, x, y, self._threat(eps), attacks=which,
                        batch_size=BLOCK, seed=block.seed,
                    )  # fmt: skip
                own = self.results["clean"]["right"][block.index].astype(bool)
                for by in which:
                    after[f"after-{by.attack}"][own] = outcome.after[by.attack].cpu().numpy()
                x_adv = subject.schema.from_unit(outcome.x_adv.cpu().numpy())
                survived = np.asarray(outcome.survived.cpu().numpy(), dtype=bool)
                return survived & self._right(x_adv, rows)

            return {"right": self._on_survivors(block, attack), **after}

        label = "accuracy under the worst of the attacks" if name == "cascade" else ""
        label = label or f"accuracy under attack at eps {eps:g}"
        return Unit(name, self.rows, compute, sum(by.cost for by in which), label)

    def _at(self, eps: float) -> list[Unit]:
        """What is measured at every size: noise, and the attacks of the curve."""
        plan, subject = self.plan, self.subject

        def noise(block: Block) -> InputArray:
            return noisy_rows(subject.schema, block.rows, self._threat(eps), seed=block.seed)

        return [
            Unit(f"noise-{eps:g}", self.rows, self._ask_after(noise),
                 label=f"accuracy under noise of size {eps:g}"),
            self._cascade(f"curve-{eps:g}", plan.curve, eps),
        ]  # fmt: skip

    def _make_corruption_unit(self, kind: Kind, severity: int) -> Unit:
        schema = self.subject.schema

        def change(block: Block) -> InputArray:
            rng = np.random.default_rng(block.seed)
            return kind.on_raw(schema, block.rows.x, severity, rng)

        name = f"corruption-{kind.group}-{kind.name}-{severity}"
        label = f"corruption {kind.name.replace('_', ' ')}, severity {severity}"
        return Unit(name, self.rows, self._ask_after(change), 2, label)

    def _make_stress_unit(self, name: str, severity: int) -> Unit:
        schema = self.subject.schema

        def change(block: Block) -> InputArray:
            rng = np.random.default_rng(block.seed)
            return tables.apply(name, schema, block.rows.x, severity, rng)

        label = f"error {name.replace('_', ' ')}, severity {severity}"
        return Unit(f"stress-{name}-{severity}", self.rows, self._ask_after(change), 2, label)

    def _reference(self) -> Unit:
        """The authors' own AutoAttack on the rows that are right without it."""

        def attack(block: Block, rows: Rows) -> Bools:
            net = self.subject.net
            assert net is not None
            x, y = self.subject.tensors(rows)
            with attacks.frozen(net):
                survived = attacks.reference_autoattack(
                    net, x, y, self._threat(), seed=block.seed % 2**31
                )
            return np.asarray(survived.cpu().numpy(), dtype=bool)

        def compute(block: Block) -> Arrays:
            return {"right": self._on_survivors(block, lambda rows: attack(block, rows))}

        return Unit("autoattack", self.rows, compute, 10_000, "the reference AutoAttack")

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
                certificate = certify(
                    runner, self.subject.schema, x, sigma=SIGMA, samples=SAMPLES,
                    selection=SELECTION, seed=(block.seed, place),
                )  # fmt: skip
                if certificate.index == y:
                    radius[place] = certificate.radius
            return {"radius": radius}

        return Unit("certificates", rows, compute, SAMPLES + SELECTION, CERTIFICATES)

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
                    nearest, size = attacks.smallest(
                        logits_of, inputs, labels, self._threat, generator=generator,
                        eps_max=plan.sizes[-1],
                        rounds=plan.gallery_rounds, steps=plan.gallery_steps,
                    )  # fmt: skip
                x[own] = subject.schema.from_unit(nearest.cpu().numpy())
                eps[own] = size.cpu().numpy()
            answers = ask_rows(subject.runner, Rows(x, block.rows.y))
            # Rounding to integers may undo the smallest change: such a row shows nothing.
            eps[np.asarray(answers["right"], dtype=bool)] = np.inf
            return {"x": x, "eps": eps, "predicted": answers["predicted"]}

        cost = 3 * plan.gallery_rounds * plan.gallery_steps
        rows = self._first(plan.gallery_rows)
        return Unit("smallest", rows, compute, cost, "smallest changes")

    def _first(self, count: int) -> Rows:
        return self.rows.take(np.arange(min(count, len(self.rows))))


def stresses(subject: Subject) -> list[str]:
    """The kinds of tabular stress that apply to the subject; none for images."""
    return [name for name in tables.STRESS if tables.applies(name, subject.schema)]
