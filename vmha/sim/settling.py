"""Brings a simulated cluster to rest: registered, leased, its inventory in, LEARNING over (design section 9, Start)."""

from __future__ import annotations

import asyncio
from typing import Final

from vmha.agent.lease_events import GuardState
from vmha.errors import VmhaError
from vmha.manager.cluster_loop import ClusterLoop
from vmha.model import HostState
from vmha.sim.history import Refused
from vmha.sim.host import SimHost
from vmha.sim.site import Site
from vmha.sim.timeloop import VirtualLoop
from vmha.store import Store
from vmha.store.records import ClusterRecord, HostRecord

LONG_S: Final = 1e6
"""No cluster takes so long."""
LOOK_S: Final = 0.25
PATIENCE: Final = 20.0
"""So many times LEARNING, and a minute, may it take."""


class Unsettled(RuntimeError):
    """The cluster does not come to rest; says what is missing."""


class Settling:
    """Starts a site and waits."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._loop: VirtualLoop = site.loop
        self._cluster_id = site.scenario.cluster.id
        self._store = Store(site.redis.client())

    async def run(self) -> None:
        """Returns when it is at rest.

        Raises:
            Unsettled: See the class.
        """
        site, cluster = self._site, self._site.scenario.cluster
        limit_s = self._loop.time() + 60.0 + PATIENCE * max(cluster.config.timers.learning_s, 1.0)
        for manager in site.managers:
            manager.start()
        site.evacuator.start()
        await self._register(limit_s)
        if cluster.ha_enabled:
            # The scenario's word is enough: it is `ha_enable` that runs the check.
            await self._store.clusters.set_ha(self._cluster_id, True, None)
        for host in site.hosts.values():
            if "hypervisor" in host.spec.roles:
                host.agent_start()
        while missing := await self._missing():
            if self._loop.time() > limit_s:
                raise Unsettled(f"after {self._loop.time():.0f} s: {missing}")
            await asyncio.sleep(LOOK_S)

    async def _register(self, limit_s: float) -> None:
        site = self._site
        while True:
            try:
                await site.operator.create(site.scenario.cluster, site.scenario.hosts)
                await site.operator.create_groups(site.scenario.groups)
                return
            except (Refused, VmhaError) as error:
                if self._loop.time() > limit_s:
                    raise Unsettled(f"the cluster cannot be created: {error}") from error
            await asyncio.sleep(LOOK_S)

    async def _missing(self) -> str:
        """What is not there yet, the first of it; empty when nothing is."""
        loop = self._leading()
        if loop is None:
            return "nobody leads"
        if loop.memory.cluster.ha_enabled is not self._site.scenario.cluster.ha_enabled:
            return "protection"
        if loop.learning:
            return "LEARNING"
        snapshot = await self._store.clusters.snapshot(self._cluster_id)
        for host_id, host in self._site.hosts.items():
            if host.agent is not None and (missing := self._missing_of(host, loop, snapshot.hosts[host_id], snapshot.cluster)):
                return f"{host_id} {missing}"
        vms = await self._store.vms.list(self._cluster_id)
        expected = sum(self._site.hosts[vm.host].agent is not None for vm in self._site.scenario.vms)
        return "" if len(vms) == expected else f"{len(vms)} of {expected} VMs are in the inventory"

    def _missing_of(self, host: SimHost, loop: ClusterLoop, record: HostRecord, cluster: ClusterRecord) -> str:
        state = loop.core.state(host.spec.id)
        if state is not HostState.HEALTHY:
            return f"is {state}"
        if record.config_confirmed != cluster.config_version or not record.incarnation:
            return f"has not confirmed configuration {cluster.config_version}"
        leased = host.parts is not None and self._is_leased(host.parts.keeper.lease.state(host.machine.clock.now()))
        return "" if leased else "has no lease"

    def _is_leased(self, guard: GuardState) -> bool:
        config = self._site.scenario.cluster
        enforced = config.ha_enabled and config.config.self_fencing.value == "DESTROY"
        return guard is GuardState.LEASED or not enforced

    def _leading(self) -> ClusterLoop | None:
        leader = self._site.observer.leader
        if leader is None or leader.running is None:
            return None
        return leader.running.discovery.loops.get(self._cluster_id)
