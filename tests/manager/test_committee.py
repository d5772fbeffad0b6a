"""Who votes, and how many of them it takes."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from vmha.manager.committee import ALL_UP_TO, certificate_quorum, elect, evacuation_quorum, size


def test_size_of_the_committee() -> None:
    """Everybody up to 16 hosts; then 9 of 100 and 15 of 1000, odd, and never fewer for more hosts."""
    sizes = [size(hosts) for hosts in range(ALL_UP_TO + 1, 20_000)]

    assert [size(hosts) for hosts in range(17)] == list(range(17))
    assert (size(100), size(1000), size(10_000)) == (9, 15, 21)
    assert all(seats % 2 for seats in sizes)
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("voters", range(1, 40))
def test_a_certificate_and_an_evacuation_share_a_voter(voters: int) -> None:
    """C + E > K: whoever certifies an outage is not in contact, and both together are more than there are."""
    assert certificate_quorum(voters) + evacuation_quorum(voters) == voters + 1


@pytest.mark.parametrize("seed", range(30))
def test_elections(seed: int) -> None:
    """The same hosts elect the same voters, whatever their order; no rack has two more seats than one that still had hosts."""
    rng = random.Random(seed)
    hosts = [f"h{number:04d}" for number in range(rng.randint(17, 300))]
    racks = {host: f"r{rng.randint(0, rng.choice([1, 4, 60]))}" for host in hosts}
    voters = elect(racks)
    rng.shuffle(hosts)
    seats, places = Counter(racks[host] for host in voters), Counter(racks.values())

    assert elect({host: racks[host] for host in hosts}) == voters == tuple(sorted(set(voters)))
    assert len(voters) == size(len(hosts)) and set(voters) <= set(hosts)
    most = max(seats.values())
    assert all(seats[rack] >= most - 1 or seats[rack] == places[rack] for rack in places)


def test_losing_a_host_changes_at_most_its_own_seat() -> None:
    """A new configuration for each host that goes, but not a new committee."""
    racks = {f"h{number:03d}": f"r{number % 4}" for number in range(100)}
    before = set(elect(racks))
    for host in sorted(racks):
        after = set(elect({other: rack for other, rack in racks.items() if other != host}))
        assert len(before - after) <= 1, host
