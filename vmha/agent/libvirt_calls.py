"""What is asked of libvirt, as blocking functions of a connection. They run on the port's threads and raise libvirtError."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import libvirt

from vmha.agent.hypervisor import Domain, DomainChange, HypervisorRefused
from vmha.agent.libvirt_facts import parsed
from vmha.domain_xml import AUTOSTART_NAMESPACE
from vmha.libvirt_domains import find_domain, undefine, vm_state
from vmha.model import VmState

NEVER_RAN_NS: Final = 20_000_000
"""vCPU time below which a paused domain has not executed yet: firmware alone takes more, a vCPU that only exists takes none."""
AUTOSTART_KEY: Final = "vmha-autostart"
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
_NO_VOLUME: Final = frozenset(
    {
        libvirt.VIR_ERR_NO_STORAGE_POOL,
        libvirt.VIR_ERR_NO_STORAGE_VOL,
        libvirt.VIR_ERR_OPERATION_INVALID,
        libvirt.VIR_ERR_NO_SUPPORT,
    }
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
            undefine(handle)
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
            volumes=_volumes(handle.connect(), live),
        )
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def _volumes(connection: Any, xml: str) -> dict[str, str]:
    """Where libvirt's volumes lie, by the target of the disk; those of a pool that is not active are left out."""
    if "type='volume'" not in xml:
        return {}
    found = {}
    for disk in parsed(xml).iterfind("devices/disk[@type='volume']"):
        source, target = disk.find("source"), disk.find("target")
        if source is None or target is None:
            continue
        try:
            pool = connection.storagePoolLookupByName(source.get("pool", ""))
            found[target.get("dev", "")] = pool.storageVolLookupByName(source.get("volume", "")).path()
        except libvirt.libvirtError as error:
            if error.get_error_code() not in _NO_VOLUME:
                raise
    return found


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
