"""What the operators' services share: the store, the clusters that are watched, and the record of what operators did."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
import structlog

from vmha.clock import Clock
from vmha.errors import Aborted, NotFound, Unavailable, VmhaError
from vmha.manager.cluster_loop import ClusterLoop
from vmha.manager.discovery import Discovery
from vmha.manager.enablement import hypervisors, protection_state
from vmha.messages import cluster_to_proto, host_to_proto
from vmha.store import Store
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
        return self.cluster_message(await self.store.clusters.snapshot(cluster_id))

    def cluster_message(self, snapshot: ClusterSnapshot) -> cluster_pb2.Cluster:
        """A cluster as it is shown."""
        configs = {host_id: host.config for host_id, host in snapshot.hosts.items()}
        counted = hypervisors(configs)
        loop = self.discovery.loops.get(snapshot.cluster.cluster_id)
        return cluster_to_proto(
            snapshot.cluster,
            protection_state(snapshot.cluster.ha_enabled, configs),
            host_count=len(counted),
            hosts_without_agent=[h for h in (sorted(counted) if loop is None else loop.hosts_without_agent) if h in counted],
            learning=loop is None or loop.learning,
        )

    def host_message(self, record: HostRecord) -> host_pb2.Host:
        """A host as it is shown."""
        loop = self.discovery.loops.get(record.cluster_id)
        connected = loop is not None and loop.sessions.get(record.host_id) is not None
        return host_to_proto(record, agent_connected=connected)

    async def loop(self, cluster_id: str) -> ClusterLoop:
        """The loop of a cluster.

        Raises:
            NotFound: CLUSTER_UNKNOWN.
        """
        if cluster_id not in self.discovery.loops:
            await self.discovery.refresh(cluster_id)
        loop = self.discovery.loops.get(cluster_id)
        if loop is None:
            raise NotFound("CLUSTER_UNKNOWN", f"There is no cluster {cluster_id}.", {"cluster_id": cluster_id})
        return loop

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
