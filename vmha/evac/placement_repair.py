"""What is tried, in which order, when the first try left a VM without a place or broke a soft group. Pure.

1. All soft groups as if they were hard. When every VM finds a place, that is the plan.
2. Without them: how many VMs can be placed at all, by priority; from scratch and by other measures of what is large, too, until
   no more can be (`placement_bounds`). Where 1 placed as many, it is the plan.
3. Where it placed more: 1 once more, by other ways. When that places as many, it is the plan.
4. From 2, each soft group that is broken is made strict, one after the other, as long as no VM loses its place for it.

Last, VMs are moved from full hosts to emptier ones where no rule is the worse for it. Only hosts that may matter take part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import nlargest

from vmha.evac.placement_bounds import Bounds
from vmha.evac.placement_moves import EVEN, FIRST_NUMBER, Budget
from vmha.evac.placement_problem import Item, Places, Problem
from vmha.evac.placement_search import Search
from vmha.evac.placement_units import NOWHERE, Board, units_of, worths

LOOKS = 2_600_000
"""Looks at a unit and a host in one plan, at most: two to five seconds."""
ALL_HOSTS = 64
"""With more targets than these only the emptiest of them are searched, those of groups, and those that the first try used."""
EMPTIEST = 24
SHAPES = 32
SPREADS = 3
MEASURES = ((1.0, 0.1), (0.1, 1.0))
"""Memory counts for most, vCPUs count for most: a VM that is small by one is in the way by the other."""
OTHER_NUMBER = 4242
"""Begins another fixed sequence of numbers: a second search goes other ways than the first."""


class Repair:
    """Betters a plan. `free`: the room before anything of it was placed."""

    def __init__(self, problem: Problem, free: Mapping[str, tuple[float, float]], pages: Mapping[str, dict[int, float]]) -> None:
        self._problem, self._free, self._pages = problem, dict(free), pages
        self._worth = worths(problem)
        self._hard = frozenset(n for n, binding in enumerate(problem.bindings) if binding.hard)
        self._soft = frozenset(range(len(problem.bindings))) - self._hard
        self._budget = Budget(LOOKS)

    def run(self, places: Places) -> dict[int, str]:
        """The better plan; at least as good as the one given."""
        self._hosts, self._items, self._fixed = self._scope(places)
        every = self._hard | self._soft
        whole = self._solve(every, {}, self._budget.share(0.3))
        if len(whole.places()) == len(self._items):
            return self._finish(whole)
        board = self._by_other_measures(self._solve(self._hard, whole.places(), self._budget.share(0.33)))
        if board.worth > whole.worth:
            whole = self._solve(every, {}, self._budget.share(0.35), first_number=OTHER_NUMBER)
        return self._finish(whole if board.worth <= whole.worth else self._keep_groups(board))

    def _scope(self, places: Places) -> tuple[list[str], list[Item], dict[int, str]]:
        problem, free = self._problem, self._free
        if len(free) <= ALL_HOSTS:
            return sorted(free), list(problem.items), {}
        broken = problem.broken(places) & self._soft
        waiting = [item for item in problem.items if item.number not in places]
        concerned = [*waiting, *(problem.items[n] for group in sorted(broken) for n in problem.bindings[group].members)]
        shapes = sorted({item.shape for item in concerned})[:SHAPES]
        chosen = {host for shape in shapes for host in self._emptiest(shape)}
        bound = {number for item in concerned for number in item.groups}
        chosen |= {host for number in bound for host in (problem.bindings[number].pins or ()) if host in free}
        mates = {member for number in bound for member in problem.bindings[number].members}
        chosen |= {places[number] for number in mates if number in places}
        hosts = sorted(chosen)
        fixed = {number: host for number, host in places.items() if host not in chosen}
        items = [item for item in problem.items if item.number not in fixed]
        return hosts, items, fixed

    def _emptiest(self, shape: int) -> list[str]:
        free = self._problem.rooms.free
        return nlargest(EMPTIEST, self._problem.hosts_of(shape), key=lambda host_id: (free[host_id][0], host_id))

    def _by_other_measures(self, board: Board) -> Board:
        for measure in MEASURES:
            if Bounds(board).all_reached():
                break
            tried = self._solve(self._hard, {}, self._budget.share(0.33), OTHER_NUMBER, measure)
            if tried.worth > board.worth:
                board = tried
        return board

    def _solve(
        self,
        strict: frozenset[int],
        start: Places,
        budget: Budget,
        first_number: int = FIRST_NUMBER,
        measure: tuple[float, float] = EVEN,
    ) -> Board:
        problem = self._problem
        units = units_of(problem, self._items, strict, self._hosts, self._worth)
        board = Board(problem, self._hosts, self._free, self._pages, units)
        index = {host_id: number for number, host_id in enumerate(self._hosts)}
        for number, unit in enumerate(units):
            place = index.get(start.get(unit.item, ""), NOWHERE)
            if place in unit.hosts and board.takes(number, place):
                board.put(number, place)
        Search(board, budget, first_number, measure).run()
        self._budget.left += max(0, budget.left)
        return board

    def _keep_groups(self, board: Board) -> Board:
        broken = self._problem.broken(board.places()) & self._soft
        strict = self._hard | (self._soft - broken)
        for number in sorted(broken):
            if self._budget.left <= 0:
                break
            tried = self._solve(strict | {number}, board.places(), self._budget.share(1 / len(broken)))
            if tried.worth >= board.worth:
                board, strict = tried, strict | {number}
        return board

    def _finish(self, board: Board) -> dict[int, str]:
        self._spread(board)
        return {**self._fixed, **board.places()}

    def _spread(self, board: Board) -> None:
        """Moves units from fuller hosts to emptier ones, as long as no rule is the worse for it."""
        for _ in range(SPREADS):
            moved = False
            for number, unit in enumerate(board.units):
                first = board.at[number] != NOWHERE and board.party(number)[0] == number
                moved |= first and len(unit.hosts) > 1 and self._to_emptier(board, board.party(number))
            if not moved:
                return

    def _to_emptier(self, board: Board, party: Sequence[int]) -> bool:
        here, memory_mib = board.at[party[0]], sum(board.units[number].memory_mib for number in party)
        emptier = [h for h in board.units[party[0]].hosts if board.memory[h] - memory_mib > board.memory[here]]
        regrets = sum(board.regrets(number, here) for number in party)
        were = board.lift_all(party)
        for host in sorted(emptier, key=lambda h: (-board.memory[h], board.names[h])):
            if sum(board.regrets(number, host) for number in party) <= regrets and board.put_all(party, host):
                return True
        board.put_back(were)
        return False
