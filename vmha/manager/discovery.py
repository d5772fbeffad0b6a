"""Finds the clusters in the store, keeps a seat for each, and puts back what a lost store does not hold any more (S1)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

import structlog

from vmha.errors import NotFound, Unavailable, VmhaError
from vmha.manager import metrics
from vmha.manager.cluster_loop import ClusterLoop
from vmha.manager.parts import Parts
from vmha.manager.restoration import Restoration
from vmha.manager.seat import Seat
from vmha.manager.session_desk import SessionDesk
from vmha.manager.sessions import Session
from vmha.model import HostState
from vmha.rpc import validate_session
from vmha.store.leaders import Candidate
from vmha.v1 import manager_service_pb2 as ms

AGENT_GRACE_STALES: Final = 3.0
"""An agent may be unheard this many times stream_stale after the manager began to look, before it is called missing."""
FULL_LOOK_S: Final = 30.0
"""Everything is read again this often, whatever the versions say."""
MISSING_IN: Final = frozenset({HostState.UNKNOWN, HostState.AGENT_LOST})

_log = structlog.get_logger("vmha.manager")


class Discovery:
    """All clusters. The only place that makes and ends their seats.

    Args:
        lease_s: How long the store grants the lead of a cluster.
    """

    def __init__(self, parts: Parts, *, interval_s: float, lease_s: float) -> None:
        self._parts = parts
        self._interval_s = interval_s
        self._lease_s = lease_s
        self._candidate = Candidate(holder=parts.run_id, manager_id=parts.manager_id, address="")
        self._seats: dict[str, Seat] = {}
        self._hosts: dict[str, str] = {}
        self._members: dict[str, frozenset[str]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._task: asyncio.Task[None] | None = None
        self._full_at = 0.0
        self._restoration = Restoration(parts)
        parts.store_watch.back = self.refresh_all

    @property
    def loops(self) -> dict[str, ClusterLoop]:
        """The loops of the clusters that this replica leads, by cluster_id."""
        return {cluster_id: seat.loop for cluster_id, seat in self._seats.items() if seat.loop is not None}

    async def start(self, address: str) -> None:
        """Find the clusters that are there now, stand for the lead of each, and go on looking.

        Args:
            address: Where agents reach this replica, host:port.
        """
        self._candidate = replace(self._candidate, address=address)
        await self._poll()
        self._task = asyncio.create_task(self._run(), name="discovery")

    async def close(self) -> None:
        """End all loops; what is in the store stays there."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*(seat.lease.close() for seat in self._seats.values()))

    async def resign(self) -> None:
        """Lead no more, and let other replicas begin; sessions stay open, unanswered, until they end or `close`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*(seat.lease.resign() for seat in self._seats.values()))

    def seat_of(self, host_id: str) -> Seat:
        """The seat of the cluster that a host is in.

        Raises:
            NotFound: HOST_UNKNOWN.
        """
        seat = self._seats.get(self._hosts.get(host_id, ""))
        if seat is None or host_id not in seat.memory.hosts:
            raise NotFound("HOST_UNKNOWN", f"No cluster has a host {host_id}.", {"host_id": host_id})
        return seat

    async def find(self, host_id: str) -> Seat:
        """As `seat_of`, but looks into the store for a host that is not known yet.

        Raises:
            NotFound: HOST_UNKNOWN.
            Unavailable: STORE_UNAVAILABLE.
        """
        try:
            return self.seat_of(host_id)
        except NotFound:
            await self.refresh(await self._parts.store.hosts.find_cluster(host_id))
        return self.seat_of(host_id)

    async def open(self, hello: ms.AgentHello) -> tuple[Session, SessionDesk]:
        """Open the session of the host that hello names. See `session_stream.Door`.

        Raises:
            PreconditionFailed: NOT_LEADER, with the leader's address where it is known.
            VmhaError: As `Restoration.offered`, where no cluster has the host.
        """
        validate_session.hello(hello)
        try:
            seat = await self.find(hello.host_id)
        except NotFound as unknown:
            cluster_id, message = await self._restoration.offered(hello, unknown)
            await self.refresh(cluster_id)
            seat = self.seat_of(hello.host_id)
            seat.lost(message)
        loop = await seat.led()
        return loop.desk.open(hello), loop.desk

    async def led(self, cluster_id: str) -> ClusterLoop:
        """The loop of a cluster that this replica leads; looks into the store for one that is not known yet.

        Raises:
            NotFound: CLUSTER_UNKNOWN.
            PreconditionFailed: NOT_LEADER.
            Unavailable: STORE_UNAVAILABLE.
        """
        if cluster_id not in self._seats:
            await self.refresh(cluster_id)
        seat = self._seats.get(cluster_id)
        if seat is None:
            raise NotFound("CLUSTER_UNKNOWN", f"There is no cluster {cluster_id}.", {"cluster_id": cluster_id})
        return await seat.led()

    async def refresh_all(self) -> None:
        """Look at everything now.

        Raises:
            Unavailable: STORE_UNAVAILABLE.
        """
        found = await self._parts.store.clusters.list_ids()
        for cluster_id in sorted({*found, *self._seats}):
            await self.refresh(cluster_id)
        self._full_at = self._parts.clock.now() + FULL_LOOK_S

    async def _look(self) -> None:
        """Look at what has changed: each change of configuration raises the cluster's version, the rest its leader makes."""
        if self._parts.clock.now() >= self._full_at:
            await self.refresh_all()
            return
        found = await self._parts.store.clusters.list_ids()
        for cluster_id in sorted({*found, *self._seats}):
            seat = self._seats.get(cluster_id)
            if seat is not None and cluster_id in found:
                record = await self._parts.store.clusters.get(cluster_id)
                if record == seat.memory.cluster:
                    continue
            await self.refresh(cluster_id)

    async def refresh(self, cluster_id: str) -> None:
        """Look at one cluster now: called after each change that an operator makes.

        Raises:
            Unavailable: STORE_UNAVAILABLE.
        """
        new = None
        if cluster_id not in self._locks and cluster_id not in await self._parts.store.clusters.list_ids():
            return  # whatever a caller names must not be remembered
        changing = self._locks.setdefault(cluster_id, asyncio.Lock())
        async with changing:
            seat = self._seats.get(cluster_id)
            try:
                snapshot = await self._parts.store.clusters.snapshot(cluster_id)
            except NotFound:
                if seat is not None:
                    await self._missed(seat)
                return
            if seat is None:
                new = seat = Seat(self._parts, snapshot, self._candidate, self._lease_s, changing)
                self._seats[cluster_id] = seat
                _log.info("cluster found", cluster_id=cluster_id, hosts=len(snapshot.hosts))
            else:
                seat.take(snapshot)
            self._index(seat)
        if new is not None:
            await new.lease.start()

    async def _missed(self, seat: Seat) -> None:
        """The store does not hold a cluster any more: its leader puts it back, unless it was deleted on purpose."""
        try:
            # First the lease, which is as lost: nobody else shall begin with a cluster that is half there.
            if await seat.lease.write_again():
                seat.take(await seat.restore())
                return
        except NotFound:
            await self._forget(seat.cluster_id)
            return
        if await self._parts.store.clusters.was_deleted(seat.cluster_id):
            await self._forget(seat.cluster_id)
        else:
            seat.missing()

    async def _forget(self, cluster_id: str) -> None:
        seat = self._seats.pop(cluster_id)
        self._members.pop(cluster_id, None)
        _log.info("cluster deleted", cluster_id=cluster_id)
        for host_id in [host_id for host_id, owner in self._hosts.items() if owner == cluster_id]:
            del self._hosts[host_id]
            metrics.forget_host(cluster_id, host_id)
        await seat.lease.close()

    def _index(self, seat: Seat) -> None:
        # Only this cluster's own hosts are gone through: among 10,000 of others each look would cost milliseconds.
        cluster_id = seat.cluster_id
        known, members = self._members.get(cluster_id, frozenset()), frozenset(seat.memory.hosts)
        self._members[cluster_id] = members
        for host_id in members:
            self._hosts[host_id] = cluster_id
        for host_id in known - members:
            if self._hosts.get(host_id) == cluster_id:
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
        for loop in self.loops.values():
            # One whose lease ended a moment ago takes nothing in: its detector may not know a host that its memory has.
            if loop.leading():
                self._look_for_agents(loop)

    def _look_for_agents(self, loop: ClusterLoop) -> None:
        """Names each hypervisor host of a protected cluster that has no live agent."""
        memory = loop.memory
        if not loop.learning and not memory.cluster.safe_mode:
            loop.alarms.clear_alarm("STORE_LOST", "")
        grace_s = AGENT_GRACE_STALES * memory.cluster.config.timers.stream_stale_s
        missing = loop.hosts_without_agent if memory.cluster.ha_enabled else []
        for host_id in loop.alarms.hosts_of("AGENT_MISSING").difference(missing):
            loop.alarms.clear_alarm("AGENT_MISSING", host_id)
        settled = self._parts.clock.now() - loop.started_s > grace_s
        for host_id in missing:
            if settled and loop.core.state(host_id) in MISSING_IN:
                loop.alarms.raise_alarm("AGENT_MISSING", host_id, f"No live agent on {host_id}: it is not protected.")
