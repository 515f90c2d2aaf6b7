"""Answers are counted over the routes that predict, and a restart is no negative rate."""

import math

import pytest

from monitoring.counting.answers import Answers, quantile, read_answers

PAGE = """
holdfast_http_requests_total{code="200",method="POST",route="/predict"} 90.0
holdfast_http_requests_total{code="503",method="POST",route="/v2/models/<model>/infer"} 10.0
holdfast_http_requests_total{code="200",method="POST",route="/console/predict"} 7.0
holdfast_http_requests_total{code="200",method="GET",route="/metrics"} 5.0
holdfast_http_request_duration_seconds_bucket{le="0.001",route="/predict"} 50.0
holdfast_http_request_duration_seconds_bucket{le="+Inf",route="/predict"} 90.0
holdfast_flagged_total{kind="query",model="digits"} 3.0
holdfast_flagged_total{kind="drift",model="digits"} NaN
"""


def test_only_routes_that_predict_count_and_the_consoles_does_not() -> None:
    found = read_answers(PAGE)
    assert (found.answered, found.failed) == (100.0, 10.0)
    assert found.buckets == {0.001: 50.0, math.inf: 90.0}
    assert found.flagged == {("digits", "query"): 3.0}


def test_a_counter_that_fell_has_begun_anew() -> None:
    now, before = Answers(5.0, 0.0, {1.0: 5.0}), Answers(100.0, 2.0, {1.0: 90.0})
    assert now.since(before) == Answers(5.0, 0.0, {1.0: 5.0})


@pytest.mark.parametrize(("share", "seconds"), [(0.5, 0.01), (0.99, 0.0985), (1.0, 0.1)])
def test_quantiles_are_linear_within_a_bucket(share: float, seconds: float) -> None:
    buckets = {0.01: 50.0, 0.1: 100.0, math.inf: 100.0}
    assert quantile(buckets, share) == pytest.approx(seconds, rel=0.01)
    assert quantile({}, share) is None
