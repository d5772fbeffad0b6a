"""What the manager remembers of one cluster: the newest records of the store, and what concerns this run alone.

Redis may go away, or come back empty: sessions are served from here, and lost configuration is restored from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from vmha.manager.session_messages import HYPERVISOR
from vmha.model import Group
from vmha.store.records import ClusterRecord, ClusterSnapshot, HostRecord, Incident, SafetyConfig

DEPARTED: Final = 1000
"""Hosts that left the cluster and are still remembered: late reports may name them."""


@dataclass(slots=True, kw_only=True)
class ClusterMemory:
    """Mutable; touched by the event loop's one thread only, and never across an await in the middle of a change.

    Attributes:
        incidents: Open incidents by host.
        deciding: Hosts whose confirmation is on its way to the store: R17 holds their heartbeats back until it is known.
        undelivered: Hosts whose registration was completed, but that have not shown yet that they got the ownership update.
        planned_boots: host_id to the boot in which it announced its shutdown.
        departed: Hosts that were removed, oldest first.
        configs: The numbered configurations that some host may hold (R18).
        entering: Safe mode holds already, and its way to the store is not over.
        told: The store's generation at its last answer to this run: a snapshot from before it must not take that back.
    """

    cluster: ClusterRecord
    hosts: dict[str, HostRecord]
    groups: dict[str, Group]
    incidents: dict[str, Incident] = field(default_factory=dict)
    deciding: set[str] = field(default_factory=set)
    undelivered: dict[str, int] = field(default_factory=dict)
    registered_boots: dict[str, str] = field(default_factory=dict)
    planned_boots: dict[str, str] = field(default_factory=dict)
    departed: dict[str, None] = field(default_factory=dict)
    configs: dict[int, SafetyConfig] = field(default_factory=dict)
    told: int = 0
    entering: bool = False

    @classmethod
    def of(cls, snapshot: ClusterSnapshot) -> ClusterMemory:
        """A memory of a cluster that was just read."""
        memory = cls(
            cluster=snapshot.cluster, hosts=dict(snapshot.hosts), groups=dict(snapshot.groups), configs=dict(snapshot.configs)
        )
        for host in snapshot.hosts.values():
            if host.undelivered and not host.incarnation_revoked:
                memory.undelivered[host.host_id] = host.incarnation
        return memory

    @property
    def config(self) -> SafetyConfig | None:
        """The newest configuration of the safety protocol; None before the first one is on record."""
        return self.configs.get(self.cluster.config_version)

    def put_cluster(self, snapshot: ClusterSnapshot) -> None:
        """Take in a newer state of the cluster itself; one that was read before the store's last answer only updates the rest."""
        old, new = self.cluster, snapshot.cluster
        if new.store_generation < self.told:
            self.cluster = replace(new, config_version=old.config_version, awaited=old.awaited)
            return
        self.cluster, self.configs = new, dict(snapshot.configs)
        if self.entering:
            self.cluster = replace(new, awaited=old.awaited)

    def put_configs(self, record: ClusterRecord, configs: Mapping[int, SafetyConfig]) -> None:
        """The store's answer to a change of the configurations or of safe mode.

        The generation stays what the last snapshot said: one that is read just now must not look older than that.
        """
        self.told = max(self.told, record.store_generation)
        self.configs = dict(configs)
        self.cluster = replace(self.cluster, config_version=record.config_version, awaited=record.awaited)

    @property
    def hypervisors(self) -> list[str]:
        """The hosts that run VMs, sorted."""
        return sorted(host_id for host_id, host in self.hosts.items() if HYPERVISOR in host.config.roles)

    def in_force(self, host_id: str, incarnation: int) -> bool:
        """Whether a registration counts: R17 never acknowledges one that was revoked."""
        host = self.hosts.get(host_id)
        return host is not None and 0 < incarnation == host.incarnation and not host.incarnation_revoked

    def put_host(self, record: HostRecord) -> None:
        """Take in a record of the store; one that was read before a newer registration or failure only updates the rest."""
        known = self.hosts.get(record.host_id)
        if known is not None and _age(known) > _age(record):
            record = replace(
                record,
                incarnation=known.incarnation,
                incarnation_revoked=known.incarnation_revoked,
                fence_epoch=known.fence_epoch,
                incident_id=known.incident_id,
                boot_id=known.boot_id,
            )
        if known is not None:
            # A host's configurations only ever become newer.
            record = replace(
                record,
                config_sent=max(known.config_sent, record.config_sent),
                config_confirmed=max(known.config_confirmed, record.config_confirmed),
            )
        self.hosts[record.host_id] = record

    def put_registration(self, host_id: str, incarnation: int, boot_id: str) -> bool:
        """A registration came in force. Whether it still is: answers may come in another order than decisions were made (R17)."""
        known = self.hosts.get(host_id)
        if known is None or (known.incarnation_revoked and known.incarnation >= incarnation):
            return False
        self.hosts[host_id] = replace(known, incarnation=incarnation, incarnation_revoked=False, boot_id=boot_id)
        self.registered_boots[host_id] = boot_id
        self.undelivered[host_id] = incarnation
        return True

    def put_incident(self, incident: Incident) -> None:
        """A host was confirmed down: its registration is over."""
        self.incidents[incident.host_id] = incident
        self.registered_boots.pop(incident.host_id, None)
        known = self.hosts.get(incident.host_id)
        if known is not None:
            self.hosts[incident.host_id] = replace(
                known,
                incarnation=max(known.incarnation, incident.incarnation),
                incarnation_revoked=True,
                fence_epoch=incident.fence_epoch,
                incident_id=incident.incident_id,
            )

    def forget_host(self, host_id: str) -> None:
        """A host left the cluster."""
        self.hosts.pop(host_id, None)
        for table in (self.incidents, self.undelivered, self.registered_boots, self.planned_boots):
            table.pop(host_id, None)
        self.departed[host_id] = None
        while len(self.departed) > DEPARTED:
            self.departed.pop(next(iter(self.departed)))


def _age(record: HostRecord) -> tuple[int, int]:
    return record.incarnation, record.fence_epoch
