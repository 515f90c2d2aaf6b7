"""The part on an attacker who knows the scores, and on what the likelihood is worth as a number."""

from collections.abc import Mapping
from typing import Any

from models.reporting import grids
from models.reporting.numbers import DASH, bounds, interval, known, number, of_100, percent
from models.reporting.parts import Plate, Tile, View, WordTable
from models.reporting.reliability import reliability_plate
from models.reporting.summary import adaptive_of, fooled_unseen

KEYS = ("fooled", "undetected", "undetected_by_both")


def words(view: View) -> list[str]:
    """Static and adaptive side by side, in natural frequencies; or why there is nothing to say."""
    facts = adaptive_of(view.figures)
    if not facts:
        return []
    found = fooled_unseen(view.figures)
    if found is None:
        reason = facts.get("reason") or "no row was right without an attack"
        return [f"What an attacker achieves who knows the scores was not measured: {reason}."]
    static, adaptive = found
    said = [
        f"Of 100 attacked rows an attack that does not know the scores fools the model unseen in"
        f" {of_100(static['value'])} ({bounds(static)}); an attacker who knows them, in"
        f" {of_100(adaptive['value'])} ({bounds(adaptive)}; n = {adaptive['n']})."
    ]
    fooled = facts["adaptive"].get("fooled")
    if known(fooled) and fooled["value"] > 0:
        kept = max(0.0, 1 - adaptive["value"] / fooled["value"])
        said.append(
            f"Against the latter the perturbation score still catches {of_100(kept)} of 100 wrong"
            " answers. It is a tripwire; what keeps answers right is the training."
        )
    return said


def tile(view: View) -> Tile | None:
    """The headline: fooled unseen by an attacker who knows the scores."""
    found = fooled_unseen(view.figures)
    if found is None:
        return None
    static, adaptive = found
    note = (
        f"knowing the scores ({bounds(adaptive)}, n = {adaptive['n']});"
        f" {percent(static['value'])} not knowing them"
    )
    drawing = grids.strip("tile-adaptive", "Fooled unseen", adaptive)
    return Tile("Fooled unseen", percent(adaptive["value"]), note, drawing)


def plates(view: View) -> list[Plate]:
    """The two attackers, and the reliability of the likelihood."""
    found = [_attackers(view), _reliability(view)]
    return [plate for plate in found if plate is not None]


def _attackers(view: View) -> Plate | None:
    facts = adaptive_of(view.figures)
    if fooled_unseen(view.figures) is None:
        return None
    static, adaptive = facts["static"], facts["adaptive"]
    if not (known(static.get("fooled")) and known(adaptive.get("fooled"))):
        return None
    rows = [
        grids.Row("knows the net", static["fooled"], static["undetected"]),
        grids.Row("and the score", adaptive["fooled"], adaptive["undetected"]),
        grids.Row("and both scores", adaptive["fooled"], adaptive.get("undetected_by_both")),
    ]
    drawing = grids.forest(
        "attackers",
        "Attackers who know more",
        "; ".join(
            f"{row.label}: fooled {percent(row.share['value'])}, unseen"
            f" {percent(row.other['value'] if row.other else None)}"
            for row in rows
        )
        + ".",
        rows,
        names=("wrong answers", "wrong and not flagged"),
    )
    caption = (
        f"Of rows that are right when left alone, n = {facts.get('n', DASH)}. The first attacker"
        f" is {static.get('attack', 'the suite’s attack')}; the others climb the served graph with"
        f" its scores, {number(facts.get('steps'))} steps for each of the weights below, and the"
        " best per row counts. The last must pass the drift score as well."
    )
    return Plate("What an attacker gains who knows the scores", drawing, caption, _weights(facts))


def _weights(facts: Mapping[str, Any]) -> WordTable:
    rows = [("none: static", *(interval(facts["static"].get(key)) for key in KEYS))]
    rows += [
        (_weight(w.get("weight"), facts.get("best")), *(interval(w.get(key)) for key in KEYS))
        for w in facts.get("weights") or []
    ]
    rows.append(("best per row", *(interval(facts["adaptive"].get(key)) for key in KEYS)))
    return WordTable(("weight of the scores", "wrong", "and not flagged", "nor as drift"), rows)


def _weight(weight: Any, best: Any) -> str:
    said = weight if isinstance(weight, str) else number(weight)
    return f"{said} (best)" if weight == best else str(said)


def _reliability(view: View) -> Plate | None:
    facts = (view.figures.get("scores") or {}).get("likelihood") or {}
    bins = [b for b in facts.get("bins") or [] if b.get("n")]
    if not bins:
        return None
    ece = facts.get("ece")
    off = f" Off by {interval(ece)} on average." if known(ece) else ""
    return reliability_plate(
        "likelihood",
        "Reliability of the perturbation likelihood",
        "What the likelihood says, and how often it was so",
        bins,
        "Half attacked rows, a quarter clean, a quarter benignly changed: the odds that the"
        f" likelihood is stated for.{off} Where attacks are rarer, it is too high.",
        told="likelihood {stated}: {was}",
        header=("likelihood from", "to", "rows", "mean likelihood", "attacked"),
        names=("likelihood", "attacked"),
        axes=("stated likelihood", "was attacked"),
    )
