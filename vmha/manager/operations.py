"""What the operators' services share: the store, the clusters that are watched, and the record of what operators did."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
import structlog

from vmha.clock import Clock
from vmha.errors import Aborted, NotFound, PreconditionFailed, Unavailable, VmhaError
from vmha.manager import events as ev
from vmha.manager.cluster_loop import ClusterLoop
from vmha.manager.discovery import Discovery
from vmha.manager.enablement import hypervisors, protection_state
from vmha.messages import cluster_to_proto, host_to_proto
from vmha.store import Store
from vmha.store.leaders import LeaderRecord, LeaderView
from vmha.store.records import ClusterSnapshot, HostRecord
from vmha.v1 import cluster_pb2, host_pb2

OPERATOR_KEY: Final = "vmha-operator"
"""Metadata by which a client names its operator. Not authenticated in this release."""
NAME_CHARACTERS: Final = 255

Context = grpc.aio.ServicerContext[Any, Any]
_log = structlog.get_logger("vmha.manager")


class Operations:
    """Behind ClusterService."""

    def __init__(self, store: Store, discovery: Discovery, clock: Clock) -> None:
        self.store = store
        self.discovery = discovery
        self.clock = clock

    @asynccontextmanager
    async def act(self, cluster_id: str, name: str, subject: str, actor: str, comment: str = "") -> AsyncIterator[None]:
        """Records an operator's act, or why it was refused, and has its cluster looked at at once."""
        try:
            yield
        except Unavailable:
            raise
        except VmhaError as error:
            await self._record(cluster_id, name, subject, actor, error.reason, error.message)
            raise
        await self._record(cluster_id, name, subject, actor, "", comment)
        try:
            await self.discovery.refresh(cluster_id)
        except Unavailable:
            # It is done; discovery finds it when the store is back.
            _log.warning("change is not taken in yet", cluster_id=cluster_id, act=name)

    async def cluster(self, cluster_id: str) -> cluster_pb2.Cluster:
        """A cluster as it is shown.

        Raises:
            NotFound: CLUSTER_UNKNOWN.
        """
        snapshot = await self.store.clusters.snapshot(cluster_id)
        return self.cluster_message(snapshot, await self.store.leaders.get(cluster_id))

    def cluster_message(self, snapshot: ClusterSnapshot, leader: LeaderRecord) -> cluster_pb2.Cluster:
        """A cluster as it is shown, by its leader or by any other replica."""
        configs = {host_id: host.config for host_id, host in snapshot.hosts.items()}
        counted = hypervisors(configs)
        view = self.view(snapshot.cluster.cluster_id, leader)
        without_agent = sorted(counted) if view is None else view.hosts_without_agent
        return cluster_to_proto(
            snapshot.cluster,
            protection_state(snapshot.cluster.ha_enabled, configs),
            leader,
            host_count=len(counted),
            hosts_without_agent=[host_id for host_id in without_agent if host_id in counted],
            learning=view is None or view.learning,
        )

    def view(self, cluster_id: str, leader: LeaderRecord) -> LeaderView | None:
        """What only the leader knows: its own word here, the one that it left in the store elsewhere."""
        loop = self.discovery.loops.get(cluster_id)
        if loop is None:
            return leader.view
        return LeaderView(learning=loop.learning, hosts_without_agent=tuple(loop.hosts_without_agent))

    async def host_messages(self, cluster_id: str, records: Sequence[HostRecord]) -> list[host_pb2.Host]:
        """Hosts of a cluster as they are shown."""
        loop = self.discovery.loops.get(cluster_id)
        if loop is not None:
            return [host_to_proto(r, agent_connected=loop.sessions.get(r.host_id) is not None) for r in records]
        view = (await self.store.leaders.get(cluster_id)).view
        return [host_to_proto(r, agent_connected=view is not None and r.host_id not in view.hosts_without_agent) for r in records]

    async def host_message(self, record: HostRecord) -> host_pb2.Host:
        """A host as it is shown."""
        [message] = await self.host_messages(record.cluster_id, [record])
        return message

    async def loop(self, cluster_id: str) -> ClusterLoop:
        """The loop of a cluster, for what only its leader can answer or do.

        Raises:
            NotFound: CLUSTER_UNKNOWN.
            PreconditionFailed: NOT_LEADER.
        """
        return await self.discovery.led(cluster_id)

    async def confirm_off(self, cluster_id: str, host_id: str, fence_epoch: int, operator: str) -> HostRecord:
        """Takes an operator's word that a host is off, and makes an incident of it.

        Raises:
            PreconditionFailed: HOST_ALIVE, also where it is heard while the word is written down: then that is taken back.
            Aborted: STALE_FENCE_EPOCH.
        """
        self._check_silent(await self.loop(cluster_id), host_id)
        record = await self.store.hosts.confirm_off(cluster_id, host_id, fence_epoch, operator)
        # Who leads, and what it has heard, may have changed meanwhile.
        loop = await self.loop(cluster_id)
        try:
            self._check_silent(loop, host_id)
        except PreconditionFailed:
            await self.store.hosts.retract_off(cluster_id, host_id, fence_epoch)
            raise
        loop.feed(ev.OperatorConfirmedOff(host_id=host_id, operator=operator))
        return record

    def _check_silent(self, loop: ClusterLoop, host_id: str) -> None:
        if loop.core.is_heard(host_id, self.clock.now()):
            raise PreconditionFailed("HOST_ALIVE", f"{host_id} is alive: its agent was heard just now.")

    async def _record(self, cluster_id: str, name: str, subject: str, actor: str, refused: str, message: str) -> None:
        _log.info("operator act", cluster_id=cluster_id, act=name, subject=subject, actor=actor, refused=refused, message=message)
        detail = {"act": name, "subject": subject, "refused_reason": refused, "message": message}
        try:
            await self.store.events.append(cluster_id, "operator_act", detail, actor=actor)
        except NotFound:
            # No cluster, no log: it was deleted, or never was.
            return
        except Unavailable:
            _log.warning("operator act is not in the event log", cluster_id=cluster_id, act=name)


def operator_of(context: Context) -> str:
    """Who calls, as the client says."""
    for key, value in context.invocation_metadata() or ():
        if key == OPERATOR_KEY and isinstance(value, str) and value:
            return value[:NAME_CHARACTERS]
    return "operator"


def version_of(etag: str) -> int | None:
    """The version that an etag names; None when none is given.

    Raises:
        Aborted: ETAG_MISMATCH, it is none of ours.
    """
    if not etag:
        return None
    text = etag.strip('"')
    if not text.isdecimal() or int(text) == 0:
        raise Aborted("ETAG_MISMATCH", f"{etag} is no etag that was handed out; read it again.", {"etag": etag})
    return int(text)
