"""A store that is lost while no manager lives: the cluster comes back from what a majority of its agents hold (design 5.5)."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from tests.manager.world import CLUSTER, World, until
from tests.support.agent_client import Agent, vm_id, vm_report
from tests.support.redis import RedisServer
from vmha.clock import SystemClock
from vmha.errors import NotFound, Unavailable, VmhaError
from vmha.manager.restoration import Restoration
from vmha.v1 import cluster_copy_pb2 as cc
from vmha.v1 import cluster_service_pb2 as cs
from vmha.v1 import manager_service_pb2 as ms

HOSTS = ["h1", "h2", "h3"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmha.manager.copy_votes.SETTLES_S", 0.3)


async def copies(world: World, agents: list[Agent]) -> list[ms.ConfigurationCopy]:
    """What each agent was sent last, when all of them have the newest."""

    def newest(agent: Agent) -> ms.ConfigurationCopy:
        return [m.cluster_copy for m in agent.received if m.HasField("cluster_copy")][-1]

    async def told() -> bool:
        version = (await world.store.clusters.get(CLUSTER)).version
        held = [[m for m in agent.received if m.HasField("cluster_copy")] for agent in agents]
        return all(held) and all(newest(agent).version == version for agent in agents)

    await until(told)
    return [newest(agent) for agent in agents]


async def lose(world: World, redis_server: RedisServer) -> None:
    await world.kill_manager()
    redis_server.stop()
    redis_server.start()
    await world.start_manager()


async def offers(world: World, host_id: str, copy: ms.ConfigurationCopy | None = None, **more: int) -> Agent:
    """A hello is sent."""
    agent = world.agent(host_id)
    await agent.open()
    hello = agent.hello_message()
    hello.copy_version = more.get("copy_version", 0 if copy is None else copy.version)
    hello.store_generation, hello.config_version = more.get("generation", 0), more.get("config", 0)
    if copy is not None:
        hello.cluster_copy.CopyFrom(copy)
    await agent.send(hello=hello)
    return agent


async def refused(world: World, host_id: str, copy: ms.ConfigurationCopy | None = None, **more: int) -> VmhaError:
    """What a hello is answered."""
    return await (await offers(world, host_id, copy, **more)).ended()


async def test_a_lost_cluster_comes_back_from_a_majority_of_its_agents(world: World, redis_server: RedisServer) -> None:
    """Settings, hosts, groups and protection; in safe mode, above all that agents have seen, and said by an alarm."""
    await world.create(HOSTS)
    agents = [await world.live(host_id) for host_id in HOSTS]
    held = await copies(world, agents)
    before = await world.store.clusters.snapshot(CLUSTER)
    await lose(world, redis_server)

    assert (await refused(world, "h1", copy_version=held[0].version)).reason == "CLUSTER_COPY_WANTED"
    assert (await refused(world, "h1")).reason == "HOST_UNKNOWN"

    async def back() -> bool:
        for number, host_id in enumerate(HOSTS[:2]):
            await offers(world, host_id, held[number], generation=70 + number, config=30)
        await asyncio.sleep(0.1)
        return CLUSTER in await world.store.clusters.list_ids()

    await until(back)
    after = await world.store.clusters.snapshot(CLUSTER)
    assert (after.cluster.config, after.cluster.ha_enabled, after.groups) == (before.cluster.config, True, before.groups)
    assert {h: host.config for h, host in after.hosts.items()} == {h: host.config for h, host in before.hosts.items()}
    assert after.cluster.awaited == tuple(HOSTS)
    assert after.cluster.store_generation > 71 and after.cluster.config_version > 1000

    async def vote() -> bool:
        """They keep their VMs by each other's word: who is waited for is a voter (R18)."""
        now = await world.store.clusters.snapshot(CLUSTER)
        newest = now.configs.get(now.cluster.config_version)
        return newest is not None and newest.voters == tuple(HOSTS)

    await until(vote)
    agents = [await world.live(host_id, [vm_report(n)]) for n, host_id in enumerate(HOSTS)]

    async def over() -> bool:
        return not (await world.store.clusters.get(CLUSTER)).safe_mode

    await until(over)
    assert ("STORE_LOST", "", False) in await world.alarms()
    assert {vm.vm_id: vm.owner_host_id for vm in await world.store.vms.list(CLUSTER)} == {
        vm_id(n): host_id for n, host_id in enumerate(HOSTS)
    }


async def test_a_minority_brings_nothing_back(world: World, redis_server: RedisServer) -> None:
    """One of three, however often it asks; and one that is in no copy."""
    await world.create(HOSTS)
    agents = [await world.live(host_id) for host_id in HOSTS]
    held = await copies(world, agents)
    await lose(world, redis_server)

    for _ in range(8):
        assert (await refused(world, "h1", held[0])).reason == "CLUSTER_RESTORING"
        assert (await refused(world, "h9", held[0])).reason == "CLUSTER_RESTORING"
    assert await world.store.clusters.list_ids() == []


async def test_a_cluster_deleted_on_purpose_does_not_come_back(world: World) -> None:
    """Its hosts are told that they left, and drop their copies; who was not there then, hears it from the store's memory."""
    await world.create(HOSTS, enable=False)
    agents = [await world.live(host_id) for host_id in HOSTS]
    held = await copies(world, agents)
    for host_id in HOSTS:
        await world.operator.DeleteHost(cs.DeleteHostRequest(cluster_id=CLUSTER, host_id=host_id))
    for agent in agents:
        assert (await agent.ended()).metadata["left_cluster_id"] == CLUSTER
    await world.operator.DeleteCluster(cs.DeleteClusterRequest(cluster_id=CLUSTER))

    for number, host_id in enumerate(HOSTS):
        error = await refused(world, host_id, held[number])
        assert (error.reason, error.metadata["left_cluster_id"]) == ("HOST_UNKNOWN", CLUSTER)
    assert await world.store.clusters.list_ids() == []


async def test_a_copy_takes_no_host_from_another_cluster(world: World, redis_server: RedisServer) -> None:
    """A host of the copy was given to another cluster meanwhile: nothing is restored, and each agent is told why."""
    await world.create(HOSTS)
    agents = [await world.live(host_id) for host_id in HOSTS]
    held = await copies(world, agents)
    await lose(world, redis_server)
    await world.create(["h3"], cluster_id="c2", enable=False)

    async def told() -> bool:
        reasons = {(await refused(world, host_id, held[n])).reason for n, host_id in enumerate(HOSTS[:2])}
        return reasons == {"HOST_EXISTS"}

    await until(told)
    assert await world.store.clusters.list_ids() == ["c2"]


async def test_a_host_that_left_a_living_cluster_is_told_so(world: World) -> None:
    """It comes back with an old copy: the cluster is there, without it."""
    await world.create(HOSTS)
    agents = [await world.live(host_id) for host_id in HOSTS]
    held = await copies(world, agents)
    await world.operator.DeleteHost(cs.DeleteHostRequest(cluster_id=CLUSTER, host_id="h3"))

    error = await refused(world, "h3", held[2])
    assert (error.reason, error.metadata["left_cluster_id"]) == ("HOST_UNKNOWN", CLUSTER)
    assert sorted((await world.store.clusters.snapshot(CLUSTER)).hosts) == ["h1", "h2"]


async def test_a_host_whose_cluster_was_restored_a_moment_ago_comes_again(world: World) -> None:
    """Its hello was on its way when another one restored the cluster: it did not leave, and keeps its copy."""
    await world.create(HOSTS)
    agents = [await world.live(host_id) for host_id in HOSTS]
    [copy, *_] = await copies(world, agents)
    hello = ms.AgentHello(host_id="h1", copy_version=copy.version, cluster_copy=copy)
    parts: Any = SimpleNamespace(store=world.store, clock=SystemClock())

    with pytest.raises(Unavailable) as refusal:
        await Restoration(parts).offered(hello, NotFound("HOST_UNKNOWN", "none"))
    assert refusal.value.reason == "CLUSTER_RESTORING"


async def test_what_is_no_copy_is_refused(world: World) -> None:
    """Junk, a copy under another label, and settings that no cluster may have."""
    for content, version in ((b"\xff\xff", 7), (cc.ClusterCopy(cluster_id="c9", version=8).SerializeToString(), 7)):
        copy = ms.ConfigurationCopy(cluster_id="c9", version=version, content=content)
        error = await refused(world, "h1", copy)
        assert "hello.cluster_copy.content" in str(error.metadata) + error.message
