"""Laws of the net for tables."""

import torch

from models.nets.table_net import TableMLP


def test_a_missing_value_that_training_never_had_counts_as_the_median() -> None:
    net = TableMLP((2,), 2, columns=[[0, 1], [0, 1]], hidden=(8,)).eval()
    rows = torch.tensor([[0.0, 0.2], [0.4, float("nan")], [1.0, 0.8]])
    net.fit_inputs(rows)
    missing = torch.tensor([[float("nan"), 0.2], [0.4, float("nan")]])
    usual = torch.tensor([[0.4, 0.2], [0.4, 0.2]])  # of two values the median is the lower
    logits, wanted = net(missing)[0], net(usual)[0]
    torch.testing.assert_close(logits[0], wanted[0])
    assert not torch.allclose(logits[1], wanted[1]), "this one is learnt, by its indicator"
