"""The single steps of the search: a unit is put somewhere, others make way for it or leave for it, some change places. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations

from vmha.evac.placement_units import NOWHERE, Board, Unit

FIRST_NUMBER = 12345
"""Begins the fixed sequence of numbers by which units are moved about."""
EVEN = (1.0, 1.0)
"""What memory and vCPUs count for where it is asked what is large, beside how short each is."""
MOVES = 6
"""Units that are moved about after an ejection."""
PAIRS_OF = 12
"""Of so many units of a host pairs are looked at."""
Way = tuple[tuple[int, float], int, list[int]]
"""To make room: what it costs, on which host, and what has to leave."""


class Budget:
    """How many looks at a unit and a host are left."""

    def __init__(self, looks: int) -> None:
        self.left = looks

    def share(self, part: float) -> Budget:
        """A part of it, taken out of it."""
        looks = int(self.left * part)
        self.left -= looks
        return Budget(looks)


class Moves:
    """What can be done on a board at one step; each look costs the budget one."""

    def __init__(
        self, board: Board, budget: Budget, first_number: int = FIRST_NUMBER, measure: tuple[float, float] = EVEN
    ) -> None:
        self._board, self._budget = board, budget
        self._penalty = [1] * len(board.units)
        self._number = first_number
        self._given_up: set[int] = set()
        self._at_level = 0
        memory, vcpus = self._scarcity()
        self._scarce = memory * measure[0], vcpus * measure[1]
        self._sizes = [self._size(unit) for unit in board.units]

    def _scarcity(self) -> tuple[float, float]:
        """What a MiB and a vCPU weigh: what is short weighs more. A host's room counts as far as units may have it."""
        board = self._board
        able = [unit for unit in board.units if unit.hosts]
        open_to = Counter(host for unit in able for host in unit.hosts)
        memory, vcpus = board.rooms()
        share = {host: count / len(able) for host, count in open_to.items()}
        return (
            sum(unit.memory_mib for unit in able) ** 3 / max(1.0, sum(memory[host] * part for host, part in share.items())) ** 4,
            sum(unit.vcpus for unit in able) ** 3 / max(1.0, sum(vcpus[host] * part for host, part in share.items())) ** 4,
        )

    def _size(self, unit: Unit) -> float:
        return unit.memory_mib * self._scarce[0] + unit.vcpus * self._scarce[1]

    def insert(self, number: int) -> bool:
        """Puts a unit where it breaks the least and fits the closest, if it fits anywhere as things are.

        One of a block goes where the others are, or all of them elsewhere with it; the first of a block takes the others along.
        """
        board, unit = self._board, self._board.units[number]
        if board.at[number] != NOWHERE:
            return True  # its block took it along
        if not unit.block:
            return self._together((number,))
        party = board.party(number)
        here = board.at[party[0]] if party else NOWHERE
        if here in unit.hosts and board.takes(number, here):
            board.put(number, here)
            return True
        were = board.lift_all(party)
        if any(self._together(movers) for movers in self._movers(number, party)):
            return True
        board.put_back(were)
        return False

    def _movers(self, number: int, party: Sequence[int]) -> list[list[int]]:
        """Whom a unit may go with: its whole block, those of it whose turn has come, and those only that have a place."""
        board, unit = self._board, self._board.units[number]
        nowhere = (n for n in unit.block if board.at[n] == NOWHERE and n not in party)
        waiting = [n for n in nowhere if n not in self._given_up and board.units[n].hosts]
        due = [n for n in waiting if board.units[n].priority >= self._at_level]
        found: list[list[int]] = []
        for movers in ([*party, *waiting], [*party, *due], [*party, number]):
            if movers not in found:
                found.append(movers)
        return found

    def _together(self, party: Sequence[int]) -> bool:
        """Puts units that have no place on one host, the one where they break the least and fit the closest."""
        board, first = self._board, self._board.units[party[0]]
        memory_mib = sum(board.units[number].memory_mib for number in party)
        vcpus = sum(board.units[number].vcpus for number in party)
        ways: list[tuple[int, float, int]] = []
        self._budget.left -= len(first.hosts) * len(party)
        for host in first.hosts:
            if board.memory[host] < memory_mib or board.vcpus[host] < vcpus or not board.takes(party[0], host):
                continue
            regrets = sum(board.regrets(number, host) for number in party if board.units[number].wished)
            ways.append((regrets, self._left(memory_mib, vcpus, host), host))
        if len(party) == 1 and ways:
            board.put(party[0], min(ways)[2])
            return True
        return any(board.put_all(party, host) for _, _, host in sorted(ways))

    def _left(self, memory_mib: int, vcpus: int, host: int) -> float:
        board = self._board
        memory_left, vcpus_left = board.memory[host] - memory_mib, board.vcpus[host] - vcpus
        return memory_left * self._scarce[0] + vcpus_left * self._scarce[1]

    def shift(self, number: int) -> bool:
        """Puts a unit where another one can make way for it without losing its own place."""
        board, unit = self._board, self._board.units[number]
        party = board.party(number)
        for host in (board.at[party[0]],) if unit.block and party else self.turned(unit.hosts):
            if self._budget.left <= 0 or host not in unit.hosts:
                return False
            for other in sorted(board.on[host]):
                self._budget.left -= 1
                leave = board.party(other)
                if other != leave[0] or not self._may_fit((number,), host, leave):
                    continue
                if self._makes_way(leave, number, host):
                    return True
        return False

    def _makes_way(self, leave: Sequence[int], number: int, host: int) -> bool:
        board = self._board
        were = board.lift_all(leave)
        if board.takes(number, host):
            board.put(number, host)
            if self._together(leave):
                return True
            board.lift(number)
        board.put_back(were)
        return False

    def eject(self, number: int) -> list[int] | None:
        """Puts a unit where the least has to leave for it; returns what left, None when it can go nowhere."""
        board, unit = self._board, self._board.units[number]
        if not unit.block:
            return self._make_room((number,), self._cheapest((number,), unit.hosts))
        party = board.party(number)
        there = [host for host in sorted({board.at[other] for other in party}) if host in unit.hosts]
        alone = self._cheapest((number,), there) if there else None
        were = board.lift_all(party)
        ways = [(self._cheapest(movers, unit.hosts), movers) for movers in self._movers(number, party)]
        found = [(way[0], position) for position, (way, _) in enumerate(ways) if way is not None]
        if found and (alone is None or min(found)[0] < alone[0]):
            way, movers = ways[min(found)[1]]
            left = self._make_room(movers, way)
            if left is not None:
                return left
        board.put_back(were)
        return self._make_room((number,), alone)

    def _cheapest(self, movers: Sequence[int], hosts: Sequence[int]) -> Way | None:
        """What it costs to make room for some units on one host, the host, and what has to leave."""
        best: Way | None = None
        for host in self.turned(hosts):
            if self._budget.left <= 0:
                break
            self._budget.left -= len(movers)
            for leave in self._ways(movers, host):
                self._budget.left -= 1
                cost = self._cost(leave, movers)
                if (best is None or cost < best[0]) and self.suffices(movers, host, leave):
                    best = cost, host, leave
        return best

    def _make_room(self, movers: Sequence[int], way: Way | None) -> list[int] | None:
        if way is None:
            return None
        board, (_, host, leave) = self._board, way
        were = board.lift_all(leave)
        if board.put_all(movers, host):
            return leave
        board.put_back(were)
        return None

    def _cost(self, leave: Sequence[int], movers: Sequence[int]) -> tuple[int, float]:
        units = self._board.units
        highest = max(units[number].priority for number in movers)
        dearer = sum(units[other].priority > highest for other in leave)
        return dearer + sum(self._penalty[other] for other in leave) - len(movers), -sum(self._sizes[other] for other in leave)

    def _ways(self, movers: Sequence[int], host: int) -> list[list[int]]:
        """Sets of units that may leave so that others may come: the groups' demand, and up to two more for the room."""
        board, units = self._board, self._board.units
        if len(movers) > 1 and any(host not in units[number].hosts for number in movers):
            return []
        clashing = {other for number in movers if units[number].kept for other in board.clashing(number, host)}
        must = sorted(clashing.difference(movers))
        here = [other for other in must if board.at[other] == host]
        memory = sum(units[n].memory_mib for n in movers) - board.memory[host] - sum(units[n].memory_mib for n in here)
        vcpus = sum(units[n].vcpus for n in movers) - board.vcpus[host] - sum(units[n].vcpus for n in here)
        rest = [other for other in sorted(board.on[host]) if other not in must]
        ways = [must] if memory <= 0 and vcpus <= 0 and must else []
        sizes = [(other, units[other].memory_mib, units[other].vcpus) for other in rest]
        ways += [[*must, other] for other, mib, cpu in sizes if mib >= memory and cpu >= vcpus]
        if not ways:
            few = sorted(sizes, key=lambda size: (self._penalty[size[0]], -size[1], size[0]))[:PAIRS_OF]
            ways = [
                [*must, a[0], b[0]] for a, b in combinations(few, 2) if a[1] + b[1] >= memory and a[2] + b[2] >= vcpus
            ]  # fmt: skip
        return ways or self._many(must, sizes, memory, vcpus)

    def _many(self, must: list[int], sizes: list[tuple[int, int, int]], memory: float, vcpus: float) -> list[list[int]]:
        """One set for a unit that needs more than two to leave: those that were the easiest to place so far."""
        leave = list(must)
        for other, mib, cpu in sorted(sizes, key=lambda size: (self._penalty[size[0]], -size[1], size[0])):
            leave.append(other)
            memory, vcpus = memory - mib, vcpus - cpu
            if memory <= 0 and vcpus <= 0:
                return [leave]
        return []

    def suffices(self, movers: Sequence[int], host: int, leave: Sequence[int]) -> bool:
        """Whether a host takes some units, which have enough memory and vCPUs there, once others have left."""
        board = self._board
        if board.pages[host] is None and len(movers) == 1:
            return True
        were = board.lift_all(leave)
        enough = board.put_all(movers, host)
        if enough:
            board.lift_all(movers)
        board.put_back(were)
        return enough

    def stir(self) -> None:
        """Moves a few units about, or has two change places, where everything stays as it should be."""
        board = self._board
        placed = [number for number, host in enumerate(board.at) if host != NOWHERE]
        for _ in range(MOVES if placed else 0):
            self._budget.left -= 2
            number = placed[self._next(len(placed))]
            hosts = board.units[number].hosts
            to = hosts[self._next(len(hosts))]
            if to != board.at[number]:
                self._move_or_swap(number, to)

    def _move_or_swap(self, number: int, to: int) -> None:
        board, came_from = self._board, self._board.at[number]
        movers = board.party(number)
        if self._may_fit(movers, to, ()):
            were = board.lift_all(movers)
            if board.put_all(movers, to):
                return
            board.put_back(were)
        if not board.on[to]:
            return
        there = sorted(board.on[to])
        others = board.party(there[self._next(len(there))])
        if self._may_fit(movers, to, others) and self._may_fit(others, came_from, movers):
            were = [*board.lift_all(movers), *board.lift_all(others)]
            if board.put_all(movers, to):
                if board.put_all(others, came_from):
                    return
                board.lift_all(movers)
            board.put_back(were)

    def _may_fit(self, movers: Sequence[int], host: int, leave: Sequence[int]) -> bool:
        """Whether memory and vCPUs suffice once others have left."""
        board, units = self._board, self._board.units
        memory, vcpus = board.memory[host], board.vcpus[host]
        for other in leave:
            memory, vcpus = memory + units[other].memory_mib, vcpus + units[other].vcpus
        for mover in movers:
            memory, vcpus = memory - units[mover].memory_mib, vcpus - units[mover].vcpus
        return memory >= 0 and vcpus >= 0

    def turned(self, hosts: Sequence[int]) -> list[int]:
        """The same hosts, begun with the next one by the fixed sequence of numbers."""
        start = self._next(len(hosts)) if hosts else 0
        return [*hosts[start:], *hosts[:start]]

    def _next(self, below: int) -> int:
        self._number = (self._number * 1103515245 + 12345) % 2147483648
        return (self._number >> 8) % below if below else 0
