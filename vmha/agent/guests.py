"""What is known of this host and its domains: read in full when libvirt connects, again with each lifecycle event, and slowly
all over again. While libvirt is away nothing is known, and nothing is said: an inventory that could not be read is not empty.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import structlog

from vmha.agent.departures import Departures
from vmha.agent.hypervisor import Domain, DomainChange, LocalHypervisor
from vmha.agent.metrics import Metrics
from vmha.agent.pause import set_within
from vmha.agent.storage_keeper import StorageKeeper
from vmha.clock import Clock
from vmha.domain_xml import parse_domain
from vmha.domain_xml_added import with_added
from vmha.errors import InvalidField, VmhaError
from vmha.facts import HostFacts, VmFacts
from vmha.model import VmState

RETRY_S: Final = 1.0
DEPARTED_KEPT: Final = 512
"""Domains that are gone, of which the reason is still told."""

_log = structlog.get_logger("vmha.agent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """One domain, as it is reported.

    Attributes:
        reason: libvirt's reason for the state; of a domain that is gone, why it went: "undefined", "destroyed", "migrated"...
        domain_xml: To define it elsewhere; empty when it is gone, or larger than may be sent.
        facts: None when the XML is empty.
        autostart: libvirt's flag now.
        autostart_taken: The flag was on before an agent took it over.
        claim_epoch: Of the evacuation's claim under which it was created here; 0 where none created it.
        left_epoch: Under which it was this host's when it left by a live migration; 0 where it did not.
    """

    vm_id: str
    name: str
    state: VmState
    reason: str = ""
    domain_xml: str = ""
    facts: VmFacts | None = None
    persistent: bool = False
    autostart: bool = False
    autostart_taken: bool = False
    claim_epoch: int = 0
    left_epoch: int = 0


Listener = Callable[[frozenset[str] | None], None]
"""Told which guests changed; None: all of them may have."""


class Guests:
    """Keeps the table of guests; is a `hypervisor.Watcher`."""

    def __init__(
        self,
        hypervisor: LocalHypervisor,
        storage: StorageKeeper,
        departures: Departures,
        clock: Clock,
        metrics: Metrics,
        *,
        interval_s: float = 127.0,
    ) -> None:
        self._hypervisor = hypervisor
        self._storage = storage
        self.departures = departures
        self._clock = clock
        self._metrics = metrics
        self._interval_s = interval_s
        self._table: dict[str, Guest] | None = None
        self._departed = {
            vm_id: _gone(vm_id, left.name, DomainChange.MIGRATED, left.epoch) for vm_id, left in departures.untold.items()
        }
        self._why_gone: dict[str, str] = {}
        self._changed: set[str] = set()
        self._all_due = self._clock.now()
        self._wake = asyncio.Event()
        self._complaints: dict[str, str] = {}
        self.host: HostFacts | None = None
        self.last: Mapping[str, Guest] = {}
        """The table as it was read last, kept while libvirt is away."""
        self.why: Callable[[str, VmState, str], str] = lambda vm_id, state, reason: reason
        """The reason that is reported of a VM in a state, given libvirt's."""
        self.listeners: list[Listener] = []
        self.readable = asyncio.Event()
        """Set while libvirt is there."""

    @property
    def table(self) -> Mapping[str, Guest] | None:
        """All domains that are there, by vm_id; None while nothing is known."""
        return self._table

    @property
    def departed(self) -> Mapping[str, Guest]:
        """Domains that went while this agent was looking, with the reason."""
        return self._departed

    def get(self, vm_id: str) -> Guest | None:
        """A guest, also one that is gone; None when nothing is known of it."""
        return (self._table or {}).get(vm_id) or self._departed.get(vm_id)

    def every(self, interval_s: float) -> None:
        """Read everything again this often."""
        if interval_s < self._interval_s:
            self._all_due = min(self._all_due, self._clock.now() + interval_s)
            self._wake.set()
        self._interval_s = interval_s

    def look_again(self, vm_id: str) -> None:
        """Something was done to it."""
        self._changed.add(vm_id)
        self._wake.set()

    def forget_departure(self, vm_id: str) -> None:
        """It is this host's anew: how an older copy of it went says nothing of this one."""
        self._departed.pop(vm_id, None)
        self.departures.superseded(vm_id)

    def look_at_all(self) -> None:
        """Read everything again now."""
        self._all_due = self._clock.now()
        self._wake.set()

    def read_anew(self) -> None:
        """What was read does not hold any more: nothing is known until everything is read again."""
        self._table = None
        self.look_at_all()

    async def run(self) -> None:
        """Keep the table until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._hypervisor.run(self), name="libvirt")
            group.create_task(self._keep(), name="inventory")
            group.create_task(self.departures.run(), name="departures")
            group.create_task(self._storage.run(self.look_at_all), name="storage")

    # hypervisor.Watcher

    def connected(self) -> None:
        """See `Watcher`."""
        self.readable.set()
        self.look_at_all()

    def disconnected(self) -> None:
        """See `Watcher`."""
        self.readable.clear()
        self._table = None

    def domain_changed(self, vm_id: str, change: DomainChange) -> None:
        """See `Watcher`."""
        gone = self._departed.get(vm_id)
        if gone is not None and change is DomainChange.UNDEFINED:
            # The look that an earlier event asked for found it gone already.
            if gone.reason != DomainChange.MIGRATED:
                self._departed[vm_id] = replace(gone, reason=str(change))
        elif change is DomainChange.CHANGED:
            self._why_gone.pop(vm_id, None)
        elif not (change is DomainChange.UNDEFINED and self._why_gone.get(vm_id) == DomainChange.MIGRATED):
            # A migration that undefines its source says both; that it left is what counts.
            self._why_gone[vm_id] = str(change)
        self.look_again(vm_id)

    # Reading

    async def _keep(self) -> None:
        while True:
            await self.readable.wait()
            await set_within(self._wake, max(0.0, self._all_due - self._clock.now()))
            self._wake.clear()
            if not self.readable.is_set():
                continue
            try:
                if self._table is None or self._clock.now() >= self._all_due:
                    await self._read_all()
                else:
                    await self._read_changed()
            except VmhaError as error:
                _log.warning("inventory_not_read", reason=error.reason, error=error.message)
                self._all_due = self._clock.now() + RETRY_S

    async def _read_all(self) -> None:
        self._changed.clear()
        await self._storage.look()
        self.host = self._storage.host(await self._hypervisor.facts())
        found = await self._guests_of(await self._hypervisor.domains())
        if not self.readable.is_set():
            return  # it went away meanwhile
        before, self._table = self._table, found
        for vm_id, guest in (before or {}).items():
            if vm_id not in self._table:
                self._depart(guest)
        for vm_id in self._table:
            self._departed.pop(vm_id, None)
        self._all_due = self._clock.now() + self._interval_s
        self._tell(None)

    async def _read_changed(self) -> None:
        vm_ids, self._changed = self._changed, set()
        told = set()
        while vm_ids:
            vm_id = vm_ids.pop()
            try:
                domain = await self._hypervisor.domain(vm_id)
                found = await self._guests_of([] if domain is None else [domain])
            except VmhaError:
                self._changed |= vm_ids | {vm_id}
                raise
            if self._table is None:
                return
            if domain is not None:
                self._table |= found
                self._departed.pop(vm_id, None)
            elif (gone := self._table.pop(vm_id, None)) is not None:
                self._depart(gone)
            told.add(vm_id)
        if told:
            self._tell(frozenset(told))

    async def _guests_of(self, found: Iterable[Domain]) -> dict[str, Guest]:
        read = {domain.vm_id: (self._guest(domain), domain.volumes) for domain in found}
        known = [(guest.facts, volumes) for guest, volumes in read.values() if guest.facts is not None]
        await self._storage.locate(known)
        guests = {}
        for vm_id, (guest, volumes) in read.items():
            facts = None if guest.facts is None else self._storage.place(guest.facts, volumes)
            guests[vm_id] = replace(guest, facts=facts)
        return guests

    def _guest(self, domain: Domain) -> Guest:
        facts, taken, claim_epoch, xml = None, False, 0, domain.definition_xml
        try:
            facts = parse_domain(domain.live_xml).facts
            described = parse_domain(xml)
            xml = with_added(xml, domain.live_xml)
            taken, claim_epoch = described.autostart_taken, described.claim_epoch
            self._complain(domain, "; ".join(f"{p.field}: {p.description}" for p in described.problems))
        except InvalidField as error:
            self._complain(domain, error.message)
            facts, xml = None, ""
        reason, left_epoch = self._explain(domain.vm_id, domain.name, domain.state, domain.reason)
        return Guest(
            vm_id=domain.vm_id,
            name=domain.name,
            state=domain.state,
            reason=reason,
            domain_xml=xml,
            facts=facts,
            persistent=domain.persistent,
            autostart=domain.autostart,
            autostart_taken=taken,
            claim_epoch=claim_epoch,
            left_epoch=left_epoch,
        )

    def _depart(self, guest: Guest) -> None:
        reason, left_epoch = self._explain(guest.vm_id, guest.name, VmState.ABSENT, self._why_gone.pop(guest.vm_id, ""))
        self._complaints.pop(guest.vm_id, None)
        self._departed.pop(guest.vm_id, None)
        self._departed[guest.vm_id] = _gone(guest.vm_id, guest.name, reason, left_epoch)
        while len(self._departed) > DEPARTED_KEPT:
            self._departed.pop(next(iter(self._departed)))

    def _explain(self, vm_id: str, name: str, state: VmState, reason: str) -> tuple[str, int]:
        """The reason that is reported of a VM, given libvirt's, and the epoch under which it left; 0 where it did not."""
        reason = self.why(vm_id, state, self.departures.explain(vm_id, state, reason))
        return reason, self.departures.note(vm_id, name, state, reason)

    def _complain(self, domain: Domain, problem: str) -> None:
        if problem and self._complaints.get(domain.vm_id) != problem:
            _log.warning("metadata_wrong", vm_id=domain.vm_id, vm_name=domain.name, problem=problem)
        if problem:
            self._complaints[domain.vm_id] = problem
        else:
            self._complaints.pop(domain.vm_id, None)

    def _tell(self, changed: frozenset[str] | None) -> None:
        table = self.last = self._table or {}
        for state in VmState:
            self._metrics.domains.labels(str(state)).set(sum(guest.state is state for guest in table.values()))
        for listener in self.listeners:
            listener(changed)


def _gone(vm_id: str, name: str, reason: str, left_epoch: int) -> Guest:
    return Guest(vm_id=vm_id, name=name, state=VmState.ABSENT, reason=reason, left_epoch=left_epoch)
