"""Notices a VM that two hosts report running. A live migration looks like it for a moment, so it must last."""

from __future__ import annotations

import asyncio
from typing import Final

from vmha.errors import Unavailable, VmhaError
from vmha.manager.alarms import AlarmSink
from vmha.manager.inventory import Seen
from vmha.model import VmState
from vmha.store import Store

LASTS_S: Final = 5.0
MOST: Final = 10_000

Copy = tuple[str, str]
"""host_id, vm_id of a running copy whose owner is another host."""


class Duplicates:
    """Second copies that run in one cluster."""

    def __init__(self, store: Store, cluster_id: str, alarms: AlarmSink, *, lasts_s: float = LASTS_S) -> None:
        self._store = store
        self._cluster_id = cluster_id
        self._alarms = alarms
        self._lasts_s = lasts_s
        self._copies: dict[Copy, asyncio.TimerHandle] = {}
        self._checks: set[asyncio.Task[None]] = set()

    def note(self, host_id: str, seen: Seen, *, whole: bool) -> None:
        """Take in what a host's inventory has shown."""
        running = {vm_id for vm_id in seen.foreign if seen.states.get(vm_id) is VmState.RUNNING}
        known = {vm_id for host, vm_id in self._copies if host == host_id}
        for vm_id in known - running if whole else known & seen.states.keys() - running:
            self._over((host_id, vm_id))
        for vm_id in running - known:
            if len(self._copies) < MOST:
                self._copies[host_id, vm_id] = asyncio.get_running_loop().call_later(self._lasts_s, self._look, (host_id, vm_id))

    def close(self) -> None:
        """Look no more."""
        for timer in self._copies.values():
            timer.cancel()
        self._copies.clear()
        for check in self._checks:
            check.cancel()

    def _over(self, copy: Copy) -> None:
        self._copies.pop(copy).cancel()
        self._alarms.clear_alarm("DUPLICATE_VM", copy[0], copy[1])

    def _look(self, copy: Copy) -> None:
        check = asyncio.create_task(self._check(copy), name=f"duplicate {copy[1]}")
        self._checks.add(check)
        check.add_done_callback(self._checks.discard)

    async def _check(self, copy: Copy) -> None:
        host_id, vm_id = copy
        try:
            record = await self._store.vms.get(self._cluster_id, vm_id)
        except Unavailable:
            # The host need not name it again for long: it is looked at again.
            if copy in self._copies:
                self._copies[copy] = asyncio.get_running_loop().call_later(self._lasts_s, self._look, copy)
            return
        except VmhaError:
            self._copies.pop(copy, None)  # gone
            return
        if copy not in self._copies:
            return
        if record.owner_host_id == host_id or record.state is not VmState.RUNNING:
            self._over(copy)
            return
        message = f"{record.name} runs on {record.owner_host_id}, its owner, and on {host_id}"
        self._alarms.raise_alarm("DUPLICATE_VM", host_id, message, vm_id)
