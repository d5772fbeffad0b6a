"""The drain's state machine: pure, so every order of events can be played."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from vmha.evac import effects as fx
from vmha.evac import events as ev
from vmha.evac.drain import ABORT_AGAIN_S, GIVE_UP_S, LOOK_S, PATIENCE_S, TRIES, Drain, DrainLimits
from vmha.evac.reasons import VmReason
from vmha.model import EvacuationKind, EvacuationState, VmOutcome, VmStep
from vmha.store.records import EvacuationRecord, VmEntry

LIMITS = DrainLimits(parallel=2, parallel_per_target=2, pending_retry_s=1.0, migrate_timeout_s=100.0)
RECORD = EvacuationRecord(
    evacuation_id="d1",
    cluster_id="c1",
    host_id="h1",
    fence_epoch=0,
    incarnation=1,
    state=EvacuationState.PLANNING,
    kind=EvacuationKind.DRAIN,
)
SETTLED = VmStep.SETTLED


class Player:
    """A drain with a clock; what it wants done waits in `todo` until a test answers."""

    def __init__(self, *entries: VmEntry, cancelled: bool = False, limits: DrainLimits = LIMITS) -> None:
        self.core, self.now = Drain(limits), 0.0
        self.journal: list[VmEntry] = []
        self.states: list[tuple[EvacuationState, str]] = []
        self.todo: list[fx.DrainOperation] = []
        self.aborts: list[str] = []
        self.spared: list[str] = []
        self.say(ev.Restored(record=replace(RECORD, cancel_requested=cancelled), entries=entries))

    def say(self, event: ev.Event) -> None:
        self._take(self.core.event(event, self.now))

    def wait(self, span_s: float) -> None:
        """Lets time pass, deadline by deadline; a present host is looked at again and again."""
        until = self.now + span_s
        while (at := self.core.deadline()) is not None and at <= until:
            self.now = max(self.now, at)
            self._take(self.core.tick(self.now))
            if self.todo:
                self.now = until
                return
        self.now = until

    def _take(self, effects: Sequence[fx.DrainEffect]) -> None:
        for effect in effects:
            match effect:
                case fx.AdvanceState(state=state, reason=reason):
                    self.states.append((state, reason))
                case fx.JournalVm(entry=entry):
                    self.journal.append(entry)
                case fx.AbortMigration(entry=entry):
                    self.aborts.append(entry.vm_id)
                case fx.SpareVm(entry=entry):
                    self.spared.append(entry.vm_id)
                case _:
                    self.todo.append(effect)

    def next(self, kind: type[fx.DrainOperation]) -> fx.DrainOperation:
        found = next(each for each in self.todo if isinstance(each, kind))
        self.todo.remove(found)
        return found

    def look(self, *, present: bool = True, stop: bool = False) -> None:
        while not any(isinstance(each, fx.LookAtHost) for each in self.todo):
            self.wait(LOOK_S)
        self.next(fx.LookAtHost)
        self.say(ev.HostLooked(present=present, stop_vms=stop, reason="" if present else VmReason.HOST_AWAY, message="away"))

    def plan(self, *new: str, to: str = "h2", none: str = "", stops: Sequence[str] = (), settled: str = "") -> fx.PlanDrain:
        """Answers a plan: all get the target `to`, but those of `stops`; `none` or `settled`: the reason that all get instead."""
        asked = self.next(fx.PlanDrain)
        assert isinstance(asked, fx.PlanDrain)
        entries = [*asked.entries, *(VmEntry(vm_id=vm_id, vm_name=vm_id) for vm_id in new)]
        outcome = VmOutcome.FAILED if settled else VmOutcome.PENDING if none or stops else VmOutcome.OPEN
        step = SETTLED if settled else VmStep.PLANNED
        made = tuple(replace(e, step=step, outcome=outcome, reason=settled or none, message="m") for e in entries)
        targets = {} if none or settled else {e.vm_id: to for e in made if e.vm_id not in stops}
        self.say(ev.PlanMade(entries=made, targets=targets, stops=frozenset(stops)))
        return asked

    def begun(self) -> VmEntry:
        """The next migration begins."""
        move = self.next(fx.MigrateVm)
        assert isinstance(move, fx.MigrateVm)
        entry = replace(move.entry, step=VmStep.MIGRATING, target_host_id=move.target_host_id, outcome=VmOutcome.OPEN)
        self.say(ev.MigrationBegun(entry=entry))
        return entry

    def arrived(self, entry: VmEntry) -> None:
        self.say(ev.VmMigrated(entry=replace(entry, step=SETTLED, outcome=VmOutcome.MOVED)))

    def outcomes(self) -> dict[str, tuple[VmOutcome, str]]:
        return {entry.vm_id: (entry.outcome, entry.reason) for entry in self.core.entries()}


def ready(*new: str, limits: DrainLimits = LIMITS) -> Player:
    """A drain of a present host with these VMs, planned."""
    player = Player(limits=limits)
    player.look()
    player.plan(*new)
    return player


def test_s14_an_empty_host_is_drained_at_once() -> None:
    """Nothing to move: it ends after one plan."""
    player = ready()

    assert player.states == [(EvacuationState.SUCCEEDED, "")]
    assert player.core.ended
    assert player.core.deadline() is None


def test_s14_vms_leave_one_after_the_other_and_the_end_looks_again() -> None:
    """Slots are kept to; after the last one the host is looked through once more, and what was started meanwhile leaves too."""
    player = ready("a", "b", "c")
    first = player.begun()
    assert [type(each) for each in player.todo] == []  # slow start: one to a target that has not taken any yet
    player.arrived(first)
    second, third = player.begun(), player.begun()
    player.arrived(second)
    player.arrived(third)
    assert player.plan("d").known == frozenset("abc")
    player.arrived(player.begun())
    player.plan()

    assert player.states == [(EvacuationState.RUNNING, ""), (EvacuationState.SUCCEEDED, "")]
    assert set(player.outcomes().values()) == {(VmOutcome.MOVED, "")}


def test_s14_what_cannot_move_is_named_and_the_rest_leaves() -> None:
    """A VM with an outcome from the plan is done; one FAILED among moved ones: PARTIALLY_FAILED; alone: FAILED."""
    player = ready("a")
    player.arrived(player.begun())
    player.plan("b", settled=VmReason.PASSTHROUGH_DEVICE)
    player.plan()
    alone = Player()
    alone.look()
    alone.plan("b", settled=VmReason.PASSTHROUGH_DEVICE)
    alone.plan()

    assert player.states[-1][0] is EvacuationState.PARTIALLY_FAILED
    assert alone.states[-1][0] is EvacuationState.FAILED


def test_s14_a_vm_without_a_target_waits_and_is_left_in_time() -> None:
    """NO_CAPACITY is asked for again until GIVE_UP_S, then it is FAILED with its reason, and runs on."""
    player = Player()
    player.look()
    player.plan("a", none=VmReason.NO_CAPACITY)
    assert player.states[-1] == (EvacuationState.PENDING, VmReason.NO_CAPACITY)
    while player.now < GIVE_UP_S + 5 and not player.core.ended:
        player.wait(1.0)
        if any(isinstance(each, fx.LookAtHost) for each in player.todo):
            player.look()
        if any(isinstance(each, fx.PlanDrain) for each in player.todo):
            player.plan(none=VmReason.NO_CAPACITY)

    assert player.outcomes() == {"a": (VmOutcome.FAILED, VmReason.NO_CAPACITY)}
    assert player.core.ended


def test_s14_with_stop_it_is_shut_down_instead() -> None:
    """What the plan names to stop is stopped, and so is what found no target in time."""
    player = Player()
    player.look(stop=True)
    player.plan("a", stops=["a"])
    stop = player.next(fx.StopVm)
    assert isinstance(stop, fx.StopVm)
    stopped = replace(stop.entry, step=SETTLED, outcome=VmOutcome.SKIPPED, reason=VmReason.VM_STOPPED)
    player.say(ev.VmStopped(entry=stopped))
    player.plan("b", none=VmReason.NO_CAPACITY)
    while not any(isinstance(each, fx.StopVm) for each in player.todo):
        player.wait(1.0)
        if any(isinstance(each, fx.LookAtHost) for each in player.todo):
            player.look(stop=True)
        if any(isinstance(each, fx.PlanDrain) for each in player.todo):
            player.plan(none=VmReason.NO_CAPACITY)
    player.next(fx.StopVm)
    player.say(ev.StopRefused(vm_id="b", message="it is RUNNING after it was ended"))

    assert player.outcomes() == {"a": (VmOutcome.SKIPPED, VmReason.VM_STOPPED), "b": (VmOutcome.FAILED, VmReason.STOP_FAILED)}
    assert player.now >= GIVE_UP_S


def test_s14_a_target_that_refuses_is_not_asked_again_and_tries_are_bounded() -> None:
    """Each refusal is an attempt; after TRIES the VM stays where it is."""
    player = ready("a")
    for number in range(TRIES):
        entry = player.begun()
        player.say(ev.MigrationRefused(vm_id="a", reason=VmReason.MIGRATION_REFUSED, message="no"))
        if number < TRIES - 1:
            asked = player.plan(to=f"h{number + 3}")
            assert asked.entries[0].attempts == tuple(f"h{n + 2}" for n in range(number + 1))
    assert entry.target_host_id == f"h{TRIES + 1}"

    assert player.outcomes() == {"a": (VmOutcome.FAILED, VmReason.MIGRATION_REFUSED)}


def test_s14_an_unreachable_target_costs_no_try() -> None:
    """It is named to the next plan as one that does not answer."""
    player = ready("a")
    player.begun()
    player.say(ev.MigrationRefused(vm_id="a", reason=VmReason.TARGET_UNREACHABLE, message="no way"))

    asked = player.plan(to="h3")

    assert asked.not_answering == {"h2"}
    assert asked.entries[0].attempts == ()


@pytest.mark.parametrize("stop", [False, True])
def test_s14_targets_that_cannot_be_reached_are_not_tried_for_ever(stop: bool) -> None:
    """Whatever the plan finds again: after GIVE_UP_S the VM is left where it is, or is stopped if that was asked for."""
    player = Player()
    player.look(stop=stop)
    player.plan("a")
    while not player.core.ended and player.now < 3 * GIVE_UP_S:
        if any(isinstance(each, fx.StopVm) for each in player.todo):
            break
        if any(isinstance(each, fx.MigrateVm) for each in player.todo):
            player.begun()
            player.say(ev.MigrationRefused(vm_id="a", reason=VmReason.TARGET_UNREACHABLE, message="no way"))
        elif any(isinstance(each, fx.PlanDrain) for each in player.todo):
            player.plan(to="h2" if player.now % 40 < 20 else "h3")
        elif any(isinstance(each, fx.LookAtHost) for each in player.todo):
            player.look(stop=stop)
        player.wait(10.0)

    assert GIVE_UP_S <= player.now < 2 * GIVE_UP_S
    if stop:
        assert any(isinstance(each, fx.StopVm) for each in player.todo)
    else:
        assert player.outcomes() == {"a": (VmOutcome.FAILED, VmReason.TARGET_UNREACHABLE)}


def test_r22_a_migration_of_unknown_outcome_has_no_other_target() -> None:
    """It is looked at again, with growing spans, and neither planned nor stopped meanwhile."""
    player = ready("a")
    entry = player.begun()
    player.say(ev.OutcomeUnknown(vm_id="a", message="the connection broke"))
    for _ in range(4):
        while not any(isinstance(each, fx.InspectMigration) for each in player.todo):
            assert not any(isinstance(each, fx.PlanDrain | fx.MigrateVm | fx.StopVm) for each in player.todo)
            if player.todo:
                player.look()
            player.wait(1.0)
        player.next(fx.InspectMigration)
        player.say(ev.OutcomeUnknown(vm_id="a", message="h2 cannot be looked at"))

    assert [e.reason for e in player.journal] == [VmReason.OUTCOME_UNKNOWN]
    assert player.core.entries()[0].target_host_id == entry.target_host_id
    assert player.states == [(EvacuationState.RUNNING, "")]


def test_r22_a_migration_that_its_runner_has_lost_hold_of_is_looked_at() -> None:
    """libvirt hung and answers again, or the lock is gone: the host still sends the VM, and its end is waited for."""
    player = ready("a")
    entry = player.begun()
    player.say(ev.MigrationUnderWay(vm_id="a"))
    assert player.states == [(EvacuationState.RUNNING, "")]

    player.wait(1.0)
    player.next(fx.InspectMigration)
    player.arrived(entry)

    assert player.outcomes() == {"a": (VmOutcome.MOVED, "")}


def test_s27_somebody_elses_work_is_waited_for_in_bounds() -> None:
    """VM_BUSY is tried again; it counts as no attempt; after PATIENCE_S the VM is left alone with that reason."""
    player = ready("a")
    while not player.core.ended and player.now < PATIENCE_S + 60:
        if any(isinstance(each, fx.MigrateVm) for each in player.todo):
            player.begun()
            player.say(ev.StartHeld(vm_id="a", reason=VmReason.VM_BUSY, message="domain has active job"))
        elif any(isinstance(each, fx.PlanDrain) for each in player.todo):
            player.plan()
        elif any(isinstance(each, fx.LookAtHost) for each in player.todo):
            player.look()
        else:
            player.wait(1.0)

    assert player.outcomes() == {"a": (VmOutcome.FAILED, VmReason.VM_BUSY)}
    assert player.now >= PATIENCE_S
    assert player.core.entries()[0].attempts == ()


def test_s14_it_outlasts_an_absent_host() -> None:
    """While the host is away nothing begins, however long; when it is back the drain goes on."""
    player = ready("a", "b")
    player.arrived(player.begun())
    player.begun()
    player.look(present=False)
    player.say(ev.MigrationRefused(vm_id="b", reason=VmReason.HOST_RETURNED, message="m"))
    for _ in range(300):
        player.look(present=False)
    assert player.todo == []
    assert (EvacuationState.PENDING, VmReason.HOST_AWAY) in player.states[-1:]

    player.look()
    player.plan()
    player.arrived(player.begun())
    player.plan()

    assert player.states[-1][0] is EvacuationState.SUCCEEDED


def test_s14_a_successor_goes_on_from_the_journal() -> None:
    """What was on its way is looked at first; what is done stays done; the rest is planned anew."""
    entries = [
        VmEntry(vm_id="a", vm_name="a", step=VmStep.MIGRATING, target_host_id="h2"),
        VmEntry(vm_id="b", vm_name="b", step=SETTLED, outcome=VmOutcome.MOVED),
        VmEntry(vm_id="c", vm_name="c", step=VmStep.PLANNED, target_host_id="h3"),
    ]
    player = Player(*entries)
    inspected = player.next(fx.InspectMigration)
    assert isinstance(inspected, fx.InspectMigration)
    player.look()
    asked = player.plan(to="h3")
    assert [entry.vm_id for entry in asked.entries] == ["c"]
    player.say(ev.MigrationUnderWay(vm_id="a"))
    player.wait(1.0)
    player.next(fx.InspectMigration)
    player.arrived(entries[0])

    assert player.outcomes()["a"] == (VmOutcome.MOVED, "")


def test_s14_a_vm_that_is_down_is_not_planned_for_again_and_again() -> None:
    """Until its agent has said so its record calls it running: the next try waits for a while."""
    player = ready("a")
    player.begun()
    player.say(ev.MigrationRefused(vm_id="a", reason=VmReason.HOST_RETURNED, message="it runs on neither host"))
    assert not any(isinstance(each, fx.PlanDrain) for each in player.todo)

    player.look()
    player.wait(LOOK_S)

    assert any(isinstance(each, fx.PlanDrain) for each in player.todo)
    assert player.core.entries()[0].attempts == ()


def test_s14_what_a_dead_runner_sends_still_holds_its_slot() -> None:
    """A successor begins nothing beside it while the host says that it is on its way; what nobody can look at holds up nobody."""
    going = [VmEntry(vm_id=vm_id, vm_name=vm_id, step=VmStep.MIGRATING, target_host_id="h2") for vm_id in "ab"]
    player = Player(*going, VmEntry(vm_id="c", vm_name="c", step=VmStep.PLANNED, target_host_id="h3"))
    player.look()
    player.plan(to="h3")
    for vm_id in "ab":
        player.next(fx.InspectMigration)
        player.say(ev.MigrationUnderWay(vm_id=vm_id))
    assert not any(isinstance(each, fx.MigrateVm) for each in player.todo)

    player.wait(1.0)
    player.next(fx.InspectMigration)
    player.say(ev.OutcomeUnknown(vm_id="a", message="h2 cannot be looked at"))

    assert player.begun().vm_id == "c"


def test_s14_a_migration_that_takes_too_long_is_aborted() -> None:
    """After migrate_timeout_s, and again while nothing comes of it."""
    player = ready("a")
    player.begun()
    while player.now < LIMITS.migrate_timeout_s + ABORT_AGAIN_S + 1:
        player.wait(1.0)
        if player.todo:
            player.look()

    assert player.aborts == ["a", "a"]


def test_s14_a_cancel_aborts_what_is_on_its_way_and_drops_the_rest() -> None:
    """Migrations under way are aborted, also one that begins just then; what waits runs on; it ends when all are settled."""
    player = ready("a", "b", "c")
    player.arrived(player.begun())
    one = player.begun()
    waiting = player.next(fx.MigrateVm)
    assert isinstance(waiting, fx.MigrateVm)

    player.say(ev.CancelRequested(reason="enough"))
    begun = replace(waiting.entry, step=VmStep.MIGRATING, target_host_id="h2")
    player.say(ev.MigrationBegun(entry=begun))
    assert player.aborts == [one.vm_id, begun.vm_id]
    player.say(ev.MigrationRefused(vm_id=one.vm_id, reason=VmReason.MIGRATION_REFUSED, message="aborted"))
    assert not player.core.ended
    player.arrived(begun)

    assert player.states[-1][0] is EvacuationState.CANCELLED
    assert player.outcomes()[one.vm_id] == (VmOutcome.SKIPPED, VmReason.DRAIN_CANCELLED)
    assert player.outcomes()[begun.vm_id] == (VmOutcome.MOVED, "")


def test_s14_a_cancel_that_came_too_early_for_libvirt_is_said_again() -> None:
    """An abort finds no job yet, or a libvirt that hangs: while the VM may be on its way it is aborted again and again."""
    player = ready("a")
    player.begun()
    player.say(ev.CancelRequested(reason="enough"))
    while len(player.aborts) < 3 and player.now < LIMITS.migrate_timeout_s / 2:
        player.wait(1.0)
        if player.todo:
            player.look()
    assert player.aborts == ["a"] * 3

    going = VmEntry(vm_id="b", vm_name="b", step=VmStep.MIGRATING, target_host_id="h2")
    after = Player(going, cancelled=True)
    while len(after.aborts) < 3 and after.now < LIMITS.migrate_timeout_s / 2:
        if any(isinstance(each, fx.InspectMigration) for each in after.todo):
            after.next(fx.InspectMigration)
            after.say(ev.MigrationUnderWay(vm_id="b"))
        elif after.todo:
            after.look()
        after.wait(1.0)
    assert after.aborts == ["b"] * 3


def test_s14_a_cancel_ends_no_guest_by_force() -> None:
    """What is being shut down is left to it."""
    player = Player()
    player.look(stop=True)
    player.plan("a", stops=["a"])
    player.next(fx.StopVm)

    player.say(ev.CancelRequested(reason="enough"))
    assert player.spared == ["a"]
    player.say(ev.StartHeld(vm_id="a", reason=VmReason.DRAIN_CANCELLED, message="it is left to it"))

    assert player.outcomes() == {"a": (VmOutcome.SKIPPED, VmReason.DRAIN_CANCELLED)}
    assert player.states[-1][0] is EvacuationState.CANCELLED


def test_a_drain_that_was_cancelled_before_it_began_ends_at_once() -> None:
    """Nothing is planned for it; what the runner before had sent is aborted, and seen to its end."""
    assert Player(cancelled=True).states == [(EvacuationState.CANCELLED, "")]

    going = VmEntry(vm_id="a", vm_name="a", step=VmStep.MIGRATING, target_host_id="h2")
    player = Player(going, cancelled=True)
    assert player.aborts == ["a"]
    player.next(fx.InspectMigration)
    player.say(ev.MigrationRefused(vm_id="a", reason=VmReason.MIGRATION_REFUSED, message="aborted"))

    assert player.states[-1][0] is EvacuationState.CANCELLED


@pytest.mark.parametrize(
    "event",
    [
        ev.HostLooked(present=True),
        ev.PlanMade(entries=()),
        ev.VmMigrated(entry=VmEntry(vm_id="x", vm_name="x")),
        ev.Restored(record=RECORD),
        ev.StopRefused(vm_id="a", message=""),
    ],
)
def test_what_cannot_happen_is_refused(event: ev.Event) -> None:
    """ValueError, and nothing has changed."""
    player = ready("a")
    before = player.core.entries()

    with pytest.raises(ValueError):
        player.say(event)

    assert player.core.entries() == before


ANSWERS = ("moved", "refused", "held", "unknown", "lost", "target", "way")


@pytest.mark.parametrize("seed", range(60))
def test_any_order_of_answers_ends_with_one_outcome_for_each_vm(seed: int) -> None:
    """Random answers, absences, plans and a cancel: slots are kept to, and in the end each VM has exactly one outcome."""
    dice = random.Random(seed)
    player = ready("a", "b", "c", "d")
    outcomes: dict[str, VmOutcome] = {}
    for turn in range(2000):
        if player.core.ended:
            break
        busy = [each for each in player.todo if isinstance(each, fx.MigrateVm | fx.InspectMigration | fx.StopVm)]
        assert len(busy) <= LIMITS.parallel + sum(isinstance(each, fx.InspectMigration) for each in busy)
        if turn == 40 and seed % 3 == 0:
            player.say(ev.CancelRequested())
        _play(player, dice, final=turn > 300)
        for entry in player.core.entries():
            if entry.step is SETTLED:
                assert outcomes.setdefault(entry.vm_id, entry.outcome) is entry.outcome

    assert player.core.ended
    assert len(outcomes) >= 4


def _play(player: Player, dice: random.Random, *, final: bool) -> None:
    if not player.todo:
        player.wait(dice.choice((1.0, 5.0)))
        return
    operation = dice.choice(player.todo)
    match operation:
        case fx.LookAtHost():
            player.look(present=final or dice.random() < 0.8, stop=dice.random() < 0.2)
        case fx.PlanDrain():
            player.plan(none="" if final or dice.random() < 0.7 else VmReason.NO_CAPACITY, to=dice.choice(("h2", "h3")))
        case fx.StopVm(entry=entry):
            player.todo.remove(operation)
            player.say(ev.VmStopped(entry=replace(entry, step=SETTLED, outcome=VmOutcome.SKIPPED)))
        case fx.MigrateVm(entry=entry) | fx.InspectMigration(entry=entry):
            if isinstance(operation, fx.MigrateVm):
                player.todo.remove(operation)
                entry = replace(entry, step=VmStep.MIGRATING, target_host_id=operation.target_host_id)
                player.say(ev.MigrationBegun(entry=entry))
            else:
                player.todo.remove(operation)
            answer = "moved" if final else dice.choice(ANSWERS)
            vm_id = entry.vm_id
            if isinstance(operation, fx.MigrateVm) and answer == "way":
                answer = "unknown"
            if isinstance(operation, fx.InspectMigration) and answer == "target":
                answer = "refused"
            answers: dict[str, ev.Event] = {
                "moved": ev.VmMigrated(entry=replace(entry, step=SETTLED, outcome=VmOutcome.MOVED)),
                "refused": ev.MigrationRefused(vm_id=vm_id, reason=VmReason.MIGRATION_REFUSED, message="no"),
                "held": ev.StartHeld(vm_id=vm_id, reason=VmReason.VM_BUSY, message="busy"),
                "unknown": ev.OutcomeUnknown(vm_id=vm_id, message="?"),
                "lost": ev.ClaimLost(vm_id=vm_id, outcome=VmOutcome.SKIPPED, reason=VmReason.TAKEN_OVER, message="m"),
                "target": ev.TargetLost(vm_id=vm_id, message="m"),
                "way": ev.MigrationUnderWay(vm_id=vm_id),
            }
            player.say(answers[answer])
