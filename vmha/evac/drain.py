"""One drain's state machine over its journal: empties a host that lives, VM by VM. Decides; does nothing.

Invariants, whatever the order of events and wherever a crash falls:
- a VM that may be on its way to a target has no other one, and is not stopped, before both hosts were looked at;
- at most `parallel` VMs begin to move at a time, `parallel_per_target` to one host, beside none that the host still sends for the
  runner before; a VM waits for none of lower priority;
- each VM gets exactly one outcome. What cannot move is FAILED with its reason and runs on, or is stopped if that was asked for;
- while the host is away nothing begins: the drain waits for it, however long.

`event` and `tick` raise ValueError for what can't happen now, and change nothing then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from vmha.evac import effects as fx
from vmha.evac import events as ev
from vmha.evac.machine import Machine, final_state
from vmha.evac.reasons import VmReason
from vmha.evac.vmwork import BACKOFF_S, NOT_ANSWERING_S, Phase
from vmha.model import EvacuationState, VmOutcome, VmStep
from vmha.store.records import VmEntry

LOOK_S: Final = 2.0
"""How often the host is looked at, and the operator's wish."""
UNDER_WAY_S: Final = 1.0
"""How often a migration that another runner began is looked at."""
TRIES: Final = 3
"""Targets that may refuse a VM before it is left where it is."""
GIVE_UP_S: Final = 60.0
"""How long a VM may wait for a target before it is left where it is."""
PATIENCE_S: Final = 300.0
"""How long it may wait for somebody else's work on it, as a live migration."""
OTHERS_WORK: Final = frozenset({VmReason.VM_MIGRATING, VmReason.VM_LOCKED, VmReason.VM_BUSY, VmReason.VM_NOT_RUNNING})
ABORT_AGAIN_S: Final = 5.0
"""An abort may find no job yet, or a libvirt that hangs: it is said again while the VM may be on its way."""
WAITS_FOR_EVER: Final = frozenset({VmReason.SAFE_MODE, VmReason.HOST_AWAY})
"""What is nobody's fault and nobody's choice: it is over when the cluster is whole again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainLimits:
    """How fast a drain may go: VMs at a time (all, to one target); seconds between retries, and for one migration."""

    parallel: int
    parallel_per_target: int
    pending_retry_s: float
    migrate_timeout_s: float


@dataclass(slots=True)
class Move:
    """One VM.

    Attributes:
        waits_since: Since when nothing could be done for it.
        unreached_since: Since when no target that was tried could be reached.
        abort_at: When its migration is aborted, next.
    """

    entry: VmEntry
    priority: int
    phase: Phase
    target: str = ""
    busy_with: type[fx.DrainOperation] | None = None
    failures: int = 0
    retry_at: float = 0.0
    waits_since: float | None = None
    unreached_since: float | None = None
    abort_at: float | None = None

    @property
    def is_on_its_way(self) -> bool:
        """It may be on its way to its target."""
        return self.entry.step is VmStep.MIGRATING


class Drain(Machine[fx.DrainEffect]):
    """The state machine of a drain."""

    def __init__(self, limits: DrainLimits) -> None:
        super().__init__(EvacuationState.PLANNING, limits.parallel, limits.parallel_per_target)
        self._limits = limits
        self._moves: dict[str, Move] = {}
        self._looking = self._present = self._stop = self._empty = False
        self._away = ("", "")
        self._look_at = self._plan_at = 0.0

    def entries(self) -> list[VmEntry]:
        """The journal as the machine sees it."""
        return [move.entry for move in self._moves.values()]

    def _on(self, x: ev.Event, now: float) -> list[fx.DrainEffect]:
        match x:
            case ev.Restored():
                return self._on_restored(x, now)
            case ev.HostLooked():
                return self._on_looked(x, now)
            case ev.PlanMade():
                return self._on_plan(x, now)
            case ev.CancelRequested():
                return self._on_cancel(now)
            case ev.MigrationBegun(entry=entry):
                move = self._busy(entry.vm_id, x)
                move.entry, move.abort_at = entry, now + self._limits.migrate_timeout_s
                return [self._abort(move, now)] if self._cancelling else []
        return self._on_vm(x, now)

    def deadline(self) -> float | None:
        """When `tick` has something to do; None when only an event can help."""
        if self.ended or not self._restored:
            return None
        times = [move.retry_at for move in self._in(Phase.WAITING)]
        times += [move.abort_at for move in self._moves.values() if move.is_on_its_way and move.abort_at is not None]
        if not self._looking:
            times.append(self._look_at)
        if not self._planning and self._may_plan and any(self._in(Phase.PENDING)):
            times.append(self._plan_at)
        return min(times, default=None)

    def tick(self, now: float) -> list[fx.DrainEffect]:
        """Does what is due."""
        if self.ended or not self._restored:
            return []
        out: list[fx.DrainEffect] = []
        if not self._looking and now >= self._look_at:
            self._looking = True
            out.append(fx.LookAtHost())
        for move in self._moves.values():
            if move.is_on_its_way and move.abort_at is not None and now >= move.abort_at:
                out.append(self._abort(move, now))
            if move.phase is Phase.WAITING and now >= move.retry_at:
                if move.is_on_its_way:
                    out.append(self._run(move, fx.InspectMigration(entry=move.entry)))
                else:
                    self._to(move, Phase.UNPLACED)
        return out + self._progress(now)

    # The drain.

    def _on_restored(self, x: ev.Restored, now: float) -> list[fx.DrainEffect]:
        self._take_up(x)
        self._look_at = self._plan_at = now
        for entry in x.entries:
            self._add(entry, x.priorities.get(entry.vm_id, 0), now)
        if self.ended:
            return []
        return [*(self._aborts(now) if self._cancelling else ()), *self.tick(now)]

    def _add(self, entry: VmEntry, priority: int, now: float) -> Move:
        move = self._moves[entry.vm_id] = Move(entry=entry, priority=priority, phase=Phase.DONE, retry_at=now)
        if entry.step is VmStep.MIGRATING:
            move.phase, move.abort_at = Phase.WAITING, now + self._limits.migrate_timeout_s
            self._queue.hold(entry.vm_id, entry.target_host_id)
        elif entry.step is not VmStep.SETTLED:
            move.phase = Phase.PENDING if entry.outcome is VmOutcome.PENDING else Phase.UNPLACED
        return move

    def _on_looked(self, x: ev.HostLooked, now: float) -> list[fx.DrainEffect]:
        if not self._looking:
            raise ValueError("HostLooked without LookAtHost")
        self._looking, self._look_at = False, now + LOOK_S
        self._present, self._stop, self._away = x.present, x.stop_vms, (x.reason, x.message)
        return []

    def _on_cancel(self, now: float) -> list[fx.DrainEffect]:
        if self._cancelling:
            return []
        self._cancelling = True
        stopping = [move for move in self._in(Phase.BUSY) if move.busy_with is fx.StopVm]
        return [*self._aborts(now), *(fx.SpareVm(entry=move.entry) for move in stopping)]

    def _aborts(self, now: float) -> list[fx.AbortMigration]:
        return [self._abort(move, now) for move in self._moves.values() if move.is_on_its_way]

    def _abort(self, move: Move, now: float) -> fx.AbortMigration:
        move.abort_at = now + ABORT_AGAIN_S
        return fx.AbortMigration(entry=move.entry)

    def _on_plan(self, x: ev.PlanMade, now: float) -> list[fx.DrainEffect]:
        if not self._planning:
            raise ValueError("PlanMade without PlanDrain")
        self._planning = False
        self._plan_at = now + self._limits.pending_retry_s
        new = [entry for entry in x.entries if entry.vm_id not in self._moves]
        self._empty = not new and all(move.phase is Phase.DONE for move in self._moves.values())
        out: list[fx.DrainEffect] = []
        for entry in x.entries:
            move = self._moves.get(entry.vm_id) or self._add(entry, x.priorities.get(entry.vm_id, 0), now)
            if move.phase in {Phase.UNPLACED, Phase.PENDING}:
                if move.entry.reason not in OTHERS_WORK and entry.outcome is not VmOutcome.PENDING:
                    move.waits_since = None
                move.entry, move.priority = entry, x.priorities.get(entry.vm_id, move.priority)
                out += self._place(move, x, now)
        return out

    def _place(self, move: Move, x: ev.PlanMade, now: float) -> Iterator[fx.DrainEffect]:
        vm_id = move.entry.vm_id
        if move.entry.step is VmStep.SETTLED:
            self._to(move, Phase.DONE)
        elif vm_id in x.stops:
            self._stop_instead(move)
        elif vm_id in x.targets:
            move.target = x.targets[vm_id]
            self._to(move, Phase.READY)
        else:
            self._to(move, Phase.PENDING)
            yield from self._give_up_in_time(move, now)

    # One VM.

    def _busy(self, vm_id: str, x: ev.Event) -> Move:
        move = self._moves.get(vm_id)
        if move is None or move.busy_with is None:
            raise ValueError(f"{type(x).__name__} for {vm_id}, which is not worked on")
        return move

    def _on_vm(self, x: ev.Event, now: float) -> list[fx.DrainEffect]:
        entry = getattr(x, "entry", None)
        move = self._busy(entry.vm_id if entry is not None else getattr(x, "vm_id", ""), x)
        assert move.busy_with is not None
        if type(x) not in fx.DRAIN_ANSWERS[move.busy_with]:
            raise ValueError(f"{type(x).__name__} while {move.busy_with.__name__}")
        move.entry = entry or move.entry
        match x:
            case ev.VmMigrated() | ev.VmStopped():
                self._not_answering.pop(move.entry.target_host_id, None)
                self._to(move, Phase.DONE)
            case ev.TargetLost():
                self._to(move, Phase.UNPLACED)
            case ev.MigrationUnderWay():
                move.retry_at = now + UNDER_WAY_S
                self._to(move, Phase.WAITING)
                self._queue.hold(move.entry.vm_id, move.entry.target_host_id)
            case _:
                return list(self._on_setback(move, x, now))
        return []

    def _on_setback(self, move: Move, x: ev.Event, now: float) -> Iterator[fx.DrainEffect]:
        match x:
            case ev.ClaimLost(outcome=outcome, reason=reason, message=message):
                yield self._settle(move, outcome, reason, message)
            case ev.StopRefused(message=message):
                yield self._settle(move, VmOutcome.FAILED, VmReason.STOP_FAILED, message)
            case ev.StartHeld(reason=reason, message=message):
                yield from self._hold(move, reason, message, now)
            case ev.MigrationRefused(reason=reason, message=message):
                yield self._on_refused(move, reason, message, now)
            case ev.OutcomeUnknown(message=message):
                if move.is_on_its_way:
                    self._not_answering[move.entry.target_host_id] = now + NOT_ANSWERING_S
                yield from self._wait(move, message, now)

    def _on_refused(self, move: Move, reason: str, message: str, now: float) -> fx.DrainEffect:
        target, attempts = move.entry.target_host_id, move.entry.attempts
        since = move.unreached_since
        move.unreached_since = None
        if reason == VmReason.TARGET_UNREACHABLE:
            self._not_answering[target] = now + NOT_ANSWERING_S
            move.unreached_since = now if since is None else since
        elif reason != VmReason.HOST_RETURNED and target not in attempts:
            attempts = (*attempts, target)
        move.entry = replace(move.entry, step=VmStep.PLANNED, reason=reason, message=message, attempts=attempts)
        cut_off = move.unreached_since is not None and now - move.unreached_since >= GIVE_UP_S
        if (cut_off or len(attempts) >= TRIES) and not self._stop:
            return self._settle(move, VmOutcome.FAILED, reason, message)
        if cut_off:
            self._stop_instead(move)
        elif reason == VmReason.HOST_RETURNED:
            move.retry_at = now + LOOK_S  # it is planned for by its record, which may not know yet that it is down
            self._to(move, Phase.WAITING)
        else:
            self._to(move, Phase.UNPLACED)
        return fx.JournalVm(entry=move.entry)

    def _stop_instead(self, move: Move) -> None:
        move.target = ""  # one of its own to the queue
        self._to(move, Phase.READY)

    def _hold(self, move: Move, reason: str, message: str, now: float) -> Iterator[fx.DrainEffect]:
        """Somebody else has it, or the cluster is not whole: nothing of it is on its way because of this drain."""
        step = move.entry.step if move.busy_with is fx.InspectMigration else VmStep.PLANNED
        old = move.entry
        move.entry = replace(old, step=step, outcome=VmOutcome.PENDING, reason=reason, message=message)
        move.retry_at = now + BACKOFF_S[min(move.failures, 2)]
        move.failures += 1
        self._to(move, Phase.WAITING)
        if replace(move.entry, message=old.message) != old:
            yield fx.JournalVm(entry=move.entry)
        yield from self._give_up_in_time(move, now)

    def _wait(self, move: Move, message: str, now: float) -> Iterator[fx.DrainEffect]:
        move.retry_at = now + BACKOFF_S[min(move.failures, len(BACKOFF_S) - 1)]
        move.failures += 1
        self._to(move, Phase.WAITING)
        if move.entry.reason != VmReason.OUTCOME_UNKNOWN:
            move.entry = replace(move.entry, reason=VmReason.OUTCOME_UNKNOWN, message=message)
            yield fx.JournalVm(entry=move.entry)

    def _give_up_in_time(self, move: Move, now: float) -> Iterator[fx.DrainEffect]:
        entry = move.entry
        if move.is_on_its_way or entry.reason in WAITS_FOR_EVER:
            move.waits_since = None
            return
        move.waits_since = now if move.waits_since is None else move.waits_since
        patience_s = PATIENCE_S if entry.reason in OTHERS_WORK else GIVE_UP_S
        if now - move.waits_since >= patience_s and self._stop and entry.reason not in OTHERS_WORK:
            self._stop_instead(move)
        elif now - move.waits_since >= patience_s:
            yield self._settle(move, VmOutcome.FAILED, entry.reason, f"for {patience_s:g} s: {entry.message}")

    def _settle(self, move: Move, outcome: VmOutcome, reason: str, message: str) -> fx.DrainEffect:
        move.entry = replace(move.entry, step=VmStep.SETTLED, outcome=outcome, reason=reason, message=message)
        self._to(move, Phase.DONE)
        return fx.JournalVm(entry=move.entry)

    # All VMs.

    def _in(self, *phases: Phase) -> Iterator[Move]:
        return (move for move in self._moves.values() if move.phase in phases)

    def _to(self, move: Move, phase: Phase) -> None:
        move.phase, move.busy_with = phase, None
        self._queue.give_back(move.entry.vm_id)
        if phase is not Phase.WAITING:
            move.abort_at = None
        if phase is Phase.READY:
            self._queue.put(move.entry.vm_id, move.target, move.priority)

    def _run(self, move: Move, operation: fx.DrainOperation) -> fx.DrainOperation:
        move.phase, move.busy_with = Phase.BUSY, type(operation)
        return operation

    @property
    def _may_plan(self) -> bool:
        return self._present and not self._cancelling

    def _progress(self, now: float) -> list[fx.DrainEffect]:
        if self.ended:
            return []
        out: list[fx.DrainEffect] = []
        if self._cancelling:
            out += self._drop_the_rest()
        elif self._present:
            for move in [self._moves[vm_id] for vm_id in self._queue.take()]:
                out.append(self._begin(move))
        if not self._planning and self._may_plan:
            out += self._ask_for_plan(now)
        return self._reach_state(out)

    def _begin(self, move: Move) -> fx.DrainEffect:
        if move.target:
            return self._run(move, fx.MigrateVm(entry=move.entry, target_host_id=move.target))
        return self._run(move, fx.StopVm(entry=move.entry))

    def _ask_for_plan(self, now: float) -> Iterator[fx.DrainEffect]:
        unplaced = list(self._in(Phase.UNPLACED))
        if now >= self._plan_at:
            unplaced += self._in(Phase.PENDING)
        all_done = all(move.phase is Phase.DONE for move in self._moves.values())
        if unplaced or (all_done and not self._empty):
            self._planning = True
            entries = tuple(move.entry for move in unplaced)
            yield fx.PlanDrain(entries=entries, known=frozenset(self._moves), not_answering=self._silent_hosts(now))

    def _drop_the_rest(self) -> Iterator[fx.DrainEffect]:
        self._queue.drop_all()
        # A plan that is under way may still write its entries.
        asked_for = () if self._planning else (Phase.UNPLACED, Phase.PENDING)
        for move in list(self._in(Phase.READY, Phase.WAITING, *asked_for)):
            if not move.is_on_its_way:
                yield self._settle(move, VmOutcome.SKIPPED, VmReason.DRAIN_CANCELLED, "the drain was cancelled; it runs on")

    def _reach_state(self, out: list[fx.DrainEffect]) -> list[fx.DrainEffect]:
        open_moves = [move for move in self._moves.values() if move.phase is not Phase.DONE]
        if self._cancelling:
            return out if open_moves or self._planning else [*out, *self._advance(EvacuationState.CANCELLED)]
        if not open_moves and self._empty and not self._planning:
            return [*out, *self._advance(final_state(self.entries()))]
        if any(m.phase is Phase.BUSY or m.is_on_its_way or (self._present and m.phase is Phase.READY) for m in open_moves):
            return [*self._advance(EvacuationState.RUNNING), *out]
        if not self._present and self._away[0]:
            out += self._advance(EvacuationState.PENDING, *self._away)
        elif self._present and open_moves and not self._planning:
            first = open_moves[0].entry
            out += self._advance(
                EvacuationState.PENDING, first.reason, f"{len(open_moves)} VMs wait, the first for: {first.message}"
            )
        return out
