"""The perturbation head: clean, benignly corrupted or adversarial, from what one pass gives.

A small classifier over logits, features, input statistics and what a few learned filters see
(`head_filters`). It is trained (`head_fit`) with benign corruptions as negatives: without them it
flags every blurred or brighter image. It is a tripwire; the robust training is the defence
(docs/methods.md).
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from models.statistics.arrays import FloatArray, IntArray
from monitoring.scoring.graph import GraphBuilder

CLEAN, CORRUPTED, ADVERSARIAL = 0, 1, 2
HIDDEN = 64
SHARES = (0.25, 0.25, 0.5)  # priors in training: adversarial against everything else is 1 : 1


@dataclass(frozen=True)
class PerturbationHead:
    """Weights of a two-layer net over P evidence features; standardisation is folded in."""

    w1: FloatArray  # (P, 64)
    b1: FloatArray  # (64,)
    w2: FloatArray  # (64, 3), divided by the temperature
    b2: FloatArray  # (3,), calibrated as well

    def logits(self, evidence: FloatArray) -> FloatArray:
        """Log-odds `(N, 3)` up to a constant, of evidence features `(N, P)`."""
        return np.maximum(evidence @ self.w1 + self.b1, 0) @ self.w2 + self.b2

    def likelihoods(self, evidence: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Perturbation and corruption likelihood, `(N,)` each, each at equal prior odds.

        The softmax has the priors of training. For corruption the prior of class k is brought
        from (1/4, 1/4, 1/2) to (1/4, 1/2, 1/4) by weights (1, 2, 1/2).
        """
        p = softmax(self.logits(evidence), axis=1)
        weighted = p * CORRUPTION_ODDS
        return p[:, ADVERSARIAL], weighted[:, CORRUPTED] / weighted.sum(axis=1)

    def suspicion(self, evidence: FloatArray) -> FloatArray:
        """1 - p(clean), `(N,)`, at equal odds of clean and not clean: priors (1/2, 1/4, 1/4)."""
        weighted = softmax(self.logits(evidence), axis=1) * CLEAN_ODDS
        suspicion: FloatArray = 1 - weighted[:, CLEAN] / weighted.sum(axis=1)
        return suspicion

    def emit(self, graph: GraphBuilder, evidence: str) -> tuple[str, str, str]:
        """Nodes for both likelihoods and the suspicion, `(N,)` each."""
        hidden = graph.op(
            "Relu", graph.op("Gemm", evidence, graph.const(self.w1), graph.const(self.b1))
        )
        logits = graph.op("Gemm", hidden, graph.const(self.w2), graph.const(self.b2))
        p = graph.op("Softmax", logits, axis=1)
        shifted = graph.op("Add", logits, graph.const(np.log(CORRUPTION_ODDS)))
        q = graph.op("Softmax", shifted, axis=1)
        index = [graph.const(np.int64(k)) for k in (ADVERSARIAL, CORRUPTED)]
        # 1 - p(clean) is a sum, so that what is near 0 keeps its digits
        odds = graph.op("Mul", p, graph.const(np.asarray(CLEAN_ODDS / CLEAN_ODDS[CLEAN])))
        total = graph.op("ReduceSum", odds, graph.const([1]), keepdims=0)
        others = graph.op("Slice", odds, *(graph.const([k]) for k in (CORRUPTED, 3, 1)))
        doubt = graph.op("ReduceSum", others, graph.const([1]), keepdims=0)
        return (
            graph.op("Gather", p, index[0], axis=1),
            graph.op("Gather", q, index[1], axis=1),
            graph.op("Div", doubt, total),
        )


CORRUPTION_ODDS = np.array([1.0, 2.0, 0.5], dtype=np.float32)
CLEAN_ODDS = np.array([2.0, 1.0, 0.5], dtype=np.float32)


def calibrate(head: PerturbationHead, evidence: FloatArray, kind: IntArray) -> PerturbationHead:
    """Logits z / T + b that fit held-out rows best, all three kinds at the priors of training.

    A temperature (Guo et al. 2017) undoes overconfidence; a shift per kind what a head that was
    fitted on few images has wrong about all others.
    """
    counts = np.bincount(kind, minlength=3)
    weight = np.asarray(SHARES)[kind] / counts[kind]
    logits = head.logits(evidence).astype(np.float64)

    def loss(parameters: FloatArray) -> float:
        moved = logits / np.exp(parameters[0]) + np.append(parameters[1:], 0.0)
        log_p = log_softmax(moved, axis=1)
        return float(-(weight * log_p[np.arange(len(kind)), kind]).sum())

    found = minimize(loss, np.zeros(3), bounds=[(-2, 3), (-5, 5), (-5, 5)], method="L-BFGS-B").x
    temperature, shift = float(np.exp(found[0])), np.append(found[1:], 0.0)
    return _float32(head.w1, head.b1, head.w2 / temperature, head.b2 / temperature + shift)


def threshold(likelihoods: FloatArray, alpha: float) -> float:
    """The value that a clean row exceeds with probability at most `alpha` (split conformal).

    It is the ceil((n + 1)(1 - alpha))-th smallest of n held-out clean likelihoods, or 1 where n
    is too small for `alpha`.
    """
    rank = int(np.ceil((len(likelihoods) + 1) * (1 - alpha)))
    return 1.0 if rank > len(likelihoods) else float(np.sort(likelihoods)[rank - 1])


def pooled_threshold(likelihoods: FloatArray, kind: IntArray, alpha: float) -> float:
    """The least value that at most `alpha` of benign rows exceed, every kind weighing the same.

    Args:
        likelihoods: `(n,)` of held-out benign rows.
        kind: `(n,)`, which kind each row is of. A kind of many rows counts no more than one of few.
        alpha: share of all kinds together that may be flagged.

    >>> pooled_threshold(np.array([0.1, 0.2, 0.7, 0.3]), np.array([0, 0, 0, 1]), 0.4)
    0.3
    """
    if len(likelihoods) == 0:
        return 0.0
    _, place, counts = np.unique(kind, return_inverse=True, return_counts=True)
    order = np.argsort(likelihoods)[::-1]
    weight = 1 / (counts[place[order]] * len(counts))
    # A row flags if it is above: the value at which the rows above weigh `alpha` at most.
    above = np.cumsum(weight) - weight
    return float(likelihoods[order][int(np.nonzero(above <= alpha + 1e-12)[0][-1])])


def _float32(*arrays: FloatArray) -> PerturbationHead:
    return PerturbationHead(*(np.asarray(a, dtype=np.float32) for a in arrays))
