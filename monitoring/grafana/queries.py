"""PromQL of panels: counters as rates and counts, and gauges of the chosen models."""

MODEL = 'model=~"$model"'
INSTANCE = 'instance=~"$instance"'
REQUESTS = 'route!~"/metrics|/healthz|/readyz|/v2/health/.*"'


def rate(metric: str, selector: str = "", *, by: str = "") -> str:
    """Return the expression of a counter's rate per second, summed over all labels but `by`."""
    return render_sum("rate", metric, selector, by)


def count(metric: str, selector: str = "", *, by: str = "") -> str:
    """Return the expression of a counter's increase per interval, and 0 where there is no series.

    For events that may never have happened: none yet is the truth, not a gap.
    """
    return or_none(render_sum("increase", metric, selector, by))


def latest(gauge: str, selector: str = "", *, by: str = "model") -> str:
    """Return the expression of a gauge of the chosen models, whichever process reports it."""
    chosen = f"{selector}, {MODEL}" if selector else MODEL
    return f"max by ({by}) ({gauge}{{{chosen}}})"


def or_none(expression: str) -> str:
    """Return the expression, and 0 where there is no series: none is the truth, not a gap."""
    return f"{expression} or on () vector(0)"


def render_sum(function: str, metric: str, selector: str, by: str) -> str:
    """Return the sum of a function of a counter over the panel's interval."""
    grouping = f" by ({by}) " if by else ""
    braces = f"{{{selector}}}" if selector else ""
    return f"sum{grouping}({function}({metric}{braces}[$__rate_interval]))"
