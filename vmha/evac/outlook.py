"""Where VMs could go now, and why not elsewhere (B5): the plan that an evacuation or a drain would make, with its words. Pure.

Nothing of it is carried out. What only a runner knows is not in it: hosts that left a start without an answer a moment ago, and
what libvirt would say of a migration that was under way when its host died.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from vmha.evac import drain_plan, planner
from vmha.evac.placement import Placement
from vmha.evac.reasons import HostRefusal, VmReason
from vmha.evac.rules import LIVE_RULES, RULES, Verdict, surroundings, tried
from vmha.model import EvacuationKind, VmOutcome, VmStep
from vmha.store.records import EvacuationRecord, VmEntry, VmRecord

NOT_TRIED: Final = HostRefusal.NOT_ANSWERING
"""Only a runner knows it."""
ORDER: Final = (VmOutcome.FAILED, VmOutcome.PENDING, VmOutcome.OPEN)
"""Outcomes as an operator wants to read them; the others come last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderWay:
    """An evacuation or drain that has not ended, with its journal."""

    record: EvacuationRecord
    entries: tuple[VmEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What was read of a cluster. `situation.journaled` has the entries of all that is under way."""

    cluster_id: str
    situation: planner.Situation
    under_way: tuple[UnderWay, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VmOutlook:
    """One VM's.

    Attributes:
        record: What would move it; without an id: the death of its host, which nobody has ordered.
        journaled: How the one under way has it.
        planned: What a plan made now gives it; None when none would be made for it.
        rules: Those about the VM alone, with their verdicts, up to the first that is against.
        refused: Each host that would not have it -> the first rule against it; None when no host was tried.
        figures: host_id -> what a host that refuses it has instead.
        others: Hosts beside its target that would have it as well.
        host_count: Hosts of the cluster.
        ha_enabled: Else nobody would evacuate its host.
    """

    vm: VmRecord
    record: EvacuationRecord
    host_count: int
    ha_enabled: bool
    journaled: VmEntry | None = None
    planned: VmEntry | None = None
    rules: tuple[tuple[VmReason, Verdict | None], ...] = ()
    refused: Mapping[str, HostRefusal] | None = None
    figures: Mapping[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOutlook:
    """What would become of a host's VMs: `entries` has all, those that would not run first; `memory_mib` by vm_id."""

    record: EvacuationRecord
    ha_enabled: bool
    entries: tuple[VmEntry, ...]
    memory_mib: Mapping[str, int]

    def fates(self) -> list[tuple[VmOutcome, str, int]]:
        """(outcome, reason, how many VMs), in the order of `entries`."""
        counted = Counter((entry.outcome, entry.reason) for entry in self.entries)
        return [(outcome, reason, count) for (outcome, reason), count in counted.items()]

    def targets(self) -> list[tuple[str, int, int]]:
        """(host_id, VMs, MiB) of every host that would get some, those with most VMs first."""
        going = [entry for entry in self.entries if entry.target_host_id and entry.outcome is VmOutcome.OPEN]
        counted = Counter(entry.target_host_id for entry in going)
        mib: Counter[str] = Counter()
        for entry in going:
            mib[entry.target_host_id] += self.memory_mib.get(entry.vm_id, 0)
        return [(host_id, count, mib[host_id]) for host_id, count in sorted(counted.items(), key=lambda x: (-x[1], x[0]))]


def of_vm(view: View, vm: VmRecord) -> VmOutlook:
    """Where a VM could go now. Its owner has to be a host of the cluster."""
    case, entry = _case_of(view, vm)
    snapshot = view.situation.snapshot
    found = VmOutlook(
        vm=vm,
        record=case.record,
        host_count=len(snapshot.hosts),
        ha_enabled=snapshot.cluster.ha_enabled,
        journaled=entry,
    )
    if entry is not None and entry not in _next_planned(case):
        return found
    made, told = _plan(view, case, vm.vm_id)
    planned = next((e for e in made if e.vm_id == vm.vm_id), None)
    rules = LIVE_RULES if case.record.kind is EvacuationKind.DRAIN else RULES
    found = replace(found, planned=planned, rules=tuple(tried(vm, surroundings(snapshot, case.record.host_id), rules)))
    if told is None:
        return found
    known = {*told.refused, told.host_id}
    return replace(
        found,
        refused=told.refused,
        figures={**told.figures, **_states(view, told)},
        others=tuple(host_id for host_id in snapshot.hosts if host_id not in known),
    )


def of_host(view: View, host_id: str) -> HostOutlook:
    """What would become of a host's VMs if it died now; of one that is evacuated, what its evacuation does next."""
    case = _evacuation_of(view, host_id) or _if_it_died(view, host_id)
    made = {entry.vm_id: entry for entry in _plan(view, case)[0]}
    entries = [made.get(entry.vm_id, entry) for entry in case.entries]
    memory_mib = {vm.vm_id: vm.facts.memory_mib for vm in view.situation.vms}
    enabled = view.situation.snapshot.cluster.ha_enabled
    return HostOutlook(record=case.record, ha_enabled=enabled, entries=tuple(sorted(entries, key=_rank)), memory_mib=memory_mib)


def _case_of(view: View, vm: VmRecord) -> tuple[UnderWay, VmEntry | None]:
    """What has the VM, an evacuation before a drain; else the death of its host. An outcome counts while it is the owner's."""
    for case in sorted(view.under_way, key=_is_drain):
        entry = next((entry for entry in case.entries if entry.vm_id == vm.vm_id), None)
        if entry is not None and (entry.step is not VmStep.SETTLED or _still_counts(case, entry, vm)):
            return case, entry
    loss = _evacuation_of(view, vm.owner_host_id)
    return (_if_it_died(view, vm.owner_host_id) if loss is None or loss.record.state.is_proven else loss), None


def _still_counts(case: UnderWay, entry: VmEntry, vm: VmRecord) -> bool:
    left = entry.outcome in {VmOutcome.FAILED, VmOutcome.SKIPPED}
    return left and not _is_drain(case) and vm.owner_host_id == case.record.host_id


def _evacuation_of(view: View, host_id: str) -> UnderWay | None:
    """A host's evacuation under way; before its proof it has no entries yet, and gets those of its first plan here."""
    case = next((case for case in view.under_way if case.record.host_id == host_id and not _is_drain(case)), None)
    return case if case is None or case.entries else replace(case, entries=_first_entries(view, case.record))


def _if_it_died(view: View, host_id: str) -> UnderWay:
    record = planner.if_it_died(view.situation.snapshot.hosts[host_id], view.cluster_id)
    return UnderWay(record=record, entries=_first_entries(view, record))


def _first_entries(view: View, record: EvacuationRecord) -> tuple[VmEntry, ...]:
    return tuple(planner.first_entries(record, view.situation.vms))


def _plan(view: View, case: UnderWay, asked: str = "") -> tuple[Sequence[VmEntry], Placement | None]:
    entries = _next_planned(case)
    if _is_drain(case):
        host = view.situation.snapshot.hosts.get(case.record.host_id)
        if host is None:
            return [], None
        made, told = drain_plan.explained(case.record, host, entries, view.situation, asked)
    else:
        made, told = planner.explained(case.record, entries, view.situation, asked)
    # A VM that is claimed keeps its present owner in its entry; here it has the target that it would get.
    return [replace(entry, target_host_id=made.targets.get(entry.vm_id, "")) for entry in made.entries], told


def _next_planned(case: UnderWay) -> list[VmEntry]:
    """What the next plan is made for, as in `workflow` and `drain`: what waits, or lost its target.

    A promise is taken back only when another VM of the same evacuation has lost its own.
    """
    waiting = [entry for entry in case.entries if _may_be_planned(entry)] if not case.record.cancel_requested else []
    if not _is_drain(case) and any(_has_no_promise(entry) for entry in waiting):
        return waiting
    return [entry for entry in waiting if entry.outcome is VmOutcome.PENDING or _has_no_promise(entry)]


def _has_no_promise(entry: VmEntry) -> bool:
    lost = not entry.target_host_id or entry.epoch > 0 or entry.target_host_id in entry.attempts
    return entry.outcome is VmOutcome.OPEN and lost


def _may_be_planned(entry: VmEntry) -> bool:
    """Whether a plan may give it another target: it has no outcome, nothing of it is under way, it waits for no person."""
    waits = entry.reason == VmReason.SOURCE_STILL_RUNNING
    return entry.step in {VmStep.UNPLANNED, VmStep.PLANNED} and not waits


def _is_drain(case: UnderWay) -> bool:
    return case.record.kind is EvacuationKind.DRAIN


def _states(view: View, told: Placement) -> dict[str, str]:
    hosts = view.situation.snapshot.hosts
    return {host_id: hosts[host_id].state.value for host_id, why in told.refused.items() if why is HostRefusal.NOT_HEALTHY}


def _rank(entry: VmEntry) -> tuple[int, str, str]:
    place = ORDER.index(entry.outcome) if entry.outcome in ORDER else len(ORDER)
    return place, entry.vm_name, entry.vm_id
