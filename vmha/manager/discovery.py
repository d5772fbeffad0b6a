"""Finds the clusters in the store, keeps a loop for each, and puts back what a lost store does not hold any more (S1)."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from vmha.errors import NotFound, Unavailable, VmhaError
from vmha.manager import metrics
from vmha.manager.cluster_loop import ClusterLoop
from vmha.manager.parts import Parts
from vmha.manager.session_desk import SessionDesk
from vmha.manager.sessions import Session
from vmha.model import HostState
from vmha.rpc import validate_session
from vmha.store.records import ClusterSnapshot
from vmha.v1 import manager_service_pb2 as ms

AGENT_GRACE_STALES: Final = 3.0
"""An agent may be unheard this many times stream_stale after the manager began to look, before it is called missing."""
FULL_LOOK_S: Final = 30.0
"""Everything is read again this often, whatever the versions say."""
MISSING_IN: Final = frozenset({HostState.UNKNOWN, HostState.AGENT_LOST})

_log = structlog.get_logger("vmha.manager")


class Discovery:
    """All clusters. The only place that makes and ends their loops."""

    def __init__(self, parts: Parts, *, interval_s: float) -> None:
        self._parts = parts
        self._interval_s = interval_s
        self._loops: dict[str, ClusterLoop] = {}
        self._hosts: dict[str, str] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._task: asyncio.Task[None] | None = None
        self._full_at = 0.0
        parts.store_watch.back = self.refresh_all

    @property
    def loops(self) -> dict[str, ClusterLoop]:
        """The loops by cluster_id."""
        return self._loops

    async def start(self) -> None:
        """Find the clusters that are there now, and go on looking."""
        await self._poll()
        self._task = asyncio.create_task(self._run(), name="discovery")

    async def close(self) -> None:
        """End all loops; what is in the store stays there."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*(loop.close() for loop in self._loops.values()))

    def loop_of(self, host_id: str) -> ClusterLoop:
        """The loop of the cluster that a host is in.

        Raises:
            NotFound: HOST_UNKNOWN.
        """
        loop = self._loops.get(self._hosts.get(host_id, ""))
        if loop is None or host_id not in loop.memory.hosts:
            raise NotFound("HOST_UNKNOWN", f"No cluster has a host {host_id}.", {"host_id": host_id})
        return loop

    async def find(self, host_id: str) -> ClusterLoop:
        """As `loop_of`, but looks into the store for a host that is not known yet.

        Raises:
            NotFound: HOST_UNKNOWN.
            Unavailable: STORE_UNAVAILABLE.
        """
        try:
            return self.loop_of(host_id)
        except NotFound:
            await self.refresh(await self._parts.store.hosts.find_cluster(host_id))
        return self.loop_of(host_id)

    async def open(self, hello: ms.AgentHello) -> tuple[Session, SessionDesk]:
        """Open the session of the host that hello names. See `session_stream.Door`."""
        validate_session.hello(hello)
        loop = await self.find(hello.host_id)
        return loop.desk.open(hello), loop.desk

    async def refresh_all(self) -> None:
        """Look at everything now.

        Raises:
            Unavailable: STORE_UNAVAILABLE.
        """
        found = await self._parts.store.clusters.list_ids()
        for cluster_id in sorted({*found, *self._loops}):
            await self.refresh(cluster_id)
        self._full_at = self._parts.clock.now() + FULL_LOOK_S

    async def _look(self) -> None:
        """Look at what has changed: each change of configuration raises the cluster's version, the rest this manager makes."""
        if self._parts.clock.now() >= self._full_at:
            await self.refresh_all()
            return
        found = await self._parts.store.clusters.list_ids()
        for cluster_id in sorted({*found, *self._loops}):
            loop = self._loops.get(cluster_id)
            if loop is not None and cluster_id in found:
                record = await self._parts.store.clusters.get(cluster_id)
                if record == loop.memory.cluster:
                    continue
            await self.refresh(cluster_id)

    async def refresh(self, cluster_id: str) -> None:
        """Look at one cluster now: called after each change that an operator makes.

        Raises:
            Unavailable: STORE_UNAVAILABLE.
        """
        async with self._locks.setdefault(cluster_id, asyncio.Lock()):
            try:
                snapshot = await self._parts.store.clusters.snapshot(cluster_id)
            except NotFound:
                loop = self._loops.get(cluster_id)
                if loop is not None and not await self._restore(loop):
                    await self._forget(cluster_id)
                return
            loop = self._loops.get(cluster_id)
            if loop is None:
                loop = await self._begin(snapshot)
            elif snapshot.cluster.store_generation < loop.memory.cluster.store_generation:
                self._lost(loop, "The store came back with an older state.")
                loop.apply(snapshot)
            else:
                loop.apply(snapshot)
            self._index(loop)

    async def _begin(self, snapshot: ClusterSnapshot) -> ClusterLoop:
        store, cluster_id = self._parts.store, snapshot.cluster.cluster_id
        incidents = await store.incidents.open(cluster_id)
        suspects = await store.incidents.suspects(cluster_id)
        loop = self._loops[cluster_id] = ClusterLoop(self._parts, snapshot, incidents, suspects)
        loop.start()
        _log.info("cluster found", cluster_id=cluster_id, hosts=len(snapshot.hosts), enabled=snapshot.cluster.ha_enabled)
        return loop

    async def _restore(self, loop: ClusterLoop) -> bool:
        """Puts a lost cluster back. False: it was deleted on purpose."""
        memory = loop.memory
        hosts = [memory.hosts[host_id] for host_id in sorted(memory.hosts)]
        try:
            await self._parts.store.clusters.restore(memory.cluster, hosts, memory.groups.values())
        except NotFound:
            return False
        snapshot = await self._parts.store.clusters.snapshot(loop.cluster_id)
        message = f"The store came back without cluster {loop.cluster_id}; its configuration was restored from memory."
        if memory.incidents:
            message += f" VMs that only {', '.join(sorted(memory.incidents))} (down) reported are not known any more."
        self._lost(loop, message)
        loop.apply(snapshot)
        return True

    def _lost(self, loop: ClusterLoop, message: str) -> None:
        _log.error("store was lost", cluster_id=loop.cluster_id)
        loop.store_lost(message)

    async def _forget(self, cluster_id: str) -> None:
        loop = self._loops.pop(cluster_id)
        _log.info("cluster deleted", cluster_id=cluster_id)
        for host_id in [host_id for host_id, owner in self._hosts.items() if owner == cluster_id]:
            del self._hosts[host_id]
            metrics.forget_host(cluster_id, host_id)
        await loop.close()

    def _index(self, loop: ClusterLoop) -> None:
        for host_id in loop.memory.hosts:
            self._hosts[host_id] = loop.cluster_id
        for host_id in [h for h, c in self._hosts.items() if c == loop.cluster_id and h not in loop.memory.hosts]:
            del self._hosts[host_id]

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self._poll()

    async def _poll(self) -> None:
        if not self._parts.store_watch.reachable:
            return
        try:
            await self._look()
        except Unavailable:
            self._parts.store_watch.away()
        except VmhaError as error:
            _log.error("cluster cannot be read", reason=error.reason, message=error.message)
        except Exception:
            _log.exception("discovery failed")
        for loop in self._loops.values():
            self._look_for_agents(loop)

    def _look_for_agents(self, loop: ClusterLoop) -> None:
        """Names each hypervisor host of a protected cluster that has no live agent."""
        memory = loop.memory
        if not loop.learning:
            loop.alarms.clear_alarm("STORE_LOST", "")
        grace_s = AGENT_GRACE_STALES * memory.cluster.config.timers.stream_stale_s
        missing = set(loop.hosts_without_agent) if memory.cluster.ha_enabled else set()
        settled = self._parts.clock.now() - loop.started_s > grace_s
        for host_id in memory.hypervisors:
            if host_id not in missing:
                loop.alarms.clear_alarm("AGENT_MISSING", host_id)
            elif settled and loop.core.state(host_id) in MISSING_IN:
                loop.alarms.raise_alarm("AGENT_MISSING", host_id, f"No live agent on {host_id}: it is not protected.")
