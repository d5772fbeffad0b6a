"""Why a VM got its target, or none: each host with the rule that refused it, for people and for programs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vmha.evac.pair_rules import REASON_OF
from vmha.evac.placement_problem import Binding, Item, Placement, Places, Problem
from vmha.evac.placement_rooms import ORDINARY, page_size
from vmha.evac.reasons import HostRefusal, VmReason

SHOWN = 16
"""Hosts that a message names for each reason; the others are counted."""
_LEADS = {
    VmReason.NO_CAPACITY: "no host that may have it has the room",
    VmReason.NO_HOST: "no other host may be a target",
    VmReason.STORAGE_NOT_SHARED: "no other healthy host shares the storage that its disks lie on",
    VmReason.VTPM_STATE_ELSEWHERE: "no other healthy host shares the storage that its TPM's state lies on",
    VmReason.CPU_INCOMPATIBLE: "no other healthy host has a CPU that it can run on",
    VmReason.MACHINE_UNSUPPORTED: "no other healthy host knows its machine type",
    VmReason.HUGEPAGES_MISSING: "no other healthy host has the huge pages",
}
_GROUPS = {True: HostRefusal.HARD_AFFINITY, False: HostRefusal.HARD_ANTI_AFFINITY}
_RULES = list(REASON_OF)


class Explainer:
    """Words for a plan that is made: `problem.rooms` is what it leaves."""

    def __init__(self, problem: Problem, places: Places) -> None:
        self._problem, self._places = problem, places
        self._choices: dict[int, str] = {}
        self._left: dict[str, str] = {}
        self._refusals: dict[object, dict[str, HostRefusal]] = {}

    def placed(self, item: Item, *, searched: bool) -> Placement:
        """A VM's target, why this one, and the soft groups that it does not keep."""
        host_id = self._places[item.number]
        message = f"{self._choice(item, searched)}; leaves {self._leaves(host_id)}"
        if not item.groups:
            return Placement(vm_id=item.vm_id, host_id=host_id, message=message)
        broken = list(self._problem.unkept(item, self._places))
        bound = [self._problem.bindings[number] for number in item.groups]
        kept = [binding for binding in bound if binding not in broken]
        if kept:
            message += f"; keeps {', '.join(_named(binding) for binding in kept)}"
        if broken:
            message = f"no target with room keeps {', '.join(_named(binding) for binding in broken)}; {message}"
        return Placement(
            vm_id=item.vm_id,
            host_id=host_id,
            message=message,
            violated=tuple(f"SOFT_{'' if binding.affine else 'ANTI_'}AFFINITY:{binding.group_id}" for binding in broken),
            reason=_soft_reason(broken),
        )

    def _choice(self, item: Item, searched: bool) -> str:
        text = self._choices.get(item.shape)
        if text is None:
            refused = ", ".join(f"{why} {count}" for why, count in sorted(self._problem.shape_refuses(item.shape).items()))
            of = f"of {len(self._problem.hosts_of(item.shape))} hosts" + (f" (no target: {refused})" if refused else "")
            text = self._choices[item.shape] = f"one {of}, so that all fit" if searched else f"most free memory {of}"
        return text

    def _leaves(self, host_id: str) -> str:
        text = self._left.get(host_id)
        if text is None:
            memory_mib, vcpus = self._problem.rooms.free[host_id]
            text = self._left[host_id] = f"{memory_mib:.0f} MiB and {vcpus:g} vCPUs"
        return text

    def refusals(self, item: Item) -> dict[str, HostRefusal]:
        """Every host of the cluster that refuses it -> why; a host that is not in it would have it."""
        rooms, wants = self._problem.rooms, (item.shape, item.memory_mib, item.vcpus, item.hugepage_kib)
        key = (wants, item.demand.refused_by, item.number if item.groups else None)
        found = self._refusals.get(key)
        if found is None:
            found = self._refusals[key] = dict(rooms.refused)
            for host_id in rooms.free:
                why = self._problem.refusal(item, host_id) or self._problem.fits(item, host_id) or self._group(item, host_id)
                if why is not None:
                    found[host_id] = why
        return found

    def figures(self, item: Item, host_id: str, why: HostRefusal) -> str:
        """What a host that refuses a VM has instead; empty where there is no more to say than the rule does."""
        rooms = self._problem.rooms
        if host_id not in rooms.free:
            return ""
        kind = rooms.kinds[rooms.kind_index[host_id]]
        if why is HostRefusal.AGGREGATE_DIFFERS:
            return f"in {', '.join(kind.aggregates) or 'none'}"
        if why is HostRefusal.OS_VERSION_DIFFERS:
            return kind.operating_system
        if why in _GROUPS.values():
            return ", ".join(b.group_id for b in self._hard(item) if not self._keeps(b, item, host_id))
        return self._room_left(item, host_id, why)

    def _room_left(self, item: Item, host_id: str, why: HostRefusal) -> str:
        memory_mib, vcpus = self._problem.rooms.free[host_id]
        pages = self._problem.rooms.pages.get(host_id, {})
        if why is HostRefusal.MEMORY_FULL:
            return f"{max(0.0, min(memory_mib, pages.get(ORDINARY, memory_mib))):.0f} MiB left"
        if why is HostRefusal.HUGEPAGES_FULL:
            return f"{max(0.0, pages.get(page_size(item.hugepage_kib, pages), 0.0)):.0f} MiB of them left"
        return f"{max(0.0, vcpus):g} vCPUs left" if why is HostRefusal.VCPUS_FULL else ""

    def forget(self) -> None:
        """The room has changed."""
        self._refusals.clear()

    def _group(self, item: Item, host_id: str) -> HostRefusal | None:
        against = [binding for binding in self._hard(item) if not self._keeps(binding, item, host_id)]
        return _GROUPS[against[0].affine] if against else None

    def _hard(self, item: Item) -> Iterable[Binding]:
        return (b for b in (self._problem.bindings[number] for number in item.groups) if b.hard)

    def _keeps(self, binding: Binding, item: Item, host_id: str) -> bool:
        others = {self._places[n] for n in binding.members if n != item.number and n in self._places}
        return binding.lets(host_id) and (others <= {host_id} if binding.affine else host_id not in others)

    def unplaced(self, item: Item) -> Placement:
        """Why a VM has no target."""
        refused = self.refusals(item)
        reason = self._reason(item, refused)
        message = "; ".join(part for part in (_lead(reason, item), _explain(item, refused)) if part)
        groups = [b for b in self._hard(item) if reason.value == _GROUPS[b.affine].value]
        if groups:
            message = f"no target with room keeps {', '.join(_named(b) + self._where(b, item) for b in groups)}; {message}"
        return Placement(vm_id=item.vm_id, reason=reason, message=message, refused=refused)

    def _where(self, binding: Binding, item: Item) -> str:
        others = {self._places[n] for n in binding.members if n != item.number and n in self._places}
        hosts = sorted(binding.stays | others)
        return f" (others of it on {', '.join(hosts[:SHOWN])})" if hosts else ""

    def _reason(self, item: Item, refused: Mapping[str, HostRefusal]) -> VmReason:
        targets = [refused[host_id] for host_id in self._problem.rooms.free]
        aggregates = bool(item.demand.facts.aggregates)
        if not targets:
            return VmReason.AGGREGATE_EMPTY if aggregates else VmReason.NO_HOST
        able = [why for why in targets if why not in REASON_OF]
        if not able:  # the rule that refused those that all rules before it would have let
            return REASON_OF[max(targets, key=_RULES.index)]
        if all(why is HostRefusal.REFUSED_BEFORE for why in able):
            return VmReason.START_REFUSED
        for binding in self._hard(item):
            if _GROUPS[binding.affine] in able:
                return VmReason(_GROUPS[binding.affine].value)
        return VmReason.HUGEPAGES_MISSING if HostRefusal.HUGEPAGES_FULL in able else VmReason.NO_CAPACITY


def _lead(reason: VmReason, item: Item) -> str:
    """What an operator wants to read first."""
    if reason is VmReason.AGGREGATE_EMPTY:
        return f"no other healthy host is in {', '.join(item.demand.facts.aggregates)}"
    source = item.demand.source
    if reason is VmReason.OS_VERSION_DIFFERS and source is not None:
        return f"no other healthy host runs {source.operating_system}"
    return _LEADS.get(reason, "")


def _soft_reason(broken: list[Binding]) -> VmReason | None:
    if not broken:
        return None
    affine = any(binding.affine for binding in broken)
    return VmReason.SOFT_AFFINITY_BROKEN if affine else VmReason.SOFT_ANTI_AFFINITY_BROKEN


def _named(binding: Binding) -> str:
    return (
        f"the {'hard' if binding.hard else 'soft'} {'affinity' if binding.affine else 'anti-affinity'} group {binding.group_id}"
    )


def _explain(item: Item, refused: Mapping[str, HostRefusal]) -> str:
    by_reason: dict[HostRefusal, list[str]] = {}
    for host_id in sorted(refused):
        by_reason.setdefault(refused[host_id], []).append(host_id)
    texts = [f"{why}: {_listed(by_reason[why])}" for why in sorted(by_reason)]
    return f"needs {item.memory_mib} MiB and {item.vcpus} vCPUs; {'; '.join(texts) or 'no other host'}"


def _listed(hosts: list[str]) -> str:
    more = f" and {len(hosts) - SHOWN} more" if len(hosts) > SHOWN else ""
    return ", ".join(hosts[:SHOWN]) + more
