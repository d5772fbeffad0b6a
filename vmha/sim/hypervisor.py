"""The hypervisors of the simulated hosts: the truth about every guest.

Acts on domains are the hypervisor's own: whoever asked for them may die or lose sight meanwhile, they come to their end. The
ports through which agent and evacuator ask are in `vmha.sim.hypervisor_ports`.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from vmha.agent.hypervisor import INCOMING, Domain, DomainChange
from vmha.domain_xml import AUTOSTART_NAMESPACE
from vmha.facts import HostFacts
from vmha.model import VmState
from vmha.sim.history import Fact, History, Refused

LOCKED: Final = 'internal error: process exited while connecting to monitor: Failed to get "write" lock'
FAILED: Final = "internal error: the simulated start failed"
MARK: Final = f"<vmha-autostart:taken xmlns:vmha-autostart='{AUTOSTART_NAMESPACE}'/>"
_ACTIVE: Final = frozenset({VmState.RUNNING, VmState.PAUSED, VmState.AWAITING_ADMISSION})
Done = Callable[[Exception | None], None]


class HypervisorFailure(Exception):
    """The hypervisor refuses; `locked`: because of the disk's lock."""

    def __init__(self, message: str, *, locked: bool = False) -> None:
        super().__init__(message)
        self.locked = locked


@dataclass(slots=True, eq=False)
class SimDomain:
    """A domain.

    Attributes:
        xml: Its definition.
        live: What runs, where something was added to that only; else empty.
        cause: Who created it, as `Fact.GUEST_RUNS` says it.
    """

    vm_id: str
    name: str
    xml: str
    state: VmState = VmState.SHUTOFF
    reason: str = "unknown"
    autostart: bool = False
    cause: str = ""
    live: str = ""

    @property
    def active(self) -> bool:
        """It has a process."""
        return self.state in _ACTIVE

    @property
    def counts(self) -> bool:
        """Its guest executes, or was paused by its user."""
        return self.state is VmState.RUNNING or (self.state is VmState.PAUSED and self.reason != INCOMING)

    def read(self) -> Domain:
        """As the agent sees it."""
        return Domain(
            vm_id=self.vm_id,
            name=self.name,
            state=self.state,
            reason=self.reason,
            definition_xml=self.xml,
            live_xml=self.live or self.xml,
            persistent=True,
            autostart=self.autostart,
        )


class Listener(Protocol):
    """Who hears lifecycle events: the agent's port."""

    def domain_changed(self, vm_id: str, change: DomainChange) -> None:
        """A domain's life went on."""
        ...

    def answers(self, does: bool) -> None:
        """libvirt came back, or went away."""
        ...


@dataclass(slots=True, kw_only=True)
class Outgoing:
    """A live migration under way: what it is of, what it makes, where, who waits for it."""

    timer: asyncio.TimerHandle
    domain: SimDomain
    incoming: SimDomain
    target: SimHypervisor
    done: Done


@dataclass(kw_only=True)
class Site:
    """What all hypervisors share.

    Attributes:
        start_s: A start takes so long.
        migrate_s: A live migration takes so long; the switch-over takes no time.
        names: The scenario's id of a VM by its UUID.
        locks: Whether a disk that is in use elsewhere refuses a start, as QEMU's image locks do.
        local_disks: Of VMs whose disks are local, the hosts that have one: no lock reaches another host.
        images: Names of images that the image library has.
        volume_hosts: Of VMs whose volume a host of the cluster serves, that host.
    """

    loop: asyncio.AbstractEventLoop
    history: History
    start_s: float = 1.0
    migrate_s: float = 10.0
    names: dict[str, str] = field(default_factory=dict)
    locks: bool = True
    local_disks: dict[str, set[str]] = field(default_factory=dict)
    images: set[str] = field(default_factory=set)
    volume_hosts: dict[str, str] = field(default_factory=dict)
    hypervisors: dict[str, SimHypervisor] = field(default_factory=dict)
    context: contextvars.Context = field(default_factory=contextvars.Context)

    def name(self, vm_id: str) -> str:
        """The scenario's id of a VM."""
        return self.names.get(vm_id, vm_id)

    def in_use(self, vm_id: str, but: SimHypervisor) -> bool:
        """Whether its disks are open on another host."""
        if not self.locks or vm_id in self.local_disks:
            return False
        others = (hypervisor for hypervisor in self.hypervisors.values() if hypervisor is not but)
        return any(vm_id in other.domains and other.domains[vm_id].active for other in others)

    def missing(self, vm_id: str, on: SimHypervisor) -> str:
        """What keeps a VM's disk from being opened on a host, in libvirt's words; empty when nothing does."""
        if vm_id in self.local_disks and on.host_id not in self.local_disks[vm_id]:
            return f"Cannot access storage file of {self.name(vm_id)}: No such file or directory"
        serves = self.hypervisors.get(self.volume_hosts.get(vm_id, ""))
        if serves is not None and not serves.up:
            return f"cannot open the volume of {self.name(vm_id)}: {serves.host_id} does not answer"
        return ""

    def later(self, span_s: float, act: Callable[..., None], *arguments: Any) -> asyncio.TimerHandle:
        """Call it after so long, on nobody's behalf."""
        return self.loop.call_later(span_s, act, *arguments, context=self.context)


class SimHypervisor:
    """One host's libvirt and QEMU.

    Attributes:
        domains: By UUID.
        starting: UUIDs of starts under way.
        outgoing: Live migrations away from here, by UUID.
        hung: libvirt answers nobody; guests run on.
    """

    def __init__(self, host_id: str, site: Site, facts: HostFacts) -> None:
        self.host_id, self.site, self.facts = host_id, site, facts
        self.domains: dict[str, SimDomain] = {}
        self.starting: dict[str, asyncio.TimerHandle] = {}
        self.outgoing: dict[str, Outgoing] = {}
        self.up = True
        self.hung = False
        self.listeners: list[Listener] = []
        self._failing: dict[tuple[str, str | None], int] = {}
        site.hypervisors[host_id] = self

    # Power and libvirtd

    def power_off(self, cause: str = "power") -> None:
        """Every guest ends; definitions stay on the disk."""
        self.up = False
        for timer in self.starting.values():
            timer.cancel()
        self.starting.clear()
        for domain in list(self.domains.values()):
            incoming = domain.reason == INCOMING
            if domain.active:
                self._enter(domain, VmState.SHUTOFF, "crashed", cause)
            if incoming:
                del self.domains[domain.vm_id]  # it would have been defined at the end
        self.listeners.clear()

    def power_on(self) -> None:
        """libvirt answers, with what is defined; why each domain is off it does not know any more."""
        self.up, self.hung = True, False
        for domain in self.domains.values():
            domain.reason = "unknown"

    def hang(self, hung: bool) -> None:
        """libvirt stops answering, or goes on."""
        if hung is not self.hung:
            self.hung = hung
            for listener in list(self.listeners):
                listener.answers(not hung)

    @property
    def answers(self) -> bool:
        """Whether libvirt answers."""
        return self.up and not self.hung

    # Failures to come

    def fail(self, what: str, count: int, vm_id: str | None) -> None:
        """The next `count` starts or migrations fail."""
        self._failing[what, vm_id] = count

    def _fails(self, what: str, vm_id: str) -> bool:
        for key in ((what, vm_id), (what, None)):
            if self._failing.get(key, 0) > 0:
                self._failing[key] -= 1
                return True
        return False

    # Domains

    def define(self, vm_id: str, name: str, xml: str) -> SimDomain:
        """Define it, or give it another definition."""
        known = self.domains.get(vm_id)
        if known is None:
            known = self.domains[vm_id] = SimDomain(vm_id, name, xml)
        known.xml = xml
        self._tell(vm_id, DomainChange.CHANGED)
        return known

    def place(self, vm_id: str, name: str, xml: str, state: str) -> None:
        """How it is before anything happens: running, paused or shutoff."""
        domain = self.define(vm_id, name, xml)
        if self.up and state != "shutoff":
            domain.state = VmState.RUNNING if state == "running" else VmState.PAUSED
            domain.reason, domain.cause = ("booted", "initial") if state == "running" else ("user", "initial")

    def start(self, vm_id: str, cause: str, *, paused: bool, done: Done) -> None:
        """Create its process; takes start_s. `done` gets a HypervisorFailure, or None."""
        domain = self.domains[vm_id]
        if domain.active:
            done(None)
            return
        if vm_id in self.starting:
            done(HypervisorFailure("operation failed: the domain is being started already"))
            return
        self.starting[vm_id] = self.site.later(self.site.start_s, self._started, domain, cause, paused, done)
        self._note(Fact.GUEST_CREATED, domain, cause)

    def _started(self, domain: SimDomain, cause: str, paused: bool, done: Done) -> None:
        del self.starting[domain.vm_id]
        if self._fails("start", domain.vm_id):
            self._note(Fact.GUEST_DROPPED, domain)
            done(HypervisorFailure(FAILED))
        elif self.site.in_use(domain.vm_id, self):
            self._note(Fact.GUEST_DROPPED, domain)
            self._note(Fact.LOCKED, domain, cause)
            done(HypervisorFailure(LOCKED, locked=True))
        elif missing := self.site.missing(domain.vm_id, self):
            self._note(Fact.GUEST_DROPPED, domain)
            done(HypervisorFailure(missing))
        else:
            domain.cause = cause
            if paused:
                self._enter(domain, VmState.AWAITING_ADMISSION, "user", cause)
            else:
                self._enter(domain, VmState.RUNNING, "booted", cause)
            done(None)

    def resume(self, domain: SimDomain) -> None:
        """Let it execute."""
        if domain.state in {VmState.PAUSED, VmState.AWAITING_ADMISSION} and domain.reason != INCOMING:
            self._enter(domain, VmState.RUNNING, "unpaused", domain.cause)

    def add(self, domain: SimDomain, live: str) -> None:
        """Something is plugged into what runs; its definition stays."""
        domain.live = live
        self._tell(domain.vm_id, DomainChange.CHANGED)

    def pause(self, domain: SimDomain) -> None:
        """Its user pauses it."""
        self._enter(domain, VmState.PAUSED, "user", "operator")

    def stop(self, domain: SimDomain, cause: str, change: DomainChange = DomainChange.DESTROYED) -> None:
        """End its process."""
        self._abort_start(domain)
        if domain.active:
            self._enter(domain, VmState.SHUTOFF, str(change), cause, change)

    def undefine(self, domain: SimDomain, change: DomainChange = DomainChange.UNDEFINED) -> None:
        """Forget it."""
        self.domains.pop(domain.vm_id, None)
        self._tell(domain.vm_id, change)

    def remove(self, vm_id: str, cause: str) -> None:
        """Destroy and undefine it."""
        domain = self.domains.get(vm_id)
        if domain is not None:
            self.stop(domain, cause)
            self.undefine(domain)

    def _abort_start(self, domain: SimDomain) -> None:
        timer = self.starting.pop(domain.vm_id, None)
        if timer is not None:
            timer.cancel()
            self._note(Fact.GUEST_DROPPED, domain)

    def rebuild_disk(self, vm_id: str) -> None:
        """Makes its local disk anew here."""
        if vm_id in self.site.local_disks:
            self.site.local_disks[vm_id].add(self.host_id)
            self.site.history.note(Fact.DISK_REBUILT, host=self.host_id, vm=self.site.name(vm_id))

    # Migration

    def migrate(self, domain: SimDomain, target: SimHypervisor, done: Done) -> None:
        """Move it live; takes migrate_s."""
        if domain.vm_id in self.site.local_disks:
            raise Refused("DISK_IS_LOCAL", "Unsafe migration: Migration without shared storage is unsafe")
        if domain.vm_id in self.outgoing:
            raise Refused("VM_MIGRATING", f"{self.site.name(domain.vm_id)} is on its way to another host")
        if domain.vm_id in target.domains and target.domains[domain.vm_id].active:
            raise Refused("VM_ACTIVE_THERE", f"{self.site.name(domain.vm_id)} is active on {target.host_id} already")
        incoming = target.define(domain.vm_id, domain.name, domain.xml)
        incoming.cause = "migration"
        target._enter(incoming, VmState.PAUSED, INCOMING, "migration")
        self._note(Fact.GUEST_CREATED, incoming, "migration", on=target.host_id)
        timer = self.site.later(self.site.migrate_s, self._switch, domain.vm_id)
        self.outgoing[domain.vm_id] = Outgoing(timer=timer, domain=domain, incoming=incoming, target=target, done=done)

    def abort_migration(self, vm_id: str) -> None:
        """End its migration; nothing happens without one."""
        move = self.outgoing.pop(vm_id, None)
        if move is not None:
            move.timer.cancel()
            self._give_up(move)

    def drop_incoming(self, vm_id: str) -> None:
        """End what is coming in; nothing happens to any other domain."""
        incoming = self.domains.get(vm_id)
        if incoming is not None and incoming.reason == INCOMING:
            self._enter(incoming, VmState.SHUTOFF, "failed", "migration", DomainChange.FAILED)
            self.undefine(incoming)
            self._note(Fact.GUEST_DROPPED, incoming)

    def _give_up(self, move: Outgoing) -> None:
        if move.target.domains.get(move.incoming.vm_id) is move.incoming:
            move.target.drop_incoming(move.incoming.vm_id)
        move.done(HypervisorFailure("the migration failed"))

    def _switch(self, vm_id: str) -> None:
        """The switch-over, at one instant; whatever went wrong meanwhile leaves the guest where it was."""
        move = self.outgoing.pop(vm_id)
        domain, incoming, target = move.domain, move.incoming, move.target
        there = target.domains.get(domain.vm_id) is incoming and incoming.reason == INCOMING and target.answers
        here = self.domains.get(domain.vm_id) is domain and domain.counts and self.answers
        if not there or not here or target._fails("migrate", domain.vm_id):
            self._give_up(move)
            return
        state, reason, live = domain.state, domain.reason, domain.live
        self._enter(domain, VmState.SHUTOFF, "migrated", "migration", DomainChange.MIGRATED)
        self.undefine(domain)
        incoming.autostart = domain.autostart
        incoming.xml, incoming.live = domain.xml, live
        target._enter(incoming, state, reason, "migration")
        move.done(None)

    # What comes of it

    def _enter(
        self, domain: SimDomain, state: VmState, reason: str, cause: str, change: DomainChange = DomainChange.CHANGED
    ) -> None:
        counted, active = domain.counts, domain.active
        domain.state, domain.reason = state, reason
        if not domain.active:
            domain.live = ""
        if domain.counts and not counted:
            self._note(Fact.GUEST_RUNS, domain, cause)
        elif counted and not domain.counts:
            self._note(Fact.GUEST_ENDS, domain, cause)
        elif active and not domain.active and not counted:
            self._note(Fact.GUEST_DROPPED, domain)
        self._tell(domain.vm_id, change)

    def _note(self, fact: Fact, domain: SimDomain, cause: str = "", on: str = "") -> None:
        self.site.history.note(fact, host=on or self.host_id, vm=self.site.name(domain.vm_id), cause=cause)

    def _tell(self, vm_id: str, change: DomainChange) -> None:
        if self.answers:
            for listener in list(self.listeners):
                listener.domain_changed(vm_id, change)
