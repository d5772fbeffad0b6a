"""EvacuationService over real gRPC: the whole app in process, hypervisors in memory."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from redis.asyncio import Redis

from tests.evac.world import CONFIG, C, World, seen, vm_uuid
from tests.support import refusals
from tests.support.redis import RedisServer
from vmha.clock import SystemClock
from vmha.config import EvacSettings
from vmha.errors import Unavailable
from vmha.evac import app, explaining, outlook, planner
from vmha.evac.events import PlanMade
from vmha.evac.fence_check import FenceCheck
from vmha.evac.fencing import FenceAgents, Power
from vmha.evac.reasons import ProofReason
from vmha.model import EvacuationState, FenceConfig, HostState, ProofKind, SelfFencing, VmStep
from vmha.rpc.channel import open_channel
from vmha.rpc.scalars import duration
from vmha.store.leaders import Candidate
from vmha.store.records import VmEntry
from vmha.v1 import evacuation_service_pb2 as pb
from vmha.v1 import evacuation_service_pb2_grpc as pb_grpc

Stub: TypeAlias = "pb_grpc.EvacuationServiceAsyncStub"


@pytest.fixture
async def stub(world: World, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stub]:
    """A client of a running evacuator."""
    monkeypatch.setattr(app, "libvirt_factory", lambda **_: world.make)

    async def read(_self: FenceAgents, config: Any, timeout_s: float) -> Power:
        return await world.device.read(config, timeout_s)

    async def order_off(_self: FenceAgents, config: Any, timeout_s: float) -> None:
        await world.device.order_off(config, timeout_s)

    monkeypatch.setattr(FenceAgents, "read", read)
    monkeypatch.setattr(FenceAgents, "order_off", order_off)
    async with serving(redis_server) as channel:
        yield pb_grpc.EvacuationServiceStub(channel)


@asynccontextmanager
async def serving(redis_server: RedisServer) -> AsyncIterator[grpc.aio.Channel]:
    settings = EvacSettings(
        listen="127.0.0.1:0", redis_url=redis_server.url, runner_ttl_s=2.0, pending_retry_s=0.1, drain_grace_s=1.0
    )
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    running = asyncio.create_task(app.run(settings, stop=stop, ready=ready))
    await asyncio.wait([running, ready], return_when=asyncio.FIRST_COMPLETED)
    channel = open_channel(f"127.0.0.1:{ready.result()}")
    try:
        yield channel
    finally:
        await channel.close()
        stop.set()
        await asyncio.wait_for(running, 10)


def request(incident: Any, **changes: Any) -> pb.EvacuateRequest:
    return pb.EvacuateRequest(
        **{
            "cluster_id": C,
            "host_id": incident.host_id,
            "request_id": incident.incident_id,
            "fence_epoch": incident.fence_epoch,
            **changes,
        }
    )


async def refused(call: Any) -> tuple[str, str]:
    """(status, reason) of a call that must fail."""
    error = await refusals.refused(call)
    return error.code, error.reason


async def test_an_evacuation_is_streamed_from_its_order_to_its_end(world: World, stub: Stub) -> None:
    """Sequences without a gap from where it stands on; every VM's steps in order; the last event says SUCCEEDED with counts."""
    await world.cluster()
    await world.vms(seen(0), seen(1), seen(2, ha_enabled=False))

    events = [answer.event async for answer in stub.Evacuate(request(await world.fail()))]

    assert [e.sequence for e in events] == list(range(events[0].sequence, events[0].sequence + len(events)))
    steps = [pb.VmStep.Name(e.vm.step) for e in events if e.vm.vm_id == vm_uuid(0)]
    assert steps == ["VM_STEP_CLAIMED", "VM_STEP_STARTED", "VM_STEP_ADMITTED", "VM_STEP_SETTLED"]
    last = events[-1].evacuation
    assert last.state == pb.EVACUATION_STATE_SUCCEEDED
    assert (last.total_count, last.moved_count, last.skipped_count) == (3, 2, 1)
    assert last.proof == pb.PROOF_KIND_FENCE
    assert last.HasField("end_time")


async def test_the_same_request_joins_and_ending_a_call_ends_nothing(world: World, stub: Stub) -> None:
    """A client goes away in the middle and asks again with its request_id: one evacuation, one set of starts."""
    await world.cluster()
    await world.vms(*(seen(n) for n in range(4)))
    world.device.gate = asyncio.Event()
    incident = await world.fail()
    first = stub.Evacuate(request(incident))
    async for _ in first:
        break
    first.cancel()
    world.device.gate.set()

    events = [answer.event async for answer in stub.Evacuate(request(incident))]

    assert events[-1].evacuation.state == pb.EVACUATION_STATE_SUCCEEDED
    assert sum(len(fake.started) for fake in world.fakes.values()) == 4
    again = [answer.event async for answer in stub.Evacuate(request(incident))]
    assert [e.evacuation.state for e in again] == [pb.EVACUATION_STATE_SUCCEEDED]


async def test_preconditions(world: World, stub: Stub) -> None:
    """Each request that may not start anything is refused with the status and reason of the contract."""
    await world.cluster()
    await world.vms(seen(0))
    healthy = await world.store.hosts.get(C, "h2")
    assert healthy.state is HostState.HEALTHY
    incident = await world.fail()
    new = str(uuid.uuid4())

    cases = {
        "host is not down": (request(incident, host_id="h2", request_id=new), ("FAILED_PRECONDITION", "HOST_NOT_DOWN")),
        "old epoch": (request(incident, fence_epoch=1, request_id=new), ("ABORTED", "STALE_FENCE_EPOCH")),
        "no such host": (request(incident, host_id="h9", request_id=new), ("NOT_FOUND", "HOST_UNKNOWN")),
        "no such cluster": (request(incident, cluster_id="c9", request_id=new), ("NOT_FOUND", "CLUSTER_UNKNOWN")),
        "no request_id": (request(incident, request_id=""), ("INVALID_ARGUMENT", "FIELD_INVALID")),
    }
    for name, (asked, expected) in cases.items():
        assert await refused(stub.Evacuate(asked)) == expected, name

    await world.store.clusters.set_ha(C, False, None)
    assert await refused(stub.Evacuate(request(incident))) == ("FAILED_PRECONDITION", "CLUSTER_NOT_ACTIVE")
    assert await world.store.evacuations.list(C) == []


async def test_a_second_request_for_a_busy_host_is_refused_and_a_reused_id_as_well(world: World, stub: Stub) -> None:
    """HOST_BUSY for another id while the first runs; REQUEST_ID_REUSED for the id with another epoch."""
    await world.cluster()
    world.device.gate = asyncio.Event()
    incident = await world.fail()
    call = stub.Evacuate(request(incident))
    async for _ in call:
        break

    assert await refused(stub.Evacuate(request(incident, request_id=str(uuid.uuid4())))) == ("ABORTED", "HOST_BUSY")
    assert await refused(stub.Evacuate(request(incident, fence_epoch=5))) == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED")
    world.device.gate.set()
    call.cancel()


async def test_a_running_evacuation_goes_on_when_ha_is_disabled(world: World, stub: Stub) -> None:
    """Disabled in the middle: joined by its id, and ended."""
    await world.cluster()
    await world.vms(seen(0))
    world.device.gate = asyncio.Event()
    incident = await world.fail()
    call = stub.Evacuate(request(incident))
    async for _ in call:
        break
    call.cancel()
    await world.store.clusters.set_ha(C, False, None)
    world.device.gate.set()

    events = [answer.event async for answer in stub.Evacuate(request(incident))]

    assert events[-1].evacuation.state == pb.EVACUATION_STATE_SUCCEEDED


async def test_a_plan_of_a_healthy_host_writes_nothing(world: World, stub: Stub) -> None:
    """validate_only: one event in PLANNING for each VM, with its target or reason; nothing fenced, claimed, journaled."""
    await world.cluster()
    await world.vms(seen(0), seen(1, ha_enabled=False))

    asked = pb.EvacuateRequest(cluster_id=C, host_id="h1", validate_only=True)
    events = [answer.event async for answer in stub.Evacuate(asked)]

    assert {e.vm.vm_name: (e.vm.target_host_id, e.vm.reason) for e in events} == {"vm0": ("h2", ""), "vm1": ("", "HA_OFF")}
    assert {e.evacuation.state for e in events} == {pb.EVACUATION_STATE_PLANNING}
    assert await world.store.evacuations.list(C) == []
    assert world.device.reads == 0
    assert (await world.store.vms.get(C, vm_uuid(0))).owner_host_id == "h1"


async def test_a_cancel_by_rpc_ends_an_evacuation_that_is_not_proven(world: World, stub: Stub) -> None:
    """CancelEvacuation while the fence device fails: the stream ends with CANCELLED."""
    await world.cluster()
    await world.vms(seen(0))
    world.device.works = False
    incident = await world.fail()
    call = stub.Evacuate(request(incident))
    last = None
    async for answer in call:
        last = answer.event.evacuation
        if last.state == pb.EVACUATION_STATE_FENCE_PENDING:
            cancel = pb.CancelEvacuationRequest(cluster_id=C, evacuation_id=incident.incident_id, reason="it is back")
            await stub.CancelEvacuation(cancel)

    assert last is not None
    assert last.state == pb.EVACUATION_STATE_CANCELLED


async def test_get_list_and_watch(world: World, stub: Stub) -> None:
    """GetEvacuation names the VMs; ListEvacuations pages newest first; WatchEvacuation repeats the whole history."""
    await world.cluster()
    await world.vms(seen(0), seen(1))
    incident = await world.fail()
    async for _ in stub.Evacuate(request(incident)):
        pass
    of_it = pb.WatchEvacuationRequest(cluster_id=C, evacuation_id=incident.incident_id)

    got = await stub.GetEvacuation(pb.GetEvacuationRequest(cluster_id=C, evacuation_id=incident.incident_id))
    watched = [answer.event async for answer in stub.WatchEvacuation(of_it)]
    other = await world.fail("h2")
    async for _ in stub.Evacuate(request(other)):
        pass
    page = await stub.ListEvacuations(pb.ListEvacuationsRequest(cluster_id=C, page_size=1))
    rest = await stub.ListEvacuations(pb.ListEvacuationsRequest(cluster_id=C, page_size=1, page_token=page.next_page_token))

    assert [vm.vm_name for vm in got.vms] == ["vm0", "vm1"]
    assert watched[0].sequence == 1
    assert watched[-1].evacuation.state == pb.EVACUATION_STATE_SUCCEEDED
    assert [e.evacuation_id for e in page.evacuations] == [other.incident_id]
    assert [e.evacuation_id for e in rest.evacuations] == [incident.incident_id]
    assert rest.next_page_token == ""
    unknown = pb.GetEvacuationRequest(cluster_id=C, evacuation_id=str(uuid.uuid4()))
    assert await refused(stub.GetEvacuation(unknown)) == ("NOT_FOUND", "EVACUATION_UNKNOWN")


async def test_an_evacuator_takes_up_what_another_left(world: World, redis_server: RedisServer, monkeypatch: Any) -> None:
    """An unfinished evacuation in the store is run by an evacuator that just starts, without any request."""
    monkeypatch.setattr(app, "libvirt_factory", lambda **_: world.make)
    config = replace(CONFIG, proof=type(CONFIG.proof).NONE)
    await world.cluster(config=config)
    await world.vms(seen(0))
    record = await world.order(await world.fail())

    async with serving(redis_server):
        assert (await world.ended(record.evacuation_id)).state is EvacuationState.SUCCEEDED


async def test_health_tells_of_the_store_and_liveness_does_not(world: World, redis_server: RedisServer) -> None:
    """With Redis away the service is NOT_SERVING, the process still SERVING; both are when it is back."""
    serving_status = health_pb2.HealthCheckResponse.SERVING

    async with serving(redis_server) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)

        async def status(service: str) -> int:
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
            return int(answer.status)

        async def becomes(wanted: bool) -> None:
            async with asyncio.timeout(15):
                while (await status("vmha.v1.EvacuationService") == serving_status) is not wanted:
                    await asyncio.sleep(0.05)

        await becomes(True)
        redis_server.stop()
        await becomes(False)
        assert await status("") == serving_status
        redis_server.start()
        await becomes(True)


async def test_a_lease_proof_that_comes_later_is_news(world: World, stub: Stub) -> None:
    """The same request with a lease proof joins, proves the death with its figures, and the VMs are moved (R16)."""
    await world.cluster()
    await world.vms(seen(0))
    world.device.works = False
    incident = await world.fail()
    first = stub.Evacuate(request(incident))
    await first.read()
    await world.until(incident.incident_id, lambda r: r.state is EvacuationState.FENCE_PENDING)
    proof = pb.LeaseProof(
        silent_for=duration(12.5), waited=duration(11.9), in_contact_for=duration(40.0), hosts_in_contact=2, evacuation_quorum=2
    )

    second = stub.Evacuate(request(incident, leader_term=1, lease_proof=proof))
    await second.read()
    record = await world.ended(incident.incident_id)

    assert record.state is EvacuationState.SUCCEEDED
    assert record.proof is ProofKind.LEASE
    assert "silent for 12.5 s" in record.lease_proof
    assert world.device.orders == 0
    first.cancel()
    second.cancel()


LEASE = pb.LeaseProof(
    silent_for=duration(12.5), waited=duration(11.9), in_contact_for=duration(40.0), hosts_in_contact=2, evacuation_quorum=2
)


async def test_a_lease_proof_does_not_wait_for_a_device_that_hangs(world: World, stub: Stub) -> None:
    """The fence is asked and gives no answer (its power is gone with its host's): the lease proof counts at once."""
    await world.cluster()
    await world.vms(seen(0))
    world.device.gate = asyncio.Event()
    incident = await world.fail()
    first = stub.Evacuate(request(incident))
    async with asyncio.timeout(10):
        while not world.device.reads:
            await asyncio.sleep(0.01)

    second = stub.Evacuate(request(incident, leader_term=1, lease_proof=LEASE))
    record = await world.ended(incident.incident_id, 5.0)

    assert (record.state, record.proof) == (EvacuationState.SUCCEEDED, ProofKind.LEASE)
    first.cancel()
    second.cancel()


async def test_without_self_fencing_a_lease_proves_nothing(world: World, stub: Stub) -> None:
    """`self_fencing: off`: nobody stops the VMs when a lease ends, whatever a leader says."""
    await world.cluster(config=replace(CONFIG, self_fencing=SelfFencing.OFF))
    await world.vms(seen(0))
    world.device.works = False
    incident = await world.fail()
    call = stub.Evacuate(request(incident, leader_term=1, lease_proof=LEASE))
    await call.read()
    await world.until(incident.incident_id, lambda r: r.state is EvacuationState.FENCE_PENDING)
    reads = world.device.reads
    while world.device.reads < reads + 2:
        await asyncio.sleep(0.01)

    record = await world.store.evacuations.get(C, incident.incident_id)
    assert record.state is EvacuationState.FENCE_PENDING
    assert all(not fake.started for fake in world.fakes.values())
    call.cancel()


async def test_an_old_leaders_order_is_refused(world: World, stub: Stub) -> None:
    """R19: an order of an older term than the newest starts nothing, and brings no proof to what is under way."""
    await world.cluster()
    await world.vms(seen(0))
    world.device.works = False
    incident = await world.fail()
    first = await world.store.leaders.claim(C, Candidate(holder="old", manager_id="m1", address="a:1"), 0.01)
    await asyncio.sleep(0.05)
    second = await world.store.leaders.claim(C, Candidate(holder="new", manager_id="m2", address="a:2"), 60.0)
    assert second.term > first.term

    late = await refused(stub.Evacuate(request(incident, leader_term=first.term)).read())
    call = stub.Evacuate(request(incident, leader_term=second.term))
    await call.read()
    proof = await refused(stub.Evacuate(request(incident, leader_term=first.term, lease_proof=LEASE)).read())

    assert late == proof == ("ABORTED", "STALE_LEADER_TERM")
    assert (await world.store.evacuations.get(C, incident.incident_id)).lease_proof == ""
    call.cancel()


async def test_the_proof_is_told_before_any_vm_is_claimed(world: World) -> None:
    """The event that calls the host FENCED, and names the rung, comes before every event about a VM."""
    await world.cluster()
    await world.vms(*(seen(n) for n in range(4)))
    await world.evacuate()
    events = await world.store.events.read(C, 0)
    fenced = [e.revision for e in events if e.kind == "host_state_change" and e.detail["new_state"] == "HOST_STATE_FENCED"]
    vms = [e.revision for e in events if e.kind == "vm_evacuation_change"]

    assert len(fenced) == 1
    assert vms and fenced[0] < min(vms)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("lease_proof.waited", {"waited": None}),
        ("lease_proof.silent_for", {"silent_for": duration(11.0)}),
        ("lease_proof.hosts_in_contact", {"hosts_in_contact": 1}),
        ("leader_term", {}),
    ],
)
async def test_a_lease_proof_that_proves_nothing_is_refused(world: World, stub: Stub, field: str, wrong: dict[str, Any]) -> None:
    """Too short a silence, too few in contact, nobody's term: INVALID_ARGUMENT with the field."""
    await world.cluster()
    incident = await world.fail()
    good = {"silent_for": duration(12.5), "waited": duration(11.9), "hosts_in_contact": 2, "evacuation_quorum": 2}

    term = 0 if field == "leader_term" else 1
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Evacuate(request(incident, leader_term=term, lease_proof=pb.LeaseProof(**{**good, **wrong}))).read()

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in str(refused.value.details())


async def test_s13_a_fence_check_reads_the_device_and_switches_nothing(world: World, stub: Stub) -> None:
    """On and off as the device reads them, once each, with the agent's name; no order is given, and nothing is written."""
    await world.cluster()
    before = (await world.store.clusters.get(C), await world.store.hosts.get(C, "h1"))
    check = pb.CheckFenceRequest(cluster_id=C, host_id="h1")

    on = await stub.CheckFence(check)
    world.device.power = Power.OFF
    off = await stub.CheckFence(check)

    assert (on.power, on.reason, on.agent, on.message) == (pb.FENCE_POWER_ON, "", "fence_dummy", "fence_dummy reads on")
    assert (off.power, off.message) == (pb.FENCE_POWER_OFF, "fence_dummy reads off")
    assert (world.device.reads, world.device.orders) == (2, 0)
    assert (await world.store.clusters.get(C), await world.store.hosts.get(C, "h1")) == before


async def test_s13_a_silent_fence_is_an_answer_with_its_reason(world: World, stub: Stub) -> None:
    """A device that fails, and a host without one: no error of the call, but why there is no answer that counts."""
    await world.cluster()
    await world.host("h9", fence=None)
    world.device.answers = [ProofReason.FENCE_TIMEOUT]

    silent = await stub.CheckFence(pb.CheckFenceRequest(cluster_id=C, host_id="h1"))
    none = await stub.CheckFence(pb.CheckFenceRequest(cluster_id=C, host_id="h9"))

    assert (silent.power, silent.reason, silent.message) == (pb.FENCE_POWER_UNSPECIFIED, "FENCE_TIMEOUT", "as told")
    assert (none.power, none.reason, none.agent) == (pb.FENCE_POWER_UNSPECIFIED, "FENCE_NOT_CONFIGURED", "")
    assert world.device.orders == 0


@pytest.mark.parametrize(
    ("asked", "status", "reason"),
    [
        ({"cluster_id": "nope", "host_id": "h1"}, "NOT_FOUND", "CLUSTER_UNKNOWN"),
        ({"cluster_id": C, "host_id": "nope"}, "NOT_FOUND", "HOST_UNKNOWN"),
        ({"cluster_id": C}, "INVALID_ARGUMENT", "FIELD_INVALID"),
    ],
)
async def test_a_fence_check_of_nobody_is_refused(
    world: World, stub: Stub, asked: dict[str, str], status: str, reason: str
) -> None:
    """As every call that names a host."""
    await world.cluster()

    assert await refused(stub.CheckFence(pb.CheckFenceRequest(**asked))) == (status, reason)


async def test_a_fence_check_tells_no_secret(world: World, tmp_path: Path) -> None:
    """The real way through a fence agent that prints its password: what comes back has none of it."""
    (tmp_path / "secret").write_text("hunter2")
    (tmp_path / "fence_chatty").write_text("#!/bin/sh\ncat >&2; exit 1\n")
    (tmp_path / "fence_chatty").chmod(0o755)
    fence = FenceConfig(
        agent="fence_chatty", parameters={"passwd": "swordfish"}, secret_files={"password": str(tmp_path / "secret")}
    )
    await world.cluster()
    await world.host("h9", fence=fence)

    answer = await FenceCheck(world.store, FenceAgents(f"{tmp_path}:/usr/bin:/bin"), SystemClock()).check(C, "h9")

    assert (answer.power, answer.reason) == (None, ProofReason.FENCE_FAILED)
    assert "fence_chatty status ended with 1" in answer.message
    assert "hunter2" not in answer.message and "swordfish" not in answer.message
    assert answer.took_s > 0


# Explanations.


def placement_of(number: int) -> pb.ExplainVmPlacementRequest:
    return pb.ExplainVmPlacementRequest(cluster_id=C, vm_id=vm_uuid(number))


async def everything(redis_server: RedisServer) -> dict[str, Any]:
    """All keys of the store with their contents and lifetimes; DUMP has any type's."""
    async with Redis.from_url(redis_server.url) as client:
        keys: list[Any] = sorted(await client.keys("*"))
        return {key: (await client.dump(key), await client.expiretime(key)) for key in keys}


async def test_s28_b05_where_a_running_vm_could_go_and_why_not_elsewhere(
    world: World, stub: Stub, redis_server: RedisServer
) -> None:
    """Target, who else would have it, each other host under the rule against it with its figures; as `validate_only` plans it."""
    await world.cluster(hosts=4)
    await world.host("h5", memory_mib=50)
    await world.vms(seen(0), seen(1))
    await world.store.hosts.set_maintenance(C, "h4", True, None)
    before = await everything(redis_server)

    got = (await stub.ExplainVmPlacement(placement_of(0))).placement

    assert await everything(redis_server) == before
    ask = pb.EvacuateRequest(cluster_id=C, host_id="h1", validate_only=True)
    plan = {e.event.vm.vm_id: e.event.vm async for e in stub.Evacuate(ask)}
    assert got.planned == plan[vm_uuid(0)]
    assert (got.vm_name, got.host_id, got.host_count, got.HasField("evacuation")) == ("vm0", "h1", 5, False)
    assert (got.planned.target_host_id, list(got.other_host_ids), got.other_count) == ("h2", ["h3"], 1)
    refused_by = {rule.reason: [(h.host_id, h.message) for h in rule.hosts] for rule in got.host_rules if rule.refused_count}
    assert refused_by == {
        "FAILED_HOST": [("h1", "")],
        "IN_MAINTENANCE": [("h4", "")],
        "MEMORY_FULL": [("h5", "50 MiB left")],
    }
    assert [(rule.reason, rule.against) for rule in got.vm_rules][:2] == [("HA_OFF", False), ("VM_PAUSED", False)]


async def test_s28_b05_a_waiting_vm_names_its_evacuation_and_what_it_waits_for(world: World, stub: Stub) -> None:
    """No room: the evacuation with its state and times, the journal's word, and the same reason now, host by host."""
    await world.cluster(hosts=2, memory_mib=50)
    await world.vms(seen(0))
    incident = await world.fail()
    call = stub.Evacuate(request(incident))
    await call.read()
    await world.until(incident.incident_id, lambda r: r.state is EvacuationState.PENDING)

    waits = (await stub.ExplainVmPlacement(placement_of(0))).placement
    call.cancel()

    assert (waits.evacuation.evacuation_id, waits.evacuation.state) == (incident.incident_id, pb.EVACUATION_STATE_PENDING)
    assert waits.evacuation.HasField("proof_time")
    assert (waits.journaled.outcome, waits.journaled.reason) == (pb.VM_OUTCOME_PENDING, "NO_CAPACITY")
    assert (waits.planned.outcome, waits.planned.reason) == (pb.VM_OUTCOME_PENDING, "NO_CAPACITY")
    assert {rule.reason: rule.refused_count for rule in waits.host_rules if rule.refused_count} == {
        "FAILED_HOST": 1,
        "MEMORY_FULL": 1,
    }


async def test_s28_b05_what_the_death_of_a_host_would_do(world: World, stub: Stub, redis_server: RedisServer) -> None:
    """Each VM with its target or reason, counted by fate, and what each host would get; nothing is written."""
    await world.cluster()
    await world.vms(seen(0), seen(1, ha_enabled=False), seen(2, aggregates=("dongle",)))
    before = await everything(redis_server)

    got = (await stub.ExplainHostLoss(pb.ExplainHostLossRequest(cluster_id=C, host_id="h1"))).loss

    assert await everything(redis_server) == before
    assert [(vm.vm_name, vm.target_host_id, vm.reason) for vm in got.vms] == [
        ("vm2", "", "AGGREGATE_EMPTY"),
        ("vm0", "h2", ""),
        ("vm1", "", "HA_OFF"),
    ]
    assert {(fate.reason, fate.vm_count) for fate in got.fates} == {("AGGREGATE_EMPTY", 1), ("", 1), ("HA_OFF", 1)}
    assert [(share.host_id, share.vm_count, share.memory_mib) for share in got.targets] == [("h2", 1, 64)]
    assert (got.vm_count, got.HasField("evacuation")) == (3, False)


async def test_b05_a_preview_leaves_what_another_evacuation_was_promised(world: World) -> None:
    """`validate_only` and explanations count what an evacuation under way has planned and not started as taken."""
    await world.cluster(hosts=2, memory_mib=100)
    await world.host("h3", memory_mib=100)
    await world.vms(seen(0))
    await world.vms(seen(1), host_id="h3")
    incident = await world.fail()
    record = await world.order(incident)
    key = (C, record.evacuation_id, "runner")
    assert await world.store.evacuations.acquire(*key, 60.0)
    await world.store.evacuations.advance(*key, EvacuationState.PLANNING, proof=ProofKind.FENCE)
    promise = VmEntry(vm_id=vm_uuid(0), vm_name="vm0", step=VmStep.PLANNED, target_host_id="h2", source_epoch=1)
    await world.store.evacuations.plan(*key, [promise])

    makes = explaining.Explaining(world.store)
    loss = await makes.host(C, "h3")
    _, plan = await makes.preview(C, "h3")
    makes.close()

    assert [(entry.target_host_id, entry.reason) for entry in loss.entries] == [("", "NO_CAPACITY")]
    assert [(entry.target_host_id, entry.reason) for entry in plan] == [("", "NO_CAPACITY")]


async def test_a_preview_holds_up_nothing(world: World, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan may take seconds where not all VMs fit: the evacuator's loop goes on while `validate_only` is answered."""
    await world.cluster()
    await world.vms(seen(0))
    goes_on, made = threading.Event(), planner.plan

    def slow(*given: Any) -> PlanMade:
        assert goes_on.wait(5.0), "the loop stood still"
        return made(*given)

    monkeypatch.setattr(planner, "plan", slow)
    asyncio.get_running_loop().call_later(0.1, goes_on.set)
    answers = stub.Evacuate(pb.EvacuateRequest(cluster_id=C, host_id="h1", validate_only=True))

    assert [answer.event.vm.target_host_id async for answer in answers] == ["h2"]


@pytest.mark.parametrize(
    ("method", "asked", "status", "reason", "about"),
    [
        ("ExplainVmPlacement", placement_of(9), "NOT_FOUND", "VM_UNKNOWN", {"vm_id": vm_uuid(9)}),
        (
            "ExplainVmPlacement",
            pb.ExplainVmPlacementRequest(cluster_id="nope", vm_id=vm_uuid(0)),
            "NOT_FOUND",
            "CLUSTER_UNKNOWN",
            {"cluster_id": "nope"},
        ),
        (
            "ExplainVmPlacement",
            pb.ExplainVmPlacementRequest(cluster_id=C, vm_id="web"),
            "INVALID_ARGUMENT",
            "FIELD_INVALID",
            {},
        ),
        (
            "ExplainHostLoss",
            pb.ExplainHostLossRequest(cluster_id=C, host_id="nope"),
            "NOT_FOUND",
            "HOST_UNKNOWN",
            {"host_id": "nope"},
        ),
        (
            "ExplainHostLoss",
            pb.ExplainHostLossRequest(cluster_id="nope", host_id="h1"),
            "NOT_FOUND",
            "CLUSTER_UNKNOWN",
            {"cluster_id": "nope"},
        ),
        ("ExplainHostLoss", pb.ExplainHostLossRequest(cluster_id=C), "INVALID_ARGUMENT", "FIELD_INVALID", {}),
    ],
)
async def test_b05_an_explanation_of_nobody_is_refused(
    world: World, stub: Stub, method: str, asked: Any, status: str, reason: str, about: dict[str, str]
) -> None:
    """NOT_FOUND with what was not found."""
    await world.cluster()

    error = await refusals.refused(getattr(stub, method)(asked))

    assert (error.code, error.reason) == (status, reason)
    assert about.items() <= error.metadata.items()


async def test_b05_explanations_wait_in_a_bounded_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is made at a time; more than the line holds are refused at once, and the line moves on afterwards."""
    await world.cluster()
    await world.vms(seen(0))
    gate = threading.Event()
    made = outlook.of_host

    def slow(*args: Any) -> Any:
        gate.wait(10)
        return made(*args)

    monkeypatch.setattr(outlook, "of_host", slow)
    makes = explaining.Explaining(world.store)
    waiting = [asyncio.create_task(makes.host(C, "h1")) for _ in range(explaining.WAITING)]
    await asyncio.sleep(0)

    with pytest.raises(Unavailable) as error:
        await makes.host(C, "h1")
    gate.set()
    found = await asyncio.gather(*waiting)

    assert error.value.reason == "EXPLAIN_BUSY"
    assert [len(one.entries) for one in found] == [1] * explaining.WAITING
    makes.close()


async def test_b05_an_explanation_that_takes_too_long_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """EXPLAIN_BUSY, and the process goes on meanwhile: the plan is made on a thread of its own."""
    await world.cluster()
    gate = threading.Event()
    monkeypatch.setattr(outlook, "of_host", lambda *_: gate.wait(10))
    monkeypatch.setattr(explaining, "EXPLAIN_S", 0.2)
    makes = explaining.Explaining(world.store)

    for _ in range(2):
        with pytest.raises(Unavailable) as error:
            await makes.host(C, "h1")
        assert error.value.reason == "EXPLAIN_BUSY"
    gate.set()
    makes.close()
