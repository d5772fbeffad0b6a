"""Tests of vmha.domain_xml."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmha.domain_xml import MAX_XML_BYTES, parse_domain, with_claim
from vmha.errors import InvalidField
from vmha.facts import DiskStorage, VmDisk

UUID = "1f9a1b9e-5c9b-4d62-9c4e-0a8d4f4b7c11"


def domain(inside: str = "", *, memory: str = "<memory unit='MiB'>16</memory>", vcpu: str = "<vcpu>2</vcpu>") -> str:
    return f"<domain type='test'><name>vm1</name><uuid>{UUID}</uuid>{memory}{vcpu}{inside}</domain>"


def instance(attributes: str = "", inside: str = "") -> str:
    return (
        f"<metadata><vmha:instance xmlns:vmha='urn:vmha:instance:1' {attributes}>{inside}</vmha:instance>"
        "<other xmlns='urn:somebody:else' priority='bad'/></metadata>"
    )


def test_a_plain_domain_is_protected_with_defaults() -> None:
    """Without metadata a VM is protected, with priority 0 and no wishes."""
    described = parse_domain(domain())

    assert (described.uuid, described.name) == (UUID, "vm1")
    assert described.facts.ha_enabled
    assert (described.facts.vcpus, described.facts.memory_mib, described.facts.priority) == (2, 16, 0)
    assert described.problems == ()


@pytest.mark.parametrize("inside", ["", instance("priority='3'"), "<metadata/>", "<metadata>\n  </metadata>"])
def test_a_domain_carries_the_claim_that_created_it(inside: str) -> None:
    """The newest mark replaces the one before; nothing else of the domain changes."""
    assert parse_domain(domain(inside)).claim_epoch == 0
    once = with_claim(domain(inside), 7)
    again = with_claim(once, 12)
    assert [parse_domain(xml).claim_epoch for xml in (once, again)] == [7, 12]
    assert again.count("urn:vmha:claim:1") == 1 and len(again) == len(once) + 1
    assert again.count("<metadata") == 1 and parse_domain(once).facts == parse_domain(domain(inside)).facts


@pytest.mark.parametrize("epoch", ["-1", "x", "", "9" * 30, "\u0663"])
def test_a_mark_that_is_no_number_counts_as_none(epoch: str) -> None:
    """What somebody wrote into a claim's mark is no claim."""
    mark = f"<metadata><c:claimed xmlns:c='urn:vmha:claim:1' epoch='{epoch}'/></metadata>"
    assert parse_domain(domain(mark)).claim_epoch == 0


def test_xml_that_has_no_room_for_a_mark_is_left_as_it_is() -> None:
    """A domain at the limit, or no domain at all, is started without a mark: it would only miss its recovery."""
    full = domain(f"<description>{'x' * (MAX_XML_BYTES - len(domain()) - 30)}</description>")
    assert with_claim(full, 7) == full
    assert with_claim("<domain type='test'><name>", 7) == "<domain type='test'><name>"


def test_metadata_says_what_the_vm_wants() -> None:
    """Every field of the schema is read; a foreign element beside it is not."""
    inside = (
        "<vmha:aggregate>ssd</vmha:aggregate><vmha:aggregate>gpu</vmha:aggregate><vmha:group>web</vmha:group>"
        "<vmha:image>debian-12</vmha:image><vmha:resize-unconfirmed/><vmha:later/>"
    )
    described = parse_domain(domain(instance("ha='off' priority='-5'", inside)))

    assert not described.facts.ha_enabled
    assert described.facts.priority == -5
    assert described.facts.aggregates == ("gpu", "ssd")
    assert described.facts.resize_unconfirmed
    assert (described.facts.groups, described.facts.image, described.problems) == (("web",), "debian-12", ())


@pytest.mark.parametrize(
    ("attributes", "inside", "place"),
    [
        ("ha='maybe'", "", "domain/metadata/instance@ha"),
        ("priority='high'", "", "domain/metadata/instance@priority"),
        ("priority='99999999'", "", "domain/metadata/instance@priority"),
        ("", "<vmha:aggregate>two words</vmha:aggregate>", "domain/metadata/instance/aggregate"),
    ],
)
def test_a_typo_in_the_metadata_costs_no_protection(attributes: str, inside: str, place: str) -> None:
    """A wrong value is named, and counts as absent."""
    described = parse_domain(domain(instance(attributes, inside)))

    assert described.facts.ha_enabled
    assert described.facts.priority == 0
    assert [problem.field for problem in described.problems] == [place]


def test_devices_that_bind_a_vm_to_its_host_are_seen() -> None:
    """Emulated TPM, passed-through devices and disks are read."""
    devices = (
        "<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os><devices>"
        "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"
        "<hostdev mode='subsystem' type='mdev'/><interface type='hostdev'/>"
        "<disk type='file' device='disk'><source file='/srv/vm1.qcow2'/><target dev='vda'/></disk>"
        "<disk type='network'><source protocol='rbd' name='pool/vm1'/><target dev='vdb'/></disk></devices>"
    )
    described = parse_domain(domain(devices))

    assert described.has_vtpm
    assert described.facts.has_passthrough
    assert described.hostdevs == ("mdev", "pci")
    assert described.facts.machine == "pc-q35-7.2"


def test_disks_are_what_holds_something_of_the_guests_own() -> None:
    """Media and empty drives are none; what a file lies on is not in the XML; the disk with the lowest boot order is the root."""
    devices = (
        "<devices><disk type='file' device='cdrom'><source file='/srv/iso'/><target dev='sda'/></disk>"
        "<disk type='file' device='disk'><target dev='vdc'/></disk>"
        "<disk type='file' device='disk'><source file='/srv/vm1.qcow2'/><target dev='vda'/></disk>"
        "<disk type='network'><source protocol='nbd' name='vm1'><host name='hv2'/><host name='hv1'/></source>"
        "<target dev='vdb'/><boot order='1'/></disk></devices>"
    )
    facts = parse_domain(domain(devices)).facts

    assert facts.disks == (
        VmDisk(target="vda", source="/srv/vm1.qcow2"),
        VmDisk(target="vdb", storage=DiskStorage.VOLUME, source="vm1", servers=("hv1", "hv2"), root=True),
    )


def test_metadata_names_who_serves_a_volume() -> None:
    """A volume that its host maps as a block device shows no server in the XML; the operator's word counts."""
    devices = "<devices><disk type='block'><source dev='/dev/mapper/vm1'/><target dev='vda'/></disk></devices>"
    facts = parse_domain(domain(instance("", "<vmha:volume-host>hv3</vmha:volume-host>") + devices)).facts

    assert facts.root_disk == VmDisk(
        target="vda", storage=DiskStorage.VOLUME, source="/dev/mapper/vm1", servers=("hv3",), root=True
    )


@pytest.mark.parametrize(
    ("inside", "cpu", "hugepage_kib"),
    [
        ("<cpu mode='host-passthrough'/>", ("host-passthrough", ""), 0),
        ("<cpu><model>Skylake-Server</model></cpu>", ("custom", "Skylake-Server"), 0),
        ("<memoryBacking><hugepages/></memoryBacking>", ("", ""), -1),
        ("<memoryBacking><hugepages><page size='1' unit='GiB'/></hugepages></memoryBacking>", ("", ""), 1048576),
    ],
)
def test_what_a_vm_needs_of_a_hosts_hardware_is_read(inside: str, cpu: tuple[str, str], hugepage_kib: int) -> None:
    """CPU mode and model, and the size of its huge pages."""
    facts = parse_domain(domain(inside)).facts

    assert (facts.cpu_mode, facts.cpu_model) == cpu
    assert facts.hugepage_kib == hugepage_kib


@pytest.mark.parametrize(
    ("memory", "mib"),
    [("<memory>2048</memory>", 2), ("<memory unit='GiB'>3</memory>", 3072), ("<memory unit='b'>1</memory>", 1)],
)
def test_memory_is_rounded_up_to_mib(memory: str, mib: int) -> None:
    """libvirt's units are known; without one it is KiB."""
    assert parse_domain(domain(memory=memory)).facts.memory_mib == mib


def test_hot_added_vcpus_count() -> None:
    """The vCPUs that are there now count, not the most that there may be."""
    assert parse_domain(domain(vcpu="<vcpu current='3'>8</vcpu>")).facts.vcpus == 3


@pytest.mark.parametrize(
    ("xml", "place"),
    [
        ("", "domain_xml line 1, column 1"),
        ("<domain><name>", "domain_xml line 1, column 15"),
        ("<network/>", "domain_xml"),
        ("<!DOCTYPE d [<!ENTITY a 'b'>]><domain>&a;</domain>", "domain_xml"),
        ("<domain>" + " " * MAX_XML_BYTES + "</domain>", "domain_xml"),
        (domain().replace(UUID, "17"), "domain/uuid"),
        (domain().replace("vm1", " "), "domain/name"),
        (domain(memory=""), "domain/memory"),
        (domain(memory="<memory>-1</memory>"), "domain/memory"),
        (domain(memory="<memory unit='furlong'>1</memory>"), "domain/memory@unit"),
        (domain(vcpu="<vcpu>none</vcpu>"), "domain/vcpu"),
    ],
)
def test_malformed_xml_is_refused_with_its_place(xml: str, place: str) -> None:
    """What no domain can be without is refused as DOMAIN_XML_MALFORMED, naming the place."""
    with pytest.raises(InvalidField) as caught:
        parse_domain(xml)

    assert caught.value.reason == "DOMAIN_XML_MALFORMED"
    assert [violation.field for violation in caught.value.violations] == [place]


@given(st.text(max_size=200))
def test_no_text_breaks_it(text: str) -> None:
    """Any text is either described or refused; nothing else is raised."""
    for xml in (text, f"<domain>{text}</domain>", domain(text)):
        try:
            parse_domain(xml)
        except InvalidField as error:
            assert error.reason == "DOMAIN_XML_MALFORMED"
