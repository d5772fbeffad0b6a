"""EnableCluster and CheckCluster on a real manager: what agents reported, what the leader knows, and what programs get."""

from __future__ import annotations

from typing import Any

from tests.manager.world import CLUSTER, World, host_config, until
from tests.support.agent_client import vm_id, vm_report
from tests.support.refusals import refused
from vmha import __version__
from vmha.errors import EnablementRefused
from vmha.v1 import cluster_pb2, vm_pb2
from vmha.v1 import cluster_service_pb2 as cs

ENABLE = cs.EnableClusterRequest(cluster_id=CLUSTER)
CHECK = cs.CheckClusterRequest(cluster_id=CLUSTER)


def types(findings: Any) -> list[str]:
    return [finding.type for finding in findings]


async def acts(world: World) -> list[Any]:
    """What operators did, as on record."""
    return [event.detail for event in await world.store.events.read(CLUSTER, 0) if event.kind == "operator_act"]


async def test_s13_a_refusal_carries_every_prerequisite_that_refuses(world: World) -> None:
    """Facts that came in with real inventories count; programs get type, subject and description of each; nothing is enabled."""
    await world.create(["h1", "h2"], enable=False)
    gpu, local = vm_report(1), vm_report(2)
    gpu.facts.has_passthrough = True
    local.facts.disks.append(vm_pb2.VmDisk(target="vda", storage=vm_pb2.DISK_STORAGE_LOCAL, source="/x", root=True))
    await world.live("h1", [gpu, local])

    error = await refused(world.operator.EnableCluster(ENABLE))

    assert isinstance(error, EnablementRefused)
    assert [(rule.rule, rule.subject) for rule in error.rules] == [
        ("GPU", f"vms/{vm_id(1)}"),
        ("SHARED_STORAGE", f"vms/{vm_id(2)}"),
    ]
    assert error.metadata["rules"] == "GPU,SHARED_STORAGE"
    state = (await world.operator.GetCluster(cs.GetClusterRequest(cluster_id=CLUSTER))).cluster.protection_state
    assert state == cluster_pb2.PROTECTION_STATE_DISABLED


async def test_s26_a_gpu_cluster_is_refused_and_one_that_gets_a_device_later_stays_protected(world: World) -> None:
    """Refused at first; what is protected already is only told."""
    await world.create(["h1", "h2"])
    gpu = vm_report(1)
    gpu.facts.has_passthrough = True
    await world.live("h1", [gpu])

    again = await world.operator.EnableCluster(ENABLE)
    await world.operator.DisableCluster(cs.DisableClusterRequest(cluster_id=CLUSTER))
    error = await refused(world.operator.EnableCluster(ENABLE))

    assert [f.type for f in again.warnings if f.severity == cs.FINDING_SEVERITY_REFUSES] == ["GPU"]
    assert "GPU clusters: enabling is refused." in error.message


async def test_s13_warnings_come_with_the_answer(world: World) -> None:
    """Hosts without agents do not keep protection off; they are named."""
    await world.create(["h1", "h2"], enable=False)

    answer = await world.operator.EnableCluster(ENABLE)

    assert answer.cluster.protection_state == cluster_pb2.PROTECTION_STATE_ACTIVE
    assert [f.subject for f in answer.warnings if f.type == "AGENT_MISSING"] == ["hosts/h1", "hosts/h2"]
    assert {f.severity for f in answer.warnings} == {cs.FINDING_SEVERITY_WARNS}


async def test_s11_an_aggregate_of_another_cluster_refuses(world: World) -> None:
    """The other clusters of the region are looked at."""
    for cluster_id, hosts in ((CLUSTER, ["h1", "h2"]), ("c2", ["h3"])):
        await world.create([], enable=False, cluster_id=cluster_id)
        for host_id in hosts:
            config = host_config(host_id, aggregates=["a"])
            await world.operator.CreateHost(cs.CreateHostRequest(cluster_id=cluster_id, host_id=host_id, config=config))

    error = await refused(world.operator.EnableCluster(ENABLE))

    assert isinstance(error, EnablementRefused)
    assert [(rule.rule, rule.subject) for rule in error.rules] == [("AGGREGATE_SPANS_CLUSTERS", "aggregates/a")]
    assert "h3 of c2" in error.message


async def test_s13_check_says_what_only_the_leader_knows(world: World) -> None:
    """Clocks that were compared, who leads, what is fine; and it changes nothing: no event, no protection."""
    await world.create(["h1", "h2"], enable=False)
    await world.live("h1")
    await world.live("h2")
    before = await acts(world)

    async def heard() -> bool:
        return "AGENT_MISSING" not in types((await world.operator.CheckCluster(CHECK)).findings)

    await until(heard)
    answer = await world.operator.CheckCluster(CHECK)

    assert [(clock.host_id, clock.sane) for clock in answer.clocks] == [("h1", True), ("h2", True)]
    assert answer.cluster.leader_manager_id == "m1"
    assert answer.manager_version == __version__
    assert {"MIN_HOSTS", "NO_LEADER", "CLOCK_SUSPECT", "AGENT_MISSING"} <= set(types(answer.passed))
    assert set(types(answer.findings)) & set(types(answer.passed)) == set()
    assert answer.unknown_types == []
    assert answer.cluster.protection_state == cluster_pb2.PROTECTION_STATE_DISABLED
    assert await acts(world) == before


async def test_a_cluster_that_is_not_there_cannot_be_checked(world: World) -> None:
    """NOT_FOUND, and a bad name is named."""
    unknown = await refused(world.operator.CheckCluster(cs.CheckClusterRequest(cluster_id="nope")))
    bad = await refused(world.operator.CheckCluster(cs.CheckClusterRequest(cluster_id="A b")))

    assert (unknown.reason, bad.reason) == ("CLUSTER_UNKNOWN", "FIELD_INVALID")
