"""A host's failure from silence to settled, and every way in which it is none: with a real store and a scripted evacuator."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from tests.manager.world import CLUSTER, World, until
from tests.support.agent_client import Agent, vm_id, vm_report
from tests.support.failures import running
from tests.support.redis import RedisServer
from vmha.errors import PreconditionFailed, Unavailable, VmhaError
from vmha.manager import metrics
from vmha.model import EvacuationState, HostState, PeerVerdict, ProofKind
from vmha.rpc.errors import from_rpc_error
from vmha.store.hosts import Hosts
from vmha.store.incidents import Incidents
from vmha.store.records import HostRecord, Incident, VmEntry
from vmha.v1 import cluster_service_pb2 as cs

FAILED = {"DOWN", "FENCING", "FENCED", "EVACUATING", "EVACUATED"}


@pytest.fixture
async def agents(world: World) -> dict[str, Agent]:
    """Three healthy hosts; h1 runs two VMs."""
    await world.create(["h1", "h2", "h3"])
    found = {"h1": await world.live("h1", [vm_report(1), vm_report(2)])}
    for host_id in ("h2", "h3"):
        found[host_id] = await world.live(host_id)
    for host_id in found:
        await world.state(host_id, HostState.HEALTHY)
    return found


async def test_power_loss_leads_to_one_order_and_ends_evacuated(world: World, agents: dict[str, Agent]) -> None:
    """S5-S7: silence, cooldown, confirmation, one order with the incident's id and epoch; every state on the way is shown."""
    await world.cut_power(agents["h1"])
    order = await world.evacuator.ordered()
    host = await world.host("h1")
    await world.state("h1", HostState.FENCING)
    await world.evacuator.advance(order.request_id, EvacuationState.RUNNING, ProofKind.FENCE)
    await world.state("h1", HostState.EVACUATING)
    await world.evacuator.advance(order.request_id, EvacuationState.SUCCEEDED, ProofKind.FENCE)
    await world.state("h1", HostState.EVACUATED)

    assert (order.host_id, order.cluster_id, order.fence_epoch) == ("h1", CLUSTER, host.fence_epoch)
    assert order.request_id == host.incident_id
    assert (await world.states_of("h1"))[-6:] == ["COOLDOWN", "DOWN", "FENCING", "FENCED", "EVACUATING", "EVACUATED"]
    assert len(world.evacuator.orders) == 1

    async def closed() -> bool:
        return await world.store.incidents.open(CLUSTER) == []

    await until(closed)


async def test_confirmed_host_gets_no_ack_for_its_old_incarnation(world: World, agents: dict[str, Agent]) -> None:
    """R17: once confirmed, a heartbeat of the revoked incarnation is answered with revoked, never with an ack."""
    await world.cut_power(agents["h1"])
    await world.evacuator.ordered()
    zombie = world.agent("h1", boot_id=agents["h1"].boot_id, incarnation=agents["h1"].incarnation)
    welcome = await zombie.connect()
    await zombie.heartbeat()

    revoked = (await zombie.next("revoked")).revoked

    assert welcome.registration_required
    assert (revoked.incarnation, zombie.acks) == (zombie.incarnation, [])


async def test_return_within_the_cooldown_clears_it(world: World) -> None:
    """S6: a host that is back before the cooldown ends is not evacuated."""
    await world.create(["h1", "h2", "h3"], timers={"cooldown": 3.0})
    agent = await world.live("h1", [vm_report(1)])
    for host_id in ("h2", "h3"):
        await world.live(host_id)
    await world.state("h1", HostState.HEALTHY)
    await world.cut_power(agent)
    await world.state("h1", HostState.COOLDOWN)
    world.give_power("h1")
    reborn = await world.live("h1", boot_id="boot-h1-2")
    await world.state("h1", HostState.HEALTHY)

    assert reborn.incarnation > agent.incarnation
    assert not FAILED & set(await world.states_of("h1"))
    assert await world.store.incidents.suspects(CLUSTER) == []
    assert world.evacuator.orders == []


@pytest.mark.parametrize("verdict", [PeerVerdict.OK, PeerVerdict.REFUSED, PeerVerdict.DEGRADED])
async def test_a_host_that_the_manager_reaches_is_not_down(world: World, agents: dict[str, Agent], verdict: PeerVerdict) -> None:
    """A silent agent on a host whose kernel answers the manager's own probe is AGENT_LOST, and never evacuated."""
    await agents["h1"].vanish()
    world.silent.add("h1")
    world.probe.verdicts["h1"] = verdict
    await world.state("h1", HostState.AGENT_LOST)

    assert not FAILED & set(await world.states_of("h1"))


async def test_return_before_the_proof_cancels_the_evacuation(world: World, agents: dict[str, Agent]) -> None:
    """Decision 002: while the death is not proven a registration cancels the evacuation, and the host keeps what it owns."""
    await world.cut_power(agents["h1"])
    order = await world.evacuator.ordered()
    await world.evacuator.advance(order.request_id, EvacuationState.FENCE_PENDING)
    await world.state("h1", HostState.FENCE_PENDING)
    world.give_power("h1")
    reborn = world.agent("h1", boot_id="boot-h1-2")
    await reborn.connect()
    update = await reborn.register([])
    cancel = await world.evacuator.cancelled()
    world.settle(reborn)
    await world.state("h1", HostState.HEALTHY)

    assert cancel.evacuation_id == order.request_id
    assert (update.start_owned, {owned.vm_id for owned in update.owned}) == (True, {vm_id(1), vm_id(2)})
    assert not {"FENCED", "EVACUATING", "EVACUATED"} & set(await world.states_of("h1"))
    alarms = [alarm for alarm in await world.alarms() if alarm[0] == "FENCE_PENDING"]
    assert alarms == [("FENCE_PENDING", "h1", False), ("FENCE_PENDING", "h1", True)]


async def test_return_after_the_proof_waits_and_gets_nothing_back(world: World, agents: dict[str, Agent]) -> None:
    """S8: a proven host registers only when its evacuation rests; what was moved is released, the rest is its own again."""
    await world.cut_power(agents["h1"])
    order = await world.evacuator.ordered()
    await world.evacuator.advance(order.request_id, EvacuationState.RUNNING, ProofKind.FENCE)
    await world.state("h1", HostState.EVACUATING)
    world.give_power("h1")
    reborn = world.agent("h1", boot_id="boot-h1-2")
    await reborn.connect()
    registering = asyncio.create_task(reborn.register([vm_report(1), vm_report(2)]))
    await _claim(world, order.request_id, vm_id(1), agents["h2"])
    assert not registering.done()
    await world.evacuator.advance(order.request_id, EvacuationState.PENDING, ProofKind.FENCE)
    update = await registering
    world.settle(reborn)

    assert {owned.vm_id for owned in update.owned} == {vm_id(2)}
    assert [(r.vm_id, r.owner_host_id) for r in update.releases] == [(vm_id(1), "h2")]
    await world.evacuator.advance(order.request_id, EvacuationState.SUCCEEDED, ProofKind.FENCE)
    await world.state("h1", HostState.HEALTHY)
    assert (await world.store.vms.get(CLUSTER, vm_id(1))).owner_host_id == "h2"


async def test_manager_killed_in_the_cooldown_goes_on(world: World) -> None:
    """A suspicion outlives the manager: its successor confirms the same host, and orders once."""
    await world.create(["h1", "h2", "h3"], timers={"cooldown": 1.5})
    dead = await world.live("h1", [vm_report(1)])
    others = [await world.live(host_id) for host_id in ("h2", "h3")]
    await world.state("h1", HostState.HEALTHY)
    await world.cut_power(dead)
    await world.state("h1", HostState.COOLDOWN)
    await world.kill_manager()
    [suspect] = await world.store.incidents.suspects(CLUSTER)
    await world.start_manager()
    for agent in others:
        await agent.vanish()
        fresh = world.agent(agent.host_id, boot_id=agent.boot_id, incarnation=agent.incarnation)
        welcome = await fresh.connect()
        assert not welcome.registration_required
        world.settle(fresh)
    order = await world.evacuator.ordered()

    assert (suspect.host_id, order.host_id) == ("h1", "h1")
    assert "COOLDOWN" in await world.states_of("h1")


async def test_manager_killed_during_an_evacuation_joins_it_again(world: World, agents: dict[str, Agent]) -> None:
    """B7: the successor resumes open incidents by their request_id."""
    await world.cut_power(agents["h1"])
    first = await world.evacuator.ordered()
    await world.kill_manager()
    await world.start_manager()
    again = await world.evacuator.ordered(2)
    await world.evacuator.advance(first.request_id, EvacuationState.SUCCEEDED, ProofKind.FENCE)
    await world.state("h1", HostState.EVACUATED)

    assert (again.request_id, again.fence_epoch) == (first.request_id, first.fence_epoch)


async def test_evacuator_that_is_away_gets_the_order_when_it_is_back(world: World, agents: dict[str, Agent]) -> None:
    """S7: at least once, whatever the evacuator's process does."""
    await world.evacuator.stop()
    await world.cut_power(agents["h1"])
    await world.state("h1", HostState.DOWN)
    await world.evacuator.start(world.evacuator.target)

    assert (await world.evacuator.ordered()).host_id == "h1"


async def test_redis_outage_stops_decisions_but_no_heartbeats(
    world: World, agents: dict[str, Agent], redis_server: RedisServer
) -> None:
    """While Redis is away heartbeats are acknowledged and nothing is confirmed; back and empty, what was configured returns."""
    before = await world.store.clusters.get(CLUSTER)
    redis_server.stop()
    acks = len(agents["h2"].acks)
    await world.cut_power(agents["h1"])
    await until(_more_acks(agents["h2"], acks + 20))
    assert world.evacuator.orders == []
    told = max(ack.store_generation for agent in agents.values() for ack in agent.acks)
    redis_server.start()

    async def restored() -> bool:
        return CLUSTER in await world.store.clusters.list_ids()

    await until(restored)
    after = await world.store.clusters.get(CLUSTER)
    hosts = await world.store.hosts.list(CLUSTER)
    assert (after.config, after.ha_enabled) == (before.config, True)
    assert after.store_generation > told  # acks that come from now on may name the new one
    assert [host.host_id for host in hosts] == ["h1", "h2", "h3"]
    assert {host.incarnation for host in hosts} == {agent.incarnation for agent in agents.values()}
    await agents["h2"].next("inventory_request", lambda request: request.reason == "STORE_LOST")
    await agents["h2"].acked(await agents["h2"].inventory([vm_report(7)]))
    assert [record.vm_id for record in await world.store.vms.list(CLUSTER, "h2")] == [vm_id(7)]

    async def alarmed() -> bool:
        return ("STORE_LOST", "", False) in await world.alarms()

    await until(alarmed)
    await until(_more_acks(agents["h2"], len(agents["h2"].acks) + 5))


async def test_session_opened_in_an_outage_resumes(world: World, agents: dict[str, Agent], redis_server: RedisServer) -> None:
    """A known agent that reconnects while Redis is away is welcomed, resumes and is acknowledged: its host must not seem dead."""
    agent = agents["h2"]
    redis_server.stop()
    await agent.vanish()
    again = world.agent("h2", boot_id=agent.boot_id, incarnation=agent.incarnation)
    welcome = await again.connect()
    world.settle(again)
    await until(_more_acks(again, 10))
    redis_server.start()

    assert not welcome.registration_required
    assert again.error is None


async def test_a_confirmation_without_answer_is_never_contradicted(
    world: World, agents: dict[str, Agent], redis_server: RedisServer
) -> None:
    """R17: Redis hangs while a failure is confirmed and the host comes back: it gets acks or there is an incident, never both."""
    dead = agents["h1"]
    await world.cut_power(dead)
    await world.state("h1", HostState.SUSPECT, HostState.COOLDOWN)
    os.kill(redis_server.pid, signal.SIGSTOP)
    try:
        back = world.agent("h1", boot_id=dead.boot_id, incarnation=dead.incarnation)
        # The confirmation is asked for about now, and gets no answer for a second.
        await until(_more_acks(agents["h2"], len(agents["h2"].acks) + 10))
        await back.connect()
        back.keep_beating()
        await until(_more_acks(agents["h2"], len(agents["h2"].acks) + 20))
    finally:
        os.kill(redis_server.pid, signal.SIGCONT)

    async def decided() -> bool:
        return bool(back.acks) or any(m.WhichOneof("payload") == "revoked" for m in back.received)

    await until(decided)
    await until(_more_acks(agents["h2"], len(agents["h2"].acks) + 20))
    incidents = await world.store.incidents.open(CLUSTER)
    assert bool(back.acks) != bool(incidents)


async def test_inventory_of_an_outage_is_stored_afterwards(
    world: World, agents: dict[str, Agent], redis_server: RedisServer
) -> None:
    """An inventory that came while Redis was away is not acknowledged before it is stored."""
    redis_server.stop()
    sequence = await agents["h2"].inventory([vm_report(7)])
    await until(_more_acks(agents["h2"], len(agents["h2"].acks) + 5))
    assert [
        m for m in agents["h2"].received if m.WhichOneof("payload") == "report_ack" and m.report_ack.sequence == sequence
    ] == []
    redis_server.start()
    await agents["h2"].acked(sequence)

    assert [record.vm_id for record in await world.store.vms.list(CLUSTER, "h2")] == [vm_id(7)]


async def test_operator_confirms_a_host_that_nobody_can_judge(world: World) -> None:
    """The operator's word makes the incident at once; while the agent is heard it is refused (HOST_ALIVE)."""
    await world.create(["h1", "h2"], timers={"cooldown": 60.0})
    agent = await world.live("h1", [vm_report(1)])
    await world.live("h2")
    await world.state("h1", HostState.HEALTHY)
    request = cs.ConfirmHostOffRequest(cluster_id=CLUSTER, host_id="h1", operator="alice", fence_epoch=0)
    refused = await _refused(world.operator.ConfirmHostOff(request))
    await world.cut_power(agent)
    await until(_without_agent(world, "h1"))
    await world.operator.ConfirmHostOff(request)
    order = await world.evacuator.ordered()

    assert (refused.reason, isinstance(refused, PreconditionFailed)) == ("HOST_ALIVE", True)
    assert order.host_id == "h1"
    acts = [e for e in await world.store.events.read(CLUSTER, 0) if e.kind == "operator_act" and e.actor == "alice"]
    assert [act.detail["refused_reason"] for act in acts] == ["HOST_ALIVE", ""]


async def test_a_host_that_speaks_while_it_is_called_off_is_not_off(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its heartbeat was acknowledged: the word is refused, and nothing of it stays on record."""
    await world.create(["h1", "h2"], timers={"cooldown": 60.0})
    quiet = await world.live("h1", [vm_report(1)])
    await world.live("h2")
    await world.state("h1", HostState.HEALTHY)
    await quiet.vanish()
    await until(_without_agent(world, "h1"))
    confirm_off = Hosts.confirm_off
    back = world.agent("h1", boot_id=quiet.boot_id, incarnation=quiet.incarnation)

    async def meanwhile(self: Hosts, *arguments: Any) -> HostRecord:
        record = await confirm_off(self, *arguments)
        await back.connect()
        world.settle(back)
        await until(_more_acks(back, 1))
        return record

    monkeypatch.setattr(Hosts, "confirm_off", meanwhile)
    before = metrics.CORE_ERRORS.labels(CLUSTER)._value.get()
    word = cs.ConfirmHostOffRequest(cluster_id=CLUSTER, host_id="h1", operator="alice", fence_epoch=0)
    refused = await _refused(world.operator.ConfirmHostOff(word))

    assert refused.reason == "HOST_ALIVE"
    assert (await world.store.hosts.get(CLUSTER, "h1")).confirmed_off_by == ""
    assert metrics.CORE_ERRORS.labels(CLUSTER)._value.get() == before


async def test_an_operators_word_that_redis_reads_late_is_known_to_the_leader(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R17: the word is carried out when Redis answers again; a question that was left behind makes no second incident."""
    await world.create(["h1", "h2"], timers={"cooldown": 60.0})
    dead = await world.live("h1", [vm_report(1)])
    await world.live("h2")
    await world.state("h1", HostState.HEALTHY)
    await world.cut_power(dead)
    await until(_without_agent(world, "h1"))
    confirm, late = Incidents.confirm, list[Awaitable[Incident | None]]()

    async def unanswered(self: Incidents, *arguments: str, **more: Any) -> Incident | None:
        if late:
            return await confirm(self, *arguments, **more)
        late.append(confirm(self, *arguments, **more))
        raise Unavailable("STORE_UNAVAILABLE", "Redis does not answer.")

    monkeypatch.setattr(Incidents, "confirm", unanswered)
    word = cs.ConfirmHostOffRequest(cluster_id=CLUSTER, host_id="h1", operator="alice", fence_epoch=0)
    await world.operator.ConfirmHostOff(word)
    order = await world.evacuator.ordered()
    world.give_power("h1")
    back = world.agent("h1", boot_id=dead.boot_id)
    await back.connect()
    await back.register([vm_report(1)])
    await world.evacuator.cancelled()
    world.settle(back)
    await world.state("h1", HostState.HEALTHY)

    assert order.host_id == "h1"
    assert await late[0] is None
    assert await world.store.incidents.open(CLUSTER) == []


async def test_b05_explain_shows_votes_and_history(world: World, agents: dict[str, Agent]) -> None:
    """B5: who saw what how long ago, the quorum, the manager's own probe, and how it came to this."""
    await world.cut_power(agents["h1"])
    await world.evacuator.ordered()
    await world.state("h1", HostState.FENCING)
    answer = await world.operator.ExplainHost(cs.ExplainHostRequest(cluster_id=CLUSTER, host_id="h1"))
    explanation = answer.explanation

    assert {vote.reporter_host_id for vote in explanation.votes} == {"h2", "h3"}
    assert explanation.quorum == 2
    assert explanation.manager_probe.verdict == 3
    assert explanation.silent_since.seconds > 0
    assert any("COOLDOWN -> DOWN" in line for line in explanation.history)
    vm = await world.operator.ExplainVm(cs.ExplainVmRequest(cluster_id=CLUSTER, vm_id=vm_id(1)))
    assert vm.explanation.summary.startswith("h1 owns it")


async def test_two_running_copies_are_an_alarm(world: World, agents: dict[str, Agent]) -> None:
    """DUPLICATE_VM when it lasts; a live migration's moment is none."""
    await agents["h2"].acked(await agents["h2"].inventory([vm_report(1)], full=False))

    async def alarmed() -> bool:
        return ("DUPLICATE_VM", "h2", False) in await world.alarms()

    await until(alarmed)
    await agents["h2"].acked(await agents["h2"].inventory([]))

    async def over() -> bool:
        return ("DUPLICATE_VM", "h2", True) in await world.alarms()

    await until(over)


async def _claim(world: World, evacuation_id: str, vm: str, target: Agent) -> None:
    """What the evacuator does: the target owns the VM."""
    store, record = world.store, await world.store.vms.get(CLUSTER, vm)
    host = await store.hosts.get(CLUSTER, record.owner_host_id)
    await store.evacuations.start(CLUSTER, evacuation_id, host.host_id, host.fence_epoch, record.owner_incarnation)
    assert await store.evacuations.acquire(CLUSTER, evacuation_id, "test", 60)
    await store.evacuations.advance(CLUSTER, evacuation_id, "test", EvacuationState.PLANNING, proof=ProofKind.FENCE)
    entry = VmEntry(
        vm_id=vm,
        vm_name=running(vm).name,
        target_host_id=target.host_id,
        target_incarnation=target.incarnation,
        source_epoch=record.epoch,
    )
    await store.evacuations.plan(CLUSTER, evacuation_id, "test", [entry])
    await store.evacuations.claim(CLUSTER, evacuation_id, "test", entry, host.host_id, record.owner_incarnation)


def _without_agent(world: World, host_id: str) -> Callable[[], Awaitable[bool]]:
    async def missing() -> bool:
        answer = await world.operator.GetCluster(cs.GetClusterRequest(cluster_id=CLUSTER))
        return host_id in answer.cluster.hosts_without_agent

    return missing


def _more_acks(agent: Agent, count: int) -> Callable[[], Awaitable[bool]]:
    async def fact() -> bool:
        return len(agent.acks) >= count

    return fact


async def _refused(call: Awaitable[object]) -> VmhaError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return from_rpc_error(refused.value)
