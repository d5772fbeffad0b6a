"""Finds places for what the first try left over: moves, ejections and chains of them, within a fixed number of looks. Pure.

A unit without a place is put where what has to leave for it is the least, of a priority as low as possible; what left looks for
a place in turn. Units that are hard to place are counted, and are the last to be ejected again ("guided ejection search").
Between two ejections units are moved about, by a fixed sequence of numbers: the same input gives the same plan. The best state
is kept. What is left over then is tried by exchanges, and by filling two or three hosts anew (`placement_repack`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from vmha.evac.placement_repack import Repack
from vmha.evac.placement_units import NOWHERE, Board, Unit, unit_of

MOVES = 6
"""Units that are moved about after an ejection."""
ROUNDS = 4
"""Of the three ways, one after the other."""
IDLE = 20
"""Rounds without a gain after which exchanges end."""
EXTRA = 4
"""Units without a place for which hosts are filled anew."""
PAIRS_OF = 12
"""Of so many units of a host pairs are looked at."""


class Budget:
    """How many looks at a unit and a host are left."""

    def __init__(self, looks: int) -> None:
        self.left = looks

    def share(self, part: float) -> Budget:
        """A part of it, taken out of it."""
        looks = int(self.left * part)
        self.left -= looks
        return Budget(looks)


class Search:
    """One board, from wherever it stands to the best state that the budget allows."""

    def __init__(self, board: Board, strict: frozenset[int], worth: Mapping[int, int], budget: Budget) -> None:
        self._board, self._strict, self._worth, self._budget = board, strict, worth, budget
        self._penalty = [1] * len(board.units)
        self._number = 12345
        self._given_up: set[int] = set()
        self._scarce = self._scarcity()
        self._sizes = [self._size(unit) for unit in board.units]

    def run(self) -> None:
        """Places by priority: what is of lower priority never costs anybody above it the place."""
        board, budget = self._board, self._budget
        levels = sorted({board.problem.items[n].priority for unit in board.units for n in unit.members}, reverse=True)
        for position, level in enumerate(levels):
            self._budget = budget.share(1 / (len(levels) - position))
            self._level(level)
            if self._split(level):
                self._level(level)
            self._given_up |= set(self._waiting(level))
            budget.left += max(0, self._budget.left)
        self._budget = budget

    def _scarcity(self) -> tuple[float, float]:
        """What a MiB and a vCPU weigh: what is short weighs more."""
        board = self._board
        placed = [unit for unit, host in zip(board.units, board.at, strict=True) if host != NOWHERE]
        memory = max(1.0, sum(board.memory) + sum(unit.memory_mib for unit in placed))
        vcpus = max(1.0, sum(board.vcpus) + sum(unit.vcpus for unit in placed))
        return (
            sum(unit.memory_mib for unit in board.units) ** 3 / memory**4,
            sum(unit.vcpus for unit in board.units) ** 3 / vcpus**4,
        )

    def _size(self, unit: Unit) -> float:
        return unit.memory_mib * self._scarce[0] + unit.vcpus * self._scarce[1]

    def _waiting(self, level: int) -> list[int]:
        board = self._board
        return [
            number
            for number, unit in enumerate(board.units)
            if board.at[number] == NOWHERE and unit.priority >= level and unit.hosts and number not in self._given_up
        ]

    def _level(self, level: int) -> None:
        pool = sorted(self._waiting(level), key=self._difficulty)
        pool = [number for number in reversed(pool) if not self.insert(number)][::-1]
        rounds = 0
        while pool and self._budget.left > 0 and rounds < ROUNDS:
            rounds += 1
            budget, self._budget = self._budget, self._budget.share(0.1)
            pool = self._chase(pool, level)
            budget.left += max(0, self._budget.left)
            self._budget = budget
            if pool:
                self._exchange(level)
                while self._budget.left > 0 and self._repack(level):
                    pass
                pool = self._waiting(level)

    def _repack(self, level: int) -> bool:
        """Finds a place for one more by filling two or three hosts anew."""
        board = self._board
        waiting = sorted(self._waiting(level), key=lambda number: (-board.units[number].priority, self._sizes[number]))
        if any(self.insert(number) for number in waiting):
            return True
        few = waiting[:EXTRA]
        hosts = self._turned(range(len(board.names)))
        for count, steps in ((2, 300), (3, 600)):
            sets = list(combinations(hosts, count))
            for extra in [*([number] for number in few), *(list(pair) for pair in combinations(few, 2))]:
                allowed = set(board.units[extra[0]].hosts)
                for chosen in sets:
                    if self._budget.left <= 0:
                        return False
                    self._budget.left -= 1
                    if allowed.isdisjoint(chosen):
                        continue
                    tried = Repack(board, chosen, extra, self._sizes.__getitem__)
                    if not tried.promises():
                        continue
                    took = tried.run(steps)
                    self._budget.left -= 3 * abs(took)
                    if took < 0:
                        return True
        return False

    def _difficulty(self, number: int) -> tuple[int, float]:
        unit = self._board.units[number]
        return unit.priority, self._sizes[number] * (1 + 1 / max(1, len(unit.hosts)))

    def _chase(self, pool: list[int], level: int) -> list[int]:
        """Ejection search; returns what has no place in the best state."""
        board = self._board
        best, best_at, stuck = self._score(), list(board.at), 0
        while pool and self._budget.left > 0:
            pool.sort(key=lambda number: board.units[number].priority)  # stable: the newest of the highest comes first
            number = pool.pop()
            if self.insert(number) or self._shift(number):
                stuck = 0
            else:
                self._penalty[number] += 1
                ejected = self._eject(number, level)
                stuck = 0 if ejected is not None else stuck + 1
                back = [number] if ejected is None else [n for n in ejected if board.units[n].priority >= level]
                pool = [*back, *pool] if ejected is None else [*pool, *back]
                if stuck > len(pool):
                    break
                self._stir()
            score = self._score()
            if score > best:
                best, best_at = score, list(board.at)
        self._restore(best_at)
        return self._waiting(level)

    def _exchange(self, level: int) -> None:
        """Small ones for large ones: as many as before, and more room; between rounds units are moved about."""
        board = self._board
        best, best_at, idle = self._score(), list(board.at), 0
        while self._budget.left > 0 and idle < IDLE:
            pool = sorted(self._waiting(level), key=lambda number: (-board.units[number].priority, self._sizes[number]))
            if not pool:
                break
            placed = [number for number in pool if self.insert(number) or self._replace(number)]
            score = self._score()
            if score > best:
                best, best_at, idle = score, list(board.at), 0
            elif not placed:
                idle += 1
                if score < best and idle % 8 == 0:
                    self._restore(best_at)
                self._stir()
        self._restore(best_at)

    def _replace(self, number: int) -> bool:
        """Puts a unit in the place of one that is worth less, or as much and larger."""
        board, unit = self._board, self._board.units[number]
        gain, chosen = (0, 0.0), NOWHERE
        for host in unit.hosts:
            for other in board.on[host]:
                self._budget.left -= 1
                old = board.units[other]
                more = (unit.worth - old.worth, self._sizes[other] - self._sizes[number])
                if more <= gain or old.priority > unit.priority:
                    continue
                if board.memory[host] + old.memory_mib < unit.memory_mib or board.vcpus[host] + old.vcpus < unit.vcpus:
                    continue
                if board.clashing(number, host) <= {other} and self._suffices(number, host, [other]):
                    gain, chosen = more, other
        if chosen == NOWHERE:
            return False
        board.put(number, board.lift(chosen))
        return True

    def _score(self) -> tuple[int, float]:
        board = self._board
        return board.worth, -sum(size for size, host in zip(self._sizes, board.at, strict=True) if host != NOWHERE)

    def _restore(self, at: Sequence[int]) -> None:
        board = self._board
        changed = [number for number, host in enumerate(at) if board.at[number] != host]
        for number in changed:
            if board.at[number] != NOWHERE:
                board.lift(number)
        for number in changed:
            if at[number] != NOWHERE:
                board.put(number, at[number])

    def _split(self, level: int) -> bool:
        """Takes blocks that found no place apart: some of them is better than none."""
        board = self._board
        blocks = [number for number in self._waiting(level) if len(board.units[number].members) > 1]
        for number in blocks:
            unit = board.units[number]
            unit.hosts = []
            for member in unit.members:
                board.add(unit_of(board.problem, [board.problem.items[member]], self._strict, board.names, self._worth))
                self._penalty.append(1)
                self._sizes.append(self._size(board.units[-1]))
        return bool(blocks)

    def insert(self, number: int) -> bool:
        """Puts a unit where it breaks the least and fits the closest, if it fits anywhere as things are."""
        board, unit = self._board, self._board.units[number]
        best, chosen = (0, 0.0), NOWHERE
        self._budget.left -= len(unit.hosts)
        for host in unit.hosts:
            if board.memory[host] < unit.memory_mib or board.vcpus[host] < unit.vcpus:
                continue
            if not board.has_room(number, host) or (unit.kept and board.clashing(number, host)):
                continue
            cost = (board.regrets(number, host) if unit.wished else 0, self._left(unit, host))
            if chosen == NOWHERE or cost < best:
                best, chosen = cost, host
        if chosen != NOWHERE:
            board.put(number, chosen)
        return chosen != NOWHERE

    def _left(self, unit: Unit, host: int) -> float:
        board = self._board
        memory_left, vcpus_left = board.memory[host] - unit.memory_mib, board.vcpus[host] - unit.vcpus
        return memory_left * self._scarce[0] + vcpus_left * self._scarce[1]

    def _shift(self, number: int) -> bool:
        """Puts a unit where another one can make way for it without losing its own place."""
        board, unit = self._board, self._board.units[number]
        for host in self._turned(unit.hosts):
            if self._budget.left <= 0:
                return False
            for other in sorted(board.on[host]):
                self._budget.left -= 1
                small = board.units[other]
                if board.memory[host] + small.memory_mib < unit.memory_mib or board.vcpus[host] + small.vcpus < unit.vcpus:
                    continue
                if self._makes_way(other, number, host):
                    return True
        return False

    def _makes_way(self, other: int, number: int, host: int) -> bool:
        board = self._board
        board.lift(other)
        if board.has_room(number, host) and not board.clashing(number, host):
            board.put(number, host)
            if self.insert(other):
                return True
            board.lift(number)
        board.put(other, host)
        return False

    def _eject(self, number: int, level: int) -> list[int] | None:
        """Puts a unit where the least has to leave for it; returns what left, None when it can go nowhere."""
        board, unit = self._board, self._board.units[number]
        best: tuple[int, int, float] | None = None
        chosen, leave = NOWHERE, []
        for host in self._turned(unit.hosts):
            if self._budget.left <= 0:
                break
            for wanted in self._ways(number, host):
                self._budget.left -= 1
                cost = self._cost(wanted, unit)
                if (best is None or cost < best) and self._suffices(number, host, wanted):
                    best, chosen, leave = cost, host, wanted
        if chosen == NOWHERE:
            return None
        for other in leave:
            board.lift(other)
        board.put(number, chosen)
        return leave

    def _cost(self, leave: Sequence[int], unit: Unit) -> tuple[int, int, float]:
        units = self._board.units
        dearer = sum(units[other].priority > unit.priority for other in leave)
        return 0, dearer + sum(self._penalty[other] for other in leave), -sum(self._sizes[other] for other in leave)

    def _ways(self, number: int, host: int) -> list[list[int]]:
        """Sets of units that may leave so that a unit may come: the groups' demand, and up to two more for the room."""
        board, unit = self._board, self._board.units[number]
        must = sorted(board.clashing(number, host))
        here = [other for other in must if board.at[other] == host]
        memory = unit.memory_mib - board.memory[host] - sum(board.units[other].memory_mib for other in here)
        vcpus = unit.vcpus - board.vcpus[host] - sum(board.units[other].vcpus for other in here)
        rest = [other for other in sorted(board.on[host]) if other not in must]
        ways = [must] if memory <= 0 and vcpus <= 0 and must else []
        sizes = [(other, board.units[other].memory_mib, board.units[other].vcpus) for other in rest]
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

    def _suffices(self, number: int, host: int, leave: Sequence[int]) -> bool:
        board = self._board
        if board.pages[host] is None:
            return True
        came_from = [(other, board.lift(other)) for other in leave]
        enough = board.has_room(number, host)
        for other, there in came_from:
            board.put(other, there)
        return enough

    def _stir(self) -> None:
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
        board = self._board
        there = sorted(board.on[to])
        came_from = board.lift(number)
        if board.has_room(number, to) and not board.clashing(number, to):
            board.put(number, to)
            return
        other = there[self._next(len(there))] if there else NOWHERE
        if other != NOWHERE and came_from in board.units[other].hosts:
            board.lift(other)
            if self._both_fit(number, to, other, came_from):
                return
            board.put(other, to)
        board.put(number, came_from)

    def _both_fit(self, number: int, to: int, other: int, back: int) -> bool:
        board = self._board
        if not board.has_room(number, to) or board.clashing(number, to):
            return False
        board.put(number, to)
        if board.has_room(other, back) and not board.clashing(other, back):
            board.put(other, back)
            return True
        board.lift(number)
        return False

    def _turned(self, hosts: Sequence[int]) -> list[int]:
        start = self._next(len(hosts)) if hosts else 0
        return [*hosts[start:], *hosts[:start]]

    def _next(self, below: int) -> int:
        self._number = (self._number * 1103515245 + 12345) % 2147483648
        return (self._number >> 8) % below if below else 0
