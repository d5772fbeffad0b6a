"""`final` of RESULT: what the hypervisors and the store say in the end (design section 9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from vmha.model import HostState, ProtectionState, VmOutcome, VmState
from vmha.sim.history import Fact, History
from vmha.sim.scenario import Scenario, VmSpec
from vmha.store.records import EvacuationRecord, HostRecord, VmEntry, VmRecord


class Books(Protocol):
    """What the store holds; VMs by the scenario's ids."""

    @property
    def protection(self) -> str:
        """DISABLED, WAITING or ACTIVE; empty when the store holds no cluster."""
        ...

    @property
    def hosts(self) -> Mapping[str, HostRecord]:
        """By host_id."""
        ...

    @property
    def vms(self) -> Mapping[str, VmRecord]:
        """By the scenario's VM id."""
        ...

    @property
    def evacuations(self) -> Sequence[EvacuationRecord]:
        """All that are kept."""
        ...

    @property
    def entries(self) -> Mapping[str, Sequence[VmEntry]]:
        """Of each VM in each evacuation, oldest first."""
        ...


class Guest(Protocol):
    """A domain as its hypervisor has it."""

    @property
    def vm(self) -> str:
        """The scenario's VM id."""
        ...

    @property
    def host(self) -> str:
        """Where."""
        ...

    @property
    def state(self) -> VmState:
        """As libvirt says."""
        ...


_RUNS: Final = {VmState.RUNNING: "running", VmState.PAUSED: "paused", VmState.AWAITING_ADMISSION: "paused"}
_WAITS: Final = frozenset({"PENDING", "FAILED", "SKIPPED"})


def final_of(
    scenario: Scenario, books: Books, guests: Sequence[Guest], history: History, events: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """`final` of a run. `events`: RESULT's, for what a store that was emptied has forgotten."""
    told = {event["vm"]: event for event in events if event["type"] == "vm"}
    return {
        "hosts": {host.id: _host_state(books, host.id) for host in scenario.hosts},
        "vms": {vm.id: _vm(vm, books, guests, history, told.get(vm.id, {})) for vm in scenario.vms},
        "cluster": books.protection or ProtectionState.DISABLED.value,
    }


def _host_state(books: Books, host_id: str) -> str:
    record = books.hosts.get(host_id)
    return (record.state if record else HostState.UNKNOWN).value


def _vm(vm: VmSpec, books: Books, guests: Sequence[Guest], history: History, told: Mapping[str, Any]) -> dict[str, str]:
    record = books.vms.get(vm.id)
    here = [guest for guest in guests if guest.vm == vm.id and guest.state in _RUNS]
    here.sort(key=lambda guest: (guest.state is not VmState.RUNNING, guest.host))
    owner = record.owner_host_id if record else vm.host
    host, state = (here[0].host, _RUNS[here[0].state]) if here else (owner, "shutoff")
    outcome = _outcome(vm, books, history, told)
    wanted = record.desired_state is VmState.RUNNING if record else vm.state == "running"
    wanted = wanted and not any(line.vm == vm.id and line.cause == "vm_delete" for line in history.of(Fact.ACT))
    entries = books.entries.get(vm.id, ())
    reason = (entries[-1].reason if entries else str(told.get("reason", ""))) if outcome in _WAITS else ""
    if not reason and (outcome in _WAITS or (not here and wanted)):
        reason = _why_not(books, owner, record)
    if not reason and not here and record:
        # Should it run? Nobody knows any more, and that is what its record says.
        reason = record.reason
    return {"host": host, "state": state, "outcome": outcome, "reason": reason}


def _outcome(vm: VmSpec, books: Books, history: History, told: Mapping[str, Any]) -> str:
    runs = [line for line in history.of(Fact.GUEST_RUNS) if line.vm == vm.id]
    if runs and runs[-1].cause == "resume" and runs[-1].t >= told.get("t", 0.0):
        # Started by its owner itself; one that had been claimed for this host before it was cut off has moved all the same.
        moved = len(runs) > 1 and runs[-2].host != runs[-1].host
        return (VmOutcome.MOVED if moved else VmOutcome.RESTARTED).value
    entries = books.entries.get(vm.id, ())
    if entries:
        return (VmOutcome.PENDING if entries[-1].outcome is VmOutcome.OPEN else entries[-1].outcome).value
    if told:
        # Its evacuation went with the store; where it was claimed for, its owner may have let it execute.
        moved = not told["outcome"] and bool(runs) and runs[-1].t >= told["t"] and runs[-1].host != vm.host
        return VmOutcome.MOVED.value if moved else str(told["outcome"]) or VmOutcome.PENDING.value
    owner = books.vms[vm.id].owner_host_id if vm.id in books.vms else vm.host
    waits = any(not e.state.is_terminal and e.host_id == owner for e in books.evacuations)
    return VmOutcome.PENDING.value if waits else "NONE"


def _why_not(books: Books, owner: str, record: VmRecord | None) -> str:
    """Why a VM that should run does not: its own reason, its evacuation's, its host's."""
    if record is not None and record.reason:
        return record.reason
    waiting = [e.reason for e in books.evacuations if not e.state.is_terminal and e.host_id == owner and e.reason]
    if waiting:
        return waiting[-1]
    state = _host_state(books, owner)
    return "NOT_STARTED_YET" if state in {HostState.HEALTHY, HostState.IN_MAINTENANCE} else state
