"""Core: may protection be switched on, and which of its three words describes it (S9-S14, S26).

Every prerequisite is looked at, and all that are not met are named at once. One that no failover could ever keep its promise
with refuses; what leaves a way, or may change by itself, warns (docs/enablement.md). What is not known never refuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from vmha.manager import capability_rules, condition_rules, storage_rules
from vmha.manager.findings import HYPERVISOR, Case, Finding, Rule, Running, listed, refuses, warns
from vmha.model import HostConfig, ProtectionState
from vmha.store.records import ClusterSnapshot, VmRecord

TOO_FEW_HOSTS: Final = "At least two hosts are required to enable VM HA."
DIFFERENT_AGGREGATES: Final = (
    "VM HA cannot be enabled because hosts belong to different host aggregates, which prevents cross-host migration."
)


def hypervisors(hosts: Mapping[str, HostConfig]) -> dict[str, HostConfig]:
    """The hosts that count: those with the hypervisor role."""
    return {host_id: config for host_id, config in hosts.items() if HYPERVISOR in config.roles}


def protection_state(enabled: bool, hosts: Mapping[str, HostConfig]) -> ProtectionState:
    """S12: Disabled; Waiting while there are fewer than two hypervisor hosts; Active."""
    if not enabled:
        return ProtectionState.DISABLED
    return ProtectionState.ACTIVE if len(hypervisors(hosts)) >= 2 else ProtectionState.WAITING


def check(
    snapshot: ClusterSnapshot,
    vms: Sequence[VmRecord],
    *,
    others: Sequence[ClusterSnapshot] = (),
    running: Running | None = None,
) -> list[Finding]:
    """Everything that stands against protecting a cluster, or should be known before; what refuses comes first.

    Args:
        snapshot: The cluster.
        vms: All of its VMs.
        others: The other clusters: an aggregate does not span clusters (S11).
        running: What the store does not know; None leaves those rules out.
    """
    case = Case(
        snapshot=snapshot,
        hypervisors={host_id: host for host_id, host in snapshot.hosts.items() if HYPERVISOR in host.config.roles},
        protected=[vm for vm in vms if vm.facts.ha_enabled],
        others=others,
        running=running,
    )
    found = [finding for rule in RULES for finding in rule(case)]
    return sorted(found, key=lambda finding: finding.severity)


def passed(snapshot: ClusterSnapshot, findings: Sequence[Finding]) -> dict[str, str]:
    """The types of which it is known that there is no finding, and what is true then."""
    found = {finding.type for finding in findings} | set(unknown(snapshot, findings))
    return {type_: words for type_, words in TYPES.items() if type_ not in found}


def unknown(snapshot: ClusterSnapshot, findings: Sequence[Finding]) -> list[str]:
    """The types of which there is no finding so far, but some host has not reported what it has."""
    if all(host.facts is not None for host in snapshot.hosts.values() if HYPERVISOR in host.config.roles):
        return []
    found = {finding.type for finding in findings}
    return [type_ for type_ in TYPES if type_ not in found and type_ not in WITHOUT_REPORTS]


def _two_hosts(case: Case) -> Iterator[Finding]:
    """S10."""
    if len(case.hypervisors) < 2:
        yield refuses("MIN_HOSTS", case.subject, TOO_FEW_HOSTS, "Add hosts with the role hypervisor.")


def _one_aggregate(case: Case) -> Iterator[Finding]:
    """S11: all hosts share an aggregate (some may be in further ones), or none is in any."""
    sets = [set(host.config.aggregates) for host in case.hypervisors.values()]
    if any(sets) and not set.intersection(*sets):
        remedy = "Put all hosts into one aggregate, or take all of them out of theirs."
        yield refuses("AGGREGATES_DIFFER", case.subject, DIFFERENT_AGGREGATES, remedy)


def _own_aggregates(case: Case) -> Iterator[Finding]:
    """S11: an aggregate does not span clusters."""
    ours = sorted({name for host in case.hypervisors.values() for name in host.config.aggregates})
    for name in ours:
        elsewhere = sorted(
            f"{host_id} of {other.cluster.cluster_id}"
            for other in case.others
            for host_id, host in other.hosts.items()
            if HYPERVISOR in host.config.roles and name in host.config.aggregates
        )
        if elsewhere:
            text = f"Aggregate {name} spans clusters: it also holds {listed(elsewhere)}."
            remedy = "Give each cluster aggregates of its own names."
            yield refuses("AGGREGATE_SPANS_CLUSTERS", f"aggregates/{name}", text, remedy)


def _demanded_aggregates(case: Case) -> Iterator[Finding]:
    """S13: an aggregate that a protected VM demands has two hosts here."""
    demands: dict[tuple[str, ...], list[str]] = {}
    for vm in case.protected:
        if vm.facts.aggregates:
            demands.setdefault(tuple(sorted(vm.facts.aggregates)), []).append(vm.name)
    for wanted, names in sorted(demands.items()):
        inside = [host_id for host_id, host in case.hypervisors.items() if set(wanted) <= set(host.config.aggregates)]
        if len(inside) < 2:
            held = f"Only {inside[0]}" if inside else "No host"
            text = f"{held} of this cluster is in {' and '.join(wanted)}, as is demanded by {listed(names)}: it could go nowhere."
            remedy = "Put a second host into it, or drop the demand or the protection in the VM's metadata."
            yield refuses("AGGREGATE_TOO_SMALL", f"aggregates/{','.join(wanted)}", text, remedy)


def _operating_system(case: Case) -> Iterator[Finding]:
    """S13, S14: VMs are not placed across versions, so a host that is alone with its own has no target for its VMs."""
    groups: dict[str, list[str]] = {}
    for host_id, facts in case.known.items():
        if facts.operating_system:
            groups.setdefault(facts.operating_system, []).append(host_id)
    if len(groups) < 2:
        return
    said = "; ".join(f"{version} on {listed(hosts)}" for version, hosts in sorted(groups.items()))
    alone = sorted(hosts[0] for hosts in groups.values() if len(hosts) == 1)
    text = f"Hosts run different operating-system versions, and VMs are not placed across them: {said}."
    remedy = "Upgrade with protection off: drain one host, upgrade it, take the next; enable when all run one version."
    if alone and sum(map(len, groups.values())) == len(case.hypervisors):
        text = f"{text[:-1]}. VMs of {listed(alone)} could go nowhere."
        yield refuses("OS_VERSIONS_DIFFER", case.subject, text, remedy)
    else:
        yield warns("OS_VERSIONS_DIFFER", case.subject, text, remedy)


def _no_devices(case: Case) -> Iterator[Finding]:
    """S26."""
    for vm in case.protected:
        if vm.facts.has_passthrough:
            text = f"{vm.name} has a passed-through device of its host. GPU clusters: enabling is refused."
            remedy = 'Detach the device, or switch the VM\'s own protection off in its metadata (ha="off").'
            yield refuses("GPU", f"vms/{vm.vm_id}", text, remedy)


RULES: Final[tuple[Rule, ...]] = (
    _two_hosts,
    _one_aggregate,
    _own_aggregates,
    _demanded_aggregates,
    _operating_system,
    _no_devices,
    *storage_rules.RULES,
    *capability_rules.RULES,
    *condition_rules.RULES,
)
TYPES: Final[Mapping[str, str]] = {
    "MIN_HOSTS": "there are two hypervisor hosts",
    "AGGREGATES_DIFFER": "all hosts share an aggregate, or none is in any",
    "AGGREGATE_SPANS_CLUSTERS": "no aggregate has hosts of another cluster",
    "AGGREGATE_TOO_SMALL": "each aggregate that a VM demands has two hosts",
    "OS_VERSIONS_DIFFER": "hosts report one operating-system version",
    "GPU": "no protected VM has a passed-through device",
    **storage_rules.TYPES,
    **capability_rules.TYPES,
    **condition_rules.TYPES,
}
"""Every type of finding, in the order in which an operator would ask, and what is true where there is none of it."""
WITHOUT_REPORTS: Final = (
    frozenset({"MIN_HOSTS", "AGGREGATES_DIFFER", "AGGREGATE_SPANS_CLUSTERS"}) | condition_rules.WITHOUT_REPORTS
)
"""Types that need no agent's report: the configuration or the management plane says it."""
