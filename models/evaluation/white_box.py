"""The served graph as an attacker with the bundle sees it: answers and scores, with gradients."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from models.attacks.onnx.interpreter import DifferentiableGraph, NotDifferentiableError
from models.attacks.onnx.node import straight
from models.versions.runner import Runner

LIMIT = 1e-6  # log-odds of a likelihood whose logits are not found end here
OUTPUTS = ("probabilities", "perturbation_likelihood", "drift_p_value")


class WhiteBox:
    """Logits and the excess of the detectors over their thresholds, for unit-range inputs.

    The excess of the perturbation score is its log-odds less those of its threshold; that of the
    drift score log(alpha / p), flat but for the score that p counts, which it takes the slope of.
    Hard clamps let the gradient through: behind one the detector would only look robust.

    Args:
        runner: of the version.
        drift: whether the drift score counts as a detector as well.
        device: where inputs are.

    Raises:
        NotDifferentiableError: the graph holds an operator without a known gradient, or its drift
            score is none that can be followed.
    """

    def __init__(
        self, runner: Runner, *, drift: bool = False, device: torch.device | str = "cpu"
    ) -> None:
        model, facts = runner.bundle.model_bytes, runner.manifest.calibration
        self._schema, self._device = runner.manifest.input, device
        self._alpha = facts.alpha
        # Beyond 1 - 1e-7 a float32 likelihood flags nothing.
        threshold = min(max(facts.perturbation_threshold, 1e-7), 1 - 1e-7)
        self._threshold = math.log(threshold / (1 - threshold))
        names = OUTPUTS if drift else OUTPUTS[:2]
        graph = DifferentiableGraph(model, names, device=device)
        self._answer = graph.before_softmax("probabilities")
        self._likelihood = graph.before_softmax("perturbation_likelihood")
        self._counted = graph.find_compared_tensor("drift_p_value") if drift else None
        if drift and self._counted is None:
            raise NotDifferentiableError("drift_p_value", "it does not count one score")
        inner = [place[0] for place in (self._answer, self._likelihood) if place is not None]
        inner += [] if self._counted is None else [self._counted]
        self._graph = DifferentiableGraph(model, [*names, *inner], device=device)

    def __call__(self, x_unit: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `(N, C)` and excess `(N, 1)`, or `(N, 2)` with drift."""
        span, offset = (
            torch.from_numpy(v).to(self._device) for v in (self._schema.span, self._schema.offset)
        )
        tensors = self._graph(x_unit * span + offset)
        excess = [self._log_odds(tensors) - self._threshold]
        if self._counted is not None:
            above = (self._alpha / tensors["drift_p_value"]).log()
            counted = tensors[self._counted].flatten()
            excess.append(straight(above, counted.sign() * counted.abs().log1p()))
        return self._logits(tensors), torch.stack(excess, dim=1)

    def _logits(self, tensors: Mapping[str, Tensor]) -> Tensor:
        if self._answer is not None and self._answer[1] is None:
            return tensors[self._answer[0]]
        return tensors["probabilities"].clamp_min(1e-30).log()

    def _log_odds(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Of the likelihood `(N,)`; by its logits where they are found, so that none saturates."""
        if self._likelihood is None:
            p = tensors["perturbation_likelihood"]
            return straight(p.clamp(LIMIT, 1 - LIMIT), p).logit()
        tensor, column = self._likelihood
        logits = (
            tensors[tensor].flatten(1) if tensors[tensor].dim() > 1 else tensors[tensor][:, None]
        )
        if column is None:  # a sigmoid
            return logits[:, 0]
        others = torch.cat([logits[:, :column], logits[:, column + 1 :]], dim=1)
        return logits[:, column] - others.logsumexp(dim=1)
