"""Makes true what the manager says this host owns and must give up (S6, S8).

Given up: destroyed and undefined. Owned, and the registration is new: defined where it is missing, and started where it should
run. A VM that should be paused is defined and left shut off: its memory is lost, and started paused it would hold capacity for
nothing. What fails is logged and tried again, each VM for itself.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import structlog

from vmha.agent.guests import Guests
from vmha.agent.hypervisor import Domain, HypervisorRefused, LocalHypervisor
from vmha.agent.keeper import Keeper
from vmha.agent.state import State
from vmha.agent.vm_locks import VmLocks
from vmha.errors import NotFound, PreconditionFailed, Unavailable, VmhaError
from vmha.model import VmState

PARALLEL: Final = 3
"""Domains that are started or removed at a time; one of the port's threads stays free for reading."""
ATTEMPTS: Final = 12
BACKOFF_S: Final = (0.5, 30.0)
"""Some four minutes in all: storage may hold locks of this host's own last boot for a lease's length (NFS: 90 s)."""

_log = structlog.get_logger("vmha.agent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """A VM that this host owns.

    Attributes:
        admit: It waits here for an admission that no evacuation will ask for any more.
        start: It was left out when the registration was completed, and is to be started now.
    """

    vm_id: str
    epoch: int
    desired: VmState
    domain_xml: str = ""
    admit: bool = False
    start: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """A VM that another host owns, under `epoch`."""

    vm_id: str
    epoch: int
    owner_host_id: str = ""


class _Retry(Exception):
    """It did not work, and may work later."""


class Ownership:
    """Carries ownership updates out, in tasks of their own: one for each VM, the newest update wins."""

    def __init__(self, state: State, keeper: Keeper, hypervisor: LocalHypervisor, guests: Guests, locks: VmLocks) -> None:
        self._state = state
        self._keeper = keeper
        self._hypervisor = hypervisor
        self._guests = guests
        self._locks = locks
        self._room = asyncio.Semaphore(PARALLEL)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._starting: set[str] = set()

    def update(self, incarnation: int, owned: list[Owned], released: list[Released], *, start_owned: bool) -> None:
        """Take a whole update in. One for another incarnation than the one in force is ignored."""
        if incarnation != self._state.incarnation:
            _log.warning("ownership_ignored", incarnation=incarnation, in_force=self._state.incarnation)
            return
        for vm in owned:
            if vm.epoch > self._state.epoch(vm.vm_id):
                self._guests.forget_departure(vm.vm_id)
        self._state.told({vm.vm_id: vm.epoch for vm in owned}, {vm.vm_id: vm.epoch for vm in released})
        _log.info("ownership", owned=len(owned), released=len(released), start_owned=start_owned)
        for gone in released:
            self._take_on(gone.vm_id, self._release(gone))
        wanted = {vm.vm_id: vm for vm in owned if vm.desired in {VmState.RUNNING, VmState.PAUSED}}
        if start_owned:
            self._state.to_start(set(wanted))
        else:
            self._state.to_start({*self._state.starting, *(vm_id for vm_id, vm in wanted.items() if vm.start)})
        # An agent that ended in the middle of its starts goes on with them.
        for vm in wanted.values():
            if vm.vm_id in self._state.starting and vm.vm_id not in self._starting:
                self._take_on(vm.vm_id, self._start(vm, incarnation, self._start_once))
        for vm in wanted.values():
            if vm.admit and vm.desired is VmState.RUNNING and vm.vm_id not in self._starting:
                self._take_on(vm.vm_id, self._start(vm, incarnation, self._admit_once))

    def revoked(self) -> None:
        """The incarnation is over: what is not started yet will not be."""
        for vm_id in list(self._starting):
            if (task := self._tasks.get(vm_id)) is not None:
                task.cancel()

    async def close(self) -> None:
        """Stop acting; guests are left as they are."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _take_on(self, vm_id: str, work: Coroutine[Any, Any, None]) -> None:
        if (older := self._tasks.get(vm_id)) is not None:
            older.cancel()
        task = self._tasks[vm_id] = asyncio.create_task(work, name=f"ownership {vm_id}")
        task.add_done_callback(lambda done: self._ended(vm_id, done))

    def _ended(self, vm_id: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(vm_id) is task:
            del self._tasks[vm_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("ownership_failed", vm_id=vm_id, exc_info=error)

    # Giving up

    async def _release(self, vm: Released) -> None:
        await self._until_done("release", vm.vm_id, lambda: self._release_once(vm))

    async def _release_once(self, vm: Released) -> None:
        if self._state.owns(vm.vm_id):
            _log.info("release_superseded", vm_id=vm.vm_id, epoch=vm.epoch)
            return
        await self._hypervisor.remove(vm.vm_id)
        _log.info("vm_released", vm_id=vm.vm_id, epoch=vm.epoch, owner=vm.owner_host_id)

    # Starting

    async def _start(self, vm: Owned, incarnation: int, once: Callable[[Owned, int], Awaitable[None]]) -> None:
        self._starting.add(vm.vm_id)
        try:
            await self._until_done("start", vm.vm_id, lambda: once(vm, incarnation))
            self._state.settled(vm.vm_id)
        finally:
            self._starting.discard(vm.vm_id)

    async def _admit_once(self, vm: Owned, incarnation: int) -> None:
        """Let it execute where it waits; one that does anything else stays as it is."""
        domain = await self._hypervisor.domain(vm.vm_id)
        if domain is None or domain.state is not VmState.AWAITING_ADMISSION or self._is_superseded(vm, incarnation):
            return
        self._check_lease()
        await self._make_run(domain)

    def _is_superseded(self, vm: Owned, incarnation: int) -> bool:
        state = self._state
        if state.incarnation == incarnation and state.epoch(vm.vm_id) <= vm.epoch and state.owns(vm.vm_id):
            return False
        _log.info("start_superseded", vm_id=vm.vm_id, epoch=vm.epoch)
        return True

    async def _start_once(self, vm: Owned, incarnation: int) -> None:
        domain = await self._hypervisor.domain(vm.vm_id)
        if domain is None:
            if not vm.domain_xml:
                raise _Retry("it is not defined here, and no XML was sent for it")
            await self._hypervisor.define(vm.vm_id, vm.domain_xml)
            domain = await self._hypervisor.domain(vm.vm_id)
        if self._is_superseded(vm, incarnation):
            return
        if vm.desired is VmState.RUNNING and domain is not None:
            self._check_lease()
            await self._make_run(domain)

    def _check_lease(self) -> None:
        try:
            self._keeper.check_may_start()
        except PreconditionFailed as error:
            # The first ack of this registration is on its way; or the lease has run out, and the next registration tells anew.
            raise Unavailable(error.reason, error.message) from None

    async def _make_run(self, domain: Domain) -> None:
        if domain.state is VmState.AWAITING_ADMISSION:
            # Created here by an evacuation that this registration overtook.
            await self._hypervisor.resume(domain.vm_id)
        elif domain.state in {VmState.SHUTOFF, VmState.CRASHED}:
            await self._hypervisor.start(domain.vm_id)
        else:
            return  # it runs, or its user paused it meanwhile
        _log.info("vm_started", vm_id=domain.vm_id, vm_name=domain.name)

    # Trying again

    async def _until_done(self, what: str, vm_id: str, act: Any) -> None:
        refusals = tries = 0
        while refusals < ATTEMPTS:
            await self._guests.readable.wait()
            lock = self._locks(vm_id)
            try:
                async with self._room, lock:
                    await act()
                self._guests.look_again(vm_id)
                return
            except (Unavailable, HypervisorRefused, NotFound, _Retry) as error:
                # Only what libvirt refused is given up; while it is away there is nothing to give up for.
                refusals += not isinstance(error, Unavailable)
                tries += 1
                message = error.message if isinstance(error, VmhaError) else str(error)
                _log.warning(f"{what}_failed", vm_id=vm_id, attempt=tries, error=message)
            first, cap = BACKOFF_S
            await asyncio.sleep(random.uniform(0.5, 1.0) * min(cap, first * 2 ** min(tries, 10)))
        self._guests.look_again(vm_id)
        _log.error(f"{what}_given_up", vm_id=vm_id, attempts=tries)
