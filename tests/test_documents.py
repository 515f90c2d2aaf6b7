"""What people read first: the README's length, who runs a document's commands, and who does not."""

import re
import tomllib
from pathlib import Path

from tests.ops import ROOT

README_LINES = 150
BLOCK = re.compile(r"^```sh\n", re.MULTILINE)
# Documents whose commands are executed, and the test that does it.
EXECUTED = {
    "docs/tutorials/call-it.md": "tests/e2e/test_tutorials.py",
    "docs/tutorials/train-or-wrap.md": "tests/e2e/test_tutorials.py",
    "docs/tutorials/on-call.md": "tests/e2e/test_tutorials.py",
    "docs/tutorials/own-it.md": "tests/e2e/test_tutorials.py",
}
# Documents whose commands no test executes, and why.
NOT_EXECUTED = {
    "README.md": "it needs a package index; tests/e2e/test_wheel.py runs the demo without",
    "CONTRIBUTING.md": "they are the checks themselves, and what makes them",
    "docs/batch.md": "they need data of the reader's; tests/service/batch does what they do",
    "docs/benchmarks.md": "hours of measuring; each figure names its command",
    "docs/data.md": "they need data of the reader's",
    "docs/deployment.md": "they need a container engine, or certificates and hosts of the reader's",
    "docs/http.md": "its requests are asked by tests/service, which compare its table of calls",
    "docs/install.md": "they need a package index; tests/e2e/test_wheel.py installs without one",
    "docs/kubernetes.md": "they need a cluster; tests/kubernetes checks what is applied",
    "docs/methods.md": "hours of measuring; each figure names its command",
    "docs/operations.md": "they need addresses of the reader's; tests compare what is made",
    "docs/records.md": "tests/service/cli/kept and tests/monitoring/records do what they do",
    "docs/reliability.md": "hours of faults; each figure names its command",
    "docs/security.md": "they need keys and certificates of the reader's",
    "docs/training.md": "they need data of the reader's; the tutorial trains and wraps for real",
    "docs/walkthrough.md": "a quarter of an hour; tests/e2e/test_story.py does what it tells",
}
PARSED = "docs/runbooks/"  # its commands are given to the program's parser (tests/service/runbooks)


def documents_with_commands() -> set[str]:
    found = {ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")}
    with_blocks = {path for path in found if BLOCK.search(path.read_text(encoding="utf-8"))}
    names = {path.relative_to(ROOT).as_posix() for path in with_blocks}
    return {name for name in names if not name.startswith((PARSED, "docs/adr/"))}


def test_the_readme_is_short_and_shows_a_picture() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= README_LINES
    assert re.search(r"!\[[^\]]+\]\(docs/pictures/", text)
    assert all((ROOT / path).is_file() for path in re.findall(r"\((docs/pictures/[^)]+)\)", text))


def test_the_readme_names_ways_in_and_places_that_have_a_document_of_their_own() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for link in ("docs/http.md#the-same-over-grpc", "docs/kubernetes.md"):
        assert f"({link})" in text


def test_the_table_of_extras_has_those_of_the_package() -> None:
    """All but `dev`, which is for a checkout."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    table = text.split("| extra | brings | without it |\n")[1].split("\n\n")[0]
    told = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert sorted(told) == sorted(set(project["optional-dependencies"]) - {"dev"})


def test_every_cell_of_the_comparison_has_its_source() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    _, section = text.split("## What makes it different\n")
    section = section.split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")]
    sources = set(re.findall(r"\[(\d)\] \[", section))
    assert len(rows) > 5
    for row in rows[1:]:
        for cell in row[1:]:
            assert not cell.strip() or re.search(r"\[\d\]", cell), row
        assert set(re.findall(r"\[(\d)\]", "".join(row))) <= sources


def test_of_every_document_it_is_said_whether_a_test_executes_its_commands() -> None:
    told = set(EXECUTED) | set(NOT_EXECUTED)
    assert documents_with_commands() - told == set(), "say who executes them, or why nobody does"
    assert {name for name in told if not (ROOT / name).is_file()} == set()
    assert set(EXECUTED) & set(NOT_EXECUTED) == set()
    for name, test in EXECUTED.items():
        assert Path(name).parent.name in (ROOT / test).read_text(encoding="utf-8")


def test_methods_begin_with_a_page_for_a_customer() -> None:
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    first = re.findall(r"^## (.+)$", text, re.MULTILINE)[0]
    assert first == "What the numbers promise, and when"
    assert "$" not in text.split("\n## ")[1], "no formulas"
