"""Core: rules on what hosts can offer VMs: machine types, CPU models, huge pages. All of them warn: a host may still learn it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Final

from vmha.facts import HostFacts, VmFacts
from vmha.manager.findings import Case, Finding, Rule, warns


def _machine(case: Case) -> Iterator[Finding]:
    def wish(vm: VmFacts) -> str:
        return f"the machine type {vm.machine}" if vm.machine else ""

    def offers(host: HostFacts, vm: VmFacts) -> bool:
        return not host.machines or vm.machine in host.machines

    remedy = "Bring a second host to the hypervisor's version that has it, or move the VM to a machine type that both have."
    yield from _without_second(case, "MACHINE_UNSUPPORTED", wish, offers, remedy)


def _cpu(case: Case) -> Iterator[Finding]:
    def wish(vm: VmFacts) -> str:
        return f"the CPU model {vm.cpu_model}" if vm.cpu_mode == "custom" and vm.cpu_model else ""

    def offers(host: HostFacts, vm: VmFacts) -> bool:
        return not host.cpu_models or vm.cpu_model in host.cpu_models

    remedy = "Give the VM a CPU model that two hosts have."
    yield from _without_second(case, "CPU_INCOMPATIBLE", wish, offers, remedy)


def _hugepages(case: Case) -> Iterator[Finding]:
    """A size of -1 is the host's default, which no host reports."""

    def wish(vm: VmFacts) -> str:
        return f"{vm.memory_mib} MiB of {vm.hugepage_kib} KiB pages" if vm.hugepage_kib > 0 else ""

    def offers(host: HostFacts, vm: VmFacts) -> bool:
        pages = host.hugepages.get(vm.hugepage_kib, 0)
        return not host.hugepages or pages * vm.hugepage_kib >= vm.memory_mib * 1024

    remedy = "Reserve huge pages of that size on a second host."
    yield from _without_second(case, "HUGEPAGES_MISSING", wish, offers, remedy)


def _without_second(
    case: Case,
    type_: str,
    wish: Callable[[VmFacts], str],
    offers: Callable[[HostFacts, VmFacts], bool],
    remedy: str,
) -> Iterator[Finding]:
    """Protected VMs whose wish no host but their own can fulfil. A host of which it is not known counts as one that can."""
    known = case.known
    wishes: dict[str, VmFacts] = {}

    @cache
    def able(wanted: str) -> frozenset[str]:
        return frozenset(h for h in case.hypervisors if h not in known or offers(known[h], wishes[wanted]))

    for vm in case.protected:
        if not (wanted := wish(vm.facts)):
            continue
        wishes.setdefault(wanted, vm.facts)
        if not able(wanted) - {vm.owner_host_id} and len(case.hypervisors) > 1:
            yield warns(type_, f"vms/{vm.vm_id}", f"{vm.name} needs {wanted}, which no host but {vm.owner_host_id} has.", remedy)


RULES: Final[tuple[Rule, ...]] = (_machine, _cpu, _hugepages)
TYPES: Final = {
    "MACHINE_UNSUPPORTED": "a second host has each VM's machine type",
    "CPU_INCOMPATIBLE": "a second host has each VM's CPU model",
    "HUGEPAGES_MISSING": "a second host has huge pages for each VM that wants them",
}
