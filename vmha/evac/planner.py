"""From what the store knows now to journal entries: rules first, then placement. Pure; reads what the runner has read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from vmha.evac.events import ClaimLost, PlanMade
from vmha.evac.placement import Demand, Placement, Rooms, measure, place
from vmha.evac.reasons import VmReason
from vmha.evac.rules import Surroundings, judge, rebuilt_from, surroundings
from vmha.facts import HostFacts
from vmha.model import EvacuationState, VmOutcome, VmState, VmStep
from vmha.store.records import ClusterSnapshot, EvacuationRecord, HostRecord, VmEntry, VmRecord


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


def if_it_died(host: HostRecord, cluster_id: str) -> EvacuationRecord:
    """The evacuation that a host's death would start now; nobody has ordered it."""
    return EvacuationRecord(
        evacuation_id="",
        cluster_id=cluster_id,
        host_id=host.host_id,
        fence_epoch=host.fence_epoch,
        incarnation=host.incarnation,
        state=EvacuationState.PLANNING,
    )


def plan(evacuation: EvacuationRecord, entries: Sequence[VmEntry], situation: Situation) -> PlanMade:
    """Gives each entry a target, an outcome, or PENDING."""
    return explained(evacuation, entries, situation)[0]


def explained(
    evacuation: EvacuationRecord, entries: Sequence[VmEntry], situation: Situation, asked: str = ""
) -> tuple[PlanMade, Placement | None]:
    """The same plan, and how one VM was placed in it, with every other host's refusal; None when no target was looked for."""
    vms = {vm.vm_id: vm for vm in situation.vms}
    around = surroundings(situation.snapshot, evacuation.host_id)
    planned: list[VmEntry] = []
    demands: dict[str, tuple[VmEntry, VmRecord]] = {}
    for entry in entries:
        vm = vms.get(entry.vm_id)
        ruled = _ruled(evacuation, entry, vm, around, situation.snapshot)
        if ruled is not None:
            planned.append(ruled)
        elif vm is not None:
            demands[entry.vm_id] = (entry, vm)
    free = rooms(evacuation.host_id, situation, demands.keys())
    targets: dict[str, str] = {}
    told: Placement | None = None
    for placement in place([_demand(entry, vm, around.source) for entry, vm in demands.values()], free, asked=asked):
        told = placement if placement.vm_id == asked else told
        entry, vm = demands[placement.vm_id]
        planned.append(_placed(replace(entry, image=rebuilt_from(vm, around)), vm, placement, situation))
        if placement.host_id:
            targets[placement.vm_id] = placement.host_id
    priorities = {entry.vm_id: vms[entry.vm_id].facts.priority for entry in planned if entry.vm_id in vms}
    return PlanMade(entries=tuple(planned), targets=targets, priorities=priorities), told


def _demand(entry: VmEntry, vm: VmRecord, source: HostFacts | None) -> Demand:
    promised = "" if entry.epoch or entry.outcome is VmOutcome.PENDING else entry.target_host_id
    return Demand(vm_id=vm.vm_id, facts=vm.facts, refused_by=frozenset(entry.attempts), source=source, planned=promised)


def moved(entry: VmEntry) -> VmEntry:
    """The entry of a VM that runs on its target, and why there (B5): a new root disk (S24), soft groups not kept (S17, S18)."""
    reason: VmReason | None = None
    if entry.violated:
        reason = max(VmReason.SOFT_AFFINITY_BROKEN, VmReason.SOFT_ANTI_AFFINITY_BROKEN, key=lambda r: _counts(r, entry.violated))
    set_back = entry.reason not in {"", reason}
    told = [f"its root disk is new, made from the image {entry.image}"] if entry.image else []
    if set_back and entry.violated:
        told.append(f"does not keep {', '.join(entry.violated)}: no target with room did")
    elif entry.message and not set_back:
        told.append(entry.message)
    outcome = VmOutcome.REBUILT if entry.image else VmOutcome.MOVED
    return replace(entry, step=VmStep.SETTLED, outcome=outcome, reason=reason or "", message="; ".join(told))


def _counts(reason: VmReason, violated: Iterable[str]) -> int:
    return sum(f"{rule.partition(':')[0]}_BROKEN" == reason.value for rule in violated)


def held(vm: VmRecord, snapshot: ClusterSnapshot) -> tuple[VmReason, str] | None:
    """Why a VM may be started nowhere for now; the claim checks it again."""
    if snapshot.cluster.safe_mode:
        waits = ", ".join(snapshot.cluster.awaited[:5])
        return VmReason.SAFE_MODE, f"the store has lost writes; these hosts have not said yet what they run: {waits}"
    if vm.seen_on in snapshot.hosts and vm.seen_state is not VmState.ABSENT:
        message = f"{vm.seen_on} said that it has the VM ({vm.seen_state}), by a live migration; it is that host's too"
        return VmReason.VM_MIGRATING, message
    return None


def _ruled(
    evacuation: EvacuationRecord, entry: VmEntry, vm: VmRecord | None, around: Surroundings, snapshot: ClusterSnapshot
) -> VmEntry | None:
    """What becomes of a VM for which no target is looked for."""
    gone = lost(evacuation, entry, vm)
    if gone is not None:
        return replace(entry, step=VmStep.SETTLED, outcome=gone.outcome, reason=gone.reason, message=gone.message)
    verdict = judge(vm, around) if vm is not None else None
    if verdict is not None and verdict.outcome is not VmOutcome.PENDING:
        return replace(entry, step=VmStep.SETTLED, outcome=verdict.outcome, reason=verdict.reason, message=verdict.message)
    why = held(vm, snapshot) if vm is not None else None
    if why is None and verdict is not None:
        why = verdict.reason, verdict.message
    return replace(entry, step=VmStep.PLANNED, outcome=VmOutcome.PENDING, reason=why[0], message=why[1]) if why else None


def rooms(host_id: str, situation: Situation, demanded: Iterable[str]) -> Rooms:
    """What is free once everybody has what was promised: planned for a host, or on its way to it.

    VMs that are to be placed now hold nothing. `host_id`: the host that is given up; empty when none is.
    """
    snapshot, again = situation.snapshot, set(demanded)
    others = {vm.vm_id: vm for vm in situation.vms if vm.vm_id not in again}
    free = measure(
        snapshot.hosts.values(),
        others.values(),
        snapshot.cluster.config,
        host_id,
        situation.not_answering,
        snapshot.cluster.config_version,
        snapshot.groups,
    )
    for entry in situation.journaled:
        reserved = entry.step in {VmStep.PLANNED, VmStep.MIGRATING} and entry.outcome is VmOutcome.OPEN and not entry.epoch
        vm = others.get(entry.vm_id)
        if reserved and vm is not None and vm.owner_host_id != entry.target_host_id:
            free.settle(entry.target_host_id, vm.vm_id, vm.facts)
    return free


def _placed(entry: VmEntry, vm: VmRecord, placement: Placement, situation: Situation) -> VmEntry:
    if not placement.host_id:
        message = placement.message
        if placement.reason is VmReason.START_REFUSED:
            message = f"every target refused it, the last with: {entry.message}"
            return replace(entry, step=VmStep.SETTLED, outcome=VmOutcome.FAILED, reason=VmReason.START_REFUSED, message=message)
        reason = placement.reason or VmReason.NO_CAPACITY
        return replace(entry, step=VmStep.PLANNED, outcome=VmOutcome.PENDING, reason=reason, message=message)
    entry = replace(
        entry,
        step=VmStep.PLANNED,
        outcome=VmOutcome.OPEN,
        reason=placement.reason or "",
        message=placement.message,
        violated=placement.violated,
    )
    if entry.epoch:
        return entry  # still its present target's; the next claim moves it
    incarnation = situation.snapshot.hosts[placement.host_id].incarnation
    return replace(entry, target_host_id=placement.host_id, target_incarnation=incarnation, source_epoch=vm.epoch)
