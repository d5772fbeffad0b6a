"""Every invariant: a history that it lets pass, and one that breaks it and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sim.scenes import START, line, moved, raw, state, truth
from vmha.manager import detector
from vmha.manager.events import GoodbyeReceived
from vmha.manager.hostview import IllegalInput
from vmha.sim.history import Fact, Line
from vmha.sim.invariants import INVARIANTS, check
from vmha.sim.runner import run
from vmha.sim.scenario import parse
from vmha.sim.truth import Truth

DIES = line(10.0, Fact.ACT, "h1", cause="crash")
DEAD = [
    DIES,
    line(10.0, Fact.HOST_DOWN, "h1", cause="crash"),
    line(10.0, Fact.GUEST_ENDS, "h1", "vm1", "power"),
    line(10.0, Fact.GUEST_ENDS, "h1", "vm2", "power"),
]
PROVEN = [state(12.0, "h1", "DOWN"), state(13.0, "h1", "FENCED", "FENCE")]
STARTED = [line(14.0, Fact.GUEST_CREATED, "h2", "vm1", "start"), line(15.0, Fact.GUEST_RUNS, "h2", "vm1", "start")]
SETTLED = [*PROVEN, moved(15.5, "vm1", "h1", "h2"), state(16.0, "h1", "EVACUATED")]
TWO_IN_GROUP = {"groups": [{"id": "g", "policy": "anti-affinity", "mode": "hard", "vms": ["vm1", "vm2"]}]}
SOFT_GROUP = {"groups": [{"id": "g", "policy": "anti-affinity", "mode": "soft", "vms": ["vm1", "vm2"]}]}
VM2_ON_H2 = {"vms": [{"id": "vm1", "host": "h1"}, {"id": "vm2", "host": "h2"}]}

LOST: dict[str, Any] = {"from": "h1", "to": "management", "loss": 1.0}


def history_of(vm2_at: str, *lines: Line) -> list[Line]:
    """A history that begins with vm1 on h1 and vm2 elsewhere."""
    return [line(0.0, Fact.GUEST_ENDS, "h1", "vm2", "operator"), line(0.0, Fact.GUEST_RUNS, vm2_at, "vm2", "operator"), *lines]


@dataclass(frozen=True, kw_only=True)
class Case:
    """Which invariant breaks, and in what."""

    breaks: str
    lines: list[Line]
    events: list[dict[str, Any]] = field(default_factory=list)
    changes: dict[str, Any] = field(default_factory=dict)
    also: frozenset[str] = frozenset()
    """Others that cannot hold then either."""


CASES = {
    "two copies": Case(breaks="one_copy", lines=[line(5.0, Fact.GUEST_RUNS, "h2", "vm1", "operator")]),
    "a start without proof": Case(breaks="start_after_proof", lines=[*DEAD, *STARTED], events=[PROVEN[0]]),
    "a proof after the start": Case(
        breaks="start_after_proof", lines=[*DEAD, *STARTED], events=[PROVEN[0], state(15.1, "h1", "FENCED", "FENCE")]
    ),
    "a proof of an earlier death": Case(
        breaks="start_after_proof",
        lines=[*DEAD, line(20.0, Fact.HOST_UP, "h1"), line(21.0, Fact.GUEST_RUNS, "h1", "vm1", "resume"),
               line(30.0, Fact.ACT, "h1", cause="crash"),
               line(30.0, Fact.GUEST_ENDS, "h1", "vm1", "power"), line(40.0, Fact.GUEST_RUNS, "h2", "vm1", "start")],
        events=PROVEN,
    ),
    "a proof without its rung": Case(
        breaks="start_after_proof", lines=[*DEAD, *STARTED], events=[PROVEN[0], state(13.0, "h1", "FENCED", "")]
    ),
    "a VM that stays off in a cluster that is well": Case(
        breaks="recovered",
        lines=[line(5.0, Fact.ACT, "h1", cause="reboot"), line(5.0, Fact.HOST_DOWN, "h1", cause="reboot"),
               line(5.0, Fact.GUEST_ENDS, "h1", "vm1", "power"), line(9.0, Fact.HOST_UP, "h1")],
        changes={"until": 300, "final": {"hosts": dict.fromkeys(("h1", "h2", "h3"), "HEALTHY"),
                 "vms": {"vm1": {"host": "h1", "state": "shutoff", "outcome": "NONE", "reason": "NOT_STARTED_YET"}}}},
    ),
    "a start elsewhere after a migration's target fenced itself": Case(
        breaks="start_after_proof",
        lines=[line(5.0, Fact.GUEST_ENDS, "h1", "vm1", "migration"), line(5.0, Fact.GUEST_RUNS, "h2", "vm1", "migration"),
               line(6.0, Fact.ACT, cause="store_down"), line(12.0, Fact.SELF_FENCED, "h2"),
               line(12.0, Fact.GUEST_ENDS, "h2", "vm1", "self_fencing"), line(20.0, Fact.GUEST_RUNS, "h3", "vm1", "start")],
    ),
    "a start elsewhere after a migration's target was told to give it up": Case(
        breaks="start_after_proof",
        lines=[line(5.0, Fact.GUEST_ENDS, "h1", "vm1", "migration"), line(5.0, Fact.GUEST_RUNS, "h2", "vm1", "migration"),
               line(6.0, Fact.ACT, cause="isolate", hosts=("h2",), plane="all"),
               line(12.0, Fact.GUEST_ENDS, "h2", "vm1", "agent"), line(20.0, Fact.GUEST_RUNS, "h3", "vm1", "start")],
    ),
    "a start at home after a migration's target lost power": Case(
        breaks="start_after_proof",
        lines=[line(5.0, Fact.GUEST_ENDS, "h1", "vm1", "migration"), line(5.0, Fact.GUEST_RUNS, "h2", "vm1", "migration"),
               line(12.0, Fact.ACT, "h2", cause="crash"), line(12.0, Fact.HOST_DOWN, "h2", cause="crash"),
               line(12.0, Fact.GUEST_ENDS, "h2", "vm1", "power"), line(20.0, Fact.GUEST_RUNS, "h1", "vm1", "start")],
    ),
    "a lease proof of a host that runs": Case(
        breaks="proof_is_true", lines=[line(5.0, Fact.ACT, cause="isolate", hosts=("h1",), plane="all")],
        events=[state(30.0, "h1", "FENCED", "LEASE")],
    ),
    "saved by the storage's lock": Case(
        breaks="no_lock_needed", lines=[line(5.0, Fact.LOCKED, "h2", "vm1", "start")], events=[]
    ),
    "a start beside one that waits": Case(
        breaks="one_start",
        lines=[*DEAD, line(14.0, Fact.GUEST_CREATED, "h2", "vm1", "start"), line(20.0, Fact.GUEST_CREATED, "h3", "vm1", "start")],
        events=PROVEN,
    ),
    "a returned host starts what waits elsewhere": Case(
        breaks="one_start",
        lines=[*DEAD, line(14.0, Fact.GUEST_CREATED, "h2", "vm1", "start"), line(20.0, Fact.HOST_UP, "h1"),
               line(22.0, Fact.GUEST_CREATED, "h1", "vm1", "resume")],
        events=PROVEN,
    ),
    "a guest destroyed after a partition that was healed host by host": Case(
        breaks="healthy_untouched",
        lines=[line(1.0, Fact.ACT, cause="partition", sides=[["h1", "h2"], ["h3", "management"]]),
               line(2.0, Fact.ACT, cause="heal", hosts=["h1", "h2"], plane="all"),
               line(90.0, Fact.GUEST_ENDS, "h1", "vm1", "self_fencing")],
    ),
    "a guest destroyed after a link that was healed with its host": Case(
        breaks="healthy_untouched",
        lines=[line(1.0, Fact.ACT, cause="link", **LOST),
               line(2.0, Fact.ACT, cause="heal", hosts=["h1"], plane="all"),
               line(90.0, Fact.GUEST_ENDS, "h1", "vm1", "self_fencing")],
    ),
    "a healthy host called down under the second of two managers": Case(
        breaks="healthy_untouched", lines=[line(1.0, Fact.ACT, cause="manager_crash"), line(1.0, Fact.MANAGER_DOWN, manager=0)],
        events=[state(90.0, "h1", "DOWN")], changes={"managers": 2},
    ),
    "a healthy host called down after its hanging libvirt was rebooted": Case(
        breaks="healthy_untouched",
        lines=[line(1.0, Fact.ACT, "h1", cause="hypervisor_hang"), line(2.0, Fact.ACT, "h1", cause="reboot"),
               line(2.0, Fact.HOST_DOWN, "h1", cause="reboot"), line(3.0, Fact.HOST_UP, "h1")],
        events=[state(90.0, "h1", "DOWN")],
    ),
    "a guest destroyed on a healthy host": Case(
        breaks="healthy_untouched", lines=[line(50.0, Fact.GUEST_ENDS, "h1", "vm1", "self_fencing")]
    ),
    "a healthy host fenced": Case(breaks="healthy_untouched", lines=[line(50.0, Fact.HOST_DOWN, "h1", cause="fence")]),
    "a healthy host called down": Case(breaks="healthy_untouched", lines=[], events=[state(50.0, "h1", "DOWN")]),
    "an incident of a manager that leads no more": Case(
        breaks="decided_by_leader", lines=[*DEAD, line(12.0, Fact.OPENED, "h1", manager=0, holder=1)]
    ),
    "an incident under an old term": Case(
        breaks="decided_by_leader",
        lines=[*DEAD, line(12.0, Fact.OPENED, "h1", manager=0, holder=0, term=3, term_held=4)],
    ),
    "an incident without a store": Case(
        breaks="decided_by_leader", lines=[*DEAD, line(11.0, Fact.STORE_DOWN), line(12.0, Fact.OPENED, "h1")]
    ),
    "an incident too soon after a take-over": Case(
        breaks="decided_after_learning", lines=[*DEAD, line(11.0, Fact.LEADS, manager=1, term=2), line(15.0, Fact.OPENED, "h1")]
    ),
    "an incident too soon after a loss": Case(
        breaks="decided_after_learning", lines=[*DEAD, line(11.0, Fact.STORE_LOST), line(15.0, Fact.OPENED, "h1")]
    ),
    "too many down at once": Case(
        breaks="guarded",
        lines=[*DEAD, line(10.0, Fact.ACT, "h2", cause="crash"), line(10.0, Fact.HOST_DOWN, "h2", cause="crash")],
        events=[state(12.0, "h1", "DOWN"), state(12.0, "h2", "DOWN")],
    ),
    "down while another one is under suspicion": Case(
        breaks="guarded",
        lines=[*DEAD, line(10.0, Fact.ACT, "h2", cause="crash"), line(10.0, Fact.HOST_DOWN, "h2", cause="crash")],
        events=[state(12.0, "h2", "SUSPECT"), state(12.1, "h2", "COOLDOWN"), state(14.0, "h1", "DOWN")],
    ),
    "down too soon, after a word of before its return": Case(
        breaks="decided_after_learning",
        lines=[line(1.0, Fact.ACT, "h1", cause="confirm_off"), *DEAD, line(11.0, Fact.LEADS, manager=1, term=2),
               line(15.0, Fact.OPENED, "h1")],
        events=[state(5.0, "h1", "HEALTHY")],
    ),
    "down too soon, after a word that was refused": Case(
        breaks="decided_after_learning",
        lines=[line(1.0, Fact.ACT, "h1", cause="confirm_off"), *DEAD, line(11.0, Fact.LEADS, manager=1, term=2),
               line(15.0, Fact.OPENED, "h1")],
        events=[{"t": 1.0, "type": "refused", "do": "confirm_off", "host": "h1", "reason": "HOST_ALIVE", "message": ""}],
    ),
    "a returned host starts what moved": Case(
        breaks="returned_host_starts_its_own",
        lines=[*DEAD, *STARTED, line(18.0, Fact.ACT, "h2", cause="crash"), line(18.0, Fact.GUEST_ENDS, "h2", "vm1", "power"),
               line(20.0, Fact.HOST_UP, "h1"), line(22.0, Fact.GUEST_RUNS, "h1", "vm1", "resume")],
        events=SETTLED,
    ),
    "a returned host starts what its agent saw leave": Case(
        breaks="returned_host_starts_its_own",
        lines=[*history_of("h2"), line(1.0, Fact.AGENT_UP, "h2"), line(5.0, Fact.GUEST_ENDS, "h2", "vm2", "migration"),
               line(5.0, Fact.GUEST_RUNS, "h1", "vm2", "migration"), *DEAD, line(22.0, Fact.GUEST_RUNS, "h2", "vm2", "resume")],
        events=PROVEN,
    ),
    "evacuated while a guest runs there": Case(
        breaks="evacuated_is_true", lines=[DIES], events=[state(16.0, "h1", "EVACUATED")]
    ),
    "evacuated with an open outcome": Case(
        breaks="evacuated_is_true",
        lines=DEAD,
        events=[*PROVEN, {**moved(14.0, "vm1", "h1", "", "PENDING"), "step": "PLANNED"}, state(16.0, "h1", "EVACUATED")],
    ),
    "moved without a start": Case(breaks="moved_is_true", lines=DEAD, events=SETTLED),
    "two outcomes": Case(
        breaks="one_outcome", lines=[*DEAD, *STARTED], events=[*SETTLED, moved(17.0, "vm1", "h1", "h2", "FAILED")]
    ),
    "pending without a reason": Case(
        breaks="one_outcome",
        lines=[],
        changes={"final": {"vms": {"vm1": {"host": "h1", "state": "shutoff", "outcome": "PENDING", "reason": ""}}}},
    ),
    "it does not run, and nobody knows": Case(
        breaks="one_outcome",
        lines=[],
        changes={"final": {"vms": {"vm1": {"host": "h1", "state": "shutoff", "outcome": "NONE", "reason": ""}}}},
    ),
    "a proof by something that is no rung": Case(
        breaks="start_after_proof", lines=[*DEAD, *STARTED], events=[PROVEN[0], state(13.0, "h1", "FENCED", "CONFIRMED")]
    ),
    "a target over its memory": Case(
        breaks="no_target_overloaded", lines=[*DEAD, *STARTED], events=SETTLED,
        changes={"hosts": [{"id": "h1"}, {"id": "h2", "memory_mib": 1023}, {"id": "h3"}]},
    ),
    "a target over its reserve": Case(
        breaks="no_target_overloaded", lines=[*DEAD, *STARTED], events=SETTLED,
        changes={"hosts": [{"id": "h1"}, {"id": "h2", "memory_mib": 1024}, {"id": "h3"}], "cluster": {"reserve_fraction": 0.1}},
    ),
    "a target over its vCPUs": Case(
        breaks="no_target_overloaded", lines=[*DEAD, *STARTED], events=SETTLED,
        changes={"vms": [{"id": "vm1", "host": "h1", "vcpus": 17}, {"id": "vm2", "host": "h1"}]},
    ),
    "a target that is no hypervisor": Case(
        breaks="hard_rules_kept", lines=[*DEAD, *STARTED], events=SETTLED,
        changes={"hosts": [{"id": "h1"}, {"id": "h2", "roles": ["block-storage"]}, {"id": "h3"}]},
    ),
    "a target outside the aggregate": Case(
        breaks="hard_rules_kept", lines=[*DEAD, *STARTED], events=SETTLED,
        changes={"vms": [{"id": "vm1", "host": "h1", "aggregates": ["ssd"]}, {"id": "vm2", "host": "h1"}]},
    ),
    "a passed-through device moved": Case(
        breaks="hard_rules_kept", lines=[*DEAD, *STARTED], events=SETTLED,
        changes={"vms": [{"id": "vm1", "host": "h1", "gpu": True}, {"id": "vm2", "host": "h1"}]},
    ),
    "hard anti-affinity": Case(
        breaks="hard_rules_kept", lines=history_of("h2", *[each for each in DEAD if each.vm != "vm2"], *STARTED), events=SETTLED,
        changes={**TWO_IN_GROUP, **VM2_ON_H2},
    ),
    "soft anti-affinity, and there was room": Case(
        breaks="soft_rules_kept_where_possible",
        lines=history_of("h2", *[each for each in DEAD if each.vm != "vm2"], *STARTED), events=SETTLED,
        changes={**SOFT_GROUP, **VM2_ON_H2},
    ),
    "an exception": Case(breaks="unhandled", lines=[], changes={"errors": [(3.0, "KeyError: 'h1'")]}),
}  # fmt: skip


def made(case: Case) -> Truth:
    return truth(case.lines, case.events, **case.changes)


@pytest.mark.parametrize("name", CASES)
def test_what_breaks_an_invariant_is_found(name: str) -> None:
    """Each of these histories breaks the named invariant, and no other."""
    case = CASES[name]

    assert {violation.invariant for violation in check(made(case))} == {case.breaks}


def test_every_invariant_can_fail() -> None:
    """An invariant without a history that breaks it would prove nothing."""
    assert {case.breaks for case in CASES.values()} == set(INVARIANTS)


PASSES: dict[str, Callable[[], Truth]] = {
    "nothing happens": lambda: truth([]),
    "a fenced host's VM moves": lambda: truth([*DEAD, *STARTED], SETTLED),
    "a live migration": lambda: truth(
        [line(5.0, Fact.GUEST_ENDS, "h1", "vm1", "migration"), line(5.0, Fact.GUEST_RUNS, "h2", "vm1", "migration")]
    ),
    "an isolated host fences itself": lambda: truth(
        [line(5.0, Fact.ACT, cause="isolate", hosts=("h1",), plane="all"), line(12.0, Fact.SELF_FENCED, "h1"),
         line(12.0, Fact.GUEST_ENDS, "h1", "vm1", "self_fencing"), line(12.0, Fact.GUEST_ENDS, "h1", "vm2", "self_fencing"),
         line(20.0, Fact.GUEST_RUNS, "h2", "vm1", "start")],
        [state(8.0, "h1", "DOWN"), state(19.0, "h1", "FENCED", "LEASE")],
    ),
    "a VM that is not protected runs on": lambda: truth(
        [line(5.0, Fact.ACT, cause="isolate", hosts=("h1",), plane="all"),
         line(12.0, Fact.GUEST_ENDS, "h1", "vm1", "self_fencing")],
        [state(19.0, "h1", "FENCED", "LEASE")],
    ),
    "a returned host starts what it owns": lambda: truth(
        [*DEAD, line(20.0, Fact.HOST_UP, "h1"), line(22.0, Fact.GUEST_RUNS, "h1", "vm1", "resume")]
    ),
    "an operator's host is opened at once": lambda: truth(
        [*DEAD, line(11.0, Fact.LEADS, manager=1), line(12.0, Fact.ACT, "h1", cause="confirm_off"), line(12.1, Fact.OPENED, "h1")]
    ),
    "a returned host starts what left it unseen, for a host that was proven dead": lambda: truth(
        [line(2.0, Fact.AGENT_DOWN, "h2"), *history_of("h2"), line(5.0, Fact.GUEST_ENDS, "h2", "vm2", "migration"),
         line(5.0, Fact.GUEST_RUNS, "h1", "vm2", "migration"), *DEAD, line(20.0, Fact.AGENT_UP, "h2"),
         line(22.0, Fact.GUEST_RUNS, "h2", "vm2", "resume")],
        PROVEN,
    ),
    "a drain's VM starts at home after its target fenced itself": lambda: truth(
        [line(5.0, Fact.GUEST_ENDS, "h1", "vm1", "migration"), line(5.0, Fact.GUEST_RUNS, "h2", "vm1", "migration"),
         line(6.0, Fact.ACT, cause="store_down"), line(12.0, Fact.SELF_FENCED, "h2"),
         line(12.0, Fact.GUEST_ENDS, "h2", "vm1", "self_fencing"), line(20.0, Fact.GUEST_RUNS, "h1", "vm1", "start")]
    ),
    "a drain's VM starts at home after its target has rebooted": lambda: truth(
        [line(5.0, Fact.GUEST_ENDS, "h1", "vm1", "migration"), line(5.0, Fact.GUEST_RUNS, "h2", "vm1", "migration"),
         line(6.0, Fact.ACT, "h2", cause="reboot"), line(6.0, Fact.HOST_DOWN, "h2", cause="reboot"),
         line(6.0, Fact.GUEST_ENDS, "h2", "vm1", "power"), line(9.0, Fact.HOST_UP, "h2"),
         line(20.0, Fact.GUEST_RUNS, "h1", "vm1", "start")]
    ),
    "a drain's VM starts at home after its target was told to give it up": lambda: truth(
        [line(5.0, Fact.GUEST_ENDS, "h1", "vm1", "migration"), line(5.0, Fact.GUEST_RUNS, "h2", "vm1", "migration"),
         line(6.0, Fact.ACT, cause="isolate", hosts=("h2",), plane="all"), line(12.0, Fact.GUEST_ENDS, "h2", "vm1", "agent"),
         line(20.0, Fact.GUEST_RUNS, "h1", "vm1", "start")]
    ),
    "a returned host starts what it had sent to one that fenced itself": lambda: truth(
        [line(2.0, Fact.AGENT_DOWN, "h1"), line(5.0, Fact.GUEST_ENDS, "h1", "vm1", "migration"),
         line(5.0, Fact.GUEST_RUNS, "h2", "vm1", "migration"), line(6.0, Fact.ACT, cause="store_down"),
         line(12.0, Fact.SELF_FENCED, "h2"), line(12.0, Fact.GUEST_ENDS, "h2", "vm1", "self_fencing"),
         line(20.0, Fact.AGENT_UP, "h1"), line(22.0, Fact.GUEST_RUNS, "h1", "vm1", "resume")]
    ),
    "a returned host starts what had gone on from where it had sent it, and ended there": lambda: truth(
        [line(5.0, Fact.GUEST_ENDS, "h1", "vm1", "migration"), line(5.0, Fact.GUEST_RUNS, "h2", "vm1", "migration"),
         line(6.0, Fact.GUEST_ENDS, "h2", "vm1", "migration"), line(6.0, Fact.GUEST_RUNS, "h3", "vm1", "migration"),
         line(7.0, Fact.ACT, cause="store_down"), line(12.0, Fact.SELF_FENCED, "h3"),
         line(12.0, Fact.GUEST_ENDS, "h3", "vm1", "self_fencing"), line(22.0, Fact.GUEST_RUNS, "h1", "vm1", "resume")]
    ),
    "a cluster that nobody has disturbed for long is at rest": lambda: truth(
        [line(5.0, Fact.ACT, "h2", cause="maintenance_on")], until=300,
        final={"hosts": {"h1": "HEALTHY", "h2": "IN_MAINTENANCE", "h3": "HEALTHY"},
               "vms": {"vm1": {"host": "h1", "state": "running", "outcome": "NONE", "reason": ""}}},
    ),
    "a VM that stays off while its evacuator is dead": lambda: truth(
        [*DEAD, line(6.0, Fact.ACT, cause="evac_crash"), line(20.0, Fact.HOST_UP, "h1")], until=300,
        final={"hosts": {"h1": "FENCING"},
               "vms": {"vm1": {"host": "h1", "state": "shutoff", "outcome": "NONE", "reason": "FENCING"}}},
    ),
    "a returned host starts what was claimed for it": lambda: truth(
        [*DEAD, line(14.0, Fact.GUEST_CREATED, "h2", "vm1", "start"), line(15.0, Fact.GUEST_DROPPED, "h2", "vm1"),
         line(30.0, Fact.GUEST_RUNS, "h2", "vm1", "resume")],
        [*PROVEN, {**moved(14.0, "vm1", "h1", "h2", ""), "step": "CLAIMED"}],
    ),
    "a lost store gets its open incident back": lambda: truth(
        [*DEAD, line(12.0, Fact.OPENED, "h1"), line(13.0, Fact.STORE_LOST), line(14.0, Fact.OPENED, "h1", term=0, term_held=7)],
        PROVEN[:1],
    ),
    "down in the moment in which another's suspicion ends": lambda: truth(
        [*DEAD, line(9.0, Fact.ACT, cause="isolate", hosts=("h2",), plane="all")],
        [state(11.0, "h2", "SUSPECT"), state(14.0, "h1", "DOWN"), state(14.1, "h2", "AGENT_LOST")],
    ),
    "another start after one that its target's loss has ended": lambda: truth(
        [*DEAD, STARTED[0], line(15.0, Fact.ACT, "h2", cause="crash"), line(15.0, Fact.HOST_DOWN, "h2", cause="crash"),
         line(40.0, Fact.GUEST_CREATED, "h3", "vm1", "start")],
        PROVEN,
    ),
    "another start after one whose target was proven dead": lambda: truth(
        [*DEAD, STARTED[0], line(40.0, Fact.GUEST_CREATED, "h3", "vm1", "start")], [*PROVEN, state(30.0, "h2", "FENCED", "LEASE")]
    ),
    "a second loss after the first is settled": lambda: truth(
        [*DEAD, *STARTED, line(30.0, Fact.ACT, "h3", cause="crash")], [*SETTLED, state(40.0, "h3", "DOWN")]
    ),
    "soft anti-affinity without room": lambda: truth(
        history_of("h2", *[each for each in DEAD if each.vm != "vm2"], *STARTED), SETTLED,
        **SOFT_GROUP, vms=VM2_ON_H2["vms"], hosts=[{"id": "h1"}, {"id": "h2"}, {"id": "h3", "memory_mib": 1024}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PASSES)
def test_what_is_right_is_let_pass(name: str) -> None:
    """Histories of a product that works break nothing."""
    assert check(PASSES[name]()) == []


def test_a_violation_has_time_and_facts() -> None:
    """RESULT's entry says when, which invariant, in words, and with the facts that show it."""
    [violation] = check(made(CASES["two copies"]))

    assert violation.entry() == {
        "t": 5.0,
        "invariant": "one_copy",
        "message": "vm1 runs on h2 while it runs on h1",
        "facts": {
            "vm": "vm1",
            "first": {"host": "h1", "from": 0.0, "to": None},
            "second": {"host": "h2", "from": 5.0, "to": None, "cause": "operator"},
        },
    }


SPANS = st.lists(
    st.tuples(st.sampled_from(["h1", "h2", "h3"]), st.integers(0, 40), st.integers(1, 20)), min_size=1, max_size=6
)  # fmt: skip


@given(SPANS)
def test_one_copy_is_exact(spans: list[tuple[str, int, int]]) -> None:
    """For any intervals on any hosts: it breaks exactly when some instant lies in two of them."""
    merged: dict[str, set[int]] = {}
    for host, start, length in spans:
        merged.setdefault(host, set()).update(range(start, start + length))
    lines = []
    for host, instants in merged.items():
        lines += [line(float(i), Fact.GUEST_RUNS, host, "vm9", "operator") for i in instants if i - 1 not in instants]
        lines += [line(float(i + 1), Fact.GUEST_ENDS, host, "vm9", "operator") for i in instants if i + 1 not in instants]
    run = truth([], vms=[{"id": "vm9", "host": "h1"}])
    run = Truth(scenario=run.scenario, lines=sorted(lines, key=lambda each: each.t), events=[])
    twice = [i for i in range(70) if sum(i in instants for instants in merged.values()) > 1]

    assert bool(check(run)) == bool(twice)


def test_the_history_of_the_small_scenario_begins_settled() -> None:
    """The hand-made histories start as a run does: every running VM has an interval from 0.0."""
    assert {(each.vm, each.t, each.cause) for each in START} == {("vm1", 0.0, "initial"), ("vm2", 0.0, "initial")}


def test_a_fault_that_the_product_logs_and_survives_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector that refuses an event, and goes on, must not look like one that does its work."""
    handlers = dict(detector.HANDLERS)

    def broken(*_: Any) -> list[Any]:
        raise IllegalInput("a fault of ours")

    monkeypatch.setattr(detector, "HANDLERS", {**handlers, GoodbyeReceived: broken})
    outcome = run(parse(raw(until=5, timeline=[{"at": 1, "do": "goodbye", "host": "h1"}])))

    assert [violation.invariant for violation in outcome.violations] == ["unhandled"]
    assert "a fault of ours" in outcome.violations[0].message
