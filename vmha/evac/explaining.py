"""Reads what an outlook is made from, and nothing more: no lock, no claim, no journal (B5).

The plan itself may take seconds in a large and full cluster: it is made on a thread, for evacuations under way come first.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final, TypeVar

from vmha.bulkhead import Bulkhead, CallLost, CallNotMade
from vmha.errors import NotFound, Unavailable
from vmha.evac import outlook, planner
from vmha.evac.outlook import HostOutlook, UnderWay, View, VmOutlook
from vmha.store import Store
from vmha.store.records import EvacuationRecord, HostRecord, VmEntry

T = TypeVar("T")
EXPLAIN_S: Final = 8.0
"""For one explanation, with the wait for those before it: shorter than what the command line waits."""
WAITING: Final = 8
"""Explanations that may wait for their turn: one is made at a time."""


class Explaining:
    """Makes outlooks on what the store knows now."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turn, self._waiting = asyncio.Lock(), 0
        self._thread = Bulkhead("explanations", size=1, max_lost=1)

    def close(self) -> None:
        """Lets the thread go."""
        self._thread.close()

    async def vm(self, cluster_id: str, vm_id: str) -> VmOutlook:
        """Where a VM could go now.

        Raises:
            NotFound: CLUSTER_UNKNOWN, VM_UNKNOWN.
            Unavailable: EXPLAIN_BUSY.
        """
        async with self._alone():
            await self._store.clusters.get(cluster_id)
            await self._store.vms.get(cluster_id, vm_id)
            seen = await view(self._store, cluster_id)
            hosts = seen.situation.snapshot.hosts
            vm = next((vm for vm in seen.situation.vms if vm.vm_id == vm_id and vm.owner_host_id in hosts), None)
            if vm is None:
                raise NotFound("VM_UNKNOWN", f"{vm_id} was deleted just now", {"cluster_id": cluster_id, "vm_id": vm_id})
            return await self._apart(lambda: outlook.of_vm(seen, vm))

    async def host(self, cluster_id: str, host_id: str) -> HostOutlook:
        """What would become of a host's VMs if it died now.

        Raises:
            NotFound: CLUSTER_UNKNOWN, HOST_UNKNOWN.
            Unavailable: EXPLAIN_BUSY.
        """
        async with self._alone():
            seen, _ = await self._view_of(cluster_id, host_id)
            return await self._apart(lambda: outlook.of_host(seen, host_id))

    async def preview(self, cluster_id: str, host_id: str) -> tuple[EvacuationRecord, tuple[VmEntry, ...]]:
        """What an evacuation of a host would do now, by its entries.

        Raises:
            NotFound: CLUSTER_UNKNOWN, HOST_UNKNOWN.
            Unavailable: EXPLAIN_BUSY.
        """
        async with self._alone():
            seen, host = await self._view_of(cluster_id, host_id)
            situation = seen.situation
            record = planner.if_it_died(host, cluster_id)
            made = await self._apart(lambda: planner.plan(record, planner.first_entries(record, situation.vms), situation))
            return replace(record, counts=dict(Counter(entry.outcome for entry in made.entries))), made.entries

    async def _view_of(self, cluster_id: str, host_id: str) -> tuple[View, HostRecord]:
        seen = await view(self._store, cluster_id)
        host = seen.situation.snapshot.hosts.get(host_id)
        if host is None:
            about = {"cluster_id": cluster_id, "host_id": host_id}
            raise NotFound("HOST_UNKNOWN", f"{cluster_id} has no host {host_id}", about)
        return seen, host

    async def _apart(self, make: Callable[[], T]) -> T:
        try:
            return await self._thread.run(make, EXPLAIN_S)
        except CallLost:
            raise TimeoutError from None
        except CallNotMade:
            raise Unavailable("EXPLAIN_BUSY", "an explanation that took too long is still being made") from None

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        if self._waiting >= WAITING:
            raise Unavailable("EXPLAIN_BUSY", f"{WAITING} explanations are waited for already")
        self._waiting += 1
        try:
            async with asyncio.timeout(EXPLAIN_S), self._turn:
                yield
        except TimeoutError:
            raise Unavailable("EXPLAIN_BUSY", f"the explanation took longer than {EXPLAIN_S:g} s") from None
        finally:
            self._waiting -= 1


async def view(store: Store, cluster_id: str) -> View:
    """Journals first, as a plan reads them: what is claimed between two reads is then seen twice, and never not at all.

    Raises:
        NotFound: CLUSTER_UNKNOWN.
    """
    unfinished = await store.evacuations.unfinished(cluster_id)
    entries = await asyncio.gather(*(store.evacuations.entries(cluster_id, record.evacuation_id) for record in unfinished))
    snapshot, vms = await asyncio.gather(store.clusters.snapshot(cluster_id), store.vms.list(cluster_id))
    journaled = [entry for of_one in entries for entry in of_one]
    return View(
        cluster_id=cluster_id,
        situation=planner.Situation(snapshot=snapshot, vms=vms, journaled=journaled),
        under_way=tuple(UnderWay(record=r, entries=tuple(e)) for r, e in zip(unfinished, entries, strict=True)),
    )
