"""Core: what stands against protecting a cluster, or should be known before: the words that the rules of enablement share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from vmha.facts import HostFacts
from vmha.manager.clock_check import ClockReading
from vmha.model import ClusterConfig
from vmha.store.records import ClusterSnapshot, HostRecord, VmRecord

HYPERVISOR: Final = "hypervisor"
SHOWN: Final = 5
"""Names that a sentence lists before it says how many more there are."""
KEPT: Final = 50
"""Findings of one type that are told one by one; the rest is counted."""


class Severity(StrEnum):
    """What a finding means for EnableCluster."""

    REFUSES = "REFUSES"
    WARNS = "WARNS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One prerequisite that is not met (S13).

    Attributes:
        type: UPPER_SNAKE_CASE; docs/enablement.md has each.
        subject: What it is about: clusters/c1, hosts/h2, vms/<vm_id>, aggregates/a.
        description: What is wrong, for people.
        remedy: What an operator does about it.
    """

    type: str
    severity: Severity
    subject: str
    description: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What only the running managers know, not the store.

    Attributes:
        without_agent: Hosts whose agent is not heard.
        clocks: By host; only the leader has them.
        led: Some manager leads the cluster.
        learning: The leader takes evidence in and confirms nothing yet.
    """

    without_agent: frozenset[str] = frozenset()
    clocks: Mapping[str, ClockReading] = field(default_factory=dict)
    led: bool = True
    learning: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A cluster as its rules look at it.

    Attributes:
        hypervisors: The hosts that count: those with the hypervisor role.
        protected: VMs whose metadata does not switch their protection off. Shut-off ones, too: they may be started at any time.
        others: The other clusters, for rules that reach beyond one.
        running: None: not known.
    """

    snapshot: ClusterSnapshot
    hypervisors: Mapping[str, HostRecord]
    protected: Sequence[VmRecord]
    others: Sequence[ClusterSnapshot] = ()
    running: Running | None = None

    @property
    def config(self) -> ClusterConfig:
        """The cluster's settings."""
        return self.snapshot.cluster.config

    @property
    def subject(self) -> str:
        """The cluster, as a finding names it."""
        return f"clusters/{self.snapshot.cluster.cluster_id}"

    @property
    def known(self) -> dict[str, HostFacts]:
        """What is known of those hypervisors that have reported."""
        return {host_id: host.facts for host_id, host in self.hypervisors.items() if host.facts is not None}

    @property
    def all_known(self) -> bool:
        """Whether every hypervisor has reported: what is said of none of them is true then."""
        return all(host.facts is not None for host in self.hypervisors.values())

    def with_role(self, role: str) -> list[str]:
        """The hosts that have a role."""
        return [host_id for host_id, host in self.snapshot.hosts.items() if role in host.config.roles]


Rule = Callable[[Case], Iterator[Finding]]


def refuses(type_: str, subject: str, description: str, remedy: str) -> Finding:
    """A finding that keeps protection off."""
    return Finding(type=type_, severity=Severity.REFUSES, subject=subject, description=description, remedy=remedy)


def warns(type_: str, subject: str, description: str, remedy: str) -> Finding:
    """A finding that protection may be switched on with."""
    return Finding(type=type_, severity=Severity.WARNS, subject=subject, description=description, remedy=remedy)


def listed(names: Iterable[str]) -> str:
    """Names for a sentence."""
    known = list(names)
    more = len(known) - SHOWN
    return ", ".join(known[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def bounded(findings: Iterable[Finding], cluster_id: str) -> list[Finding]:
    """The findings, those of a type that has very many counted from the fiftieth on."""
    kept: list[Finding] = []
    seen: Counter[tuple[str, Severity]] = Counter()
    for finding in findings:
        seen[finding.type, finding.severity] += 1
        if seen[finding.type, finding.severity] <= KEPT:
            kept.append(finding)
    for (type_, severity), count in seen.items():
        if count > KEPT:
            last = max(place for place, finding in enumerate(kept) if (finding.type, finding.severity) == (type_, severity))
            text, remedy = f"And {count - KEPT} more like these.", kept[last].remedy
            more = Finding(type=type_, severity=severity, subject=f"clusters/{cluster_id}", description=text, remedy=remedy)
            kept.insert(last + 1, more)
    return kept
