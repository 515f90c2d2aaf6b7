"""Small nets that were trained for certificates, and their graphs with nothing else in them."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models import data as sets
from models.attacks.threat import Threat, geometry_of
from models.certificates.layers import chain_of
from models.data import DataSet
from models.nets import export, factories
from models.training.certified import start_certified
from models.training.loop import train
from models.training.recipe import Recipe
from models.versions.judging import ThreatModel
from models.versions.promises import CertificateFacts
from models.versions.runner import session
from models.versions.schema import InputSchema
from monitoring.scoring.certificate import Certifying, emit_certificate
from monitoring.scoring.graph import OWN, GraphBuilder
from monitoring.scoring.instrument import emit_unit
from tests import bundles

RECIPE = Recipe(
    method="certified", beta=0.0, batch_size=64, learning_rate=3e-3, eps_warm_up=0.6, ema=0.95,
    precision="fp32",
)  # fmt: skip
WHAT = {  # name: eps, epochs, net options
    "digits": (0.06, 40, {"widths": [8, 16], "hidden": 32}),
    "breast_cancer": (0.02, 30, {"hidden": [32, 16]}),
    "table": (0.02, 20, {"hidden": [32, 16]}),
}


@dataclass(frozen=True)
class Small:
    """A net, its data, and a graph that gives logits and certificates."""

    data: DataSet
    net: nn.Module
    facts: CertificateFacts
    run: Any

    def answer(self, x: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
        """Logits `(N, C)`, `certified` and `certified_eps` `(N,)` of raw rows."""
        logits, certified, eps = self.run.run(
            ["logits", "certified", "certified_eps"], {self.data.schema.name: x}
        )
        return logits, certified, eps

    def threat(self, eps: float | None = None) -> Threat:
        """The box of a size."""
        size = self.facts.eps if eps is None else eps
        return geometry_of(ThreatModel("linf", size, self.facts.columns), self.data.schema)

    def tensors(self, x: npt.NDArray[Any]) -> Tensor:
        """Unit-range rows."""
        return torch.from_numpy(self.data.schema.to_unit(x))


@cache
def small(name: str) -> Small:
    """One of `WHAT`, trained within a second or two."""
    eps, epochs, options = WHAT[name]
    data = bundles.table() if name == "table" else sets.load(sets.Source(name))
    torch.manual_seed(0)
    spec = factories.spec_for(data.schema, len(data.classes), **options)
    net = factories.build(spec)
    start_certified(net, torch.Generator().manual_seed(0))
    columns = {data.schema.columns[0].name: 0.0} if name == "table" else {}
    recipe = Recipe(
        **{f: getattr(RECIPE, f) for f in RECIPE.__struct_fields__}
        | {"eps": eps, "epochs": epochs, "columns": columns}
    )
    trained = train(net, data.train, data.schema, recipe)
    return compiled(trained.net, data, CertificateFacts(eps, (eps / 2, eps), columns))


def compiled(net: nn.Module, data: DataSet, facts: CertificateFacts, heat: float = 1.0) -> Small:
    """A net as a graph that proves its answers."""
    graph = certificate_graph(net, data.schema, facts, heat)
    graph.output("logits", f"{OWN}/logits", "batch", len(data.classes))
    return Small(data, net, facts, session(graph.build().SerializeToString()))


def certificate_graph(
    net: nn.Module, schema: InputSchema, facts: CertificateFacts, heat: float = 1.0
) -> GraphBuilder:
    """The graph of a net with certificates, without the output of its logits."""
    model = export.to_onnx(net, schema, clip=schema.kind == "image")
    graph = GraphBuilder(model, reserved=("logits", "certified", "certified_eps"))
    what = Certifying(net, chain_of(net), facts)
    emit_certificate(graph, schema, emit_unit(graph, schema), what, heat)
    return graph


def class_and_margin(net: nn.Module, x_unit: Tensor) -> tuple[Tensor, Tensor]:
    """The class `(N,)` that a net names, and by how much."""
    with torch.no_grad():
        top = net(x_unit)[0].topk(2, dim=1)
    return top.indices[:, 0], top.values[:, 0] - top.values[:, 1]


def rows(data: DataSet, count: int, seed: int = 0) -> npt.NDArray[Any]:
    """Test rows, at most so many."""
    rng = np.random.default_rng(seed)
    return data.test.x[np.sort(rng.permutation(len(data.test))[:count])]
