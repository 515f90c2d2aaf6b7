"""All figures of an evaluation whose units have run: what failed is a gap, and stops nothing."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from models.corruptions import GROUPS
from models.evaluation.adaptive import adaptive_figures
from models.evaluation.certify import certified_points, largest_radius
from models.evaluation.figures.attacked import (
    attack_figures,
    curve_figures,
    masking_evidence,
    worst_case,
)
from models.evaluation.figures.edge_cases import edge_cases
from models.evaluation.figures.gallery import gallery
from models.evaluation.figures.imbalance import balanced_accuracy, mean_auroc, precision, recall
from models.evaluation.figures.masking import masking
from models.evaluation.figures.scores import scores
from models.evaluation.gaps import Gaps
from models.evaluation.proven import proven_figures, set_figures
from models.evaluation.subject import Arrays, Subject, right_rows
from models.evaluation.tasks import SAMPLES, SIGMA, Tasks
from models.statistics.arrays import Bools, IntArray
from models.statistics.calibration import reliability
from models.statistics.intervals import mean_corruption_error, proportion
from models.statistics.shares import Proportion
from models.versions.figures import (
    Certified,
    ChangedPicture,
    Confusion,
    CorruptionError,
    CorruptionFigure,
    Evaluation,
    NoiseFigure,
    Previous,
    Scores,
    StressFigure,
)

ALPHA = 0.001
CONFUSIONS = 10
Changed = Mapping[tuple[str, str, int], Arrays]  # by group, name, severity


def figures_of(
    tasks: Tasks,
    gaps: Gaps,
    *,
    seed: int,
    previous: Evaluation | None,
    previous_version: int | None,
    unseen: Bools | None = None,
    groups: IntArray | None = None,
) -> Evaluation:
    """All figures of an evaluation whose units have run.

    Args:
        tasks: with the results.
        gaps: what could not be measured so far; more may come to it here.
        seed: of all that is random.
        previous, previous_version: figures and number of the previous champion.
        unseen: rows `(N,)` whose content does not stand in the training part, where that is known.
        groups: `(N,)`, equal where rows belong together.
    """
    plan, clean = tasks.plan, right_rows(tasks.results["clean"])
    figures = Evaluation(
        suite=plan.suite,
        n=len(tasks.rows),
        seed=seed,
        threat=plan.threat,
        eps=plan.threat.eps,
        black_box=tasks.subject.black_box,
        clean=proportion(clean, groups),
        clean_unseen=None if unseen is None else _on(unseen, clean, groups),
        certified=_compute_certified_accuracy(tasks.results),
        proven=gaps.attempt(
            "certified accuracy", lambda: proven_figures(tasks.subject, plan, tasks.results)
        ),
        sets=gaps.attempt(
            "prediction sets", lambda: set_figures(tasks.subject, tasks.rows.y, tasks.results)
        )
        or (),
        gallery=gaps.attempt("smallest changes", lambda: _gallery(tasks)) or (),
        previous=None if previous is None else _of_previous(previous, previous_version),
    )
    figures = _add_clean(figures, tasks, gaps, groups)
    figures = _add_attacked(figures, tasks, gaps, groups)
    figures = _add_changed(figures, tasks, gaps, groups)
    return msgspec.structs.replace(figures, not_measured=gaps.records)


def _add_clean(
    figures: Evaluation, tasks: Tasks, gaps: Gaps, groups: IntArray | None
) -> Evaluation:
    """By class, by the ranking, on the window of live traffic, and by confidence."""
    subject, y, results = tasks.subject, tasks.rows.y, tasks.results
    answers, right = results["clean"], right_rows(results["clean"])
    predicted = answers["predicted"].astype(np.int64)
    recalls = recall(subject.classes, y, right, groups)
    return msgspec.structs.replace(
        figures,
        balanced_accuracy=balanced_accuracy(list(recalls.values())),
        auroc=gaps.attempt(
            "area under the ROC curve",
            lambda: mean_auroc(answers["probabilities"].astype(np.float64), y),
        ),
        window=proportion(right_rows(results["window"])) if "window" in results else None,
        classes=recalls,
        precision=precision(subject.classes, predicted, right),
        confusions=_confusions(subject, y, predicted),
        calibration=gaps.attempt(
            "calibration", lambda: reliability(np.asarray(answers["confidence"]), right)
        ),
    )


def _add_attacked(
    figures: Evaluation, tasks: Tasks, gaps: Gaps, groups: IntArray | None
) -> Evaluation:
    """Under attacks and noise, and whether gradients are masked."""
    subject, y, plan, results = tasks.subject, tasks.rows.y, tasks.plan, tasks.results
    robust, worst = worst_case(results, plan, groups)
    evidence = masking_evidence(results, plan, y)
    checks = evidence and gaps.attempt(
        "gradient masking", lambda: masking(evidence, white_box=not subject.black_box)
    )
    return msgspec.structs.replace(
        figures,
        classes_robust={} if worst is None else recall(subject.classes, y, worst, groups),
        robust=robust,
        attacks=attack_figures(results, plan, groups),
        robust_curve=curve_figures(results, plan, groups),
        noise_curve=tuple(
            NoiseFigure(*proportion(right_rows(results[name]), groups).parts, eps=eps)
            for eps in plan.sizes
            if (name := f"noise-{eps:g}") in results
        ),
        masking=checks or (),
    )


def _add_changed(
    figures: Evaluation, tasks: Tasks, gaps: Gaps, groups: IntArray | None
) -> Evaluation:
    """Under corruptions and errors, on inputs of no class; and how the scores do on all of it."""
    runner, results = tasks.subject.runner, tasks.results
    kinds, stressed = _collect_answers(results, "corruption"), _collect_answers(results, "stress")
    wrong = {key: ~right_rows(answers) for key, answers in kinds.items()}
    previous, seed = figures.previous, figures.seed
    before = () if previous is None else previous.corruptions
    version = None if previous is None else previous.version
    benign = _middle({**kinds, **stressed})
    if not runner.manifest.calibration.drift_tested:
        gaps.add(
            "clean rows flagged as drift", "the drift score is calibrated on the test rows, too"
        )
    cases = gaps.attempt(
        "unexpected inputs", lambda: edge_cases(runner, seed=seed, examples=tasks.rows.x)
    )
    return msgspec.structs.replace(
        figures,
        corruptions=_corruptions(kinds, groups),
        mce=gaps.attempt("mean corruption error", lambda: relative_error(wrong, before, version)),
        stress=_stress(stressed, runner.manifest.calibration.alpha, groups),
        edge_cases=cases or (),
        scores=gaps.attempt("scores", lambda: _scores(tasks, benign, seed=seed)),
    )


def relative_error(
    wrong: Mapping[tuple[str, str, int], Bools],
    previous: Sequence[CorruptionFigure],
    version: int | None,
) -> CorruptionError | None:
    """Mean corruption error relative to the previous champion, over the kinds that both have.

    Over ImageNet-C's fifteen where both have them all, as is usual, else over all in common.

    Args:
        wrong: which answers `(n,)` were wrong, by (group, name, severity).
        previous: its corruptions; nothing comes of none, or of other kinds.
        version: its number.
    """
    theirs = {(p.group, p.name, p.severity): p for p in previous if p.share is not None}
    kinds = sorted({key[:2] for key in wrong if key in theirs})
    usual = [kind for kind in kinds if kind[0] == "imagenet-c"]
    if len(usual) == len(GROUPS["imagenet-c"].kinds):
        kinds = usual
    if not kinds:
        return None
    own, reference, counts = [], [], []
    for kind in kinds:
        keys = [key for key in wrong if key[:2] == kind and key in theirs]
        own.append(np.stack([wrong[key] for key in keys]))
        reference.append(np.array([1 - theirs[key].value for key in keys]))
        counts += [theirs[key].n for key in keys]
    value, low, high = (round(v, 4) for v in mean_corruption_error(own, reference, min(counts)))
    return CorruptionError(value, low, high, own[0].shape[1], len(kinds), version)


def _on(rows: Bools, right: Bools, groups: IntArray | None) -> Proportion:
    return proportion(right[rows], None if groups is None else groups[rows])


def _corruptions(kinds: Changed, groups: IntArray | None) -> tuple[CorruptionFigure, ...]:
    return tuple(
        CorruptionFigure(
            *proportion(right_rows(answers), groups).parts,
            name=name,
            group=group,
            severity=severity,
        )
        for (group, name, severity), answers in kinds.items()
    )


def _stress(kinds: Changed, alpha: float, groups: IntArray | None) -> tuple[StressFigure, ...]:
    return tuple(
        StressFigure(
            *proportion(right_rows(answers), groups).parts,
            name=name,
            severity=severity,
            drift_flagged=round(float((np.asarray(answers["drift"], float) <= alpha).mean()), 4),
        )
        for (_, name, severity), answers in kinds.items()
    )


def _scores(tasks: Tasks, benign: Mapping[str, Arrays], *, seed: int) -> Scores:
    subject = tasks.subject
    return scores(
        subject.runner, tasks.results, tasks.plan, benign, black_box=subject.black_box, seed=seed,
        adaptive=adaptive_figures(tasks.results, tasks.plan),
    )  # fmt: skip


def _collect_answers(
    results: Mapping[str, Arrays], kind: str
) -> dict[tuple[str, str, int], Arrays]:
    """Answers to corrupted or stressed rows by (group, name, severity)."""
    collected = {}
    for unit, answers in results.items():
        if unit.startswith(f"{kind}-"):
            middle, _, severity = unit.removeprefix(f"{kind}-").rpartition("-")
            group, _, name = middle.rpartition("-")
            collected[group, name, int(severity)] = answers
    return collected


def _middle(changed: Changed) -> dict[str, Arrays]:
    """Those of severity 3, named as people would."""
    return {
        name if group in ("holdfast", "") else f"{group}: {name}": answers
        for (group, name, severity), answers in changed.items()
        if severity == 3
    }


def _confusions(subject: Subject, y: IntArray, predicted: IntArray) -> tuple[Confusion, ...]:
    count, names = len(subject.classes), subject.classes
    pairs = np.bincount(y * count + predicted, minlength=count * count).reshape(count, count)
    np.fill_diagonal(pairs, 0)
    order = np.argsort(-pairs, axis=None, kind="stable")[:CONFUSIONS]
    return tuple(
        Confusion(names[true], names[other], int(pairs[true, other]), int((y == true).sum()))
        for true, other in (divmod(int(place), count) for place in order)
        if pairs[true, other]
    )


def _compute_certified_accuracy(results: Mapping[str, Arrays]) -> Certified | None:
    """Certified accuracy up to the largest radius that the samples can give."""
    if "certificates" not in results:
        return None
    radius = results["certificates"]["radius"].astype(np.float64)
    radii = [round(r, 4) for r in np.linspace(0, largest_radius(SIGMA, SAMPLES, ALPHA), 9).tolist()]
    return Certified(SIGMA, SAMPLES, ALPHA, len(radius), certified_points(radius, radii))


def _gallery(tasks: Tasks) -> tuple[ChangedPicture, ...]:
    smallest, subject = tasks.results.get("smallest"), tasks.subject
    if smallest is None:
        return ()
    norm = tasks.plan.threat.norm
    return gallery(subject.schema, subject.classes, tasks.rows, smallest, norm)


def _of_previous(previous: Evaluation, version: int | None) -> Previous:
    """What the report shows of it beside one's own."""
    return Previous(
        version=version,
        clean=previous.clean,
        robust=previous.robust,
        robust_curve=previous.robust_curve,
        corruptions=previous.corruptions,
        calibration=previous.calibration,
    )
