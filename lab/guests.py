"""Guests that beat: a boot sector (guest/hb.asm) that writes a generation and a beat to its serial line and to its disk."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.system import LabError, run

BOOT_SECTOR = Path(__file__).with_name("guest") / "hb.bin"
DISK_BYTES = 1 << 20
"""SeaBIOS does not boot from a disk of one sector."""

XML = """\
<domain type='{accelerator}'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <metadata>{metadata}</metadata>
  <memory unit='MiB'>{memory_mib}</memory>
  {size}
  <os><type arch='x86_64' machine='pc'>hvm</type><bios useserial='no'/><bootmenu enable='no'/></os>
  <on_poweroff>destroy</on_poweroff><on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='{cache}'/><source file='{disk}'/><target dev='vda' bus='virtio'/>
    </disk>
    <controller type='usb' model='none'/><memballoon model='none'/>
    <serial type='file'><source path='{log}' append='on'/></serial>{tpm}
  </devices>
</domain>
"""
TPM = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"
"""An emulated TPM: swtpm, beside the guest's QEMU."""


FIXED = "<vcpu>1</vcpu>"
GROWING = """\
<features><acpi/></features><maxMemory slots='2' unit='MiB'>1024</maxMemory><vcpu current='1'>2</vcpu>
  <cpu><numa><cell id='0' cpus='0-1' memory='{memory_mib}' unit='MiB'/></numa></cpu>"""


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest that can be defined on any host of its lab."""

    name: str
    uuid: str
    xml: Path
    disk: Path

    @property
    def definition(self) -> str:
        """Its domain XML."""
        return self.xml.read_text()


def instance(
    *, priority: int = 0, aggregates: Sequence[str] = (), groups: Sequence[str] = (), image: str = "", resized: bool = False
) -> str:
    """What a guest tells vmha: the `metadata` of `make` (docs/metadata.md)."""
    wishes = "".join(f"<vmha:aggregate>{name}</vmha:aggregate>" for name in aggregates)
    wishes += "".join(f"<vmha:group>{name}</vmha:group>" for name in groups)
    wishes += f"<vmha:image>{image}</vmha:image>" if image else ""
    wishes += "<vmha:resize-unconfirmed/>" if resized else ""
    return f"<vmha:instance xmlns:vmha='urn:vmha:instance:1' priority='{priority}'>{wishes}</vmha:instance>"


def make(
    shared: Path,
    name: str,
    *,
    memory_mib: int = 16,
    accelerator: str = "qemu",
    metadata: str = "",
    grows: bool = False,
    vtpm: bool = False,
    directory: Path | None = None,
) -> Guest:
    """Make a guest's disk and XML on the shared storage; the serial log goes to log/NAME.log.

    Args:
        shared: The lab's shared directory.
        name: Letters, digits, `-` and `_`.
        memory_mib: Memory, in MiB; the guest itself needs less than one.
        accelerator: `qemu` is the emulator: nested KVM spends seconds on SeaBIOS where it spends 0.1 s.
        metadata: Inner XML of the domain's <metadata>.
        grows: Memory and a second vCPU can be added to it while it runs.
        vtpm: Whether it has an emulated TPM.
        directory: Where its host finds its disk; None: the shared storage, where the disk is made.

    Raises:
        LabError: The name is no name, or taken.
    """
    if not name.replace("-", "").replace("_", "").isalnum():
        raise LabError(f"guest name {name!r}: letters, digits, - and _ are wanted")
    xml, disk, log = shared / f"{name}.xml", shared / f"{name}.qcow2", shared / "log" / f"{name}.log"
    if xml.exists():
        raise LabError(f"there is a guest {name} already: {xml}")
    make_disk(disk)
    identity = str(uuid.uuid4())
    cache = "none" if _direct_io(disk) else "writeback"
    size = GROWING.format(memory_mib=memory_mib) if grows else FIXED
    tpm, seen = TPM if vtpm else "", disk if directory is None else directory / disk.name
    xml.write_text(XML.format(**locals() | {"uuid": identity, "disk": seen}))
    return Guest(name, identity, xml, disk)


def make_disk(disk: Path) -> None:
    """Write a disk from which a guest boots for the first time, as qcow2."""
    raw = disk.with_suffix(".raw")
    raw.write_bytes(BOOT_SECTOR.read_bytes().ljust(DISK_BYTES, b"\0"))
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(disk)])
    raw.unlink()


def existing(shared: Path, name: str) -> Guest:
    """A guest that `make` made."""
    xml = shared / f"{name}.xml"
    if not xml.exists():
        raise LabError(f"there is no guest {name}: `mkvm {name}` makes it")
    identity = xml.read_text().partition("<uuid>")[2].partition("<")[0]
    return Guest(name, identity, xml, shared / f"{name}.qcow2")


def _direct_io(path: Path) -> bool:
    """Whether the file system knows O_DIRECT; tmpfs learnt it only in Linux 6.6."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT))
    except OSError:
        return False
    return True
