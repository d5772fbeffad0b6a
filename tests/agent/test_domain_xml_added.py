"""Tests of vmha.domain_xml_added: what was added to a running VM goes with it (S22). The shapes are libvirt 9.0's."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmha.domain_xml import parse_domain
from vmha.domain_xml_added import with_added
from vmha.errors import InvalidField

NUMA = "<cpu><numa><cell id='0' cpus='0-3' memory='1048576' unit='KiB'/></numa></cpu>"
ROOM = "<maxMemory slots='4' unit='KiB'>4194304</maxMemory>"
STATES = (
    "<vcpus><vcpu id='0' enabled='yes' hotpluggable='no' order='1'/><vcpu id='1' enabled='yes' hotpluggable='yes' order='2'/>"
    "<vcpu id='2' enabled='yes' hotpluggable='yes' order='3'/><vcpu id='3' enabled='no' hotpluggable='yes'/></vcpus>"
)
METADATA = "<metadata><app:note xmlns:app='urn:app:1' who='me'/></metadata>"


def domain(
    *,
    memory: int = 1048576,
    current: int = 1048576,
    vcpu: str = "<vcpu placement='static' current='1'>4</vcpu>",
    room: str = ROOM,
    cpu: str = NUMA,
    devices: str = "",
) -> str:
    return (
        f"<domain type='kvm'><name>vm1</name><uuid>1f9a1b9e-5c9b-4d62-9c4e-0a8d4f4b7c11</uuid>{METADATA}{room}"
        f"<memory unit='KiB'>{memory}</memory><currentMemory unit='KiB'>{current}</currentMemory>{vcpu}"
        f"<os><type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type></os>{cpu}<devices>{devices}</devices></domain>"
    )


def dimm(slot: int | None = None, *, kib: int = 524288, model: str = "dimm", node: int = 0, more: str = "") -> str:
    run = "" if slot is None else f"<alias name='dimm{slot}'/><address type='dimm' slot='{slot}' base='0x100000000'/>"
    return f"<memory model='{model}'><target><size unit='KiB'>{kib}</size><node>{node}</node>{more}</target>{run}</memory>"


def merged(definition: str, live: str) -> ElementTree.Element:
    return ElementTree.fromstring(with_added(definition, live))


def memory_of(root: ElementTree.Element) -> tuple[str | None, str | None]:
    return root.findtext("memory"), root.findtext("currentMemory")


def test_s22_memory_that_was_plugged_in_goes_along() -> None:
    """The module comes without what it was called in this run; memory, and what the guest has of it, grow by its size."""
    live = domain(memory=1572864, current=1572864, devices=dimm(0))
    root = merged(domain(), live)

    (module,) = root.findall("devices/memory")
    assert [part.tag for part in module] == ["target"]
    assert module.findtext("target/size") == "524288"
    assert memory_of(root) == ("1572864", "1572864")
    assert [room.attrib["slots"] for room in root.findall("maxMemory")] == ["4"]
    assert parse_domain(with_added(domain(), live)).facts.memory_mib == 1536


def test_s22_only_modules_that_the_definition_lacks_are_added() -> None:
    """Of two modules of one size, one was there for good: one is added. A module that was taken out for good stays out of it."""
    definition = domain(memory=1572864, current=1572864, devices=dimm())
    live = domain(memory=2359296, current=2359296, devices=dimm(0) + dimm(1) + dimm(2, kib=262144))

    assert [m.findtext("target/size") for m in merged(definition, live).findall("devices/memory")] == ["524288"] * 2 + ["262144"]
    assert merged(definition, domain()).findall("devices/memory") != []
    assert with_added(definition, domain()) == definition


def test_s22_a_definition_without_room_gets_it() -> None:
    """The most memory that there may be, and its slots, are the live ones where the definition's are too few."""
    live = domain(memory=1572864, current=1572864, devices=dimm(0))
    for room in ("", "<maxMemory slots='4' unit='KiB'>1048576</maxMemory>", "<maxMemory slots='0' unit='GiB'>4</maxMemory>"):
        (found,) = merged(domain(room=room), live).findall("maxMemory")
        assert (found.text, found.attrib) == ("4194304", {"slots": "4", "unit": "KiB"})


def test_s22_memory_without_a_place_in_the_definition_is_left_out() -> None:
    """Its NUMA node is not there: the VM starts with less memory rather than not at all. A disk of the guest's is never added."""
    live = domain(memory=1572864, current=1572864, devices=dimm(0) + dimm(1, model="nvdimm"))

    assert merged(domain(cpu=""), live).findall("devices/memory") == []
    assert memory_of(merged(domain(cpu=""), live)) == ("1048576", "1048576")
    assert len(merged(domain(), live).findall("devices/memory")) == 1


def test_s22_virtio_memory_counts_by_what_was_asked_for() -> None:
    """Its size is only the most that it may have; what it has now is of this run."""
    part = "<block unit='KiB'>2048</block><requested unit='KiB'>131072</requested>"
    live = domain(
        memory=1572864, current=1179648, devices=dimm(0, model="virtio-mem", more=part + "<current unit='KiB'>9</current>")
    )
    root = merged(domain(), live)

    assert memory_of(root) == ("1572864", "1179648")
    assert root.find("devices/memory/target/current") is None


def test_s22_vcpus_that_were_plugged_in_go_along_with_their_states() -> None:
    """The number, and which of them they are."""
    live = domain(vcpu=f"<vcpu placement='static' current='3'>4</vcpu>{STATES}")
    root = merged(domain(), live)

    assert (root.find("vcpu").attrib["current"], root.findtext("vcpu")) == ("3", "4")  # type: ignore[union-attr]
    assert [vcpu.get("enabled") for vcpu in root.findall("vcpus/vcpu")] == ["yes", "yes", "yes", "no"]
    assert parse_domain(with_added(domain(), live)).facts.vcpus == 3
    assert memory_of(root) == ("1048576", "1048576")


def test_s22_states_of_other_vcpus_are_not_mixed() -> None:
    """A definition with another most: as many as it may have, and libvirt chooses which."""
    live = domain(vcpu=f"<vcpu current='3'>4</vcpu>{STATES}")
    root = merged(domain(vcpu="<vcpu current='1'>2</vcpu><vcpus><vcpu id='0' enabled='yes'/></vcpus>"), live)

    assert (root.find("vcpu").attrib["current"], root.findtext("vcpu")) == ("2", "2")  # type: ignore[union-attr]
    assert root.find("vcpus") is None


def test_s22_what_the_guest_was_given_back_of_its_memory_goes_along() -> None:
    """virsh setmem --live: up to the memory that it has."""
    root = merged(domain(current=524288), domain(current=786432))

    assert memory_of(root) == ("1048576", "786432")


@pytest.mark.parametrize(
    ("definition", "live"),
    [
        (domain(vcpu="<vcpu current='3'>4</vcpu>"), domain()),
        (domain(), domain(current=524288)),
        (domain(), domain(devices="<disk type='file'><source file='/x'/></disk>")),
        (domain(vcpu="<vcpu>4</vcpu>"), domain(vcpu="<vcpu placement='static'>4</vcpu>")),
    ],
)
def test_s22_nothing_else_is_taken_over(definition: str, live: str) -> None:
    """What was taken away live, a disk, a form of words: the definition stays as it is, to the letter."""
    assert with_added(definition, live) is definition


def test_others_metadata_keeps_its_prefix() -> None:
    """What is not of libvirt stays as it was written."""
    assert "<app:note xmlns:app=" in with_added(domain(), domain(current=1, vcpu="<vcpu current='2'>4</vcpu>"))


@given(st.text(max_size=100))
def test_no_text_breaks_it(text: str) -> None:
    """Any text is refused or merged; nothing else is raised."""
    for definition, live in ((text, domain()), (domain(), text), (domain(), domain(devices=text)), (domain(vcpu=text), domain())):
        try:
            with_added(definition, live)
        except InvalidField as error:
            assert error.reason == "DOMAIN_XML_MALFORMED"
