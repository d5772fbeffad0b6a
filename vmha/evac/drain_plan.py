"""From what the store knows now to a drain's journal entries: what cannot move, and where the rest goes. Pure.

The one place where a drain meets placement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from vmha.evac import planner
from vmha.evac.drain import TRIES
from vmha.evac.events import PlanMade
from vmha.evac.pair_rules import LIVE_PAIR_RULES
from vmha.evac.placement import Demand, Placement, place
from vmha.evac.reasons import VmReason
from vmha.evac.rules import LIVE_RULES, Surroundings, judge, surroundings
from vmha.model import VmOutcome, VmState, VmStep
from vmha.store.records import EvacuationRecord, HostRecord, VmEntry, VmRecord

ACTIVE: Final = frozenset({VmState.RUNNING, VmState.PAUSED})
Said = tuple[VmReason, str]


@dataclass(slots=True)
class Draft:
    """A plan in the making."""

    entries: list[VmEntry] = field(default_factory=list)
    demands: dict[str, tuple[VmEntry, VmRecord]] = field(default_factory=dict)
    targets: dict[str, str] = field(default_factory=dict)
    stops: set[str] = field(default_factory=set)


def new_entries(drain: EvacuationRecord, vms: Sequence[VmRecord], known: frozenset[str]) -> list[VmEntry]:
    """An entry for each VM of the host that the journal does not have yet: also what was started there since."""
    return [entry for entry in planner.first_entries(drain, vms) if entry.vm_id not in known]


def resumed(drain: EvacuationRecord, entries: Sequence[VmEntry], vms: Sequence[VmRecord]) -> list[VmEntry]:
    """The journal as its next runner has to take it: a VM's own record may know more than its entry.

    The word where a VM goes is written first. A runner that was killed before it had journaled the step leaves that word behind,
    and it ends by a look at both hosts only, as for any VM that may be on its way.
    """
    going = {vm.vm_id: vm for vm in vms if vm.moving_to and vm.moving_by == drain.evacuation_id}
    return [_on_its_way(entry, going[entry.vm_id]) if entry.vm_id in going else entry for entry in entries]


def _on_its_way(entry: VmEntry, vm: VmRecord) -> VmEntry:
    if entry.step in {VmStep.MIGRATING, VmStep.SETTLED}:
        return entry
    going = replace(entry, target_host_id=vm.moving_to, target_incarnation=vm.moving_incarnation, source_epoch=vm.epoch)
    message = f"may be on its way to {vm.moving_to}"
    return replace(going, step=VmStep.MIGRATING, outcome=VmOutcome.OPEN, reason="", message=message)


def plan(drain: EvacuationRecord, host: HostRecord, entries: Sequence[VmEntry], situation: planner.Situation) -> PlanMade:
    """Gives each entry a target, an outcome, PENDING, or its place among those that are stopped."""
    return explained(drain, host, entries, situation)[0]


def explained(
    drain: EvacuationRecord, host: HostRecord, entries: Sequence[VmEntry], situation: planner.Situation, asked: str = ""
) -> tuple[PlanMade, Placement | None]:
    """The same plan, and how one VM was placed in it, with every other host's refusal; None when no target was looked for."""
    vms = {vm.vm_id: vm for vm in situation.vms}
    draft, around = Draft(), surroundings(situation.snapshot, drain.host_id)
    for entry in entries:
        _judge(draft, drain, host, entry, vms.get(entry.vm_id), situation, around)
    # Its host is in maintenance: no target of anybody, and no failed host to say so.
    rooms = planner.rooms("", situation, draft.demands.keys())
    wanted = [
        Demand(vm_id=vm_id, facts=vm.facts, refused_by=frozenset(entry.attempts), source=host.facts)
        for vm_id, (entry, vm) in draft.demands.items()
    ]
    told: Placement | None = None
    for placement in place(wanted, rooms, LIVE_PAIR_RULES, asked):
        told = placement if placement.vm_id == asked else told
        entry, vm = draft.demands[placement.vm_id]
        _take(draft, host, entry, vm, placement, situation)
    priorities = {entry.vm_id: vms[entry.vm_id].facts.priority for entry in draft.entries if entry.vm_id in vms}
    made = PlanMade(entries=tuple(draft.entries), targets=draft.targets, priorities=priorities, stops=frozenset(draft.stops))
    return made, told


def _judge(
    draft: Draft,
    drain: EvacuationRecord,
    host: HostRecord,
    entry: VmEntry,
    vm: VmRecord | None,
    situation: planner.Situation,
    around: Surroundings,
) -> None:
    gone = left(drain, vm)
    if gone is not None or vm is None:
        reason, message = gone or (VmReason.VM_DELETED, "")
        draft.entries.append(settled(entry, VmOutcome.SKIPPED, reason, message))
        return
    waits = planner.held(vm, situation.snapshot) or _not_there(vm)
    stays = judge(vm, around, LIVE_RULES)
    if waits is not None:
        draft.entries.append(_pending(entry, *waits))
    elif not _is_active(vm):
        draft.entries.append(settled(entry, VmOutcome.SKIPPED, VmReason.VM_SHUTOFF, "it does not run, and is not to"))
    elif stays is not None:
        _leave(draft, host, entry, stays.reason, stays.message)
    elif len(entry.attempts) >= TRIES:
        _leave(draft, host, entry, VmReason.MIGRATION_REFUSED, f"{TRIES} targets refused it, the last with: {entry.message}")
    else:
        draft.demands[entry.vm_id] = (entry, vm)


def left(drain: EvacuationRecord, vm: VmRecord | None) -> Said | None:
    """Whether the VM is not this host's any more, and why the drain has nothing to do for it then."""
    if vm is None:
        return VmReason.VM_DELETED, "the VM was deleted meanwhile"
    if vm.owner_host_id != drain.host_id:
        return VmReason.TAKEN_OVER, f"{vm.owner_host_id} owns it under epoch {vm.epoch}"
    return None


def _is_active(vm: VmRecord) -> bool:
    # One that arrived paused has not run on its host: to an agent without libvirt's word on its last job it waits for admission.
    arrived_paused = vm.state is VmState.AWAITING_ADMISSION and vm.desired_state is VmState.PAUSED and not vm.claim_id
    return vm.state in ACTIVE or arrived_paused


def _not_there(vm: VmRecord) -> Said | None:
    if not _is_active(vm) and (vm.state is VmState.AWAITING_ADMISSION or vm.desired_state is VmState.RUNNING):
        return VmReason.VM_NOT_RUNNING, f"its host is to start it, and it is {vm.state}"
    return None


def _take(
    draft: Draft, host: HostRecord, entry: VmEntry, vm: VmRecord, placement: Placement, situation: planner.Situation
) -> None:
    if placement.host_id:
        draft.targets[entry.vm_id] = placement.host_id
        incarnation = situation.snapshot.hosts[placement.host_id].incarnation
        planned = replace(entry, step=VmStep.PLANNED, outcome=VmOutcome.OPEN, reason="", message=placement.message)
        draft.entries.append(
            replace(planned, target_host_id=placement.host_id, target_incarnation=incarnation, source_epoch=vm.epoch)
        )
    elif entry.attempts and placement.reason is VmReason.START_REFUSED:
        _leave(draft, host, entry, VmReason.MIGRATION_REFUSED, f"every target refused it, the last with: {entry.message}")
    else:
        draft.entries.append(_pending(entry, placement.reason or VmReason.NO_CAPACITY, placement.message))


def _leave(draft: Draft, host: HostRecord, entry: VmEntry, reason: VmReason, message: str) -> None:
    if host.drain_stop:
        draft.stops.add(entry.vm_id)
        draft.entries.append(_pending(entry, reason, message))
    else:
        draft.entries.append(settled(entry, VmOutcome.FAILED, reason, f"{message}; it runs on"))


def _pending(entry: VmEntry, reason: str, message: str) -> VmEntry:
    return replace(entry, step=VmStep.PLANNED, outcome=VmOutcome.PENDING, target_host_id="", reason=reason, message=message)


def settled(entry: VmEntry, outcome: VmOutcome, reason: str, message: str) -> VmEntry:
    """An entry with its outcome."""
    return replace(entry, step=VmStep.SETTLED, outcome=outcome, reason=reason, message=message)
