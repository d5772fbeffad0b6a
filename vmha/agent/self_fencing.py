"""Stops every VM of this host when its guard has ended, and knows only then that they are gone when the kernel says so (R3).

libvirt is asked first. Whoever it does not stop in time, or while it hangs, is killed by signal. It goes on until nothing is
alive, and looks again while the guard stays latched: nothing may run here before the next registration.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import structlog

from vmha.agent.guests import Guests
from vmha.agent.hypervisor import ENDED, LocalHypervisor
from vmha.agent.keeper import Keeper
from vmha.agent.lease_events import VmsGone
from vmha.agent.metrics import Metrics
from vmha.agent.state import State
from vmha.clock import Clock
from vmha.errors import Unavailable, VmhaError
from vmha.model import REASON_SELF_FENCED, Timers, VmState

PARALLEL: Final = 6
FIRST_SHARE: Final = 0.25
"""Of T_kill: what libvirt gets before signals are sent."""
LATER_SHARE: Final = 0.25
"""Of T_kill: what it gets between them, for VMs that no signal reached."""
RETRY_S: Final = 0.1
WATCH_S: Final = 1.0
"""How often is looked whether something runs again, until the host registers anew."""

_log = structlog.get_logger("vmha.agent")


class SelfFencing:
    """One run of it at a time; the agent's next process goes on with one that was cut short."""

    def __init__(
        self, keeper: Keeper, hypervisor: LocalHypervisor, guests: Guests, state: State, clock: Clock, metrics: Metrics
    ) -> None:
        self._keeper = keeper
        self._hypervisor = hypervisor
        self._guests = guests
        self._state = state
        self._clock = clock
        self._metrics = metrics
        self._task: asyncio.Task[None] | None = None
        self._rounds = 0
        self._began = 0.0
        self._late = False
        guests.why = self.reason

    def order(self, reason: str) -> None:
        """Destroy every VM, and tell the lease when they are gone."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(reason), name="self-fencing")

    async def close(self) -> None:
        """Stop acting; what is left is the next process's."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def reason(self, vm_id: str, state: VmState, reason: str) -> str:
        """Why a VM is in its state: libvirt's reason, unless it was stopped here for the guard's end."""
        if vm_id not in self._state.fenced:
            return reason
        if state in ENDED:
            return REASON_SELF_FENCED
        if not self._keeper.lease.latched:
            self._state.unfence(vm_id)
        return reason

    @property
    def _kill_timeout_s(self) -> float:
        config = self._keeper.lease.config
        return Timers().kill_timeout_s if config is None else config.kill_timeout_s

    @property
    def _pause_s(self) -> float:
        return WATCH_S if self._late else RETRY_S

    async def _run(self, reason: str) -> None:
        self._metrics.self_fencings.inc()
        self._began, self._late = self._clock.now(), False
        self._rounds = 0
        _log.error("self_fencing", reason=reason, incarnation=self._state.incarnation)
        while self._keeper.lease.latched:
            try:
                alive = await self._hypervisor.alive()
            except Unavailable as error:
                await self._kill_unseen(error)
                await asyncio.sleep(self._pause_s)
                continue
            if alive:
                await self._stop_all(alive)
                await asyncio.sleep(self._pause_s)
            else:
                self._gone()
                await asyncio.sleep(WATCH_S)

    def _gone(self) -> None:
        if self._keeper.lease.may_register:
            return
        _log.warning("self_fenced", vms=sorted(self._state.fenced), after_s=round(self._clock.now() - self._began, 3))
        # What was read before is not true any more, and the registration that follows tells what is.
        self._guests.read_anew()
        self._keeper.tell(VmsGone())

    async def _stop_all(self, vm_ids: frozenset[str]) -> None:
        self._note(vm_ids)
        self._rounds += 1
        if self._rounds % 2:
            share = FIRST_SHARE if self._rounds == 1 else LATER_SHARE
            with suppress(TimeoutError):
                async with asyncio.timeout(share * self._kill_timeout_s):
                    room = asyncio.Semaphore(PARALLEL)
                    await asyncio.gather(*(self._destroy(vm_id, room) for vm_id in sorted(vm_ids)))
        else:
            # It also reaches those of which libvirt said that it had stopped them.
            await self._kill(vm_ids)
        self._complain("alive", sorted(vm_ids))

    async def _destroy(self, vm_id: str, room: asyncio.Semaphore) -> None:
        async with room:
            try:
                await self._hypervisor.destroy(vm_id)
            except VmhaError as error:
                if not self._late:
                    _log.warning("destroy_failed", vm_id=vm_id, reason=error.reason, error=error.message)
                await self._hypervisor.kill(vm_id)

    async def _kill(self, vm_ids: Iterable[str]) -> None:
        if not self._late:
            _log.warning("killed_by_signal", vms=sorted(vm_ids))
        for vm_id in sorted(vm_ids):
            await self._hypervisor.kill(vm_id)

    async def _kill_unseen(self, error: Unavailable) -> None:
        """Nobody can say what is alive: whatever was known to be here is killed."""
        known = {vm_id for vm_id, guest in self._guests.last.items() if guest.state is not VmState.SHUTOFF}
        known |= self._state.owned
        self._note(known)
        for vm_id in sorted(known):
            await self._hypervisor.kill(vm_id)
        self._complain("unknown", error.message)

    def _note(self, vm_ids: Iterable[str]) -> None:
        try:
            self._state.fence(vm_ids)
        except Unavailable as error:
            _log.warning("fenced_not_written", error=error.message)  # only the report will lack its reason

    def _complain(self, what: str, which: object) -> None:
        if not self._late and self._clock.now() - self._began > self._kill_timeout_s:
            self._late = True
            self._metrics.self_fencings_late.inc()
            _log.critical("self_fencing_late", limit_s=self._kill_timeout_s, **{what: which})
