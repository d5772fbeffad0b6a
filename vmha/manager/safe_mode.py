"""Safe mode: after the store has lost writes nothing is started or evacuated until every host has said what it runs (R20).

Found out in two ways: the store came back older than this manager knows it, or an agent has seen a generation that the store
does not know. Entered and left durably; it ends by itself with the last host's inventory, or an operator's word that it is off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import structlog

from vmha.errors import NotFound
from vmha.manager.alarms import AlarmSink
from vmha.manager.host_queues import HostQueues
from vmha.manager.memory import ClusterMemory
from vmha.model import PROVEN_DEAD, HostState
from vmha.store import Store
from vmha.store.records import ClusterRecord, HostRecord

_log = structlog.get_logger("vmha.manager")
ALARM: Final = "STORE_LOST"
RETRY_S: Final = 0.5


class SafeMode:
    """Safe mode of one cluster.

    Args:
        lost: Told when the store turns out to have lost writes: whatever was learnt counts no more.
        changed: Told when it was entered or left, or waits for one host less.
    """

    def __init__(
        self,
        store: Store,
        memory: ClusterMemory,
        queues: HostQueues,
        alarms: AlarmSink,
        *,
        lost: Callable[[], None],
        changed: Callable[[], None],
    ) -> None:
        self._store = store
        self._memory = memory
        self._queues = queues
        self._alarms = alarms
        self._lost = lost
        self._changed = changed
        self._seen = 0
        self._was_on = False
        self._awaited: tuple[str, ...] = ()
        self._arriving: list[str] | None = None

    def begin(self, message: str, *, emptied: bool) -> None:
        """The store came back without what this manager knows: wait for every host that may run something.

        Not for one that never registered, nor for one whose death was proven and that has not registered since: it runs nothing.
        What only such a host had reported is not known any more when the store came back empty, and an alarm names it.
        """
        registered = [self._memory.hosts[host_id] for host_id in self._memory.hypervisors]
        registered = [host for host in registered if host.incarnation > 0]
        waits = [host.host_id for host in registered if not _is_dead(host)]
        self._enter(message, waits, self._memory.cluster.store_generation)
        for host in registered:
            if emptied and _is_dead(host) and host.state is not HostState.EVACUATED:
                self._forgotten(host.host_id)

    def all_told(self) -> bool:
        """Whether the store knows all that executes in the cluster, as far as this manager was told."""
        cluster = self._memory.cluster
        return not cluster.safe_mode and self._seen <= max(cluster.store_generation, self._memory.told)

    def seen(self, generation: int) -> None:
        """An agent has seen this generation of the store. Where the store does not know it, it has lost writes."""
        if generation <= max(self._memory.cluster.store_generation, self._memory.told, self._seen):
            return
        self._seen = generation
        self._queues.put("", self._compare, until_done=True, fact="compare")

    def arrived(self, host_id: str) -> None:
        """A host's whole inventory is stored."""
        if host_id not in self._memory.cluster.awaited:
            self._alarms.clear_alarm(ALARM, host_id)
            return
        self._alarms.clear_alarm(ALARM, host_id)
        if self._arriving is not None:
            self._arriving.append(host_id)
            return
        self._arriving = arriving = [host_id]

        async def record() -> None:
            # Whoever comes from here on is written down behind these: one write for all that come in a moment.
            if self._arriving is arriving:
                self._arriving = None
            self._put(await self._store.clusters.safe_arrived(self._memory.cluster.cluster_id, arriving))

        self._queues.put("", record, until_done=True)

    def look(self) -> None:
        """The cluster's record may have changed: begin or end what goes with it."""
        awaited = self._memory.cluster.awaited
        for host_id in self._awaited:
            host = self._memory.hosts.get(host_id)
            if host_id not in awaited and host is not None and host.is_confirmed_off:
                self._forgotten(host_id)
        self._awaited = awaited
        on = self._memory.cluster.safe_mode
        if on == self._was_on:
            return
        self._was_on = on
        _log.warning("safe mode", cluster_id=self._memory.cluster.cluster_id, on=on, awaited=self._memory.cluster.awaited)
        if on:
            waits = ", ".join(self._memory.cluster.awaited)
            self._alarms.raise_alarm(
                ALARM, "", f"The store has lost writes; nothing is started before these have reported: {waits}"
            )
        else:
            self._alarms.clear_alarm(ALARM, "")
        self._changed()

    async def _compare(self) -> None:
        record = await self._store.clusters.get(self._memory.cluster.cluster_id)
        if self._seen <= record.store_generation:
            # This manager was behind, not the store.
            return
        message = (
            f"An agent knows generation {self._seen} of the store, which is at {record.store_generation}: it has lost writes."
        )
        self._lost()
        # What the record says of hosts may be as old as its generation: all of them are waited for.
        self._enter(message, self._memory.hypervisors, self._seen)

    def _enter(self, message: str, hosts: list[str], generation: int) -> None:
        _log.error("store was lost", cluster_id=self._memory.cluster.cluster_id, message=message)
        if hosts:
            message += f" Nothing is started before these have said what they run: {', '.join(hosts)}."
        self._alarms.clear_alarm(ALARM, "")
        self._alarms.raise_alarm(ALARM, "", message)
        if hosts and not self._memory.cluster.safe_mode:
            # At once: what is decided before the store's answer must know it.
            self._memory.cluster = replace(self._memory.cluster, awaited=tuple(hosts))
            self._memory.entering = True
        self._was_on, self._awaited = self._memory.cluster.safe_mode, self._memory.cluster.awaited
        self._changed()

        # After its beginning was written: the queue keeps the order.
        self._arriving = None

        async def enter() -> None:
            while True:
                try:
                    record = await self._store.clusters.enter_safe_mode(self._memory.cluster.cluster_id, generation, hosts)
                    break
                except NotFound:
                    # Lost once more; it is being restored.
                    await asyncio.sleep(RETRY_S)
            self._memory.entering = False
            self._put(record)

        self._queues.put("", enter, until_done=True)

    def _forgotten(self, host_id: str) -> None:
        self._alarms.raise_alarm(ALARM, host_id, f"VMs that only {host_id} reported are not known any more.")

    def _put(self, record: ClusterRecord) -> None:
        self._memory.put_configs(record, self._memory.configs)
        self.look()


def _is_dead(host: HostRecord) -> bool:
    return host.is_confirmed_off or (host.incarnation_revoked and host.state in PROVEN_DEAD)
