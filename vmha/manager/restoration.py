"""Restores a cluster that neither the store nor a living manager knows any more, from the copies that its agents hold.

Never from a minority (`copy_votes`), and never one that was deleted on purpose: the store remembers that for a day, and agents
that hear of it drop their copies. All hosts are waited for in safe mode, from the first moment on (R20).
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from vmha.errors import AlreadyExists, NotFound, PreconditionFailed, Unavailable, VmhaError
from vmha.manager.cluster_copies import parsed, records_of
from vmha.manager.copy_votes import Choice, CopyVotes, Offer
from vmha.manager.parts import Parts
from vmha.manager.session_messages import hypervisors
from vmha.v1 import cluster_copy_pb2 as cc
from vmha.v1 import manager_service_pb2 as ms

CONFIG_GAP: Final = 1000
"""Left between the newest safety configuration that an offer names and the first new one: what a number stands for never changes
(R18), and a host that offered nothing may hold a few more."""

MOST_COPIES: Final = 64
"""Different copies that are kept at a time; whoever offers another one comes again."""

_log = structlog.get_logger("vmha.manager")


class Restoration:
    """See the module."""

    def __init__(self, parts: Parts) -> None:
        self._store = parts.store
        self._clock = parts.clock
        self._votes = CopyVotes()
        self._copies: dict[tuple[str, int], cc.ClusterCopy] = {}
        self._lock = asyncio.Lock()

    async def offered(self, hello: ms.AgentHello, unknown: NotFound) -> tuple[str, str]:
        """A hello came from a host that no cluster has. Returns the cluster's id and a message, once it is restored.

        Raises:
            NotFound: HOST_UNKNOWN, as `unknown`: it holds no copy; or it left its cluster: metadata `left_cluster_id`.
            PreconditionFailed: CLUSTER_COPY_WANTED.
            AlreadyExists: HOST_EXISTS: a host of the copy is in another cluster.
            Unavailable: CLUSTER_RESTORING: too few hold a copy yet. STORE_UNAVAILABLE.
            InvalidField: The copy cannot be read.
        """
        if not hello.copy_version:
            raise unknown
        if not hello.HasField("cluster_copy"):
            message = f"no cluster has a host {hello.host_id}; send the copy of its cluster's configuration with the next hello"
            raise PreconditionFailed("CLUSTER_COPY_WANTED", message, {"host_id": hello.host_id})
        copy, cluster_id = parsed(hello.cluster_copy), hello.cluster_copy.cluster_id
        async with self._lock:
            await self._check_lost(hello.host_id, cluster_id)
            choice = self._count(hello, copy)
            if choice is None:
                raise _restoring(cluster_id)
            return cluster_id, await self._restore(self._copies[cluster_id, choice.version], choice)

    async def _check_lost(self, host_id: str, cluster_id: str) -> None:
        """Whether the store knows nothing of the cluster, not even that it was deleted on purpose."""
        try:
            snapshot = await self._store.clusters.snapshot(cluster_id)
        except NotFound:
            if await self._store.clusters.was_deleted(cluster_id):
                raise _left(host_id, cluster_id) from None
            return
        # Another hello, or another replica, has restored it a moment ago.
        raise _restoring(cluster_id) if host_id in snapshot.hosts else _left(host_id, cluster_id)

    def _count(self, hello: ms.AgentHello, copy: cc.ClusterCopy) -> Choice | None:
        if len(self._copies) >= MOST_COPIES and (copy.cluster_id, copy.version) not in self._copies:
            return None
        # What cannot be restored must not be chosen.
        _, hosts, _ = records_of(copy, generation=0, config_version=0)
        now = self._clock.now()
        self._votes.offered(
            Offer(
                host_id=hello.host_id,
                cluster_id=copy.cluster_id,
                version=copy.version,
                members=frozenset(hypervisors({host.host_id: host for host in hosts})),
                voters=frozenset(hello.cluster_copy.voter_host_ids),
                generation=hello.store_generation,
                config_version=hello.config_version,
            ),
            now,
        )
        choice = self._votes.choice(copy.cluster_id, now)
        held = self._votes.versions(copy.cluster_id)
        self._copies = {key: kept for key, kept in self._copies.items() if key[0] != copy.cluster_id or key[1] in held}
        if copy.version in held:
            self._copies[copy.cluster_id, copy.version] = copy
        return choice

    async def _restore(self, copy: cc.ClusterCopy, choice: Choice) -> str:
        cluster_id = copy.cluster_id
        config_version = max(choice.config_version, copy.config_version) + CONFIG_GAP
        cluster, hosts, groups = records_of(copy, generation=choice.generation, config_version=config_version)
        for host in hosts:
            await self._check_free(host.host_id, cluster_id)
        awaited = sorted(hypervisors({host.host_id: host for host in hosts}))
        await self._store.clusters.restore(cluster, hosts, groups, awaited=awaited)
        self._votes.restored(cluster_id)
        self._copies = {key: kept for key, kept in self._copies.items() if key[0] != cluster_id}
        message = (
            f"The store and every manager had lost cluster {cluster_id}; its configuration was restored from the copies of "
            f"{', '.join(choice.holders)}. Nothing is started before every host has said what it runs."
        )
        _log.error("cluster restored from agents", cluster_id=cluster_id, version=copy.version, holders=choice.holders)
        return message

    async def _check_free(self, host_id: str, cluster_id: str) -> None:
        try:
            other = await self._store.hosts.find_cluster(host_id)
        except NotFound:
            return
        if other != cluster_id:
            message = f"cluster {cluster_id} is not restored: its host {host_id} is in cluster {other}"
            raise AlreadyExists("HOST_EXISTS", message, {"host_id": host_id, "cluster_id": other})


def _restoring(cluster_id: str) -> Unavailable:
    message = f"cluster {cluster_id} is restored when a majority of its members has offered a copy of its configuration"
    return Unavailable("CLUSTER_RESTORING", message, {"cluster_id": cluster_id})


def _left(host_id: str, cluster_id: str) -> VmhaError:
    about = {"host_id": host_id, "left_cluster_id": cluster_id}
    return NotFound("HOST_UNKNOWN", f"Host {host_id} is not in cluster {cluster_id} any more.", about)
