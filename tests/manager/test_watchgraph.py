"""The watch graph: regular, random, across racks."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmha.manager.watchgraph import draw, watchers


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_s02_every_host_is_watched_by_exactly_k_others(k: int) -> None:
    """Each host watches min(k, n-1) others and is watched by as many; nobody watches itself or anybody twice."""
    for size in range(2, 61):
        regular(size, k)


def regular(size: int, k: int) -> None:
    assignment = draw({f"h{n}": "" for n in range(size)}, k, random.Random(size * 31 + k))

    want = min(k, size - 1)
    seen_by = watchers(assignment)
    assert all(len(set(peers)) == len(peers) == want and host not in peers for host, peers in assignment.items())
    assert all(len(set(names)) == len(names) == want for names in seen_by.values())
    assert len(assignment) == len(seen_by) == size


@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(st.text("abcdefgh", min_size=1, max_size=4), st.sampled_from(["", "r1", "r2", "r3"]), max_size=60),
    st.integers(1, 8),
    st.integers(0, 2**32),
)
def test_s02_is_regular_whatever_the_racks(racks: dict[str, str], k: int, seed: int) -> None:
    """Racks never cost regularity."""
    assignment = draw(racks, k, random.Random(seed))

    want = max(0, min(k, len(racks) - 1))
    assert all(len(set(peers) - {host}) == len(peers) == want for host, peers in assignment.items())
    assert all(len(set(names)) == want for names in watchers(assignment).values())


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=2, max_size=6), st.integers(2, 6), st.integers(0, 2**32))
def test_s02_each_host_has_a_watcher_in_another_rack(sizes: list[int], k: int, seed: int) -> None:
    """Where no rack holds more than half of the hosts, no host is watched by its own rack alone."""
    if 2 * max(sizes) > sum(sizes):
        sizes = [*sizes, max(sizes)]
    if 2 * max(sizes) > sum(sizes):
        return
    racks = {f"r{rack}-{n}": f"r{rack}" for rack, size in enumerate(sizes) for n in range(size)}

    seen_by = watchers(draw(racks, k, random.Random(seed)))

    assert all(any(racks[name] != racks[host] for name in by) for host, by in seen_by.items())


def test_s02_other_racks_are_preferred() -> None:
    """With as many racks as a host has watchers and one more, all its watchers are in other racks."""
    racks = {f"r{rack}-{n}": f"r{rack}" for rack in range(6) for n in range(10)}

    seen_by = watchers(draw(racks, 5, random.Random(7)))

    assert all(racks[name] != racks[host] for host, by in seen_by.items() for name in by)


def test_s02_each_round_is_random() -> None:
    """Rounds differ, with racks and without, and over some rounds each pair of hosts meets."""
    for racks in ({f"h{n}": "" for n in range(10)}, {f"h{n}": f"r{n % 2}" for n in range(10)}):
        rng = random.Random(1)
        rounds = [draw(racks, 3, rng) for _ in range(60)]

        assert len({str(sorted(assignment.items())) for assignment in rounds}) > 30
        met = {(host, peer) for assignment in rounds for host, peers in assignment.items() for peer in peers}
        assert len(met) == 90


def test_the_same_chance_draws_the_same_round() -> None:
    """The draw depends on nothing but its arguments, not on the order of a mapping."""
    racks = {f"h{n}": f"r{n % 3}" for n in range(9)}

    assert draw(racks, 3, random.Random(5)) == draw(dict(reversed(racks.items())), 3, random.Random(5))


def test_small_clusters() -> None:
    """Nobody, and one alone, watch nobody; two watch each other."""
    assert draw({}, 5, random.Random(0)) == {}
    assert draw({"a": ""}, 5, random.Random(0)) == {"a": ()}
    assert draw({"a": "", "b": ""}, 5, random.Random(0)) == {"a": ("b",), "b": ("a",)}
