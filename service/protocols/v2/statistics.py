"""The statistics extension of V2: counts and durations of the requests to a model so far.

The numbers are sums over all workers, read from the same counters as `/metrics`. Members for things
that this service does not have are 0 (a queue in front of the model, a cache) or empty
(`batch_stats`; see the metric `holdfast_batch_rows`). Source: Triton's `extension_statistics`.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import msgspec
from prometheus_client import CollectorRegistry, Metric

from models.versions.schema import Manifest
from service.fleet.served_models import Champions
from service.protocols.v2.metadata import version_of
from service.web.call import Call, Endpoint
from service.web.reply import Reply, json_reply

STAGE = "holdfast_stage_duration_seconds"
FAILURE = "holdfast_inference_failure_duration_seconds"
LAST = "holdfast_last_inference_timestamp_seconds"
CELLS = "holdfast_cell_observations"
REPEATS = "holdfast_repeats"
FAMILIES = (STAGE, FAILURE, LAST, CELLS, REPEATS)
Totals = Mapping[tuple[str, str, str, str], float]  # name, model, version, stage or channel


def endpoints(champions: Champions, sums: Callable[[], CollectorRegistry]) -> tuple[Endpoint, ...]:
    """Return the endpoints that end in `/stats`; `sums` returns the metrics of all workers."""

    def of_all(call: Call) -> Reply:
        served = champions.served.values()
        return json_reply(statistics(sums(), [each.manifest for each in served]))

    def of_one(call: Call, model: str, version: str | None = None) -> Reply:
        served = version_of(champions.find(model), version)
        return json_reply(statistics(sums(), [served.manifest]))

    return (
        Endpoint("GET", "/v2/models/stats", of_all),
        Endpoint("GET", "/v2/models/<model>/stats", of_one),
        Endpoint("GET", "/v2/models/<model>/versions/<version>/stats", of_one),
    )


class Duration(msgspec.Struct, frozen=True):
    """A count and a total time in nanoseconds."""

    count: int
    ns: int


class InferenceStatistics(msgspec.Struct, frozen=True):
    """The parts of inference."""

    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration
    cache_hit: Duration
    cache_miss: Duration


class VersionStatistics(msgspec.Struct, frozen=True):
    """The requests to one version; `last_inference` in milliseconds since 1970."""

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: InferenceStatistics
    batch_stats: tuple[Duration, ...] = ()


class Statistics(msgspec.Struct, frozen=True):
    """The answer: an entry for each version."""

    model_stats: tuple[VersionStatistics, ...]


def statistics(registry: CollectorRegistry, manifests: Iterable[Manifest]) -> Statistics:
    """Return the statistics of versions, from the metrics of `shared_counters.sum_workers`.

    `inference_count` counts rows, `execution_count` and `success` count requests; `compute_input`,
    `compute_infer` and `compute_output` are decoding, the run of the graph, and encoding. `fail`
    counts every refused request to the version, also one with a wrong body.
    """
    totals = _totals(registry.collect())
    return Statistics(tuple(_version(totals, manifest) for manifest in manifests))


def _totals(families: Iterable[Metric]) -> Totals:
    totals: dict[tuple[str, str, str, str], float] = defaultdict(float)
    for family in families:
        if family.name in FAMILIES:
            for sample in family.samples:
                labels = sample.labels
                part = labels.get("stage") or labels.get("channel") or ""
                if "le" not in labels:
                    totals[sample.name, labels["model"], labels["version"], part] += sample.value
    return totals


def _version(totals: Totals, manifest: Manifest) -> VersionStatistics:
    """Every row falls into one cell of each channel, or is a repeat: that counts the rows."""
    model, version = manifest.model, str(manifest.version)

    def total(name: str, part: str = "") -> float:
        return totals.get((name, model, version, part), 0.0)

    def duration(name: str, *stages: str) -> Duration:
        seconds = sum(total(f"{name}_sum", stage) for stage in stages)
        return Duration(int(total(f"{name}_count", stages[0])), round(1e9 * seconds))

    runs = duration(STAGE, "run")
    return VersionStatistics(
        name=model,
        version=version,
        last_inference=round(1e3 * total(LAST)),
        inference_count=int(
            total(f"{CELLS}_total", manifest.channels[0].name) + total(f"{REPEATS}_total")
        ),
        execution_count=runs.count,
        inference_stats=InferenceStatistics(
            success=duration(STAGE, "encode", "decode", "run", "count"),
            fail=duration(FAILURE, ""),
            queue=Duration(runs.count, 0),
            compute_input=duration(STAGE, "decode"),
            compute_infer=runs,
            compute_output=duration(STAGE, "encode"),
            cache_hit=Duration(0, 0),
            cache_miss=Duration(0, 0),
        ),
    )
