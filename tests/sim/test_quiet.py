"""Silence while a simulation runs."""

from __future__ import annotations

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram

from vmha.sim.quiet import Silence


def test_logs_and_metrics_come_back() -> None:
    """Between begin and end nothing is counted or logged, whatever the labels; afterwards both work as before."""
    registry = CollectorRegistry()
    counter = Counter("acts", "Acts.", ["kind"], registry=registry)
    spans = Histogram("spans", "Spans.", registry=registry, buckets=(1.0,))
    log = structlog.get_logger("test")

    with structlog.testing.capture_logs() as before:
        log.info("heard")
    silence = Silence()
    silence.begin()
    with structlog.testing.capture_logs() as during:
        log.info("not heard")
        counter.labels("a").inc()
        spans.observe(0.5)
    silence.end()
    silence.end()
    with structlog.testing.capture_logs() as after:
        log.info("heard again")
        counter.labels("a").inc()
        spans.observe(0.5)

    assert [len(lines) for lines in (before, during, after)] == [1, 0, 1]
    assert registry.get_sample_value("acts_total", {"kind": "a"}) == 1.0
    assert registry.get_sample_value("spans_count") == 1.0
