"""`vmha doctor`: what a person reads, what a program reads, and its exit code."""

from __future__ import annotations

import json

from tests.cli.conftest import Vmha
from vmha.rpc.scalars import duration
from vmha.v1 import cluster_pb2, host_pb2
from vmha.v1 import cluster_service_pb2 as cs
from vmha.v1 import evacuation_service_pb2 as ev

REFUSES, WARNS = cs.FINDING_SEVERITY_REFUSES, cs.FINDING_SEVERITY_WARNS


def finding(type_: str, severity: cs.FindingSeverity, subject: str, description: str, remedy: str = "Mend it.") -> cs.Finding:
    return cs.Finding(type=type_, severity=severity, subject=subject, description=description, remedy=remedy)


def patient(vmha: Vmha) -> None:
    """Three hosts: one fenced and on shared storage, one whose device is silent, one of which nobody knows."""
    plane = vmha.plane
    plane.settle()
    plane.findings = [
        finding("GPU", REFUSES, "vms/1", "web has a device."),
        finding("GPU", REFUSES, "vms/2", "db has a device."),
        finding("AGENT_MISSING", WARNS, "hosts/h3", "No live agent on h3.", "Start the agent."),
    ]
    plane.clocks = [
        cs.HostClock(host_id="h1", sane=True, compared_for=duration(240), gained=duration(-0.0012)),
        cs.HostClock(host_id="h2", sane=False),
    ]
    shared = host_pb2.SharedDirectory(path="/srv/shared", storage_id="s1")
    broken = host_pb2.SharedDirectory(path="/srv/shared", problem="permission denied")
    for number, directory in ((1, shared), (2, broken)):
        plane.hosts[f"h{number}"].facts.CopyFrom(
            host_pb2.HostFacts(vcpus=4, operating_system="debian-12", agent_version="0.1.0", shared_directories=[directory])
        )
    plane.fences = {
        "h1": ev.CheckFenceResponse(power=ev.FENCE_POWER_ON, agent="fence_ipmilan", duration=duration(0.31)),
        "h2": ev.CheckFenceResponse(reason="FENCE_TIMEOUT", agent="fence_ipmilan", message="no answer", duration=duration(5)),
    }


async def test_s13_people_read_what_refuses_first_and_what_to_do(vmha: Vmha) -> None:
    """Findings by severity and type with what to do, then what is fine, fences, storage, clocks and versions; the code is 6."""
    patient(vmha)

    done = await vmha("doctor", "c1")

    rows = done.out.splitlines()
    assert done.code == 6
    assert rows[0].startswith("c1: protection is ACTIVE, 3 hosts; nobody leads")
    assert rows[2:7] == [
        "refuses: it is protected, but would not be again",
        "  GPU",
        "    web has a device.",
        "    db has a device.",
        "    -> Mend it.",
    ]
    assert rows.index("warns: something will not work") < rows.index("fine") < rows.index("fence devices")
    assert "  VTPM_STATE, CPU_INCOMPATIBLE" in rows
    told = [row.split() for row in rows]
    assert ["h1", "fence_ipmilan", "ON", "0.31", "s"] in told
    assert ["h2", "fence_ipmilan", "UNKNOWN", "5.00", "s", "FENCE_TIMEOUT:", "no", "answer"] in told
    assert ["h3", "-", "UNKNOWN", "STORE_UNAVAILABLE:", "Redis", "does", "not", "answer"] in told
    assert ["/srv/shared", "s1", "h1"] in told
    assert ["/srv/shared", "-", "h2", "permission", "denied"] in told
    assert ["h1", "right", "-1.2", "ms", "in", "240", "s"] in told
    assert ["h2", "WRONG", "not", "compared", "for", "long", "enough", "yet"] in told
    assert ["h1", "0.1.0", "debian-12", "-", "-"] in told


async def test_s13_programs_read_one_document(vmha: Vmha) -> None:
    """--json and -o json give the same: the contract's answer, and fences, storage and versions by host."""
    patient(vmha)

    done, same = await vmha("doctor", "c1", "--json"), await vmha("doctor", "-o", "json")

    told = json.loads(done.out)
    assert done.code == same.code == 6
    assert told == json.loads(same.out)
    assert [f["severity"] for f in told["findings"]] == ["FINDING_SEVERITY_REFUSES"] * 2 + ["FINDING_SEVERITY_WARNS"]
    assert [(f["host_id"], f["power"], f["reason"]) for f in told["fences"]] == [
        ("h1", "ON", ""),
        ("h2", "UNKNOWN", "FENCE_TIMEOUT"),
        ("h3", "UNKNOWN", "STORE_UNAVAILABLE"),
    ]
    assert told["shared_directories"][1] == {"path": "/srv/shared", "storage_id": "s1", "host_ids": ["h1"], "problem": ""}
    assert told["versions"][0]["system"] == "debian-12"


async def test_s13_nothing_refuses_is_0(vmha: Vmha) -> None:
    """Warnings and silent devices alone do not make a script stop."""
    patient(vmha)
    vmha.plane.findings = vmha.plane.findings[2:]

    done = await vmha("doctor")

    assert done.code == 0
    assert "refuses:" not in done.out


async def test_a_cluster_that_is_not_there_is_3(vmha: Vmha) -> None:
    """As with every command."""
    done = await vmha("doctor", "nope")

    assert (done.code, done.out) == (3, "")
    assert "CLUSTER_UNKNOWN" in done.err


async def test_s13_enable_and_apply_say_what_only_warns(vmha: Vmha) -> None:
    """Protection is on, and the warnings are said; JSON has them beside the cluster."""
    patient(vmha)
    vmha.plane.findings = vmha.plane.findings[2:]
    file = vmha.file("cluster: {id: c1, ha_enabled: true}\nhosts: []\n")

    plain, document = await vmha("cluster", "enable", "c1"), await vmha("cluster", "enable", "c1", "-o", "json")
    vmha.plane.clusters["c1"].protection_state = cluster_pb2.PROTECTION_STATE_DISABLED
    applied = await vmha("apply", "-f", file)

    assert plain.out.splitlines() == [
        "c1: protection is ACTIVE",
        "  AGENT_MISSING: No live agent on h3.",
        "what to do: vmha doctor c1",
    ]
    assert [w["type"] for w in json.loads(document.out)["warnings"]] == ["AGENT_MISSING"]
    assert "warning AGENT_MISSING: 1 found, see vmha doctor c1" in applied.out
