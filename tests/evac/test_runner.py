"""The runner end to end: real Redis, real gRPC to the agents, hypervisors in memory."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from dataclasses import replace
from typing import Any

import pytest

from tests.evac.world import CONFIG, TIMERS, C, World, seen, vm_uuid
from tests.support.redis import RedisServer
from vmha.domain_xml import parse_domain
from vmha.evac import planner
from vmha.evac.events import PlanMade
from vmha.evac.fencing import Power
from vmha.evac.metrics import Metrics
from vmha.evac.operations import Operations
from vmha.evac.reasons import ProofReason
from vmha.facts import HostFacts
from vmha.model import EvacuationState, ProofKind, VmOutcome, VmState, VmStep
from vmha.store.evacuations import Evacuations

S = EvacuationState


async def alarms(world: World) -> list[str]:
    events = await world.store.events.read(C, 0)
    return [f"{e.detail['reason']}{' cleared' if e.detail.get('cleared') else ''}" for e in events if e.kind == "alarm"]


async def test_s15_every_vm_of_a_dead_host_runs_elsewhere(world: World) -> None:
    """After a proof by the fence, each running VM is verified running on one other host, and owned by it."""
    await world.cluster()
    await world.vms(*(seen(n) for n in range(10)))

    record = await world.evacuate()

    assert record.state is S.SUCCEEDED
    assert record.proof is ProofKind.FENCE
    assert world.device.orders == 1
    for number in range(10):
        vm = await world.store.vms.get(C, vm_uuid(number))
        assert world.running_on(number) == [vm.owner_host_id]
        assert vm.owner_host_id in {"h2", "h3"}


async def test_s20_paused_and_shut_off_vms_stay(world: World) -> None:
    """They are SKIPPED with their reason, stay owned by the dead host, and nothing of them is started."""
    await world.cluster()
    await world.vms(
        seen(0),
        seen(1, state=VmState.PAUSED, reason="user"),
        seen(2, state=VmState.SHUTOFF, reason="shutdown"),
        seen(3, ha_enabled=False),
    )

    record = await world.evacuate()
    entries = await world.entries(record.evacuation_id)

    assert record.state is S.SUCCEEDED
    assert {n: (e.outcome, e.reason) for n, e in entries.items() if n != "vm0"} == {
        "vm1": (VmOutcome.SKIPPED, "VM_PAUSED"),
        "vm2": (VmOutcome.SKIPPED, "VM_SHUTOFF"),
        "vm3": (VmOutcome.SKIPPED, "HA_OFF"),
    }
    assert sum(len(fake.started) for fake in world.fakes.values()) == 1
    assert (await world.store.vms.get(C, vm_uuid(1))).owner_host_id == "h1"


async def test_a_domain_carries_the_claim_that_created_it(world: World) -> None:
    """R15, R20: a store that loses the claim can learn of it from the domain, whose agent reports it."""
    await world.cluster()
    await world.vms(seen(0))
    await world.evacuate()

    record = await world.store.vms.get(C, vm_uuid(0))
    created = parse_domain(world.fakes[record.owner_host_id].xml[vm_uuid(0)])
    assert created.claim_epoch == record.epoch == 2


async def test_without_a_proof_nothing_is_touched(world: World) -> None:
    """A device that fails: FENCE_PENDING, no VM claimed; when it works again, the VMs are moved."""
    await world.cluster()
    await world.vms(seen(0))
    world.device.works = False
    record = await world.order(await world.fail())
    world.supervisor().ensure(record)

    pending = await world.until(record.evacuation_id, lambda r: r.state is S.FENCE_PENDING)
    assert pending.reason == ProofReason.FENCE_FAILED
    while world.device.reads < 4:
        await asyncio.sleep(0.01)
    assert (await world.store.vms.get(C, vm_uuid(0))).owner_host_id == "h1"
    assert all(not fake.started for fake in world.fakes.values())

    world.device.works = True
    ended = await world.ended(record.evacuation_id)
    assert ended.state is S.SUCCEEDED


async def test_the_operators_word_ends_the_waiting(world: World) -> None:
    """A device that never works; ConfirmHostOff is noticed within about a second and counts."""
    await world.cluster(config=replace(CONFIG, timers=replace(TIMERS, fence_retry_s=60.0)))
    await world.vms(seen(0))
    world.device.works = False
    record = await world.order(await world.fail())
    world.supervisor().ensure(record)
    await world.until(record.evacuation_id, lambda r: r.state is S.FENCE_PENDING)

    await world.store.hosts.confirm_off(C, "h1", record.fence_epoch, "ann")
    ended = await world.ended(record.evacuation_id, 5.0)

    assert ended.proof is ProofKind.OPERATOR
    assert world.running_on(0)


async def test_a_target_that_refuses_is_left_for_the_next(world: World) -> None:
    """Definite refusals of h2: its VMs run on h3, nothing is left on h2, and the journal names the attempt."""
    await world.cluster()
    await world.vms(*(seen(n) for n in range(6)))
    world.fake("h2").refuses.add("*")

    record = await world.evacuate()
    entries = await world.entries(record.evacuation_id)

    assert record.state is S.SUCCEEDED
    assert [world.running_on(n) for n in range(6)] == [["h3"]] * 6
    assert world.fakes["h2"].domains == {}
    assert any(entry.attempts == ("h2",) for entry in entries.values())


async def test_s28_a_vm_that_every_target_refuses_has_failed_and_is_shown_so(world: World) -> None:
    """FAILED with the last target's words; the others are moved; the VM's record does not say that it runs, and says why."""
    await world.cluster()
    await world.vms(seen(0), seen(1))
    for host_id in ("h2", "h3"):
        world.fake(host_id).refuses.add(vm_uuid(0))

    record = await world.evacuate()
    entry = (await world.entries(record.evacuation_id))["vm0"]

    assert record.state is S.PARTIALLY_FAILED
    assert (entry.outcome, entry.reason) == (VmOutcome.FAILED, "START_REFUSED")
    assert "no such machine type" in entry.message
    assert world.running_on(0) == []
    shown = await world.store.vms.get(C, vm_uuid(0))
    assert shown.state is not VmState.RUNNING
    assert shown.reason == "START_REFUSED"


async def test_an_unreachable_target_is_no_end(world: World) -> None:
    """libvirtd of h2 is dead though its agent lives: nothing was sent there, the VMs go to h3."""
    await world.cluster()
    await world.vms(*(seen(n) for n in range(4)))
    world.fake("h2").unreachable = True

    record = await world.evacuate()

    assert record.state is S.SUCCEEDED
    assert [world.running_on(n) for n in range(4)] == [["h3"]] * 4


async def test_a_locked_disk_is_never_retried_blindly(world: World) -> None:
    """ "Failed to get write lock": alarm, PENDING with SOURCE_STILL_RUNNING, one start only; a cancel ends it."""
    await world.cluster()
    await world.vms(seen(0), seen(1))
    for host_id in ("h2", "h3"):
        world.fake(host_id).locked.add(vm_uuid(0))
    record = await world.order(await world.fail())
    supervisor = world.supervisor()
    supervisor.ensure(record)

    held = await world.until(record.evacuation_id, lambda r: r.state is S.PENDING)
    entry = (await world.entries(record.evacuation_id))["vm0"]
    assert (held.reason, entry.outcome, entry.reason) == ("SOURCE_STILL_RUNNING", VmOutcome.PENDING, "SOURCE_STILL_RUNNING")
    assert await alarms(world) == ["SOURCE_STILL_RUNNING"]
    before = (await world.store.evacuations.get(C, record.evacuation_id)).sequence
    await asyncio.sleep(0.4)  # four pending retries
    assert (await world.store.evacuations.get(C, record.evacuation_id)).sequence == before
    assert world.running_on(1) != []

    await world.store.evacuations.request_cancel(C, record.evacuation_id, "enough")
    assert (await world.ended(record.evacuation_id)).state is S.CANCELLED


async def test_the_operators_word_releases_a_locked_vm(world: World) -> None:
    """After ConfirmHostOff a VM whose disk was locked is tried again, once, and runs."""
    await world.cluster()
    await world.vms(seen(0))
    for host_id in ("h2", "h3"):
        world.fake(host_id).locked.add("*")
    record = await world.order(await world.fail())
    world.supervisor().ensure(record)
    await world.until(record.evacuation_id, lambda r: r.state is S.PENDING)

    for fake in world.fakes.values():
        fake.locked.clear()
    await world.store.hosts.confirm_off(C, "h1", record.fence_epoch, "ann")

    assert (await world.ended(record.evacuation_id)).state is S.SUCCEEDED
    assert len(world.running_on(0)) == 1


async def test_b04_no_room_then_room(world: World) -> None:
    """What does not fit is PENDING with NO_CAPACITY and the figures; it is placed when a host comes."""
    await world.cluster(2, memory_mib=128)
    await world.vms(*(seen(n) for n in range(4)))
    record = await world.order(await world.fail())
    world.supervisor().ensure(record)

    waiting = await world.until(record.evacuation_id, lambda r: r.state is S.PENDING)
    assert (waiting.reason, waiting.counts.get(VmOutcome.PENDING)) == ("NO_CAPACITY", 2)
    assert "MEMORY_FULL: h2" in waiting.message
    await world.host("h3")

    ended = await world.ended(record.evacuation_id)
    assert ended.state is S.SUCCEEDED
    assert sorted(len(world.running_on(n)) for n in range(4)) == [1, 1, 1, 1]


async def test_s15_high_priorities_get_the_room(world: World) -> None:
    """Room for two of four: the two of the highest priority run."""
    await world.cluster(2, memory_mib=128)
    await world.vms(*(seen(n, priority=n) for n in range(4)))
    record = await world.order(await world.fail())
    world.supervisor().ensure(record)

    await world.until(record.evacuation_id, lambda r: r.state is S.PENDING)

    assert [bool(world.running_on(n)) for n in range(4)] == [False, False, True, True]


async def test_s15_limits_of_parallel_starts_are_kept(world: World) -> None:
    """parallel 3, per target 2: never more starts at once on one host, and all VMs run in the end."""
    await world.cluster(config=replace(CONFIG, parallel=3, parallel_per_target=2))
    await world.vms(*(seen(n) for n in range(12)))
    for host_id in ("h2", "h3"):
        world.fake(host_id).delay_s = 0.02

    record = await world.evacuate()

    assert record.state is S.SUCCEEDED
    assert max(fake.most_at_once for fake in world.fakes.values()) == 2


async def test_b06_a_start_without_an_answer_is_pinned_until_it_is_verified(world: World) -> None:
    """The connection breaks after the domain was made: it is found paused there, admitted, and started nowhere else."""
    await world.cluster()
    await world.vms(seen(0))
    for host_id in ("h2", "h3"):
        world.fake(host_id).starts_then_hangs.add("*")
    record = await world.order(await world.fail())
    world.supervisor().ensure(record)
    await world.until(record.evacuation_id, lambda r: r.state is S.RUNNING)
    ended = await world.ended(record.evacuation_id)

    assert ended.state is S.SUCCEEDED
    assert sum(len(fake.started) for fake in world.fakes.values()) == 1
    assert len(world.running_on(0)) == 1


async def test_a_target_that_dies_in_the_middle_takes_its_vm_along(world: World) -> None:
    """h2 hangs with a VM claimed for it, then fails and is evacuated itself: the VM runs on h3, once; ours says TAKEN_OVER."""
    await world.cluster()
    await world.vms(seen(0))
    await world.store.hosts.put_facts(C, "h3", HostFacts(vcpus=64, memory_mib=1024))  # h2 has more free memory
    world.fake("h2").hangs.add("*")
    first = await world.order(await world.fail())
    supervisor = world.supervisor()
    supervisor.ensure(first)
    async with asyncio.timeout(10):
        while (await world.entries(first.evacuation_id)).get("vm0") is None or (await world.entries(first.evacuation_id))[
            "vm0"
        ].reason != "OUTCOME_UNKNOWN":
            await asyncio.sleep(0.01)

    second = await world.order(await world.fail("h2"))
    supervisor.ensure(second)

    assert (await world.ended(second.evacuation_id)).state is S.SUCCEEDED
    ended = await world.ended(first.evacuation_id)
    entry = (await world.entries(first.evacuation_id))["vm0"]
    assert (ended.state, entry.outcome, entry.reason) == (S.SUCCEEDED, VmOutcome.SKIPPED, "TAKEN_OVER")
    assert world.running_on(0) == ["h3"]


async def test_a_refused_admission_is_withdrawn_and_moved_on(world: World) -> None:
    """h2's agent refuses every admission: the paused domains are removed there, and the VMs run on h3."""
    await world.cluster()
    await world.vms(*(seen(n) for n in range(4)))
    world.agent.refuses["h2"] = "LEASE_EXPIRED"

    record = await world.evacuate()

    assert record.state is S.SUCCEEDED
    assert [world.running_on(n) for n in range(4)] == [["h3"]] * 4
    assert world.fakes["h2"].domains == {}


async def test_a_target_without_a_lease_is_no_verdict_on_the_vm(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The only target lost its lease for a moment: the VM is withdrawn and waits, and runs there once the lease is back."""
    monkeypatch.setattr("vmha.evac.workflow.NOT_ANSWERING_S", 0.3)
    await world.cluster(2)
    await world.vms(seen(0))
    world.agent.refuses["h2"] = "LEASE_EXPIRED"
    order = await world.order(await world.fail())
    world.supervisor().ensure(order)
    await world.until(order.evacuation_id, lambda record: record.state is S.PENDING)
    assert world.fakes["h2"].domains == {}

    world.agent.refuses.clear()
    assert (await world.ended(order.evacuation_id)).state is S.SUCCEEDED
    assert world.running_on(0) == ["h2"]


async def test_a_host_that_came_back_keeps_what_it_still_owns(world: World) -> None:
    """VMs wait for room, the host registers again: they are RESTARTED, not started elsewhere."""
    await world.cluster(1)
    await world.vms(seen(0))
    record = await world.order(await world.fail())
    world.supervisor().ensure(record)
    await world.until(record.evacuation_id, lambda r: r.state is S.PENDING)

    incarnation = await world.store.hosts.offer(C, "h1", "token-2")
    await world.store.hosts.complete_registration(C, "h1", incarnation, "boot-h1-2")
    ended = await world.ended(record.evacuation_id)
    entry = (await world.entries(record.evacuation_id))["vm0"]

    assert (ended.state, entry.outcome, entry.reason) == (S.SUCCEEDED, VmOutcome.RESTARTED, "HOST_RETURNED")


async def test_a_cancel_while_proving_ends_at_once(world: World) -> None:
    """The fence device hangs; CANCELLED follows the cancel without waiting for it, and nothing was touched."""
    await world.cluster()
    await world.vms(seen(0))
    world.device.gate = asyncio.Event()
    record = await world.order(await world.fail())
    supervisor = world.supervisor()
    supervisor.ensure(record)
    while not world.device.reads:
        await asyncio.sleep(0.01)

    await world.store.evacuations.request_cancel(C, record.evacuation_id, "it is back")
    supervisor.cancel(record.evacuation_id, "it is back")
    ended = await world.ended(record.evacuation_id, 1.0)

    assert ended.state is S.CANCELLED
    assert (await world.store.vms.get(C, vm_uuid(0))).owner_host_id == "h1"


async def test_two_evacuations_never_plan_for_the_same_room(world: World) -> None:
    """Two hosts fail at once, with room for their VMs together and not a MiB more: all run, no host is over its memory."""
    await world.cluster(4, memory_mib=64 * 8)
    await world.vms(*(seen(n) for n in range(8)))
    await world.vms(*(seen(n) for n in range(8, 16)), host_id="h2")
    first = await world.order(await world.fail("h1"))
    second = await world.order(await world.fail("h2"))
    supervisor = world.supervisor()
    supervisor.ensure(first)
    supervisor.ensure(second)

    assert (await world.ended(first.evacuation_id)).state is S.SUCCEEDED
    assert (await world.ended(second.evacuation_id)).state is S.SUCCEEDED
    assert [len(fake.domains) for fake in (world.fakes["h3"], world.fakes["h4"])] == [8, 8]


async def test_two_evacuators_never_plan_for_the_same_room(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes, twelve VMs, room for eight, and plans that are slow to be written: eight run, four wait."""
    await world.cluster(3, memory_mib=64 * 8)
    await world.vms(*(seen(n) for n in range(6)))
    await world.vms(*(seen(n) for n in range(6, 12)), host_id="h2")
    orders = [await world.order(await world.fail(host_id)) for host_id in ("h1", "h2")]
    write = Evacuations.plan

    async def slowly(*args: Any) -> None:
        await asyncio.sleep(0.3)
        await write(*args)

    monkeypatch.setattr(Evacuations, "plan", slowly)
    for order in orders:
        world.supervisor().ensure(order)

    for order in orders:
        await world.until(order.evacuation_id, lambda record: record.state in {S.SUCCEEDED, S.PENDING})
    assert len(world.fakes["h3"].domains) == 8


async def test_in_safe_mode_nothing_starts(world: World) -> None:
    """R20: the proof is there, the store has lost writes: PENDING with SAFE_MODE until the last host has said what it runs."""
    await world.cluster()
    await world.vms(seen(0), seen(1))
    order = await world.order(await world.fail())
    await world.store.clusters.enter_safe_mode(C, 99, ["h2"])
    world.supervisor().ensure(order)

    waiting = await world.until(order.evacuation_id, lambda record: record.state is S.PENDING)
    assert (waiting.reason, waiting.proof) == ("SAFE_MODE", ProofKind.FENCE)
    await asyncio.sleep(0.5)  # five retries, which are no news
    assert (await world.store.evacuations.get(C, order.evacuation_id)).sequence == waiting.sequence
    assert all(not fake.started for fake in world.fakes.values())
    await world.store.clusters.safe_arrived(C, ["h2"])
    assert (await world.ended(order.evacuation_id)).state is S.SUCCEEDED


async def test_safe_mode_holds_what_is_claimed_already(world: World) -> None:
    """R20: a VM that was claimed before the store was lost is not started before safe mode ends."""
    await world.cluster()
    await world.vms(seen(0))
    for host_id in ("h2", "h3"):
        world.fake(host_id).hangs.add("*")
    order = await world.order(await world.fail())
    world.supervisor().ensure(order)
    async with asyncio.timeout(10):
        while (e := (await world.entries(order.evacuation_id)).get("vm0")) is None or e.reason != "OUTCOME_UNKNOWN":
            await asyncio.sleep(0.01)
    await world.store.clusters.enter_safe_mode(C, 99, ["h2"])
    for fake in world.fakes.values():
        fake.hangs.clear()
    await asyncio.sleep(2.5)  # beyond the first two looks at it

    assert all(not fake.started for fake in world.fakes.values())
    await world.store.clusters.safe_arrived(C, ["h2"])
    assert (await world.ended(order.evacuation_id)).state is S.SUCCEEDED


async def test_a_target_must_hold_the_newest_configuration(world: World) -> None:
    """R18: h2, with more room, has not confirmed it: everything goes to h3."""
    await world.cluster()
    await world.store.hosts.note(C, "h2", config_confirmed=0)
    await world.store.hosts.put_facts(C, "h3", HostFacts(vcpus=64, memory_mib=8192))
    await world.vms(*(seen(n) for n in range(4)))

    assert (await world.evacuate()).state is S.SUCCEEDED
    assert [world.running_on(n) for n in range(4)] == [["h3"]] * 4


async def test_a_vm_in_migration_waits_for_the_other_host(world: World) -> None:
    """R22: h2 has the incoming domain of vm0 as h1 dies: vm0 is PENDING, vm1 moves; once h2 says that it is gone, vm0 too."""
    await world.cluster()
    await world.vms(seen(0), seen(1))
    await world.vms(seen(0, state=VmState.PAUSED, reason="migration"), host_id="h2")
    order = await world.order(await world.fail())
    world.supervisor().ensure(order)

    waiting = await world.until(order.evacuation_id, lambda record: record.state is S.PENDING)
    assert waiting.reason == "VM_MIGRATING"
    assert (world.running_on(0), len(world.running_on(1))) == ([], 1)
    await world.vms(seen(0, state=VmState.ABSENT, reason="failed"), host_id="h2")
    assert (await world.ended(order.evacuation_id)).state is S.SUCCEEDED
    assert len(world.running_on(0)) == 1


async def test_a_migration_that_ended_as_its_source_died_is_taken_as_it_is(world: World) -> None:
    """R22: h2 said that it runs vm0 before h1 could say that it left: h2 owns it, nothing is started."""
    await world.cluster()
    await world.vms(seen(0))
    await world.vms(seen(0), host_id="h2")

    record = await world.evacuate()
    entry = (await world.entries(record.evacuation_id))["vm0"]
    assert (record.state, entry.outcome, entry.reason) == (S.SUCCEEDED, VmOutcome.SKIPPED, "TAKEN_OVER")
    assert (await world.store.vms.get(C, vm_uuid(0))).owner_host_id == "h2"
    assert all(not fake.started for fake in world.fakes.values())


STEPS = ["ProveDeath", "MakePlan", "ClaimVm", "StartVm", "AdmitVm", "VerifyVm"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_killed_evacuator_is_followed_by_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str, when: str
) -> None:
    """Killed before or after any operation, with nothing released: the next evacuator goes on from the journal; each VM runs on
    exactly one host and has exactly one outcome."""
    await world.cluster()
    await world.vms(*(seen(n) for n in range(5)))
    record = await world.order(await world.fail())
    run, died = Operations.run, asyncio.Event()
    dead: list[Operations] = []

    async def dying(self: Operations, operation: Any) -> Any:
        if self in dead:
            await asyncio.Event().wait()  # a dead process does nothing more
        if type(operation).__name__ != step or died.is_set():
            return await run(self, operation)
        if when == "after":
            await run(self, operation)
        dead.append(self)
        died.set()
        return await asyncio.Event().wait()

    monkeypatch.setattr(Operations, "run", dying)
    first = world.supervisor()
    first.ensure(record)
    await asyncio.wait_for(died.wait(), 10)
    await kill(first)

    world.supervisor().ensure(record)
    ended = await world.ended(record.evacuation_id)

    assert ended.state is S.SUCCEEDED
    assert await world.outcomes(record.evacuation_id) == {f"vm{n}": VmOutcome.MOVED for n in range(5)}
    for number in range(5):
        vm = await world.store.vms.get(C, vm_uuid(number))
        assert world.running_on(number) == [vm.owner_host_id]


async def kill(supervisor: Any) -> None:
    """Ends an evacuator as SIGKILL does: its tasks are gone, its lock stays until it expires."""
    edges = supervisor._edges
    supervisor._edges = replace(edges, store=_DeafStore(edges.store))
    for task in list(supervisor._tasks.values()):
        task.cancel()
    _, alive = await asyncio.wait(supervisor._tasks.values(), timeout=5)
    assert not alive


class _DeafStore:
    """A store that takes no release."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.evacuations = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store.evacuations, name)

    async def release(self, *_: Any) -> None:
        return None


async def test_a_superseded_runner_writes_nothing_more(world: World) -> None:
    """Another runner takes the lock: the first one's journal writes are refused, and it stops."""
    await world.cluster()
    await world.vms(*(seen(n) for n in range(3)))
    world.device.gate = asyncio.Event()
    record = await world.order(await world.fail())
    supervisor = world.supervisor()
    supervisor.ensure(record)
    while not world.device.reads:
        await asyncio.sleep(0.01)
    [runner] = supervisor._runners.values()
    await world.store.evacuations.release(C, record.evacuation_id, runner._runner_id)
    assert await world.store.evacuations.acquire(C, record.evacuation_id, "other", 30)

    world.device.gate.set()
    async with asyncio.timeout(10):
        while runner in supervisor._runners.values():
            await asyncio.sleep(0.01)

    assert (await world.store.evacuations.get(C, record.evacuation_id)).state is S.VERIFYING
    assert all(not fake.started for fake in world.fakes.values())


async def test_a_redis_that_was_away_delays_and_loses_nothing(
    world: World, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store does not answer for a while in the middle of the starts: all VMs run afterwards, each once."""
    await world.cluster()
    await world.vms(*(seen(n) for n in range(6)))
    for host_id in ("h2", "h3"):
        world.fake(host_id).delay_s = 0.05
    record = await world.order(await world.fail())
    world.supervisor().ensure(record)
    await world.until(record.evacuation_id, lambda r: r.state is S.RUNNING)

    os.kill(redis_server.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(0.4)
    finally:
        os.kill(redis_server.pid, signal.SIGCONT)

    assert (await world.ended(record.evacuation_id)).state is S.SUCCEEDED
    assert [len(world.running_on(n)) for n in range(6)] == [1] * 6


async def test_a_drain_stops_at_a_steps_border_and_the_next_goes_on(world: World) -> None:
    """SIGTERM in the middle: no operation is cut, the lock is free at once, the next evacuator ends the work."""
    await world.cluster(config=replace(CONFIG, parallel=2, parallel_per_target=1))
    await world.vms(*(seen(n) for n in range(8)))
    for host_id in ("h2", "h3"):
        world.fake(host_id).delay_s = 0.05
    record = await world.order(await world.fail())
    first = world.supervisor()
    first.ensure(record)
    await world.until(record.evacuation_id, lambda r: r.counts.get(VmOutcome.MOVED, 0) >= 2)

    await first.drain()
    entries = await world.entries(record.evacuation_id)
    assert any(entry.step is not VmStep.SETTLED for entry in entries.values())
    assert await world.store.evacuations.acquire(C, record.evacuation_id, "probe", 5)
    await world.store.evacuations.release(C, record.evacuation_id, "probe")

    world.supervisor().ensure(record)
    assert (await world.ended(record.evacuation_id)).state is S.SUCCEEDED
    assert [len(world.running_on(n)) for n in range(8)] == [1] * 8


async def test_metrics_count_outcomes_and_proofs(world: World) -> None:
    """A moved and a skipped VM and one fence proof are counted."""
    await world.cluster()
    await world.vms(seen(0), seen(1, ha_enabled=False))
    world.device.power = Power.OFF
    record = await world.order(await world.fail())
    supervisor = world.supervisor()
    supervisor.ensure(record)
    await world.ended(record.evacuation_id)
    metrics: Metrics = supervisor._metrics

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, labels)

    assert value("vmha_evac_vm_outcomes_total", outcome="MOVED") == 1
    assert value("vmha_evac_vm_outcomes_total", outcome="SKIPPED") == 1
    assert value("vmha_evac_proofs_total", answer="FENCE") == 1
    assert value("vmha_evac_states_total", state="SUCCEEDED") == 1


async def test_the_loop_runs_on_while_a_plan_is_made(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that takes long holds up neither other evacuations nor answers: the loop does its work in the middle of it."""
    loop, answered = asyncio.get_running_loop(), threading.Event()

    def slowly(*args: Any) -> PlanMade:
        loop.call_soon_threadsafe(answered.set)
        assert answered.wait(5.0), "the loop stood still"
        return plan(*args)

    plan = planner.plan
    monkeypatch.setattr(planner, "plan", slowly)
    await world.cluster()
    await world.vms(seen(0))

    record = await world.evacuate()

    assert answered.is_set()
    assert record.state is S.SUCCEEDED


@pytest.mark.parametrize("word", ["cancel", "proof"])
async def test_what_is_said_while_the_journal_is_read_counts_after_it(
    world: World, monkeypatch: pytest.MonkeyPatch, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cancel or a proof that comes before a runner knows where it stands: it neither fails nor forgets it."""
    await world.cluster()
    await world.vms(seen(0))
    record = await world.order(await world.fail())
    supervisor, read = world.supervisor(), world.store.evacuations.entries

    async def entries(*of: Any) -> Any:
        if word == "cancel":
            supervisor.cancel(record.evacuation_id, "somebody said so")
        else:
            supervisor.prove_again(record.evacuation_id)
        return await read(*of)

    monkeypatch.setattr(world.store.evacuations, "entries", entries)
    supervisor.ensure(record)
    ended = await world.ended(record.evacuation_id)

    assert ended.state is (S.CANCELLED if word == "cancel" else S.SUCCEEDED)
    assert "run_failed" not in capsys.readouterr().out
