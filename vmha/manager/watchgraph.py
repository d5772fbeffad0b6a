"""Core: who watches whom in one round (S2). Every host is watched by exactly k others and watches exactly k."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Protocol


class Shuffler(Protocol):
    """What a draw needs of a random generator; the shell hands it in."""

    def shuffle(self, x: list[str]) -> None:
        """Put a list into random order, in place."""
        ...


def draw(racks: Mapping[str, str], k: int, rng: Shuffler) -> dict[str, tuple[str, ...]]:
    """Draw a round: watcher -> the min(k, n-1) hosts that it probes.

    The hosts stand in a ring and each watches the next k. Hosts of one rack stand apart in the ring as far as they can, so that
    watchers come from other racks where there are any, and one rack's loss does not take all the watchers of a host with it.

    Args:
        racks: Host -> rack; empty where it is not known.
        k: Watchers of each host.
        rng: The source of chance.
    """
    ring = _ring(racks, rng)
    reach = min(k, len(ring) - 1)
    size = len(ring)
    return {host: tuple(ring[(i + step) % size] for step in range(1, reach + 1)) for i, host in enumerate(ring)}


def watchers(assignment: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """The same round from the other side: host -> its watchers."""
    found: dict[str, list[str]] = {host: [] for host in assignment}
    for watcher, peers in assignment.items():
        for peer in peers:
            found.setdefault(peer, []).append(watcher)
    return {host: tuple(names) for host, names in found.items()}


def _ring(racks: Mapping[str, str], rng: Shuffler) -> list[str]:
    """Deal the hosts out rack by rack: next comes the rack with most hosts left, never the one that was just dealt from.

    So no two neighbours are of one rack while no rack has more than half of the hosts, and racks of one size take turns.
    """
    by_rack: dict[str, list[str]] = {}
    order = sorted(racks)
    rng.shuffle(order)
    for host in order:
        by_rack.setdefault(racks[host], []).append(host)
    # Most left first, then the longest not dealt from; the random order of the racks' first hosts breaks the ties.
    heap = [(-len(hosts), index, rack) for index, (rack, hosts) in enumerate(by_rack.items())]
    heapq.heapify(heap)
    ring: list[str] = []
    resting: tuple[int, int, str] | None = None
    while heap or resting:
        if not heap and resting:
            # Only one rack is left: it is more than half of the cluster.
            return ring + by_rack[resting[2]]
        left, _, rack = heapq.heappop(heap)
        ring.append(by_rack[rack].pop())
        if resting:
            heapq.heappush(heap, resting)
        resting = (left + 1, len(racks) + len(ring), rack) if left + 1 else None
    return ring
