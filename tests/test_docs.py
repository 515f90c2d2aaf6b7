"""The documentation against the code: what exists stands there, and what stands there exists."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import click
import pytest
import sqlalchemy as sa
import yaml
from flask import Flask
from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase

from models.evaluation.gates.catalogue import GATES
from models.versions.registry import Registry
from monitoring.alerts.handled_alerts import HandledAlerts
from monitoring.counting.metrics import Metrics
from monitoring.loop.jobs import JobStore
from monitoring.loop.metrics import WatchMetrics
from monitoring.loop.triggers import Policy
from monitoring.records.store import RecordStore
from monitoring.watching.watcher import Watcher, WatchPlan
from service import pages
from service.access.guard import watch_guard_of
from service.app import create_app
from service.cli import main
from service.configuration.settings import Settings, load
from service.configuration.table import table
from service.watcher import calls as watch_calls
from service.web.front import Front, RequestBounds
from tests import house

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PACKAGES = ("models", "monitoring", "service")
MOST_LINES = 400
MOST_FILES = 16  # side by side in a room
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CALL = re.compile(r"^\| `((?:GET|POST|PUT|DELETE) /[^`]*)` \|", re.MULTILINE)
# The name of a machine's own folder, below which somebody's checkout would lie.
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:work|root|home|Users)/[\w.]")
NAME = re.compile(r"[<>=!~ \[]")  # what ends the name of a requirement
INDEX_HOST = re.compile(r"index[-_]url[= ]+[\"']?https?://", re.IGNORECASE)


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def kept_files(*patterns: str) -> list[Path]:
    """Files that git tracks or would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this is no git checkout: {error}")
    return [path for line in done.stdout.splitlines() if (path := ROOT / line).is_file()]


def table_rows(name: str, columns: int) -> list[list[str]]:
    """Rows of the Markdown tables of a document that have so many columns."""
    lines = [line for line in text_of(name).splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in rows if len(row) == columns]


@pytest.mark.parametrize("name", pages.PAGES)
def test_generated_page_is_up_to_date(name: str) -> None:
    assert text_of(f"docs/{name}") == pages.PAGES[name](), "say: python -m service.pages"


def test_every_setting_stands_in_its_page() -> None:
    text = text_of("docs/settings.md")
    for setting in table():
        assert f"| `{setting.variable}` | `{setting.name}` |" in text
        assert f" {setting.help} |" in text
    assert {setting.name for setting in table()} == set(Settings.__struct_fields__)


def test_settings_that_the_documents_name_exist() -> None:
    known = {setting.variable for setting in table()}
    for path in kept_files("*.md"):
        named = set(re.findall(r"\bHOLDFAST_[A-Z_]*[A-Z]\b", path.read_text(encoding="utf-8")))
        assert named <= known, path


def commands(command: click.Command = main, path: str = "holdfast") -> Iterator[str]:
    yield path
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from commands(each, f"{path} {name}")


def test_every_command_stands_in_its_page_with_an_example() -> None:
    text = text_of("docs/cli.md")
    assert set(re.findall(r"^## (holdfast.*)$", text, re.MULTILINE)) == set(commands())
    for path, told in pages.helps():
        assert "Example:\n    " in told, path


def test_every_option_has_a_help_text() -> None:
    def options(command: click.Command) -> Iterator[click.Option]:
        yield from (p for p in command.params if isinstance(p, click.Option))
        if isinstance(command, click.Group):
            for each in command.commands.values():
                yield from options(each)

    assert [option.name for option in options(main) if not option.help] == []


def test_commands_that_the_documents_use_exist() -> None:
    groups = {"models", "jobs"}
    known = set(commands())
    for path in (*kept_files("*.md"), ROOT / "Makefile", ROOT / "Dockerfile"):
        for line in re.findall(r"\bholdfast ((?:[a-z]+ ?){1,2})", _code(path)):
            words = line.split()
            used = words[: 2 if words[0] in groups else 1]
            assert f"holdfast {' '.join(used)}" in known, (path, line)


def _code(path: Path) -> str:
    """What stands in code blocks as a command line, and the code spans that begin with one."""
    text = path.read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    spans = "\n".join(re.findall(r"`(?:\.venv/bin/)?(holdfast [^`]*)`", FENCED.sub("", text)))
    lines = [line.split("#")[0] for line in (blocks + "\n" + spans).splitlines()]
    return "\n".join(line for line in lines if re.match(r"(\w+=\S+ )*(\S*/)?holdfast ", line))


def metrics_of(owner: object, source: str) -> dict[str, tuple[str, frozenset[str], str]]:
    found = {}
    for metric in vars(owner).values():
        if isinstance(metric, MetricWrapperBase):
            name = metric._name + ("_total" if isinstance(metric, Counter) else "")
            found[name] = (metric._type, frozenset(metric._labelnames), source)
    return found


def test_every_metric_stands_in_its_table_with_type_labels_and_source() -> None:
    documented = {
        row[0].strip("`"): (row[1], frozenset(filter(None, re.split(r",\s*", row[2]))), row[3])
        for row in table_rows("docs/metrics.md", 5)
        if row[0].startswith("`holdfast_")
    }
    exported = metrics_of(Metrics(), "service") | metrics_of(WatchMetrics(), "watcher")
    assert documented == exported


def test_every_alert_stands_in_its_table_with_severity_and_action() -> None:
    loaded = yaml.safe_load(text_of("monitoring/prometheus/alert_rules.yml"))
    rules = [rule for group in loaded["groups"] for rule in group["rules"]]
    labels = {rule["alert"]: rule["labels"] for rule in rules}
    documented = {
        re.sub(r"\[(\w+)\].*", r"\1", row[0]): (row[1], row[3].strip("`"))
        for row in table_rows("docs/alerts.md", 4)
        if row[0].startswith("[")
    }
    assert documented == {
        name: (each["severity"], each.get("action", "")) for name, each in labels.items()
    }


def calls_of(app: Flask) -> set[str]:
    """Method and address of everything an application answers; alternatives are spelled out."""
    found = set()
    for rule in app.url_map.iter_rules():
        if rule.endpoint == "static":
            continue
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            choice = re.search(r"<any\(([^)]*)\):\w+>", rule.rule)
            names = choice[1].split(",") if choice else [""]
            plain = rule.rule.replace(choice[0], "{}") if choice else rule.rule
            found |= {f"{method} {plain.format(name.strip())}" for name in names}
    return found


def documented_calls(section: str) -> set[str]:
    parts = re.split(r"^## ", text_of("docs/http.md"), flags=re.MULTILINE)
    (part,) = (part for part in parts if part.startswith(section))
    return set(CALL.findall(part))


def test_every_call_of_the_service_stands_in_its_table(tmp_path: Path) -> None:
    app = create_app(load({"HOLDFAST_STATE": str(tmp_path)}))
    try:
        assert documented_calls("The service") == calls_of(app.router.flask)
    finally:
        app.service.close()


def test_every_call_of_the_watcher_stands_in_its_table(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'records.sqlite'}")
    records = RecordStore(str(engine.url))
    plan = WatchPlan((), str(tmp_path), 1.0, 1e6, Policy())
    jobs, registry = JobStore(engine), Registry(tmp_path / "registry")
    watcher = Watcher(plan, registry, records, jobs, WatchMetrics(), lambda job: None)
    calls = watch_calls.endpoints(watcher, HandledAlerts(engine), lambda: 0.0)
    front = Front(calls, watch_guard_of(load({})), lambda *_: None, RequestBounds(1000))
    assert documented_calls("The watcher") == calls_of(front.router.flask)
    records.close()
    engine.dispose()


def test_the_house_stands_in_the_architecture_as_it_is() -> None:
    assert text_of("docs/architecture.md") == house.page(), "say: python -m tests.house"


def test_every_room_has_a_sentence_and_not_too_many_files() -> None:
    for room, path in house.modules().items():
        if path.name == "__init__.py":
            assert house.sentence(path), f"{room} has no sentence"
            files = [each for each in path.parent.glob("*.py") if each.name != "__init__.py"]
            assert len(files) <= MOST_FILES, f"{room} is crowded: {len(files)} files"


def test_every_dependency_stands_in_the_architecture_with_its_reason() -> None:
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    declared = {
        f"`{NAME.split(line, maxsplit=1)[0]}`" + (f" ({group})" if group else "")
        for group, lines in groups.items()
        for line in lines
    }
    _, section = text_of("docs/architecture.md").split("## Dependencies\n", 1)
    rows = re.findall(r"^\| (`[^|]*) \| ([^|]+) \|$", section.split("\n## ")[0], re.MULTILINE)
    assert {name for name, reason in rows} == declared
    assert all(len(reason) > 3 for _, reason in rows)


def test_every_gate_stands_in_the_architecture() -> None:
    _, section = text_of("docs/architecture.md").split("## Gates\n", 1)
    listed = set(re.findall(r"`([a-z_]+)`", "".join(re.findall(r"^\|[^|]*\|", section, re.M))))
    assert {gate.name for gate in GATES} <= listed


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    plain = re.sub(r"`|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def test_every_relative_link_resolves() -> None:
    broken = []
    for path in kept_files("*.md"):
        for target in LINK.findall(FENCED.sub("", path.read_text(encoding="utf-8"))):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = unquote(target).partition("#")
            file = (path.parent / name).resolve() if name else path
            if not file.exists():
                broken.append((path.name, target))
            elif anchor:
                headings = HEADING.findall(FENCED.sub("", file.read_text(encoding="utf-8")))
                if anchor not in map(slug, headings):
                    broken.append((path.name, target))
    assert broken == []


def test_every_decision_is_numbered_listed_and_has_its_three_parts() -> None:
    decisions = sorted((DOCS / "adr").glob("*.md"))
    overview = text_of("docs/architecture.md")
    for number, path in enumerate(decisions, start=1):
        text = path.read_text(encoding="utf-8")
        assert path.name.startswith(f"{number:04d}-")
        assert text.startswith(f"# {number:04d} ")
        assert [w for w in ("Context", "Decision", "Consequence") if f"**{w}.**" not in text] == []
        assert f"(adr/{path.name})" in overview
    assert decisions


def test_no_python_file_is_longer_than_the_house_allows() -> None:
    lengths = {path: len(path.read_bytes().splitlines()) for path in kept_files("*.py")}
    assert lengths
    assert {path: n for path, n in lengths.items() if n > MOST_LINES} == {}


def test_no_file_names_a_place_of_one_machine() -> None:
    found = []
    for path in kept_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if str(ROOT) in text or MACHINE_PATH.search(text) or INDEX_HOST.search(text):
            found.append(str(path.relative_to(ROOT)))
    assert found == []


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("see /{}/me/x", True), ("(/{}/x", True), ("a/{}/x", False), ("/{}ers/x", False)],
)
def test_a_place_of_one_machine_is_recognised(text: str, is_one: bool) -> None:
    assert bool(MACHINE_PATH.search(text.format("work"))) == is_one
