"""What interval bounds prove of a version, and how its prediction sets do, on held-out rows."""

import math

import numpy as np

from models.attacks.threat import Threat, geometry_of
from models.certificates.bounds import worst_margins
from models.certificates.layers import chain_of
from models.evaluation.plan import Plan
from models.evaluation.subject import Arrays, Subject
from models.evaluation.units import Block, Results
from models.statistics.arrays import Bools, FloatArray, IntArray
from models.statistics.intervals import proportion
from models.versions.judging import ThreatModel
from models.versions.promises import (
    CertificateFacts,
    Proven,
    ProvenPoint,
    SetFacts,
    SetFigure,
    sets_of,
)


def bound_rows(subject: Subject, plan: Plan, block: Block) -> Arrays:
    """How far each row is proven right, and the lead of its class under any change within eps.

    `proven` `(N,)` is the largest of the plan's sizes at which float64 bounds prove the true class
    (-1: none), `lead` `(N,)` the lower bound of f_y - max f_j at the certificate's eps.
    """
    facts, net = subject.runner.manifest.certificate, subject.net
    assert facts is not None
    assert net is not None
    chain, (x, y) = chain_of(net), subject.tensors(block.rows)
    proven = np.full(len(y), -1.0)
    for eps in plan.sizes:
        held = worst_margins(chain, x, y, _box(subject, facts, eps)).cpu().numpy() > 0
        proven[held] = eps
    lead = worst_margins(chain, x, y, _box(subject, facts, facts.eps)).cpu().numpy()
    return {"proven": proven, "lead": lead}


def proven_figures(subject: Subject, plan: Plan, results: Results) -> Proven | None:
    """Certified accuracy against the size of the change; None without certificates."""
    facts = subject.runner.manifest.certificate
    if facts is None or "bounds" not in results:
        return None
    proven = np.asarray(results["bounds"]["proven"], float)
    clean = results["clean"]
    served = np.asarray(clean["right"], bool) & np.asarray(clean["certified"], bool)
    answers = np.asarray(clean["certified"], bool)
    return Proven(
        eps=facts.eps,
        points=tuple(ProvenPoint(*proportion(proven >= eps).parts, eps=eps) for eps in plan.sizes),
        served=proportion(served),
        right_where_certified=proportion(np.asarray(clean["right"], bool)[answers]),
    )


def set_figures(subject: Subject, y: IntArray, results: Results) -> tuple[SetFigure, ...]:
    """How often the prediction sets hold the true class, and how large they are."""
    manifest = subject.runner.manifest
    facts, probabilities = manifest.sets, np.asarray(results["clean"]["probabilities"], float)
    if facts is None:
        return ()
    found = [_figure("as sent", facts, facts.ratio, probabilities, y, None)]
    if facts.certified_ratio is not None and "bounds" in results:
        # A class is out of a set where its lead lies below -q: q in logits, from the ratio.
        quantile = -math.log(max(facts.certified_ratio, 1e-300)) * manifest.calibration.temperature
        held = np.asarray(results["bounds"]["lead"], float) >= -quantile
        name = "under any change within eps"
        found.append(_figure(name, facts, facts.certified_ratio, probabilities, y, held))
    return tuple(found)


def _figure(
    name: str,
    facts: SetFacts,
    ratio: float,
    probabilities: FloatArray,
    y: IntArray,
    held: Bools | None,
) -> SetFigure:
    members = sets_of(probabilities, ratio)
    inside = members[np.arange(len(y)), y] if held is None else held
    return SetFigure(
        *proportion(inside).parts,
        name=name,
        promised=facts.coverage,
        mean_size=round(float(members.sum(axis=1).mean()), 3),
        single=round(float((members.sum(axis=1) == 1).mean()), 4),
    )


def _box(subject: Subject, facts: CertificateFacts, eps: float) -> Threat:
    return geometry_of(ThreatModel("linf", min(eps, 1.0), facts.columns), subject.schema)
