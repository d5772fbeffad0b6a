"""What is asked of libvirt, as blocking functions of a connection. They run on the port's threads and raise libvirtError."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final

import libvirt
from defusedxml.ElementTree import ParseError, fromstring

from vmha import __version__
from vmha.agent.hypervisor import Domain, DomainChange, HypervisorRefused
from vmha.domain_xml import AUTOSTART_NAMESPACE
from vmha.facts import HostFacts
from vmha.libvirt_domains import find_domain, vm_state
from vmha.model import VmState

NEVER_RAN_NS: Final = 20_000_000
"""vCPU time below which a paused domain has not executed yet: firmware alone takes more, a vCPU that only exists takes none."""
AUTOSTART_KEY: Final = "vmha-autostart"
_OS_RELEASE: Final = (Path("/etc/os-release"), Path("/usr/lib/os-release"))
_XML: Final = libvirt.VIR_DOMAIN_XML_SECURE  # without it a console would come up elsewhere without its password
_PAUSED: Final = ("unknown", "user", "migration", "save", "dump", "ioerror", "watchdog", "from_snapshot", "shutting_down",
                  "snapshot", "crashed", "starting_up", "postcopy", "postcopy_failed", "api_error")  # fmt: skip
_SHUTOFF: Final = ("unknown", "shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from_snapshot", "daemon")
_CRASHED: Final = ("unknown", "panicked")
_REASONS: Final = {
    libvirt.VIR_DOMAIN_PAUSED: _PAUSED,
    libvirt.VIR_DOMAIN_SHUTOFF: _SHUTOFF,
    libvirt.VIR_DOMAIN_CRASHED: _CRASHED,
}
_STOPPED: Final = {
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN: DomainChange.SHUTDOWN,
    libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED: DomainChange.DESTROYED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED: DomainChange.CRASHED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED: DomainChange.MIGRATED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED: DomainChange.SAVED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED: DomainChange.FAILED,
}
# NVRAM and TPM state may lie on storage that the VM's present host uses.
_UNDEFINE: Final = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
)


def change(event: int, detail: int) -> DomainChange:
    """What a lifecycle event says."""
    if event == libvirt.VIR_DOMAIN_EVENT_UNDEFINED and detail == libvirt.VIR_DOMAIN_EVENT_UNDEFINED_REMOVED:
        return DomainChange.UNDEFINED
    if event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
        return _STOPPED.get(detail, DomainChange.CHANGED)
    return DomainChange.CHANGED


def text(error: libvirt.libvirtError) -> str:
    """What libvirt says, bounded."""
    return (error.get_error_message() or str(error))[:500]


def facts(connection: Any) -> HostFacts:
    """Capacity, versions, pools."""
    node = connection.getInfo()
    try:
        active = connection.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE)
        pools = tuple(sorted(pool.name() for pool in active))
    except libvirt.libvirtError:
        pools = ()  # a libvirt without the storage driver
    return HostFacts(
        vcpus=node[2],
        memory_mib=node[1],
        operating_system=_operating_system(),
        libvirt_version=_version(connection.getLibVersion()),
        hypervisor_version=_version(connection.getVersion()),
        cpu_model=_cpu_model(connection.getCapabilities()),
        agent_version=__version__,
        storage_pools=pools,
    )


def domains(connection: Any) -> list[Domain]:
    """Every domain. One that goes away meanwhile is left out."""
    found = (_read(handle) for handle in connection.listAllDomains())
    return [read for read in found if read is not None]


def domain(connection: Any, vm_id: str) -> Domain | None:
    """One domain."""
    handle = find_domain(connection, vm_id)
    return None if handle is None else _read(handle)


def define(connection: Any, vm_id: str, domain_xml: str) -> None:
    """Define it."""
    handle = connection.defineXML(domain_xml)
    if handle.UUIDString() != vm_id:
        handle.undefine()
        raise HypervisorRefused("the XML defines another UUID")


def start(connection: Any, vm_id: str) -> None:
    """Start it; a managed save is restored, for it is this host's own."""
    handle = connection.lookupByUUIDString(vm_id)
    try:
        handle.create()
    except libvirt.libvirtError:
        # Drivers differ in what they call a domain that runs already.
        if not handle.isActive():
            raise


def resume(connection: Any, vm_id: str) -> VmState:
    """Let it execute."""
    handle = connection.lookupByUUIDString(vm_id)
    if _state(handle) is VmState.PAUSED:
        try:
            handle.resume()
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID or _state(handle) is not VmState.RUNNING:
                raise
    return _state(handle)


def remove(connection: Any, vm_id: str) -> None:
    """Destroy and undefine it."""
    handle = find_domain(connection, vm_id)
    if handle is None:
        return
    try:
        _stop(handle)
        if handle.isPersistent():
            _undefine(handle)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise
    if find_domain(connection, vm_id) is not None:
        raise HypervisorRefused("the domain is still there after it was destroyed and undefined")


def destroy(connection: Any, vm_id: str) -> None:
    """Stop it, and leave its definition."""
    handle = find_domain(connection, vm_id)
    if handle is not None:
        _unless(partial(_stop, handle), libvirt.VIR_ERR_NO_DOMAIN)


def active(connection: Any) -> frozenset[str]:
    """The UUIDs of all domains that are active."""
    return frozenset(handle.UUIDString() for handle in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE))


def take_autostart(connection: Any, vm_id: str) -> None:
    """Mark it, then switch it off: in this order nothing is forgotten when the agent dies in between."""
    handle = connection.lookupByUUIDString(vm_id)
    _mark(handle, "<taken/>")
    handle.setAutostart(0)


def return_autostart(connection: Any, vm_id: str) -> None:
    """Switch it on, then remove the mark."""
    handle = connection.lookupByUUIDString(vm_id)
    handle.setAutostart(1)
    _mark(handle, None)


def _mark(handle: Any, element: str | None) -> None:
    # Also in the live XML: it becomes the persistent one when the guest is migrated with --persistent.
    flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG | (libvirt.VIR_DOMAIN_AFFECT_LIVE if handle.isActive() else 0)
    try:
        handle.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, element, AUTOSTART_KEY, AUTOSTART_NAMESPACE, flags)
    except libvirt.libvirtError as error:
        if element is not None or error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN_METADATA:
            raise


def _stop(handle: Any) -> None:
    if handle.isActive():
        _unless(handle.destroy, libvirt.VIR_ERR_OPERATION_INVALID)


def _unless(act: Any, done_code: int) -> None:
    try:
        act()
    except libvirt.libvirtError as error:
        if error.get_error_code() != done_code:
            raise


def _undefine(handle: Any) -> None:
    try:
        handle.undefineFlags(_UNDEFINE | libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM)
    except libvirt.libvirtError as error:
        if error.get_error_code() not in {libvirt.VIR_ERR_INVALID_ARG, libvirt.VIR_ERR_NO_SUPPORT}:
            raise
        try:
            handle.undefineFlags(_UNDEFINE)
        except libvirt.libvirtError as older:
            if older.get_error_code() not in {libvirt.VIR_ERR_INVALID_ARG, libvirt.VIR_ERR_NO_SUPPORT}:
                raise
            handle.undefine()


def _state(handle: Any) -> VmState:
    return vm_state(handle.state()[0])


def _read(handle: Any) -> Domain | None:
    try:
        number, reason = handle.state()
        persistent = bool(handle.isPersistent())
        live = handle.XMLDesc(_XML)
        kind = libvirt.VIR_DOMAIN_XML_INACTIVE if persistent else libvirt.VIR_DOMAIN_XML_MIGRATABLE
        state = vm_state(number)
        named = _REASONS.get(number, ())
        why = named[reason] if 0 <= reason < len(named) else ""
        if number == libvirt.VIR_DOMAIN_PAUSED and why in {"user", "starting_up"} and not (_has_run(handle) or _came_in(handle)):
            state = VmState.AWAITING_ADMISSION
        return Domain(
            vm_id=handle.UUIDString(),
            name=handle.name(),
            state=state,
            reason=why,
            definition_xml=handle.XMLDesc(_XML | kind),
            live_xml=live,
            persistent=persistent,
            autostart=persistent and bool(handle.autostart()),
        )
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def _has_run(handle: Any) -> bool:
    """Whether the guest has executed since it was created. libvirt calls both kinds "paused by user"."""
    try:
        vcpus, _ = handle.vcpus()
    except libvirt.libvirtError as error:
        if error.get_error_code() in {libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_OPERATION_INVALID}:
            return True
        raise
    return any(vcpu[2] >= NEVER_RAN_NS for vcpu in vcpus)


def _came_in(handle: Any) -> bool:
    """Whether it arrived by a live migration, and its user had paused it: it ran where it came from."""
    flags = libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED | libvirt.VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED
    try:
        last = handle.jobStats(flags)
    except libvirt.libvirtError:
        return False  # a driver without jobs, or a domain that is going: as if nothing were known of it
    return bool(last.get("operation") == libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN)


def _version(number: int) -> str:
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"


def _cpu_model(capabilities: str) -> str:
    try:
        root = fromstring(capabilities)
    except ParseError:
        return ""
    parts = (root.findtext("host/cpu/arch"), root.findtext("host/cpu/model"))
    return " ".join(part for part in parts if part)


def _operating_system() -> str:
    for path in _OS_RELEASE:
        try:
            lines = path.read_text(errors="replace").splitlines()
        except OSError:
            continue
        fields = dict(line.split("=", 1) for line in lines if "=" in line)
        return "-".join(fields[key].strip("\"'") for key in ("ID", "VERSION_ID") if fields.get(key))
    return ""
