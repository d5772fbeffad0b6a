"""The agent's session: its protocol, what is refused, heartbeats, registration."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import pytest

from tests.manager.world import CLUSTER, World, host_config, until
from tests.support.agent_client import SHUTOFF, Agent, vm_id, vm_report
from tests.support.refusals import refused
from vmha.errors import Exhausted, InvalidField
from vmha.manager.sessions import OUTBOX, Session
from vmha.model import HostState, PeerVerdict
from vmha.rpc.errors import from_rpc_error
from vmha.rpc.scalars import duration
from vmha.v1 import cluster_service_pb2 as cs
from vmha.v1 import heartbeat_pb2, host_pb2, vm_pb2
from vmha.v1 import manager_service_pb2 as ms


@pytest.fixture
async def cluster(world: World) -> World:
    """Three hosts, protected; nobody is connected."""
    await world.create(["h1", "h2", "h3"])
    return world


async def test_first_message_must_be_hello(cluster: World) -> None:
    """Anything before hello ends the session with HELLO_EXPECTED."""
    agent = cluster.agent("h1", incarnation=1)
    await agent.open()
    await agent.heartbeat()

    error = await agent.ended()

    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "HELLO_EXPECTED")


async def test_hello_twice(cluster: World) -> None:
    """A second hello in one session ends it with HELLO_REPEATED."""
    agent = cluster.agent("h1")
    await agent.connect()
    await agent.send(hello=agent.hello_message())

    error = await agent.ended()

    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "HELLO_REPEATED")


async def test_unknown_host(cluster: World) -> None:
    """A host that no cluster has is NOT_FOUND, in the session and in GetPeers."""
    agent = cluster.agent("stranger")
    await agent.open()
    await agent.send(hello=agent.hello_message())

    error = await agent.ended()

    assert (error.code, error.reason, error.metadata["host_id"]) == ("NOT_FOUND", "HOST_UNKNOWN", "stranger")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await cluster.manager.GetPeers(ms.GetPeersRequest(host_id="stranger"))
    assert from_rpc_error(refused.value).reason == "HOST_UNKNOWN"


async def test_hello_names_all_wrong_fields(cluster: World) -> None:
    """A hello with two mistakes is refused with both."""
    agent = cluster.agent("h1")
    await agent.open()
    await agent.send(hello=ms.AgentHello(host_id="h1"))

    error = await agent.ended()

    assert isinstance(error, InvalidField)
    assert {v.field for v in error.violations} == {"hello.boot_id", "hello.agent_instance_id"}


async def test_newer_hello_supersedes_the_older_session(cluster: World) -> None:
    """The older session ends with SESSION_SUPERSEDED, the newer one works."""
    older, newer = cluster.agent("h1"), cluster.agent("h1")
    await older.connect()
    await newer.connect()

    error = await older.ended()
    await newer.register()
    await newer.heartbeat()

    assert (error.code, error.reason) == ("ABORTED", "SESSION_SUPERSEDED")
    await until(_has_acks(newer, 2))


async def test_welcome_tells_what_to_do(cluster: World) -> None:
    """Welcome carries the cluster, peers, intervals and the safety configuration of all members."""
    welcome = await cluster.agent("h1").connect()

    assert (welcome.cluster_id, welcome.manager_id, welcome.registration_required) == (CLUSTER, "m1", True)
    assert sorted(peer.host_id for peer in welcome.assignment.peers) == ["h2", "h3"]
    assert welcome.assignment.heartbeat_interval == duration(0.05)
    assert [peer.host_id for peer in welcome.config.members] == ["h1", "h2", "h3"]
    assert welcome.config.self_fencing
    assert welcome.config.timers.wait_duration == duration(150)


async def test_who_registered_votes(cluster: World) -> None:
    """Each registration makes a newer configuration, whose voters are those that may speak; agents are sent it (R18)."""
    agents = [await cluster.live(host) for host in ("h1", "h2", "h3")]
    config = (await agents[0].next("config", lambda config: len(config.voter_host_ids) == 3)).config

    assert list(config.voter_host_ids) == ["h1", "h2", "h3"] and config.protection_enabled
    assert (config.certificate_quorum, config.evacuation_quorum) == (2, 2)
    assert config.version == (await cluster.store.clusters.get(CLUSTER)).config_version
    assert (await cluster.store.hosts.get(CLUSTER, "h1")).config_sent == config.version


async def test_a_confirmed_configuration_is_on_record(cluster: World) -> None:
    """What a heartbeat says that its host holds becomes durable: no older one need be reckoned with any more."""
    agent = await cluster.live("h1")
    version = (await agent.next("config", lambda config: list(config.voter_host_ids) == ["h1"])).config.version
    await agent.heartbeat(config_version=version)
    await agent.heartbeat(config_version=version + 7)

    async def confirmed() -> bool:
        return (await cluster.store.hosts.get(CLUSTER, "h1")).config_confirmed == version

    await until(confirmed)


async def test_get_peers_names_the_same_round(cluster: World) -> None:
    """GetPeers, for clients without a session, names the same peers and drawing as the session's assignment."""
    welcome = await cluster.agent("h1").connect()
    answer = await cluster.manager.GetPeers(ms.GetPeersRequest(host_id="h1"))

    assert answer.assignment_version == welcome.assignment.assignment_version
    assert answer.peers == welcome.assignment.peers


async def test_report_about_a_foreign_host(cluster: World) -> None:
    """A report that names a host of another cluster ends the session, and says which field."""
    await cluster.create(["x1"], enable=False, cluster_id="c2")
    agent = await _registered(cluster, "h1")
    await agent.report({"h2": PeerVerdict.OK, "x1": PeerVerdict.TIMEOUT})

    error = await agent.ended()

    assert isinstance(error, InvalidField)
    assert (error.reason, error.violations[0].field) == ("FOREIGN_HOST", "report.observations[1].host_id")


async def test_oversized_report(cluster: World) -> None:
    """A message above 1 MiB ends the session with MESSAGE_TOO_LARGE and its size."""
    agent = await _registered(cluster, "h1")
    await agent.send(report=ms.HealthReport(sequence=2, assignment_version="x" * 1_100_000))

    error = await agent.ended()

    assert (error.code, error.reason, error.metadata["limit"]) == ("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE", "1048576")


async def test_malformed_domain_xml(cluster: World) -> None:
    """An inventory with broken XML ends the session and names the VM's place."""
    agent = await _registered(cluster, "h1")
    broken = vm_report(2)
    broken.domain_xml = "<domain><uuid>"
    await agent.inventory([vm_report(1), broken])

    error = await agent.ended()

    assert isinstance(error, InvalidField)
    assert (error.reason, error.violations[0].field) == ("DOMAIN_XML_MALFORMED", "inventory.vms[1].domain_xml")
    assert await cluster.store.vms.list(CLUSTER) == []


async def test_absurd_durations_are_refused_by_name(cluster: World) -> None:
    """A negative age is no age."""
    agent = await _registered(cluster, "h1")
    seen = ms.PeerObservation(host_id="h2", verdict=host_pb2.PeerVerdict.PEER_VERDICT_OK, consecutive_count=1, age=duration(-5.0))
    await agent.send(report=ms.HealthReport(sequence=5, observations=[seen]))

    error = await agent.ended()

    assert isinstance(error, InvalidField)
    assert error.violations[0].field == "report.observations[0].age"


async def test_empty_message_is_refused(cluster: World) -> None:
    """A message with no payload set is FIELD_INVALID."""
    agent = await _registered(cluster, "h1")
    await agent.send()

    assert (await agent.ended()).reason == "FIELD_INVALID"


async def test_heartbeat_of_another_host_is_refused(cluster: World) -> None:
    """An agent speaks for its own host only."""
    agent = await _registered(cluster, "h1")
    await agent.send(heartbeat=ms.AgentHeartbeat(own=heartbeat_pb2.Heartbeat(host_id="h2", incarnation=1, sequence=1)))

    assert (await agent.ended()).reason == "FOREIGN_HOST"


async def test_heartbeats_are_acknowledged_with_fresh_nonces(cluster: World) -> None:
    """Each heartbeat gets its own ack: same sequence, a nonce never seen before, config version and store generation."""
    agent = await _registered(cluster, "h1")
    for _ in range(3):
        await agent.heartbeat()
    await until(_has_acks(agent, 4))

    assert [ack.sequence for ack in agent.acks] == [1, 2, 3, 4]
    assert len({ack.nonce for ack in agent.acks}) == 4
    assert {ack.incarnation for ack in agent.acks} == {agent.incarnation}
    assert agent.acks[-1].config_version > 0


async def test_heartbeat_of_an_incarnation_not_in_force_is_answered_with_revoked(cluster: World) -> None:
    """It gets no ack, and the agent learns that it has to register."""
    agent = cluster.agent("h1", incarnation=12345)
    welcome = await agent.connect()
    await agent.heartbeat()

    revoked = (await agent.next("revoked")).revoked

    assert welcome.registration_required
    assert (revoked.incarnation, agent.acks) == (12345, [])


async def test_resent_report_is_acknowledged_again(cluster: World) -> None:
    """A sequence that is stored already gets its ack again, also in a later session of the same agent process."""
    agent = await _registered(cluster, "h1")
    sequence = await agent.inventory([vm_report(1)])
    await agent.acked(sequence)
    await agent.vanish()

    welcome = await agent.connect()
    agent.sequence = sequence - 1
    await agent.inventory([vm_report(2)])
    await agent.acked(sequence)

    assert welcome.last_stored_sequence == sequence
    assert [record.vm_id for record in await cluster.store.vms.list(CLUSTER)] == [vm_id(1)]


async def test_session_resumes_with_its_incarnation(cluster: World) -> None:
    """An agent that holds the incarnation in force need not register again, and is told nothing to start or destroy."""
    agent = await _registered(cluster, "h1", [vm_report(1), vm_report(2, SHUTOFF)])
    await agent.heartbeat()
    await until(_has_acks(agent, 2))
    await agent.heartbeat()
    await until(_has_acks(agent, 3))
    await agent.vanish()

    welcome = await agent.connect()
    await agent.heartbeat()
    await until(_has_acks(agent, 4))
    await agent.inventory([vm_report(1), vm_report(2, SHUTOFF)])
    update = (await agent.next("ownership")).ownership

    assert not welcome.registration_required
    assert (update.start_owned, list(update.releases)) == (False, [])


async def test_registration_makes_the_host_owner_of_what_it_has(cluster: World) -> None:
    """After registration the inventory is adopted, and the agent is told its epochs; its own XML is not sent back."""
    agent = cluster.agent("h1")
    await agent.connect()
    update = await agent.register([vm_report(1), vm_report(2, SHUTOFF)])

    assert update.start_owned
    assert {owned.vm_id: owned.domain_xml for owned in update.owned} == {vm_id(1): "", vm_id(2): ""}
    records = {record.vm_id: record for record in await cluster.store.vms.list(CLUSTER)}
    assert {record.owner_host_id for record in records.values()} == {"h1"}
    assert all(records[owned.vm_id].epoch == owned.epoch for owned in update.owned)
    assert (await cluster.store.hosts.get(CLUSTER, "h1")).facts is not None


async def test_registration_that_was_not_told_is_told_in_the_next_session(cluster: World) -> None:
    """An agent that was cut off before it showed that it got the ownership update gets it again, with its order to start."""
    agent = cluster.agent("h1")
    await agent.connect()
    await agent.register([vm_report(1)])
    await agent.vanish()

    welcome = await agent.connect()
    request = await agent.next("inventory_request")
    await agent.inventory([vm_report(1)])
    update = (await agent.next("ownership")).ownership

    assert not welcome.registration_required
    assert request.inventory_request.reason == "SESSION_RESUMED"
    assert update.start_owned


async def test_quick_reboot_gets_its_guests_started_where_they_were(cluster: World) -> None:
    """S6: a host that returns before it was confirmed down registers anew, owns what it owned, and is told to start it."""
    agent = await _registered(cluster, "h1", [vm_report(1)])
    await agent.vanish()
    reborn = cluster.agent("h1", boot_id="boot-h1-2")
    await reborn.connect()

    update = await reborn.register([])

    assert reborn.incarnation > agent.incarnation
    assert update.start_owned
    assert [(o.vm_id, bool(o.domain_xml)) for o in update.owned] == [(vm_id(1), True)]
    assert list(update.releases) == []


async def test_live_migration_moves_ownership_and_destroys_nothing(cluster: World) -> None:
    """The target reports the VM before the source says that it left; the target owns it then, and is told to release nothing."""
    source = await _registered(cluster, "h1", [vm_report(1)])
    target = await _registered(cluster, "h2")
    await target.acked(await target.inventory([vm_report(1)], full=False))
    await source.acked(await source.inventory([vm_report(1, SHUTOFF, reason="migrated", xml=False)], full=False))

    async def moved() -> bool:
        return (await cluster.store.vms.get(CLUSTER, vm_id(1))).owner_host_id == "h2"

    await until(moved)
    assert [m for m in target.received if m.WhichOneof("payload") == "ownership" and m.ownership.releases] == []


async def test_agent_that_lost_its_state_releases_no_running_guest(cluster: World) -> None:
    """In a boot that was never given up a foreign guest that runs came by a migration: registering does not destroy it."""
    await _registered(cluster, "h1", [vm_report(1)])
    target = await _registered(cluster, "h2")
    await target.vanish()
    amnesiac = cluster.agent("h2")
    await amnesiac.connect()

    update = await amnesiac.register([vm_report(1), vm_report(3)])

    assert list(update.releases) == []


async def test_r22_a_whole_inventory_takes_back_what_came_in_and_went(cluster: World) -> None:
    """No word of its end came, as when libvirt dropped it while nobody listened: the next whole inventory does not name it."""
    await _registered(cluster, "h1", [vm_report(1)])
    target = await _registered(cluster, "h2", [vm_report(2)])
    incoming = vm_report(1, vm_pb2.VM_STATE_PAUSED, reason="migration")
    await target.acked(await target.inventory([incoming], full=False))
    before = await cluster.store.vms.get(CLUSTER, vm_id(1))

    await target.acked(await target.inventory([vm_report(2)]))

    assert before.seen_on == "h2"
    assert (await cluster.store.vms.get(CLUSTER, vm_id(1))).seen_on == ""


@pytest.mark.parametrize(("found", "goes"), [(vm_pb2.VM_STATE_RUNNING, False), (SHUTOFF, True)])
async def test_r22_a_host_that_was_given_up_keeps_what_runs_there_for_a_drain(
    cluster: World, found: vm_pb2.VmState, goes: bool
) -> None:
    """Whatever another owns must go from it, but a VM that a drain brings and that executes: nobody else may start that one."""
    await _registered(cluster, "h1", [vm_report(1), vm_report(2)])
    target = await _registered(cluster, "h2")
    store, drain_id = cluster.store, "11111111-1111-4111-8111-111111111111"

    async def holds_the_newest_configuration() -> bool:
        version = (await store.clusters.get(CLUSTER)).config_version
        await target.heartbeat(config_version=version)
        return (await store.hosts.get(CLUSTER, "h2")).config_confirmed == version

    await until(holds_the_newest_configuration)
    await store.hosts.drain(CLUSTER, "h1", drain_id, False, None)
    assert await store.evacuations.acquire(CLUSTER, drain_id, "runner", 30.0)
    vm = await store.vms.get(CLUSTER, vm_id(1))
    await store.vm_locks.take(CLUSTER, drain_id, "runner", vm, 30.0, "h2", target.incarnation)
    await target.vanish()
    # To the manager like a host that was given up: what it has is not of the registration before.
    back = cluster.agent("h2", boot_id="boot-h2-2")
    await back.connect()

    update = await back.register([vm_report(1, found), vm_report(2)])

    assert sorted(gone.vm_id for gone in update.releases) == [vm_id(1), vm_id(2)][not goes :]


@pytest.mark.parametrize("boots", [False, True])
async def test_r22_a_host_that_rebooted_in_a_migration_is_told_to_start_the_vm_when_nobody_else_has_it(
    cluster: World, boots: bool
) -> None:
    """Registering starts nothing that another host may have; when that one has nothing of it any more its own host is told.

    A host that has booted has nothing of it even where it lists no VM at all.
    """
    source = await _registered(cluster, "h1", [vm_report(1)])
    target = await _registered(cluster, "h2", [] if boots else [vm_report(2)])
    await target.acked(await target.inventory([vm_report(1, vm_pb2.VM_STATE_PAUSED, reason="migration")], full=False))
    await source.vanish()
    reborn = cluster.agent("h1", boot_id="boot-h1-2")
    await reborn.connect()
    at_first = await reborn.register([vm_report(1, SHUTOFF, reason="unknown")])

    if boots:
        await target.vanish()
        target = cluster.agent("h2", boot_id="boot-h2-2")
        await target.connect()
        await target.register([])
    else:
        await target.acked(await target.inventory([vm_report(2)]))
    then = (await reborn.next("ownership")).ownership

    assert [(vm.desired_state, vm.start) for vm in at_first.owned] == [(vm_pb2.VM_STATE_UNSPECIFIED, False)]
    assert [(vm.vm_id, vm.desired_state, vm.start) for vm in then.owned] == [(vm_id(1), vm_pb2.VM_STATE_RUNNING, True)]
    assert not then.start_owned


@pytest.mark.parametrize("silent", [False, True])
async def test_r22_what_left_in_the_dark_and_ended_with_its_new_host_is_its_owner_s(cluster: World, silent: bool) -> None:
    """No manager heard of it before the new host lost power: that one tells of it when it is back, before its owner or later."""
    left = vm_report(1, vm_pb2.VM_STATE_ABSENT, reason="migrated", xml=False)
    source = await _registered(cluster, "h1", [vm_report(1)])
    target = await _registered(cluster, "h2", [vm_report(2)])
    if silent:
        await source.vanish()
    else:
        await source.acked(await source.inventory([left], full=False))
    await target.vanish()
    reborn = cluster.agent("h2", boot_id="boot-h2-2")
    await reborn.connect()

    update = await reborn.register([vm_report(1, SHUTOFF, reason="unknown"), vm_report(2, SHUTOFF, reason="unknown")])
    if silent:
        await source.connect()
        await source.heartbeat()
        await source.inventory([left])
    then = (await source.next("ownership", lambda m: any(vm.start for vm in m.owned))).ownership

    assert [gone.vm_id for gone in update.releases] == [vm_id(1)]
    assert [(vm.vm_id, vm.desired_state, vm.start) for vm in then.owned] == [(vm_id(1), vm_pb2.VM_STATE_RUNNING, True)]


async def test_empty_inventory_is_an_alarm_and_changes_nothing(cluster: World) -> None:
    """A libvirt that lists nothing where VMs ran is a fault, not a fact; the next good inventory ends the alarm."""
    agent = await _registered(cluster, "h1", [vm_report(1)])
    await agent.heartbeat()
    await until(_has_acks(agent, 2))
    await agent.heartbeat()
    await until(_has_acks(agent, 3))
    await agent.acked(await agent.inventory([]))

    record = await cluster.store.vms.get(CLUSTER, vm_id(1))
    await agent.acked(await agent.inventory([vm_report(1)]))

    async def told() -> bool:
        found = [alarm for alarm in await cluster.alarms() if alarm[0] == "EMPTY_INVENTORY"]
        return found == [("EMPTY_INVENTORY", "h1", False), ("EMPTY_INVENTORY", "h1", True)]

    assert record.state.value == "RUNNING"
    await until(told)


async def test_full_inventory_in_chunks_marks_what_is_gone(cluster: World) -> None:
    """Chunks are one inventory: only after the last one is what they do not name absent."""
    agent = await _registered(cluster, "h1", [vm_report(1), vm_report(2), vm_report(3)])
    await agent.acked(await agent.inventory([vm_report(1)], more=True))
    before = await cluster.store.vms.get(CLUSTER, vm_id(2))
    await agent.acked(await agent.inventory([vm_report(3)], facts=None))
    after = await cluster.store.vms.get(CLUSTER, vm_id(2))

    assert (before.state.value, after.state.value, after.desired_state.value) == ("RUNNING", "ABSENT", "RUNNING")
    assert (await cluster.store.vms.get(CLUSTER, vm_id(1))).state.value == "RUNNING"


async def test_agent_that_does_not_read_loses_its_session() -> None:
    """The outbox is bounded: the session ends with OUTBOX_FULL, and nothing is queued after its end."""
    session = Session(CLUSTER, ms.AgentHello(host_id="h1", boot_id="b", agent_instance_id="i"))
    for _ in range(OUTBOX + 5):
        session.send(ms.ReportHealthResponse(report_ack=ms.ReportAck(sequence=1)))

    error = session.ended.exception()

    assert isinstance(error, Exhausted)
    assert (error.reason, session.outbox.qsize()) == ("OUTBOX_FULL", OUTBOX)


async def test_goodbye_is_planned_and_not_a_failure(cluster: World) -> None:
    """A host that announced its shutdown is not suspected within the planned grace; what stops then should run again."""
    for host_id in ("h2", "h3"):
        await cluster.live(host_id)
    agent = await cluster.live("h1", [vm_report(1)])
    await cluster.state("h1", HostState.HEALTHY)
    await agent.send(goodbye=ms.AgentGoodbye(reason=ms.GoodbyeReason.GOODBYE_REASON_HOST_SHUTTING_DOWN))
    await agent.acked(await agent.inventory([vm_report(1, SHUTOFF, reason="shutdown", xml=False)], full=False))
    await cluster.cut_power(agent)
    started = asyncio.get_running_loop().time()

    async def long_after() -> bool:
        return asyncio.get_running_loop().time() - started > 1.5

    await until(long_after)
    assert not {"SUSPECT", "COOLDOWN", "DOWN"} & set(await cluster.states_of("h1"))
    assert (await cluster.store.vms.get(CLUSTER, vm_id(1))).desired_state.value == "RUNNING"


async def test_s01_agents_without_session_are_named(cluster: World) -> None:
    """S1: a hypervisor host without a live agent is shown by name, and in an alarm that ends when it connects."""
    await cluster.live("h1")
    answer = await cluster.operator.GetCluster(cs.GetClusterRequest(cluster_id=CLUSTER))

    async def missing() -> bool:
        return {("AGENT_MISSING", "h2", False), ("AGENT_MISSING", "h3", False)} <= set(await cluster.alarms())

    assert list(answer.cluster.hosts_without_agent) == ["h2", "h3"]
    await until(missing)
    await cluster.live("h2")

    async def found() -> bool:
        return ("AGENT_MISSING", "h2", True) in await cluster.alarms()

    await until(found)
    assert ("AGENT_MISSING", "h1", False) not in await cluster.alarms()


async def test_membership_change_is_pushed(cluster: World) -> None:
    """A new host draws a new round, and every agent gets the new configuration at once."""
    agent = await _registered(cluster, "h1")
    await cluster.operator.CreateHost(cs.CreateHostRequest(cluster_id=CLUSTER, host_id="h4", config=host_config("h4")))

    config = await agent.next("config", lambda c: len(c.members) == 4)
    assignment = await agent.next("assignment", lambda a: len(a.peers) == 3)

    assert config.config.version > 0
    assert assignment.assignment.nonce


async def test_relayed_heartbeat_counts_for_the_host_that_made_it(cluster: World) -> None:
    """A peer may carry a heartbeat; its ack comes back through the peer, and the host counts as isolated, not dead."""
    await cluster.live("h3")
    carrier = await _registered(cluster, "h2")
    isolated = await _registered(cluster, "h1")
    await cluster.state("h1", HostState.HEALTHY)
    await isolated.vanish()

    async def is_isolated() -> bool:
        message = ms.AgentHeartbeat(own=carrier.own_heartbeat(), forwarded=[isolated.own_heartbeat()])
        await carrier.send(heartbeat=message)
        return (await cluster.host("h1")).state == host_pb2.HostState.HOST_STATE_ISOLATED

    await until(is_isolated)
    assert {ack.host_id for ack in carrier.acks} == {"h1", "h2"}


async def test_a_host_that_is_heard_through_its_peers_cannot_be_called_off(cluster: World) -> None:
    """It runs its VMs: the operator is told, and nothing of the word is written down."""
    carrier = await _registered(cluster, "h2")
    isolated = await _registered(cluster, "h1")
    await cluster.state("h1", HostState.HEALTHY)
    await isolated.vanish()

    async def carry() -> None:
        while True:
            message = ms.AgentHeartbeat(own=carrier.own_heartbeat(), forwarded=[isolated.own_heartbeat()])
            await carrier.send(heartbeat=message)
            await asyncio.sleep(0.05)

    carrying = asyncio.create_task(carry())
    try:
        await cluster.state("h1", HostState.ISOLATED)
        request = cs.ConfirmHostOffRequest(cluster_id=CLUSTER, host_id="h1", operator="alice", fence_epoch=0)
        error = await refused(cluster.operator.ConfirmHostOff(request))
    finally:
        carrying.cancel()
    assert error.reason == "HOST_ALIVE"
    assert not (await cluster.store.hosts.get(CLUSTER, "h1")).is_confirmed_off


async def _registered(world: World, host_id: str, vms: list[ms.VmReport] | None = None) -> Agent:
    agent = world.agent(host_id)
    await agent.connect()
    await agent.register(vms or [])
    await until(_has_acks(agent, 1))
    return agent


def _has_acks(agent: Agent, count: int) -> Callable[[], Awaitable[bool]]:
    async def fact() -> bool:
        if agent.error is not None:
            raise AssertionError(f"session ended: {agent.error.reason} {agent.error.message}") from None
        return len(agent.acks) >= count

    return fact
