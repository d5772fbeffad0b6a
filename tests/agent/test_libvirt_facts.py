"""Tests of vmha.agent.libvirt_facts on what libvirt 9.0 says of a QEMU host, shortened; test_qemu.py asks a real one."""

from __future__ import annotations

import libvirt
import pytest

from vmha.agent.libvirt_facts import MAX_NAMES, FactsReader
from vmha.facts import HostFacts

CAPABILITIES = """\
<capabilities>
  <host><cpu><arch>x86_64</arch><model>Cascadelake-Server</model></cpu>
    <topology><cells num='2'>
      <cell id='0'><pages unit='KiB' size='4'>2048000</pages><pages unit='KiB' size='2048'>512</pages>
        <pages unit='KiB' size='1048576'>0</pages></cell>
      <cell id='1'><pages unit='KiB' size='4'>2048000</pages><pages unit='KiB' size='2048'>256</pages>
        <pages unit='KiB' size='1048576'>4</pages></cell>
    </cells></topology>
  </host>
  <guest><os_type>hvm</os_type><arch name='x86_64'>
    <machine maxCpus='255'>pc-i440fx-7.2</machine><machine canonical='pc-i440fx-7.2' maxCpus='255'>pc</machine>
    <domain type='qemu'/><domain type='kvm'><machine maxCpus='288'>pc-q35-7.2</machine></domain>
  </arch></guest>
</capabilities>
"""
DOMAIN_CAPABILITIES = """\
<domainCapabilities><cpu>
  <mode name='host-passthrough' supported='yes'/>
  <mode name='host-model' supported='yes'><model fallback='forbid'>Cascadelake-Server</model></mode>
  <mode name='custom' supported='yes'>
    <model usable='yes' vendor='Intel' canonical='Skylake-Server-v1'>Skylake-Server</model>
    <model usable='no' vendor='AMD'>EPYC</model><model usable='unknown'>max</model>
  </mode>
</cpu></domainCapabilities>
"""


class Connection:
    """What a libvirt connection answers; nothing of storage pools, as a libvirt without that driver."""

    def __init__(self, capabilities: str = CAPABILITIES, domain_capabilities: str | int = DOMAIN_CAPABILITIES) -> None:
        self._capabilities, self._domain_capabilities = capabilities, domain_capabilities
        self.asked = 0

    def getInfo(self) -> list[object]:  # noqa: N802 - libvirt's name
        return ["x86_64", 4096, 8]

    def getCapabilities(self) -> str:  # noqa: N802 - libvirt's name
        return self._capabilities

    def getDomainCapabilities(self) -> str:  # noqa: N802 - libvirt's name
        self.asked += 1
        if isinstance(self._domain_capabilities, str):
            return self._domain_capabilities
        error = libvirt.libvirtError("refused")
        error.err = (self._domain_capabilities, 0, "refused", 2, "", "", "", 0, 0)
        raise error

    def getLibVersion(self) -> int:  # noqa: N802 - libvirt's name
        return 9_000_000

    def getVersion(self) -> int:  # noqa: N802 - libvirt's name
        return 7_002_022

    def listAllStoragePools(self, flags: int) -> list[object]:  # noqa: N802 - libvirt's name
        raise libvirt.libvirtError("no storage driver")


def facts(**answers: str | int) -> HostFacts:
    return FactsReader().read(Connection(**answers))  # type: ignore[arg-type]


def test_what_a_host_can_give_its_guests_is_read() -> None:
    """Machine types with what aliases stand for, usable CPU models, huge pages of all nodes; ordinary pages are none."""
    found = facts()

    assert found.machines == ("pc", "pc-i440fx-7.2", "pc-q35-7.2")
    assert found.cpu_models == ("Skylake-Server", "Skylake-Server-v1", "max")
    assert found.hugepages == {2048: 768, 1048576: 4}
    assert (found.vcpus, found.memory_mib, found.cpu_model) == (8, 4096, "x86_64 Cascadelake-Server")
    assert (found.libvirt_version, found.hypervisor_version, found.storage_pools) == ("9.0.0", "7.2.22", ())


@pytest.mark.parametrize("capabilities", ["<capabilities/>", "", "no XML"])
def test_what_is_not_known_is_empty(capabilities: str) -> None:
    """A libvirt that says nothing of it: empty, which refuses nobody."""
    found = facts(capabilities=capabilities, domain_capabilities=libvirt.VIR_ERR_NO_SUPPORT)

    assert (found.machines, found.cpu_models, dict(found.hugepages)) == ((), (), {})


def test_a_list_that_is_too_long_is_not_cut() -> None:
    """A cut list would refuse what runs: it counts as not known."""
    machines = "".join(f"<machine>m{number}</machine>" for number in range(MAX_NAMES + 1))

    assert facts(capabilities=f"<capabilities><guest><arch>{machines}</arch></guest></capabilities>").machines == ()


def test_cpu_models_are_asked_for_once() -> None:
    """The answer is kept with the connection, an error is not."""
    reader, connection = FactsReader(), Connection()
    for _ in range(3):
        reader.read(connection)
    broken = Connection(domain_capabilities=libvirt.VIR_ERR_INTERNAL_ERROR)
    failing = FactsReader()
    for _ in range(2):
        with pytest.raises(libvirt.libvirtError):
            failing.read(broken)

    assert (connection.asked, broken.asked) == (1, 2)
