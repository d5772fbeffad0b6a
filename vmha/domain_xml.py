"""What vmha reads from a domain's XML. Pure; safe on XML that somebody else wrote.

What makes a domain a domain (UUID, name, size) must be right, or the XML is refused. What a person wrote into <metadata> only
falls back to its default, with a line in `problems`: a typo there must not cost a VM its protection. Schema: docs/metadata.md.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from xml.etree.ElementTree import Element

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from vmha.errors import FieldViolation, InvalidField
from vmha.facts import DiskStorage, VmDisk, VmFacts

INSTANCE_NAMESPACE: Final = "urn:vmha:instance:1"
"""Of <vmha:instance>, which an operator writes."""
AUTOSTART_NAMESPACE: Final = "urn:vmha:autostart:1"
"""Of <vmha-autostart:taken/>, which agents write: libvirt's autostart was on before vmha took it over."""
CLAIM_NAMESPACE: Final = "urn:vmha:claim:1"
"""Of <vmha-claim:claimed epoch="7"/>, which evacuators write: the claim under which they created the domain."""
MAX_XML_BYTES: Final = 256 * 1024
PARSED_KEPT: Final = 256
MAX_PRIORITY: Final = 1_000_000
_MAX_ITEMS: Final = 64
WORD: Final = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.:/]{0,126}[A-Za-z0-9])?\Z")
"""A name in the metadata."""
_CLAIM: Final = re.compile(rf"\s*<vmha-claim:claimed xmlns:vmha-claim=[\"']{CLAIM_NAMESPACE}[\"'][^<>]*/>")
UNITS: Final = {
    "b": 1, "bytes": 1, "kb": 10**3, "k": 2**10, "kib": 2**10, "mb": 10**6, "m": 2**20, "mib": 2**20,
    "gb": 10**9, "g": 2**30, "gib": 2**30, "tb": 10**12, "t": 2**40, "tib": 2**40,
}  # fmt: skip
"""libvirt's scaled integers; without a unit it is KiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainDescription:
    """What a domain's XML says.

    Attributes:
        facts: Files of disks are of UNSPECIFIED storage: only their host knows what they lie on.
        autostart_taken: An agent switched libvirt's autostart off, which was on.
        claim_epoch: Of the evacuation's claim under which it was created; 0 where none created it.
        hostdevs: Passed-through devices, by libvirt's type (pci, usb, mdev, ...).
        problems: Parts of its metadata that are wrong, and were taken as absent.
    """

    uuid: str
    name: str
    facts: VmFacts
    hostdevs: tuple[str, ...] = ()
    autostart_taken: bool = False
    claim_epoch: int = 0
    problems: tuple[FieldViolation, ...] = ()

    @property
    def has_vtpm(self) -> bool:
        """It has an emulated TPM, whose state lies on its host."""
        return self.facts.has_vtpm


@lru_cache(PARSED_KEPT)
def parse_domain(xml: str) -> DomainDescription:
    """What a domain's XML says. Remembered: agents read the same domains over and over, and they seldom change.

    Raises:
        InvalidField: DOMAIN_XML_MALFORMED. It is too long, no XML, no domain, or lacks what every domain has; says where.
    """
    root = root_of(xml)
    metadata = _Metadata(root)
    hostdevs = tuple(sorted(_hostdevs(root)))
    facts = VmFacts(
        vcpus=_vcpus(root),
        memory_mib=_memory_mib(root),
        ha_enabled=metadata.ha_enabled,
        priority=metadata.priority,
        aggregates=metadata.texts("aggregate"),
        machine=_attribute(root, "os/type", "machine"),
        has_vtpm=any(backend.get("type") == "emulator" for backend in root.iterfind("devices/tpm/backend")),
        has_passthrough=bool(hostdevs),
        resize_unconfirmed=metadata.has("resize-unconfirmed"),
        groups=metadata.texts("group"),
        image=next(iter(metadata.texts("image")), ""),
        disks=_disks(root, metadata.texts("volume-host")),
        cpu_mode=_attribute(root, "cpu", "mode") or ("custom" if root.find("cpu/model") is not None else ""),
        cpu_model=(root.findtext("cpu/model") or "").strip(),
        hugepage_kib=_hugepage_kib(root),
    )
    return DomainDescription(
        uuid=_uuid(root),
        name=_text(root, "name"),
        facts=facts,
        hostdevs=hostdevs,
        autostart_taken=root.find(f"metadata/{{{AUTOSTART_NAMESPACE}}}taken") is not None,
        claim_epoch=_claim_epoch(root),
        problems=tuple(metadata.problems),
    )


def with_claim(xml: str, epoch: int) -> str:
    """The same domain, marked with the claim under which it is created; unchanged where the mark finds no place.

    As text: what stands in it beside the mark reaches libvirt exactly as libvirt gave it.
    """
    mark = f'<vmha-claim:claimed xmlns:vmha-claim="{CLAIM_NAMESPACE}" epoch="{epoch}"/>'
    bare = _CLAIM.sub("", xml).replace("<metadata/>", "<metadata></metadata>", 1)
    before, tag, after = bare.partition("<metadata>")
    if not tag:
        before, tag, after = bare.rpartition("</domain>")
        mark = f"<metadata>{mark}</metadata>"
    marked = f"{before}{tag}{mark}{after}" if tag == "<metadata>" else f"{before}{mark}{tag}{after}"
    try:
        return marked if parse_domain(marked).claim_epoch == epoch else xml
    except InvalidField:
        return xml


def _claim_epoch(root: Element) -> int:
    text = _attribute(root, f"metadata/{{{CLAIM_NAMESPACE}}}claimed", "epoch")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else 0


def root_file(xml: str) -> tuple[str, str]:
    """Path and format of the file that a domain boots from.

    Raises:
        InvalidField: DOMAIN_XML_MALFORMED, also when its root disk is no file.
    """
    root = root_of(xml)
    for disk in _held(root)[:1]:
        path = _attribute(disk, "source", "file")
        if path.startswith("/"):
            return path, _attribute(disk, "driver", "type") or "raw"
    raise _malformed("domain/devices/disk", "must be a file with an absolute path for the disk that it boots from")


def _malformed(place: str, expected: str) -> InvalidField:
    return InvalidField([FieldViolation(place, expected)], reason="DOMAIN_XML_MALFORMED", metadata={"place": place})


def root_of(xml: str) -> Element:
    """A domain's XML, parsed. Raises InvalidField as `parse_domain` does."""
    if len(xml) > MAX_XML_BYTES or len(xml.encode(errors="replace")) > MAX_XML_BYTES:
        raise _malformed("domain_xml", f"must have at most {MAX_XML_BYTES} bytes")
    try:
        root: Element = fromstring(xml, forbid_dtd=True)
    except ParseError as error:
        line, column = error.position
        raise _malformed(f"domain_xml line {line}, column {column + 1}", "must be well-formed XML") from None
    except (DefusedXmlException, ValueError, RecursionError):
        raise _malformed("domain_xml", "must have no DTD, no entities and no characters that XML forbids") from None
    if root.tag != "domain":
        raise _malformed("domain_xml", "must have <domain> as its root")
    return root


def _text(root: Element, path: str) -> str:
    text = (root.findtext(path) or "").strip()
    if not text:
        raise _malformed(f"domain/{path}", "must be there, and not be empty")
    return text


def _attribute(root: Element, path: str, name: str) -> str:
    found = root.find(path)
    return "" if found is None else found.get(name, "")


def _uuid(root: Element) -> str:
    text = _text(root, "uuid")
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise _malformed("domain/uuid", "must be a UUID") from None


def _vcpus(root: Element) -> int:
    text = _attribute(root, "vcpu", "current") or (root.findtext("vcpu") or "1").strip()
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:9]) <= 65_536:
        raise _malformed("domain/vcpu", "must be a number from 1 to 65536")
    return int(text)


def _memory_mib(root: Element) -> int:
    # With hot-added memory libvirt counts it into <memory>; <currentMemory> is only the balloon's size.
    text, unit = _text(root, "memory"), (_attribute(root, "memory", "unit") or "KiB").lower()
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise _malformed("domain/memory", "must be a number")
    if unit not in UNITS:
        raise _malformed("domain/memory@unit", "must be one of libvirt's units, as KiB or GiB")
    return -(-int(text) * UNITS[unit] // 2**20)


def _hugepage_kib(root: Element) -> int:
    backing = root.find("memoryBacking/hugepages")
    if backing is None:
        return 0
    sizes = [_size_kib(page) for page in backing.iterfind("page")]
    return max(sizes, default=-1)


def _size_kib(page: Element) -> int:
    text, unit = page.get("size", ""), page.get("unit", "KiB").lower()
    if not (text.isascii() and text.isdigit()) or len(text) > 18 or unit not in UNITS:
        raise _malformed("domain/memoryBacking/hugepages/page", "must have a size in one of libvirt's units")
    return int(text) * UNITS[unit] // 2**10


def _hostdevs(root: Element) -> Iterator[str]:
    for device in root.iterfind("devices/hostdev"):
        yield device.get("type", "unknown")
    for interface in root.iterfind("devices/interface"):
        if interface.get("type") == "hostdev":
            yield "pci"


def _disks(root: Element, volume_hosts: tuple[str, ...]) -> tuple[VmDisk, ...]:
    held = _held(root)
    disks = [
        (_disk(disk, root=disk is held[0], volume_hosts=volume_hosts)) for disk in root.iterfind("devices/disk") if disk in held
    ]
    return tuple(disk for disk in disks if disk.source)


def _held(root: Element) -> list[Element]:
    """Disks that hold something of the guest's own, the one it boots from first: no CD-ROM, no floppy."""
    held = [disk for disk in root.iterfind("devices/disk") if disk.get("device", "disk") in {"disk", "lun"}]
    return sorted(held, key=_boot_order)


def _boot_order(disk: Element) -> int:
    order = _attribute(disk, "boot", "order")
    return int(order) if order.isascii() and order.isdigit() and len(order) < 10 else 2**31


def _disk(disk: Element, *, root: bool, volume_hosts: tuple[str, ...]) -> VmDisk:
    source = disk.find("source")
    named = {} if source is None else source.attrib
    is_volume = disk.get("type") in {"network", "block"}
    servers = sorted({host.get("name", "") for host in disk.iterfind("source/host")} - {""})
    return VmDisk(
        target=_attribute(disk, "target", "dev"),
        storage=DiskStorage.VOLUME if is_volume else DiskStorage.UNSPECIFIED,
        source=next((named[key] for key in ("file", "dev", "name", "volume", "dir") if key in named), ""),
        servers=(volume_hosts or tuple(servers)) if is_volume else (),
        root=root,
    )


class _Metadata:
    """<vmha:instance>, and what is wrong in it."""

    def __init__(self, root: Element) -> None:
        found = root.findall(f"metadata/{{{INSTANCE_NAMESPACE}}}instance")
        self._instance = found[0] if found else Element("none")
        self.problems: list[FieldViolation] = []
        if len(found) > 1:
            self._wrong("", "must be there at most once")

    @property
    def ha_enabled(self) -> bool:
        """Whether vmha is to keep the VM alive. On, unless it says exactly off."""
        text = self._instance.get("ha", "on")
        if text not in {"on", "off"}:
            self._wrong("@ha", 'must be "on" or "off"')
        return text != "off"

    @property
    def priority(self) -> int:
        """Higher is restarted earlier."""
        text = self._instance.get("priority", "0")
        if re.fullmatch(r"-?[0-9]{1,9}", text) is None or abs(int(text)) > MAX_PRIORITY:
            self._wrong("@priority", f"must be a number from -{MAX_PRIORITY} to {MAX_PRIORITY}")
            return 0
        return int(text)

    def texts(self, name: str) -> tuple[str, ...]:
        """The texts of all <vmha:name> elements, sorted."""
        texts = {(element.text or "").strip() for element in self._instance.iterfind(f"{{{INSTANCE_NAMESPACE}}}{name}")}
        good = sorted(text for text in texts if WORD.match(text))
        if len(good) < len(texts):
            self._wrong(f"/{name}", "must be 1 to 128 of letters, digits and -_.:/")
        if len(good) > _MAX_ITEMS:
            self._wrong(f"/{name}", f"must be there at most {_MAX_ITEMS} times")
        return tuple(good[:_MAX_ITEMS])

    def has(self, name: str) -> bool:
        """Whether <vmha:name/> is there."""
        return self._instance.find(f"{{{INSTANCE_NAMESPACE}}}{name}") is not None

    def _wrong(self, place: str, expected: str) -> None:
        self.problems.append(FieldViolation(f"domain/metadata/instance{place}", expected))
