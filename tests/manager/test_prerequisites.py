"""S13, S14, S26: each prerequisite with made facts: what refuses, what only warns, and what is never said without knowing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.manager.prerequisites import FACTS, cluster, disk, found, host, running_vm, vm_id
from vmha.facts import DiskStorage, HostFacts, SharedDirectory, VmDisk
from vmha.manager.clock_check import ClockReading
from vmha.manager.enablement import RULES, TYPES, check, passed, unknown
from vmha.manager.findings import KEPT, Running, bounded, refuses
from vmha.model import ProofPolicy, SelfFencing, VmState
from vmha.store.records import ClusterSnapshot, HostRecord, VmRecord

LOCAL, SHARED, VOLUME = DiskStorage.LOCAL, DiskStorage.SHARED, DiskStorage.VOLUME
IMAGES: dict[str, Any] = {"image_directory": "/images"}
REBUILT = running_vm("web", image="debian", disks=(disk(LOCAL),))
ON_VOLUME = running_vm("web", disks=(disk(VOLUME),))
VTPM = running_vm("web", has_vtpm=True)
WEB = f"vms/{vm_id('web')}"
C1 = "clusters/c1"


def facts(**more: Any) -> HostFacts:
    return replace(FACTS, **more)


def shares(path: str, storage_id: str = "s1", problem: str = "", **more: Any) -> HostFacts:
    return facts(shared_directories=(SharedDirectory(path=path, storage_id=storage_id, problem=problem),), **more)


def served(*servers: str) -> VmRecord:
    return running_vm("web", disks=(disk(VOLUME, servers=servers),))


def hosts(*found_there: HostFacts | None, **config: Any) -> ClusterSnapshot:
    """Hosts h1, h2, ... on which that was found."""
    return cluster(*(host(f"h{number}", facts=what) for number, what in enumerate(found_there, 1)), **config)


def roles(role: str, *carriers: str, facts: HostFacts = FACTS, **config: Any) -> ClusterSnapshot:
    """Hosts h1 and h2, and those that carry a role."""
    plain = [host(f"h{number}", facts=facts) for number in (1, 2)]
    return cluster(*plain, *(host(name, roles=(role,)) for name in carriers), **config)


@dataclass(frozen=True)
class Row:
    """What is found of one type; `said` are (severity, subject)."""

    type: str
    what: str
    snapshot: ClusterSnapshot
    said: tuple[tuple[str, str], ...]
    vms: tuple[VmRecord, ...] = ()
    running: Running | None = field(default=None)


TWO = hosts(FACTS, FACTS)
SLOW, FINE = ClockReading(sane=False), ClockReading(sane=True)
LIBRARY = shares("/images")
SWTPM = "/var/lib/libvirt/swtpm"
UNSHARED = SharedDirectory(path=SWTPM, problem="it belongs to root, not to tss")
PROTECTED = cluster(host("h1", fence=None, record={"self_fencing": True}), host("h2", fence=None), host("h3"))
ROWS = (
    # S13: aggregates
    Row(
        "AGGREGATE_TOO_SMALL", "one host of two is in it",
        cluster(host("h1", aggregates=("all", "ssd")), host("h2", aggregates=("all",))),
        (("REFUSES", "aggregates/ssd"),), (running_vm("web", aggregates=("ssd",)),),
    ),
    Row(
        "AGGREGATE_TOO_SMALL", "each has two hosts, both together one",
        cluster(host("h1", aggregates=("a", "b")), host("h2", aggregates=("a",)), host("h3", aggregates=("b",))),
        (("REFUSES", "aggregates/a,b"),), (running_vm("web", aggregates=("a", "b")),),
    ),
    Row(
        "AGGREGATE_TOO_SMALL", "two hosts", cluster(host("h1", aggregates=("a",)), host("h2", aggregates=("a",))),
        (), (running_vm("web", aggregates=("a",)),),
    ),
    Row("AGGREGATE_TOO_SMALL", "its protection is off", TWO, (), (running_vm("web", aggregates=("a",), ha_enabled=False),)),
    # S13, S14: operating systems
    Row("OS_VERSIONS_DIFFER", "one host is alone", hosts(FACTS, FACTS, facts(operating_system="debian-13")), (("REFUSES", C1),)),
    Row(
        "OS_VERSIONS_DIFFER", "two of each",
        hosts(FACTS, FACTS, facts(operating_system="debian-13"), facts(operating_system="debian-13")), (("WARNS", C1),),
    ),
    Row(
        "OS_VERSIONS_DIFFER", "a host that has not reported may be the second",
        hosts(FACTS, FACTS, facts(operating_system="debian-13"), None), (("WARNS", C1),),
    ),
    Row("OS_VERSIONS_DIFFER", "an old agent does not say", hosts(FACTS, facts(operating_system="")), ()),
    # S26
    Row("GPU", "a device", TWO, (("REFUSES", WEB),), (running_vm("web", has_passthrough=True),)),
    Row(
        "GPU", "its VM is shut off now", TWO, (("REFUSES", WEB),),
        (running_vm("web", has_passthrough=True, state=VmState.SHUTOFF),),
    ),
    Row("GPU", "its VM is not protected", TWO, (), (running_vm("web", has_passthrough=True, ha_enabled=False),)),
    # S13, S24: local disks
    Row(
        "SHARED_STORAGE", "no image", hosts(FACTS, FACTS, **IMAGES), (("REFUSES", WEB),),
        (running_vm("web", disks=(disk(LOCAL),)),),
    ),
    Row("SHARED_STORAGE", "no image directory", TWO, (("REFUSES", WEB),), (REBUILT,)),
    Row(
        "SHARED_STORAGE", "a local disk beside the root disk", hosts(FACTS, FACTS, **IMAGES), (("REFUSES", WEB),),
        (running_vm("web", image="debian", disks=(disk(VOLUME), disk(LOCAL, root=False))),),
    ),
    Row("SHARED_STORAGE", "the rebuild path", hosts(FACTS, FACTS, **IMAGES), (), (REBUILT,)),
    Row(
        "SHARED_STORAGE", "where a disk lies is not known", TWO, (),
        (running_vm("web", disks=(disk(DiskStorage.UNSPECIFIED),)), running_vm("bare")),
    ),
    Row("ROOT_DISK_NEW", "the rebuild path", hosts(FACTS, FACTS, **IMAGES), (("WARNS", WEB),), (REBUILT,)),
    Row(
        "STORAGE_NOT_SHARED", "its host alone has it", hosts(shares("/disks"), FACTS), (("WARNS", WEB),),
        (running_vm("web", disks=(disk(SHARED, storage_id="s1"),)),),
    ),
    Row("STORAGE_NOT_SHARED", "nobody proved it", TWO, (("WARNS", WEB),), (running_vm("web", disks=(disk(SHARED),)),)),
    Row(
        "STORAGE_NOT_SHARED", "two hosts have it", hosts(shares("/disks"), shares("/disks")), (),
        (running_vm("web", disks=(disk(SHARED, storage_id="s1"),)),),
    ),
    Row(
        "STORAGE_NOT_SHARED", "the other host has not reported", hosts(shares("/disks"), None), (),
        (running_vm("web", disks=(disk(SHARED, storage_id="s1"),)),),
    ),
    Row("SHARED_DIRECTORY", "a problem", hosts(shares("/disks", "", "read-only"), shares("/disks")), (("WARNS", "hosts/h1"),)),
    Row("SHARED_DIRECTORY", "two storages", hosts(shares("/disks"), shares("/disks", "s2")), (("WARNS", C1),)),
    Row("SHARED_DIRECTORY", "one host lacks it", hosts(shares("/disks"), FACTS), (("WARNS", C1),)),
    Row("SHARED_DIRECTORY", "shared", hosts(shares("/disks"), shares("/disks"), None), ()),
    # S13: the image library
    Row(
        "IMAGE_LIBRARY", "one host has the role", roles("image-library", "i1", facts=LIBRARY, **IMAGES),
        (("REFUSES", C1),), (REBUILT,),
    ),
    Row("IMAGE_LIBRARY", "two have it", roles("image-library", "i1", "i2", facts=LIBRARY, **IMAGES), (), (REBUILT,)),
    Row("IMAGE_LIBRARY", "none has it", hosts(LIBRARY, LIBRARY, **IMAGES), (("WARNS", C1),), (REBUILT,)),
    Row("IMAGE_LIBRARY", "not proven to be shared", roles("image-library", "i1", "i2", **IMAGES), (("WARNS", C1),), (REBUILT,)),
    Row(
        "IMAGE_LIBRARY", "another storage on each host",
        hosts(LIBRARY, shares("/images", "s2"), **IMAGES), (("REFUSES", C1), ("WARNS", C1)), (REBUILT,),
    ),
    Row("IMAGE_LIBRARY", "nothing would be made anew", roles("image-library", "i1", **IMAGES), (), (ON_VOLUME,)),
    # S13, S25: volumes
    Row("BLOCK_STORAGE_ROLE", "one host has the role", roles("block-storage", "b1"), (("REFUSES", C1),), (ON_VOLUME,)),
    Row("BLOCK_STORAGE_ROLE", "two have it", roles("block-storage", "b1", "b2"), (), (ON_VOLUME,)),
    Row("BLOCK_STORAGE_ROLE", "none has it", TWO, (("WARNS", C1),), (ON_VOLUME,)),
    Row("BLOCK_STORAGE_ROLE", "served by that one", roles("block-storage", "b1"), (("REFUSES", C1),), (served("b1"),)),
    Row("BLOCK_STORAGE_ROLE", "served from outside", roles("block-storage", "b1"), (), (served("ceph1", "ceph2"),)),
    Row("BLOCK_STORAGE_ROLE", "no volumes", roles("block-storage", "b1"), (), (running_vm("web", disks=(disk(SHARED),)),)),
    # S13, S21: vTPM
    Row("VTPM_STATE", "on its host's own disk", hosts(FACTS, facts(tpm_storage_id="s1")), (("REFUSES", WEB),), (VTPM,)),
    Row(
        "VTPM_STATE", "the directory has the wrong owner",
        hosts(facts(shared_directories=(UNSHARED,)), facts(tpm_storage_id="s1")), (("REFUSES", WEB),), (VTPM,),
    ),
    Row(
        "VTPM_STATE", "no host shares it", hosts(facts(tpm_storage_id="s1"), facts(tpm_storage_id="s2")),
        (("REFUSES", WEB),), (VTPM,),
    ),
    Row(
        "VTPM_STATE", "two of three share it",
        hosts(facts(tpm_storage_id="s1"), facts(tpm_storage_id="s1"), FACTS), (("WARNS", "hosts/h3"),), (VTPM,),
    ),
    Row("VTPM_STATE", "the other has not reported", hosts(facts(tpm_storage_id="s1"), None), (), (VTPM,)),
    Row("VTPM_STATE", "its host has not reported", hosts(None, FACTS), (), (VTPM,)),
    Row("VTPM_STATE", "shared", hosts(facts(tpm_storage_id="s1"), facts(tpm_storage_id="s1")), (), (VTPM,)),
    # What hosts can offer
    Row(
        "MACHINE_UNSUPPORTED", "its host alone", hosts(facts(machines=("pc-1", "pc-2")), facts(machines=("pc-1",))),
        (("WARNS", WEB),), (running_vm("web", machine="pc-2"), running_vm("db", machine="pc-1")),
    ),
    Row("MACHINE_UNSUPPORTED", "not known", hosts(facts(machines=("pc-2",)), FACTS), (), (running_vm("web", machine="pc-2"),)),
    Row(
        "CPU_INCOMPATIBLE", "its host alone", hosts(facts(cpu_models=("EPYC",)), facts(cpu_models=("Nehalem",))),
        (("WARNS", WEB),), (running_vm("web", cpu_mode="custom", cpu_model="EPYC"), running_vm("db", cpu_mode="host-model")),
    ),
    Row(
        "HUGEPAGES_MISSING", "too few pages elsewhere", hosts(facts(hugepages={2048: 512}), facts(hugepages={2048: 511})),
        (("WARNS", WEB),), (running_vm("web", hugepage_kib=2048), running_vm("db", hugepage_kib=-1)),
    ),
    Row(
        "HUGEPAGES_MISSING", "a host that has not reported may have them", hosts(facts(hugepages={2048: 512}), None),
        (), (running_vm("web", hugepage_kib=2048),),
    ),
    # Proof, agents, versions
    Row("PROOF_NONE", "none", hosts(FACTS, FACTS, proof=ProofPolicy.NONE), (("WARNS", C1),)),
    Row(
        "HOST_WITHOUT_FENCE", "no fence and no self-fencing",
        cluster(host("h1", fence=None), host("h2"), self_fencing=SelfFencing.OFF), (("WARNS", "hosts/h1"),),
    ),
    Row(
        "HOST_WITHOUT_FENCE", "its agent holds no guard though the cluster is protected",
        replace(PROTECTED, cluster=replace(PROTECTED.cluster, ha_enabled=True)), (("WARNS", "hosts/h2"),),
    ),
    Row("HOST_WITHOUT_FENCE", "guards are not held before that", PROTECTED, ()),
    Row(
        "AGENT_MISSING", "not heard", hosts(FACTS, None), (("WARNS", "hosts/h2"),),
        running=Running(without_agent=frozenset({"h2"})),
    ),
    Row("NOT_REGISTERED", "never came", cluster(host("h1"), host("h2", record={"incarnation": 0})), (("WARNS", "hosts/h2"),)),
    Row("FACTS_UNKNOWN", "no report", hosts(FACTS, None), (("WARNS", "hosts/h2"),)),
    Row(
        "CONFIG_UNCONFIRMED", "an older one", cluster(host("h1"), host("h2", record={"config_confirmed": 0})),
        (("WARNS", "hosts/h2"),),
    ),
    Row("AGENT_VERSIONS_DIFFER", "an older agent", hosts(FACTS, facts(agent_version="0.0.9")), (("WARNS", C1),)),
    Row("LIBVIRT_VERSIONS_DIFFER", "an older hypervisor", hosts(FACTS, facts(hypervisor_version="7.1")), (("WARNS", C1),)),
    Row("CLOCK_SUSPECT", "one runs wrong", TWO, (("WARNS", "hosts/h2"),), running=Running(clocks={"h1": FINE, "h2": SLOW})),
    Row("SAFE_MODE", "the store was lost", cluster(host("h1"), host("h2"), awaited=("h2",)), (("WARNS", C1),)),
    Row("LEARNING", "it has just begun", TWO, (("WARNS", C1),), running=Running(learning=True)),
    Row("NO_LEADER", "nobody leads", TWO, (("WARNS", C1),), running=Running(led=False, learning=True)),
)  # fmt: skip
assert {row.type for row in ROWS} | {"MIN_HOSTS", "AGGREGATES_DIFFER", "AGGREGATE_SPANS_CLUSTERS"} == set(TYPES)


def told(row: Row) -> tuple[tuple[str, str], ...]:
    seen = found(row.snapshot, *row.vms, running=row.running)
    return tuple((severity, subject) for type_, severity, subject in seen if type_ == row.type)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.type}-{row.what}".replace(" ", "-"))
def test_s13_prerequisites_one_by_one(row: Row) -> None:
    """Each row of the table: what is found of its type, whom it names, and whether it refuses."""
    assert told(row) == row.said


def test_s13_nothing_is_wrong_with_a_cluster_that_meets_everything() -> None:
    """Two hosts, fenced, alike, with shared storage and VMs that it can carry: no finding, and every type is passed."""
    there = shares("/disks", tpm_storage_id="s1", machines=("pc",), cpu_models=("EPYC",), hugepages={2048: 4096})
    vms = [
        running_vm("plain", machine="pc", disks=(disk(SHARED, storage_id="s1"),)),
        running_vm("tpm", has_vtpm=True, cpu_mode="custom", cpu_model="EPYC", hugepage_kib=2048),
        running_vm("left alone", ha_enabled=False, has_passthrough=True, disks=(disk(LOCAL),)),
    ]
    running = Running(clocks={"h1": FINE, "h2": FINE})

    assert check(hosts(there, there), vms, running=running) == []
    assert passed(hosts(there, there), []) == TYPES


def test_s13_what_nobody_reported_is_not_called_fine() -> None:
    """While a host has not reported, only what configuration and management plane say is passed; the rest is not known."""
    silent, heard = hosts(FACTS, None), hosts(FACTS, FACTS)

    told = check(silent, [])

    assert {"GPU", "OS_VERSIONS_DIFFER", "SHARED_STORAGE"} <= set(unknown(silent, told))
    assert {"MIN_HOSTS", "SAFE_MODE", "HOST_WITHOUT_FENCE"} <= set(passed(silent, told))
    assert passed(silent, told).keys() | set(unknown(silent, told)) | {f.type for f in told} == set(TYPES)
    assert unknown(heard, check(heard, [])) == []


@pytest.mark.parametrize("what", [None, HostFacts(vcpus=1, memory_mib=1)], ids=["no report", "an old agent"])
def test_s13_missing_facts_never_refuse(what: HostFacts | None) -> None:
    """With hosts that have said nothing, or nothing new, only what VMs themselves say can refuse: here nothing does."""
    vms = [
        running_vm("web", has_vtpm=what is None, machine="pc", cpu_mode="custom", cpu_model="EPYC", hugepage_kib=2048,
                   disks=(disk(SHARED, storage_id="s1"), VmDisk(target="vdb"))),
        running_vm("volume", disks=(disk(VOLUME),)),
    ]  # fmt: skip

    seen = found(hosts(what, what), *vms)

    assert [row for row in seen if row[1] == "REFUSES"] == []
    assert [row for row in seen if row[0] == "FACTS_UNKNOWN"] == (
        [("FACTS_UNKNOWN", "WARNS", f"hosts/h{n}") for n in (1, 2)] if what is None else []
    )


def test_s13_sentences_name_vms_hosts_and_why() -> None:
    """A person reads whom it concerns and what is wrong; the remedy says what to do."""
    snapshot = hosts(facts(shared_directories=(UNSHARED,)), FACTS)
    lost = running_vm("db", disks=(disk(LOCAL, source="/var/lib/libvirt/images/db.qcow2"),))

    said = {f.type: f for f in check(snapshot, [VTPM, lost])}

    assert "web has a vTPM" in said["VTPM_STATE"].description
    assert f"h1 keeps TPM state on its own disk ({SWTPM}: it belongs to root, not to tss)" in said["VTPM_STATE"].description
    assert "db: vda (/var/lib/libvirt/images/db.qcow2) lies on h1's own disk" in said["SHARED_STORAGE"].description
    assert "name the image in the VM's metadata" in said["SHARED_STORAGE"].remedy


def test_s14_the_upgrade_order_is_said_while_versions_differ() -> None:
    """In the middle of an upgrade: which host runs what, whose VMs could go nowhere, and the order of steps."""
    [said] = [f for f in check(hosts(FACTS, FACTS, facts(operating_system="debian-13")), []) if f.type == "OS_VERSIONS_DIFFER"]

    assert "debian-12 on h1, h2; debian-13 on h3" in said.description
    assert "not placed across" in said.description
    assert "VMs of h3 could go nowhere" in said.description
    assert said.remedy.startswith("Upgrade with protection off: drain one host, upgrade it, take the next; enable")


def test_s26_the_refusal_says_so() -> None:
    """S26's words."""
    [said] = [f for f in check(TWO, [running_vm("web", has_passthrough=True)]) if f.type == "GPU"]

    assert said.description == "web has a passed-through device of its host. GPU clusters: enabling is refused."


def test_very_many_findings_are_counted() -> None:
    """Of one type fifty are told, and one that counts the rest stands behind them; others are not touched."""
    many = [refuses("GPU", f"vms/{number}", "A device.", "Detach it.") for number in range(KEPT + 3)]

    kept = bounded([*many, refuses("MIN_HOSTS", C1, "Few.", "Add.")], "c1")

    assert [f.subject for f in kept] == [*(f"vms/{number}" for number in range(KEPT)), C1, C1]
    assert [f.type for f in kept[-2:]] == ["GPU", "MIN_HOSTS"]
    assert kept[-2].description == "And 3 more like these."


def test_the_document_has_every_type_with_its_severity() -> None:
    """docs/enablement.md: a row for each type, in the code's order, and the severities that the rules really give."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "enablement.md").read_text()
    rows = dict(re.findall(r"^\| ([A-Z_]+) \| ([a-z ]+) \|", text, re.M))
    given: dict[str, set[str]] = {type_: set() for type_ in TYPES}
    for row in ROWS:
        given[row.type] |= {severity.lower() for severity, _ in row.said}
    for type_ in TYPES.keys() - {row.type for row in ROWS}:
        given[type_] = {"refuses"}

    assert list(rows) == list(TYPES)
    assert {type_: set(said.split(" or ")) for type_, said in rows.items()} == given
    assert len(RULES) > 10


def test_hosts_without_the_hypervisor_role_need_nothing() -> None:
    """A storage host has no agent, no fence, another system: none of it is found."""
    storage = [host(f"b{n}", facts=None, fence=None, roles=("block-storage",), record={"incarnation": 0}) for n in (1, 2)]
    plain: list[HostRecord] = [host("h1"), host("h2")]

    assert found(cluster(*plain, *storage), ON_VOLUME) == []
