"""Two managers as real processes: one is stopped past its lease (SIGSTOP) and goes on (SIGCONT)."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_services import free_target, service
from tests.manager.world import CLUSTER, until
from tests.support.agent_client import Agent
from tests.support.redis import RedisServer
from vmha.model import ClusterConfig, HostConfig
from vmha.rpc.channel import open_channel
from vmha.store import Store
from vmha.v1 import cluster_service_pb2 as cs
from vmha.v1 import cluster_service_pb2_grpc as cs_grpc

LEASE_S = 1.0


@dataclass
class Replica:
    name: str
    target: str
    process: asyncio.subprocess.Process


@pytest.fixture
async def replicas(tmp_path: Path, redis_server: RedisServer, store: Store) -> AsyncIterator[list[Replica]]:
    """m1, which leads, and m2."""
    await store.clusters.create(CLUSTER, ClusterConfig())
    for host_id in ("h1", "h2"):
        config = HostConfig(probe_target="127.0.0.1:1", agent_target="127.0.0.1:1", libvirt_uri="test:///default")
        await store.hosts.create(CLUSTER, host_id, config)
    first, second = tmp_path / "m1", tmp_path / "m2"
    first.mkdir()
    second.mkdir()
    targets = [free_target(), free_target()]
    more: dict[str, Any] = {"redis_url": redis_server.url, "evac_target": free_target(), "discovery_interval_s": 0.1}
    more |= {"leader_lease_s": LEASE_S, "drain_grace_s": 0.5}
    async with service("manager", first, listen=targets[0], manager_id="m1", **more) as one:
        await until(lambda: _is_led_by(store, "m1"), 20)
        async with service("manager", second, listen=targets[1], manager_id="m2", **more) as two:
            yield [Replica("m1", targets[0], one), Replica("m2", targets[1], two)]


async def _is_led_by(store: Store, name: str) -> bool:
    return (await store.leaders.get(CLUSTER)).manager_id == name


async def test_a_manager_that_was_frozen_acts_on_nothing(replicas: list[Replica], store: Store) -> None:
    """What reached its socket while it stood still is read after its lease: no ack, no state, and its sessions go elsewhere."""
    one, two = replicas
    async with open_channel(one.target) as old, open_channel(two.target) as new:
        agent = Agent(old, "h1")
        await agent.connect()
        await agent.register([])
        await agent.heartbeat()
        await until(lambda: _more(agent, 2))
        one.process.send_signal(signal.SIGSTOP)
        try:
            acks = len(agent.acks)
            await agent.heartbeat()
            await until(lambda: _is_led_by(store, "m2"))
            term = (await store.leaders.get(CLUSTER)).term
            again = Agent(new, "h1", boot_id=agent.boot_id, incarnation=agent.incarnation)
            welcome = await again.connect()
        finally:
            one.process.send_signal(signal.SIGCONT)
        error = await agent.ended()
        await again.heartbeat()
        await until(lambda: _more(again, 1))
        shown = await cs_grpc.ClusterServiceStub(old).GetCluster(cs.GetClusterRequest(cluster_id=CLUSTER))
        await again.vanish()
        await agent.vanish()

    assert not welcome.registration_required
    assert (error.reason, len(agent.acks)) == ("NOT_LEADER", acks)
    assert (shown.cluster.leader_manager_id, shown.cluster.leader_term) == ("m2", term)


async def _more(agent: Agent, count: int) -> bool:
    return len(agent.acks) >= count
