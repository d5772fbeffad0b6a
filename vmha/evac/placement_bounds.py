"""How many units of each priority can be placed at most: where the search has reached that, it need not go on. Pure.

A relaxation: rooms are poured together, groups and the cut between hosts are left out, memory and vCPUs are looked at one by one.
So no placement has more, and a search that has as many is done. Units that only some hosts may have are bounded by those, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vmha.evac.placement_units import NOWHERE, Board, Unit

ROUNDING = 1e-6
"""MiB and vCPUs: rooms are fractions, and their sums are rounded."""


class Bounds:
    """The bounds of one board, whatever stands on it."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._rooms = board.rooms()

    def all_reached(self) -> bool:
        """Whether no placement has more of any priority without having fewer of a higher one."""
        return all(self.reached(level) for level in {unit.priority for unit in self._board.units})

    def reached(self, level: int) -> bool:
        """Whether no placement has more of a priority, given how many of every higher one have a place."""
        board = self._board
        placed: dict[int, int] = {}
        for unit, host in zip(board.units, board.at, strict=True):
            if host != NOWHERE and unit.priority >= level:
                placed[unit.priority] = placed.get(unit.priority, 0) + 1
        units = [unit for unit in board.units if unit.hosts and unit.priority >= level]
        here = placed.get(level, 0)
        wanted = sum(unit.priority == level for unit in units)
        return here == wanted or here >= self._most(units, level, placed)

    def _most(self, units: Sequence[Unit], level: int, placed: dict[int, int]) -> int:
        """As many of the level as fit into all rooms together; of those that some hosts may have alone, as many as fit there."""
        everywhere = frozenset(range(len(self._board.names)))
        kinds = {frozenset(unit.hosts) for unit in units if unit.priority == level}
        best = self._fitting(units, level, placed, everywhere)
        for hosts in kinds - {everywhere}:
            inside = [unit for unit in units if unit.priority == level and hosts.issuperset(unit.hosts)]
            outside = sum(unit.priority == level for unit in units) - len(inside)
            best = min(best, self._fitting(inside, level, {}, hosts) + outside)
        return best

    def _fitting(self, units: Sequence[Unit], level: int, placed: dict[int, int], hosts: Iterable[int]) -> int:
        numbers = sorted(hosts)
        # A host that holds more than it should takes nothing away from the others.
        memory, vcpus = (sum(max(0.0, room[n]) for n in numbers) for room in self._rooms)
        return min(
            _count(units, level, placed, memory, [unit.memory_mib for unit in units]),
            _count(units, level, placed, vcpus, [unit.vcpus for unit in units]),
        )


def _count(units: Sequence[Unit], level: int, placed: dict[int, int], room: float, sizes: Sequence[int]) -> int:
    """The smallest of the level that fit beside the smallest of each higher one."""
    by_priority: dict[int, list[int]] = {}
    for unit, size in zip(units, sizes, strict=True):
        by_priority.setdefault(unit.priority, []).append(size)
    for priority, count in placed.items():
        if priority > level:
            room -= sum(sorted(by_priority.get(priority, ()))[:count])
    count = 0
    for size in sorted(by_priority.get(level, ())):
        room -= size
        if room < -ROUNDING:
            break
        count += 1
    return count
