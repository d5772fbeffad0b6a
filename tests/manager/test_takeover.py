"""Several managers, one store: one leads, the others say who; a killed, thawed or cut-off leader decides nothing more (R19)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
import redis.asyncio

from tests.manager.world import CLUSTER, ScriptedProbe, World, host_config, until
from tests.support.agent_client import Agent, vm_report
from tests.support.redis import RedisServer
from vmha.clock import SystemClock
from vmha.config import ManagerSettings
from vmha.errors import VmhaError
from vmha.manager.app import run
from vmha.manager.mandate import Mandate
from vmha.manager.seat import Seat
from vmha.model import EvacuationState, HostState, PeerVerdict, ProofKind
from vmha.rpc.channel import open_channel
from vmha.rpc.errors import from_rpc_error
from vmha.store import Store
from vmha.v1 import cluster_pb2
from vmha.v1 import cluster_service_pb2 as cs
from vmha.v1 import cluster_service_pb2_grpc as cs_grpc
from vmha.v1 import manager_service_pb2 as ms
from vmha.v1 import manager_service_pb2_grpc as ms_grpc

LEASE_S = 1.0


class JumpingClock(SystemClock):
    """A process that was stopped for a while sees this."""

    ahead_s = 0.0

    def now(self) -> float:
        return super().now() + self.ahead_s


@dataclass
class Replica:
    """One manager of several."""

    name: str
    redis_url: str
    evac_target: str
    probe: ScriptedProbe
    clock: JumpingClock = field(default_factory=JumpingClock)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[int] | None = None
    channel: grpc.aio.Channel | None = None
    target: str = ""

    async def start(self) -> None:
        settings = ManagerSettings(
            listen="127.0.0.1:0",
            redis_url=self.redis_url,
            evac_target=self.evac_target,
            discovery_interval_s=0.1,
            manager_id=self.name,
            leader_lease_s=LEASE_S,
            drain_grace_s=2.0,
        )
        started: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(
            run(settings, clock=self.clock, probe=self.probe, started=started.set_result, stop=self.stop)
        )
        await asyncio.wait({started, self.task}, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        self.target = f"127.0.0.1:{started.result()}"
        self.channel = open_channel(self.target)

    async def kill(self) -> None:
        """Says nothing, releases nothing."""
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task
            self.task = None

    async def close(self) -> None:
        await self.kill()
        if self.channel is not None:
            await self.channel.close()

    @property
    def operator(self) -> Any:
        assert self.channel is not None
        return cs_grpc.ClusterServiceStub(self.channel)

    @property
    def manager(self) -> Any:
        assert self.channel is not None
        return ms_grpc.ManagerServiceStub(self.channel)

    async def cluster(self) -> cluster_pb2.Cluster:
        answer = await self.operator.GetCluster(cs.GetClusterRequest(cluster_id=CLUSTER))
        found: cluster_pb2.Cluster = answer.cluster
        return found

    async def leads(self) -> None:
        async def leads() -> bool:
            return (await self.cluster()).leader_manager_id == self.name

        await until(leads)


@dataclass
class Two:
    """The world's manager is m1; m2 is the other one."""

    world: World
    one: Replica
    two: Replica
    agents: list[Agent] = field(default_factory=list)

    async def agent(self, replica: Replica, host_id: str, **more: Any) -> Agent:
        assert replica.channel is not None
        agent = Agent(replica.channel, host_id, **more)
        self.agents.append(agent)
        self.world.agents.append(agent)
        return agent

    async def live(self, replica: Replica, host_id: str, vms: list[Any]) -> Agent:
        agent = await self.agent(replica, host_id)
        await agent.connect()
        await agent.register(vms)
        self.world.settle(agent)
        return agent

    async def goes_to(self, replica: Replica, agent: Agent) -> Agent:
        """The agent's next session, elsewhere."""
        await agent.vanish()
        again = await self.agent(replica, agent.host_id, boot_id=agent.boot_id, incarnation=agent.incarnation)
        welcome = await again.connect()
        assert not welcome.registration_required
        self.world.settle(again)
        return again


@pytest.fixture
async def two(redis_server: RedisServer, store: Store) -> AsyncIterator[Two]:
    """Two replicas; the first leads a cluster of three hosts, protection on."""
    world = World(redis_server.url, store)
    await world.evacuator.start()
    one, two = (Replica(name, redis_server.url, world.evacuator.target, world.probe) for name in ("m1", "m2"))
    await one.start()
    world._channel = one.channel
    await world.create(["h1", "h2", "h3"])
    await two.start()
    yield Two(world, one, two)
    for agent in world.agents:
        await agent.vanish()
    for replica in (one, two):
        await replica.close()
    world._channel = None
    await world.close()


async def test_a_follower_names_the_leader(two: Two) -> None:
    """A session is refused with the leader's address; peers and reads are answered by any replica."""
    lost = await two.agent(two.two, "h1")
    await lost.open()
    await lost.send(hello=lost.hello_message())
    error = await lost.ended()
    peers = await two.two.manager.GetPeers(ms.GetPeersRequest(host_id="h1"))
    here, there = await two.one.cluster(), await two.two.cluster()

    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "NOT_LEADER")
    assert error.metadata["leader"] == two.one.target
    assert {peer.host_id for peer in peers.peers} == {"h2", "h3"}
    assert (there.leader_manager_id, there.leader_target, there.leader_term) == ("m1", two.one.target, here.leader_term)


async def test_reads_are_the_same_on_all_replicas(two: Two) -> None:
    """What only the leader knows, which agents live and whether it learns, a follower shows as well."""
    await two.live(two.one, "h1", [])

    async def same() -> bool:
        here, there = await two.one.cluster(), await two.two.cluster()
        request = cs.ListHostsRequest(cluster_id=CLUSTER)
        hosts = [(await replica.operator.ListHosts(request)).hosts for replica in (two.one, two.two)]
        connected = [[host.host_id for host in found if host.agent_connected] for found in hosts]
        return list(here.hosts_without_agent) == ["h2", "h3"] and here == there and connected == [["h1"], ["h1"]]

    await until(same)


async def test_an_operators_change_at_a_follower_reaches_the_leader(two: Two) -> None:
    """Settings are compared and set in the store by any replica; the leader takes them in."""
    request = cs.CreateHostRequest(cluster_id=CLUSTER, host_id="h4", config=host_config("h4"))
    await two.two.operator.CreateHost(request)

    async def taken_in() -> bool:
        peers = await two.one.manager.GetPeers(ms.GetPeersRequest(host_id="h4"))
        return len(peers.peers) == 3

    await until(taken_in)


async def test_what_only_the_leader_can_do_is_refused_elsewhere(two: Two) -> None:
    """An operator's word needs the leader's own view of the host: NOT_LEADER, with its address."""
    request = cs.ConfirmHostOffRequest(cluster_id=CLUSTER, host_id="h1", operator="alice", fence_epoch=0)
    refused = await _refused(two.two.operator.ConfirmHostOff(request))
    explained = await _refused(two.two.operator.ExplainHost(cs.ExplainHostRequest(cluster_id=CLUSTER, host_id="h1")))

    assert (refused.reason, refused.metadata["leader"]) == ("NOT_LEADER", two.one.target)
    assert (explained.reason, explained.metadata["leader"]) == ("NOT_LEADER", two.one.target)


async def test_s13_clocks_are_asked_of_the_leader_and_protection_is_anybody_s(two: Two) -> None:
    """CheckCluster sends to the leader, which has the clocks; EnableCluster is examined by the replica that is asked."""
    check = cs.CheckClusterRequest(cluster_id=CLUSTER)
    sent = await _refused(two.two.operator.CheckCluster(check))
    answer = await two.one.operator.CheckCluster(check)
    enabled = await two.two.operator.EnableCluster(cs.EnableClusterRequest(cluster_id=CLUSTER))

    assert (sent.reason, sent.metadata["leader"]) == ("NOT_LEADER", two.one.target)
    assert [clock.host_id for clock in answer.clocks] == ["h1", "h2", "h3"]
    assert "AGENT_MISSING" in {finding.type for finding in enabled.warnings}


async def test_a_killed_leader_is_replaced(two: Two) -> None:
    """The other one leads under a greater term as soon as the lease has run out, and agents resume there."""
    agent = await two.live(two.one, "h1", [vm_report(1)])
    before = (await two.two.cluster()).leader_term
    began = asyncio.get_running_loop().time()
    await two.one.kill()
    await two.two.leads()
    took_s = asyncio.get_running_loop().time() - began
    again = await two.goes_to(two.two, agent)

    async def acked() -> bool:
        return bool(again.acks)

    await until(acked)
    assert (await two.two.cluster()).leader_term > before
    assert took_s < 2 * LEASE_S + 0.5


async def test_a_successor_resumes_what_is_open(two: Two) -> None:
    """The same incident, ordered again under the new term; the old leader's order would be refused from then on."""
    world = two.world
    agents = [await two.live(two.one, host_id, [vm_report(1)] if host_id == "h1" else []) for host_id in ("h1", "h2", "h3")]
    await world.state("h1", HostState.HEALTHY)
    await world.cut_power(agents[0])
    first = await world.evacuator.ordered()
    await two.one.kill()
    second = await world.evacuator.ordered(2)
    world._channel = two.two.channel
    await world.evacuator.advance(first.request_id, EvacuationState.SUCCEEDED, ProofKind.FENCE)
    await world.state("h1", HostState.EVACUATED)

    assert (second.request_id, second.fence_epoch) == (first.request_id, first.fence_epoch)
    assert 0 < first.leader_term < second.leader_term


async def test_a_leader_that_goes_in_good_order_is_replaced_at_once(two: Two) -> None:
    """SIGTERM: the lease is released, and the next one need not wait for its end."""
    agent = await two.live(two.one, "h1", [])
    two.one.stop.set()
    await agent.next("drain")
    await two.two.leads()
    await two.goes_to(two.two, agent)
    assert two.one.task is not None

    assert await two.one.task == 0
    two.one.task = None


async def test_a_session_that_comes_while_the_lead_is_taken_up_waits_for_it(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store names the new leader before it has read what a leader needs: it does not send to itself who comes then."""
    begin = Seat.begin

    async def slowly(seat: Seat, mandate: Mandate) -> None:
        await asyncio.sleep(0.3)
        await begin(seat, mandate)

    monkeypatch.setattr(Seat, "begin", slowly)
    agent = await two.live(two.one, "h1", [])
    two.one.stop.set()
    await agent.next("drain")
    await two.two.leads()

    await two.goes_to(two.two, agent)


async def _last_beat_is_acked(agent: Agent) -> bool:
    return agent.acks[-1].sequence == agent.beat


async def test_a_thawed_leader_acts_on_nothing(two: Two) -> None:
    """Stopped past its lease: the first heartbeat that it reads afterwards gets no ack, and its sessions end."""
    agent = await two.live(two.one, "h1", [])
    await two.world.state("h1", HostState.HEALTHY)
    before = (await two.one.cluster()).leader_term
    # An ack on its way when the clock jumps was given before.
    await agent.fall_silent()
    await until(lambda: _last_beat_is_acked(agent))
    two.one.clock.ahead_s = 60.0
    acks = len(agent.acks)
    await agent.heartbeat()
    error = await agent.ended()

    assert (error.reason, len(agent.acks)) == ("NOT_LEADER", acks)
    events = [e for e in await two.world.store.events.read(CLUSTER, 0) if e.kind == "host_state_change"]
    assert [e.detail["new_state"] for e in events if e.detail["host_id"] == "h1"][-1] == "HOST_STATE_HEALTHY"

    async def led_again() -> bool:
        return (await two.two.cluster()).leader_term > before

    await until(led_again)


async def test_an_outage_of_the_store_ends_the_lead_and_not_the_manager(two: Two, redis_server: RedisServer) -> None:
    """Nobody acknowledges without a lease: agents attest each other meanwhile. When the store is back somebody leads again."""
    agent = await two.live(two.one, "h1", [])
    redis_server.stop()
    error = await agent.ended()
    refused = await two.agent(two.one, "h2")
    await refused.open()
    await refused.send(hello=refused.hello_message())
    nobody = await refused.ended()
    redis_server.start()

    async def led() -> bool:
        try:
            return bool((await two.two.cluster()).leader_manager_id)
        except grpc.aio.AioRpcError:
            return False

    await until(led)
    replica = two.one if (await two.two.cluster()).leader_manager_id == "m1" else two.two
    assert (error.reason, nobody.reason) == ("NOT_LEADER", "NOT_LEADER")
    assert nobody.metadata["leader"] in {"", two.one.target}
    hosts = (await replica.operator.ListHosts(cs.ListHostsRequest(cluster_id=CLUSTER))).hosts
    assert [host.host_id for host in hosts] == ["h1", "h2", "h3"]


async def test_a_store_that_comes_back_empty_is_restored_by_who_led_last(two: Two, redis_server: RedisServer) -> None:
    """The leader knows most, and goes on leading: it writes down its lease first. What was configured is there again."""
    await two.live(two.one, "h1", [])
    before = await two.world.store.clusters.get(CLUSTER)
    term = (await two.one.cluster()).leader_term
    client = redis.asyncio.Redis.from_url(redis_server.url)
    await client.flushall()
    await client.aclose()

    async def restored() -> bool:
        return CLUSTER in await two.world.store.clusters.list_ids()

    await until(restored)
    after = await two.world.store.clusters.get(CLUSTER)
    assert (after.config, after.ha_enabled) == (before.config, True)
    assert (await two.world.store.hosts.get(CLUSTER, "h1")).incarnation > 0

    shown = await two.two.cluster()
    assert (shown.leader_manager_id, shown.leader_term) == ("m1", term)


async def test_nobody_leads_on_a_store_that_may_evict(two: Two, redis_server: RedisServer) -> None:
    """The policy is looked at with each new lead: a failover may have brought another server."""
    client = redis.asyncio.Redis.from_url(redis_server.url)
    await client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        await two.one.kill()
        await asyncio.sleep(2.5 * LEASE_S)
        agent = await two.agent(two.two, "h1")
        await agent.open()
        await agent.send(hello=agent.hello_message())
        refused = await agent.ended()
    finally:
        await client.config_set("maxmemory-policy", "noeviction")
        await client.aclose()
    await two.two.leads()
    welcomed = await two.agent(two.two, "h1")

    async def welcome() -> bool:
        with contextlib.suppress(AssertionError):
            return bool((await welcomed.connect()).cluster_id)
        return False

    await until(welcome)
    assert refused.reason == "NOT_LEADER"


async def test_a_cut_power_is_judged_by_one(two: Two) -> None:
    """Two managers, one silent host: one order."""
    world = two.world
    agents = [await two.live(two.one, host_id, [vm_report(1)] if host_id == "h1" else []) for host_id in ("h1", "h2", "h3")]
    await world.state("h1", HostState.HEALTHY)
    await world.cut_power(agents[0])
    await world.evacuator.ordered()
    await asyncio.sleep(2 * LEASE_S)

    assert world.probe.verdicts["h1"] is PeerVerdict.TIMEOUT
    assert len(world.evacuator.orders) == 1


async def _refused(call: Any) -> VmhaError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return from_rpc_error(refused.value)
