"""Counters by way of Prometheus: the same evidence as from the services, and nothing hidden."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.versions.registry import Registry
from monitoring.counting.counters import Page, read_page
from monitoring.evidence.stream import Stream
from monitoring.loop.metrics import WatchMetrics
from monitoring.watching.services import Services
from monitoring.watching.sources import prometheus, scraped
from tests import ops
from tests.monitoring.watching.stage import CountingService, listening, registry_of_three
from tests.waiting import wait_until

LABELS = re.compile(r'(\w+)="([^"]*)"')


class StandIn:
    """What Prometheus answers to the queries of the source, for pages that a test scrapes."""

    def __init__(self, registry: Registry, names: int = 3) -> None:
        self.replicas = {f"r{k}:80": CountingService(registry) for k in range(names)}
        self.away: set[str] = set()  # cannot be scraped
        self.removed: set[str] = set()  # no targets any more
        self.pages: dict[str, str] = {}  # of the last good scrapes
        self.times: dict[str, float] = {}
        self.now = 0.0

    def scrape(self) -> None:
        self.now += 1.0
        for name, replica in self.replicas.items():
            if name not in self.away | self.removed:
                self.pages[name], self.times[name] = replica.text(), self.now

    def live(self) -> set[str]:
        return self.pages.keys() - self.away - self.removed

    def ask(self, query: str) -> list[Any]:
        there = self.pages.keys() - self.removed
        if query == prometheus.UP:
            return [_row({"instance": n}, "0" if n in self.away else "1") for n in there]
        if query == prometheus.AGE:
            return [_row({"instance": n}, f"{self.now - self.times[n]}") for n in there]
        if query == prometheus.SERIES:
            return [row for n in self.live() for row in self._series(n)]
        (name,) = (n for n in self.pages if f'instance="{n}"' in query)
        return [
            {"metric": row["metric"], "values": [[self.times[name], row["value"][1]]]}
            for row in self._series(name)
        ]

    def _series(self, name: str) -> Iterator[dict[str, Any]]:
        for line in self.pages[name].splitlines():
            if not line.startswith("#"):
                series, value = line.rsplit(" ", 1)
                metric = {"__name__": series.split("{")[0], "instance": name, "job": "x"}
                yield _row(metric | dict(LABELS.findall(series)), value)


def _row(metric: dict[str, str], value: str) -> dict[str, Any]:
    return {"metric": metric, "value": [0.0, value]}


class Direct(Services):
    """The same services, read themselves: those that answer give their page."""

    def __init__(self, stand_in: StandIn, metrics: WatchMetrics) -> None:
        super().__init__([f"http://{name}" for name in stand_in.replicas], metrics)
        self.stand_in = stand_in

    def look(self, now: float) -> dict[str, Page]:
        self._begin()
        pages = {}
        for service in self._services:
            name = service.url.removeprefix("http://")
            if name in self.stand_in.away | self.stand_in.removed:
                self._note(service, "refused", "", now)
                continue
            pages[service.name] = read_page(self.stand_in.replicas[name].text())
            self._take(service, pages[service.name], now)
        return pages


class Weigher:
    """A stream that weighs what a source reads."""

    def __init__(self, source: Services, registry: Registry, folder: Path) -> None:
        self.source = source
        self.stream = Stream.open(registry.open("alpha"), folder, c=1e6)

    def look(self, now: float) -> None:
        cells = {name: page.cells for name, page in self.source.look(now).items()}
        self.stream.add(cells, now, self.source.distrusted, self.source.restarted)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return registry_of_three(tmp_path_factory.mktemp("three"))


STEPS = st.one_of(
    st.tuples(st.just("serve"), st.integers(0, 2), st.integers(1, 40)),
    st.tuples(
        st.sampled_from(["restart", "fall", "rise", "remove"]), st.integers(0, 2), st.just(0)
    ),
    st.tuples(st.sampled_from(["scrape", "late look"]), st.just(0), st.just(0)),
)


def sources(
    registry: Registry, folder: Path, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> tuple[Weigher, Weigher]:
    by_way = scraped.ScrapedServices("http://prometheus", WatchMetrics())
    monkeypatch.setattr(by_way._source, "_ask", stand_in.ask)
    direct = Direct(stand_in, WatchMetrics())
    return Weigher(direct, registry, folder / "a"), Weigher(by_way, registry, folder / "b")


@given(steps=st.lists(STEPS, min_size=5, max_size=30))
@settings(max_examples=12, deadline=None)
def test_evidence_from_prometheus_equals_evidence_from_the_services(
    steps: list[tuple[str, int, int]], registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Both look after each scrape; looks between two scrapes are of Prometheus only."""
    folder, stand_in = tmp_path_factory.mktemp("both"), StandIn(registry)
    with pytest.MonkeyPatch.context() as patch:
        direct, by_way = sources(registry, folder, stand_in, patch)
        alpha, names = registry.open("alpha"), list(stand_in.replicas)
        for step, which, rows in [("scrape", 0, 0), *steps, ("scrape", 0, 0)]:
            name = names[which]
            up = name not in stand_in.away | stand_in.removed
            if step == "serve" and up:
                stand_in.replicas[name].serve(alpha, rows)
            elif step == "restart":
                stand_in.replicas[name].begin_again()
            elif step == "fall":
                stand_in.away.add(name)
            elif step == "remove":
                stand_in.removed.add(name)
            elif step == "rise":
                stand_in.away.discard(name)
                stand_in.removed.discard(name)
            elif step == "late look":
                by_way.look(stand_in.now)
            elif step == "scrape":
                stand_in.scrape()
                direct.look(stand_in.now)
                by_way.look(stand_in.now)
                a, b = direct.stream.evidence, by_way.stream.evidence
                assert a.requests == b.requests
                assert a.log10_evidence() == pytest.approx(b.log10_evidence())


def test_what_a_replica_counted_before_it_went_is_weighed_and_then_it_is_not_known(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in, alpha = StandIn(registry, 2), registry.open("alpha")
    _, by_way = sources(registry, tmp_path, stand_in, monkeypatch)
    source = by_way.source
    stand_in.scrape()
    by_way.look(1.0)
    for replica in stand_in.replicas.values():
        replica.serve(alpha, 50)
    stand_in.scrape()  # nobody looks before both are away
    stand_in.away.add("r0:80")
    stand_in.removed.add("r1:80")
    by_way.look(2.0)
    assert by_way.stream.evidence.requests == 100
    assert {s.service: s.status for s in source.states()[1:]} == {
        "r0:80": "unscraped",
        "r1:80": "gone",
    }
    assert source.look(3.0) == {}, "not known: no page, which is not a page without traffic"
    for k in range(scraped.GONE_LOOKS + 1):
        source.look(4.0 + k)
    assert [s.service for s in source.states()[1:]] == ["r0:80"]


def test_no_answer_no_target_and_a_late_scrape_are_named(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = StandIn(registry, 1)
    _, by_way = sources(registry, tmp_path, stand_in, monkeypatch)
    source = by_way.source
    assert source.look(1.0) == {}
    assert [(s.status, s.detail) for s in source.states()] == [
        ("unscraped", "it has no target of the job holdfast-service")
    ]
    stand_in.scrape()
    assert list(source.look(2.0)) == ["r0:80"]
    stand_in.now += prometheus.LATE_SECONDS + 2.0
    assert source.look(3.0) == {}
    assert [s.status for s in source.states()] == ["ok", "late"]
    monkeypatch.undo()  # now it asks an address that there is none of
    source._source.url = f"http://127.0.0.1:{ops.free_port()}"
    assert source.look(4.0) == {}
    assert [s.status for s in source.states()] == ["refused", "unscraped"]


def test_replicas_of_an_older_program_that_do_not_say_when_they_loaded_count_as_the_others(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in, alpha = StandIn(registry, 2), registry.open("alpha")
    older = stand_in.replicas["r0:80"]

    def text() -> str:
        lines = CountingService.text(older).splitlines()
        return "\n".join(line for line in lines if "model_loaded_timestamp" not in line)

    monkeypatch.setattr(older, "text", text)
    for weigher in sources(registry, tmp_path, stand_in, monkeypatch):
        stand_in.scrape()
        weigher.look(stand_in.now)
        for rows in (60, 10):
            for replica in stand_in.replicas.values():
                replica.serve(alpha, rows)
            stand_in.scrape()
            weigher.look(stand_in.now)
            older.begin_again()
            stand_in.scrape()
            weigher.look(stand_in.now)
        assert weigher.stream.evidence.requests == 140
        assert {s.status for s in weigher.source.states()} == {"ok"}


@contextmanager
def scraping(folder: Path, urls: list[str]) -> Iterator[str]:
    """A real Prometheus that scrapes the services every second."""
    if missing := ops.missing_programs("prometheus"):
        pytest.skip(f"not installed: {', '.join(missing)}")
    targets = ", ".join(f'"{url.removeprefix("http://")}"' for url in urls)
    folder.mkdir()
    config = folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n"
        f"  - job_name: {prometheus.JOB}\n    static_configs: [{{targets: [{targets}]}}]\n"
    )
    with ops.start_prometheus(config) as url:
        yield url


def test_a_real_prometheus_gives_the_pages_of_two_services_one_of_which_goes_and_comes_back(
    registry: Registry, tmp_path: Path
) -> None:
    alpha, services = registry.open("alpha"), [CountingService(registry) for _ in range(2)]
    with ExitStack() as stack:
        urls = [stack.enter_context(listening(each)) for each in services]
        url = stack.enter_context(scraping(tmp_path / "prometheus", urls))
        source = scraped.services_of([], url, WatchMetrics())
        weigher, now = Weigher(source, registry, tmp_path), 0.0
        one, _ = (each.removeprefix("http://") for each in urls)

        def weighed(requests: int) -> bool:
            nonlocal now
            now += 1.0
            weigher.look(now)
            return weigher.stream.evidence.requests == requests

        def states() -> dict[str, str]:
            weighed(0)
            return {s.service: s.status for s in source.states()[1:]}

        wait_until(
            lambda: list(states().values()) == ["ok", "ok"], what="both are scraped", every=0.3
        )
        pages = source.look(now)
        assert pages[one] == read_page(services[0].text()), "as the service itself gives it"
        for each in services:
            each.serve(alpha, 100)
        wait_until(lambda: weighed(200), what="both are weighed", every=0.3)
        services[0].says("out of order", 500)
        wait_until(lambda: states()[one] == "unscraped", what="one cannot be scraped", every=0.3)
        assert one not in source.look(now)
        services[1].serve(alpha, 100)
        wait_until(lambda: weighed(300), what="the other is weighed on", every=0.3)
        services[0].begin_again()  # it counts from 0 again
        services[0].serve(alpha, 70)
        services[0].answer = services[0].exposition
        wait_until(lambda: weighed(370), what="what it counted since is weighed", every=0.3)
