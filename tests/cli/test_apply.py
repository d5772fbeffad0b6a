"""`vmha apply`: idempotent, says what it changed, names every mistake of a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Vmha
from vmha.cli import cluster_file
from vmha.errors import InvalidField
from vmha.v1 import cluster_pb2

TOP = Path(__file__).resolve().parents[2]
FILE = """
cluster:
  id: c1
  profile: fast
  timers: {cooldown_s: 2}
  self_fencing: off
  ha_enabled: true
hosts:
  - id: h1
    probe_target: 10.0.0.1:9177
    agent_target: 10.0.0.1:7401
    libvirt_uri: qemu+tls://h1/system
    fence: {agent: fence_ipmilan, parameters: {ip: 10.1.0.1, lanplus: true, timeout: 5}, secret_files: {password: /etc/vmha/bmc}}
  - {id: h2, probe_target: "10.0.0.2:9177", agent_target: "10.0.0.2:7401", libvirt_uri: "qemu+tls://h2/system"}
  - {id: h3, probe_target: "10.0.0.3:9177", agent_target: "10.0.0.3:7401", libvirt_uri: "qemu+tls://h3/system", rack: 7}
groups:
  - {id: web, policy: anti-affinity, mode: hard, vms: [11111111-2222-3333-4444-555555555551]}
"""


async def test_a_new_cluster_is_built_and_protected_last(vmha: Vmha) -> None:
    """Cluster, hosts, groups, then protection: never at creation (S9)."""
    done = await vmha("apply", "-f", vmha.file(FILE))

    assert (done.code, done.err) == (0, "")
    assert vmha.plane.calls == [
        "CreateCluster c1",
        "CreateHost h1",
        "CreateHost h2",
        "CreateHost h3",
        "CreateGroup web",
        "EnableCluster c1",
    ]
    assert done.out.splitlines() == [
        "cluster c1: created", "host h1: created", "host h2: created", "host h3: created", "group web: created",
        "protection c1: enabled",
    ]  # fmt: skip
    assert dict(vmha.plane.hosts["h1"].config.fence.parameters) == {"ip": "10.1.0.1", "lanplus": "1", "timeout": "5"}
    assert vmha.plane.clusters["c1"].config.self_fencing == cluster_pb2.SELF_FENCING_OFF


async def test_the_same_again_changes_nothing(vmha: Vmha) -> None:
    """Each item is reported as unchanged, and no mutation is called."""
    await vmha("apply", "-f", vmha.file(FILE))
    vmha.plane.calls.clear()

    done = await vmha("apply", "-f", vmha.file(FILE))

    assert (done.code, vmha.plane.calls) == (0, [])
    assert all(line.endswith(": unchanged") for line in done.out.splitlines())


async def test_what_changed_is_named(vmha: Vmha) -> None:
    """Only what differs is written, with the etag that was read, and each field is named; strangers are left alone."""
    await vmha("apply", "-f", vmha.file(FILE))
    vmha.plane.calls.clear()
    changed = FILE.replace("cooldown_s: 2", "cooldown_s: 3").replace("rack: 7", "rack: 8").replace("- {id: h2", "- {id: h9")

    done = await vmha("apply", "-f", vmha.file(changed), "-o", "json")

    told = {(row["kind"], row["name"]): (row["action"], row["fields"]) for row in map(json.loads, done.out.splitlines())}
    assert vmha.plane.calls == ['UpdateCluster c1 "1"', "CreateHost h9", 'UpdateHost h3 "1"']
    assert told["cluster", "c1"] == ("updated", ["timers.cooldown_s"])
    assert told["host", "h3"] == ("updated", ["rack"])
    assert told["host", "h2"] == ("not in the file, left alone", [])


async def test_protection_is_left_alone_when_the_file_does_not_say(vmha: Vmha) -> None:
    """And switched off when it says false."""
    await vmha("apply", "-f", vmha.file(FILE))
    vmha.plane.calls.clear()

    await vmha("apply", "-f", vmha.file(FILE.replace("  ha_enabled: true\n", "")))
    await vmha("apply", "-f", vmha.file(FILE.replace("ha_enabled: true", "ha_enabled: false")))

    assert vmha.plane.calls == ["DisableCluster c1"]


async def test_a_refused_enablement_leaves_the_rest_in_place(vmha: Vmha) -> None:
    """What was done is said, and why protection is not on; the same again goes on from there."""
    vmha.plane.refuse_enable = True

    done = await vmha("apply", "-f", vmha.file(FILE))

    assert done.code == 1
    assert "host h3: created" in done.out
    assert "At least two hosts are required" in done.err


async def test_two_mistakes_are_both_named(vmha: Vmha) -> None:
    """With their path, and before anything is called."""
    wrong = FILE.replace("10.0.0.1:7401", "10.0.0.1").replace("cooldown_s: 2", "cooldown_s: 1000000")

    done = await vmha("apply", "-f", vmha.file(wrong))

    assert done.code == 2
    assert done.err.splitlines() == [
        "vmha: FIELD_INVALID",
        "  cluster.timers.cooldown_s: must be 0 or from 0.05 s to 86400 s, is 1e+06 s",
        "  hosts[0].agent_target: must be host:port",
    ]
    assert vmha.plane.calls == []


@pytest.mark.parametrize(
    ("before", "after", "path"),
    [
        ("profile: fast", "profile: faster", "cluster.profile"),
        ("profile: fast", "profil: fast", "cluster.profil"),
        ("{cooldown_s: 2}", "{cooldown: 2}", "cluster.timers.cooldown"),
        ("{cooldown_s: 2}", "{cooldown_s: long}", "cluster.timers.cooldown_s"),
        ("{cooldown_s: 2}", "{cooldown_s: .nan}", "cluster.timers.cooldown_s"),
        ("{cooldown_s: 2}", "{heartbeat_interval_s: 100}", "cluster.timers.stream_stale_s"),
        ("ha_enabled: true", "ha_enabled: perhaps", "cluster.ha_enabled"),
        ("- id: h1", "- id: H 1", "hosts[0].id"),
        ("id: h2", "id: h1", "hosts[1].id"),
        ("password: /etc/vmha/bmc", "password: bmc", "hosts[0].fence.secret_files.password"),
        ("agent: fence_ipmilan, ", "", "hosts[0].fence.agent"),
        ("rack: 7", "racks: 7", "hosts[2].racks"),
        ("policy: anti-affinity", "policy: apart", "groups[0].policy"),
        ("11111111-2222-3333-4444-555555555551", "web-1", "groups[0].vms[0]"),
        ("groups:", "group:", "group"),
        ("hosts:", "hosts: 3\nmore:", "hosts"),
        ("  id: c1\n", "", "cluster.id"),
        ("profile: fast", "profile: fast\n  profile: fast", "cluster.yaml"),
        ("profile: fast", "profile: [fast", "cluster.yaml"),
    ],
)
def test_each_mistake_has_its_path(tmp_path: Path, before: str, after: str, path: str) -> None:
    """Unknown keys, wrong types, absurd spans, repeated keys and broken YAML, each by the path of the mistake."""
    assert before in FILE
    file = tmp_path / "cluster.yaml"
    file.write_text(FILE.replace(before, after, 1))

    with pytest.raises(InvalidField) as caught:
        cluster_file.read(file)

    assert path in [violation.field.removeprefix(f"{tmp_path}/") for violation in caught.value.violations]


async def test_a_file_that_is_not_there(vmha: Vmha) -> None:
    """Says which, and why."""
    done = await vmha("apply", "-f", "/nowhere/cluster.yaml")

    assert (done.code, done.err) == (2, "vmha: FIELD_INVALID: /nowhere/cluster.yaml: cannot be read: No such file or directory\n")


async def test_the_shipped_example_is_valid(vmha: Vmha) -> None:
    """deploy/examples/cluster.yaml can be applied as it is."""
    done = await vmha("apply", "-f", str(TOP / "deploy/examples/cluster.yaml"))

    assert (done.code, done.err) == (0, "")
