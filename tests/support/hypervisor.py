"""A `LocalHypervisor` in memory. It passes the same contract tests as the real one (tests/agent/test_hypervisor_contract.py)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from vmha.agent.hypervisor import Domain, DomainChange, HypervisorRefused, Watcher
from vmha.domain_xml import AUTOSTART_NAMESPACE, parse_domain
from vmha.errors import InvalidField, NotFound, Unavailable
from vmha.facts import HostFacts
from vmha.model import VmState

MARK = f"<vmha-autostart:taken xmlns:vmha-autostart='{AUTOSTART_NAMESPACE}'/>"
EXECUTING = frozenset({VmState.RUNNING, VmState.PAUSED, VmState.AWAITING_ADMISSION})
FACTS = HostFacts(vcpus=8, memory_mib=16384, operating_system="debian-12", libvirt_version="9.0.0", storage_pools=("default",))


def domain_xml(name: str, vm_id: str, *, kind: str = "test", instance: str = "", memory_mib: int = 16) -> str:
    """A domain that the test driver takes; `instance` holds attributes of <vmha:instance>."""
    wishes = f"<vmha:instance xmlns:vmha='urn:vmha:instance:1' {instance}/>" if instance else ""
    return (
        f"<domain type='{kind}'><name>{name}</name><uuid>{vm_id}</uuid><metadata>{wishes}</metadata>"
        f"<memory unit='MiB'>{memory_mib}</memory><vcpu>1</vcpu><os><type arch='x86_64'>hvm</type></os></domain>"
    )


@dataclass
class _Domain:
    name: str
    xml: str
    state: VmState = VmState.SHUTOFF
    reason: str = "unknown"
    autostart: bool = False


class MemoryHypervisor:
    """Domains in a dict. Tests change it as virsh would, with the methods named `user_*`, and break it with `away` and `refuse`.

    Attributes:
        acts: What was done to domains through the Protocol, in order.
        refuse: vm_id -> how often acts on it are still refused.
        undying: VMs whose process no signal ends.
        live: vm_id -> XML of what runs, where it is not the definition.
    """

    def __init__(self) -> None:
        self.acts: list[tuple[str, str]] = []
        self.refuse: dict[str, int] = {}
        self.undying: set[str] = set()
        self.live: dict[str, str] = {}
        self.facts_now = FACTS
        self._domains: dict[str, _Domain] = {}
        self._watcher: Watcher | None = None
        self._up = True
        self._hung = asyncio.Event()
        self._hung.set()

    # As a test sees it

    def user_defines(self, name: str, vm_id: str, *, running: bool = False, instance: str = "", autostart: bool = False) -> None:
        """virsh define, start, autostart."""
        self._domains[vm_id] = _Domain(name, domain_xml(name, vm_id, instance=instance), autostart=autostart)
        self._tell(vm_id, DomainChange.CHANGED)
        if running:
            self.user_sets(vm_id, VmState.RUNNING)

    def user_sets(self, vm_id: str, state: VmState, reason: str = "", change: DomainChange = DomainChange.CHANGED) -> None:
        """The domain comes into this state, however."""
        self._domains[vm_id].state, self._domains[vm_id].reason = state, reason
        self._tell(vm_id, change)

    def user_undefines(self, vm_id: str, change: DomainChange = DomainChange.UNDEFINED) -> None:
        """virsh undefine, of a domain that is shut off."""
        del self._domains[vm_id]
        self._tell(vm_id, change)

    def states(self) -> dict[str, VmState]:
        """What runs."""
        return {vm_id: domain.state for vm_id, domain in self._domains.items()}

    def autostarts(self) -> dict[str, bool]:
        """libvirt's flags."""
        return {vm_id: domain.autostart for vm_id, domain in self._domains.items()}

    def away(self, gone: bool = True) -> None:
        """libvirtd dies, or comes back."""
        self._up = not gone
        if self._watcher is not None:
            (self._watcher.disconnected if gone else self._watcher.connected)()

    def hang(self, hung: bool = True) -> None:
        """libvirtd stops answering, or goes on."""
        (self._hung.clear if hung else self._hung.set)()

    # As the agent sees it

    @property
    def is_up(self) -> bool:
        """See `LocalHypervisor`."""
        return self._up

    async def run(self, watcher: Watcher) -> None:
        """See `LocalHypervisor`."""
        self._watcher = watcher
        if self._up:
            watcher.connected()
        await asyncio.Event().wait()

    async def facts(self) -> HostFacts:
        """See `LocalHypervisor`."""
        await self._answer()
        return self.facts_now

    async def domains(self) -> list[Domain]:
        """See `LocalHypervisor`."""
        await self._answer()
        return [self._read(vm_id) for vm_id in self._domains]

    async def domain(self, vm_id: str) -> Domain | None:
        """See `LocalHypervisor`."""
        await self._answer()
        return self._read(vm_id) if vm_id in self._domains else None

    async def define(self, vm_id: str, domain_xml: str) -> None:
        """See `LocalHypervisor`."""
        await self._act("define", vm_id)
        try:
            described = parse_domain(domain_xml)
        except InvalidField as error:
            raise HypervisorRefused(error.message) from None
        if described.uuid != vm_id:
            raise HypervisorRefused("the XML defines another UUID")
        known = self._domains.get(vm_id)
        self._domains[vm_id] = _Domain(described.name, domain_xml) if known is None else replace(known, xml=domain_xml)
        self._tell(vm_id, DomainChange.CHANGED)

    async def start(self, vm_id: str) -> None:
        """See `LocalHypervisor`."""
        await self._act("start", vm_id)
        if self._known(vm_id).state in {VmState.SHUTOFF, VmState.CRASHED}:
            self.user_sets(vm_id, VmState.RUNNING)

    async def resume(self, vm_id: str) -> VmState:
        """See `LocalHypervisor`."""
        await self._act("resume", vm_id)
        domain = self._known(vm_id)
        if domain.state in {VmState.PAUSED, VmState.AWAITING_ADMISSION}:
            self.user_sets(vm_id, VmState.RUNNING)
        return domain.state

    async def remove(self, vm_id: str) -> None:
        """See `LocalHypervisor`."""
        await self._act("remove", vm_id)
        if vm_id in self._domains:
            self.user_undefines(vm_id)

    async def destroy(self, vm_id: str) -> None:
        """See `LocalHypervisor`."""
        await self._act("destroy", vm_id)
        if vm_id in self._domains and self._domains[vm_id].state in EXECUTING:
            self.user_sets(vm_id, VmState.SHUTOFF, "destroyed", DomainChange.DESTROYED)

    async def kill(self, vm_id: str) -> None:
        """See `LocalHypervisor`."""
        self.acts.append(("kill", vm_id))
        if vm_id in self._domains and self._domains[vm_id].state in EXECUTING and vm_id not in self.undying:
            self.user_sets(vm_id, VmState.SHUTOFF, "crashed", DomainChange.CRASHED)

    async def alive(self) -> frozenset[str]:
        """See `LocalHypervisor`."""
        return frozenset(vm_id for vm_id, domain in self._domains.items() if domain.state in EXECUTING)

    async def take_autostart(self, vm_id: str) -> None:
        """See `LocalHypervisor`."""
        await self._act("take_autostart", vm_id)
        domain = self._known(vm_id)
        if MARK not in domain.xml:
            domain.xml = domain.xml.replace("</metadata>", f"{MARK}</metadata>")
        domain.autostart = False

    async def return_autostart(self, vm_id: str) -> None:
        """See `LocalHypervisor`."""
        await self._act("return_autostart", vm_id)
        domain = self._known(vm_id)
        domain.xml, domain.autostart = domain.xml.replace(MARK, ""), True

    async def _act(self, name: str, vm_id: str) -> None:
        await self._answer()
        self.acts.append((name, vm_id))
        if self.refuse.get(vm_id, 0) > 0:
            self.refuse[vm_id] -= 1
            raise HypervisorRefused(f"{name} was refused")

    async def _answer(self) -> None:
        await self._hung.wait()
        if not self._up:
            raise Unavailable("LIBVIRT_UNAVAILABLE", "there is no connection to libvirt")

    def _known(self, vm_id: str) -> _Domain:
        if vm_id not in self._domains:
            raise NotFound("DOMAIN_UNKNOWN", "there is no such domain")
        return self._domains[vm_id]

    def _read(self, vm_id: str) -> Domain:
        found = self._domains[vm_id]
        return Domain(
            vm_id=vm_id,
            name=found.name,
            state=found.state,
            reason=found.reason,
            definition_xml=found.xml,
            live_xml=self.live.get(vm_id, found.xml),
            persistent=True,
            autostart=found.autostart,
        )

    def _tell(self, vm_id: str, change: DomainChange) -> None:
        if self._watcher is not None and self._up:
            self._watcher.domain_changed(vm_id, change)
