"""Why a challenger was or was not promoted: one self-contained HTML page per job."""

from collections.abc import Sequence

from models.evaluation.gates.checks import Check
from models.reporting.page import environment

SIGNS = {"pass": "✓", "fail": "✗", "unknown": "?"}
WORDS = {"pass": "passed", "fail": "failed", "unknown": "not known"}


def render_verdict(
    title: str, lead: str, facts: Sequence[tuple[str, str]], checks: Sequence[Check]
) -> str:
    """The verdict page as HTML.

    Args:
        title: what the page answers.
        lead: how the job ended, and why.
        facts: names and values of the job.
        checks: of all gates, in their order; those that failed or are not known stand first.
    """
    order = {"fail": 0, "unknown": 1, "pass": 2}
    return (
        environment()
        .get_template("verdict.html.j2")
        .render(
            title=title,
            lead=lead,
            facts=[(name, value) for name, value in facts if value],
            checks=sorted(checks, key=lambda check: order[check.verdict]),
            signs=SIGNS,
            words=WORDS,
        )
    )
