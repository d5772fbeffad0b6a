"""The journal of an evacuation, and the claim of a VM."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable
from dataclasses import replace

import pytest
import redis
from redis.asyncio import Redis

from tests.store.ways import RUNNER, C, planned, started
from tests.support.failures import confirm_down, register, running
from tests.support.redis import RedisHome
from vmha.errors import Aborted, InvalidField, NotFound, VmhaError
from vmha.model import EvacuationState, HostState, ProofKind, VmOutcome, VmState, VmStep
from vmha.store import Store
from vmha.store.records import VmEntry

WHOLE_COLLECTIONS = {"hgetall", "hkeys", "hvals", "smembers", "zrange", "lrange", "keys", "scan", "hscan", "sort"}
END = "end-of-the-act"


async def test_the_same_request_joins(store: Store) -> None:
    """One evacuation for an id; other fields are REQUEST_ID_REUSED; a second for the host is HOST_BUSY until the first ended."""
    incident, _ = await started(store, ["v1"])
    name, fence, incarnation = incident.incident_id, incident.fence_epoch, incident.incarnation
    first = await store.evacuations.get(C, name)

    assert await store.evacuations.start(C, name, "h1", fence, incarnation, 0) == first
    assert (first.state, first.sequence, first.counts) == (EvacuationState.VERIFYING, 1, {})
    with pytest.raises(InvalidField) as reused:
        await store.evacuations.start(C, name, "h1", fence + 1, incarnation, 0)
    assert reused.value.reason == "REQUEST_ID_REUSED"
    with pytest.raises(Aborted) as busy:
        await store.evacuations.start(C, "other", "h1", fence, incarnation, 0)
    assert busy.value.reason == "HOST_BUSY"
    await store.evacuations.advance(C, name, RUNNER, EvacuationState.CANCELLED)
    assert (await store.evacuations.start(C, "other", "h1", fence, incarnation, 0)).evacuation_id == "other"


async def test_only_a_host_that_is_down_is_evacuated(store: Store) -> None:
    """The fence epoch must be the newest, the incarnation no newer than the host's, and revoked."""
    incident, _ = await started(store, ["v1"])
    cases: list[tuple[str, int, int, str]] = [
        ("h1", incident.fence_epoch - 1, incident.incarnation, "STALE_FENCE_EPOCH"),
        ("h1", incident.fence_epoch + 1, incident.incarnation, "STALE_FENCE_EPOCH"),
        ("h1", incident.fence_epoch, incident.incarnation + 1, "STALE_INCARNATION"),
        ("h2", 0, 0, "HOST_NOT_DOWN"),
        ("h9", 0, 0, "HOST_UNKNOWN"),
    ]
    for host_id, fence_epoch, incarnation, reason in cases:
        with pytest.raises(VmhaError) as caught:
            await store.evacuations.start(C, "another", host_id, fence_epoch, incarnation, 0)
        assert caught.value.reason == reason
    with pytest.raises(NotFound):
        await store.evacuations.get(C, "another")


async def test_one_runner_writes(store: Store) -> None:
    """Acquire, renew, release; who does not hold it writes nothing, and a lock that ran out is another's to take."""
    incident, _ = await started(store, ["v1"])
    name, evacuations = incident.incident_id, store.evacuations
    assert not await evacuations.acquire(C, name, "other", 30) and not await evacuations.renew(C, name, "other", 30)
    assert await evacuations.acquire(C, name, RUNNER, 30) and await evacuations.renew(C, name, RUNNER, 0.05)
    async with asyncio.timeout(5):
        while not await evacuations.acquire(C, name, "other", 30):
            await asyncio.sleep(0.02)
    assert not await evacuations.renew(C, name, RUNNER, 30)
    with pytest.raises(Aborted) as caught:
        await evacuations.advance(C, name, RUNNER, EvacuationState.PLANNING, proof=ProofKind.FENCE)
    assert caught.value.reason == "RUNNER_SUPERSEDED"
    await evacuations.release(C, name, RUNNER)
    assert not await evacuations.acquire(C, name, RUNNER, 30)
    await evacuations.release(C, name, "other")
    assert not await evacuations.renew(C, name, "other", 30)
    assert await evacuations.acquire(C, name, RUNNER, 30)
    with pytest.raises(NotFound):
        await evacuations.acquire(C, "none", RUNNER, 30)


async def test_steps_count_up_without_a_gap_and_keep_the_counters(store: Store) -> None:
    """Every change is one history entry and one event with the counters of that moment; repeats are none."""
    way = await planned(store, ["v1", "v2", "v3"])
    for entry, outcome in zip(way.entries, (VmOutcome.MOVED, VmOutcome.PENDING, VmOutcome.SKIPPED), strict=True):
        settled = replace(entry, step=VmStep.SETTLED, outcome=outcome, reason="R")
        head = await store.evacuations.step(C, way.id, RUNNER, settled)
        assert await store.evacuations.step(C, way.id, RUNNER, settled) == head
    again = replace(way.entries[1], step=VmStep.SETTLED, outcome=VmOutcome.FAILED)
    await store.evacuations.step(C, way.id, RUNNER, again)
    head = await store.evacuations.advance(C, way.id, RUNNER, EvacuationState.PARTIALLY_FAILED, message="done")
    assert await store.evacuations.advance(C, way.id, RUNNER, EvacuationState.PARTIALLY_FAILED, message="done") == head

    assert head.counts == {VmOutcome.MOVED: 1, VmOutcome.SKIPPED: 1, VmOutcome.FAILED: 1}
    history = await store.evacuations.history(C, way.id, 0)
    assert [h.sequence for h in history] == list(range(1, head.sequence + 1))
    assert history[-1].evacuation == head and history[2].evacuation.counts == {VmOutcome.OPEN: 3}
    assert [h.vm.vm_id for h in history if h.vm] == ["v1", "v2", "v3", "v2"]
    assert await store.evacuations.history(C, way.id, head.sequence) == []
    assert await store.evacuations.entries(C, way.id) == sorted(
        [history[3].vm, history[5].vm, again], key=lambda e: e.vm_id if e else ""
    )
    kinds = [event.kind for event in await store.events.read(C, 0)]
    proven = ["host_state_change", "evacuation_state_change"]
    assert kinds == ["evacuation_state_change", *proven] + ["vm_evacuation_change"] * 4 + ["evacuation_state_change"]


async def test_an_outcome_is_final(store: Store) -> None:
    """MOVED never becomes anything else, by a step, a plan or a claim; an ended evacuation takes no step."""
    way = await planned(store, ["v1", "v2"])
    moved = replace(way.entries[0], step=VmStep.SETTLED, outcome=VmOutcome.MOVED)
    await store.evacuations.step(C, way.id, RUNNER, moved)
    before = await store.evacuations.get(C, way.id)
    for call in (
        store.evacuations.step(C, way.id, RUNNER, replace(moved, outcome=VmOutcome.FAILED)),
        store.evacuations.plan(C, way.id, RUNNER, [replace(way.entries[1], reason="X"), way.entries[0]]),
        way.claim(way.entries[0]),
    ):
        with pytest.raises(Aborted) as caught:
            await call
        assert caught.value.reason == "VM_SETTLED"
    assert await store.evacuations.get(C, way.id) == before
    await store.evacuations.advance(C, way.id, RUNNER, EvacuationState.FAILED)
    for late in (store.evacuations.step(C, way.id, RUNNER, way.entries[1]), way.claim(way.entries[1])):
        with pytest.raises(Aborted) as caught:
            await late
        assert caught.value.reason == "EVACUATION_ENDED"


async def test_nothing_is_claimed_without_proof(store: Store) -> None:
    """EVACUATION_UNPROVEN: the script itself refuses, whatever the runner believes."""
    incident, incarnations = await started(store, ["v1"])
    entry = VmEntry(vm_id="v1", vm_name="v1", target_host_id="h2", target_incarnation=incarnations["h2"], source_epoch=1)
    await store.evacuations.advance(C, incident.incident_id, RUNNER, EvacuationState.RUNNING)
    with pytest.raises(Aborted) as caught:
        await store.evacuations.claim(C, incident.incident_id, RUNNER, entry, "h1", incident.incarnation)

    assert caught.value.reason == "EVACUATION_UNPROVEN"


async def test_a_claim_gives_the_vm_to_its_target_once(store: Store) -> None:
    """Owner, incarnation, epoch + 1, claim and journal in one moment; a repeat returns the journal's entry as it is now."""
    way = await planned(store, ["v1"])
    claimed = await way.claim(way.entries[0])
    record = await store.vms.get(C, "v1")

    assert (claimed.step, claimed.epoch) == (VmStep.CLAIMED, 2)
    assert (record.owner_host_id, record.owner_incarnation, record.epoch) == ("h2", way.incarnations["h2"], 2)
    assert (record.claim_id, record.state, record.desired_state) == (way.id, VmState.UNSPECIFIED, VmState.RUNNING)
    further = replace(claimed, step=VmStep.STARTED)
    await store.evacuations.step(C, way.id, RUNNER, further)
    assert await way.claim(way.entries[0]) == further
    assert await store.evacuations.entries(C, way.id) == [further]


async def test_a_claim_needs_what_the_plan_saw(store: Store) -> None:
    """Another epoch, a VM that is gone, a target that rebooted, is down or is the dead host itself: nothing changes."""
    way = await planned(store, ["v1"])
    entry = way.entries[0]
    before = await store.vms.get(C, "v1")
    cases = [
        (replace(entry, source_epoch=2), "STALE_VM_EPOCH"),
        (replace(entry, vm_id="v9"), "STALE_VM_EPOCH"),
        (replace(entry, target_incarnation=1), "STALE_INCARNATION"),
        (replace(entry, target_host_id="h1", target_incarnation=way.incident.incarnation), "STALE_INCARNATION"),
    ]
    await confirm_down(store, C, "h3")
    cases.append((replace(entry, target_host_id="h3", target_incarnation=way.incarnations["h3"]), "STALE_INCARNATION"))
    for wrong, reason in cases:
        with pytest.raises(Aborted) as caught:
            await way.claim(wrong)
        assert caught.value.reason == reason
    with pytest.raises(Aborted):
        await way.claim(entry, runner="other")
    assert await store.vms.get(C, "v1") == before


async def test_the_vm_says_why_it_does_not_run(store: Store) -> None:
    """A pending, failed or skipped outcome is the VM's reason until it runs, or its host registers again."""
    way = await planned(store, ["v1", "v2"])
    for entry in way.entries:
        await store.evacuations.step(C, way.id, RUNNER, replace(entry, outcome=VmOutcome.PENDING, reason="NO_CAPACITY"))
    assert [vm.reason for vm in await store.vms.list(C)] == ["NO_CAPACITY"] * 2
    claimed = await way.claim(way.entries[0])
    await store.evacuations.step(C, way.id, RUNNER, replace(claimed, step=VmStep.SETTLED, outcome=VmOutcome.MOVED))
    await register(store, C, "h1", "boot-h1-2")
    moved, returned = await store.vms.list(C)

    assert (moved.owner_host_id, moved.state, moved.reason) == ("h2", VmState.RUNNING, "")
    assert (returned.owner_host_id, returned.reason) == ("h1", "")
    late = replace(way.entries[0], outcome=VmOutcome.MOVED, step=VmStep.SETTLED, target_host_id="h3")
    assert (await store.evacuations.step(C, way.id, RUNNER, late)).counts[VmOutcome.MOVED] == 1
    assert await store.vms.get(C, "v1") == moved


async def test_a_host_that_returned_keeps_its_vms(store: Store) -> None:
    """After registration the claim fails, and so does one by a new plan of the old evacuation."""
    way = await planned(store, ["v1"])
    await register(store, C, "h1", "boot-h1-2")
    record = await store.vms.get(C, "v1")
    for entry in (way.entries[0], replace(way.entries[0], source_epoch=record.epoch)):
        with pytest.raises(Aborted) as caught:
            await way.claim(entry)
        assert caught.value.reason == "STALE_VM_EPOCH"
    with pytest.raises(Aborted):
        await store.evacuations.claim(C, way.id, RUNNER, replace(way.entries[0], source_epoch=2), "h1", record.owner_incarnation)
    assert await store.vms.get(C, "v1") == record


async def test_a_refused_start_goes_to_another_target(store: Store) -> None:
    """Epoch + 1 and the old target among the attempts; never when the old target runs it, or another evacuation took it."""
    way = await planned(store, ["v1", "v2"])
    first, second = [await way.claim(entry) for entry in way.entries]
    again = await store.evacuations.reclaim(C, way.id, RUNNER, first, "h3", way.incarnations["h3"])
    assert (again.target_host_id, again.epoch, again.attempts, again.step) == ("h3", 3, ("h2",), VmStep.CLAIMED)
    assert await store.evacuations.reclaim(C, way.id, RUNNER, first, "h3", way.incarnations["h3"]) == again
    seen = [running("v2", epoch=second.epoch)]
    await store.vms.observe(C, "h2", way.incarnations["h2"], seen, full=False, planned_shutdown=False)
    for entry, reason in ((second, "VM_RUNS_ON_TARGET"), (replace(again, epoch=2), "STALE_VM_EPOCH")):
        with pytest.raises(Aborted) as caught:
            await store.evacuations.reclaim(
                C, way.id, RUNNER, entry, "h2" if entry is not second else "h3", way.incarnations["h3"]
            )
        assert caught.value.reason == reason


async def test_a_target_that_dies_hands_on_by_its_own_evacuation(store: Store) -> None:
    """The VM follows ownership: the second evacuation claims it, and the first can retarget no more."""
    way = await planned(store, ["v1"])
    claimed = await way.claim(way.entries[0])
    down = await confirm_down(store, C, "h2")
    await store.evacuations.start(C, down.incident_id, "h2", down.fence_epoch, down.incarnation, 0)
    await store.evacuations.acquire(C, down.incident_id, RUNNER, 30)
    await store.evacuations.advance(C, down.incident_id, RUNNER, EvacuationState.PLANNING, proof=ProofKind.OPERATOR)
    entry = VmEntry(vm_id="v1", vm_name="v1", target_host_id="h3", target_incarnation=way.incarnations["h3"], source_epoch=2)
    taken = await store.evacuations.claim(C, down.incident_id, RUNNER, entry, "h2", down.incarnation)
    assert taken.epoch == 3
    with pytest.raises(Aborted):
        await store.evacuations.reclaim(C, way.id, RUNNER, claimed, "h3", way.incarnations["h3"])


async def test_an_alarm_comes_with_its_step(store: Store) -> None:
    """SOURCE_STILL_RUNNING is in the log once, with VM and host, however often the step is repeated."""
    way = await planned(store, ["v1"])
    stuck = replace(way.entries[0], outcome=VmOutcome.PENDING, reason="SOURCE_STILL_RUNNING", message="lock held")
    for _ in range(2):
        await store.evacuations.step(C, way.id, RUNNER, stuck, alarm="SOURCE_STILL_RUNNING")
    [alarm] = [event for event in await store.events.read(C, 0) if event.kind == "alarm"]

    assert alarm.detail == {"reason": "SOURCE_STILL_RUNNING", "host_id": "h1", "vm_id": "v1", "message": "lock held"}
    assert alarm.incident_id == way.id


async def test_cancel_is_asked_once_and_not_of_the_ended(store: Store) -> None:
    """The request is in head and history; a second one, or one after the end, changes nothing."""
    incident, _ = await started(store, [])
    name = incident.incident_id
    asked = await store.evacuations.request_cancel(C, name, "host is back")
    assert asked.cancel_requested and await store.evacuations.request_cancel(C, name, "again") == asked
    ended = await store.evacuations.advance(C, name, RUNNER, EvacuationState.CANCELLED, reason="CANCELLED")
    assert await store.evacuations.request_cancel(C, name, "late") == ended
    assert ended.end_time_s > 0 and ended.proof_time_s == 0.0
    assert await store.evacuations.unfinished(C) == []


async def test_lists_are_newest_first(store: Store) -> None:
    """By host and by page; unfinished ones alone for an evacuator that starts."""
    incident, _ = await started(store, [])
    down = await confirm_down(store, C, "h2")
    await asyncio.sleep(0.002)
    await store.evacuations.start(C, down.incident_id, "h2", down.fence_epoch, down.incarnation, 0)

    assert [e.host_id for e in await store.evacuations.list(C)] == ["h2", "h1"]
    assert [e.host_id for e in await store.evacuations.list(C, offset=1, limit=1)] == ["h1"]
    assert [e.evacuation_id for e in await store.evacuations.list(C, "h1")] == [incident.incident_id]
    assert [e.host_id for e in await store.evacuations.unfinished(C)] == ["h1", "h2"]


@pytest.mark.asyncio(loop_factories=["redis"])
async def test_steps_stay_cheap_in_a_long_journal(store: Store, redis_home: RedisHome) -> None:
    """With 1,000 VMs the last step asks Redis for what the first one asked, and reads nothing whole that grows with them."""
    way = await planned(store, [f"v{i:04}" for i in range(1000)])
    client = redis_home.client()
    asked = []
    for start in range(0, 1000, 100):
        hundred = [replace(entry, step=VmStep.STARTED) for entry in way.entries[start : start + 100]]
        for entry in hundred[:-1]:
            await store.evacuations.step(C, way.id, RUNNER, entry)
        asked.append(await _asked(client, store.evacuations.step(C, way.id, RUNNER, hundred[-1])))

    assert [command[0] for command in asked[0]] == [command[0] for command in asked[-1]]
    whole = {command[1] for command in asked[-1] if command[0] in WHOLE_COLLECTIONS}
    assert whole and all([await client.hlen(key) < 50 for key in whole])
    await client.aclose()


async def _asked(client: Redis, act: Awaitable[object]) -> list[list[str]]:
    """What Redis carries out for the scripts of an act: words of commands."""
    port = client.connection_pool.connection_kwargs["port"]
    with redis.Redis(port=port, decode_responses=True) as watcher, watcher.monitor() as monitor:
        await act
        await client.echo(END)
        told = list(itertools.takewhile(lambda line: END not in line["command"], monitor.listen()))
    return [str(line["command"]).lower().split() for line in told if line["client_type"] == "lua"]


async def test_the_proof_is_told_with_its_rung_before_anything_starts(store: Store) -> None:
    """The event that a host is FENCED is written with the proof, once; what led up to it is not told after it."""
    incident, _ = await started(store, ["v1"])
    name, detail = incident.incident_id, {"host_id": "h1", "reason": "FENCE"}
    await store.evacuations.advance(C, name, RUNNER, EvacuationState.PLANNING, proof=ProofKind.FENCE, message="off twice")
    for state in (HostState.FENCING, HostState.FENCED, HostState.EVACUATING):
        await store.events.tell_host_state(C, "h1", state, {**detail, "new_state": f"HOST_STATE_{state}"}, incident_id=name)

    told = [event for event in await store.events.read(C, 0) if event.kind == "host_state_change"]

    assert [event.detail["new_state"] for event in told] == ["HOST_STATE_FENCED", "HOST_STATE_EVACUATING"]
    assert (told[0].detail["reason"], told[0].actor, told[0].incident_id) == ("FENCE", "evac", name)
