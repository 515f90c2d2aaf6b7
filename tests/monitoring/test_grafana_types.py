"""The dashboards against Grafana's own types and units, of the npm packages that it publishes.

`tsc` takes each dashboard as a literal of `@grafana/schema`'s `Dashboard`, each panel's options and
custom field configuration as those of its type. Slow, as npm fetches three packages; the unit ids
that `test_grafana.py` knows are compared with `@grafana/data` here.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from monitoring.grafana import dashboard
from tests.monitoring.test_grafana import TYPES, UNITS

GRAFANA = "11.6.1"
PACKAGES = (f"@grafana/schema@{GRAFANA}", f"@grafana/data@{GRAFANA}", "typescript@5.9.3")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed"),
]
# An enum of strings takes its own members only; in JSON they are plain strings.
PLAIN = """
type Plain<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T :
  T extends (infer E)[] ? Plain<E>[] : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
"""
RAW = "./schema/dist/esm/raw"
COMPOSABLE = {
    "timeseries": "TimeSeries", "stat": "Stat", "bargauge": "BarGauge", "gauge": "Gauge",
    "heatmap": "Heatmap", "state-timeline": "StateTimeline", "table": "Table",
}  # fmt: skip
OF_PROMETHEUS = {"expr", "step", "titleFormat"}
CUSTOM = {"timeseries", "heatmap", "state-timeline", "table"}  # those with settings of their own


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages, unpacked beside each other; their own dependencies are not needed."""
    folder = tmp_path_factory.mktemp("npm")
    for package in PACKAGES:
        packed = _run(folder, "npm", "pack", "--silent", package)
        name = package.rpartition("@")[0].rpartition("/")[2]
        shutil.unpack_archive(folder / packed.split()[-1], folder / "unpacked")
        (folder / "unpacked" / "package").rename(folder / name)
    return folder


def _run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def render_check(boards: list[dict[str, Any]]) -> str:
    """TypeScript that compiles if every dashboard, option and setting has Grafana's type."""
    home = f"{RAW}/dashboard/x/dashboard_types.gen"
    lines = [f'import type {{ Dashboard, DashboardLink }} from "{home}";', PLAIN]
    for kind, name in COMPOSABLE.items():
        home = f"{RAW}/composable/{kind.replace('-', '')}/panelcfg/x/{name}PanelCfg_types.gen"
        lines.append(f'import type * as {name} from "{home}";')
    for number, board in enumerate(boards):
        lines.append(f"export const board{number}: Plain<Dashboard> = {json.dumps(bare(board))};")
        links = json.dumps([link for panel in board["panels"] for link in panel["links"]])
        lines.append(f"export const links{number}: Plain<Partial<DashboardLink>>[] = {links};")
        for panel in board["panels"]:
            name = f"{COMPOSABLE[panel['type']]}"
            place = f"{number}_{panel['id']}"
            options = json.dumps(panel["options"])
            lines.append(
                f"export const options{place}: Plain<Partial<{name}.Options>> = {options};"
            )
            custom = panel["fieldConfig"]["defaults"].get("custom", {})
            if panel["type"] in CUSTOM:
                said = f"Plain<Partial<{name}.FieldConfig>> = {json.dumps(custom)}"
                lines.append(f"export const custom{place}: {said};")
            else:
                assert custom == {}, panel["title"]
    return "\n".join(lines)


def bare(board: dict[str, Any]) -> dict[str, Any]:
    """Without what the types leave to others.

    A query of an annotation is its data source's; and a panel's link is typed as a dashboard's,
    with fields that Grafana writes for dashboards only.
    """
    notes = board["annotations"]["list"]
    kept = [{k: v for k, v in note.items() if k not in OF_PROMETHEUS} for note in notes]
    panels = [{k: v for k, v in panel.items() if k != "links"} for panel in board["panels"]]
    return board | {"annotations": {"list": kept}, "panels": panels}


def compile_check(packages: Path, boards: list[dict[str, Any]]) -> str:
    """What the compiler says; empty where all types fit."""
    (packages / "check.ts").write_text(render_check(boards), encoding="utf-8")
    done = subprocess.run(
        ["node", "typescript/bin/tsc", "--noEmit", "--strict", "--skipLibCheck", "--target",
         "es2022", "--module", "esnext", "--moduleResolution", "bundler", "check.ts"],
        cwd=packages, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    return done.stdout + done.stderr


def boards() -> list[dict[str, Any]]:
    return [json.loads(dashboard.render(board)) for board in dashboard.BOARDS]


def test_every_dashboard_has_the_types_of_grafana(packages: Path) -> None:
    assert compile_check(packages, boards()) == ""


def test_a_wrong_option_and_a_wrong_field_are_found(packages: Path) -> None:
    """The compiler does look: at values, at names, and at panels' own options."""
    wrong = boards()
    wrong[0]["graphTooltip"] = 7
    wrong[1]["panels"][0]["gridPos"]["x"] = "left"
    wrong[2]["panels"][0]["options"]["no such option"] = 1
    said = compile_check(packages, wrong)
    assert len(re.findall(r"error TS", said)) >= 3, said


def test_every_unit_and_panel_type_is_grafanas(packages: Path) -> None:
    text = (packages / "data/dist/esm/valueFormats/categories.mjs").read_text(encoding="utf-8")
    ids = set(re.findall(r'\bid: "([^"]+)"', text))
    assert len(ids) > 200
    assert ids >= UNITS
    assert COMPOSABLE.keys() == TYPES
