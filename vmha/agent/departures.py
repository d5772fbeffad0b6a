"""VMs that left this host by a live migration, until a manager has taken note of it (R22).

On a disk, beyond the boot. A host that reaches no manager while a VM leaves it, and loses power after that, is the VM's host as
far as anybody has heard: told to start it when it is back, it would run a second copy beside the one that has left.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from vmha.agent.hypervisor import ENDED, INCOMING, DomainChange
from vmha.agent.state_file import StateFile
from vmha.errors import Unavailable
from vmha.model import VmState

DEPARTURES_NAME: Final = "departures.json"
KEPT: Final = 512
"""The oldest beyond it are forgotten."""

_log = structlog.get_logger("vmha.agent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """One of them.

    Attributes:
        number: Its own: a VM may come back, and leave again.
        epoch: Under which the VM was this host's; 0 where it was another's.
    """

    number: int
    name: str
    epoch: int


class Departures:
    """All that this host has seen leave.

    Args:
        epoch_of: The epoch under which this host holds a VM.
    """

    def __init__(self, file: StateFile, epoch_of: Callable[[str], int]) -> None:
        self._file = file
        self._epoch_of = epoch_of
        self._untold = self._read()
        self._all = dict(self._untold)
        self._next = len(self._all)
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Keep the record on disk until cancelled. In a thread: a disk that hangs holds up no heartbeat and no self-fencing."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            content = {vm_id: {"name": one.name, "epoch": one.epoch} for vm_id, one in self._untold.items()}
            await asyncio.to_thread(self._write, content)

    @property
    def untold(self) -> Mapping[str, Departure]:
        """By vm_id, those that no manager has taken note of."""
        return self._untold

    def explain(self, vm_id: str, state: VmState, reason: str) -> str:
        """Why a VM is in its state: once it has left, what became of its definition counts for nothing."""
        return str(DomainChange.MIGRATED) if vm_id in self._untold and state in ENDED else reason

    def note(self, vm_id: str, name: str, state: VmState, reason: str) -> int:
        """What is seen of a VM now. Returns the epoch under which it left; 0 where it did not."""
        if state in ENDED:
            if reason == DomainChange.MIGRATED and vm_id not in self._all:
                self._left(vm_id, name)
            departure = self._all.get(vm_id)
            return 0 if departure is None else departure.epoch
        if reason != INCOMING:
            self.returned(vm_id)
        return 0

    def returned(self, vm_id: str) -> None:
        """It is here again."""
        self.superseded(vm_id)
        self._all.pop(vm_id, None)

    def superseded(self, vm_id: str) -> None:
        """It is this host's anew. That its definition goes on saying that it left is no new departure."""
        if self._untold.pop(vm_id, None) is not None:
            self._changed.set()

    def told(self, numbers: Mapping[str, int]) -> None:
        """A manager has taken note of these: vm_id to number."""
        done = [vm_id for vm_id, number in numbers.items() if vm_id in self._untold and self._untold[vm_id].number == number]
        for vm_id in done:
            del self._untold[vm_id]
        if done:
            self._changed.set()

    def _left(self, vm_id: str, name: str) -> None:
        self._all[vm_id] = self._untold[vm_id] = Departure(number=self._next, name=name, epoch=self._epoch_of(vm_id))
        self._next += 1
        while len(self._all) > KEPT:
            oldest = next(iter(self._all))
            del self._all[oldest]
            self._untold.pop(oldest, None)
        self._changed.set()

    def _read(self) -> dict[str, Departure]:
        try:
            found = json.loads(self._file.read() or b"{}")
            return {
                str(vm_id): Departure(number=number, name=str(one["name"]), epoch=int(one["epoch"]))
                for number, (vm_id, one) in enumerate(found.items())
            }
        except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
            _log.warning("departures_unreadable", path=self._file.name, error=type(error).__name__)
            return {}

    def _write(self, content: Mapping[str, Mapping[str, object]]) -> None:
        try:
            if content:
                self._file.write(json.dumps(content).encode())
            else:
                self._file.remove()
        except Unavailable as error:
            # It is told all the same, unless the host loses power before a manager is reached.
            _log.warning("departures_not_written", reason=error.reason, error=error.message)
