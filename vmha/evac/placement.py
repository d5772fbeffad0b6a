"""Chooses targets: same cluster, healthy, room for memory and vCPUs; most free memory first, then host_id.

Pure and deterministic: the same hosts and VMs in any order give the same targets. Every refusal is explained. VMs are placed by
priority (high first), then by size (large first, so that small ones fill the gaps), then by vm_id.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vmha.evac.reasons import HostRefusal, VmReason
from vmha.facts import VmFacts
from vmha.model import ClusterConfig, HostState, VmState
from vmha.store.records import HostRecord, VmRecord

TAKES_ROOM = frozenset({VmState.RUNNING, VmState.PAUSED, VmState.AWAITING_ADMISSION})
"""States in which a domain holds its host's memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """One VM that needs a target. `refused_by`: hosts that may not be asked again for it."""

    vm_id: str
    facts: VmFacts
    refused_by: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One VM's target, or why it has none."""

    vm_id: str
    host_id: str = ""
    reason: VmReason | None = None
    message: str = ""


@dataclass(slots=True)
class Rooms:
    """What is free on the hosts that may be targets, and why the others may not.

    Attributes:
        free: host_id -> (MiB, vCPUs) left for new VMs.
        refused: host_id -> why it is no target for anyone.
    """

    free: dict[str, tuple[float, float]] = field(default_factory=dict)
    refused: dict[str, HostRefusal] = field(default_factory=dict)

    def take(self, host_id: str, facts: VmFacts) -> None:
        """Takes a VM's share of a host; hosts that are no targets have nothing to take from."""
        if host_id in self.free:
            memory_mib, vcpus = self.free[host_id]
            self.free[host_id] = (memory_mib - facts.memory_mib, vcpus - facts.vcpus)


def refusal(host: HostRecord, source_host_id: str, config_version: int = 0) -> HostRefusal | None:
    """Why a host may not get VMs of the failed one; None when it may.

    Args:
        config_version: The cluster's newest; a host gets VMs only after it has confirmed that one (R18).
    """
    checks = (
        (host.host_id == source_host_id, HostRefusal.FAILED_HOST),
        (host.in_maintenance or host.state is HostState.IN_MAINTENANCE, HostRefusal.IN_MAINTENANCE),
        (host.state is not HostState.HEALTHY, HostRefusal.NOT_HEALTHY),
        (host.state_reason == HostRefusal.FLAPPING, HostRefusal.FLAPPING),
        (host.incarnation <= 0 or host.incarnation_revoked, HostRefusal.NOT_REGISTERED),
        ("hypervisor" not in host.config.roles, HostRefusal.NOT_A_HYPERVISOR),
        (host.facts is None, HostRefusal.NO_FACTS),
        (host.config_confirmed < config_version, HostRefusal.CONFIG_UNCONFIRMED),
    )
    return next((why for wrong, why in checks if wrong), None)


def measure(
    hosts: Iterable[HostRecord],
    vms: Iterable[VmRecord],
    config: ClusterConfig,
    source_host_id: str,
    not_answering: frozenset[str] = frozenset(),
    config_version: int = 0,
) -> Rooms:
    """What is free on each host: memory less the reserve, vCPUs times the overcommit, less what its VMs hold."""
    rooms = Rooms()
    for host in hosts:
        why = HostRefusal.NOT_ANSWERING if host.host_id in not_answering else refusal(host, source_host_id, config_version)
        if why is not None or host.facts is None:
            rooms.refused[host.host_id] = why or HostRefusal.NO_FACTS
            continue
        memory_mib = host.facts.memory_mib * (1.0 - config.reserve_fraction)
        rooms.free[host.host_id] = (memory_mib, host.facts.vcpus * config.cpu_overcommit)
    for vm in vms:
        if vm.state in TAKES_ROOM or vm.desired_state is VmState.RUNNING:
            rooms.take(vm.owner_host_id, vm.facts)
    return rooms


def place(demands: Iterable[Demand], rooms: Rooms) -> list[Placement]:
    """Gives each VM a target or a reason, and takes its share from `rooms`; in the order in which VMs should start."""
    ordered = sorted(demands, key=lambda d: (-d.facts.priority, -d.facts.memory_mib, d.vm_id))
    shelf = sorted((-memory_mib, host_id) for host_id, (memory_mib, _) in rooms.free.items())
    return [_place_one(demand, rooms, shelf) for demand in ordered]


def _place_one(demand: Demand, rooms: Rooms, shelf: list[tuple[float, str]]) -> Placement:
    for key in shelf:
        if -key[0] < demand.facts.memory_mib:
            break  # the shelf is sorted: no later host has more memory
        host_id = key[1]
        if host_id in demand.refused_by or rooms.free[host_id][1] < demand.facts.vcpus:
            continue
        del shelf[bisect_left(shelf, key)]
        rooms.take(host_id, demand.facts)
        insort(shelf, (-rooms.free[host_id][0], host_id))
        memory_mib, vcpus = rooms.free[host_id]
        message = f"most free memory of {len(shelf)} hosts; leaves {memory_mib:.0f} MiB and {vcpus:g} vCPUs"
        return Placement(vm_id=demand.vm_id, host_id=host_id, message=message)
    return _no_place(demand, rooms)


def _no_place(demand: Demand, rooms: Rooms) -> Placement:
    why: dict[str, HostRefusal] = dict(rooms.refused)
    for host_id, (memory_mib, vcpus) in rooms.free.items():
        if host_id in demand.refused_by:
            why[host_id] = HostRefusal.REFUSED_BEFORE
        elif memory_mib < demand.facts.memory_mib:
            why[host_id] = HostRefusal.MEMORY_FULL
        elif vcpus < demand.facts.vcpus:
            why[host_id] = HostRefusal.VCPUS_FULL
    candidates = rooms.free.keys() - demand.refused_by
    if not candidates and demand.refused_by & rooms.free.keys():
        reason = VmReason.START_REFUSED
    else:
        reason = VmReason.NO_CAPACITY if candidates else VmReason.NO_HOST
    return Placement(vm_id=demand.vm_id, reason=reason, message=_explain(demand, why))


def _explain(demand: Demand, why: Mapping[str, HostRefusal], shown: int = 5) -> str:
    wants = f"needs {demand.facts.memory_mib} MiB and {demand.facts.vcpus} vCPUs"
    counted = Counter(why.values())
    groups: list[str] = []
    for refusal_reason in sorted(counted):
        hosts: Sequence[str] = sorted(host_id for host_id, r in why.items() if r is refusal_reason)
        more = f" and {len(hosts) - shown} more" if len(hosts) > shown else ""
        groups.append(f"{refusal_reason}: {', '.join(hosts[:shown])}{more}")
    return f"{wants}; {'; '.join(groups) or 'no other host'}"
