"""ClusterService: every refusal with its status, reason and text; etags; pages; what operators did is on record."""

from __future__ import annotations

from typing import Any

import pytest

from tests.manager.world import CLUSTER, World, host_config, until
from tests.support.agent_client import vm_id, vm_report
from tests.support.refusals import refused
from vmha.errors import EnablementRefused, InvalidField
from vmha.rpc.scalars import duration
from vmha.v1 import cluster_pb2, host_pb2
from vmha.v1 import cluster_service_pb2 as cs

TOO_FEW = "At least two hosts are required to enable VM HA."
DIFFERENT = "VM HA cannot be enabled because hosts belong to different host aggregates, which prevents cross-host migration."


async def test_s09_ha_cannot_be_switched_on_at_creation(world: World) -> None:
    """S9: HA_AT_CREATION, and nothing is created."""
    error = await refused(world.operator.CreateCluster(cs.CreateClusterRequest(cluster_id=CLUSTER, enable_ha=True)))

    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "HA_AT_CREATION")
    assert await world.store.clusters.list_ids() == []


async def test_s10_s11_enabling_names_every_broken_rule(world: World) -> None:
    """S10, S11: the exact sentences, all at once, and the refusal is an event."""
    await world.create(["h1"], enable=False)
    enable = cs.EnableClusterRequest(cluster_id=CLUSTER)
    alone = await refused(world.operator.EnableCluster(enable))
    for host_id, aggregate in (("h1", "a"), ("h2", "b")):
        request = cs.CreateHostRequest if host_id == "h2" else cs.UpdateHostRequest
        call = world.operator.CreateHost if host_id == "h2" else world.operator.UpdateHost
        await call(request(cluster_id=CLUSTER, host_id=host_id, config=host_config(host_id, aggregates=[aggregate])))
    apart = await refused(world.operator.EnableCluster(enable))

    assert isinstance(alone, EnablementRefused)
    assert isinstance(apart, EnablementRefused)
    assert [rule.message for rule in alone.rules] == [TOO_FEW]
    assert [rule.message for rule in apart.rules] == [DIFFERENT]
    acts = [e.detail for e in await world.store.events.read(CLUSTER, 0) if e.kind == "operator_act"]
    assert [act["refused_reason"] for act in acts if act["act"] == "EnableCluster"] == ["ENABLEMENT_REFUSED"] * 2


async def test_s12_disabled_waiting_active(world: World) -> None:
    """S12: Active with two hosts, Waiting when it shrinks, Active again by itself, Disabled; each change is an event."""
    await world.create(["h1", "h2"], enable=False)
    get, seen = cs.GetClusterRequest(cluster_id=CLUSTER), []

    async def note() -> None:
        cluster = (await world.operator.GetCluster(get)).cluster
        seen.append(cluster_pb2.ProtectionState.Name(cluster.protection_state).removeprefix("PROTECTION_STATE_"))

    await note()
    await world.operator.EnableCluster(cs.EnableClusterRequest(cluster_id=CLUSTER))
    await note()
    await world.operator.DeleteHost(cs.DeleteHostRequest(cluster_id=CLUSTER, host_id="h2"))
    await note()
    await world.operator.CreateHost(cs.CreateHostRequest(cluster_id=CLUSTER, host_id="h2", config=host_config("h2")))
    await note()
    await world.operator.DisableCluster(cs.DisableClusterRequest(cluster_id=CLUSTER))
    await note()

    assert seen == ["DISABLED", "ACTIVE", "WAITING", "ACTIVE", "DISABLED"]

    async def told() -> bool:
        events = await world.store.events.read(CLUSTER, 0)
        changes = [str(e.detail["new_state"]) for e in events if e.kind == "protection_state_change"]
        return [change.removeprefix("PROTECTION_STATE_") for change in changes] == seen[1:]

    await until(told)


async def test_absurd_durations_are_all_named(world: World) -> None:
    """Two timers out of bounds are two violations, by their path."""
    config = cluster_pb2.ClusterConfig()
    config.timers.heartbeat_interval.CopyFrom(duration(0.001))
    config.timers.cooldown.CopyFrom(duration(1e6))
    error = await refused(world.operator.CreateCluster(cs.CreateClusterRequest(cluster_id=CLUSTER, config=config)))

    assert isinstance(error, InvalidField)
    assert {violation.field for violation in error.violations} == {
        "config.timers.heartbeat_interval_s",
        "config.timers.cooldown_s",
    }


@pytest.mark.parametrize(
    ("method", "request_", "reason"),
    [
        ("GetCluster", cs.GetClusterRequest(cluster_id="nope"), "CLUSTER_UNKNOWN"),
        ("DeleteCluster", cs.DeleteClusterRequest(cluster_id="nope"), "CLUSTER_UNKNOWN"),
        ("EnableCluster", cs.EnableClusterRequest(cluster_id="nope"), "CLUSTER_UNKNOWN"),
        ("ListHosts", cs.ListHostsRequest(cluster_id="nope"), "CLUSTER_UNKNOWN"),
        ("ListVms", cs.ListVmsRequest(cluster_id="nope"), "CLUSTER_UNKNOWN"),
        ("ListGroups", cs.ListGroupsRequest(cluster_id="nope"), "CLUSTER_UNKNOWN"),
        ("CreateHost", cs.CreateHostRequest(cluster_id="nope", host_id="h1", config=host_config("h1")), "CLUSTER_UNKNOWN"),
        ("ExplainHost", cs.ExplainHostRequest(cluster_id="nope", host_id="h1"), "CLUSTER_UNKNOWN"),
        ("GetHost", cs.GetHostRequest(cluster_id=CLUSTER, host_id="nope"), "HOST_UNKNOWN"),
        ("UpdateHost", cs.UpdateHostRequest(cluster_id=CLUSTER, host_id="nope", config=host_config("nope")), "HOST_UNKNOWN"),
        ("DeleteHost", cs.DeleteHostRequest(cluster_id=CLUSTER, host_id="nope"), "HOST_UNKNOWN"),
        ("StartHostMaintenance", cs.StartHostMaintenanceRequest(cluster_id=CLUSTER, host_id="nope"), "HOST_UNKNOWN"),
        ("ExplainHost", cs.ExplainHostRequest(cluster_id=CLUSTER, host_id="nope"), "HOST_UNKNOWN"),
        ("ConfirmHostOff", cs.ConfirmHostOffRequest(cluster_id=CLUSTER, host_id="nope", operator="a"), "HOST_UNKNOWN"),
        ("ExplainVm", cs.ExplainVmRequest(cluster_id=CLUSTER, vm_id=vm_id(9)), "VM_UNKNOWN"),
        ("GetGroup", cs.GetGroupRequest(cluster_id=CLUSTER, group_id="nope"), "GROUP_UNKNOWN"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_unknown_ids(world: World, method: str, request_: Any, reason: str) -> None:
    """What does not exist is NOT_FOUND with a reason that says what."""
    await world.create(["h1", "h2"], enable=False)
    error = await refused(getattr(world.operator, method)(request_))

    assert (error.code, error.reason) == ("NOT_FOUND", reason)


async def test_creating_again_is_ok_and_differently_is_not(world: World) -> None:
    """The same again is OK; other settings are *_EXISTS, also for a host of another cluster."""
    await world.create(["h1"], enable=False)
    await world.create(["h1"], enable=False)
    other = await refused(
        world.operator.CreateCluster(
            cs.CreateClusterRequest(
                cluster_id=CLUSTER, config=cluster_pb2.ClusterConfig(profile=cluster_pb2.Profile.PROFILE_FAST)
            )
        )
    )
    host = cs.CreateHostRequest(cluster_id=CLUSTER, host_id="h1", config=host_config("other"))
    differs = await refused(world.operator.CreateHost(host))
    await world.create([], enable=False, cluster_id="c2")
    elsewhere = await refused(
        world.operator.CreateHost(cs.CreateHostRequest(cluster_id="c2", host_id="h1", config=host_config("h1")))
    )

    assert [error.reason for error in (other, differs, elsewhere)] == ["CLUSTER_EXISTS", "HOST_EXISTS", "HOST_EXISTS"]


async def test_etags(world: World) -> None:
    """A stale etag is ABORTED, the present one is taken, none at all is no condition."""
    await world.create(["h1", "h2"], enable=False)
    stale = (await world.host("h1")).etag
    maintain = cs.StartHostMaintenanceRequest(cluster_id=CLUSTER, host_id="h1", etag=stale)
    done = (await world.operator.StartHostMaintenance(maintain)).host
    end = cs.EndHostMaintenanceRequest(cluster_id=CLUSTER, host_id="h1", etag=stale)
    error = await refused(world.operator.EndHostMaintenance(end))
    nonsense = cs.DisableClusterRequest(cluster_id=CLUSTER, etag="abc")
    strange = await refused(world.operator.DisableCluster(nonsense))

    assert done.in_maintenance
    assert [(e.code, e.reason) for e in (error, strange)] == [("ABORTED", "ETAG_MISMATCH")] * 2
    await world.operator.EndHostMaintenance(
        cs.EndHostMaintenanceRequest(cluster_id=CLUSTER, host_id="h1", etag=(await world.host("h1")).etag)
    )


async def test_what_must_not_be_deleted_is_not(world: World) -> None:
    """CLUSTER_ENABLED, CLUSTER_NOT_EMPTY, HOST_OWNS_VMS."""
    await world.create(["h1", "h2"])
    agent = await world.live("h1", [vm_report(1)])
    enabled = await refused(world.operator.DeleteCluster(cs.DeleteClusterRequest(cluster_id=CLUSTER)))
    await world.operator.DisableCluster(cs.DisableClusterRequest(cluster_id=CLUSTER))
    full = await refused(world.operator.DeleteCluster(cs.DeleteClusterRequest(cluster_id=CLUSTER)))
    owns = await refused(world.operator.DeleteHost(cs.DeleteHostRequest(cluster_id=CLUSTER, host_id="h1")))
    await world.operator.DeleteHost(cs.DeleteHostRequest(cluster_id=CLUSTER, host_id="h2"))

    assert [e.reason for e in (enabled, full, owns)] == ["CLUSTER_ENABLED", "CLUSTER_NOT_EMPTY", "HOST_OWNS_VMS"]
    assert agent.error is None


async def test_deleted_host_loses_its_session(world: World) -> None:
    """Its session ends with HOST_UNKNOWN, and a cluster that is empty and disabled goes for good, restored by nobody."""
    await world.create(["h1"], enable=False)
    agent = world.agent("h1")
    await agent.connect()
    await world.operator.DeleteHost(cs.DeleteHostRequest(cluster_id=CLUSTER, host_id="h1"))
    error = await agent.ended()
    await world.operator.DeleteCluster(cs.DeleteClusterRequest(cluster_id=CLUSTER))

    assert error.reason == "HOST_UNKNOWN"
    gone = await refused(world.operator.GetCluster(cs.GetClusterRequest(cluster_id=CLUSTER)))
    assert gone.reason == "CLUSTER_UNKNOWN"


async def test_s14_drain_takes_the_host_out_of_service_and_names_its_journal(world: World) -> None:
    """Start is idempotent and takes over a new stop_vms; cancel gives the host back; both are on record."""
    await world.create(["h1"], enable=False)
    host: dict[str, Any] = {"cluster_id": CLUSTER, "host_id": "h1"}
    first = (await world.operator.StartHostDrain(cs.StartHostDrainRequest(**host))).host
    again = (await world.operator.StartHostDrain(cs.StartHostDrainRequest(**host, stop_vms=True))).host
    stale = await refused(world.operator.StartHostDrain(cs.StartHostDrainRequest(**host, etag=first.etag)))
    record = await world.store.hosts.get(CLUSTER, "h1")
    ended = (await world.operator.CancelHostDrain(cs.CancelHostDrainRequest(**host))).host
    busy = await refused(world.operator.StartHostDrain(cs.StartHostDrainRequest(**host)))
    nobody = await refused(world.operator.StartHostDrain(cs.StartHostDrainRequest(cluster_id=CLUSTER, host_id="h9")))

    assert first.in_maintenance and first.drain_id == again.drain_id != ""
    assert record.drain_stop
    assert not ended.in_maintenance
    assert (await world.store.evacuations.get(CLUSTER, first.drain_id)).cancel_requested
    assert [each.reason for each in (stale, busy, nobody)] == ["ETAG_MISMATCH", "HOST_BUSY", "HOST_UNKNOWN"]
    acts = [event.detail["act"] for event in await world.store.events.read(CLUSTER, 0) if event.kind == "operator_act"]
    assert acts[-6:-4] == ["StartHostDrain", "StartHostDrain"] and "CancelHostDrain" in acts


async def test_pages(world: World) -> None:
    """Pages are cut by page_size, hold every host once in order, and a token of another making is refused."""
    await world.create([f"h{number}" for number in range(1, 6)], enable=False)
    seen: list[str] = []
    token = ""
    while True:
        page = await world.operator.ListHosts(cs.ListHostsRequest(cluster_id=CLUSTER, page_size=2, page_token=token))
        seen += [host.host_id for host in page.hosts]
        token = page.next_page_token
        if not token:
            break
    strange = await refused(world.operator.ListHosts(cs.ListHostsRequest(cluster_id=CLUSTER, page_token="nonsense")))

    assert seen == ["h1", "h2", "h3", "h4", "h5"]
    assert strange.reason == "FIELD_INVALID"


async def test_groups(world: World) -> None:
    """Create, get, update with an etag, delete."""
    await world.create([], enable=False)
    policy = cs.GroupPolicy.GROUP_POLICY_ANTI_AFFINITY
    group = cs.Group(group_id="g1", policy=policy, mode=cs.GroupMode.GROUP_MODE_HARD, vm_ids=[vm_id(1), vm_id(2)])
    made = (await world.operator.CreateGroup(cs.CreateGroupRequest(cluster_id=CLUSTER, group=group))).group
    group.vm_ids.append(vm_id(3))
    group.etag = made.etag
    changed = (await world.operator.UpdateGroup(cs.UpdateGroupRequest(cluster_id=CLUSTER, group=group))).group
    group.vm_ids.append(vm_id(4))
    stale = await refused(world.operator.UpdateGroup(cs.UpdateGroupRequest(cluster_id=CLUSTER, group=group)))
    listed = (await world.operator.ListGroups(cs.ListGroupsRequest(cluster_id=CLUSTER))).groups
    await world.operator.DeleteGroup(cs.DeleteGroupRequest(cluster_id=CLUSTER, group_id="g1"))

    assert len(changed.vm_ids) == 3
    assert stale.reason == "ETAG_MISMATCH"
    assert [g.etag for g in listed] == [changed.etag]
    assert (await world.operator.ListGroups(cs.ListGroupsRequest(cluster_id=CLUSTER))).groups == []


async def test_confirm_off_needs_the_hosts_fence_epoch(world: World) -> None:
    """STALE_FENCE_EPOCH: an old word must not prove a new failure."""
    await world.create(["h1", "h2"])
    error = await refused(
        world.operator.ConfirmHostOff(cs.ConfirmHostOffRequest(cluster_id=CLUSTER, host_id="h1", operator="alice", fence_epoch=7))
    )

    assert (error.code, error.reason) == ("ABORTED", "STALE_FENCE_EPOCH")


async def test_vms_are_listed_with_what_their_host_says(world: World) -> None:
    """ListVms shows owner, epoch and libvirt's word; of one host or of all."""
    await world.create(["h1", "h2"])
    await world.live("h1", [vm_report(1), vm_report(2)])
    await world.live("h2", [vm_report(3)])
    everything = (await world.operator.ListVms(cs.ListVmsRequest(cluster_id=CLUSTER))).vms
    of_h2 = (await world.operator.ListVms(cs.ListVmsRequest(cluster_id=CLUSTER, host_id="h2"))).vms

    assert [(vm.vm_id, vm.owner_host_id) for vm in everything] == [(vm_id(1), "h1"), (vm_id(2), "h1"), (vm_id(3), "h2")]
    assert [vm.name for vm in of_h2] == ["vm3"]
    assert isinstance(await world.host("h1"), host_pb2.Host)
