"""What `benchmarks.serving` found beside what it should find: the ratios, with verdicts."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

OURS, FLASK, FASTAPI = "Holdfast", "Flask + gunicorn", "FastAPI + orjson"
TRITON, MLSERVER = "Triton, Python backend", "MLServer, in-process"
PEERS = (FLASK, FASTAPI, TRITON, MLSERVER)
CASES = {
    "json": "one 28x28 image, JSON",
    "batch": "32 images, JSON",
    "binary": "32 images, binary",
}
# The most that CPU per request may be, as a multiple of the peer's.
RATIOS: Mapping[str, Mapping[str, float]] = {
    "json": {FLASK: 0.75, FASTAPI: 1.7, TRITON: 1.5, MLSERVER: 0.8},
    "batch": {FLASK: 0.55, FASTAPI: 1.5, TRITON: 1.1, MLSERVER: 1.2},
    "binary": {FLASK: 1.6, TRITON: 2.1},
}
# Why a peer has no figure, where that is known.
NO_ANSWER = {
    ("binary", MLSERVER): "its REST server reads no binary tensors (SeldonIO/MLServer issue 324)",
    ("binary", "MLServer, two workers"): "as in-process",
}


class Bound(NamedTuple):
    """A figure and the most that it may be."""

    what: str
    found: float | None
    most: float

    @property
    def verdict(self) -> str:
        """Whether it is met; a figure that is missing is not."""
        if self.found is None:
            return "not measured"
        return "met" if self.found <= self.most else "missed"


def ratio(results: Mapping[str, Any], case: str, peer: str) -> float | None:
    """The median of CPU per request over the peer's, or None where there is none."""
    row = results.get(case, {}).get(peer)
    return None if row is None else float(row["ratio"]["median"])


def bounds(results: Mapping[str, Any]) -> Iterator[Bound]:
    """All figures with a target, besides the ratios to peers."""
    run = results.get("run", {})
    for rows, most in (("1", 1.9), ("32", 1.4)):
        found = run[rows]["scored_us"] / run[rows]["plain_us"] if rows in run else None
        yield Bound(f"scored over plain run, {rows} rows", found, most)
    net = results.get("resnet", {})
    found = net["ratio"]["median"] if net else None
    yield Bound("ResNet-18 over onnxruntime alone", found, 1.1)
    yield Bound("ResNet-18, p99 over p50", net.get("p99_to_p50"), 2.0)
    size = results.get("memory", {})
    largest = max(size["rss_mib"][-1]) if size else None
    yield Bound("memory of a worker after the traffic, MiB", largest, 130)
    yield Bound("ready, s", size["ready_seconds"]["median"] if size else None, 1.0)


def print_targets(results: Mapping[str, Any]) -> None:
    """Print the table of ratios to peers, and the other bounds."""
    print("\nHoldfast over peer, server CPU per request (at most)\n")
    print(f"| | {' | '.join(PEERS)} |\n|---|{'---|' * len(PEERS)}")
    for case, title in CASES.items():
        cells = [_cell(results, case, peer) for peer in PEERS]
        print(f"| {title} | {' | '.join(cells)} |")
    print("\n| measure | found | at most | |\n|---|---|---|---|")
    for bound in bounds(results):
        found = "" if bound.found is None else f"{bound.found:.3g}"
        print(f"| {bound.what} | {found} | {bound.most:g} | {bound.verdict} |", flush=True)


def _cell(results: Mapping[str, Any], case: str, peer: str) -> str:
    found, most = ratio(results, case, peer), RATIOS[case].get(peer)
    if most is None:
        reason = NO_ANSWER.get((case, peer), "")
        return reason if found is None else f"{found:.2f}"
    bound = Bound("", found, most)
    return f"{'' if found is None else f'{found:.2f} '}({most:g}) {bound.verdict}"
