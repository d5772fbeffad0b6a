"""VMs that a host was not told to start when it registered, because another host might have had them (R22).

A live migration whose source reboots in the middle: until the other host has said that nothing of the VM is there, or is proven
dead, its own host must not start it. Then somebody has to tell it to. Which VMs wait is in the store, so it outlasts the manager.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from vmha.errors import Aborted, Unavailable
from vmha.manager.memory import ClusterMemory
from vmha.manager.session_messages import ownership_updates
from vmha.manager.sessions import Session, Sessions
from vmha.store import Store
from vmha.store.records import VmRecord
from vmha.v1 import manager_service_pb2 as ms

LOOK_S: Final = (1.0, 16.0)
"""Pause between two looks: at first, and at most."""


class WithheldVms:
    """Those of one cluster.

    Args:
        leading: Whether this manager may act at this moment (R19).
    """

    def __init__(self, store: Store, memory: ClusterMemory, sessions: Sessions, leading: Callable[[], bool]) -> None:
        self._store, self._memory, self._sessions, self._leading = store, memory, sessions, leading
        self._task: asyncio.Task[None] | None = None
        self._again = False
        self._told: dict[str, Session] = {}

    def look_after(self) -> None:
        """There may be some: look until there are none."""
        self._again = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=f"withheld VMs of {self._memory.cluster.cluster_id}")

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        pause_s = LOOK_S[0]
        while self._again:
            self._again = False
            try:
                left, free = await self._store.vms.withheld(self._memory.cluster.cluster_id)
            except Aborted:
                return  # another manager leads
            except Unavailable:
                left, free = 1, ()
            if self._leading() and not self._memory.cluster.safe_mode:
                self._told = {record.vm_id: session for record in free if (session := self._tell(record)) is not None}
            if left or self._again:
                pause_s = LOOK_S[0] if self._again else min(2 * pause_s, LOOK_S[1])
                self._again = True
                await asyncio.sleep(pause_s)

    def _tell(self, record: VmRecord) -> Session | None:
        """Once in a session: it loses nothing, and the agent tries for long."""
        session = self._sessions.get(record.owner_host_id)
        if session is None or not session.registered or session.incarnation != record.owner_incarnation:
            return None  # what it owns is told when its inventory is stored
        if self._told.get(record.vm_id) is not session:
            session.log.info("start of a withheld VM", vm_id=record.vm_id)
            updates = ownership_updates(session.incarnation, [record], [], start_owned=False, admit=True, reported=frozenset())
            for update in updates:
                session.send(ms.ReportHealthResponse(ownership=update))
        return session
