"""Leases in a real manager: contact by echoed nonces, the proof's way to the evacuator, and safe mode after a lost store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.manager.world import CLUSTER, World, until
from tests.support.agent_client import Agent, vm_id, vm_report
from tests.support.redis import RedisServer
from vmha.manager.contact import Contact, VoterSet
from vmha.manager.heartbeats import HeartbeatDesk, Nonces
from vmha.manager.memory import ClusterMemory
from vmha.manager.sessions import Session
from vmha.model import EvacuationState, HostState, PeerVerdict, ProofKind
from vmha.store.records import ClusterRecord
from vmha.v1 import cluster_service_pb2 as cs
from vmha.v1 import heartbeat_pb2, vm_pb2
from vmha.v1 import manager_service_pb2 as ms

LEASES = {
    "heartbeat_interval": 0.1,
    "request_interval": 0.1,
    "relay_after": 0.3,
    "contact_ttl": 0.8,
    "certificate_window": 0.4,
    "attest_after": 1.3,
    "ack_max_age": 0.3,
    "lease_duration": 2.5,
    "kill_timeout": 0.5,
    "wait_duration": 3.2,
    "round_trip": 0.1,
    "tick": 0.1,
    "destroy": 0.3,
    "watchdog": 0.3,
}


async def leased(world: World, hosts: list[str]) -> dict[str, Agent]:
    """A protected cluster whose agents hold a guard."""
    await world.create(hosts, timers=LEASES)
    agents = {}
    for host in hosts:
        agents[host] = await world.live(host)
        agents[host].self_fencing = True

    async def settled() -> bool:
        records = await world.store.hosts.list(CLUSTER)
        version = (await world.store.clusters.get(CLUSTER)).config_version
        return all(r.config_confirmed == version and r.self_fencing for r in records)

    await until(settled)
    return agents


async def freeze(world: World, agent: Agent) -> None:
    """The host is cut off: nothing comes from it, and its connection is not closed."""
    world.silent.add(agent.host_id)
    world.probe.verdicts[agent.host_id] = PeerVerdict.TIMEOUT
    await agent.fall_silent()


async def test_a_host_that_is_cut_off_is_proven_by_its_lease(world: World) -> None:
    """After T_wait the evacuator gets the order once more, with the proof, and no proof before."""
    agents = await leased(world, ["h1", "h2", "h3"])
    await asyncio.sleep(LEASES["wait_duration"])
    loop = asyncio.get_running_loop()
    cut = loop.time()
    await freeze(world, agents["h1"])
    first = await world.evacuator.ordered()
    second = await world.evacuator.ordered(2)

    assert loop.time() - cut > LEASES["wait_duration"] - LEASES["heartbeat_interval"]
    assert not first.HasField("lease_proof") and first.request_id == second.request_id
    proof = second.lease_proof
    assert (proof.hosts_in_contact, proof.evacuation_quorum) == (2, 2)
    assert proof.silent_for.ToTimedelta().total_seconds() > LEASES["wait_duration"]


async def test_an_agent_that_was_killed_gives_no_proof(world: World) -> None:
    """Its connection is closed by the kernel that outlives it; that is on record for the next manager, too."""
    agents = await leased(world, ["h1", "h2", "h3"])
    await world.cut_power(agents["h1"])

    async def gone() -> bool:
        return (await world.store.hosts.get(CLUSTER, "h1")).agent_gone

    await until(gone)
    await world.evacuator.ordered()
    await asyncio.sleep(LEASES["wait_duration"] + 1.0)
    answer = await world.operator.ExplainHost(cs.ExplainHostRequest(cluster_id=CLUSTER, host_id="h1"))

    assert len(world.evacuator.orders) == 1
    assert answer.explanation.held_reason.startswith("AGENT_DIED_FIRST")


async def test_an_evacuated_host_leaves_the_voters_until_it_registers(world: World) -> None:
    """R18: who is given up is no voter of the next configuration; who comes back is one again."""
    agents = await leased(world, ["h1", "h2", "h3"])
    await world.cut_power(agents["h1"])
    order = await world.evacuator.ordered()
    await world.evacuator.advance(order.request_id, EvacuationState.SUCCEEDED, ProofKind.FENCE)
    await world.state("h1", HostState.EVACUATED)
    smaller = await agents["h2"].next("config", lambda config: list(config.voter_host_ids) == ["h2", "h3"])
    world.give_power("h1")
    await world.live("h1", boot_id="boot-h1-2")
    version = smaller.config.version
    whole = await agents["h2"].next("config", lambda config: config.version > version and len(config.voter_host_ids) == 3)

    assert (smaller.config.certificate_quorum, smaller.config.evacuation_quorum) == (2, 1)
    assert list(whole.config.voter_host_ids) == ["h1", "h2", "h3"]


async def test_watchers_are_drawn_among_those_that_are_there(world: World) -> None:
    """An evacuated host neither watches nor is watched."""
    agents = await leased(world, ["h1", "h2", "h3"])
    await world.cut_power(agents["h1"])
    order = await world.evacuator.ordered()
    await world.evacuator.advance(order.request_id, EvacuationState.SUCCEEDED, ProofKind.FENCE)
    drawn = await agents["h2"].next("assignment", lambda assignment: [p.host_id for p in assignment.peers] == ["h3"])

    assert drawn.assignment.assignment_version


async def test_a_start_that_a_dead_manager_owed_is_told_by_the_next(world: World) -> None:
    """Registered, but not told yet to start what it owns, when its manager was killed: the next one says start_owned."""
    await world.create(["h1", "h2"])
    agent = await world.live("h1", [vm_report(1)])
    await agent.vanish()
    again = world.agent("h1", boot_id="boot-h1-2")
    await again.connect()
    await again.send(registration=ms.AgentRegistration(boot_token="t2"))
    again.incarnation = (await again.next("offer")).offer.incarnation
    await again.heartbeat()

    async def registered() -> bool:
        return (await world.store.hosts.get(CLUSTER, "h1")).incarnation == again.incarnation

    await until(registered)
    await world.kill_manager()
    await world.start_manager()
    later = world.agent("h1", boot_id="boot-h1-2", incarnation=again.incarnation)
    await later.connect()
    await later.inventory([])
    update = (await later.next("ownership")).ownership
    await later.heartbeat()

    async def delivered() -> bool:
        await later.heartbeat()
        return not (await world.store.hosts.get(CLUSTER, "h1")).undelivered

    assert update.start_owned and [vm.vm_id for vm in update.owned] == [vm_id(1)]
    await until(delivered)


# Safe mode


async def test_safe_mode_waits_for_every_host(world: World, redis_server: RedisServer) -> None:
    """A store that came back empty: nothing is confirmed, and nothing started, before each host has said what it runs."""
    agents = await leased(world, ["h1", "h2", "h3"])
    redis_server.stop()
    redis_server.start()

    async def safe() -> bool:
        return CLUSTER in await world.store.clusters.list_ids() and (await _cluster(world)).awaited == ("h1", "h2", "h3")

    await until(safe)
    await world.cut_power(agents["h3"])
    for host in ("h1", "h2"):
        await agents[host].acked(await agents[host].inventory([]))

    async def one_left() -> bool:
        return (await _cluster(world)).awaited == ("h3",)

    await until(one_left)
    await asyncio.sleep(1.0)
    assert world.evacuator.orders == []
    assert ("STORE_LOST", "", True) not in await world.alarms()
    epoch = (await world.store.hosts.get(CLUSTER, "h3")).fence_epoch
    await world.operator.ConfirmHostOff(
        cs.ConfirmHostOffRequest(cluster_id=CLUSTER, host_id="h3", fence_epoch=epoch, operator="anna", comment="looked")
    )

    async def over() -> bool:
        return not (await _cluster(world)).safe_mode and ("STORE_LOST", "", True) in await world.alarms()

    await until(over)
    assert (await world.evacuator.ordered()).host_id == "h3"


async def test_an_agent_that_knows_more_than_the_store_starts_safe_mode(world: World) -> None:
    """R20: the store forgot what agents were told; found out by the first heartbeat, and left when all have reported."""
    agents = await leased(world, ["h1", "h2"])
    before = (await _cluster(world)).store_generation
    agents["h1"].generation = before + 1000

    async def safe() -> bool:
        return (await _cluster(world)).safe_mode

    await until(safe)
    for agent in agents.values():
        await agent.next("inventory_request")
        await agent.acked(await agent.inventory([]))

    async def over() -> bool:
        return not (await _cluster(world)).safe_mode

    await until(over)
    assert (await _cluster(world)).store_generation > before + 1000
    await until(_more_acks(agents["h1"]))
    assert not (await _cluster(world)).safe_mode


async def test_a_domain_whose_claim_was_lost_is_admitted_when_safe_mode_is_over(world: World) -> None:
    """R12, R20: its host is asked again at the end, owns it under a newer epoch, and is told to let it execute."""
    agents = await leased(world, ["h1", "h2"])
    left = vm_report(1, vm_pb2.VmState.VM_STATE_AWAITING_ADMISSION, reason="user")
    left.claim_epoch = 7
    agents["h1"].generation = (await _cluster(world)).store_generation + 1000
    for agent, vms in ((agents["h1"], [left]), (agents["h2"], [vm_report(2)])):
        await agent.next("inventory_request", lambda request: request.reason == "STORE_LOST")
        await agent.acked(await agent.inventory(vms))
        assert not [vm for m in agent.received if m.HasField("ownership") for vm in m.ownership.owned if vm.admit]

    for agent, vms in ((agents["h1"], [left]), (agents["h2"], [vm_report(2)])):
        await agent.next("inventory_request", lambda request: request.reason == "SAFE_MODE_OVER")
        await agent.acked(await agent.inventory(vms))
    updates = [m.ownership for m in agents["h1"].received if m.HasField("ownership")]
    told = updates[-1] if updates else (await agents["h1"].next("ownership")).ownership

    assert [(vm.vm_id, vm.epoch, vm.admit) for vm in told.owned] == [(vm_id(1), 8, True)] and not told.start_owned
    await agents["h1"].acked(await agents["h1"].inventory([vm_report(1, epoch=8)]))
    record = await world.store.vms.get(CLUSTER, vm_id(1))
    assert (record.owner_host_id, record.unadmitted) == ("h1", False)


# The desk


class Life:
    """Counts what the desk says."""

    def __init__(self) -> None:
        self.leads = True
        self.heard_of: list[tuple[str, bool]] = []

    def heard(self, host_id: str, boot_id: str, beat: heartbeat_pb2.Heartbeat, *, relayed: bool) -> None:
        self.heard_of.append((host_id, relayed))

    def leading(self) -> bool:
        return self.leads

    def delivered(self, host_id: str) -> None: ...

    def offer_taken(self, session: Session) -> None: ...


class Ticking:
    now_s = 100.0

    def now(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return self.now_s


@pytest.fixture
async def desk(world: World) -> Any:
    """A desk of its own on what a real cluster looks like."""
    await world.create(["h1", "h2"])
    for host in ("h1", "h2"):
        await world.live(host)
    memory = ClusterMemory.of(await world.store.clusters.snapshot(CLUSTER))
    clock, life, contact, nonces = Ticking(), Life(), Contact(100.0), Nonces("run")
    made = HeartbeatDesk(memory, nonces, life, contact, clock)
    session = Session(CLUSTER, ms.AgentHello(host_id="h1", boot_id="b"))
    session.registered, session.incarnation = True, memory.hosts["h1"].incarnation
    return made, memory, session, contact, life, nonces


def _beat(memory: ClusterMemory, host: str, echo: str = "", incarnation: int = 0) -> heartbeat_pb2.Heartbeat:
    number = incarnation or memory.hosts[host].incarnation
    return heartbeat_pb2.Heartbeat(host_id=host, incarnation=number, sequence=1, echoed_nonce=echo)


def _acks(session: Session) -> list[heartbeat_pb2.HeartbeatAck]:
    acks: list[heartbeat_pb2.HeartbeatAck] = []
    while not session.outbox.empty():
        acks += session.outbox.get_nowait().heartbeat_acks.acks
    return acks


async def test_all_acks_of_a_bundle_go_in_one_message_with_fresh_nonces(desk: Any) -> None:
    """R5, R7: own and carried heartbeats are answered together, each with a nonce of its own."""
    made, memory, session, _, life, _ = desk
    made.take(session, ms.AgentHeartbeat(own=_beat(memory, "h1"), forwarded=[_beat(memory, "h2")]))

    assert session.outbox.qsize() == 1
    acks = _acks(session)
    assert [ack.host_id for ack in acks] == ["h1", "h2"] and acks[0].nonce != acks[1].nonce
    assert life.heard_of == [("h1", False), ("h2", True)]


async def test_who_does_not_lead_acknowledges_nothing(desk: Any) -> None:
    """R19: the lock is looked at after the heartbeat was read and before it is answered."""
    made, memory, session, _, life, _ = desk
    life.leads = False
    made.take(session, ms.AgentHeartbeat(own=_beat(memory, "h1"), forwarded=[_beat(memory, "h2")]))

    assert _acks(session) == [] and life.heard_of == []


async def test_a_revoked_incarnation_is_never_acknowledged(desk: Any) -> None:
    """R17: neither its own heartbeats nor those that peers bring, and its echoes are no contact."""
    made, memory, session, contact, life, _ = desk
    memory.hosts["h1"] = replace(memory.hosts["h1"], incarnation_revoked=True)
    memory.hosts["h2"] = replace(memory.hosts["h2"], incarnation_revoked=True)
    made.take(session, ms.AgentHeartbeat(own=_beat(memory, "h1"), forwarded=[_beat(memory, "h2")]))

    assert _acks(session) == [] and life.heard_of == []
    assert contact.last_heard("h1") is None


@pytest.mark.parametrize("relayed", [False, True])
async def test_only_a_nonce_of_this_run_issued_to_that_registration_is_contact(desk: Any, relayed: bool) -> None:
    """R6: another run's, another host's and an invented one say nothing; the right one does, whoever brings it."""
    made, memory, session, contact, _, _ = desk
    contact.configure({1: VoterSet(voters=frozenset({"h2"}), evacuation_quorum=1, contact_ttl_s=5.0, wait_s=10.0)}, 100.0)
    other = Session(CLUSTER, ms.AgentHello(host_id="h2", boot_id="b"))
    other.registered, other.incarnation = True, memory.hosts["h2"].incarnation

    def say(echo: str) -> int:
        if relayed:
            made.take(session, ms.AgentHeartbeat(own=_beat(memory, "h1"), forwarded=[_beat(memory, "h2", echo)]))
        else:
            made.take(other, ms.AgentHeartbeat(own=_beat(memory, "h2", echo)))
        return int(contact.in_contact(1))

    made.take(session, ms.AgentHeartbeat(own=_beat(memory, "h1")))
    [foreign] = _acks(session)
    assert [say(""), say("elsewhere-1"), say("run-9999"), say(foreign.nonce)] == [0, 0, 0, 0]
    mine = [ack.nonce for ack in _acks(session) + _acks(other) if ack.host_id == "h2"][-1]
    assert say(mine) == 1


def _more_acks(agent: Agent) -> Callable[[], Awaitable[bool]]:
    count = len(agent.acks) + 3

    async def more() -> bool:
        return len(agent.acks) >= count

    return more


async def _cluster(world: World) -> ClusterRecord:
    return await world.store.clusters.get(CLUSTER)
