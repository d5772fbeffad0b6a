"""One cluster at this replica: what is known of it, who leads it, and its loop while this replica does (design section 7)."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from vmha.errors import NotFound
from vmha.manager import session_messages, watchgraph
from vmha.manager.cluster_loop import ClusterLoop
from vmha.manager.leader_lease import LeaderLease
from vmha.manager.mandate import Mandate
from vmha.manager.memory import ClusterMemory
from vmha.manager.parts import Parts
from vmha.manager.refusals import not_leader
from vmha.store.leaders import Candidate, LeaderView
from vmha.store.records import ClusterSnapshot
from vmha.v1 import manager_service_pb2 as ms

INSIST_LEASES: Final = 2.0
"""So many leases after a cluster was lost its last leader counts as gone, too."""
TAKEN_UP_WITHIN_S: Final = 2.0
"""How long a caller waits for a lead that begins: less than agents wait for their welcome, and clients for an answer."""
OLDER: Final = "The store came back with an older state."

_log = structlog.get_logger("vmha.manager")


class Seat:
    """See the module. The office of its lease.

    Args:
        changing: Held while the store's state of this cluster is read and taken in.

    Attributes:
        memory: The newest that is known; the loop's own while there is one.
        loop: None while another replica leads, or none.
    """

    def __init__(
        self, parts: Parts, snapshot: ClusterSnapshot, candidate: Candidate, lease_s: float, changing: asyncio.Lock
    ) -> None:
        self._parts = parts
        self._drawn: tuple[int, dict[str, tuple[str, ...]]] = (-1, {})
        self._lost, self._emptied = "", False
        self._lease_s = lease_s
        self._missing_s: float | None = None
        self._generation = snapshot.cluster.store_generation
        self.memory = ClusterMemory.of(snapshot)
        self.cluster_id = snapshot.cluster.cluster_id
        self.loop: ClusterLoop | None = None
        self._changing = changing
        self.lease = LeaderLease(
            parts.store,
            parts.clock,
            self.cluster_id,
            candidate,
            lease_s,
            self,
            store_away=parts.store_watch.away,
            dice=parts.random,
        )

    # Office

    async def begin(self, mandate: Mandate) -> None:
        """Read all that a leader goes on from, under the new term, and decide from now on.

        Raises:
            PreconditionFailed: STORE_EVICTS: on such a store nobody leads.
            Unavailable: STORE_UNAVAILABLE.
        """
        async with self._changing:
            parts = self._parts.under(mandate.term)
            await parts.store.check_policy()
            try:
                snapshot = await parts.store.clusters.snapshot(self.cluster_id)
            except NotFound:
                snapshot = await self.restore()
            incidents = await parts.store.incidents.open(self.cluster_id)
            suspects = await parts.store.incidents.suspects(self.cluster_id)
            if snapshot.cluster.store_generation < self._generation:
                self._lost = self._lost or OLDER
            self.loop = ClusterLoop(parts, snapshot, incidents, suspects, mandate)
            self.memory = self.loop.memory
            self.loop.start()
            self._tell_lost()
        _log.info("cluster led", cluster_id=self.cluster_id, hosts=len(snapshot.hosts), enabled=snapshot.cluster.ha_enabled)

    async def end(self) -> None:
        """Decide no more; agents are sent to whoever leads now."""
        loop, self.loop = self.loop, None
        if loop is not None:
            self._generation = max(self._generation, loop.memory.cluster.store_generation)
            await loop.close(not_leader(self.cluster_id, self.lease.leader))

    def insists(self) -> bool:
        """Long enough after the store lost the cluster: who led it last is not there to restore it."""
        return self._missing_s is not None and self._parts.clock.now() - self._missing_s > INSIST_LEASES * self._lease_s

    def view(self) -> LeaderView | None:
        """What followers show."""
        if self.loop is None:
            return None
        return LeaderView(learning=self.loop.learning, hosts_without_agent=tuple(self.loop.hosts_without_agent))

    # What the store says

    def missing(self) -> None:
        """The store does not hold the cluster, and nobody deleted it."""
        if self._missing_s is None:
            self._missing_s = self._parts.clock.now()

    async def restore(self) -> ClusterSnapshot:
        """Put a lost cluster back from memory, which only its leader does, and learn anew.

        Raises:
            NotFound: CLUSTER_UNKNOWN, it was deleted on purpose.
            Unavailable: STORE_UNAVAILABLE.
        """
        memory, clusters = self.memory, self._parts.store.clusters
        hosts = [memory.hosts[host_id] for host_id in sorted(memory.hosts)]
        await clusters.restore(memory.cluster, hosts, memory.groups.values(), memory.configs, incidents=memory.incidents.values())
        message = f"The store came back without cluster {self.cluster_id}; its configuration was restored from memory."
        if memory.incidents:
            message += f" VMs that only {', '.join(sorted(memory.incidents))} (down) reported are not known any more."
        self.lost(message, emptied=True)
        return await clusters.snapshot(self.cluster_id)

    def take(self, snapshot: ClusterSnapshot) -> None:
        """Take in a newer state of the store; one with an older generation means that it has lost writes (R20)."""
        self._missing_s = None
        generation = snapshot.cluster.store_generation
        if self.loop is None:
            self._generation = max(generation, self._generation)
            self.memory = ClusterMemory.of(snapshot)
            return
        if generation < self.memory.cluster.store_generation:
            self.lost(OLDER)
        self.loop.apply(snapshot)

    def lost(self, message: str, *, emptied: bool = False) -> None:
        """The store came back without what it held: the leader must learn anew; at once, or as soon as it leads."""
        _log.error("store was lost", cluster_id=self.cluster_id)
        self._lost, self._emptied = message, self._emptied or emptied
        self._tell_lost()

    def _tell_lost(self) -> None:
        if self._lost and self.loop is not None:
            message, self._lost = self._lost, ""
            emptied, self._emptied = self._emptied, False
            self.loop.store_lost(message, emptied=emptied)

    # What agents ask

    async def led(self) -> ClusterLoop:
        """The loop. Waits while a lead that was won is taken up: who followed it here would only be sent here again.

        Raises:
            PreconditionFailed: NOT_LEADER, with the leader's address where it is known.
        """
        if not await self.lease.taken_up(TAKEN_UP_WITHIN_S) or self.loop is None:
            raise not_leader(self.cluster_id, self.lease.leader)
        return self.loop

    def assignment(self, host_id: str) -> ms.SessionAssignment:
        """A host's peers: of the leader's round, or, at a follower, of one as good.

        Raises:
            NotFound: HOST_UNKNOWN.
        """
        if self.loop is not None:
            return self.loop.rounds.of(host_id)
        memory = self.memory
        if host_id not in memory.hosts:
            raise NotFound("HOST_UNKNOWN", f"No cluster has a host {host_id}.", {"host_id": host_id})
        version, round_ = self._drawn
        if version != memory.cluster.version:
            racks = {host_id: memory.hosts[host_id].config.rack for host_id in memory.hypervisors}
            round_ = watchgraph.draw(racks, memory.cluster.config.watchers, self._parts.random)
            version, self._drawn = memory.cluster.version, (memory.cluster.version, round_)
        name = f"{self._parts.run_id}/follower-{version}"
        return session_messages.assignment(memory.cluster, memory.hosts, round_.get(host_id, ()), name)
