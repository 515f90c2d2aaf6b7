"""A version as what it was made from: its net in torch, and its graph with the net beside it."""

import msgspec
import torch
from torch import nn

from models.base.errors import TrainingError
from models.evaluation.subject import Subject
from models.nets import export, factories
from models.versions.bundle import WEIGHTS, Bundle
from models.versions.runner import Runner


def rebuild(bundle: Bundle) -> nn.Module:
    """The torch net of a bundle, in eval mode. Raises TrainingError for a wrapped model."""
    if WEIGHTS not in bundle.manifest.files:
        raise TrainingError(f"{bundle.name} is a wrapped model: it has no weights to work with")
    training = bundle.manifest.training
    if training is None or training.net is None:
        raise TrainingError(f"{bundle.name}: its manifest does not say what its net is")
    spec = msgspec.convert(training.net, factories.NetSpec)
    return export.load_weights(factories.build(spec), bundle.read(WEIGHTS))


def open_subject(bundle: Bundle) -> Subject:
    """The served graph and the torch net of a bundle (None: wrapped), on one thread."""
    torch.set_num_threads(1)
    net = rebuild(bundle) if WEIGHTS in bundle.manifest.files else None
    return Subject(Runner(bundle), net)
