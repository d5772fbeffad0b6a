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
_HA = re.compile(r'(<vmha:instance [^>]*?\bha=")(?:on|off)(")')


def domain_xml(vm: VmSpec) -> str:
    """What defines it on any host."""
    wishes = "".join(f"<vmha:aggregate>{escape(name)}</vmha:aggregate>" for name in vm.aggregates)
    if vm.resize_unconfirmed:
        wishes += "<vmha:resize-unconfirmed/>"
    if vm.image:
        wishes += f"<vmha:image>{escape(vm.image)}</vmha:image>"
    ha = "on" if vm.ha else "off"
    return (
        f"<domain type='kvm'><name>{escape(vm.id)}</name><uuid>{vm.uuid}</uuid>"
        f'<metadata><vmha:instance xmlns:vmha={quoteattr(INSTANCE_NAMESPACE)} ha="{ha}" priority="{vm.priority}">{wishes}'
        f"</vmha:instance></metadata><memory unit='MiB'>{vm.memory_mib}</memory><vcpu>{vm.vcpus}</vcpu>"
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
