"""From what the store knows now to journal entries: rules first, then placement. Pure; reads what the runner has read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from vmha.evac.events import ClaimLost, PlanMade
from vmha.evac.placement import Demand, Placement, Rooms, measure, place
from vmha.evac.reasons import VmReason
from vmha.evac.rules import judge
from vmha.model import VmOutcome, VmState, VmStep
from vmha.store.records import ClusterSnapshot, EvacuationRecord, VmEntry, VmRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a plan is made from.

    Attributes:
        journaled: Entries of all evacuations under way: what they planned and did not claim yet is not free any more.
    """

    snapshot: ClusterSnapshot
    vms: Sequence[VmRecord]
    journaled: Sequence[VmEntry] = ()
    not_answering: frozenset[str] = frozenset()


def lost(evacuation: EvacuationRecord, entry: VmEntry, vm: VmRecord | None) -> ClaimLost | None:
    """Whether the VM is no longer this evacuation's to start, and what its outcome is then."""
    if vm is None:
        return _lost(entry, VmOutcome.SKIPPED, VmReason.VM_DELETED, "the VM was deleted meanwhile")
    if entry.epoch:
        if vm.owner_host_id == entry.target_host_id and vm.epoch == entry.epoch:
            return None
    elif vm.owner_host_id == evacuation.host_id:
        if vm.owner_incarnation <= evacuation.incarnation:
            return None
        return _lost(entry, VmOutcome.RESTARTED, VmReason.HOST_RETURNED, "its own host came back and owns it")
    return _lost(entry, VmOutcome.SKIPPED, VmReason.TAKEN_OVER, f"{vm.owner_host_id} owns it under epoch {vm.epoch}")


def _lost(entry: VmEntry, outcome: VmOutcome, reason: VmReason, message: str) -> ClaimLost:
    return ClaimLost(vm_id=entry.vm_id, outcome=outcome, reason=reason, message=message)


def first_entries(evacuation: EvacuationRecord, vms: Iterable[VmRecord]) -> list[VmEntry]:
    """An entry for each VM that the failed host owns."""
    owned = (vm for vm in vms if vm.owner_host_id == evacuation.host_id)
    return [VmEntry(vm_id=vm.vm_id, vm_name=vm.name, source_epoch=vm.epoch) for vm in owned]


def plan(evacuation: EvacuationRecord, entries: Sequence[VmEntry], situation: Situation) -> PlanMade:
    """Gives each entry a target, an outcome, or PENDING."""
    vms = {vm.vm_id: vm for vm in situation.vms}
    planned: list[VmEntry] = []
    demands: dict[str, tuple[VmEntry, VmRecord]] = {}
    for entry in entries:
        vm = vms.get(entry.vm_id)
        settled = _settled(evacuation, entry, vm)
        if settled is not None:
            planned.append(settled)
        elif vm is not None and (why := held(vm, situation.snapshot)) is not None:
            planned.append(replace(entry, step=VmStep.PLANNED, outcome=VmOutcome.PENDING, reason=why[0], message=why[1]))
        elif vm is not None:
            demands[entry.vm_id] = (entry, vm)
    free = rooms(evacuation, situation, vms, demands.keys())
    wanted = [Demand(vm_id=vm_id, facts=vm.facts, refused_by=frozenset(entry.attempts)) for vm_id, (entry, vm) in demands.items()]
    targets: dict[str, str] = {}
    for placement in place(wanted, free):
        entry, vm = demands[placement.vm_id]
        planned.append(_placed(entry, vm, placement, situation))
        if placement.host_id:
            targets[placement.vm_id] = placement.host_id
    priorities = {entry.vm_id: vms[entry.vm_id].facts.priority for entry in planned if entry.vm_id in vms}
    return PlanMade(entries=tuple(planned), targets=targets, priorities=priorities)


def held(vm: VmRecord, snapshot: ClusterSnapshot) -> tuple[VmReason, str] | None:
    """Why a VM may be started nowhere for now; the claim checks it again."""
    if snapshot.cluster.safe_mode:
        waits = ", ".join(snapshot.cluster.awaited[:5])
        return VmReason.SAFE_MODE, f"the store has lost writes; these hosts have not said yet what they run: {waits}"
    if vm.seen_on in snapshot.hosts and vm.seen_state is not VmState.ABSENT:
        message = f"{vm.seen_on} said that it has the VM ({vm.seen_state}), by a live migration; it is that host's too"
        return VmReason.VM_MIGRATING, message
    return None


def _settled(evacuation: EvacuationRecord, entry: VmEntry, vm: VmRecord | None) -> VmEntry | None:
    gone = lost(evacuation, entry, vm)
    verdict = judge(vm) if gone is None and vm is not None else None
    said = gone or verdict
    if said is None:
        return None
    return replace(entry, step=VmStep.SETTLED, outcome=said.outcome, reason=said.reason, message=said.message)


def rooms(evacuation: EvacuationRecord, situation: Situation, vms: Mapping[str, VmRecord], demanded: Iterable[str]) -> Rooms:
    """What is free for these VMs, less what others are promised: planned for a host, or on their way to it."""
    snapshot = situation.snapshot
    free = measure(
        snapshot.hosts.values(),
        situation.vms,
        snapshot.cluster.config,
        evacuation.host_id,
        situation.not_answering,
        snapshot.cluster.config_version,
    )
    again = set(demanded)
    for entry in situation.journaled:
        reserved = entry.step in {VmStep.PLANNED, VmStep.MIGRATING} and entry.outcome is VmOutcome.OPEN and not entry.epoch
        vm = vms.get(entry.vm_id)
        if reserved and vm is not None and vm.vm_id not in again and vm.owner_host_id != entry.target_host_id:
            free.take(entry.target_host_id, vm.facts)
    return free


def _placed(entry: VmEntry, vm: VmRecord, placement: Placement, situation: Situation) -> VmEntry:
    if not placement.host_id:
        message = placement.message
        if placement.reason is VmReason.START_REFUSED:
            message = f"every target refused it, the last with: {entry.message}"
            return replace(entry, step=VmStep.SETTLED, outcome=VmOutcome.FAILED, reason=VmReason.START_REFUSED, message=message)
        reason = placement.reason or VmReason.NO_CAPACITY
        return replace(entry, step=VmStep.PLANNED, outcome=VmOutcome.PENDING, reason=reason, message=message)
    entry = replace(entry, step=VmStep.PLANNED, outcome=VmOutcome.OPEN, reason="", message=placement.message)
    if entry.epoch:
        return entry  # still its present target's; the next claim moves it
    incarnation = situation.snapshot.hosts[placement.host_id].incarnation
    return replace(entry, target_host_id=placement.host_id, target_incarnation=incarnation, source_epoch=vm.epoch)
