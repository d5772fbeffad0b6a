"""The part of a placement that the search works on: VMs on numbered hosts with their room. Pure.

Groups that are to be kept are hard ones and those soft ones that the search tries to keep (`strict`); the others only weigh.
VMs that kept affinity groups tie together, over each other too, are a block. It need not be placed whole, for a group is kept
by those that have a place; those that are tied together by such as have one share it, and move as one (`party`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vmha.evac.placement_problem import Item, Problem
from vmha.evac.placement_rooms import page_size

NOWHERE = -1


@dataclass(slots=True)
class Unit:
    """A VM on the board.

    Attributes:
        item: Its number in the problem.
        hosts: Numbers of the hosts that may have it.
        kept: (group, affinity?) that bind it to other units, and are kept.
        wished: Likewise, of soft groups that are given up.
        groups: Numbers of both.
        worth: Of its placement: more than all VMs of lower priorities together.
        block: Units that kept affinity ties to it, itself included; empty when none is.
    """

    item: int
    memory_mib: int
    vcpus: int
    hugepage_kib: int
    priority: int
    worth: int
    hosts: list[int] = field(default_factory=list)
    kept: tuple[tuple[int, bool], ...] = ()
    wished: tuple[tuple[int, bool], ...] = ()
    groups: tuple[int, ...] = ()
    block: tuple[int, ...] = ()


class Board:
    """Who is where. Every change goes through `put` and `lift`."""

    def __init__(
        self,
        problem: Problem,
        hosts: Sequence[str],
        free: Mapping[str, tuple[float, float]],
        pages: Mapping[str, Mapping[int, float]],
        units: Sequence[Unit],
    ) -> None:
        self.problem, self.names, self.units = problem, list(hosts), units
        self.memory = [free[host_id][0] for host_id in hosts]
        self.vcpus = [free[host_id][1] for host_id in hosts]
        self.pages: list[dict[int, float] | None] = [dict(pages[host_id]) if host_id in pages else None for host_id in hosts]
        self.at: list[int] = [NOWHERE] * len(units)
        self.on: list[set[int]] = [set() for _ in hosts]
        self.where: list[dict[int, set[int]]] = [{} for _ in problem.bindings]
        self.worth = 0

    def rooms(self) -> tuple[list[float], list[float]]:
        """Memory and vCPUs of each host as if none of the units were anywhere."""
        memory, vcpus = list(self.memory), list(self.vcpus)
        for unit, host in zip(self.units, self.at, strict=True):
            if host != NOWHERE:
                memory[host] += unit.memory_mib
                vcpus[host] += unit.vcpus
        return memory, vcpus

    def put(self, number: int, host: int) -> None:
        """Gives a unit a host."""
        unit = self.units[number]
        self.at[number] = host
        self.on[host].add(number)
        self.memory[host] -= unit.memory_mib
        self.vcpus[host] -= unit.vcpus
        self.worth += unit.worth
        if self.pages[host] is not None:
            self._take_pages(unit, host, unit.memory_mib)
        for group in unit.groups:
            self.where[group].setdefault(host, set()).add(number)

    def lift(self, number: int) -> int:
        """Takes a unit off its host; returns that."""
        unit, host = self.units[number], self.at[number]
        self.at[number] = NOWHERE
        self.on[host].discard(number)
        self.memory[host] += unit.memory_mib
        self.vcpus[host] += unit.vcpus
        self.worth -= unit.worth
        if self.pages[host] is not None:
            self._take_pages(unit, host, -unit.memory_mib)
        for group in unit.groups:
            left = self.where[group][host]
            left.discard(number)
            if not left:
                del self.where[group][host]
        return host

    def _take_pages(self, unit: Unit, host: int, mib: int) -> None:
        pages = self.pages[host] or {}
        size = page_size(unit.hugepage_kib, pages)
        pages[size] = pages.get(size, 0.0) - mib

    def has_room(self, number: int, host: int) -> bool:
        """Whether a host has what a unit needs."""
        unit = self.units[number]
        if self.memory[host] < unit.memory_mib or self.vcpus[host] < unit.vcpus:
            return False
        pages = self.pages[host]
        return pages is None or pages.get(page_size(unit.hugepage_kib, pages), 0.0) >= unit.memory_mib

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

    def takes(self, number: int, host: int) -> bool:
        """Whether a unit can go to a host that may have it, as things are."""
        return self.has_room(number, host) and not (self.units[number].kept and self.clashing(number, host))

    def party(self, number: int) -> Sequence[int]:
        """Those that have a place and that kept affinity ties to a unit, and the unit itself if it has one: they move together.

        They are on one host, unless the unit has no place and would tie together what was apart.
        """
        if not self.units[number].block:
            return (number,) if self.at[number] != NOWHERE else ()
        found, waiting = {number}, [number]
        while waiting:
            for group, affine in self.units[waiting.pop()].kept:
                for there in self.where[group].values() if affine else ():
                    waiting += there - found
                    found |= there
        return sorted(other for other in found if self.at[other] != NOWHERE)

    def lift_all(self, numbers: Iterable[int]) -> list[tuple[int, int]]:
        """Takes units off their hosts; returns who was where."""
        return [(number, self.lift(number)) for number in numbers]

    def put_all(self, numbers: Sequence[int], host: int) -> bool:
        """Gives units one host if it takes them all; else nothing has changed."""
        for position, number in enumerate(numbers):
            if host not in self.units[number].hosts or not self.takes(number, host):
                self.lift_all(numbers[:position])
                return False
            self.put(number, host)
        return True

    def put_back(self, were: Iterable[tuple[int, int]]) -> None:
        """Gives units the hosts that they had."""
        for number, host in were:
            self.put(number, host)

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
        names = self.names
        return {unit.item: names[host] for unit, host in zip(self.units, self.at, strict=True) if host != NOWHERE}


def worths(problem: Problem) -> dict[int, int]:
    """Of a VM of each priority: more than all VMs of lower priorities together."""
    base = len(problem.items) + 1
    return {priority: base**rank for rank, priority in enumerate(sorted({item.priority for item in problem.items}))}


def units_of(
    problem: Problem, items: Sequence[Item], strict: frozenset[int], hosts: Sequence[str], worth: Mapping[int, int]
) -> list[Unit]:
    """A unit for each item, in their order."""
    units = [_unit(problem, item, strict, hosts, worth[item.priority]) for item in items]
    for block in _blocks(problem, units, strict):
        for number in block:
            units[number].block = block
    return units


def _unit(problem: Problem, item: Item, strict: frozenset[int], hosts: Sequence[str], worth: int) -> Unit:
    affine = {number: problem.bindings[number].affine for number in item.groups}
    fixed = [problem.bindings[number] for number in item.groups if number in strict]
    return Unit(
        item.number,
        item.memory_mib,
        item.vcpus,
        item.hugepage_kib,
        item.priority,
        worth,
        [
            number
            for number, host_id in enumerate(hosts)
            if problem.refusal(item, host_id) is None and all(binding.lets(host_id) for binding in fixed)
        ],
        tuple((number, affine[number]) for number in item.groups if number in strict),
        tuple((number, affine[number]) for number in item.groups if number not in strict),
        item.groups,
    )


def _blocks(problem: Problem, units: Sequence[Unit], strict: frozenset[int]) -> list[tuple[int, ...]]:
    root = {unit.item: unit.item for unit in units}
    able = {unit.item for unit in units if unit.hosts}

    def find(number: int) -> int:
        while root[number] != number:
            root[number] = root[root[number]]
            number = root[number]
        return number

    for number in sorted(strict):
        binding = problem.bindings[number]
        here = [member for member in binding.members if member in able] if binding.affine else []
        for member in here[1:]:
            first, other = sorted((find(here[0]), find(member)))
            root[other] = first
    blocks: dict[int, list[int]] = {}
    for position, unit in enumerate(units):
        blocks.setdefault(find(unit.item), []).append(position)
    return [tuple(block) for block in blocks.values() if len(block) > 1]
