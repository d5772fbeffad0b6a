"""Runs one scenario from its settled start to its end, and judges what happened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from vmha.sim import invariants, result, timeline
from vmha.sim.final import final_of
from vmha.sim.history import Fact, History
from vmha.sim.result import Logged, Result
from vmha.sim.scenario import Scenario
from vmha.sim.timeloop import VirtualLoop
from vmha.sim.truth import Truth, Violation

Composition = Callable[[], AbstractContextManager[None]]
"""What is changed of the product for one run; only mutants change anything (`vmha.sim.mutants`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A finished run.

    Attributes:
        counts: How often what chaos wants to see happened, see `counts_of`.
    """

    truth: Truth
    result: Result
    violations: Sequence[Violation]
    counts: Mapping[str, int]

    @property
    def text(self) -> str:
        """The bytes of RESULT."""
        return result.render(self.result)


def run(scenario: Scenario, composition: Composition = nullcontext) -> Outcome:
    """Runs a scenario to its end."""
    from vmha.sim.world import World  # noqa: PLC0415 - the whole product; scenarios are checked without it

    with composition():
        loop = VirtualLoop()
        errors: list[tuple[float, str]] = []
        history = History()
        world = World(loop, scenario, history)
        loop.set_exception_handler(lambda _, context: errors.append((world.t, _told(context))))
        try:
            loop.run_until(world.settle())
            refusals = loop.run_until(timeline.perform(scenario, world))
            logged = [_logged(seen) for seen in world.events if seen.t >= 0]
            events = result.events(scenario, logged, [refusal.event() for refusal in refusals])
            final = final_of(scenario, loop.run_until(world.books()), world.guests(), history, events)
            lines = list(history.lines)
            ended = len(errors)
        finally:
            loop.run_until(world.close())
            loop.shut_down()
    truth = Truth(scenario=scenario, lines=lines, events=events, final=final, errors=errors[:ended])
    return judge(truth)


def judge(truth: Truth) -> Outcome:
    """Checks a finished run's invariants and makes its RESULT."""
    found = invariants.check(truth)
    made = Result(
        events=truth.events,
        occupancy=truth.occupancy,
        final=truth.final,
        violations=[violation.entry() for violation in found],
    )
    return Outcome(truth=truth, result=made, violations=found, counts=counts_of(truth))


def counts_of(truth: Truth) -> dict[str, int]:
    """What a run exercised: evacuations (that moved something), self-fencings, certificates, take-overs, store losses."""
    moved = {e["evacuation"] for e in truth.events if e["type"] == "vm" and e["outcome"] in {"MOVED", "REBUILT"}}
    rungs = [e["reason"] for e in truth.events if e["type"] == "host_state" and e["to"] == "FENCED"]
    leads = [line for line in truth.facts(Fact.LEADS) if line.t > 0]
    return {
        "evacuations": len(moved),
        "self_fencings": len({(line.host, line.t // 5) for line in truth.facts(Fact.GUEST_ENDS) if line.cause == "self_fencing"}),
        "certificates": sum(1 for _ in truth.facts(Fact.CERTIFIED)),
        "take_overs": len(leads),
        "store_losses": sum(1 for _ in truth.facts(Fact.STORE_LOST)),
        **{f"proofs_{rung.lower()}": rungs.count(rung) for rung in ("FENCE", "LEASE", "OPERATOR", "NONE")},
    }


def _logged(seen: Any) -> Logged:
    record = seen.record
    return Logged(t=seen.t, kind=record.kind, detail=record.detail, incident_id=record.incident_id, actor=record.actor)


def _told(context: Mapping[str, Any]) -> str:
    error, task = context.get("exception"), context.get("task")
    text = str(context.get("message", ""))
    if task is not None:
        text += f" ({task.get_name()}: {task.get_coro().__qualname__})"
    return f"{text}: {type(error).__name__}: {error}" if error is not None else text
