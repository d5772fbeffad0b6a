"""Finds places for what the first try left over: moves, ejections and chains of them, within a fixed number of looks. Pure.

A unit without a place is put where what has to leave for it is the least, of a priority as low as possible; what left looks for
a place in turn. Units that are hard to place are counted, and are the last to be ejected again ("guided ejection search").
Between two ejections units are moved about, by a fixed sequence of numbers: the same input gives the same plan. The best state
is kept. What is left over then is tried by exchanges, and by filling two to four hosts anew (`placement_repack`). The single
steps are in `placement_moves`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from vmha.evac.placement_bounds import Bounds
from vmha.evac.placement_moves import Moves
from vmha.evac.placement_repack import Repack
from vmha.evac.placement_units import NOWHERE

ROUNDS = 4
"""Of the three ways, one after the other."""
FRUITLESS = 40
"""Tries for each unit without a gain after which ejections end: a few VMs soon come round again."""
IDLE = 20
"""Rounds without a gain after which exchanges end."""
EXTRA = 4
"""Units without a place for which hosts are filled anew."""


class Search(Moves):
    """One board, from wherever it stands to the best state that the budget allows."""

    def run(self) -> None:
        """Places by priority: what is of lower priority never costs anybody above it the place."""
        board, budget = self._board, self._budget
        levels = sorted({unit.priority for unit in board.units}, reverse=True)
        self._bounds = Bounds(board)
        for position, level in enumerate(levels):
            self._at_level, self._budget = level, budget.share(1 / (len(levels) - position))
            self._level(level)
            self._given_up |= set(self._waiting(level))
            budget.left += max(0, self._budget.left)
        self._budget = budget

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
                while self._budget.left > 0 and not self._bounds.reached(level) and self._repack(level):
                    pass
                pool = [] if self._bounds.reached(level) else self._waiting(level)

    def _repack(self, level: int) -> bool:
        """Finds a place for one more by filling two to four hosts anew, those with the most room first."""
        board = self._board
        waiting = sorted(self._waiting(level), key=lambda number: (-board.units[number].priority, self._sizes[number]))
        if any(self.insert(number) for number in waiting):
            return True
        few = waiting[:EXTRA]
        hosts = self.turned(range(len(board.names)))
        for count, steps in ((2, 300), (3, 600), (4, 4000)):
            sets = sorted(combinations(hosts, count), key=self._room_of, reverse=True)
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

    def _room_of(self, hosts: Sequence[int]) -> float:
        return sum(self._left(0, 0, host) for host in hosts)

    def _difficulty(self, number: int) -> tuple[int, float]:
        unit = self._board.units[number]
        return unit.priority, self._sizes[number] * (1 + 1 / max(1, len(unit.hosts)))

    def _chase(self, pool: list[int], level: int) -> list[int]:
        """Ejection search; returns what has no place in the best state."""
        board = self._board
        best, best_at, stuck, fruitless = self._score(), list(board.at), 0, 0
        while pool and self._budget.left > 0 and fruitless < FRUITLESS * len(board.units):
            fruitless += 1
            pool.sort(key=lambda number: board.units[number].priority)  # stable: the newest of the highest comes first
            number = pool.pop()
            if self.insert(number) or self.shift(number) or self._stands_in(number):
                stuck = 0
            else:
                self._penalty[number] += 1
                ejected = self.eject(number)
                stuck = 0 if ejected is not None else stuck + 1
                back = [number] if ejected is None else [n for n in ejected if board.units[n].priority >= level]
                pool = [*back, *pool] if ejected is None else [*pool, *back]
                if stuck > len(pool):
                    break
                self.stir()
            score = self._score()
            if score > best:
                best, best_at, fruitless = score, list(board.at), 0
                if self._bounds.reached(level):
                    break
        self._restore(best_at)
        return self._waiting(level)

    def _stands_in(self, number: int) -> bool:
        """Puts another unit of the same worth, which was given up before, in the place that this one had."""
        board, worth = self._board, self._board.units[number].worth
        for other in sorted(self._given_up):
            if board.at[other] == NOWHERE and board.units[other].worth == worth:
                self._given_up.remove(other)
                placed = self.insert(other)
                self._given_up.add(number if placed else other)
                if placed:
                    return True
        return False

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
                self.stir()
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
                if board.clashing(number, host) <= {other} and self.suffices((number,), host, [other]):
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
