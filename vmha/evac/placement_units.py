"""The part of a placement that the search works on: units of VMs that move as one, on numbered hosts with their room. Pure.

Groups that are to be kept are hard ones and those soft ones that the search tries to keep (`strict`); the others only weigh.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vmha.evac.placement_problem import Item, Problem
from vmha.evac.placement_rooms import page_size

NOWHERE = -1


@dataclass(slots=True)
class Unit:
    """VMs that are placed and moved as one.

    Attributes:
        members: Numbers of its items.
        hosts: Numbers of the hosts that may have it.
        kept: (group, affinity?) that bind it to other units, and are kept.
        wished: Likewise, of soft groups that are given up.
        worth: Of its placement; a VM is worth more than all VMs of lower priorities together.
    """

    members: tuple[int, ...]
    memory_mib: int
    vcpus: int
    pages: dict[int, int]
    priority: int
    worth: int
    hosts: list[int] = field(default_factory=list)
    kept: tuple[tuple[int, bool], ...] = ()
    wished: tuple[tuple[int, bool], ...] = ()


class Board:
    """Who is where. Every change goes through `put` and `lift`."""

    def __init__(
        self,
        problem: Problem,
        hosts: Sequence[str],
        free: Mapping[str, tuple[float, float]],
        pages: Mapping[str, Mapping[int, float]],
    ) -> None:
        self.problem, self.names = problem, list(hosts)
        self.memory = [free[host_id][0] for host_id in hosts]
        self.vcpus = [free[host_id][1] for host_id in hosts]
        self.pages: list[dict[int, float] | None] = [dict(pages[host_id]) if host_id in pages else None for host_id in hosts]
        self.units: list[Unit] = []
        self.at: list[int] = []
        self.on: list[set[int]] = [set() for _ in hosts]
        self.where: list[dict[int, set[int]]] = [{} for _ in problem.bindings]
        self.worth = 0

    def add(self, unit: Unit) -> int:
        """Makes a unit known; it is nowhere yet."""
        self.units.append(unit)
        self.at.append(NOWHERE)
        return len(self.units) - 1

    def put(self, unit: int, host: int) -> None:
        """Gives a unit a host."""
        self._book(unit, host, 1)
        self.at[unit] = host
        self.on[host].add(unit)
        for group, _ in (*self.units[unit].kept, *self.units[unit].wished):
            self.where[group].setdefault(host, set()).add(unit)

    def lift(self, unit: int) -> int:
        """Takes a unit off its host; returns that."""
        host = self.at[unit]
        self._book(unit, host, -1)
        self.at[unit] = NOWHERE
        self.on[host].discard(unit)
        for group, _ in (*self.units[unit].kept, *self.units[unit].wished):
            left = self.where[group][host]
            left.discard(unit)
            if not left:
                del self.where[group][host]
        return host

    def _book(self, number: int, host: int, sign: int) -> None:
        unit = self.units[number]
        self.memory[host] -= sign * unit.memory_mib
        self.vcpus[host] -= sign * unit.vcpus
        self.worth += sign * unit.worth
        pages = self.pages[host]
        if pages is not None:
            for asked, mib in unit.pages.items():
                size = page_size(asked, pages)
                pages[size] = pages.get(size, 0.0) - sign * mib

    def has_room(self, number: int, host: int) -> bool:
        """Whether a host has what a unit needs."""
        unit = self.units[number]
        if self.memory[host] < unit.memory_mib or self.vcpus[host] < unit.vcpus:
            return False
        pages = self.pages[host]
        if pages is None:
            return True
        left = dict(pages)
        for asked, mib in unit.pages.items():
            size = page_size(asked, pages)
            left[size] = left.get(size, 0.0) - mib
        return min(left.values()) >= 0

    def clashing(self, number: int, host: int) -> set[int]:
        """Units that would have to leave for the groups' sake, if this one went to a host."""
        found: set[int] = set()
        for group, affine in self.units[number].kept:
            where = self.where[group]
            if affine:
                for other, there in where.items():
                    if other != host:
                        found |= there
            elif host in where:
                found |= where[host]
        found.discard(number)
        return found

    def regrets(self, number: int, host: int) -> int:
        """How many soft groups that were given up a host would break, counted by what stands against it."""
        count = 0
        for group, affine in self.units[number].wished:
            binding, where = self.problem.bindings[group], self.where[group]
            if affine:
                apart = any(other != host for other in where) or bool(binding.stays - {self.names[host]})
                count += apart + (apart and host not in where and self.names[host] not in binding.stays)
            else:
                count += len(where.get(host, ())) + (self.names[host] in binding.stays)
        return count

    def places(self) -> dict[int, str]:
        """Number of an item -> host_id."""
        found = {}
        for unit, host in zip(self.units, self.at, strict=True):
            if host != NOWHERE:
                found.update(dict.fromkeys(unit.members, self.names[host]))
        return found


def worths(problem: Problem) -> dict[int, int]:
    """Of a VM of each priority: more than all VMs of lower priorities together."""
    base = len(problem.items) + 1
    return {priority: base**rank for rank, priority in enumerate(sorted({item.priority for item in problem.items}))}


def units_of(
    problem: Problem, items: Iterable[Item], strict: frozenset[int], hosts: Sequence[str], worth: Mapping[int, int]
) -> list[Unit]:
    """Units over items: those that kept affinity groups hold together are one, unless no host could take them so."""
    units: list[Unit] = []
    for block in _blocks(problem, list(items), strict):
        unit = unit_of(problem, block, strict, hosts, worth)
        if len(block) > 1 and (not unit.hosts or _at_odds(problem, block, strict)):
            units += [unit_of(problem, [item], strict, hosts, worth) for item in block]
        else:
            units.append(unit)
    return units


def _blocks(problem: Problem, items: Sequence[Item], strict: frozenset[int]) -> list[list[Item]]:
    root = {item.number: item.number for item in items}

    def find(number: int) -> int:
        while root[number] != number:
            root[number] = root[root[number]]
            number = root[number]
        return number

    for number in sorted(strict):
        binding = problem.bindings[number]
        here = [member for member in binding.members if member in root] if binding.affine else []
        for member in here[1:]:
            first, other = sorted((find(here[0]), find(member)))
            root[other] = first
    blocks: dict[int, list[Item]] = {}
    for item in items:
        blocks.setdefault(find(item.number), []).append(item)
    return [blocks[number] for number in sorted(blocks)]


def _at_odds(problem: Problem, block: Sequence[Item], strict: frozenset[int]) -> bool:
    """Whether a kept group wants two of them apart."""
    apart = [number for item in block for number in item.groups if number in strict and not problem.bindings[number].affine]
    return len(apart) > len(set(apart))


def unit_of(
    problem: Problem, block: Sequence[Item], strict: frozenset[int], hosts: Sequence[str], worth: Mapping[int, int]
) -> Unit:
    """VMs as one unit, with the hosts that may have all of them."""
    members = {item.number for item in block}
    groups = sorted({number for item in block for number in item.groups})
    bound = [number for number in groups if members != set(problem.bindings[number].members)]
    pages: dict[int, int] = {}
    for item in block:
        pages[item.hugepage_kib] = pages.get(item.hugepage_kib, 0) + item.memory_mib
    unit = Unit(
        tuple(item.number for item in block),
        sum(item.memory_mib for item in block),
        sum(item.vcpus for item in block),
        pages,
        max(item.priority for item in block),
        sum(worth[item.priority] for item in block),
        kept=tuple((number, problem.bindings[number].affine) for number in bound if number in strict),
        wished=tuple((number, problem.bindings[number].affine) for number in groups if number not in strict),
    )
    fixed = [problem.bindings[number] for number in groups if number in strict]
    unit.hosts = [
        number
        for number, host_id in enumerate(hosts)
        if all(problem.refusal(item, host_id) is None for item in block) and all(b.lets(host_id) for b in fixed)
    ]
    return unit
