"""Small nets that were trained for certificates, and their graphs with nothing else in them."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper
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
from models.versions.promises import CERTIFICATE_OUTPUTS, CertificateFacts
from models.versions.runner import session
from models.versions.schema import InputSchema
from monitoring.scoring.certificates.outputs import Certifying, emit_certificate
from monitoring.scoring.graph import OWN, GraphBuilder
from monitoring.scoring.instrument import emit_unit
from tests import bundles

RECIPE = Recipe(
    method="certified", beta=0.0, batch_size=64, learning_rate=3e-3, eps_warm_up=0.6, ema=0.95,
    precision="fp32",
)  # fmt: skip
WHAT = {  # name: eps, epochs, net options
    "digits": (0.03, 20, {"widths": [4, 8], "hidden": 32}),
    "breast_cancer": (0.02, 30, {"hidden": [32, 16]}),
    "table": (0.02, 20, {"hidden": [32, 16]}),
}


@dataclass(frozen=True)
class Small:
    """A net, its data, and a graph that gives certificates (and its logits, where it is whole)."""

    data: DataSet
    net: nn.Module
    facts: CertificateFacts
    run: Any
    whole: bool

    def answer(self, x: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
        """Logits `(N, C)`, `certified` and `certified_eps` `(N,)` of raw rows."""
        given = {self.data.schema.name: x}
        if self.whole:
            return tuple(self.run.run(["logits", "certified", "certified_eps"], given))
        with torch.no_grad():
            logits = self.net(self.tensors(x))[0].numpy()
        return logits, *self.run.run(["certified", "certified_eps"], given)

    def threat(self, eps: float | None = None) -> Threat:
        """The box of a size."""
        size = self.facts.eps if eps is None else eps
        return geometry_of(ThreatModel("linf", size, self.facts.columns), self.data.schema)

    def tensors(self, x: npt.NDArray[Any]) -> Tensor:
        """Unit-range rows."""
        with np.errstate(all="ignore"):  # absurd values are among them
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
    facts = CertificateFacts(eps, (eps / 2, eps), columns)
    return compiled(trained.net, data, facts, whole=name == "digits")


def compiled(
    net: nn.Module, data: DataSet, facts: CertificateFacts, *, whole: bool = False
) -> Small:
    """A net with its certificates as a graph; where `whole`, with its logits (takes longer)."""
    schema = data.schema
    image = schema.kind == "image"
    model = export.to_onnx(net, schema, clip=image) if whole else empty(schema)
    graph = GraphBuilder(model, reserved=("logits", *CERTIFICATE_OUTPUTS))
    what = Certifying(net, chain_of(net), facts)
    emit_certificate(graph, schema, emit_unit(graph, schema), what, 1.0)
    if whole:
        graph.output("logits", f"{OWN}/logits", "batch", len(data.classes))
    run = session(graph.build().SerializeToString())
    return Small(data, net, facts, run, whole)


def empty(schema: InputSchema) -> onnx.ModelProto:
    """A graph with an input and nothing else."""
    kind = TensorProto.UINT8 if schema.dtype == "uint8" else TensorProto.FLOAT
    given = helper.make_tensor_value_info(schema.name, kind, ["batch", *schema.shape])
    graph = helper.make_graph([], "empty", [given], [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def rows(data: DataSet, count: int, seed: int = 0) -> npt.NDArray[Any]:
    """Test rows, at most so many."""
    rng = np.random.default_rng(seed)
    return data.test.x[np.sort(rng.permutation(len(data.test))[:count])]
