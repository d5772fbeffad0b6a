"""What waits to be sent in a session. Newer replaces older, so nothing piles up behind a slow manager; heartbeats go first."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from vmha.agent import messages
from vmha.agent.guests import Guest, Guests
from vmha.agent.hypervisor import DomainChange
from vmha.agent.identity import Identity
from vmha.agent.prober import Prober
from vmha.agent.relay_desk import RelayDesk
from vmha.model import Observation
from vmha.v1 import manager_service_pb2 as ms

MAX_SCOUTS: Final = 16


class Outbox:
    """Builds each message at the moment when it is sent, from what is known then."""

    def __init__(self, identity: Identity, prober: Prober, guests: Guests, relays: RelayDesk) -> None:
        self._identity = identity
        self._prober = prober
        self._guests = guests
        self._relays = relays
        self._first: deque[ms.ReportHealthRequest] = deque()
        self._scouts: deque[tuple[str, list[Observation]]] = deque(maxlen=MAX_SCOUTS)
        self._parts: deque[ms.InventoryReport] = deque()
        self._heartbeat = self._report = self._everything = False
        self._changed: set[str] = set()
        self._wake = asyncio.Event()
        self._unacked_report = 0
        self._unacked_inventory: dict[int, dict[str, int]] = {}  # the departures that each tells of
        self._overdue: set[int] = set()

    def put(self, message: ms.ReportHealthRequest) -> None:
        """Send this before anything else."""
        self._first.append(message)
        self._wake.set()

    def heartbeat(self) -> None:
        """Send a heartbeat, with those that wait to be carried on."""
        self._heartbeat = True
        self._wake.set()

    def report(self) -> None:
        """Send a full report."""
        self._report = True
        self._wake.set()

    def scouted(self, scout_id: str, observations: list[Observation]) -> None:
        """Send what scouts saw."""
        self._scouts.append((scout_id, observations))
        self._wake.set()

    def inventory(self, changed: frozenset[str] | None) -> None:
        """Send what changed; None: everything."""
        if changed is None:
            self._everything = True
        else:
            self._changed |= changed
        self._wake.set()

    def acked(self, sequence: int) -> None:
        """A report or inventory is stored."""
        self._guests.departures.told(self._unacked_inventory.pop(sequence, {}))
        if sequence == self._unacked_report:
            self._unacked_report = 0

    def resend(self) -> None:
        """Make anew what was not acknowledged at the last call either."""
        if self._unacked_report in self._overdue:
            self.report()
        if self._unacked_inventory.keys() & self._overdue:
            self._unacked_inventory.clear()
            self.inventory(None)
        self._overdue = {self._unacked_report, *self._unacked_inventory} - {0}

    async def next(self) -> ms.ReportHealthRequest:
        """Wait for something to send."""
        while True:
            self._wake.clear()
            if (message := self._next()) is not None:
                return message
            await self._wake.wait()

    def _next(self) -> ms.ReportHealthRequest | None:
        if self._first:
            return self._first.popleft()
        if self._heartbeat:
            self._heartbeat = False
            if (bundle := self._make_bundle()) is not None:
                return bundle
        if self._scouts:
            scout_id, observations = self._scouts.popleft()
            return self._make_report(observations, scout_id)
        if self._report:
            self._report = False
            if observations := self._prober.observations():
                return self._make_report(observations)
        return self._next_inventory()

    def _make_bundle(self) -> ms.ReportHealthRequest | None:
        own = self._identity.heartbeat()
        if own is None:
            return None
        return ms.ReportHealthRequest(heartbeat=ms.AgentHeartbeat(own=own, forwarded=self._relays.bundle()))

    def _make_report(self, observations: list[Observation], scout_id: str = "") -> ms.ReportHealthRequest:
        sequence = self._identity.next_report()
        if not scout_id:
            self._unacked_report = sequence
        return ms.ReportHealthRequest(report=messages.report(sequence, self._prober.version, observations, scout_id))

    def _next_inventory(self) -> ms.ReportHealthRequest | None:
        table = self._guests.table
        if not self._parts and table is not None:
            if self._everything:
                # With those that are gone, and why: whoever was not listening then must know it now.
                everyone = [*table.values(), *self._guests.departed.values()]
                self._parts.extend(messages.inventory(everyone, self._guests.host, self._identity.state, full=True))
                self._everything = False
                self._changed.clear()
                self._unacked_inventory.clear()
            elif self._changed:
                found: list[Guest] = [guest for vm_id in sorted(self._changed) if (guest := self._guests.get(vm_id)) is not None]
                self._changed.clear()
                if found:
                    self._parts.extend(messages.inventory(found, None, self._identity.state, full=False))
        if not self._parts:
            return None
        part = self._parts.popleft()
        part.sequence = self._identity.next_report()
        self._unacked_inventory[part.sequence] = self._departures_in(part)
        return ms.ReportHealthRequest(inventory=part)

    def _departures_in(self, part: ms.InventoryReport) -> dict[str, int]:
        untold = self._guests.departures.untold
        left = (vm.vm_id for vm in part.vms if vm.state_reason == DomainChange.MIGRATED)
        return {vm_id: untold[vm_id].number for vm_id in left if vm_id in untold}
