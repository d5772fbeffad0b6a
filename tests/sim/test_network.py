"""Who reaches whom in the simulated network, and what ends a fault."""

from __future__ import annotations

import random

import pytest

from vmha.sim.network import Network, Plane


@pytest.fixture
def network() -> Network:
    return Network(["h1", "h2", "h3"], 2, random.Random(1))


def test_without_faults_everybody_reaches_everybody(network: Network) -> None:
    """Hosts, managers, evacuator, store and fence devices."""
    assert all(network.carries(one, other) for one in network.nodes for other in network.nodes)


@pytest.mark.parametrize(
    ("plane", "peers", "management"), [("all", False, False), ("management", True, False), ("peers", False, True)]
)
def test_isolation_cuts_a_plane(network: Network, plane: Plane, peers: bool, management: bool) -> None:
    """Each named host loses everything on the plane, the other named ones included; others are untouched."""
    network.isolate(["h1", "h2"], plane)

    assert network.carries("h1", "h2") is peers
    assert network.carries("h1", "h3") is peers
    assert network.carries("h1", "manager/0") is management
    assert network.carries("store", "h2") is management
    assert network.carries("h3", "manager/1")


def test_the_newest_partition_counts_and_whoever_is_in_no_side_reaches_everyone(network: Network) -> None:
    """`management` stands for all managers, evacuator, store and fence devices."""
    network.partition([["h1"], ["h2", "management"]])
    assert not network.carries("h1", "h2")
    assert not network.carries("h1", "manager/1")
    assert network.carries("h1", "h3") and network.carries("h3", "fence")

    network.partition([["h1", "h2"], ["h3"]])
    assert network.carries("h1", "h2") and network.carries("h1", "manager/1")


def test_a_link_loses_one_way(network: Network) -> None:
    """1.0 cuts the way there and leaves the way back; 0 ends it."""
    network.link("h1", "management", 1.0)
    assert not network.passes("h1", "manager/0")
    assert network.passes("manager/0", "h1")
    assert not network.carries("h1", "manager/0")

    network.link("h1", "management", 0.0)
    assert network.carries("h1", "manager/0")


def test_a_loss_is_a_share(network: Network) -> None:
    """Of a thousand messages about as many get lost as was said."""
    network.link("h1", "h2", 0.3)
    lost = sum(not network.passes("h1", "h2") for _ in range(1000))

    assert 240 < lost < 360


def test_heal_ends_what_cuts_a_host_and_only_that(network: Network) -> None:
    """On all planes: its isolation, its losses, its part in the partition."""
    network.isolate(["h1", "h2"])
    network.partition([["h1"], ["h3"]])
    network.link("h1", "h3", 1.0)
    network.heal(["h1"])

    assert network.carries("h1", "h3")
    assert not network.carries("h2", "h3")

    network.heal(["h2"], "peers")
    assert network.carries("h2", "h3")
    assert not network.carries("h2", "evac") and not network.whole

    network.heal(["h2"], "management")
    assert network.whole


def test_heal_all_ends_everything(network: Network) -> None:
    """And whoever listens hears of each change."""
    told: list[bool] = []
    network.listeners.append(lambda: told.append(network.carries("h1", "h2")))
    network.isolate(["h1"])
    network.partition([["h1"], ["h2"]])
    network.link("h2", "h1", 1.0)
    network.heal_all()

    assert told == [False, False, False, True]
    assert all(network.carries(one, other) for one in network.nodes for other in network.nodes)
