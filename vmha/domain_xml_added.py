"""What was added to a running VM only, and is to be there when it is started elsewhere (S22). Pure.

`virsh setvcpus --live`, `setmem --live` and `attach-device --live` of memory change the live XML, while a start elsewhere takes
the persistent one. Nothing is taken away, nothing else is taken over, and what the persistent XML has no place for is left out: a
VM with less memory is better than one that cannot be started.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from xml.etree.ElementTree import Element

from defusedxml.minidom import parseString

from vmha.domain_xml import UNITS, root_of

_ADDABLE: Final = frozenset({"dimm", "virtio-mem"})
"""Models of memory devices that can be plugged into a running guest, and hold nothing that is a disk's."""
_OF_THE_RUN: Final = frozenset({"alias", "address"})


@dataclass(frozen=True, slots=True)
class _Added:
    """What the live XML has beyond the persistent one.

    Attributes:
        vcpus: vCPUs that there are to be; 0: as many as there are.
        modules: Numbers of the live XML's memory devices that are new.
        memory_kib: <memory> with them.
        current_kib: <currentMemory> that there is to be; 0: as much as there is.
    """

    vcpus: int
    modules: tuple[int, ...]
    memory_kib: int
    current_kib: int

    def __bool__(self) -> bool:
        return bool(self.vcpus or self.modules or self.current_kib)


def with_added(definition_xml: str, live_xml: str) -> str:
    """The definition with vCPUs and memory that were added live; the very same text where nothing was.

    Raises:
        InvalidField: One of them is no domain's XML.
    """
    if definition_xml == live_xml:
        return definition_xml
    definition, live = root_of(definition_xml), root_of(live_xml)
    added = _added(definition, live)
    if not added:
        return definition_xml
    # As text it keeps the prefixes of others' metadata.
    document, source = parseString(definition_xml, forbid_dtd=True), parseString(live_xml, forbid_dtd=True)
    _set_vcpus(document, source, added)
    _set_memory(document, source, added)
    domain: Any = document.documentElement
    return str(domain.toxml())


def _added(definition: Element, live: Element) -> _Added:
    vcpus = min(_number(definition.findtext("vcpu") or "1"), _vcpus(live))
    modules = tuple(_new_modules(definition, live))
    found = live.findall("devices/memory")
    memory_kib = _kib(definition.find("memory")) + sum(_kib(found[number].find("target/size")) for number in modules)
    plugged = sum(_plugged_kib(found[number]) for number in modules)
    before = _current_kib(definition)
    current_kib = min(memory_kib, max(before + plugged, _current_kib(live)))
    return _Added(
        vcpus=vcpus if vcpus > _vcpus(definition) else 0,
        modules=modules,
        memory_kib=memory_kib,
        current_kib=current_kib if current_kib > before else 0,
    )


def _new_modules(definition: Element, live: Element) -> Iterator[int]:
    known = Counter(_module(device) for device in definition.iterfind("devices/memory"))
    nodes = {cell.get("id") for cell in definition.iterfind("cpu/numa/cell")}
    for number, device in enumerate(live.findall("devices/memory")):
        module = _module(device)
        if known[module] > 0:
            known[module] -= 1
        elif device.get("model") in _ADDABLE and (device.findtext("target/node") or "0").strip() in nodes:
            yield number


def _module(device: Element) -> tuple[str, int, str]:
    """What two memory devices have in common that are as good as each other: model, size, the guest's node."""
    return device.get("model", ""), _kib(device.find("target/size")), (device.findtext("target/node") or "0").strip()


def _plugged_kib(device: Element) -> int:
    requested = device.find("target/requested")
    return _kib(device.find("target/size") if requested is None else requested)


def _vcpus(root: Element) -> int:
    found = root.find("vcpu")
    return 1 if found is None else _number(found.get("current") or found.text or "1")


def _current_kib(root: Element) -> int:
    return _kib(root.find("currentMemory")) or _kib(root.find("memory"))


def _kib(element: Element | None) -> int:
    if element is None:
        return 0
    return _number(element.text or "") * UNITS.get(element.get("unit", "KiB").lower(), 2**10) // 2**10


def _number(text: str) -> int:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else 0


# Writing it


def _set_vcpus(document: Any, source: Any, added: _Added) -> None:
    if not added.vcpus:
        return
    domain, live = document.documentElement, source.documentElement
    vcpu, there = _child(domain, "vcpu"), _child(live, "vcpu")
    most = _text(vcpu)
    vcpu.setAttribute("current", str(added.vcpus))
    # Which of them are there: only together with the number can they be right.
    if (stale := _child(domain, "vcpus")) is not None:
        domain.removeChild(stale)
    states = _child(live, "vcpus")
    if states is not None and _text(there) == most and there.getAttribute("current") in {"", str(added.vcpus)}:
        domain.insertBefore(document.importNode(states, True), vcpu.nextSibling)


def _set_memory(document: Any, source: Any, added: _Added) -> None:
    domain, live = document.documentElement, source.documentElement
    if added.current_kib:
        _set_kib(document, "currentMemory", added.current_kib)
    if not added.modules:
        return
    _set_kib(document, "memory", added.memory_kib)
    devices, found = _child(domain, "devices"), _children(_child(live, "devices"), "memory")
    for number in added.modules:
        device = document.importNode(found[number], True)
        for part in [part for part in device.childNodes if part.nodeName in _OF_THE_RUN]:
            device.removeChild(part)
        target = _child(device, "target")
        for part in _children(target, "current"):
            target.removeChild(part)
        devices.appendChild(device)
    _make_room(document, live, added.memory_kib, len(_children(devices, "memory")))


def _make_room(document: Any, live: Any, memory_kib: int, modules: int) -> None:
    """<maxMemory>, which may be the live one's only if the persistent one is too small."""
    domain, room, there = document.documentElement, _child(document.documentElement, "maxMemory"), _child(live, "maxMemory")
    if there is None or (room is not None and _size_kib(room) >= memory_kib and _number(room.getAttribute("slots")) >= modules):
        return
    if room is not None:
        domain.removeChild(room)
    domain.insertBefore(document.importNode(there, True), _child(domain, "memory"))


def _set_kib(document: Any, name: str, kib: int) -> None:
    element = _child(document.documentElement, name)
    if element is None:
        element = document.createElement(name)
        document.documentElement.insertBefore(element, _child(document.documentElement, "memory").nextSibling)
    element.setAttribute("unit", "KiB")
    for node in list(element.childNodes):
        element.removeChild(node)
    element.appendChild(document.createTextNode(str(kib)))


def _children(parent: Any, name: str) -> list[Any]:
    return [node for node in parent.childNodes if node.nodeName == name]


def _child(parent: Any, name: str) -> Any:
    return next(iter(_children(parent, name)), None)


def _text(element: Any) -> str:
    return "".join(node.data for node in element.childNodes if node.nodeType == node.TEXT_NODE).strip()


def _size_kib(element: Any) -> int:
    return _number(_text(element)) * UNITS.get((element.getAttribute("unit") or "KiB").lower(), 2**10) // 2**10
