"""What a person does to guests with virsh, on the host where they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from vmha.agent.hypervisor import INCOMING, DomainChange
from vmha.model import VmState
from vmha.sim.guest_xml import domain_xml, with_ha, with_memory, with_vcpus
from vmha.sim.history import Refused
from vmha.sim.host import SimHost
from vmha.sim.hypervisor import SimDomain, SimHypervisor
from vmha.sim.network import Network
from vmha.sim.scenario import Scenario


class Virsh:
    """Acts on guests; raises Refused with virsh's reason."""

    def __init__(self, scenario: Scenario, hosts: Mapping[str, SimHost], network: Network) -> None:
        self._scenario, self._hosts, self._network = scenario, hosts, network

    async def pause(self, vm: str) -> None:
        """virsh suspend."""
        hypervisor, domain = self._present(vm)
        if domain.state is not VmState.RUNNING:
            raise Refused("VM_NOT_RUNNING", f"{vm} is {domain.state.value.lower()} on {hypervisor.host_id}")
        hypervisor.pause(domain)

    async def resume(self, vm: str) -> None:
        """virsh resume."""
        hypervisor, domain = self._present(vm)
        if domain.state is not VmState.PAUSED:
            raise Refused("VM_NOT_PAUSED", f"{vm} is {domain.state.value.lower()} on {hypervisor.host_id}")
        hypervisor.resume(domain)

    async def stop(self, vm: str) -> None:
        """virsh shutdown."""
        hypervisor, domain = self._present(vm)
        if not domain.active:
            raise Refused("VM_NOT_RUNNING", f"{vm} is shut off on {hypervisor.host_id}")
        hypervisor.stop(domain, "operator", DomainChange.SHUTDOWN)

    async def start(self, vm: str, host: str) -> None:
        """virsh start; where it is not defined, virsh define first, and undefine if it does not start."""
        hypervisor = self._answering(host)
        spec = self._scenario.vm(vm)
        found = self._find(vm)
        known = spec.uuid in hypervisor.domains
        if not known:
            hypervisor.define(spec.uuid, vm, found[1].xml if found else domain_xml(spec))
        elif hypervisor.domains[spec.uuid].active or spec.uuid in hypervisor.starting:
            raise Refused("VM_RUNNING", f"{vm} is active on {host} already")
        error = await _end_of(lambda done: hypervisor.start(spec.uuid, "operator", paused=False, done=done))
        if error is not None:
            if not known and spec.uuid in hypervisor.domains:
                hypervisor.undefine(hypervisor.domains[spec.uuid])
            raise Refused("LIBVIRT_REFUSED", str(error))

    async def migrate(self, vm: str, host: str) -> None:
        """virsh migrate --live --persistent --undefinesource; returns when it has begun."""
        hypervisor, domain = self._present(vm)
        target = self._answering(host)
        if target is hypervisor:
            raise Refused("VM_IS_THERE", f"{vm} is on {host}")
        if not domain.counts:
            raise Refused("VM_NOT_RUNNING", f"{vm} does not run")
        if not self._network.carries(hypervisor.host_id, host):
            raise Refused("HOST_UNREACHABLE", f"{hypervisor.host_id} does not reach {host}")
        hypervisor.migrate(domain, target, lambda _: None)

    async def hot_add(self, vm: str, vcpus: int, memory_mib: int) -> None:
        """virsh setvcpus --live, attach-device --live: the definition stays as it is."""
        hypervisor, domain = self._present(vm)
        if not domain.counts:
            raise Refused("VM_NOT_RUNNING", f"{vm} does not run")
        live = domain.live or domain.xml
        try:
            live = with_vcpus(live, vcpus) if vcpus else live
            live = with_memory(live, memory_mib) if memory_mib else live
        except ValueError as error:
            raise Refused("LIBVIRT_REFUSED", f"{vm}: {error}") from None
        hypervisor.add(domain, live)

    async def set_ha(self, vm: str, ha: bool) -> None:
        """virsh metadata."""
        hypervisor, domain = self._present(vm)
        hypervisor.define(domain.vm_id, domain.name, with_ha(domain.xml, ha))

    async def delete(self, vm: str) -> None:
        """virsh destroy and undefine."""
        hypervisor, domain = self._present(vm)
        hypervisor.remove(domain.vm_id, "operator")

    def _answering(self, host: str) -> SimHypervisor:
        hypervisor = self._hosts[host].hypervisor
        if not hypervisor.up:
            raise Refused("HOST_DOWN", f"{host} has no power")
        if hypervisor.hung:
            raise Refused("LIBVIRT_UNAVAILABLE", f"libvirt on {host} does not answer")
        return hypervisor

    def _present(self, vm: str) -> tuple[SimHypervisor, SimDomain]:
        found = self._find(vm)
        if found is None:
            raise Refused("DOMAIN_UNKNOWN", f"{vm} is defined nowhere")
        hypervisor, domain = found
        return self._answering(hypervisor.host_id), domain

    def _find(self, vm: str) -> tuple[SimHypervisor, SimDomain] | None:
        """Where it runs; else where it is active; else where it is defined, first on hosts that have power."""
        uuid = self._scenario.vm(vm).uuid
        hypervisors = [self._hosts[name].hypervisor for name in sorted(self._hosts)]
        found = [(h, h.domains[uuid]) for h in hypervisors if uuid in h.domains and h.domains[uuid].reason != INCOMING]
        found.sort(key=lambda pair: (not pair[1].counts, not pair[1].active, not pair[0].up))
        return found[0] if found else None


async def _end_of(begin: Callable[[Callable[[Exception | None], None]], None]) -> Exception | None:
    ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    begin(lambda error: None if ended.done() else ended.set_result(error))
    return await ended
