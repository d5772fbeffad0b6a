"""Two to four hosts emptied and filled again, with one or two units more: exact, within a number of steps. Pure."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from vmha.evac.placement_units import NOWHERE, Board


class Repack:
    """One attempt. A unit may be left out only while what is gained is worth more."""

    def __init__(self, board: Board, hosts: Sequence[int], extra: Sequence[int], size: Callable[[int], float]) -> None:
        self._board, self._hosts = board, hosts
        held = [unit for host in hosts for unit in board.on[host]]
        self._units = sorted([*held, *extra], key=self._order(size))
        self._from = {unit: board.at[unit] for unit in self._units}
        self._gain = sum(board.units[unit].worth for unit in extra)
        self._steps = 0

    def _order(self, size: Callable[[int], float]) -> Callable[[int], tuple[float, int, float, int]]:
        """Large ones first; blocks in one go."""
        units = self._board.units

        def key(unit: int) -> tuple[float, int, float, int]:
            block = units[unit].block
            whole = sum(size(other) for other in block) if block else size(unit)
            return -whole, block[0] if block else unit, -size(unit), unit

        return key

    def promises(self) -> bool:
        """Whether there is room for it at all, however it is cut."""
        board = self._board
        units = [board.units[unit] for unit in self._units]
        drops = max(0, (self._gain - 1) // max(1, min(unit.worth for unit in units)))
        for held, room in (
            ([unit.memory_mib for unit in units], sum(board.memory[host] for host in self._hosts)),
            ([unit.vcpus for unit in units], sum(board.vcpus[host] for host in self._hosts)),
        ):
            placed = sum(each for each, unit in zip(held, self._units, strict=True) if self._from[unit] != NOWHERE)
            if sum(sorted(held)[: len(held) - drops] if drops else held) > room + placed:
                return False
        return True

    def run(self, steps: int) -> int:
        """Tries; the board is as before when it fails. Returns the steps it took, negative when it succeeded."""
        board = self._board
        for unit, host in self._from.items():
            if host != NOWHERE:
                board.lift(unit)
        self._left = self._needs()
        self._steps = steps
        if self._fill(0, 0):
            return self._steps - steps - 1
        for unit, host in self._from.items():
            if host != NOWHERE:
                board.put(unit, host)
        return steps - self._steps + 1

    def _needs(self) -> list[tuple[int, int, int, int]]:
        """From each position on: all memory, all vCPUs, the least memory and the fewest vCPUs of one."""
        needs: list[tuple[int, int, int, int]] = []
        memory_mib, vcpus, least_mib, fewest = 0, 0, sys.maxsize, sys.maxsize
        for unit in (self._board.units[number] for number in reversed(self._units)):
            memory_mib, vcpus = memory_mib + unit.memory_mib, vcpus + unit.vcpus
            least_mib, fewest = min(least_mib, unit.memory_mib), min(fewest, unit.vcpus)
            needs.append((memory_mib, vcpus, least_mib, fewest))
        return needs[::-1]

    def _may_fit(self, position: int) -> bool:
        """Whether what is left needs no more than the hosts have that have room for any of it."""
        memory, vcpus = self._board.memory, self._board.vcpus
        all_mib, all_vcpus, least_mib, fewest = self._left[position]
        need_mib, need_vcpus = float(all_mib), float(all_vcpus)
        for host in self._hosts:
            if memory[host] >= least_mib and vcpus[host] >= fewest:
                need_mib, need_vcpus = need_mib - memory[host], need_vcpus - vcpus[host]
        return need_mib <= 0 and need_vcpus <= 0

    def _fill(self, position: int, dropped: int) -> bool:
        if position == len(self._units):
            return True
        self._steps -= 1
        if self._steps < 0:
            return False
        board, unit = self._board, self._units[position]
        wants = board.units[unit]
        droppable = dropped + wants.worth < self._gain
        if not droppable and not self._may_fit(position):
            return False
        seen: set[tuple[float, float]] = set()
        for host in sorted(self._hosts, key=lambda host: board.memory[host]):
            rest = (board.memory[host], board.vcpus[host])
            if rest[0] < wants.memory_mib or rest[1] < wants.vcpus or host not in wants.hosts:
                continue
            if rest in seen and not board.on[host]:
                continue  # two empty hosts alike
            seen.add(rest)
            if not board.has_room(unit, host) or (wants.kept and board.clashing(unit, host)):
                continue
            board.put(unit, host)
            if self._fill(position + 1, dropped):
                return True
            board.lift(unit)
        return droppable and self._fill(position + 1, dropped + wants.worth)
