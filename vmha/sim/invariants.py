"""What must hold in every run, whatever happened (design section 9). Pure: each looks at the ground truth and names what breaks.

An invariant is a function of the Truth that yields Violations. `check` runs them all; their names are the `invariant` of RESULT's
violations and are listed in docs/simulator.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from vmha.model import HostState
from vmha.sim import placement_rules, recovery
from vmha.sim.history import Fact, Line
from vmha.sim.result import Interval
from vmha.sim.truth import Truth, Violation, covers

Invariant = Callable[[Truth], Iterable[Violation]]
_SETTLED: Final = frozenset({"MOVED", "RESTARTED", "REBUILT", "FAILED", "SKIPPED"})
_STATE_OF_PROOF: Final = HostState.FENCED.value
_RUNGS: Final = frozenset({"FENCE", "LEASE", "OPERATOR", "NONE"})
_TIGHT: Final = 1e-9


def check(truth: Truth) -> list[Violation]:
    """Every violation of a run, the earliest first."""
    found = [violation for invariant in INVARIANTS.values() for violation in invariant(truth)]
    return sorted(found, key=lambda v: (v.t, v.invariant, v.message))


def one_copy(truth: Truth) -> Iterator[Violation]:
    """At most one executing copy of a VM at every instant."""
    for vm, spans in truth.occupancy.items():
        for i, later in enumerate(spans):
            for earlier in spans[:i]:
                if earlier.end is None or earlier.end > later.start:
                    yield Violation(
                        t=later.start,
                        invariant="one_copy",
                        message=f"{vm} runs on {later.host} while it runs on {earlier.host}",
                        facts={
                            "vm": vm,
                            "first": {"host": earlier.host, "from": earlier.start, "to": earlier.end},
                            "second": {"host": later.host, "from": later.start, "to": later.end, "cause": later.cause},
                        },
                    )


def start_after_proof(truth: Truth) -> Iterator[Violation]:
    """No start elsewhere without proof of death: a host_state event to FENCED, which names the rung, comes before it."""
    for line in truth.facts(Fact.GUEST_RUNS):
        if line.cause != "start":
            continue
        before = truth.last_host(line.vm, line.t)
        source = before.host if before else truth.scenario.vm(line.vm).host
        if source == line.host or (before and _came_back(truth, line, before)):
            continue
        since = before.start if before else 0.0
        proofs = [e for e in truth.host_states.get(source, ()) if e["to"] == _STATE_OF_PROOF and since <= e["t"] <= line.t]
        facts = {"vm": line.vm, "source": source, "target": line.host}
        if not proofs:
            text = f"{line.vm} starts on {line.host} and no event says that {source}, where it was, is FENCED"
            yield Violation(t=line.t, invariant="start_after_proof", message=text, facts=facts)
        elif proofs[-1]["reason"] not in _RUNGS:
            text = f"{source} is FENCED and the event does not name the rung"
            yield Violation(t=proofs[-1]["t"], invariant="start_after_proof", message=text, facts=facts)


def _came_back(truth: Truth, start: Line, ran: Interval) -> bool:
    """Whether a VM starts on the host that it had migrated from, and which owns it still, after its target ended it (R22).

    Its move was not noted in time, a manager, the store or an agent being away; it may have gone on from one target to another.
    The last has fenced itself, was told to give up what another owns, or has booted since: that one and the owner are alive, have
    said or were seen not to run it.
    """
    booted = any(line.host == ran.host and (ran.end or 0.0) <= line.t <= start.t for line in truth.facts(Fact.HOST_UP))
    if ran.ended_by not in {"self_fencing", "agent"} and not booted:
        return False
    span: Interval | None = ran
    while span is not None and span.cause == "migration":
        left = truth.last_host(start.vm, span.start)
        if (left.host if left else truth.scenario.vm(start.vm).host) == start.host:
            return True
        span = left
    return False


def proof_is_true(truth: Truth) -> Iterator[Violation]:
    """When a host is called FENCED by its fence or its lease, no protected guest runs there."""
    for host, events in truth.host_states.items():
        for event in events:
            if event["to"] != _STATE_OF_PROOF or event["reason"] not in {"FENCE", "LEASE"}:
                continue
            alive = [vm for vm in truth.running_on(host, event["t"]) if truth.ha_of(vm, event["t"])]
            alive = [vm for vm in alive if not _came_since(truth, vm, host, event["t"])]
            if alive:
                text = f"{host} is FENCED ({event['reason']}) while it runs {', '.join(alive)}"
                facts = {"host": host, "vms": alive, "rung": event["reason"]}
                yield Violation(t=event["t"], invariant="proof_is_true", message=text, facts=facts)


def _came_since(truth: Truth, vm: str, host: str, at: float) -> bool:
    """Whether a guest was started on a host by someone else than its owner's protocol: an operator with virsh."""
    return any(s.host == host and s.cause == "operator" and covers(s, at) for s in truth.occupancy[vm])


def no_lock_needed(truth: Truth) -> Iterator[Violation]:
    """No start is attempted while the VM runs elsewhere: storage locks are the second barrier, not the first."""
    for line in truth.facts(Fact.GUEST_CREATED, Fact.LOCKED):
        elsewhere = [host for host in truth.where(line.vm, line.t) if host != line.host]
        if elsewhere and line.cause in {"start", "resume"} and not _operator_or_none(truth, line.vm, line.t):
            text = f"a start of {line.vm} on {line.host} is attempted while it runs on {elsewhere[0]}"
            facts = {"vm": line.vm, "target": line.host, "running_on": elsewhere}
            yield Violation(t=line.t, invariant="no_lock_needed", message=text, facts=facts)


def _operator_or_none(truth: Truth, vm: str, at: float) -> bool:
    """Whether the start rests on a person's word, or on `proof: none`: only locks can save the VM then."""
    before = truth.last_host(vm, at)
    source = before.host if before else truth.scenario.vm(vm).host
    proofs = [e for e in truth.host_states.get(source, ()) if e["to"] == _STATE_OF_PROOF and e["t"] <= at]
    return bool(proofs) and proofs[-1]["reason"] in {"OPERATOR", "NONE"}


def healthy_untouched(truth: Truth) -> Iterator[Violation]:
    """VMs of healthy hosts are untouched, and healthy hosts are not called down."""
    grace = settle_s(truth)
    for line in truth.facts(Fact.GUEST_ENDS):
        if line.cause in {"self_fencing", "agent", "evacuator"} and _undisturbed(truth, line.host, line.t, grace):
            text = f"{line.vm} is destroyed on {line.host} ({line.cause}), which nothing had disturbed"
            facts = {"vm": line.vm, "host": line.host, "cause": line.cause}
            yield Violation(t=line.t, invariant="healthy_untouched", message=text, facts=facts)
    for line in truth.facts(Fact.HOST_DOWN):
        if line.cause in {"fence", "watchdog"} and _undisturbed(truth, line.host, line.t - _TIGHT, grace):
            text = f"{line.host} is switched off ({line.cause}), and nothing had disturbed it"
            yield Violation(t=line.t, invariant="healthy_untouched", message=text, facts={"host": line.host, "cause": line.cause})
    for host, events in truth.host_states.items():
        for event in events:
            if event["to"] == HostState.DOWN.value and _undisturbed(truth, host, event["t"], grace):
                text = f"{host} is called DOWN, and nothing had disturbed it"
                yield Violation(t=event["t"], invariant="healthy_untouched", message=text, facts={"host": host})


def settle_s(truth: Truth) -> float:
    """How long after the last disturbance everything must be as if there had been none."""
    timers = truth.scenario.cluster.config.timers
    return timers.wait_duration_s + timers.lease_duration_s + timers.learning_s + 2 * timers.stream_stale_s + 5.0


def _undisturbed(truth: Truth, host: str, at: float, grace: float) -> bool:
    return host in truth.contact and truth.contact[host].undisturbed(max(0.0, at - grace), at)


def decided_by_leader(truth: Truth) -> Iterator[Violation]:
    """No incident is opened but by the manager that holds the cluster's lease, under its term, with the store there."""
    store_up = True
    for line in truth.facts(Fact.STORE_DOWN, Fact.STORE_UP, Fact.OPENED):
        if line.fact is not Fact.OPENED:
            store_up = line.fact is Fact.STORE_UP
            continue
        detail = line.detail
        facts = {"host": line.host, **detail}
        if not store_up:
            text = f"an incident of {line.host} is opened while the store is down"
            yield Violation(t=line.t, invariant="decided_by_leader", message=text, facts=facts)
        if "holder" in detail and detail["holder"] != detail.get("manager"):
            text = f"an incident of {line.host} is opened by manager {detail.get('manager')}, and {detail['holder']} leads"
            yield Violation(t=line.t, invariant="decided_by_leader", message=text, facts=facts)
        term, held = detail.get("term"), detail.get("term_held")
        if term is not None and held is not None and term < held and not _was_open(truth, line):
            text = f"an incident of {line.host} is opened under term {term}; the newest is {held}"
            yield Violation(t=line.t, invariant="decided_by_leader", message=text, facts=facts)


def _was_open(truth: Truth, line: Line) -> bool:
    """Whether an incident is only written down again: a store that was lost gets back what its leader remembers."""
    states = [event["to"] for event in truth.host_states.get(line.host, ()) if event["t"] <= line.t]
    return bool(states) and states[-1] in _CONFIRMED


def _called_off(truth: Truth, host: str, at: float) -> bool:
    """Whether an operator's word that a host is off stands: it was taken, and the host has not been back since."""
    said = [line.t for line in truth.acts("confirm_off") if line.host == host and line.t <= at]
    ends = [e["t"] for e in truth.host_states.get(host, ()) if e["to"] in _BACK]
    ends += [e["t"] for e in truth.events if e["type"] == "refused" and e["do"] == "confirm_off" and e.get("host") == host]
    return bool(said) and not any(said[-1] <= t <= at for t in ends)


_BACK: Final = frozenset({HostState.HEALTHY.value, HostState.IN_MAINTENANCE.value, HostState.ISOLATED.value})


def decided_after_learning(truth: Truth) -> Iterator[Violation]:
    """A new leader, and a store that was lost, decide nothing for the learning span; but for hosts that a person called off."""
    span = truth.scenario.cluster.config.timers.learning_s * (1 - 0.002)
    since, why = -span, ""
    for line in truth.facts(Fact.LEADS, Fact.STORE_LOST, Fact.OPENED):
        if line.fact is not Fact.OPENED:
            if line.t > 0:
                since, why = line.t, "a new leader began" if line.fact is Fact.LEADS else "the store was lost"
        elif line.t - since < span and not _called_off(truth, line.host, line.t) and not _was_open(truth, line):
            text = f"an incident of {line.host} is opened {line.t - since:.3f} s after {why}"
            yield Violation(t=line.t, invariant="decided_after_learning", message=text, facts={"host": line.host})


def one_start(truth: Truth) -> Iterator[Violation]:
    """No start while a domain of the VM waits on another host that is not proven dead (R15)."""
    waits: dict[tuple[str, str], float] = {}
    for line in truth.facts(Fact.GUEST_CREATED, Fact.GUEST_RUNS, Fact.GUEST_ENDS, Fact.GUEST_DROPPED, Fact.HOST_DOWN):
        if line.fact is Fact.HOST_DOWN:
            waits = {key: since for key, since in waits.items() if key[1] != line.host}
        elif line.fact is not Fact.GUEST_CREATED:
            waits.pop((line.vm, line.host), None)
        elif line.cause in {"start", "resume"}:
            for (vm, host), since in waits.items():
                if vm == line.vm and host != line.host and not _proven(truth, host, since, line.t):
                    text = f"a start of {vm} on {line.host} is attempted while a domain of it waits on {host}"
                    facts = {"vm": vm, "target": line.host, "waits_on": host, "since": since}
                    yield Violation(t=line.t, invariant="one_start", message=text, facts=facts)
            waits[line.vm, line.host] = line.t


def _proven(truth: Truth, host: str, since: float, at: float) -> bool:
    return any(e["to"] == _STATE_OF_PROOF and since <= e["t"] <= at for e in truth.host_states.get(host, ()))


def guarded(truth: Truth) -> Iterator[Violation]:
    """No more hosts are confirmed down at once than the guard allows, but for those that a person called off."""
    states = {host.id: HostState.HEALTHY.value for host in truth.scenario.hosts}
    config = truth.scenario.cluster.config
    for event in truth.events:
        if event["type"] == "evacuation" and event["state"] in _ENDED and event.get("kind") != "DRAIN":
            # The manager tells of each host in its own order: what the evacuator has ended counts from then on.
            states[event["host"]] = HostState.EVACUATED.value
        if event["type"] != "host_state":
            continue
        states[event["host"]] = event["to"]
        if event["to"] != HostState.DOWN.value or _called_off(truth, event["host"], event["t"]):
            continue
        down = sorted(h for h, state in states.items() if state in _CONFIRMED or _long_suspected(truth, h, event["t"]))
        members = sum(state != HostState.EVACUATED.value for state in states.values())
        allowed = max(1, int(config.max_down_fraction * members + _TIGHT)) if members > 2 else 1
        if len(down) > allowed:
            text = f"{event['host']} is DOWN: {len(down)} of {members} hosts at once, {allowed} may be"
            facts = {"host": event["host"], "down": down, "allowed": allowed}
            yield Violation(t=event["t"], invariant="guarded", message=text, facts=facts)


_ENDED: Final = frozenset({"SUCCEEDED", "PARTIALLY_FAILED", "FAILED"})


def _long_suspected(truth: Truth, host: str, at: float) -> bool:
    """Whether a host was under suspicion for a moment before and after: the events of two hosts may change places by less."""
    near = [e["to"] for e in truth.host_states.get(host, ()) if at - _MOMENT_S <= e["t"] <= at + _MOMENT_S]
    before = [e["to"] for e in truth.host_states.get(host, ()) if e["t"] < at - _MOMENT_S]
    return bool(before) and before[-1] in _SUSPECTED and all(state in _SUSPECTED for state in near)


_SUSPECTED: Final = frozenset({HostState.SUSPECT.value, HostState.COOLDOWN.value})
_MOMENT_S: Final = 1.0
_CONFIRMED: Final = frozenset({"DOWN", "FENCING", "FENCE_PENDING", "FENCED", "EVACUATING"})


def returned_host_starts_its_own(truth: Truth) -> Iterator[Violation]:
    """A returned host starts nothing that it does not own: what ran elsewhere meanwhile is not its to start."""
    for line in truth.facts(Fact.GUEST_RUNS):
        if line.cause != "resume":
            continue
        before = truth.last_host(line.vm, line.t)
        if before is None or before.host == line.host or _migrated_unseen(truth, line, before) or _came_back(truth, line, before):
            continue
        if not _claimed(truth, line, before.end):
            text = f"{line.host} starts {line.vm} by itself, which ran on {before.host} last"
            facts = {"vm": line.vm, "host": line.host, "last": before.host}
            yield Violation(t=line.t, invariant="returned_host_starts_its_own", message=text, facts=facts)


def _migrated_unseen(truth: Truth, start: Line, away: Interval) -> bool:
    """Whether the VM left this host by a live migration that no agent of its own saw, and the host that took it was proven dead.

    Nobody could tell that it had left for good: this host still owns it, and the only other that had it is no more (R22).
    """
    here = any(span.host == start.host and span.end == away.start for span in truth.occupancy[start.vm])
    agent = [line for line in truth.facts(Fact.AGENT_UP, Fact.AGENT_DOWN) if line.host == start.host]
    was = [line for line in agent if line.t <= away.start]
    blind = bool(was) and was[-1].fact is Fact.AGENT_DOWN
    saw = any(line.fact is Fact.AGENT_UP and away.start < line.t <= (away.end or start.t) for line in agent)
    proven = any(
        event["to"] == HostState.FENCED.value and away.start <= event["t"] <= start.t
        for event in truth.host_states.get(away.host, ())
    )
    return here and blind and not saw and proven


def _claimed(truth: Truth, start: Line, since: float | None) -> bool:
    """Whether an evacuation made the host the VM's owner after it had last run: it may start what was not admitted in time."""
    claims = (event for event in truth.events if event["type"] == "vm" and event["vm"] == start.vm and event["t"] <= start.t)
    return any(e["target"] == start.host and e["step"] == "CLAIMED" and since is not None and e["t"] >= since for e in claims)


def evacuated_is_true(truth: Truth) -> Iterator[Violation]:
    """EVACUATED is said of a host only when nothing protected runs there and each VM of its evacuation has its outcome."""
    outcomes: dict[tuple[str, str], Mapping[str, Any]] = {}
    losses = [line.t for line in truth.facts(Fact.STORE_LOST)]
    drains = {event["evacuation"] for event in truth.events if event["type"] == "evacuation" and event.get("kind") == "DRAIN"}
    for event in truth.events:
        if losses and losses[0] <= event["t"]:
            # The journal went with the store; the alarm STORE_LOST names the host whose VMs nobody knows any more.
            losses.pop(0)
            outcomes.clear()
        if event["type"] == "vm" and event["evacuation"] not in drains:
            outcomes[event["host"], event["vm"]] = event
        if event["type"] != "host_state" or event["to"] != HostState.EVACUATED.value:
            continue
        host, at = event["host"], event["t"]
        alive = [vm for vm in truth.running_on(host, at) if truth.ha_of(vm, at)]
        if alive:
            text = f"{host} is EVACUATED and runs {', '.join(alive)}"
            yield Violation(t=at, invariant="evacuated_is_true", message=text, facts={"host": host, "vms": alive})
        for (source, vm), said in outcomes.items():
            if source == host and said["outcome"] not in _SETTLED:
                text = f"{host} is EVACUATED and {vm} has the outcome {said['outcome'] or 'OPEN'}"
                yield Violation(t=at, invariant="evacuated_is_true", message=text, facts={"host": host, "vm": vm})


def moved_is_true(truth: Truth) -> Iterator[Violation]:
    """MOVED is said of a VM only when it runs on the target, or did until something happened there."""
    for event in truth.events:
        if event["type"] != "vm" or event["outcome"] != "MOVED" or event["step"] != "SETTLED":
            continue
        vm, target, at = event["vm"], event["target"], event["t"]
        if not any(span.host == target and span.start <= at for span in truth.occupancy.get(vm, ())):
            text = f"{vm} is MOVED to {target} and has never run there"
            yield Violation(t=at, invariant="moved_is_true", message=text, facts={"vm": vm, "target": target})


def one_outcome(truth: Truth) -> Iterator[Violation]:
    """Each VM of an evacuation gets exactly one outcome; in the end a VM that should run and doesn't has a reason."""
    first: dict[tuple[str, str], str] = {}
    for event in truth.events:
        if event["type"] != "vm" or event["outcome"] not in _SETTLED:
            continue
        key = (event["evacuation"], event["vm"])
        if first.setdefault(key, event["outcome"]) != event["outcome"]:
            text = f"{event['vm']} is {event['outcome']} after it was {first[key]} in the same evacuation"
            yield Violation(t=event["t"], invariant="one_outcome", message=text, facts={"vm": event["vm"]})
    for vm, state in truth.final.get("vms", {}).items():
        if state.get("outcome") in {"PENDING", "FAILED", "SKIPPED"} and not state.get("reason"):
            text = f"{vm} ends {state['outcome']} without a reason"
            yield Violation(t=truth.scenario.until, invariant="one_outcome", message=text, facts={"vm": vm, "final": dict(state)})
    for vm in truth.scenario.vms:
        state = truth.final.get("vms", {}).get(vm.id, {})
        if state.get("state") == "shutoff" and not state["reason"] and vm.state == "running" and not _stopped(truth, vm.id):
            text = f"{vm.id} does not run in the end, and nobody stopped it or says why"
            yield Violation(
                t=truth.scenario.until, invariant="one_outcome", message=text, facts={"vm": vm.id, "final": dict(state)}
            )


def _stopped(truth: Truth, vm: str) -> bool:
    """Whether it may be off without a word: somebody stopped it, or both its host and the store forgot that it ran."""
    before = truth.last_host(vm, truth.scenario.until)
    lost_power = any(before is not None and line.host == before.host for line in truth.facts(Fact.HOST_DOWN))
    if lost_power and any(truth.facts(Fact.STORE_LOST)):
        return True
    return truth.is_left_to_people(vm)


def unhandled(truth: Truth) -> Iterator[Violation]:
    """No code of the product ends with an exception that nobody expected."""
    for t, text in truth.errors:
        last = (text.strip().splitlines() or [text])[-1]
        yield Violation(t=t, invariant="unhandled", message=last, facts={"trace": text})


INVARIANTS: Final[Mapping[str, Invariant]] = {
    invariant.__name__: invariant
    for invariant in (
        one_copy,
        start_after_proof,
        proof_is_true,
        no_lock_needed,
        one_start,
        healthy_untouched,
        decided_by_leader,
        decided_after_learning,
        guarded,
        returned_host_starts_its_own,
        evacuated_is_true,
        moved_is_true,
        one_outcome,
        placement_rules.no_target_overloaded,
        placement_rules.hard_rules_kept,
        placement_rules.soft_rules_kept_where_possible,
        recovery.recovered,
        unhandled,
    )
}
"""By name, as RESULT names them."""
