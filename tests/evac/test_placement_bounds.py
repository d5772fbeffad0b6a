"""The bounds of a search: never below what a placement has, and met often enough to end it."""

from __future__ import annotations

from collections import Counter

import pytest

from bench.placement_clusters import SOURCE, Cluster, cluster, host_of, vm_of
from tests.evac.test_placement import best_of
from vmha.evac.pair_rules import PAIR_RULES
from vmha.evac.placement import place
from vmha.evac.placement_bounds import Bounds
from vmha.evac.placement_problem import Problem
from vmha.evac.placement_units import Board, units_of, worths
from vmha.facts import HostFacts, VmFacts
from vmha.model import ClusterConfig
from vmha.store.records import HostRecord


def board_of(made: Cluster, places: dict[str, str]) -> Board:
    """A board with VMs on hosts, by their names; only hard groups are kept."""
    rooms = made.rooms()
    problem = Problem(made.demands(), rooms, PAIR_RULES)
    hard = frozenset(number for number, binding in enumerate(problem.bindings) if binding.hard)
    hosts = sorted(rooms.free)
    board = Board(problem, hosts, rooms.free, rooms.pages, units_of(problem, problem.items, hard, hosts, worths(problem)))
    index = {host_id: number for number, host_id in enumerate(hosts)}
    for number, unit in enumerate(board.units):
        host_id = places.get(problem.items[unit.item].vm_id, "")
        if host_id:
            board.put(number, index[host_id])
    return board


def counts(made: Cluster, places: dict[str, str]) -> dict[int, int]:
    """VMs that have a place, by priority."""
    return Counter(demand.facts.priority for demand in made.demands() if places.get(demand.vm_id))


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_a_bound_that_is_reached_is_the_best_there_is(first: int) -> None:
    """With every VM of the plan, and with one of them taken away: a level is only called reached where nothing has more of it."""
    for seed in range(first, first + 20):
        made = cluster(seed, hosts=3, vms=6)
        plan = {placement.vm_id: placement.host_id for placement in place(made.demands(), made.rooms()) if placement.host_id}
        priorities = sorted({demand.facts.priority for demand in made.demands()}, reverse=True)
        best = dict(zip(priorities, best_of(made)[0], strict=True))
        for less in ("", *sorted(plan)):
            places = {vm_id: host_id for vm_id, host_id in plan.items() if vm_id != less}
            bounds, have = Bounds(board_of(made, places)), counts(made, places)
            for level in priorities:
                if bounds.reached(level):
                    assert have[level] >= best[level], f"seed {seed}, without {less or 'nobody'}, priority {level}"
                if have[level] < best[level]:
                    break  # fewer of this one leave more room for those below


@pytest.mark.timeout(300)
def test_bounds_end_the_search_of_most_clusters_in_which_not_all_fit() -> None:
    """What the bound is for: of clusters without room for everybody most have a plan that reaches it."""
    reached = lacking = 0
    for seed in range(100):
        made = cluster(seed, hosts=3, vms=6, load=1.4)
        plan = {placement.vm_id: placement.host_id for placement in place(made.demands(), made.rooms()) if placement.host_id}
        if len(plan) < len(made.demands()):
            lacking += 1
            lowest = min(demand.facts.priority for demand in made.demands())
            reached += Bounds(board_of(made, plan)).reached(lowest)

    assert lacking >= 20
    assert reached >= lacking / 2


def test_a_host_that_holds_too_much_leaves_the_bound_of_the_others() -> None:
    """Its room is below nothing: the two VMs that fit on the other host can still be placed."""
    targets = [sized("h1", 1000), sized("h2", 200)]
    vms = [
        *(vm_of(f"m{n}", SOURCE, VmFacts(memory_mib=500, vcpus=1)) for n in range(3)),
        vm_of("s", "h2", VmFacts(memory_mib=900, vcpus=1)),
    ]
    made = Cluster(hosts=(*targets, sized(SOURCE, 1)), vms=tuple(vms), groups={}, config=ClusterConfig())

    one, two = board_of(made, {"m0": "h1"}), board_of(made, {"m0": "h1", "m1": "h1"})

    assert not Bounds(one).all_reached()
    assert Bounds(two).all_reached()


def sized(host_id: str, memory_mib: int) -> HostRecord:
    return host_of(host_id, HostFacts(vcpus=8, memory_mib=memory_mib))
