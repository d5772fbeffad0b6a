"""Core: rules on the state that agents, proof, clocks and the store are in. All of them warn: they change by themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from vmha import __version__
from vmha.facts import HostFacts
from vmha.manager.findings import Case, Finding, Rule, listed, warns
from vmha.model import ProofPolicy, SelfFencing
from vmha.store.records import HostRecord


def _proof(case: Case) -> Iterator[Finding]:
    """What could prove the death of a host (design section 5.3). An operator always can: it warns."""
    if case.config.proof is ProofPolicy.NONE:
        text = "proof is set to none: storage locks alone keep a VM from running twice."
        yield warns("PROOF_NONE", case.subject, text, "Set proof to ladder, unless all disks are under locks that hold.")
        return
    for host_id, host in case.hypervisors.items():
        if host.config.fence is None and not _stops_itself(case, host):
            text = f"{host_id} has no fence device and does not stop its VMs by itself: only an operator's word proves its death."
            remedy = "Configure a fence device, or self-fencing in the cluster and on the agent."
            yield warns("HOST_WITHOUT_FENCE", f"hosts/{host_id}", text, remedy)


def _stops_itself(case: Case, host: HostRecord) -> bool:
    """Whether its lease will prove something. An agent's own setting shows only while it is protected."""
    cluster = case.snapshot.cluster
    if cluster.config.self_fencing is SelfFencing.OFF:
        return False
    told = cluster.ha_enabled and _registered(host) and host.config_confirmed >= cluster.config_version
    return host.self_fencing or not told


def _registered(host: HostRecord) -> bool:
    return host.incarnation > 0 and not host.incarnation_revoked


def _agents(case: Case) -> Iterator[Finding]:
    """S1, S13: each host's agent is there, and has said what is needed. One finding a host: the first that explains the rest."""
    without = case.running.without_agent if case.running else frozenset()
    for host_id, host in case.hypervisors.items():
        subject = f"hosts/{host_id}"
        if host_id in without:
            text = f"No live agent on {host_id}: it is not protected, and no target."
            yield warns("AGENT_MISSING", subject, text, "Start the agent there; look at its log.")
        elif not _registered(host):
            text = f"{host_id} has no registration in force: it is no target."
            yield warns("NOT_REGISTERED", subject, text, f"Its agent registers by itself; `vmha host explain {host_id}`.")
        elif host.facts is None:
            text = f"The agent of {host_id} has not reported yet what the host has: nothing can be checked of it."
            yield warns("FACTS_UNKNOWN", subject, text, "Wait for its first report; look at the agent's log.")
        elif host.config_confirmed < case.snapshot.cluster.config_version:
            text = f"{host_id} does not hold the newest configuration of the safety protocol yet: it is no target until it does."
            yield warns("CONFIG_UNCONFIRMED", subject, text, "It takes it up with its next heartbeats; look at the agent's log.")


def _versions(case: Case) -> Iterator[Finding]:
    releases = _by(case, lambda facts: facts.agent_version)
    if releases.keys() - {__version__}:
        text = f"Agents and manager ({__version__}) are of different releases: {_said(releases)}."
        yield warns("AGENT_VERSIONS_DIFFER", case.subject, text, "Bring all agents to the manager's release.")
    stacks = _by(case, lambda facts: " with ".join(filter(None, (facts.libvirt_version, facts.hypervisor_version))))
    if len(stacks) > 1:
        text = f"Hosts have different libvirt or hypervisor versions: {_said(stacks)}. A VM may not start on an older one."
        yield warns("LIBVIRT_VERSIONS_DIFFER", case.subject, text, "Bring all hosts to the same versions.")


def _by(case: Case, read: Callable[[HostFacts], str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for host_id, facts in case.known.items():
        if said := read(facts):
            found.setdefault(said, []).append(host_id)
    return found


def _said(groups: dict[str, list[str]]) -> str:
    return "; ".join(f"{said} on {listed(hosts)}" for said, hosts in sorted(groups.items()))


def _clocks(case: Case) -> Iterator[Finding]:
    for host_id, clock in sorted(case.running.clocks.items() if case.running else ()):
        if not clock.sane:
            text = f"The clock of {host_id} runs faster or slower than the manager's: its lease proves nothing for an hour."
            yield warns("CLOCK_SUSPECT", f"hosts/{host_id}", text, "Look at the host's clock source, and at the manager's own.")


def _management(case: Case) -> Iterator[Finding]:
    cluster, running = case.snapshot.cluster, case.running
    if cluster.safe_mode:
        text = f"The store was lost: nothing is started before these hosts have said what they run: {listed(cluster.awaited)}."
        yield warns("SAFE_MODE", case.subject, text, "Start their agents, or `vmha host confirm-off` those that are off.")
    if running is not None and not running.led:
        text = "No manager leads this cluster at the moment: nothing is decided."
        yield warns("NO_LEADER", case.subject, text, "One takes over within seconds, where one runs and reaches Redis.")
    elif running is not None and running.learning:
        text = "The manager is learning: it takes evidence in, and confirms no failure yet."
        yield warns("LEARNING", case.subject, text, "It ends by itself after learning_s.")


RULES: Final[tuple[Rule, ...]] = (_proof, _agents, _versions, _clocks, _management)
TYPES: Final = {
    "PROOF_NONE": "a host's death is proven before its VMs start elsewhere",
    "HOST_WITHOUT_FENCE": "each host has a fence device, or stops its VMs by itself",
    "AGENT_MISSING": "each host's agent is heard",
    "NOT_REGISTERED": "each host that is heard is registered",
    "FACTS_UNKNOWN": "each host that is registered has reported what it has",
    "CONFIG_UNCONFIRMED": "they hold the newest safety configuration",
    "AGENT_VERSIONS_DIFFER": "agents and manager are of one release",
    "LIBVIRT_VERSIONS_DIFFER": "hosts have one version of libvirt and hypervisor",
    "CLOCK_SUSPECT": "no clock was found to run wrong",
    "SAFE_MODE": "the store has lost nothing",
    "LEARNING": "the manager has learnt what it needs",
    "NO_LEADER": "a manager leads",
}
WITHOUT_REPORTS: Final = frozenset(TYPES) - {"AGENT_VERSIONS_DIFFER", "LIBVIRT_VERSIONS_DIFFER"}
