"""`python -m benchmarks.queries [DATA ...]`: attacks that only ask, against their detector.

For every data set (the bundled digits; others by path) a version is made as the service serves it:
weights trained here (or `--load`), the graph in onnxruntime, the threshold from held-out rows. Then

- Square (L-inf and L2), HopSkipJump (L2 and L-inf) and Boundary attack the served model, each with
  an address of its own, and the number of the first flagged query is noted: median and 90 %;
- 10,000 clean requests from one client and from ten, test rows shuffled, one in ten sent again;
- honest near-duplicates: frames of one input, each a little other than the last;
- what a query costs: CPU time of one row and of 32, at 64, 784 and 3072 values;
- what workers that do not share lose: the same series dealt out to 2, 4 and 8 memories at random;
- an attacker who hides: one clean query, or nine, before each of the series.

Attacks from noise that never found a wrong label are left out: they asked noise only.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import msgspec
import numpy as np
import torch

from models import attacks, data
from models.attacks.threat import L2, Linf
from models.base.allocation import keep_freed_memory
from models.nets import export, factories
from models.training.loop import train
from models.training.presets import preset
from models.training.recipe import Recipe
from models.versions.runner import session
from models.versions.schema import InputArray, InputSchema
from monitoring.counting.queries import Detector, ProbeCheck
from monitoring.counting.query_embedding import calibrate, read
from monitoring.counting.query_memory import QueryMemory, file_of

CLEAN, BUDGET, SHORTEST, EPOCHS = 10_000, 200, 25, 10
CALIBRATED = {"queries/threshold": np.array(0.01), "queries/contrast": np.array(4.0)}  # the dearest
COSTS = {"64": (1, 8, 8), "784": (1, 28, 28), "3072": (3, 32, 32)}


@dataclass
class Served:
    """A model as the service answers it, and the detector beside it."""

    rows: data.DataSet
    logits_of: attacks.LogitsOf
    eps: float
    make: Callable[[], Detector]


class SpentError(Exception):
    """The attack has asked as often as is looked at."""


def served(path: str, net_name: str, weights: Path | None, folder: Path) -> Served:
    rows = data.load(path)
    start = preset(rows.schema, len(rows.train), quick=True)
    torch.manual_seed(0)
    net = factories.build(factories.spec_for(rows.schema, len(rows.classes), net_name))
    if weights is not None:
        export.load_weights(net, weights.read_bytes())
    else:
        epochs = min(EPOCHS, start.recipe.epochs)
        recipe = msgspec.convert(msgspec.to_builtins(start.recipe) | {"epochs": epochs}, Recipe)
        net = train(net, rows.train, rows.schema, recipe).net
    graph = session(export.to_onnx(net, rows.schema).SerializeToString())

    def logits_of(z: torch.Tensor) -> torch.Tensor:
        raw = rows.schema.from_unit(z.numpy())
        return torch.from_numpy(graph.run(["logits"], {rows.schema.name: raw})[0])

    found = calibrate(rows.schema, rows.calibration.x)
    embedding, threshold = read(rows.schema, found)
    print(f"\n## {rows.name}: threshold {threshold:.4g}, contrast {embedding.contrast:g}\n")

    def make(clients: int = 2) -> Detector:
        path = file_of(Path(tempfile.mkdtemp(dir=folder)), clients)
        return Detector(rows.name, embedding, threshold, QueryMemory(clients, path))

    return Served(rows, logits_of, start.threat.eps, make)


def series(model: Served, count: int) -> dict[str, list[InputArray]]:
    """What each attack asks, in order, at most `BUDGET` queries of the served model per row."""
    rows, eps = model.rows, model.eps
    x = torch.from_numpy(rows.schema.to_unit(rows.test.x[: 4 * count]))
    y = torch.from_numpy(rows.test.y[: 4 * count].astype(np.int64))
    right = (model.logits_of(x).argmax(dim=1) == y).nonzero()[:, 0]
    runs: dict[str, Callable[..., Any]] = {
        "Square": lambda f, a, b, g: attacks.square(f, a, b, Linf(eps), queries=5000, generator=g),
        "Square L2": lambda f, a, b, g: attacks.square(
            f, a, b, L2(5 * eps), queries=5000, generator=g
        ),
        "HopSkipJump": lambda f, a, b, g: attacks.hop_skip_jump(f, a, b, generator=g),
        "HopSkipJump L-inf": lambda f, a, b, g: attacks.hop_skip_jump(
            f, a, b, norm="linf", generator=g
        ),
        "Boundary": lambda f, a, b, g: attacks.boundary(f, a, b, generator=g),
    }
    found: dict[str, list[InputArray]] = {}
    for name, run in runs.items():
        found[name] = []
        for k in right.tolist():
            asked = asks(model, name, run, x[k : k + 1], y[k : k + 1], k)
            if asked is not None:
                found[name].append(asked)
            if len(found[name]) == count:
                break
    return found


def asks(
    model: Served, name: str, run: Callable[..., Any], x: torch.Tensor, y: torch.Tensor, seed: int
) -> InputArray | None:
    """The raw queries of one attack; None where it never found a wrong label, or at once."""
    parts: list[InputArray] = []
    fooled = False

    def box(z: torch.Tensor) -> torch.Tensor:
        nonlocal fooled
        parts.append(model.rows.schema.from_unit(z.numpy()))
        if sum(map(len, parts)) > BUDGET:
            raise SpentError
        logits = model.logits_of(z)
        fooled |= bool((logits.argmax(dim=1) != y).any())
        return logits

    with suppress(SpentError):
        run(box, x, y, torch.Generator().manual_seed(seed))
    asked = np.concatenate(parts)[:BUDGET]
    if name.startswith("Square"):  # it ends with its success: a short one is no series
        return asked if len(asked) >= SHORTEST else None
    return asked if fooled else None


def first_flag(looked: Sequence[ProbeCheck]) -> float:
    """Number of the first flagged query, from 1; infinite where none was."""
    flags = np.concatenate([each.flagged for each in looked])
    return float(flags.argmax() + 1) if flags.any() else float("inf")


def told(numbers: Sequence[float]) -> str:
    if not len(numbers):
        return "-"
    missed = sum(np.isinf(n) for n in numbers)
    ordered = np.sort(numbers)
    median, ninety = ordered[len(ordered) // 2], ordered[int(0.9 * (len(ordered) - 1))]
    text = f"{median:.0f} / {ninety:.0f}" if np.isfinite(ninety) else f"{median:.0f} / -"
    return text + (f" ({missed} of {len(numbers)} missed)" if missed else f" (n {len(numbers)})")


def flagged_at(model: Served, asked: dict[str, list[InputArray]]) -> None:
    """The first flagged query as the service judges it, and when workers do not share."""
    heads = ("attack", "first flag, median / 90 %", *(f"{n} workers apart" for n in (2, 4, 8)))
    print(f"| {' | '.join([*heads, '1 clean query before each', '9 before each'])} |")
    print("|---" * 7 + "|")
    rng = np.random.default_rng(0)
    clean = model.rows.test.x
    for name, runs in asked.items():
        cells = [told([dealt_at(model, x, workers, rng) for x in runs]) for workers in (1, 2, 4, 8)]
        cells += [told([hidden_at(model, x, clean, each, rng) for x in runs]) for each in (1, 9)]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def dealt_at(model: Served, x: InputArray, workers: int, rng: np.random.Generator) -> float:
    """The first flagged query where each of the workers remembers only its own."""
    apart = [model.make() for _ in range(workers)]
    dealt = rng.integers(workers, size=len(x))
    number = first_flag(
        [apart[w].look("attacker", row[None]) for w, row in zip(dealt, x, strict=True)]
    )
    for each in apart:
        each.memory.close()
    return number


def hidden_at(
    model: Served, x: InputArray, clean: InputArray, before: int, rng: np.random.Generator
) -> float:
    """The first flagged query, counted without the clean ones that are asked before each."""
    chosen = rng.choice(len(clean), (len(x), before))
    hidden = np.concatenate([clean[chosen], x[:, None]], axis=1).reshape(-1, *x.shape[1:])
    detector = model.make()
    number = first_flag([detector.look("attacker", row[None]) for row in hidden])
    detector.memory.close()
    return float(np.ceil(number / (before + 1)))


def clean_requests(model: Served) -> None:
    """Flags and near queries in 10,000 clean requests, of which one in ten is a retry."""
    print("\n| clean requests | flagged | near |\n|---|---|---|")
    test = model.rows.test.x
    for clients in (1, 10):
        for seed in range(3):
            rng = np.random.default_rng(seed)
            order = np.concatenate(
                [rng.permutation(len(test)) for _ in range(CLEAN // len(test) + 1)]
            )
            again = np.flatnonzero(rng.random(CLEAN) < 0.1)
            order[again] = order[np.maximum(again - 1, 0)]
            detector, near, flagged = model.make(clients), 0, 0
            last = np.zeros(clients, dtype=int)
            for request, row in enumerate(order[:CLEAN]):
                client = request % clients
                looked = detector.look(str(client), test[row][None])
                near += int(looked.near[0] > last[client])
                last[client] = looked.near[0]
                flagged += int(looked.flagged[0])
            detector.memory.close()
            text = f"{CLEAN} of {clients} client{'s' * (clients > 1)}, order {seed}"
            print(f"| {text} | {flagged} | {near} |", flush=True)


def look_alikes(model: Served) -> None:
    """What becomes of honest near-duplicates: 30 frames of each of some rows, a client each."""
    print("\n| 30 frames of one input | flagged | clients flagged |\n|---|---|---|")
    schema, rng = model.rows.schema, np.random.default_rng(0)
    rows = schema.to_unit(model.rows.test.x[:50])

    def frames(change: Callable[[InputArray, int], InputArray]) -> list[InputArray]:
        made = (np.stack([change(row, k) for k in range(30)]) for row in rows)
        return [schema.from_unit(np.clip(x, 0, 1)) for x in made]

    kinds = {
        "the same bytes": frames(lambda row, k: row),
        "camera noise, sigma 2 %": frames(lambda row, k: row + rng.normal(0, 0.02, row.shape)),
        "light, -15 to +15 %": frames(lambda row, k: row * (0.85 + 0.01 * k)),
        "moved by up to 2 pixels": frames(
            lambda row, k: np.roll(row, tuple(rng.integers(-2, 3, 2)), axis=(-2, -1))
        ),
    }
    for name, clients in kinds.items():
        detector = model.make(len(clients))
        flags = [detector.look(str(k), x).flagged for k, x in enumerate(clients)]
        detector.memory.close()
        share, anyone = np.mean(flags), np.mean(np.any(flags, axis=1))
        print(f"| {name} | {share:.0%} | {anyone:.0%} |", flush=True)


def costs(folder: Path) -> None:
    """CPU time of a request in a full ring of the shared file."""
    print("\n| values | one row | 32 rows |\n|---|---|---|")
    rng = np.random.default_rng(0)
    for name, shape in COSTS.items():
        schema = InputSchema("x", shape, "float32", 0.0, 1.0, "image")
        embedding, threshold = read(schema, CALIBRATED)
        memory = QueryMemory(8, file_of(folder / name, 8))
        detector = Detector("m", embedding, threshold, memory)
        x = rng.random((4096, *shape), dtype=np.float32)
        cells = []
        for rows in (1, 32):
            detector.look("c", x[:1024])  # a full ring
            parts = [x[k : k + rows] for k in range(1024, 4096, rows)][:2000]
            best = float("inf")
            for _ in range(3):
                detector.look("c", x[:1024] + np.float32(rng.random() / 1e3))
                began = time.process_time()
                for part in parts:
                    detector.look("c", part)
                best = min(best, (time.process_time() - began) / len(parts))
                x[1024:] += np.float32(1e-4)
            cells.append(
                f"{best * 1e6:.0f} us" + (f" ({best / rows * 1e6:.1f} a row)" * (rows > 1))
            )
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
        memory.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="*", default=["digits"])
    parser.add_argument("--net", nargs="*", default=[], help="name of the net per data set")
    parser.add_argument("--load", type=Path, nargs="*", default=[], help="weights per data set")
    parser.add_argument("--attacks", type=int, default=30, help="attacks of each kind")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        for index, path in enumerate(asked.data):
            net = asked.net[index] if index < len(asked.net) else "auto"
            weights = asked.load[index] if index < len(asked.load) else None
            model = served(
                path, net, weights if weights and weights.name != "-" else None, Path(folder)
            )
            flagged_at(model, series(model, asked.attacks))
            clean_requests(model)
            look_alikes(model)
        costs(Path(folder))


if __name__ == "__main__":
    main()
