"""The domain XML of a scenario's VM."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape, quoteattr

from vmha.domain_xml import INSTANCE_NAMESPACE
from vmha.sim.scenario import VmSpec
from vmha.sim.storage import LOCAL, SHARED

_SOURCES = {
    "volume": ("network", "protocol='rbd' name='volumes/{0}'"),
    "shared": ("file", f"file='{SHARED}/{{0}}.qcow2'"),
    "local": ("file", f"file='{LOCAL}/{{0}}.qcow2'"),
}
_TPM = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"
_GPU = (
    "<hostdev mode='subsystem' type='pci' managed='yes'>"
    "<source><address domain='0x0000' bus='0x65' slot='0x00' function='0x0'/></source></hostdev>"
)
MAX_MODULES, MAX_ADDED_MIB, MAX_ADDED_VCPUS, MOST_VCPUS = 64, 1 << 20, 64, 65_536
"""What may be added to a running VM: so many memory modules, so much memory, so many vCPUs beside those that it has."""
_VCPU = re.compile(r"<vcpu current=.(\d+).>(\d+)</vcpu>")
_MEMORY = re.compile(r"<memory unit=.(KiB|MiB).>(\d+)</memory>")
_HA = re.compile(r'(<vmha:instance [^>]*?\bha=")(?:on|off)(")')


def domain_xml(vm: VmSpec) -> str:
    """What defines it on any host."""
    wishes = "".join(f"<vmha:aggregate>{escape(name)}</vmha:aggregate>" for name in vm.aggregates)
    if vm.resize_unconfirmed:
        wishes += "<vmha:resize-unconfirmed/>"
    if vm.image:
        wishes += f"<vmha:image>{escape(vm.image)}</vmha:image>"
    most = min(vm.vcpus + MAX_ADDED_VCPUS, MOST_VCPUS)
    ha = "on" if vm.ha else "off"
    return (
        f"<domain type='kvm'><name>{escape(vm.id)}</name><uuid>{vm.uuid}</uuid>"
        f'<metadata><vmha:instance xmlns:vmha={quoteattr(INSTANCE_NAMESPACE)} ha="{ha}" priority="{vm.priority}">{wishes}'
        f"</vmha:instance></metadata><maxMemory slots='{MAX_MODULES}' unit='MiB'>{vm.memory_mib + MAX_ADDED_MIB}</maxMemory>"
        f"<memory unit='MiB'>{vm.memory_mib}</memory><vcpu current='{vm.vcpus}'>{most}</vcpu>"
        f"<cpu><numa><cell id='0' cpus='0-{most - 1}' memory='{vm.memory_mib}' unit='MiB'/></numa></cpu>"
        "<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>"
        f"{_disk(vm)}{_TPM if vm.vtpm else ''}{_GPU if vm.gpu else ''}</devices></domain>"
    )


def _disk(vm: VmSpec) -> str:
    kind, source = _SOURCES[vm.root_disk]
    served = f"<host name={quoteattr(vm.volume_host)}/>" if vm.volume_host else ""
    return (
        f"<disk type='{kind}' device='disk'><source {source.format(vm.uuid)}>{served}</source>"
        "<target dev='vda' bus='virtio'/></disk>"
    )


def with_ha(xml: str, ha: bool) -> str:
    """The same domain with its own protection on or off."""
    return _HA.sub(rf"\g<1>{'on' if ha else 'off'}\g<2>", xml)


def with_vcpus(xml: str, added: int) -> str:
    """The same domain with more vCPUs, as virsh setvcpus --live leaves it. ValueError: it has no room for them."""
    found = _VCPU.search(xml)
    if found is None or int(found[1]) + added > int(found[2]):
        raise ValueError(f"it may have {found[2] if found else 'no other number of'} vCPUs")
    return xml.replace(found[0], f"<vcpu current='{int(found[1]) + added}'>{found[2]}</vcpu>")


def with_memory(xml: str, added_mib: int) -> str:
    """The same domain with a memory module, as virsh attach-device --live leaves it. ValueError: it has no room for it."""
    modules = xml.count("<memory model=")
    if modules >= MAX_MODULES:
        raise ValueError(f"it may have {MAX_MODULES} memory modules")
    size = f"<target><size unit='KiB'>{added_mib * 1024}</size><node>0</node></target>"
    run = f"<alias name='dimm{modules}'/><address type='dimm' slot='{modules}'/>"
    module = f"<memory model='dimm'>{size}{run}</memory>"
    whole = _MEMORY.sub(lambda m: f"<memory unit='{m[1]}'>{int(m[2]) + added_mib * (1024 if m[1] == 'KiB' else 1)}</memory>", xml)
    return whole.replace("</devices>", f"{module}</devices>")
