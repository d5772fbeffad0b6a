"""What libvirt and the host's files say of a host. Blocking functions of a connection; they run on the port's threads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final
from xml.etree.ElementTree import Element

import libvirt
from defusedxml.ElementTree import ParseError, fromstring

from vmha import __version__
from vmha.facts import HostFacts

MAX_NAMES: Final = 4096
"""More machine types or CPU models than this are taken for none: a list that is cut would refuse what runs."""
_NO_MODELS: Final = frozenset({libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_INVALID_ARG, libvirt.VIR_ERR_CONFIG_UNSUPPORTED})
_OS_RELEASE: Final = (
    # The host's own before that of a container that the agent may be in; without the symbolic link, which leads out of it.
    Path("/proc/1/root/usr/lib/os-release"),
    Path("/proc/1/root/etc/os-release"),
    Path("/etc/os-release"),
    Path("/usr/lib/os-release"),
)


class FactsReader:
    """Reads a host's facts over one connection. What its libvirtd found out about QEMU once is asked once: it is slow."""

    def __init__(self) -> None:
        self._models: tuple[str, ...] | None = None

    def read(self, connection: Any) -> HostFacts:
        """Capacity, versions, pools, and what guests can be given. Raises libvirtError."""
        node = connection.getInfo()
        capabilities = parsed(connection.getCapabilities())
        if self._models is None:
            self._models = _cpu_models(connection)
        return HostFacts(
            vcpus=node[2],
            memory_mib=node[1],
            operating_system=_operating_system(),
            libvirt_version=_version(connection.getLibVersion()),
            hypervisor_version=_version(connection.getVersion()),
            cpu_model=_cpu_model(capabilities),
            agent_version=__version__,
            storage_pools=_pools(connection),
            machines=_machines(capabilities),
            cpu_models=self._models,
            hugepages=_hugepages(capabilities),
        )


def _pools(connection: Any) -> tuple[str, ...]:
    try:
        active = connection.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE)
        return tuple(sorted(pool.name() for pool in active))
    except libvirt.libvirtError:
        return ()  # a libvirt without the storage driver


def _machines(capabilities: Element) -> tuple[str, ...]:
    """Of all architectures, for VMs do not say which is theirs; with the names that an alias stands for."""
    found: set[str] = set()
    for machine in capabilities.iterfind("guest/arch//machine"):
        found |= {(machine.text or "").strip(), machine.get("canonical", "")}
    return _bounded(found)


def _cpu_models(connection: Any) -> tuple[str, ...]:
    """Those of mode custom that nothing keeps from being used here."""
    try:
        root = parsed(connection.getDomainCapabilities())
    except libvirt.libvirtError as error:
        if error.get_error_code() in _NO_MODELS:
            return ()
        raise
    found: set[str] = set()
    for model in root.iterfind("cpu/mode[@name='custom']/model"):
        if model.get("usable") != "no":
            found |= {(model.text or "").strip(), model.get("canonical", "")}
    return _bounded(found)


def _bounded(names: set[str]) -> tuple[str, ...]:
    names = names - {""}
    return () if len(names) > MAX_NAMES else tuple(sorted(names))


def _hugepages(capabilities: Element) -> dict[int, int]:
    """Pages of the pools of all NUMA nodes, by size in KiB; without those of the ordinary size."""
    ordinary, found = os.sysconf("SC_PAGE_SIZE") // 1024, dict[int, int]()
    for pages in capabilities.iterfind("host/topology/cells/cell/pages"):
        size, count = pages.get("size", ""), (pages.text or "").strip()
        if pages.get("unit", "KiB") == "KiB" and size.isdecimal() and count.isdecimal() and int(size) > ordinary:
            found[int(size)] = found.get(int(size), 0) + int(count)
    return found


def _cpu_model(capabilities: Element) -> str:
    parts = (capabilities.findtext("host/cpu/arch"), capabilities.findtext("host/cpu/model"))
    return " ".join(part for part in parts if part)


def parsed(xml: str) -> Element:
    """XML of libvirt's; an element without anything in it where it is none."""
    try:
        root: Element = fromstring(xml)
    except ParseError:
        return Element("none")
    return root


def _version(number: int) -> str:
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"


def _operating_system() -> str:
    for path in _OS_RELEASE:
        try:
            lines = path.read_text(errors="replace").splitlines()
        except OSError:
            continue
        fields = dict(line.split("=", 1) for line in lines if "=" in line)
        return "-".join(fields[key].strip("\"'") for key in ("ID", "VERSION_ID") if fields.get(key))
    return ""
