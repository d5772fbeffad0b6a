"""The state machine, by random histories: every order of answers, crashes, restores and cancels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vmha.evac import effects as fx
from vmha.evac import events as ev
from vmha.evac.reasons import VmReason
from vmha.evac.vmwork import PATIENCE, Limits
from vmha.evac.workflow import Workflow
from vmha.model import EvacuationState, ProofKind, VmOutcome, VmState, VmStep
from vmha.store.records import EvacuationRecord, VmEntry

LIMITS = Limits(parallel=3, parallel_per_target=2, fence_retry_s=2.0, pending_retry_s=2.0)
RECORD = EvacuationRecord(
    evacuation_id="e", cluster_id="c", host_id="h1", fence_epoch=1, incarnation=1, state=EvacuationState.VERIFYING
)
TARGETS = ("h2", "h3", "h4")
HELD = ("SAFE_MODE", "VM_MIGRATING")


@dataclass
class Journal:
    """The store and the world, as far as they matter: what is written survives a crash, operations under way do not."""

    vms: int
    record: EvacuationRecord = RECORD
    entries: dict[str, VmEntry] = field(default_factory=dict)
    refused: dict[str, set[str]] = field(default_factory=dict)
    started_on: dict[str, list[str]] = field(default_factory=dict)
    may_execute_on: dict[str, str] = field(default_factory=dict)
    outcomes: dict[str, VmOutcome] = field(default_factory=dict)

    def write(self, entry: VmEntry) -> None:
        old = self.outcomes.get(entry.vm_id)
        if entry.step is VmStep.SETTLED:
            assert old is None or old is entry.outcome, "a second outcome"
            self.outcomes[entry.vm_id] = entry.outcome
        else:
            assert old is None, "an entry after its outcome"
        self.entries[entry.vm_id] = entry


class Player:
    """Executes effects against the journal; the test's random draws decide the answers."""

    def __init__(self, journal: Journal, draw: Any) -> None:
        self.journal, self.draw = journal, draw
        self.now = 0.0
        self.running: list[fx.Operation] = []
        self.slots: set[str] = set()
        self.workflow = Workflow(LIMITS)
        self.restart()

    def restart(self) -> None:
        self.running, self.slots = [], set()
        self.workflow = Workflow(LIMITS)
        entries = tuple(sorted(self.journal.entries.values(), key=lambda e: e.vm_id))
        priorities = {e.vm_id: int(e.vm_id) % 3 for e in entries}
        self.take(self.workflow.event(ev.Restored(record=self.journal.record, entries=entries, priorities=priorities), self.now))

    def take(self, effects: list[fx.Effect]) -> None:
        for effect in effects:
            match effect:
                case fx.AdvanceState():
                    self.advance(effect)
                case fx.JournalVm(entry=entry):
                    self.journal.write(entry)
                case fx.StopProving():
                    self.running = [op for op in self.running if not isinstance(op, fx.ProveDeath)]
                case fx.Prepare():
                    pass
                case _:
                    self.begin(effect)

    def advance(self, effect: fx.AdvanceState) -> None:
        assert not self.journal.record.state.is_terminal
        proof = effect.proof if effect.proof is not None else self.journal.record.proof
        if effect.state.is_proven:
            assert proof is not ProofKind.UNPROVEN, "proven without a proof"
        if effect.state.is_terminal and effect.state is not EvacuationState.CANCELLED:
            assert all(e.step is VmStep.SETTLED for e in self.journal.entries.values()), "ended before all is settled"
            assert not self.running
        self.journal.record = replace(self.journal.record, state=effect.state, proof=proof)

    def begin(self, operation: fx.Operation) -> None:
        if not isinstance(operation, fx.ProveDeath | fx.MakePlan):
            assert self.journal.record.proof is not ProofKind.UNPROVEN, "a VM touched before the proof"
            busy = [op for op in self.running if getattr(op, "entry", None) and op.entry.vm_id == operation.entry.vm_id]  # type: ignore[union-attr]
            assert not busy, "two operations on one VM"
        if isinstance(operation, fx.StartVm):
            self.check_start(operation.entry)
        self.running.append(operation)
        in_slots = [op for op in self.running if isinstance(op, fx.ClaimVm | fx.StartVm | fx.AdmitVm | fx.WithdrawVm)]
        assert len(in_slots) <= LIMITS.parallel + self.recovering()
        for target in TARGETS:
            here = [
                op for op in in_slots if target == (op.target_host_id if isinstance(op, fx.ClaimVm) else op.entry.target_host_id)
            ]
            assert len(here) <= LIMITS.parallel_per_target + self.recovering()

    def recovering(self) -> int:
        """Verifications after a crash take no slot."""
        return 0

    def check_start(self, entry: VmEntry) -> None:
        before = self.journal.started_on.setdefault(entry.vm_id, [])
        elsewhere = [t for t in before if t != entry.target_host_id and t not in self.journal.refused.get(entry.vm_id, set())]
        assert not elsewhere, f"started on {entry.target_host_id} while {elsewhere} never refused"
        running = self.journal.may_execute_on.get(entry.vm_id, entry.target_host_id)
        assert running == entry.target_host_id, "may execute on another host"
        before.append(entry.target_host_id)
        self.journal.refused.get(entry.vm_id, set()).discard(entry.target_host_id)

    def answer(self, operation: fx.Operation) -> None:
        self.running.remove(operation)
        self.take(self.workflow.event(self.make(operation), self.now))

    def make(self, operation: fx.Operation) -> ev.Event:
        match operation:
            case fx.ProveDeath():
                if self.draw(st.integers(0, 3)):
                    return ev.ProofGiven(kind=ProofKind.FENCE, message="off twice")
                return ev.ProofDenied(reason="FENCE_FAILED", message="away")
            case fx.MakePlan():
                return self.plan(operation)
            case fx.ClaimVm():
                return self.claim(operation)
            case fx.StartVm(entry=entry):
                return self.start(entry)
            case fx.AdmitVm(entry=entry):
                return self.admit(entry)
            case fx.VerifyVm(entry=entry):
                return self.verify(entry)
            case fx.InspectVm(entry=entry):
                return self.inspect(entry)
            case fx.WithdrawVm(entry=entry):
                return self.refuse(entry, "ADMISSION_REFUSED")

    def plan(self, operation: fx.MakePlan) -> ev.Event:
        first = not operation.entries
        entries = operation.entries or tuple(
            VmEntry(vm_id=str(n), vm_name=f"vm{n}", source_epoch=1) for n in range(self.journal.vms)
        )
        planned, targets = [], {}
        for old in entries:
            entry, target = self.place(old, first)
            if target:
                targets[entry.vm_id] = target
            self.journal.write(entry)
            planned.append(entry)
        priorities = {e.vm_id: int(e.vm_id) % 3 for e in planned}
        return ev.PlanMade(entries=tuple(planned), targets=targets, priorities=priorities)

    def place(self, entry: VmEntry, first: bool) -> tuple[VmEntry, str]:
        choice = self.draw(st.sampled_from((*TARGETS, "room", "skip")))
        left = [t for t in TARGETS if t not in entry.attempts]
        if choice == "skip" and first:
            return replace(entry, step=VmStep.SETTLED, outcome=VmOutcome.SKIPPED, reason="VM_PAUSED"), ""
        if not left:
            return replace(entry, step=VmStep.SETTLED, outcome=VmOutcome.FAILED, reason="START_REFUSED"), ""
        if choice not in left:
            return replace(entry, step=VmStep.PLANNED, outcome=VmOutcome.PENDING, reason="NO_CAPACITY"), ""
        target = entry.target_host_id if entry.epoch else choice
        return replace(entry, step=VmStep.PLANNED, outcome=VmOutcome.OPEN, reason="", target_host_id=target), choice

    def claim(self, operation: fx.ClaimVm) -> ev.Event:
        entry = operation.entry
        match self.draw(st.integers(0, 9)):
            case 0:
                return ev.ClaimLost(vm_id=entry.vm_id, outcome=VmOutcome.RESTARTED, reason="HOST_RETURNED", message="")
            case 1:
                return ev.TargetLost(vm_id=entry.vm_id, message="")
            case 2:
                return ev.StartHeld(vm_id=entry.vm_id, reason=self.draw(st.sampled_from(HELD)), message="")
        attempts = (
            (*entry.attempts, entry.target_host_id)
            if entry.epoch and entry.target_host_id not in entry.attempts
            else entry.attempts
        )
        entry = replace(
            entry, step=VmStep.CLAIMED, epoch=max(entry.epoch, 1) + 1, target_host_id=operation.target_host_id, attempts=attempts
        )
        self.journal.write(entry)
        return ev.VmClaimed(entry=entry)

    def refuse(self, entry: VmEntry, reason: str) -> ev.Event:
        self.journal.refused.setdefault(entry.vm_id, set()).add(entry.target_host_id)
        return ev.StartRefused(vm_id=entry.vm_id, reason=reason, message="")

    def start(self, entry: VmEntry) -> ev.Event:
        match self.draw(st.integers(0, 9)):
            case 0:
                return self.refuse(entry, "START_REFUSED")
            case 1:
                return self.refuse(entry, "TARGET_UNREACHABLE")
            case 2:
                self.journal.refused.setdefault(entry.vm_id, set()).add(entry.target_host_id)
                return ev.LockRefused(vm_id=entry.vm_id, message="Failed to get write lock")
            case 3:
                return ev.OutcomeUnknown(vm_id=entry.vm_id, message="")
            case 4:
                return ev.StartHeld(vm_id=entry.vm_id, reason="SAFE_MODE", message="")
        entry = replace(entry, step=VmStep.STARTED)
        self.journal.write(entry)
        return ev.VmStarted(entry=entry)

    def admit(self, entry: VmEntry) -> ev.Event:
        match self.draw(st.integers(0, 6)):
            case 0:
                return ev.AdmitRefused(vm_id=entry.vm_id, reason="ADMISSION_REFUSED", message="")
            case 1:
                self.journal.may_execute_on[entry.vm_id] = entry.target_host_id
                return ev.OutcomeUnknown(vm_id=entry.vm_id, message="")
        self.journal.may_execute_on[entry.vm_id] = entry.target_host_id
        entry = replace(entry, step=VmStep.ADMITTED)
        self.journal.write(entry)
        return ev.VmAdmitted(entry=entry)

    def verify(self, entry: VmEntry) -> ev.Event:
        match self.draw(st.integers(0, 6)):
            case 0:
                return ev.VmInspected(vm_id=entry.vm_id, state=VmState.PAUSED)
            case 1:
                return ev.OutcomeUnknown(vm_id=entry.vm_id, message="")
        entry = replace(entry, step=VmStep.SETTLED, outcome=VmOutcome.MOVED, reason="")
        self.journal.write(entry)
        return ev.VmVerified(entry=entry)

    def inspect(self, entry: VmEntry) -> ev.Event:
        match self.draw(st.integers(0, 5)):
            case 0:
                return ev.OutcomeUnknown(vm_id=entry.vm_id, message="")
            case 1:
                return ev.ClaimLost(vm_id=entry.vm_id, outcome=VmOutcome.SKIPPED, reason="TAKEN_OVER", message="")
        states = [VmState.PAUSED, VmState.ABSENT]
        if self.journal.may_execute_on.get(entry.vm_id) == entry.target_host_id:
            states.append(VmState.RUNNING)
        return ev.VmInspected(vm_id=entry.vm_id, state=self.draw(st.sampled_from(states)))

    def step(self) -> bool:
        """One random move; False when nothing can happen any more."""
        if self.workflow.ended:
            return False
        if self.journal.record.proof is ProofKind.UNPROVEN and self.draw(st.integers(0, 9)) == 0:
            self.take(self.workflow.event(ev.ProofOffered(), self.now))
        if self.running and self.draw(st.integers(0, 9)):
            self.answer(self.draw(st.sampled_from(self.running)))
            return True
        deadline = self.workflow.deadline()
        if deadline is None:
            assert self.running or self.held(), "nothing under way, nothing due, and not ended"
            if self.running:
                self.answer(self.running[0])
                return True
            self.take(self.workflow.event(ev.OperatorConfirmed(), self.now))
            return True
        self.now = max(self.now, deadline)
        self.take(self.workflow.tick(self.now))
        return True

    def held(self) -> bool:
        return any(e.reason == VmReason.SOURCE_STILL_RUNNING for e in self.workflow.entries())


SLOW = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@SLOW
@given(data=st.data(), vms=st.integers(0, 6), crashes=st.sets(st.integers(0, 120), max_size=6))
def test_any_history_keeps_the_invariants(data: Any, vms: int, crashes: set[int]) -> None:
    """Whatever is answered in whatever order, and wherever it crashes: one outcome a VM, no second target without a refusal of
    the first, limits kept, no end before all is settled."""
    player = Player(Journal(vms), data.draw)
    for number in range(160):
        if number in crashes and not player.workflow.ended:
            player.restart()
        if not player.step():
            break

    if player.journal.record.state.is_terminal:
        assert all(e.step is VmStep.SETTLED for e in player.journal.entries.values())


@SLOW
@given(data=st.data(), vms=st.integers(0, 6), at=st.integers(0, 60))
def test_a_cancel_ends_it_without_a_new_start(data: Any, vms: int, at: int) -> None:
    """After a cancel no VM is claimed that was not, and the evacuation ends CANCELLED, or as it would have."""
    player = Player(Journal(vms), data.draw)
    for _ in range(at):
        if not player.step():
            return
    claimed = {e.vm_id for e in player.workflow.entries() if e.epoch}
    claimed |= {op.entry.vm_id for op in player.running if isinstance(op, fx.ClaimVm)}
    player.take(player.workflow.event(ev.CancelRequested(), player.now))
    for _ in range(400):
        if not player.step():
            break

    assert {e.vm_id for e in player.workflow.entries() if e.epoch} <= claimed
    if player.workflow.ended:
        assert player.journal.record.state.is_terminal
        assert all(e.step is VmStep.SETTLED for e in player.journal.entries.values())


def started(vms: int, limits: Limits = LIMITS, priorities: dict[str, int] | None = None) -> tuple[Workflow, list[fx.Effect]]:
    """A workflow whose VMs all have h2 as target."""
    workflow = Workflow(limits)
    workflow.event(ev.Restored(record=RECORD), 0.0)
    [*_, plan] = workflow.event(ev.ProofGiven(kind=ProofKind.FENCE, message=""), 1.0)
    assert isinstance(plan, fx.MakePlan)
    entries = tuple(
        VmEntry(vm_id=str(n), vm_name=f"vm{n}", step=VmStep.PLANNED, target_host_id="h2", source_epoch=1) for n in range(vms)
    )
    targets = {e.vm_id: "h2" for e in entries}
    return workflow, workflow.event(ev.PlanMade(entries=entries, targets=targets, priorities=priorities or {}), 1.0)


def test_nothing_is_planned_or_started_without_a_proof() -> None:
    """Denied proofs lead to FENCE_PENDING, and to the next try; never to a plan."""
    workflow = Workflow(LIMITS)
    first = workflow.event(ev.Restored(record=RECORD), 0.0)
    denied = workflow.event(ev.ProofDenied(reason="FENCE_TIMEOUT", message="m"), 0.5)

    assert [type(e) for e in first] == [fx.ProveDeath, fx.Prepare]
    assert [type(e) for e in denied] == [fx.AdvanceState]
    assert workflow.state is EvacuationState.FENCE_PENDING
    assert workflow.deadline() == 1.5
    assert workflow.tick(1.5) == [fx.ProveDeath(ask_fence=False)]
    assert workflow.event(ev.ProofDenied(reason="FENCE_TIMEOUT", message="m"), 1.5) == []
    assert workflow.tick(2.5) == [fx.ProveDeath(ask_fence=True)]


def test_priorities_start_first() -> None:
    """With one slot, VMs start in the order of their priorities."""
    one = replace(LIMITS, parallel=1)
    _, effects = started(3, one, {"0": 0, "1": 5, "2": 9})

    assert [e.entry.vm_id for e in effects if isinstance(e, fx.ClaimVm)] == ["2"]


def test_an_event_that_cannot_happen_changes_nothing() -> None:
    """An answer to no question raises and leaves the machine as it was."""
    workflow, _ = started(2)
    before = (workflow.state, workflow.entries(), workflow.deadline())

    with pytest.raises(ValueError, match="VmVerified"):
        workflow.event(ev.VmVerified(entry=workflow.entries()[0]), 2.0)

    assert (workflow.state, workflow.entries(), workflow.deadline()) == before


def test_an_unknown_outcome_keeps_new_vms_away_from_that_target() -> None:
    """After a start without an answer the VMs that wait for that target are planned anew, without it."""
    workflow, effects = started(4)
    [first, *_] = [e for e in effects if isinstance(e, fx.ClaimVm)]
    claimed = replace(first.entry, step=VmStep.CLAIMED, epoch=2)
    workflow.event(ev.VmClaimed(entry=claimed), 1.0)

    out = workflow.event(ev.OutcomeUnknown(vm_id=claimed.vm_id, message="timeout"), 2.0)

    [plan] = [e for e in out if isinstance(e, fx.MakePlan)]
    assert plan.not_answering == {"h2"}
    assert {e.vm_id for e in plan.entries} == {"1", "2", "3"}


def test_a_host_without_vms_succeeds_at_once() -> None:
    """Nothing to move is a success."""
    workflow, effects = started(0)

    assert [e.state for e in effects if isinstance(e, fx.AdvanceState)] == [EvacuationState.SUCCEEDED]
    assert workflow.ended


def silent(workflow: Workflow, vm_id: str, now: float) -> tuple[list[fx.Effect], float]:
    """Looks at the target of a VM until it is PENDING; returns the last effects and the time."""
    out: list[fx.Effect] = []
    for _ in range(PATIENCE + 1):
        now = workflow.deadline() or now
        [look] = [e for e in workflow.tick(now) if isinstance(e, fx.InspectVm)]
        out = workflow.event(ev.OutcomeUnknown(vm_id=look.entry.vm_id, message="timeout"), now)
        if workflow.entries()[0].outcome is VmOutcome.PENDING:
            break
    assert workflow.entries()[0].vm_id == vm_id
    return out, now


def test_a_target_that_hangs_keeps_nobody_waiting() -> None:
    """R15: its VM stays pinned and is PENDING with a reason; the evacuation is PENDING, not RUNNING; a restart keeps the pin."""
    workflow, effects = started(1)
    [claim] = [e for e in effects if isinstance(e, fx.ClaimVm)]
    claimed = replace(claim.entry, step=VmStep.CLAIMED, epoch=2)
    workflow.event(ev.VmClaimed(entry=claimed), 1.0)
    workflow.event(ev.OutcomeUnknown(vm_id=claimed.vm_id, message="timeout"), 2.0)

    silent(workflow, claimed.vm_id, 2.0)
    [entry] = workflow.entries()
    assert (entry.outcome, entry.reason, entry.target_host_id) == (VmOutcome.PENDING, "OUTCOME_UNKNOWN", "h2")
    assert workflow.state is EvacuationState.PENDING

    again = Workflow(LIMITS)
    record = replace(RECORD, state=EvacuationState.PENDING, proof=ProofKind.FENCE)
    again.event(ev.Restored(record=record, entries=(entry,)), 50.0)
    looks = again.tick(50.0)
    assert [type(e) for e in looks if not isinstance(e, fx.AdvanceState)] == [fx.InspectVm]
    back = again.event(ev.VmInspected(vm_id=entry.vm_id, state=VmState.ABSENT), 51.0)
    [start] = [e for e in back if isinstance(e, fx.StartVm)]
    assert start.entry.target_host_id == "h2"
    out = again.event(ev.StartRefused(vm_id=entry.vm_id, reason="START_REFUSED", message="no"), 52.0)
    assert not [e for e in out if isinstance(e, fx.MakePlan)]


def test_what_holds_starts_holds_each_vm_and_is_asked_again() -> None:
    """A claim that safe mode holds back leaves the VM PENDING without a target of its own; it is planned again, not spun on."""
    workflow, effects = started(1)
    [claim] = [e for e in effects if isinstance(e, fx.ClaimVm)]
    out = workflow.event(ev.StartHeld(vm_id=claim.entry.vm_id, reason="SAFE_MODE", message="m"), 1.5)

    assert not [e for e in out if isinstance(e, fx.MakePlan)]
    assert workflow.state is EvacuationState.PENDING
    assert workflow.entries()[0].reason == "SAFE_MODE"
    assert workflow.deadline() == 1.5 + LIMITS.pending_retry_s
    assert [type(e) for e in workflow.tick(3.5)] == [fx.MakePlan]


def test_an_offered_proof_does_not_wait_for_the_fence() -> None:
    """A fence device that takes long to fail is dropped, the ladder climbed anew; a late answer of the dropped climb counts only
    when it is a proof."""
    workflow = Workflow(LIMITS)
    workflow.event(ev.Restored(record=RECORD), 0.0)

    assert workflow.event(ev.ProofOffered(), 5.0) == [fx.StopProving()]
    assert workflow.event(ev.ProofDenied(reason="FENCE_TIMEOUT", message="late"), 5.0) == []
    assert workflow.deadline() == 5.0
    assert [type(e) for e in workflow.tick(5.0)] == [fx.ProveDeath]
    out = workflow.event(ev.ProofGiven(kind=ProofKind.LEASE, message="m"), 5.1)
    assert next(e.proof for e in out if isinstance(e, fx.AdvanceState)) is ProofKind.LEASE
    assert workflow.event(ev.ProofGiven(kind=ProofKind.FENCE, message="late"), 5.2) == []
