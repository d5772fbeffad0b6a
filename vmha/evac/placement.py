"""Chooses targets for all VMs at once: hard rules always, soft ones whenever some placement keeps them. Pure and deterministic.

What counts, in this order: VMs of higher priority have a place; as many VMs as possible have one; soft groups are kept; memory
is left on every host (most free memory first, then host_id). The same hosts and VMs in any order give the same targets, and every
choice and refusal is explained. Order of work: `placement_rooms` (what is free), `placement_problem` (who may go where),
`placement_greedy`, and, where that is not enough, `placement_repair` with `placement_search`; last `placement_explain`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from vmha.evac.pair_rules import PAIR_RULES, PairRule
from vmha.evac.placement_explain import Explainer
from vmha.evac.placement_greedy import Greedy
from vmha.evac.placement_problem import Demand, Item, Placement, Problem
from vmha.evac.placement_repair import Repair
from vmha.evac.placement_rooms import TAKES_ROOM, Rooms, measure, refusal

__all__ = ["TAKES_ROOM", "Demand", "Placement", "Rooms", "measure", "place", "refusal"]


def place(demands: Iterable[Demand], rooms: Rooms, rules: tuple[PairRule, ...] = PAIR_RULES, asked: str = "") -> list[Placement]:
    """Gives each VM a target or a reason, and takes its share from `rooms`; in the order in which VMs should start.

    That order is by priority; among equals VMs that affinity holds together follow one another (S17), large ones go first.

    Args:
        rules: What a host must have to run a VM at all; `pair_rules.LIVE_PAIR_RULES` for a live migration.
        asked: A VM of which every other host's refusal is wanted, with figures, whether or not it has a target.
    """
    free, pages = dict(rooms.free), {host_id: dict(sizes) for host_id, sizes in rooms.pages.items()}
    problem = Problem(demands, rooms, rules)
    places = Greedy(problem).run()
    searched = len(places) < len(problem.items) and bool(free)
    if searched:
        places = Repair(problem, free, pages).run(places)
        rooms.free.update(free)
        rooms.pages.update(pages)
        for number, host_id in places.items():
            rooms.take(host_id, problem.items[number].demand.facts)
    explainer = Explainer(problem, places)
    if searched:
        _fill_up(problem, places, explainer)
    return [_told(explainer, item, item.number in places, searched, item.vm_id == asked) for item in _start_order(problem)]


def _told(explainer: Explainer, item: Item, placed: bool, searched: bool, asked: bool) -> Placement:
    placement = explainer.placed(item, searched=searched) if placed else explainer.unplaced(item)
    if not asked:
        return placement
    refused = {host_id: why for host_id, why in explainer.refusals(item).items() if host_id != placement.host_id}
    figures = {host_id: explainer.figures(item, host_id, why) for host_id, why in refused.items()}
    return replace(placement, refused=refused, figures=figures)


def _fill_up(problem: Problem, places: dict[int, str], explainer: Explainer) -> None:
    """The search looks at some hosts only where there are many: nobody stays behind whom another one would have."""
    free = problem.rooms.free
    for item in problem.items:
        if item.number in places:
            continue
        refused = explainer.refusals(item)
        if len(refused) < len(free) + len(problem.rooms.refused):
            host_id = min((h for h in free if h not in refused), key=lambda h: (-free[h][0], h))
            places[item.number] = host_id
            problem.rooms.take(host_id, item.demand.facts)
            explainer.forget()


def _start_order(problem: Problem) -> list[Item]:
    leader: dict[int, int] = {}
    for binding in problem.bindings:
        for member in binding.members if binding.affine else ():
            leader[member] = min(leader.get(member, member), binding.members[0])
    if not leader:
        return problem.items
    return sorted(problem.items, key=lambda item: (-item.priority, leader.get(item.number, item.number), item.number))
