"""What a line of log holds, and what it never holds."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Iterator
from urllib.request import urlopen

import pytest
import structlog
from prometheus_client import CollectorRegistry, Counter

from vmha import log, metrics
from vmha.errors import Unavailable


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_each_line_is_json_with_service_and_what_is_bound(capsys: pytest.CaptureFixture[str]) -> None:
    """Incident and host are in each line, also in those of libraries."""
    log.configure("info", "json", "manager")
    with log.bound(incident_id="i-1", host_id="h1"):
        structlog.get_logger("vmha.manager").info("confirmed", silent_s=3.5)
        logging.getLogger("some.library").warning("odd: %s", 7)
    structlog.get_logger("vmha.manager").debug("not at this level")

    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["event"], first["service"], first["incident_id"], first["host_id"]) == ("confirmed", "manager", "i-1", "h1")
    assert (first["level"], first["logger"], first["silent_s"]) == ("info", "vmha.manager", 3.5)
    assert (second["event"], second["incident_id"]) == ("odd: 7", "i-1")


async def test_what_is_bound_stays_in_its_task(capsys: pytest.CaptureFixture[str]) -> None:
    """Two incidents at a time do not mix."""
    log.configure("info", "json", "evac")

    async def work(incident: str) -> None:
        with log.bound(incident_id=incident):
            await asyncio.sleep(0.01)
            structlog.get_logger().info(incident)

    async with asyncio.TaskGroup() as group:
        for incident in ("a", "b", "c"):
            group.create_task(work(incident))

    for line in map(json.loads, capsys.readouterr().err.splitlines()):
        assert line["event"] == line["incident_id"]


def test_a_huge_value_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """A malformed XML of 256 KiB does not fill the journal."""
    log.configure("info", "json", "agent")
    structlog.get_logger().warning("malformed", xml="x" * 300_000)

    assert len(capsys.readouterr().err) < 5000


def test_an_exception_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A traceback is a field."""
    log.configure("info", "json", "agent")
    try:
        raise ValueError("boom")
    except ValueError:
        structlog.get_logger().exception("failed")

    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: boom" in json.loads(line)["exception"]


def test_console_format_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """Not JSON."""
    log.configure("info", "console", "agent")
    structlog.get_logger().info("hello", host_id="h1")

    assert "hello" in (text := capsys.readouterr().err) and not text.startswith("{")


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def test_metrics_are_served_and_stopped() -> None:
    """A port of its own that is free again afterwards."""
    registry = CollectorRegistry()
    Counter("vmha_test_events", "For the test.", registry=registry).inc(3)
    address = free_address()
    for _ in range(2):
        stop = metrics.start_metrics(address, registry)
        with urlopen(f"http://{address}/metrics", timeout=5) as answer:
            assert b"vmha_test_events_total 3.0" in answer.read()
        stop()


def test_no_address_serves_no_metrics() -> None:
    """And stops all the same."""
    metrics.start_metrics("")()


def test_a_taken_port_is_said() -> None:
    """As an error with a reason, not a traceback."""
    address = free_address()
    stop = metrics.start_metrics(address, CollectorRegistry())
    try:
        with pytest.raises(Unavailable) as caught:
            metrics.start_metrics(address, CollectorRegistry())
    finally:
        stop()

    assert caught.value.reason == "LISTEN_FAILED"
