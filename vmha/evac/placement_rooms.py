"""What is free on the hosts that may be targets, what kind of hosts they are, and where members of groups stay. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vmha.evac.pair_rules import Kind, kind_of
from vmha.evac.reasons import HostRefusal
from vmha.facts import HostFacts, VmFacts
from vmha.model import PROVEN_DEAD, ClusterConfig, Group, HostState, VmState
from vmha.store.records import HostRecord, VmRecord

TAKES_ROOM = frozenset({VmState.RUNNING, VmState.PAUSED, VmState.AWAITING_ADMISSION})
"""States in which a domain holds its host's memory."""
ORDINARY = 0
"""Stands for the size of ordinary pages."""
USUAL_HUGE_KIB = 2048


@dataclass(slots=True)
class Rooms:
    """What is free on the hosts that may be targets, and why the others may not.

    Attributes:
        free: host_id -> (MiB, vCPUs) left for new VMs.
        refused: host_id -> why it is no target for anyone.
        pages: host_id -> MiB left in pages of each size in KiB; only of hosts that have huge pages.
        kinds: What kinds of targets there are.
        kind_index: host_id -> its place in `kinds`.
        groups: Affinity rules of the cluster, by group_id.
        stays: group_id -> vm_id of a member that stays, or was promised a host -> that host.
        member_of: vm_id -> the groups whose configuration names it.
    """

    free: dict[str, tuple[float, float]] = field(default_factory=dict)
    refused: dict[str, HostRefusal] = field(default_factory=dict)
    pages: dict[str, dict[int, float]] = field(default_factory=dict)
    kinds: list[Kind] = field(default_factory=list)
    kind_index: dict[str, int] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    stays: dict[str, dict[str, str]] = field(default_factory=dict)
    member_of: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def take(self, host_id: str, facts: VmFacts) -> None:
        """Takes a VM's share of a host; hosts that are no targets have nothing to take from."""
        if host_id in self.free:
            memory_mib, vcpus = self.free[host_id]
            self.free[host_id] = (memory_mib - facts.memory_mib, vcpus - facts.vcpus)
            if host_id in self.pages:
                pages = self.pages[host_id]
                size = page_size(facts.hugepage_kib, pages)
                pages[size] = pages.get(size, 0.0) - facts.memory_mib

    def settle(self, host_id: str, vm_id: str, facts: VmFacts) -> None:
        """Takes a VM's share of the host that it has or was promised, where its groups find it from now on."""
        self.take(host_id, facts)
        for group_id in self.groups_of(vm_id, facts):
            self.stays.setdefault(group_id, {})[vm_id] = host_id

    def groups_of(self, vm_id: str, facts: VmFacts) -> tuple[str, ...]:
        """The groups whose configuration names the VM, and those that its metadata names; names of no group say nothing."""
        named = self.member_of.get(vm_id, ())
        if not facts.groups:
            return named
        return tuple(sorted({*named, *(group_id for group_id in facts.groups if group_id in self.groups)}))


def page_size(hugepage_kib: int, pages: Mapping[int, float]) -> int:
    """The size of pages that a VM takes on a host: its own, or the host's usual one where it names none (-1)."""
    if hugepage_kib >= 0:
        return hugepage_kib
    return USUAL_HUGE_KIB if USUAL_HUGE_KIB in pages else min((size for size in pages if size), default=ORDINARY)


def refusal(host: HostRecord, source_host_id: str, config_version: int = 0) -> HostRefusal | None:
    """Why a host may not get VMs of the failed one; None when it may.

    Args:
        config_version: The cluster's newest; a host gets VMs only after it has confirmed that one (R18).
    """
    found: HostRefusal | None = None
    if host.host_id == source_host_id:
        found = HostRefusal.FAILED_HOST
    elif host.in_maintenance or host.state is HostState.IN_MAINTENANCE:
        found = HostRefusal.IN_MAINTENANCE
    elif host.state is not HostState.HEALTHY:
        found = HostRefusal.NOT_HEALTHY
    elif host.state_reason == HostRefusal.FLAPPING:
        found = HostRefusal.FLAPPING
    elif host.incarnation <= 0 or host.incarnation_revoked:
        found = HostRefusal.NOT_REGISTERED
    elif "hypervisor" not in host.config.roles:
        found = HostRefusal.NOT_A_HYPERVISOR
    elif host.facts is None:
        found = HostRefusal.NO_FACTS
    elif host.config_confirmed < config_version:
        found = HostRefusal.CONFIG_UNCONFIRMED
    return found


def measure(
    hosts: Iterable[HostRecord],
    vms: Iterable[VmRecord],
    config: ClusterConfig,
    source_host_id: str,
    not_answering: frozenset[str] = frozenset(),
    config_version: int = 0,
    groups: Mapping[str, Group] | None = None,
) -> Rooms:
    """What is free on each host: memory less the reserve, vCPUs times the overcommit, less what its VMs hold.

    A VM stays, for its groups, where it is owned, unless that host is the one it leaves or is proven dead.
    """
    rooms = Rooms(groups=groups or {})
    _index_groups(rooms)
    kinds: dict[Kind, int] = {}
    dead = {source_host_id}
    for host in hosts:
        if host.state in PROVEN_DEAD:
            dead.add(host.host_id)
        why = HostRefusal.NOT_ANSWERING if host.host_id in not_answering else refusal(host, source_host_id, config_version)
        if why is not None or host.facts is None:
            rooms.refused[host.host_id] = why or HostRefusal.NO_FACTS
            continue
        _open(rooms, host.host_id, host.facts, config.reserve_fraction, config.cpu_overcommit)
        kind = kind_of(host.config.aggregates, host.facts)
        rooms.kind_index[host.host_id] = kinds.setdefault(kind, len(kinds))
    rooms.kinds = list(kinds)
    for vm in vms:
        if vm.state not in TAKES_ROOM and vm.desired_state is not VmState.RUNNING:
            continue
        if vm.owner_host_id in dead:
            continue
        rooms.settle(vm.owner_host_id, vm.vm_id, vm.facts)
    return rooms


def _index_groups(rooms: Rooms) -> None:
    for group_id in sorted(rooms.groups):
        for vm_id in rooms.groups[group_id].vm_ids:
            rooms.member_of[vm_id] = (*rooms.member_of.get(vm_id, ()), group_id)


def _open(rooms: Rooms, host_id: str, facts: HostFacts, reserve_fraction: float, cpu_overcommit: float) -> None:
    memory_mib = facts.memory_mib * (1.0 - reserve_fraction)
    rooms.free[host_id] = (memory_mib, facts.vcpus * cpu_overcommit)
    if facts.hugepages:
        pages = {size_kib: count * size_kib / 1024 for size_kib, count in facts.hugepages.items()}
        rooms.pages[host_id] = {**pages, ORDINARY: memory_mib - sum(pages.values())}
