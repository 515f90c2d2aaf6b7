"""The runbooks: every query in them can be asked, and every command in them is one of ours."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from monitoring.prometheus.alerting.catalogue import ALERTS
from service.cli import main
from tests.monitoring.test_prometheus_rules import documented_metrics, run, unknown_metrics
from tests.ops import ROOT

FOLDER = ROOT / "docs" / "runbooks"
PAGES = sorted(FOLDER.glob("*.md"))


def blocks(path: Path, language: str) -> list[str]:
    """The blocks of a page in a language."""
    text = path.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(path: Path) -> list[str]:
    """The commands of a page, one by one."""
    return [line for block in blocks(path, "sh") for line in block.splitlines() if line.strip()]


def test_prometheus_understands_every_query_and_knows_its_metrics(tmp_path: Path) -> None:
    queries = [query for page in PAGES for query in blocks(page, "promql")]
    assert len(queries) > 30
    assert unknown_metrics(queries, documented_metrics()) == set()
    rules = [{"record": f"query:{k}", "expr": query} for k, query in enumerate(queries)]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    run("promtool", "check", "rules", str(path))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_is_one_that_the_program_takes(page: Path) -> None:
    for line in commands(page):
        program, *words = shlex.split(line)
        if program == "curl":
            assert words[-1].startswith("http://127.0.0.1:"), line
        elif program == "python":
            assert words[:2] == ["-m", "monitoring.prometheus"], line
        else:
            assert program == "holdfast", line
            done = CliRunner().invoke(main, [*words, "--help"])  # refuses what it does not know
            assert done.exit_code == 0, f"{line}: {done.output}"
            assert "--help" in done.output
            assert done.output.startswith(f"Usage: main {' '.join(_names(words))}"), line


def _names(words: list[str]) -> list[str]:
    """The names of group and command."""
    return words[:1] if words[0] in ("doctor", "evaluate") else words[:2]


def test_pages_link_to_pages_that_are_there() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (FOLDER / target).exists(), f"{page.name}: {target}"


def test_the_generator_writes_where_it_is_told(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "monitoring.prometheus", "--runbooks", "https://x.example/r",
         "--out", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    written = (tmp_path / "alert_rules.yml").read_text(encoding="utf-8")
    assert written.count("https://x.example/r/") == len(ALERTS)
    assert len(done.stdout.splitlines()) == 2
