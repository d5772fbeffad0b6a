"""Tests of vmha.agent.app: the agent as a process."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import generate_latest

from tests.support.manager_server import ScriptedManager
from tests.support.waiting import until
from vmha.agent.app import run, systemd_is_stopping
from vmha.agent.metrics import Metrics
from vmha.clock import SystemClock
from vmha.config import AgentSettings
from vmha.errors import InvalidField, Unavailable
from vmha.model import PeerVerdict
from vmha.probe import ProbeResult
from vmha.v1 import manager_service_pb2 as ms


@pytest.fixture
async def manager() -> AsyncIterator[ScriptedManager]:
    """A manager that listens."""
    manager = ScriptedManager()
    await manager.start()
    yield manager
    await manager.stop()


def configured(folder: Path, target: str, **fields: object) -> dict[str, object]:
    (folder / "boot_id").write_text("boot-1")
    return {
        "host_id": "h1",
        "managers": [target],
        "listen": "127.0.0.1:0",
        "state_dir": str(folder),
        "marker_dir": str(folder / "disk"),
        "boot_id_file": str(folder / "boot_id"),
        "libvirt_uri": "test:///default",
        "drain_grace_s": 0.1,
        **fields,
    }


@pytest.mark.parametrize(
    ("signum", "reason"),
    [(signal.SIGTERM, ms.GOODBYE_REASON_AGENT_RESTARTING), (signal.SIGUSR1, ms.GOODBYE_REASON_HOST_SHUTTING_DOWN)],
)
async def test_a_signal_ends_the_process_with_a_goodbye(
    tmp_path: Path, manager: ScriptedManager, signum: int, reason: int
) -> None:
    """`vmha agent` registers, beats, and on the signal says goodbye and why, and exits 0."""
    (tmp_path / "agent.yaml").write_text(json.dumps(configured(tmp_path, manager.target)))
    command = [sys.executable, "-m", "vmha.cli.main", "agent", "--config", str(tmp_path / "agent.yaml")]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    try:
        await until(lambda: manager.sessions, 20)
        session = await manager.session()
        await until(lambda: session.all("heartbeat"), 20)
        process.send_signal(signum)
        _, log = await asyncio.wait_for(process.communicate(), 10)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert process.returncode == 0
    assert session.all("goodbye")[-1].reason == reason
    assert all(json.loads(line)["host_id"] == "h1" for line in log.splitlines() if b"session" in line)
    assert b"Traceback" not in log


async def test_a_port_that_is_taken_ends_it_at_once(tmp_path: Path, manager: ScriptedManager) -> None:
    """LISTEN_FAILED names the address."""
    settings = AgentSettings(**configured(tmp_path, manager.target, listen=manager.target))  # type: ignore[arg-type]
    with pytest.raises(Unavailable) as caught:
        await run(settings, stop=asyncio.Event())

    assert caught.value.reason == "LISTEN_FAILED"


async def test_without_a_boot_id_it_does_not_start(tmp_path: Path, manager: ScriptedManager) -> None:
    """An agent that cannot tell one boot from the next would resume what has ended."""
    content = configured(tmp_path, manager.target, boot_id_file=str(tmp_path / "missing"))
    with pytest.raises(InvalidField, match="missing"):
        await run(AgentSettings(**content), stop=asyncio.Event())  # type: ignore[arg-type]


async def test_health_is_served(tmp_path: Path, manager: ScriptedManager) -> None:
    """grpc.health.v1 answers for the process and for AgentService."""
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    settings = AgentSettings(**configured(tmp_path, manager.target))  # type: ignore[arg-type]
    task = asyncio.create_task(run(settings, stop=stop, ready=ready))
    port = await ready
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", "vmha.v1.AgentService"):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
    stop.set()
    await task


async def test_a_machine_that_runs_is_not_stopping() -> None:
    """Neither a running system nor one without systemd counts as shutting down."""
    assert await systemd_is_stopping() is False


def test_metrics_forget_peers_that_are_probed_no_more() -> None:
    """Each drawing brings new peers: the series of those that left end."""
    metrics = Metrics(SystemClock())
    metrics.probed("h2", ProbeResult(verdict=PeerVerdict.OK, round_trip_s=0.002))
    assert b'vmha_agent_probes_total{peer="h2",verdict="OK"} 1.0' in generate_latest(metrics.registry)

    metrics.forget_peer("h2")

    assert b'peer="h2"' not in generate_latest(metrics.registry)


def test_the_age_of_the_newest_ack_can_be_watched() -> None:
    """NaN before the first ack, then the seconds since its heartbeat was sent."""
    clock = SystemClock()
    metrics = Metrics(clock)
    assert metrics.registry.get_sample_value("vmha_agent_ack_age_seconds") != 0.0

    metrics.acked(clock.now() - 2.0)
    age = metrics.registry.get_sample_value("vmha_agent_ack_age_seconds")

    assert age is not None
    assert 2.0 <= age < 3.0
