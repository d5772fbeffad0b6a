"""`vmha manager` and `vmha evac` as processes, with a real Redis, spoken to by the real command line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.cli.conftest import Vmha
from tests.cli.plane import Plane
from tests.support.redis import RedisServer
from vmha.rpc.channel import open_channel

FILE = """
cluster: {id: c1, profile: fast, ha_enabled: true}
hosts:
  - {id: h1, probe_target: "127.0.0.1:1", agent_target: "127.0.0.1:1", libvirt_uri: "test:///default"}
  - {id: h2, probe_target: "127.0.0.1:1", agent_target: "127.0.0.1:1", libvirt_uri: "test:///default"}
"""


def free_target() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@asynccontextmanager
async def service(name: str, directory: Path, **settings: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """A running service; it must end with 0 on SIGTERM."""
    config = directory / f"{name}.yaml"
    config.write_text(json.dumps(settings))
    with (directory / f"{name}.log").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "vmha.cli.main", name, "--config", str(config), stdout=output, stderr=output
        )
    try:
        async with open_channel(settings["listen"]) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            await health.Check(health_pb2.HealthCheckRequest(), timeout=30, wait_for_ready=True)
        yield process
        process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(process.wait(), 20)
        assert (code, (directory / f"{name}.log").read_text().count("Traceback")) == (0, 0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@pytest.fixture
async def real(tmp_path: Path, redis_server: RedisServer, store: object) -> AsyncIterator[Vmha]:
    manager, evac = free_target(), free_target()
    async with (
        service("evac", tmp_path, listen=evac, redis_url=redis_server.url),
        service("manager", tmp_path, listen=manager, redis_url=redis_server.url, evac_target=evac, discovery_interval_s=0.1),
    ):
        vmha = Vmha(Plane(), manager, tmp_path)
        vmha.more = {"VMHA_EVAC": evac}
        yield vmha


async def test_an_operators_first_day(real: Vmha) -> None:
    """Apply, apply again, look around, take a host out and back, read the events: all against the real services."""
    file = real.file(FILE)

    first = await real("apply", "-f", file)
    again = await real("apply", "-f", file)
    shown = await real("cluster", "show", "-o", "json")
    plan = await real("evacuation", "plan", "h1")
    unknown = await real("evacuation", "plan", "h9")
    on = await real("host", "maintenance", "on", "h1")
    hosts = await real("host", "list", "-o", "json")
    events = await real("events")

    assert (first.code, first.err) == (0, "")
    assert [line.partition(": ")[2] for line in again.out.splitlines()] == ["unchanged"] * 4
    assert json.loads(shown.out)["protection_state"] == "PROTECTION_STATE_ACTIVE"
    assert (plan.code, unknown.code) == (0, 3)
    assert on.code == 0
    assert [host["in_maintenance"] for host in json.loads(hosts.out)["hosts"]] == [True, False]
    assert "EnableCluster c1: done" in events.out


async def test_enabling_one_host_is_refused_with_the_rule(real: Vmha) -> None:
    """S10, word by word, from the real manager to the operator's terminal."""
    done = await real("apply", "-f", real.file(FILE[: FILE.index("  - {id: h2")]))

    assert done.code == 1
    assert "host h1: created" in done.out
    assert "At least two hosts are required to enable VM HA." in done.err


async def test_a_service_with_a_wrong_file_ends_with_2(vmha: Vmha, tmp_path: Path) -> None:
    """It says all that is wrong, and no password."""
    config = tmp_path / "manager.yaml"
    config.write_text("redis_url: redis://:hunter2@db\nlisten: here\nlevel: info\n")

    done = await vmha("manager", "--config", str(config))

    assert done.code == 2
    assert [line.strip().partition(":")[0] for line in done.err.splitlines()[1:]] == ["listen", "evac_target", "level"]
    assert "hunter2" not in done.err
