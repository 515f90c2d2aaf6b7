"""What grows with classes, columns, versions, models and replicas; a billion requests.

    python -m benchmarks.scale --part classes
    python -m benchmarks.scale --part series
    python -m benchmarks.scale --part replicas
    python -m benchmarks.scale --part evidence

- `classes`: memory, CPU time of a look and bytes of state of the class channel's evidence.
- `series`: series, bytes and CPU time of a page by models, versions, classes and columns, and the
  CPU time in which a watcher reads it.
- `replicas`: CPU time of a look over the pages of 1 to 1,000 replicas (read one after the other).
- `evidence`: an urn that holds a billion requests, put in as sums; then a stream of single looks,
  without drift and with a shift of stated size, against the same urn with a million and with none.

Times are CPU seconds of this process, of one run: trust the ratios.
"""

import argparse
import time
import tracemalloc
from collections.abc import Callable, Iterable

import msgspec
import numpy as np
import onnx
from prometheus_client import disable_created_metrics

from models.versions.schema import Calibration, ChannelInfo, InputSchema
from monitoring.counting.class_names import fold_classes
from monitoring.counting.counters import Page, increments, read_page
from monitoring.counting.metrics import Metrics, ModelMetrics
from monitoring.counting.shared_counters import exposition
from monitoring.evidence.bets import ChannelReference
from monitoring.evidence.channel_evidence import ChannelEvidence
from monitoring.evidence.channels import StreamEvidence
from monitoring.scoring.channels.columns import MAX_COLUMNS
from monitoring.scoring.instrument import Instrumented

REFERENCE = 5000
LOOK = 250  # requests of one piece


def cpu(call: Callable[[], object], times: int = 1) -> float:
    """CPU seconds of a call."""
    began = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - began) / times


def class_reference(classes: int) -> ChannelReference:
    """The class channel of 5,000 reference rows, as a version of so many classes has it."""
    rng = np.random.default_rng(0)
    counts = rng.multinomial(REFERENCE, rng.dirichlet(np.ones(classes)))
    folded = fold_classes([f"class {k}" for k in range(classes)], counts)
    alpha = np.bincount(folded.place, weights=counts) + 1 / len(folded.labels)
    return ChannelReference("class", "class", alpha, folded.labels)


def per_class() -> None:
    """Evidence of the class channel; `unfolded` is what the same classes cost with a cell each."""
    print("| classes | cells | bets | MB at most | ms a piece of 250 | MB of state |")
    print("|---|---|---|---|---|---|")
    for classes in (10, 100, 1000, 10_000):
        reference = class_reference(classes)
        describe(f"{classes}", reference)
    even = ChannelReference("class", "class", np.full(10_000, 0.5), tuple(map(str, range(10_000))))
    describe("10000, unfolded", even)


def describe(name: str, reference: ChannelReference) -> None:
    """One line of `per_class`."""
    rng, shares = np.random.default_rng(1), reference.alpha / reference.alpha.sum()
    tracemalloc.start()
    evidence = ChannelEvidence(reference, eta="auto")
    pieces = rng.multinomial(LOOK, shares, size=120).astype(np.int64)

    def look(piece: np.ndarray) -> None:
        evidence.update(piece)
        evidence.observe(piece)

    for piece in pieces[:3]:
        look(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    seconds = cpu(lambda: [look(piece) for piece in pieces[3:]]) / len(pieces[3:])
    state = len(msgspec.json.encode(evidence.snapshot()))
    print(
        f"| {name} | {len(shares)} | {len(evidence.bets)} | {peak / 1e6:.1f} | "
        f"{1e3 * seconds:.2f} | {state / 1e6:.2f} |",
        flush=True,
    )


def channels_of(classes: int, columns: int, groups: int, scores: int = 6) -> list[ChannelInfo]:
    """Channels as `docs/metrics.md` says that a version has them: cells by class where it can."""
    own, wide = min(groups, 32), min(groups, 8)
    cells = 72 if own < 2 else 25 * own
    made = [
        ChannelInfo(f"score_{k}", "score", tuple(f"{c:02}" for c in range(cells)))
        for k in range(scores)
    ]
    each = 72 if wide < 2 else 18 * (wide + 1)
    made += [
        ChannelInfo(f"column:{k}", "score", tuple(f"{c:02}" for c in range(each)))
        for k in range(min(columns, MAX_COLUMNS))
    ]
    folded = fold_classes([f"class {k}" for k in range(classes)], np.zeros(classes))
    return [*made, ChannelInfo("class", "class", folded.labels)]


def load(
    metrics: Metrics, model: str, version: int, channels: list[ChannelInfo], classes: int
) -> None:
    """Make the series of a version, as loading it does."""
    schema = InputSchema("input", (1, 8, 8), "float32", 0.0, 1.0, "image")
    facts = Calibration(REFERENCE, 0.01, 0.5, 0.5, "", 1.0, 0.03, 1)
    made = Instrumented(onnx.ModelProto(), tuple(channels), {}, facts)
    manifest = made.manifest(model, schema, tuple(f"class {k}" for k in range(classes)))
    manifest = msgspec.structs.replace(manifest, version=version)
    ModelMetrics(metrics, manifest).note_load()


def page_of(
    models: int, versions: int, classes: int, columns: int, groups: int = 10
) -> Callable[[], bytes]:
    """A service's `/metrics` with so many models, each of which has had so many versions."""
    disable_created_metrics()  # as of several workers
    metrics = Metrics()
    for model in range(models):
        for version in range(1, versions + 1):
            load(metrics, f"m{model}", version, channels_of(classes, columns, groups), classes)
    return exposition(metrics.registry, None)


def series() -> None:
    """What a page has, by what users have."""
    print("| models | versions | classes | columns | series | kB | ms to render | ms to read |")
    print("|---|---|---|---|---|---|---|---|")
    cases = [
        (1, 1, 10, 0), (1, 1, 100, 0), (1, 1, 1000, 0), (1, 1, 10_000, 0),
        (1, 1, 2, 10), (1, 1, 2, 100), (1, 1, 2, 1000),
        (1, 8, 10, 0), (1, 30, 10, 0), (10, 1, 10, 0),
    ]  # fmt: skip
    for models, versions, classes, columns in cases:
        render = page_of(models, versions, classes, columns, min(classes, 10))
        text = render().decode()
        lines = sum(not line.startswith("#") for line in text.splitlines())
        print(
            f"| {models} | {versions} | {classes} | {columns} | {lines} | {len(text) / 1e3:.0f} | "
            f"{1e3 * cpu(render):.0f} | {1e3 * cpu(lambda text=text: read_page(text)):.0f} |",
            flush=True,
        )


def replicas() -> None:
    """A look over the pages of many replicas, each of which has counted since the last one."""
    page = read_page(page_of(1, 1, 10, 0)().decode())
    text = page_of(1, 1, 10, 0)().decode()
    reading = cpu(lambda: read_page(text), 5)
    print(f"one page: {1e3 * reading:.1f} ms to read, {len(page.cells)} cells")
    print("| replicas | s of CPU a look: reading, adding up | all |\n|---|---|---|")
    for count in (1, 10, 100, 1000):
        adding = cpu(lambda count=count: add_up([page] * count))
        print(f"| {count} | {count * reading:.2f}, {adding:.2f} | {count * reading + adding:.2f} |")


def add_up(pages: Iterable[Page]) -> dict[str, float]:
    """The gains of every page, added up by cell: what a look does with them."""
    sums: dict[str, float] = {}
    for page in pages:
        totals = {f"{channel}/{cell}": v + 1 for (_, _, channel, cell), v in page.cells.items()}
        for key, gain in increments(dict.fromkeys(totals, 0.0), totals).items():
            sums[key] = sums.get(key, 0.0) + gain
    return sums


def billion(requests: int, after: int, seeds: int) -> None:
    """False alarms and delays against urns that hold none, a million and a billion requests."""
    cells = 25
    alpha = np.diff(np.round(np.linspace(0, 1, cells + 1) * (REFERENCE + 1)))
    labels = tuple(f"{cell:02}" for cell in range(cells))
    shares = alpha / alpha.sum()
    moved = shares * (1 - 0.04 / (1 - shares[0]))
    moved[0] = shares[0] + 0.04  # the highest 4 % of scores hold 8 %
    for held in (0, 1_000_000, requests):
        alarms, delays, highest = 0, list[int](), 0.0
        for seed in range(seeds):
            stream = StreamEvidence(
                [ChannelReference("energy", "score", alpha, labels)], c=1e6, seed=seed, eta="auto"
            )
            rng = np.random.default_rng(seed)
            (channel,) = stream._channels.values()
            counts = rng.multinomial(held, shares)
            channel.absorb(counts)
            assert channel.alpha.sum() == alpha.sum() + held, "an increment was lost"
            for _ in range(after // LOOK):
                stream.update({"energy": rng.multinomial(LOOK, shares)})
                highest = max(highest, stream.log10_evidence()["energy"])
                if stream.alarm is not None:
                    alarms += 1
                    break
            else:
                began = stream.requests
                while stream.alarm is None and stream.requests - began < 100_000:
                    stream.update({"energy": rng.multinomial(50, moved)})
                delays.append(stream.requests - began)
        print(
            f"urn of {held + REFERENCE:,}: {alarms} of {seeds} streams of {after:,} requests "
            f"without drift alarmed (c = 1e6; highest evidence 10^{highest:.1f}); the highest 4 % "
            f"doubled: found after {sorted(delays)} requests",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("classes", "series", "replicas", "evidence"))
    parser.add_argument("--requests", type=int, default=1_000_000_000, help="that the urn holds")
    parser.add_argument("--after", type=int, default=100_000, help="requests of each stream")
    parser.add_argument("--seeds", type=int, default=5)
    chosen = parser.parse_args()
    parts: dict[str, Callable[[], None]] = {
        "classes": per_class,
        "series": series,
        "replicas": replicas,
        "evidence": lambda: billion(chosen.requests, chosen.after, chosen.seeds),
    }
    for name, run in parts.items():
        if chosen.part in (None, name):
            print(f"\n{name}")
            run()


if __name__ == "__main__":
    main()
