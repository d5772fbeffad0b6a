"""Questions about the ground truth of a run: who ran where, who had power, who could talk to whom. Pure."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from vmha.sim.history import Fact, Line
from vmha.sim.network import Network
from vmha.sim.result import Interval, occupancy
from vmha.sim.scenario import Scenario

NEVER: Final = -math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """An invariant that broke, when, and the facts that show it."""

    t: float
    invariant: str
    message: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def entry(self) -> dict[str, Any]:
        """As RESULT has it."""
        return {"t": self.t, "invariant": self.invariant, "message": self.message, "facts": dict(self.facts)}


@dataclass(frozen=True, kw_only=True)
class Truth:
    """A finished run, as the invariants look at it.

    Attributes:
        lines: The history, in order.
        events: The events of RESULT, in order.
        final: `final` of RESULT.
        errors: What broke in the product's own code: (time, text).
    """

    scenario: Scenario
    lines: Sequence[Line]
    events: Sequence[Mapping[str, Any]]
    final: Mapping[str, Any] = field(default_factory=dict)
    errors: Sequence[tuple[float, str]] = ()

    @cached_property
    def occupancy(self) -> Mapping[str, Sequence[Interval]]:
        """Each VM's intervals, in order."""
        return occupancy(self.lines)

    @cached_property
    def host_states(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Each host's `host_state` events, in order."""
        found: dict[str, list[Mapping[str, Any]]] = {}
        for event in self.events:
            if event["type"] == "host_state":
                found.setdefault(event["host"], []).append(event)
        return found

    def facts(self, *facts: Fact) -> Iterable[Line]:
        """The lines that say one of these."""
        return (line for line in self.lines if line.fact in facts)

    def acts(self, *names: str) -> Iterable[Line]:
        """The acts of the timeline with one of these names."""
        return (line for line in self.lines if line.fact is Fact.ACT and line.cause in names)

    def running_on(self, host: str, at: float) -> list[str]:
        """The VMs whose guest ran on a host at an instant."""
        return [vm for vm, spans in self.occupancy.items() if any(s.host == host and covers(s, at) for s in spans)]

    def where(self, vm: str, at: float) -> list[str]:
        """The hosts on which a VM's guest ran at an instant."""
        return [span.host for span in self.occupancy.get(vm, ()) if covers(span, at)]

    def last_host(self, vm: str, before: float) -> Interval | None:
        """The last interval of a VM that began before an instant."""
        return next((span for span in reversed(self.occupancy.get(vm, ())) if span.start < before), None)

    def ha_of(self, vm: str, at: float) -> bool:
        """Whether the VM's own protection was on at an instant."""
        said = [line.detail.get("ha") for line in self.acts("vm_ha") if line.vm == vm and line.t <= at]
        return bool(said[-1]) if said else self.scenario.vm(vm).ha

    def is_left_to_people(self, vm: str) -> bool:
        """Whether it may be off without more ado: somebody has paused, stopped or deleted it, or it was never to be protected."""
        return (
            any(line.vm == vm for line in self.acts("vm_pause", "vm_stop", "vm_delete", "vm_ha")) or not self.scenario.vm(vm).ha
        )

    @cached_property
    def contact(self) -> Mapping[str, Contact]:
        """For each host, when it was in undisturbed contact with a leader."""
        return {host.id: Contact.of(self, host.id) for host in self.scenario.hosts}


def covers(span: Interval, at: float) -> bool:
    """Whether an instant lies in a half open interval."""
    return span.start <= at and (span.end is None or at < span.end)


_HURTS: Final = frozenset(
    {
        "crash", "reboot", "isolate", "partition", "link", "agent_stop", "hypervisor_hang", "manager_crash", "store_down",
        "store_flush", "clock_rate", "liar", "exporter_stop", "goodbye", "evac_crash", "ha_disable",
    }
)  # fmt: skip
"""Acts after which a cluster is not undisturbed any more, whomever they name, until it was left alone for long enough."""

_OF_ONE_HOST: Final = frozenset({"crash", "reboot", "agent_stop", "hypervisor_hang", "goodbye", "exporter_stop", "clock_rate"})


@dataclass(frozen=True, slots=True)
class Contact:
    """The spans in which nothing at all disturbed a host: sorted, half open.

    It is narrow on purpose: while any fault of the network stands, nobody counts as undisturbed.
    """

    spans: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, truth: Truth, host: str) -> Contact:
        """Finds them for one host."""
        faults = _Faults(truth.scenario, host)
        spans: list[tuple[float, float]] = []
        quiet_since: float | None = 0.0
        for line in truth.lines:
            faults.take(line)
            if line.fact is Fact.ACT and line.cause in _HURTS and faults.touched_by(line):
                if quiet_since is not None:
                    spans.append((quiet_since, line.t))
                quiet_since = line.t
            if faults.standing and quiet_since is not None:
                spans.append((quiet_since, line.t))
                quiet_since = None
            elif not faults.standing and quiet_since is None:
                quiet_since = line.t
        if quiet_since is not None:
            spans.append((quiet_since, math.inf))
        return cls(tuple(span for span in spans if span[0] < span[1]))

    def undisturbed(self, start: float, end: float) -> bool:
        """Whether nothing disturbed it in [start, end]."""
        i = bisect_right(self.spans, (start, math.inf)) - 1
        return i >= 0 and self.spans[i][0] <= start and end < self.spans[i][1]


class _Faults:
    """What is wrong for one host right now; of the network, as the simulated one is told of it."""

    def __init__(self, scenario: Scenario, host: str) -> None:
        self.host = host
        self._own: set[str] = set()
        self._managers_down: set[str] = set()
        self._managers = scenario.managers
        self._network = Network([host.id for host in scenario.hosts], scenario.managers, random.Random(0))

    @property
    def standing(self) -> bool:
        """Whether anything is. A replica that is down is nothing while another one is there to lead."""
        return bool(self._own) or len(self._managers_down) == self._managers or not self._network.whole

    def touched_by(self, line: Line) -> bool:
        """Whether an act can matter to this host at all: what happens to another alone does not."""
        return line.cause not in _OF_ONE_HOST or line.host == self.host

    def take(self, line: Line) -> None:
        """Follows the history."""
        match line.fact:
            case Fact.MANAGER_DOWN:
                self._managers_down.add(str(line.detail.get("manager")))
            case Fact.MANAGER_UP:
                self._managers_down.discard(str(line.detail.get("manager")))
            case Fact.STORE_DOWN | Fact.STORE_UP:
                self._set("store", line.fact is Fact.STORE_DOWN)
            case Fact.HOST_DOWN | Fact.HOST_UP if line.host == self.host:
                self._set("power", line.fact is Fact.HOST_DOWN)
                # A host that boots has a libvirt that answers.
                self._own.discard("hang")
            case Fact.AGENT_DOWN | Fact.AGENT_UP if line.host == self.host:
                self._set("agent", line.fact is Fact.AGENT_DOWN)
            case Fact.ACT:
                self._act(line)

    def _set(self, what: str, stands: bool) -> None:
        (self._own.add if stands else self._own.discard)(what)

    def _act(self, line: Line) -> None:
        said, network = line.detail, self._network
        match line.cause:
            case "isolate":
                network.isolate(said["hosts"], said["plane"])
            case "heal":
                network.heal(said["hosts"], said["plane"])
            case "partition":
                network.partition(said["sides"])
            case "link":
                network.link(str(said["from"]), str(said["to"]), float(said["loss"]))
            case "heal_all":
                network.heal_all()
            case "clock_rate" if line.host == self.host:
                self._set("clock", abs(said["rate"] - 1.0) > 0.001)
            case "hypervisor_hang" | "hypervisor_resume" if line.host == self.host:
                self._set("hang", line.cause == "hypervisor_hang")
