"""An answer to one input in words: the class, how sure, how usual the input, tampered or not.

Certificates, prediction sets and verdicts are told where a version gives them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from models.versions.runner import densities_of
from models.versions.schema import Calibration, Manifest
from service.console.telling.blocks import Bars, Block, Heading, Said, Shares, Strip, Text
from service.console.telling.boxes import tell_box
from service.console.telling.headline import Tone
from service.console.telling.numbers import percent

SHOWN, LEAST_ROWS = 4, 10
VERDICTS = {"attack": "It looks like an attack.", "corruption": "It looks corrupted, not attacked."}


def tell_answer(row: Mapping[str, Any], manifest: Manifest, request_id: str) -> list[Block]:
    """What the page says of the answer to one row.

    Args:
        row: an object of `predictions` of `/predict`.
        manifest: of the version that answered.
        request_id: of the request.
    """
    p, alpha = np.asarray(row["probabilities"], np.float64), manifest.calibration.alpha
    order = np.argsort(-p, kind="stable")[:SHOWN].tolist()
    sure = f"{percent(float(p.max()))} sure."
    meta = f"version {manifest.version}, request `{request_id}`, not counted as traffic"
    drift, tampered = row["drift"], row["perturbation"]
    threshold = percent(manifest.calibration.perturbation_threshold)
    attack, corruption = float(tampered["likelihood"]), float(tampered["corruption"])
    blocks: list[Block] = [
        Said(str(row["label"]), sure, tell_sureness(manifest, float(p.max())), meta),
        *tell_sets(row, manifest),
        Heading("What else could it be?"),
        Bars(
            "Probabilities", tuple((manifest.classes[k], float(p[k])) for k in order), share=True
        ),
        Heading("Is it like what the model was trained on?"),
        Strip(float(drift["p_value"]), alpha),
        Text(tell_likeness(drift, manifest.calibration)),
        Heading("Was it tampered with?"),
        Shares(split_kinds(attack, corruption)),
        Text(f"{_verdict(tampered)}{_flag(tampered['flagged']).capitalize()}. The bar takes "
             f"each kind for equally frequent. Tampered against the rest, half and half: "
             f"{percent(attack)}; flagged from {threshold} on."),
        *tell_certificate(row.get("certificate"), drift, manifest),
    ]  # fmt: skip
    return blocks


def split_kinds(attack: float, corruption: float) -> tuple[tuple[str, float, str], ...]:
    """Shares of clean, corrupted and tampered with rows like this one, of equally many before.

    Both likelihoods are at even odds against the rest, so they do not add up with what is clean:
    the shares are 1 : k : a with the densities of `models.versions.runner.densities_of`.

    Args:
        attack, corruption: `perturbation.likelihood` and `.corruption` of a row of `/predict`.

    >>> [round(share, 3) for _, share, _ in split_kinds(0.5, 0.5)]
    [0.333, 0.333, 0.333]
    """
    attacked, corrupted = (float(each) for each in densities_of(attack, corruption))
    whole = 1 + corrupted + attacked
    return (
        ("clean", 1 / whole, "bar"),
        ("blur, noise, light", corrupted / whole, "grey"),
        ("tampered", attacked / whole, "hot"),
    )


def tell_likeness(drift: Mapping[str, Any], calibration: Calibration) -> str:
    """Whether a row is like those of training; of n calibration rows the rarest is 1 in n + 1.

    Args:
        drift: `drift` of a row of `/predict`.
        calibration: what its p-value rests on.
    """
    n, alpha, p = calibration.drift_n, calibration.alpha, float(drift["p_value"])
    figure = f"{100 * p:.0f} of 100 held-out rows are at least as strange (p = {p:.3f})"
    if drift.get("out_of_range"):
        far = "a number lies farther outside the range of training than that range is wide"
        return f"No: {far}. {figure}; {_flag(drift['flagged'])}."
    if drift["flagged"]:
        return f"No: {figure}; flagged."
    if 1 / (n + 1) > alpha + 1e-9:
        few = f"calibrated on {n} rows, where none is rare enough for a flag at {alpha:g}"
        return f"Cannot be told: {few}. {figure}."
    return f"Yes: {figure}; not flagged."


def tell_sureness(manifest: Manifest, probability: float) -> str:
    """How often held-out answers about this sure were right."""
    evaluation = manifest.evaluation
    bins = (
        () if evaluation is None or evaluation.calibration is None else evaluation.calibration.bins
    )
    below = [each for each in bins if each.low <= probability and each.n >= LEAST_ROWS]
    if not below:
        return "How often answers this sure are right was not measured."
    found = max(below, key=lambda each: each.low)
    right = f"{100 * found.accuracy:.1f}".removesuffix(".0")
    return (
        f"On held-out rows, answers about this sure were right in {right} of 100 ({found.n} rows)."
    )


def tell_sets(row: Mapping[str, Any], manifest: Manifest) -> list[Block]:
    """Which class is promised, of how many rows, and under any change that is proven."""
    facts, proven = manifest.sets, row.get("certificate") or {}
    if facts is None or row.get("set") is None:
        return []
    text = f"Promised classes: {_among(row['set'])}"
    if manifest.certificate is not None and proven.get("set") is not None:
        text += f"; under any change within {manifest.certificate.eps:g}: {_among(proven['set'])}"
    holds = f"They hold the true class for at least {percent(facts.coverage)} of rows"
    return [Text(f"{text}. {holds} like those of calibration.")]


def _among(names: Sequence[object]) -> str:
    *first, last = [str(name) for name in names] or ["none of them"]
    return f"{', '.join(first)} or {last}" if first else last


def tell_certificate(
    certificate: Mapping[str, Any] | None, drift: Mapping[str, Any], manifest: Manifest
) -> list[Block]:
    """What is proven of an answer, of which changes, and what that does not say.

    Args:
        certificate, drift: of a row of `/predict`; None: the version proves nothing.
        manifest: of the version that answered.
    """
    facts = manifest.certificate
    if not certificate or facts is None:
        return []
    proven = float(certificate["eps"])
    if not proven > 0:
        return [Text("Not certified: of changes of this input nothing is proven.", small=True)]
    table = manifest.input.kind == "tabular"
    each = "each number is changed by up to {} of its training range"
    if not table:
        each = "each value is changed by up to {} of the range"
    box = tell_box(manifest.input, facts.columns)
    certified = bool(certificate["certified"])
    lead = "Certified" if certified else f"Not certified at {facts.eps:g}, but proven"
    strange = bool(drift["flagged"] or drift.get("out_of_range"))
    tone: Tone = "good" if certified and not strange else "plain"
    words = f"{lead}: this answer stays, however {each.format(f'{proven:g}')}. {box}"
    here = ", as here," if strange else ""
    limits = (
        "It proves that the answer stays, not that it is right: where drift is flagged or a number "
        f"is out of range{here} it says nothing of use."
    )
    return [Text(words.strip(), tone=tone), Text(limits, small=True)]


def _verdict(tampered: Mapping[str, Any]) -> str:
    words = VERDICTS.get(str(tampered.get("verdict")), "")
    if not words and tampered.get("suspicious"):
        words = "Suspicious: it is hardly a clean input, whatever else it is."
    return f"{words} " if words else ""


def _flag(on: bool) -> str:
    return "flagged" if on else "not flagged"
