"""The restart floor's own measure: without it "x times the floor" means nothing."""

from __future__ import annotations

from bench.floor import restart_floor
from lab import Lab


def test_the_floor_restarts_every_guest_and_leaves_the_lab_as_it_was(lab: Lab) -> None:
    """Guests of a dead host beat elsewhere within seconds, and afterwards the host is on and the guests are gone."""
    floor = restart_floor(lab, ["floor-a", "floor-b"])

    assert 0 < floor.first_s <= floor.last_s < 20
    assert lab.host("host1").is_on()
    assert [host.guests() for host in lab.hosts] == [[], [], []]
