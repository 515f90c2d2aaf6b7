"""Writes the rules of Prometheus: `alert_rules.yml` and `slo_rules.yml`.

    python -m monitoring.prometheus
    python -m monitoring.prometheus --runbooks https://holdfast.example/runbooks --out rules

The first is what is committed; a test compares it byte for byte.
"""

import argparse
from pathlib import Path

from monitoring.prometheus.alerting.render import Links, render_rules

HERE = Path(__file__).parent


def main() -> None:
    """Write the files into a folder."""
    parser = argparse.ArgumentParser(
        prog="python -m monitoring.prometheus", description="Write the rules of Prometheus."
    )
    links = Links()
    parser.add_argument("--runbooks", default=links.runbooks, help="where the runbooks are")
    parser.add_argument("--grafana", default=links.grafana, help="where Grafana is")
    parser.add_argument("--console", default=links.console, help="where the service is")
    parser.add_argument("--out", type=Path, default=HERE, help="the folder that is written to")
    given = parser.parse_args()
    texts = render_rules(Links(given.runbooks, given.grafana, given.console))
    for name, text in texts.items():
        (given.out / name).write_text(text, encoding="utf-8")
        print(given.out / name)


if __name__ == "__main__":
    main()
