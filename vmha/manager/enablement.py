"""Core: may protection be switched on, and which of its three words describes it (S9-S12)."""

from __future__ import annotations

from collections.abc import Mapping

from vmha.errors import BrokenRule
from vmha.model import HostConfig, ProtectionState

HYPERVISOR = "hypervisor"
TOO_FEW_HOSTS = "At least two hosts are required to enable VM HA."
DIFFERENT_AGGREGATES = (
    "VM HA cannot be enabled because hosts belong to different host aggregates, which prevents cross-host migration."
)


def hypervisors(hosts: Mapping[str, HostConfig]) -> dict[str, HostConfig]:
    """The hosts that count: those with the hypervisor role."""
    return {host_id: config for host_id, config in hosts.items() if HYPERVISOR in config.roles}


def refusals(cluster_id: str, hosts: Mapping[str, HostConfig]) -> list[BrokenRule]:
    """Every rule that stands against switching protection on; empty when it may be.

    Args:
        cluster_id: For the rules' subject.
        hosts: The cluster's hosts by id.
    """
    subject = f"clusters/{cluster_id}"
    counted = hypervisors(hosts)
    broken = []
    if len(counted) < 2:
        broken.append(BrokenRule("MIN_HOSTS", subject, TOO_FEW_HOSTS))
    if not _one_aggregate(counted):
        broken.append(BrokenRule("DIFFERENT_AGGREGATES", subject, DIFFERENT_AGGREGATES))
    return broken


def _one_aggregate(hosts: Mapping[str, HostConfig]) -> bool:
    """S11: all hosts share an aggregate (some may be in further ones), or none is in any."""
    sets = [set(config.aggregates) for config in hosts.values()]
    return not any(sets) or bool(set.intersection(*sets))


def protection_state(enabled: bool, hosts: Mapping[str, HostConfig]) -> ProtectionState:
    """S12: Disabled; Waiting while there are fewer than two hypervisor hosts; Active."""
    if not enabled:
        return ProtectionState.DISABLED
    return ProtectionState.ACTIVE if len(hypervisors(hosts)) >= 2 else ProtectionState.WAITING
