"""Core: who votes, and how many of them it takes (docs/safety.md, section 1). Above 16 hosts a committee stands for all.

Any choice is safe as long as C + E > K: a majority that certifies an outage and the half that contact needs share a host.
This one spreads the voters over the racks, so that the loss of a rack takes as few of them as it can.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

ALL_UP_TO: Final = 16
"""Clusters of up to this many hosts have no committee: everybody votes."""
SMALLEST: Final = 9


def size(hosts: int) -> int:
    """How many of a cluster's hosts vote: all, or an odd number that grows with the logarithm: 9 of 100, 15 of 1000.

    Args:
        hosts: Hosts of the cluster that could vote.
    """
    if hosts <= ALL_UP_TO:
        return hosts
    # Whole numbers only: the digits of n^3 are floor(3 log10 n) + 1.
    return max(SMALLEST, 2 * (len(str(hosts**3)) - 1) - 3)


def elect(racks: Mapping[str, str]) -> tuple[str, ...]:
    """The voters, sorted. Every caller with the same hosts elects the same.

    Args:
        racks: Host -> its rack; hosts without one ("") share one.
    """
    seats = size(len(racks))
    if seats == len(racks):
        return tuple(sorted(racks))
    by_rack: dict[str, list[str]] = {}
    for host_id in sorted(racks):
        by_rack.setdefault(racks[host_id], []).append(host_id)
    elected: list[str] = []
    place = 0
    while len(elected) < seats:
        row = [hosts[place] for _, hosts in sorted(by_rack.items()) if place < len(hosts)]
        elected += row[: seats - len(elected)]
        place += 1
    return tuple(sorted(elected))


def certificate_quorum(voters: int) -> int:
    """C: voters that certify an outage, more than half."""
    return voters // 2 + 1


def evacuation_quorum(voters: int) -> int:
    """E: voters in contact that an evacuation needs, at least half."""
    return (voters + 1) // 2
