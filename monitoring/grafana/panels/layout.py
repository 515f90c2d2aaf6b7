"""Where panels lie, and where they lead."""

from collections.abc import Sequence

import msgspec

from monitoring.grafana.panels.records import HEIGHT, WIDTH, Link, Panel


def with_links(panel: Panel, *names: str) -> Panel:
    """The panel with links to runbooks of alerts (`Holdfast...`), dashboards and views (`#...`)."""
    return msgspec.structs.replace(panel, links=tuple(map(_link, names)))


def _link(name: str) -> Link:
    if name.startswith("#"):
        return Link(title=f"Console: {name[1:]}", url=f"${{console}}/{name}?model=${{model}}")
    if name.startswith("Holdfast"):
        return Link(title=f"Runbook: {name}", url=f"${{console}}/runbooks/{name}")
    return Link(title=f"Dashboard: {name}", url=f"/d/holdfast-{name}?${{__url_time_range}}")


def arrange(panels: Sequence[Panel]) -> list[Panel]:
    """Place panels left to right, line below line, and number them from 1.

    A panel that does not fit in a line begins the next one.
    """
    placed: list[Panel] = []
    x = y = 0
    for number, each in enumerate(panels, start=1):
        width = each.grid_pos.w
        if x + width > WIDTH:
            x, y = 0, y + HEIGHT
        place = msgspec.structs.replace(each.grid_pos, x=x, y=y)
        placed.append(msgspec.structs.replace(each, id=number, grid_pos=place))
        x += width
    return placed
