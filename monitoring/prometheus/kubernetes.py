"""Writes the rules of Prometheus as resources of its operator (`PrometheusRule`).

    python -m monitoring.prometheus.kubernetes

Each resource holds one file of rules as it stands, byte for byte, indented below `spec`. Say it
after `python -m monitoring.prometheus`; a test compares.
"""

from pathlib import Path

HERE = Path(__file__).parent
TARGET = HERE.parents[1] / "deploy" / "kubernetes" / "prometheus-operator" / "rules.yaml"
FILES = ("recording_rules.yml", "slo_rules.yml", "alert_rules.yml")
INDENT = "  "
MADE = "# Made by `python -m monitoring.prometheus.kubernetes` from monitoring/prometheus/{name}.\n"
HEAD = """\
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: holdfast-{short}
  labels: {{app.kubernetes.io/name: holdfast}}
spec:
"""


def render_resources() -> str:
    """Return the text of the resources, one for each of `FILES`."""
    parts = []
    for name in FILES:
        text = (HERE / name).read_text(encoding="utf-8")
        short = name.removesuffix("_rules.yml")
        parts.append(MADE.format(name=name) + HEAD.format(short=short) + indent(text))
    return "---\n".join(parts)


def indent(text: str) -> str:
    r"""Indent every line that is not empty.

    >>> indent("groups:\n\n- name: a\n")
    '  groups:\n\n  - name: a\n'
    """
    return "".join(INDENT + line if line.strip() else line for line in text.splitlines(True))


if __name__ == "__main__":
    TARGET.write_text(render_resources(), encoding="utf-8")
    print(TARGET)
