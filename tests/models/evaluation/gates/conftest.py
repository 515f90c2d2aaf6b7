"""A version of the digits that a person approved, trained once without an attack."""

import pytest
import torch
from torch import nn

from models.data import DataSet
from models.nets import factories
from models.training.loop import train
from models.training.recipe import Recipe


@pytest.fixture(scope="session")
def anchor(digits: DataSet) -> nn.Module:
    torch.manual_seed(3)
    net = factories.build(factories.spec_for(digits.schema, 10))
    made = Recipe(method="standard", epochs=12, seed=3)
    return train(net, digits.train, digits.schema, made).net
