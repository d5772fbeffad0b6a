"""`final` of RESULT: each VM's place, state, outcome and reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.sim.scenes import line, moved, raw
from vmha.model import EvacuationState, HostConfig, HostState, VmOutcome, VmState, VmStep
from vmha.sim import scenario
from vmha.sim.final import final_of
from vmha.sim.history import Fact, History
from vmha.store.records import EvacuationRecord, HostRecord, VmEntry, VmRecord

C = "c1"


@dataclass
class FakeBooks:
    """What a store would hold."""

    protection: str = "ACTIVE"
    hosts: dict[str, HostRecord] = field(default_factory=dict)
    vms: dict[str, VmRecord] = field(default_factory=dict)
    evacuations: list[EvacuationRecord] = field(default_factory=list)
    entries: dict[str, list[VmEntry]] = field(default_factory=dict)


@dataclass
class FakeGuest:
    """A domain."""

    vm: str
    host: str
    state: VmState


def host(name: str, state: HostState) -> HostRecord:
    config = HostConfig(probe_target="x:1", agent_target="x:1", libvirt_uri="x:///")
    return HostRecord(host_id=name, cluster_id=C, config=config, version=1, state=state)


def vm(name: str, owner: str, desired: VmState = VmState.RUNNING, reason: str = "") -> VmRecord:
    return VmRecord(
        vm_id=name,
        name=name,
        owner_host_id=owner,
        owner_incarnation=1,
        epoch=1,
        desired_state=desired,
        state=desired,
        reason=reason,
    )


def entry(name: str, outcome: VmOutcome, reason: str = "") -> VmEntry:
    return VmEntry(vm_id=name, vm_name=name, step=VmStep.SETTLED, outcome=outcome, reason=reason)


def final(books: FakeBooks, guests: list[FakeGuest], lines: Any = (), events: Any = ()) -> dict[str, Any]:
    history = History()
    history.lines.extend(lines)
    made: dict[str, Any] = final_of(scenario.parse(raw()), books, guests, history, events)["vms"]["vm1"]
    return made


def test_a_vm_is_where_it_runs() -> None:
    """The hypervisors' truth counts, not the owner's name; a copy that runs before one that is shut off."""
    books = FakeBooks(vms={"vm1": vm("vm1", "h1")}, entries={"vm1": [entry("vm1", VmOutcome.MOVED)]})
    guests = [FakeGuest("vm1", "h1", VmState.SHUTOFF), FakeGuest("vm1", "h2", VmState.RUNNING)]

    assert final(books, guests) == {"host": "h2", "state": "running", "outcome": "MOVED", "reason": ""}


def test_a_vm_that_waits_has_the_reason_of_its_entry() -> None:
    """PENDING comes with the evacuation's word."""
    books = FakeBooks(vms={"vm1": vm("vm1", "h1")}, entries={"vm1": [entry("vm1", VmOutcome.PENDING, "NO_CAPACITY")]})

    assert final(books, []) == {"host": "h1", "state": "shutoff", "outcome": "PENDING", "reason": "NO_CAPACITY"}


def test_a_vm_of_a_host_without_proof_is_pending() -> None:
    """Before the plan there are no entries: the evacuation's own reason stands."""
    waiting = EvacuationRecord(
        evacuation_id="e", cluster_id=C, host_id="h1", fence_epoch=1, incarnation=1,
        state=EvacuationState.FENCE_PENDING, reason="FENCE_TIMEOUT",
    )  # fmt: skip
    books = FakeBooks(vms={"vm1": vm("vm1", "h1")}, evacuations=[waiting])

    assert final(books, []) == {"host": "h1", "state": "shutoff", "outcome": "PENDING", "reason": "FENCE_TIMEOUT"}


def test_a_vm_of_a_silent_host_has_the_hosts_state_as_reason() -> None:
    """It should run and does not: there is always a reason."""
    books = FakeBooks(vms={"vm1": vm("vm1", "h1")}, hosts={"h1": host("h1", HostState.COOLDOWN)})

    assert final(books, []) == {"host": "h1", "state": "shutoff", "outcome": "NONE", "reason": "COOLDOWN"}


def test_what_should_not_run_needs_no_reason() -> None:
    """Shut off on purpose, paused, or deleted."""
    for desired in (VmState.SHUTOFF, VmState.PAUSED):
        assert final(FakeBooks(vms={"vm1": vm("vm1", "h1", desired)}), [])["reason"] == ""
    assert final(FakeBooks(), [], [line(3.0, Fact.ACT, vm="vm1", cause="vm_delete")])["reason"] == ""


def test_a_vm_that_its_host_started_again_is_restarted() -> None:
    """RESTARTED: where it was."""
    books = FakeBooks(vms={"vm1": vm("vm1", "h1")})
    lines = [line(0.0, Fact.GUEST_RUNS, "h1", "vm1", "initial"), line(9.0, Fact.GUEST_RUNS, "h1", "vm1", "resume")]

    assert final(books, [FakeGuest("vm1", "h1", VmState.RUNNING)], lines)["outcome"] == "RESTARTED"


def test_an_outcome_outlives_the_store() -> None:
    """What the journal lost, the events have told."""
    told = final(FakeBooks(), [FakeGuest("vm1", "h2", VmState.RUNNING)], events=[moved(5.0, "vm1", "h1", "h2")])

    assert told == {"host": "h2", "state": "running", "outcome": "MOVED", "reason": ""}


def test_an_empty_store_knows_no_host() -> None:
    """Hosts without a record are UNKNOWN, and protection is off."""
    made = final_of(scenario.parse(raw()), FakeBooks(protection=""), [], History())

    assert made["hosts"] == {"h1": "UNKNOWN", "h2": "UNKNOWN", "h3": "UNKNOWN"}
    assert made["cluster"] == "DISABLED"


def test_a_vm_that_its_new_owner_started_has_moved() -> None:
    """It was claimed for a host that was cut off before it could be admitted, and started it when it was back."""
    lines = [line(0.0, Fact.GUEST_RUNS, "h1", "vm1", "initial"), line(9.0, Fact.GUEST_RUNS, "h2", "vm1", "resume")]

    assert final(FakeBooks(vms={"vm1": vm("vm1", "h2")}), [FakeGuest("vm1", "h2", VmState.RUNNING)], lines)["outcome"] == "MOVED"
