"""VMs that run before any lease (decisions 012 to 014) are safe because the host does not announce self-fencing yet."""

from __future__ import annotations

from tests.model.announcing import QUICK, Announcing
from tests.model.protocol import EMPTY, broken
from tests.model.search import search


def test_vms_that_run_before_any_lease_are_not_started_elsewhere() -> None:
    """Adopted VMs, and registrations with running VMs at any moment: no run ends with two copies."""
    model = Announcing(QUICK)
    found = search(model.starts(), model.successors, broken)

    assert found.trace is None
    assert found.states > 1000


def test_without_the_announcement_they_are() -> None:
    """A manager that takes every host for self-fencing evacuates one whose guard is empty."""
    model = Announcing(QUICK, believed=False)
    found = search(model.starts(), model.successors, broken)

    assert found.last is not None
    assert found.last[4] == EMPTY


def test_a_host_that_was_adopted_can_be_evacuated_once_it_has_been_leased() -> None:
    """The first ack makes the guard, and the next heartbeat says so."""
    model = Announcing(QUICK)
    adopted = model.starts()[2]
    found = search([adopted], model.successors, lambda state: bool(state[1]))

    assert found.trace is not None
    assert found.trace.count("the host takes an ack") >= 1
