"""The results as a table, one row per phase, and what the loop said below it."""

from benchmarks.lifecycle.figures import Cycle
from benchmarks.lifecycle.runs import Result

HEAD = (
    "scenario", "a second", "before", "at the shift", "after", "regained", "lost on the original",
    "robust", "harm after", "promoted after", "failed", "needless",
)  # fmt: skip


def render_table(results: list[Result]) -> str:
    """The table in Markdown, and the loop's words."""
    lines = [f"| {' | '.join(HEAD)} |", "|" + "---|" * len(HEAD)]
    for result in results:
        for number, cycle in enumerate(result.cycles):
            cells = _cells(result, cycle, last=number == len(result.cycles) - 1)
            lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    for result in results:
        lines.append(
            f"{result.name}, {result.asked_rate:.0f} a second, {result.labels} labels, "
            f"{result.labels_refused} refused for a while:"
        )
        for cycle in result.cycles:
            live = " -> ".join("?" if a is None else f"{a:.1%}" for a in cycle.live)
            lines.append(f"  {cycle.shift}: clients saw {live}; {cycle.trained} trained")
            lines += [f"    {words}" for words in cycle.said]
        wrong = {**result.failed, **{f"labels: {k}": n for k, n in result.labels_failed.items()}}
        lines += [f"  {count} x {words}" for words, count in wrong.items()]
    return "\n".join(lines)


def _cells(result: Result, cycle: Cycle, *, last: bool) -> tuple[str, ...]:
    name = result.name if len(result.cycles) == 1 else f"{result.name}: {cycle.shift}"
    robust, failed = "", ""
    if last:
        r = result.robust
        robust = f"{r.first:.1%} -> {r.last:.1%} ({r.difference[1]:+.1%} to {r.difference[2]:+.1%})"
        failed = f"{sum(result.failed.values())} of {result.requests:,}"
    regained = "nothing was lost"
    if cycle.regained is not None:
        share, low, high = cycle.regained
        regained = f"{share:.0%} ({low:.0%} to {high:.0%})"
    value, low, high = cycle.original_lost
    return (
        name, f"{result.rate:g}", f"{cycle.before:.1%}", f"{cycle.at_shift:.1%}",
        f"{cycle.after:.1%}", regained,
        f"{100 * value:.1f} ({100 * low:.1f} to {100 * high:.1f}) points", robust,
        _seconds(cycle.harm_seconds), _seconds(cycle.promoted_seconds), failed, str(cycle.needless),
    )  # fmt: skip


def _seconds(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.0f} s"
