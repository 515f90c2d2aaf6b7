"""The figures of an evaluation in the lines of a command."""

from collections.abc import Sequence

from models.data.pictures.ranges import in_pixel_units
from models.evaluation.worth import commonest_share, is_imbalanced
from models.statistics.shares import Proportion
from models.versions.figures import Evaluation
from models.versions.schema import InputSchema


def headline(figures: Evaluation, schema: InputSchema) -> str:
    """Clean and attacked accuracy in half a sentence, for the one line that `train` says."""
    robust = figures.robust
    attacked = (
        "not measured under attack"
        if robust is None or robust.share is None
        else f"{robust.value:.1%} under attack at eps {robust.eps:.4g}"
        f"{in_pixel_units(robust.eps, schema)}"
    )
    return f"clean accuracy {figures.clean.value:.1%}, {attacked} (n = {figures.n})"


def figure_lines(figures: Evaluation) -> list[str]:
    """All that `evaluate` says, line by line."""
    lines = [_line("clean", figures.clean), *_repeat_lines(figures), *_class_lines(figures)]
    lines += [_line("robust", figures.robust)] if figures.robust is not None else []
    lines += [_line(f"{p.attack} {p.eps:g}", p) for p in figures.attacks]
    lines += [_line(f"{p.attack} {p.eps:g}", p) for p in figures.robust_curve]
    for kind, shares in (("corruptions", figures.corruptions), ("stress", figures.stress)):
        if shares:
            lines.append(f"  {kind}: {_mean(shares):.1%} on average")
    if (mce := figures.mce) is not None:
        lines.append(
            f"  corruption error relative to version {mce.relative_to}: "
            f"{mce.value:.2f} ({mce.low:.2f} to {mce.high:.2f})"
        )
    failed = [check for check in figures.masking if check.passed is False]
    lines += [f"  gradient masking? {check.name}: {check.detail}" for check in failed]
    return lines + gap_lines(figures)


def _repeat_lines(figures: Evaluation) -> list[str]:
    """Accuracy on content that was not trained on, where some rows repeat the training part."""
    unseen = figures.clean_unseen
    if unseen is None or unseen.n == figures.n:
        return []
    return [_line(f"clean, content not trained on ({unseen.n})", unseen)]


def _class_lines(figures: Evaluation) -> list[str]:
    """Where one class holds most rows: what it cannot carry alone."""
    if not is_imbalanced(figures):
        return []
    lines = [f"  {commonest_share(figures):.1%} of the rows are of one class"]
    lines += [_line("balanced accuracy", p) for p in [figures.balanced_accuracy] if p is not None]
    if (area := figures.auroc) is not None:
        lines.append(f"  {'AUC':32} {area.value:.3f}  ({area.low:.3f} to {area.high:.3f})")
    for name, recall in figures.classes.items():
        lines.append(_line(f"recall of {name}", recall))
        if (precision := figures.precision.get(name)) is not None:
            lines.append(_line(f"precision of {name}", precision))
    return lines


def gap_lines(figures: Evaluation) -> list[str]:
    """What was not measured, and why."""
    return [f"  {gap.name}: not measured: {gap.reason}" for gap in figures.not_measured]


def share_or_none(share: Proportion | None) -> float | None:
    """The value of a share for JSON."""
    return None if share is None else share.share


def _line(what: str, p: Proportion) -> str:
    if p.share is None:
        return f"  {what:32} no rows"
    return f"  {what:32} {p.value:.1%}  ({p.low:.1%} to {p.high:.1%})"


def _mean(shares: Sequence[Proportion]) -> float:
    return sum(p.value for p in shares) / len(shares)
