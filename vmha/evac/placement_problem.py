"""A placement as the search sees it: VMs in a fixed order, which hosts each may have, and the groups that bind them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from vmha.evac.pair_rules import PAIR_RULES, PairRule, Wants, refused, wants_of
from vmha.evac.placement_rooms import ORDINARY, Rooms, page_size
from vmha.evac.reasons import HostRefusal, VmReason
from vmha.facts import HostFacts, VmFacts
from vmha.model import GroupMode, GroupPolicy

Places = Mapping[int, str]
"""Number of an item -> host_id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """One VM that needs a target.

    Attributes:
        refused_by: Hosts that may not be asked again for it.
        source: What was found out about the host that it leaves.
        planned: The target that it was promised before; kept where nothing speaks against it.
    """

    vm_id: str
    facts: VmFacts
    refused_by: frozenset[str] = frozenset()
    source: HostFacts | None = None
    planned: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One VM's target, or why it has none.

    Attributes:
        refused: host_id -> why it got none there; empty for a VM that has a target, unless it was asked for.
        figures: host_id -> what a host that refuses it has instead, for people; only for a VM that was asked for.
        violated: Soft groups that its target does not keep, as SOFT_AFFINITY:group_id or SOFT_ANTI_AFFINITY:group_id.
    """

    vm_id: str
    host_id: str = ""
    reason: VmReason | None = None
    message: str = ""
    refused: Mapping[str, HostRefusal] = field(default_factory=dict)
    figures: Mapping[str, str] = field(default_factory=dict)
    violated: tuple[str, ...] = ()


@dataclass(slots=True)
class Item:
    """One VM. `groups`: numbers of the groups that bind it to other VMs. `shape`: number of its wishes."""

    number: int
    vm_id: str
    memory_mib: int
    vcpus: int
    hugepage_kib: int
    priority: int
    shape: int
    demand: Demand
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Binding:
    """One group over VMs that move.

    Attributes:
        members: Those that move.
        stays: Hosts on which others of it stay.
        pins: Affinity: the hosts that may take a member, None when any may.
    """

    group_id: str
    affine: bool
    hard: bool
    members: tuple[int, ...]
    stays: frozenset[str]
    pins: frozenset[str] | None

    def lets(self, host_id: str) -> bool:
        """Whether those that stay leave it a host."""
        if self.affine:
            return self.pins is None or host_id in self.pins
        return host_id not in self.stays


class Problem:
    """What is to be placed where. Items are sorted: high priority first, then large ones, then by vm_id."""

    def __init__(self, demands: Iterable[Demand], rooms: Rooms, rules: tuple[PairRule, ...] = PAIR_RULES) -> None:
        self.rooms, self._rules = rooms, rules
        self._shapes: dict[Wants, int] = {}
        self._verdicts: list[list[HostRefusal | None]] = []
        self._hosts: dict[int, list[str]] = {}
        ordered = sorted(demands, key=lambda d: (-d.facts.priority, -d.facts.memory_mib, -d.facts.vcpus, d.vm_id))
        self.items = [self._item(number, demand) for number, demand in enumerate(ordered)]
        self.bindings = self._bind()

    def _item(self, number: int, demand: Demand) -> Item:
        facts, wants = demand.facts, wants_of(demand.facts, demand.source)
        shape = self._shapes.get(wants)
        if shape is None:
            shape = self._shapes[wants] = len(self._shapes)
            self._verdicts.append([refused(wants, kind, self._rules) for kind in self.rooms.kinds])
        return Item(
            number, demand.vm_id, facts.memory_mib, facts.vcpus, facts.hugepage_kib, facts.priority, shape, demand
        )  # fmt: skip

    def _bind(self) -> list[Binding]:
        members: dict[str, list[int]] = {}
        for item in self.items:
            for group_id in self.rooms.groups_of(item.vm_id, item.demand.facts):
                members.setdefault(group_id, []).append(item.number)
        demanded = {item.vm_id for item in self.items} if members else set()
        bindings: list[Binding] = []
        for group_id in sorted(members):
            stays = {host for vm_id, host in self.rooms.stays.get(group_id, {}).items() if vm_id not in demanded}
            if len(members[group_id]) + len(stays) > 1:
                for number in members[group_id]:
                    self.items[number].groups = (*self.items[number].groups, len(bindings))
                bindings.append(self._binding(group_id, members[group_id], frozenset(stays)))
        return bindings

    def _binding(self, group_id: str, members: list[int], stays: frozenset[str]) -> Binding:
        group = self.rooms.groups[group_id]
        affine, hard = group.policy is GroupPolicy.AFFINITY, group.mode is GroupMode.HARD
        pins: frozenset[str] | None = None
        if affine and stays:
            pins = stays & self.rooms.free.keys()
            if hard and len(stays) > 1:
                pins = frozenset()  # its members are apart already: no host keeps it
            elif not hard and not pins:
                pins = None  # those that stay cannot be joined: the others keep together at least
        return Binding(group_id, affine, hard, tuple(members), stays, pins)

    def refusal(self, item: Item, host_id: str) -> HostRefusal | None:
        """Why a host can't run a VM, whatever room it has: its kind, or what it said before."""
        why = self._verdicts[item.shape][self.rooms.kind_index[host_id]]
        return HostRefusal.REFUSED_BEFORE if why is None and host_id in item.demand.refused_by else why

    def hosts_of(self, shape: int) -> list[str]:
        """Hosts that can run VMs of a shape."""
        hosts = self._hosts.get(shape)
        if hosts is None:
            verdicts, index = self._verdicts[shape], self.rooms.kind_index
            free = self.rooms.free
            hosts = list(free) if not any(verdicts) else [host for host in free if verdicts[index[host]] is None]
            self._hosts[shape] = hosts
        return hosts

    def shape_refuses(self, shape: int) -> Mapping[HostRefusal, int]:
        """How many hosts can't run VMs of a shape, by the rule."""
        counted: dict[HostRefusal, int] = {}
        verdicts = self._verdicts[shape]
        if any(verdicts):
            for kind in self.rooms.kind_index.values():
                why = verdicts[kind]
                if why is not None:
                    counted[why] = counted.get(why, 0) + 1
        return counted

    def fits(self, item: Item, host_id: str) -> HostRefusal | None:
        """What a host lacks for a VM, as its room is now."""
        pages = self.rooms.pages.get(host_id)
        if pages is not None:
            size = page_size(item.hugepage_kib, pages)
            if pages.get(size, 0.0) < item.memory_mib:
                return HostRefusal.MEMORY_FULL if size == ORDINARY else HostRefusal.HUGEPAGES_FULL
        memory_mib, vcpus = self.rooms.free[host_id]
        if memory_mib < item.memory_mib:
            return HostRefusal.MEMORY_FULL
        return HostRefusal.VCPUS_FULL if vcpus < item.vcpus else None

    def unkept(self, item: Item, places: Places) -> Iterator[Binding]:
        """Groups that its place does not keep, given everybody else's."""
        host_id = places[item.number]
        for number in item.groups:
            binding = self.bindings[number]
            others = {places[other] for other in binding.members if other != item.number and other in places}
            if (others | binding.stays) - {host_id} if binding.affine else host_id in others | binding.stays:
                yield binding

    def broken(self, places: Places) -> set[int]:
        """Soft groups that are not kept, by number."""
        found = set()
        for number, binding in enumerate(self.bindings):
            hosts = [places[member] for member in binding.members if member in places]
            taken = binding.stays.union(hosts)
            wrong = len(taken) > 1 if binding.affine else len(taken) < len(hosts) + len(binding.stays)
            if hosts and wrong:
                found.add(number)
        return found
