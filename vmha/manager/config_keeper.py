"""Keeps the numbered configurations of the safety protocol: who votes, and by which constants (R18).

A configuration is durable under a number of its own before anybody is sent it, and so is to whom it is sent; what a host says it
holds is durable soon after. So any manager knows which configurations a host may hold: from its last confirmed to its last sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from vmha.errors import Aborted
from vmha.manager import committee
from vmha.manager.contact import VoterSet
from vmha.manager.host_queues import HostQueues
from vmha.manager.memory import ClusterMemory
from vmha.model import HostState, SelfFencing
from vmha.store import Store
from vmha.store.records import HostRecord, SafetyConfig

CONSTANTS: Final = (
    "heartbeat_interval_s",
    "relay_after_s",
    "contact_ttl_s",
    "certificate_window_s",
    "attest_after_s",
    "ack_max_age_s",
    "lease_duration_s",
    "kill_timeout_s",
    "wait_duration_s",
    "request_interval_s",
)
"""The timers that a configuration binds; any other one may change without a new number."""
SETTLES_S: Final = 1.0
"""Changes that come this close after one another share a number: a cluster that comes up has not one for each host."""


class ConfigKeeper:
    """Makes and counts the configurations of one cluster.

    Args:
        connected: The hosts that a new configuration is sent to at once.
        made: Told when there is a new one, or when more hosts may be sent the newest one.
    """

    def __init__(
        self,
        store: Store,
        memory: ClusterMemory,
        queues: HostQueues,
        *,
        connected: Callable[[], Iterable[str]],
        made: Callable[[], None],
    ) -> None:
        self._store = store
        self._memory = memory
        self._queues = queues
        self._connected = connected
        self._made = made
        self._highest_seen = 0
        self._asked = False
        self._timer: asyncio.TimerHandle | None = None

    def review(self) -> None:
        """The members, the settings or the state of a host may have changed: make a new configuration where they did."""
        if self._asked or content(self._memory) == self._memory.config:
            return
        self._asked = True
        heartbeat_s = self._memory.cluster.config.timers.heartbeat_interval_s
        delay_s = min(SETTLES_S, heartbeat_s) if self._memory.config is not None else 0.0
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._queue)

    def close(self) -> None:
        """Make no more."""
        self._asked = True
        if self._timer is not None:
            self._timer.cancel()

    def admit(self, host_id: str) -> None:
        """A host opened its session: it may be sent the newest configuration once that is on record."""

        async def record() -> None:
            version, known = self._memory.cluster.config_version, self._memory.hosts.get(host_id)
            if known is None or self._memory.config is None or known.config_sent >= version:
                return
            self._memory.put_host(await self._store.hosts.note(self._memory.cluster.cluster_id, host_id, config_sent=version))
            self._made()

        self._queues.put(host_id, record, until_done=True, fact="config_sent")

    def confirmed(self, host_id: str, version: int) -> bool:
        """A host said which configuration it holds; whether that is news. Others than it was sent it cannot hold."""
        known = self._memory.hosts.get(host_id)
        self._highest_seen = max(self._highest_seen, version)
        if known is None or not known.config_confirmed < version <= known.config_sent or version not in self._memory.configs:
            return False
        self._memory.hosts[host_id] = replace(known, config_confirmed=version)

        async def record() -> None:
            await self._store.hosts.note(self._memory.cluster.cluster_id, host_id, config_confirmed=version)

        self._queues.put(host_id, record, until_done=True, fact="config_confirmed")
        return True

    def _queue(self) -> None:
        self._queues.put("", self._make, until_done=True)

    async def _make(self) -> None:
        memory = self._memory
        wanted, hosts = content(memory), sorted(self._connected())
        self._asked = False
        if wanted == memory.config:
            return
        try:
            record = await self._store.clusters.put_config(
                memory.cluster, wanted, at_least=self._highest_seen + 1, keep_from=_oldest_held(memory), hosts=hosts
            )
        except Aborted:
            snapshot = await self._store.clusters.snapshot(memory.cluster.cluster_id)
            memory.put_configs(snapshot.cluster, snapshot.configs)
            self.review()
            return
        memory.put_configs(record, {**memory.configs, record.config_version: wanted})
        for host_id in hosts:
            known = memory.hosts.get(host_id)
            if known is not None:
                memory.hosts[host_id] = replace(known, config_sent=record.config_version)
        self._made()
        self.review()


def content(memory: ClusterMemory) -> SafetyConfig:
    """What the newest configuration should say.

    Voters are the hosts that have registered and may still speak: one that was evacuated, or that an operator declared off, has
    left the cluster until it registers again (R18). After the loss of a store those that safe mode waits for vote, too: they
    registered with the store that was lost, and keep their VMs by each other's word until they are heard.
    """
    config, awaited = memory.cluster.config, memory.cluster.awaited
    racks = {
        host_id: memory.hosts[host_id].config.rack
        for host_id in memory.hypervisors
        if host_id in awaited or _votes(memory.hosts[host_id])
    }
    voters = committee.elect(racks)
    return SafetyConfig(
        protected=memory.cluster.ha_enabled,
        self_fencing=config.self_fencing is SelfFencing.DESTROY,
        voters=voters,
        certificate_quorum=committee.certificate_quorum(len(voters)),
        evacuation_quorum=committee.evacuation_quorum(len(voters)),
        constants={name: float(getattr(config.timers, name)) for name in CONSTANTS},
    )


def voter_sets(configs: dict[int, SafetyConfig]) -> dict[int, VoterSet]:
    """The configurations as the window of contact sees them."""
    return {
        version: VoterSet(
            voters=frozenset(config.voters),
            evacuation_quorum=config.evacuation_quorum,
            contact_ttl_s=config.constants["contact_ttl_s"],
            wait_s=config.constants["wait_duration_s"],
        )
        for version, config in configs.items()
    }


def _votes(host: HostRecord) -> bool:
    return host.incarnation > 0 and host.state is not HostState.EVACUATED and not host.is_confirmed_off


def _oldest_held(memory: ClusterMemory) -> int:
    """The oldest number that a living host may hold; what no host has confirmed yet was sent under none below its first."""
    held = [host.config_confirmed for host in memory.hosts.values() if _votes(host) and host.config_confirmed > 0]
    return min(held, default=memory.cluster.config_version)
