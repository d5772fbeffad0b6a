"""What callers may ask of the evacuator, and under which conditions; the contract's RPCs without their messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from vmha.errors import Aborted, NotFound, PreconditionFailed, Unavailable
from vmha.evac.supervisor import Supervisor
from vmha.model import HostState
from vmha.store import Store
from vmha.store.records import EvacuationRecord, HistoryRecord, HostRecord

CAN_BE_EVACUATED = frozenset(
    {
        HostState.DOWN,
        HostState.FENCING,
        HostState.FENCE_PENDING,
        HostState.FENCED,
        HostState.EVACUATING,
        HostState.EVACUATED,
    }
)
"""States of a host whose failure is confirmed."""
POLL_S = 1.0
"""How often a stream looks into the journal of an evacuation that another process runs."""
GATHER_S = 0.01
"""What happens within this time goes out together."""


class Orders:
    """Starts, follows and cancels evacuations."""

    def __init__(self, store: Store, supervisor: Supervisor) -> None:
        self._store, self._supervisor = store, supervisor

    async def start(
        self, cluster_id: str, host_id: str, evacuation_id: str, fence_epoch: int, leader_term: int, lease_proof: str = ""
    ) -> EvacuationRecord:
        """Starts the evacuation, or joins it when the id is known already: a running one goes on whatever the cluster is set to.

        Raises:
            PreconditionFailed: CLUSTER_NOT_ACTIVE, HOST_NOT_DOWN.
            Aborted: STALE_FENCE_EPOCH, HOST_BUSY; DRAINING is Unavailable.
            NotFound: CLUSTER_UNKNOWN, HOST_UNKNOWN.
            InvalidField: REQUEST_ID_REUSED.
        """
        if self._supervisor.draining:
            raise Unavailable("DRAINING", "the evacuator is shutting down")
        known = ""
        try:
            before = await self._store.evacuations.get(cluster_id, evacuation_id)
            incarnation, known = before.incarnation, before.lease_proof
        except NotFound:
            incarnation = (await self._confirmed_host(cluster_id, host_id, fence_epoch)).incarnation
        record = await self._store.evacuations.start(
            cluster_id, evacuation_id, host_id, fence_epoch, incarnation, leader_term, lease_proof
        )
        self._supervisor.ensure(record)
        if lease_proof and not known:
            self._supervisor.prove_again(evacuation_id)
        return record

    async def _confirmed_host(self, cluster_id: str, host_id: str, fence_epoch: int) -> HostRecord:
        cluster = await self._store.clusters.get(cluster_id)
        host = await self._store.hosts.get(cluster_id, host_id)
        if not cluster.ha_enabled:
            raise PreconditionFailed("CLUSTER_NOT_ACTIVE", f"HA is disabled in {cluster_id}", {"cluster_id": cluster_id})
        if host.state not in CAN_BE_EVACUATED:
            about = {"host_id": host_id, "state": host.state.value}
            raise PreconditionFailed("HOST_NOT_DOWN", f"{host_id} is {host.state}; only a host that is down is evacuated", about)
        if host.fence_epoch != fence_epoch:
            about = {"host_id": host_id, "fence_epoch": str(host.fence_epoch)}
            raise Aborted("STALE_FENCE_EPOCH", f"the failure of {host_id} has the epoch {host.fence_epoch}", about)
        return host

    async def follow(self, cluster_id: str, evacuation_id: str, after_sequence: int) -> AsyncIterator[HistoryRecord]:
        """Every step after one, to the end of the evacuation. Raises Unavailable("DRAINING") when the evacuator stops."""
        record = await self._store.evacuations.get(cluster_id, evacuation_id)
        self._supervisor.ensure(record)
        while True:
            rang = self._supervisor.bell.next(evacuation_id)
            steps = await self._store.evacuations.history(cluster_id, evacuation_id, after_sequence)
            for step in steps:
                yield step
                after_sequence = step.sequence
            ended = steps[-1].evacuation.state.is_terminal if steps else await self._has_ended(record, after_sequence)
            if ended:
                return
            if self._supervisor.draining:
                raise Unavailable("DRAINING", "the evacuator is shutting down; ask another, or again")
            if not steps:
                await self._supervisor.bell.wait(rang, POLL_S)
            await asyncio.sleep(GATHER_S)

    async def _has_ended(self, record: EvacuationRecord, after_sequence: int) -> bool:
        head = await self._store.evacuations.get(record.cluster_id, record.evacuation_id)
        return head.state.is_terminal and head.sequence <= after_sequence

    async def cancel(self, cluster_id: str, evacuation_id: str, reason: str) -> EvacuationRecord:
        """Asks the runner to end it, wherever it runs."""
        record = await self._store.evacuations.request_cancel(cluster_id, evacuation_id, reason)
        self._supervisor.ensure(record)
        self._supervisor.cancel(evacuation_id, reason)
        return record
