"""A table of bad messages: each is refused with the path of every field that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from vmha.errors import InvalidField
from vmha.rpc import pages, validate, validate_session
from vmha.v1 import agent_service_pb2 as agent
from vmha.v1 import cluster_pb2, heartbeat_pb2, host_pb2, vm_pb2
from vmha.v1 import cluster_service_pb2 as cs
from vmha.v1 import evacuation_service_pb2 as ev
from vmha.v1 import event_service_pb2 as es
from vmha.v1 import manager_service_pb2 as ms

UUID = "11111111-2222-3333-4444-555555555555"
Case = tuple[Callable[[Any], None], Any, set[str]]


def host_config(**more: Any) -> host_pb2.HostConfig:
    return host_pb2.HostConfig(
        **{"probe_target": "10.0.0.1:9177", "agent_target": "[fe80::1]:7401", "libvirt_uri": "qemu:///system", **more}
    )


def create_host(config: host_pb2.HostConfig) -> cs.CreateHostRequest:
    return cs.CreateHostRequest(cluster_id="c1", host_id="h1", config=config)


def create_cluster(**timers: Any) -> cs.CreateClusterRequest:
    config = cluster_pb2.ClusterConfig(timers=cluster_pb2.ClusterTimers(**timers))
    return cs.CreateClusterRequest(cluster_id="c1", config=config)


def group(**more: Any) -> cs.CreateGroupRequest:
    fields = {"group_id": "g1", "policy": cs.GROUP_POLICY_AFFINITY, "mode": cs.GROUP_MODE_HARD, **more}
    return cs.CreateGroupRequest(cluster_id="c1", group=cs.Group(**fields))


def seen(**more: Any) -> ms.PeerObservation:
    return ms.PeerObservation(**{"host_id": "h2", "verdict": host_pb2.PEER_VERDICT_OK, "consecutive_count": 1, **more})


def beat(**more: Any) -> heartbeat_pb2.Heartbeat:
    return heartbeat_pb2.Heartbeat(**{"host_id": "h1", "incarnation": 5, "sequence": 1, **more})


def vm(**more: Any) -> ms.VmReport:
    return ms.VmReport(**{"vm_id": UUID, "name": "web", "state": vm_pb2.VM_STATE_RUNNING, **more})


def fence(**more: Any) -> host_pb2.HostConfig:
    return host_config(fence=host_pb2.FenceConfig(**{"agent": "fence_ipmilan", **more}))


REPORT = "report.observations[1]"
CASES: list[Case] = [
    (validate.names_cluster, cs.GetClusterRequest(), {"cluster_id"}),
    (validate.names_cluster, cs.GetClusterRequest(cluster_id="C1"), {"cluster_id"}),
    (validate.names_cluster, cs.GetClusterRequest(cluster_id="c" * 64), {"cluster_id"}),
    (validate.names_cluster, cs.GetClusterRequest(cluster_id="c1\n"), {"cluster_id"}),
    (validate.names_cluster, cs.GetClusterRequest(cluster_id="{c}"), {"cluster_id"}),
    (validate.names_host, cs.GetHostRequest(host_id="h_1"), {"cluster_id", "host_id"}),
    (validate.names_group, cs.GetGroupRequest(cluster_id="c1", group_id="-g"), {"group_id"}),
    (validate.get_peers, ms.GetPeersRequest(), {"host_id"}),
    (validate.cluster_settings, create_cluster(cooldown=Duration(seconds=-1)), {"config.timers.cooldown_s"}),
    (validate.cluster_settings, create_cluster(cooldown=Duration(seconds=86_401)), {"config.timers.cooldown_s"}),
    (
        validate.cluster_settings,
        create_cluster(probe_timeout=Duration(nanos=1), probe_misses=0),
        {"config.timers.probe_timeout_s", "config.timers.probe_misses"},
    ),
    (
        validate.cluster_settings,
        cs.CreateClusterRequest(cluster_id="c1", config=cluster_pb2.ClusterConfig(max_down_fraction=1.5, watchers=-1)),
        {"config.max_down_fraction", "config.watchers"},
    ),
    (
        validate.host_settings,
        create_host(host_pb2.HostConfig()),
        {"config.probe_target", "config.agent_target", "config.libvirt_uri"},
    ),
    (validate.host_settings, create_host(host_config(probe_target="10.0.0.1:0")), {"config.probe_target"}),
    (
        validate.host_settings,
        create_host(host_config(probe_target="a b:1", roles=["king"])),
        {"config.probe_target", "config.roles[0]"},
    ),
    (validate.host_settings, create_host(fence(agent="")), {"config.fence.agent"}),
    (validate.host_settings, create_host(fence(parameters={"ip": "1\naction=off"})), {"config.fence.parameters.ip"}),
    (validate.host_settings, create_host(fence(secret_files={"password": "bmc"})), {"config.fence.secret_files.password"}),
    (validate.confirm_host_off, cs.ConfirmHostOffRequest(cluster_id="c1", host_id="h1"), {"operator"}),
    (validate.group_settings, group(policy=cs.GROUP_POLICY_UNSPECIFIED), {"group.policy"}),
    (validate.group_settings, group(vm_ids=["web"]), {"group.vm_ids[0]"}),
    (validate.group_settings, group(vm_ids=[UUID, UUID]), {"group.vm_ids"}),
    (validate.explain_vm, cs.ExplainVmRequest(cluster_id="c1", vm_id="web"), {"vm_id"}),
    (validate.explain_vm, ev.ExplainVmPlacementRequest(vm_id="web"), {"cluster_id", "vm_id"}),
    (validate.names_host, ev.ExplainHostLossRequest(cluster_id="c1"), {"host_id"}),
    (validate.watch_events, es.WatchEventsRequest(cluster_id="c1", after_revision=-2), {"after_revision"}),
    (validate.evacuate, ev.EvacuateRequest(cluster_id="c1", host_id="h1"), {"request_id", "fence_epoch"}),
    (validate.evacuate, ev.EvacuateRequest(cluster_id="c1", host_id="h1", validate_only=True, leader_term=-1), {"leader_term"}),
    (validate.watch_evacuation, ev.WatchEvacuationRequest(cluster_id="c1"), {"evacuation_id"}),
    (validate.cancel_evacuation, ev.CancelEvacuationRequest(cluster_id="c1", evacuation_id=UUID, reason="x" * 2000), {"reason"}),
    (validate.admit_vm, agent.AdmitVmRequest(cluster_id="c1", host_id="h1"), {"incarnation", "vm_id", "epoch"}),
    (validate_session.hello, ms.AgentHello(host_id="h1", boot_id="b"), {"hello.agent_instance_id"}),
    (validate_session.hello, ms.AgentHello(), {"hello.host_id", "hello.boot_id", "hello.agent_instance_id"}),
    (validate_session.registration, ms.AgentRegistration(), {"registration.boot_token"}),
    (validate_session.health_report, ms.HealthReport(sequence=0), {"report.sequence"}),
    (
        validate_session.health_report,
        ms.HealthReport(sequence=1, observations=[seen(), seen(host_id="", verdict=0, consecutive_count=0)]),
        {f"{REPORT}.host_id", f"{REPORT}.verdict", f"{REPORT}.consecutive_count"},
    ),
    (
        validate_session.health_report,
        ms.HealthReport(sequence=1, observations=[seen(), seen(age=Duration(seconds=-5))]),
        {f"{REPORT}.age"},
    ),
    (validate_session.health_report, ms.HealthReport(sequence=1, observations=[seen()] * 1001), {"report.observations"}),
    (
        validate_session.heartbeats,
        ms.AgentHeartbeat(),
        {"heartbeat.own.host_id", "heartbeat.own.incarnation", "heartbeat.own.sequence"},
    ),
    (
        validate_session.heartbeats,
        ms.AgentHeartbeat(own=beat(vms=[heartbeat_pb2.VmEpoch(vm_id="x", epoch=-1)])),
        {"heartbeat.own.vms[0].vm_id", "heartbeat.own.vms[0].epoch"},
    ),
    (validate_session.inventory, ms.InventoryReport(sequence=1, more=True), {"inventory.more"}),
    (validate_session.inventory, ms.InventoryReport(sequence=1, vms=[vm(), vm()]), {"inventory.vms"}),
    (
        validate_session.inventory,
        ms.InventoryReport(sequence=1, vms=[vm(name="", state=0, domain_xml="x" * 262_145)]),
        {"inventory.vms[0].name", "inventory.vms[0].state", "inventory.vms[0].domain_xml"},
    ),
]


@pytest.mark.parametrize(("check", "message", "fields"), CASES)
def test_every_wrong_field_is_named(check: Callable[[Any], None], message: Any, fields: set[str]) -> None:
    """All at once, and none that is right."""
    with pytest.raises(InvalidField) as caught:
        check(message)

    assert {violation.field for violation in caught.value.violations} == fields
    assert caught.value.reason == "FIELD_INVALID"


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (validate.host_settings, create_host(host_config(roles=["hypervisor"], rack="r1"))),
        (validate.host_settings, create_host(fence(parameters={"ip": "10.1.0.1"}, secret_files={"password": "/etc/vmha/bmc"}))),
        (validate.cluster_settings, create_cluster(cooldown=Duration(), learning=Duration())),
        (validate.group_settings, group(vm_ids=[UUID])),
        (validate.evacuate, ev.EvacuateRequest(cluster_id="c1", host_id="h1", validate_only=True)),
        (validate.evacuate, ev.EvacuateRequest(cluster_id="c1", host_id="h1", request_id=UUID, fence_epoch=1)),
        (validate_session.hello, ms.AgentHello(host_id="h1", boot_id="b", agent_instance_id="a")),
        (validate_session.health_report, ms.HealthReport(sequence=1, observations=[seen(age=Duration(seconds=86_400))])),
        (validate_session.heartbeats, ms.AgentHeartbeat(own=beat())),
        (validate_session.inventory, ms.InventoryReport(sequence=1, full=True, more=True, vms=[vm(domain_xml="x" * 262_144)])),
    ],
)
def test_what_is_right_passes(check: Callable[[Any], None], message: Any) -> None:
    """Up to the very bound."""
    check(message)


def test_pages_walk_to_the_end() -> None:
    """Every item once; the empty token is the only end; sizes are clamped."""
    items = list(range(1201))
    found: list[int] = []
    token, sizes = "", []
    while True:
        page, token = pages.cut(items, 100_000, token)
        found += page
        sizes.append(len(page))
        if not token:
            break

    assert found == items
    assert sizes == [500, 500, 201]
    assert len(pages.cut(items, 0, "")[0]) == 50
    assert pages.cut([], 0, "") == ([], "")


@pytest.mark.parametrize(
    ("size", "token", "fields"),
    [(-1, "", {"page_size"}), (-1, "x", {"page_size", "page_token"}), (0, "bzotMQ==", {"page_token"})],
)
def test_bad_pages_are_refused(size: int, token: str, fields: set[str]) -> None:
    """A token that nobody gave out, a size below 0."""
    with pytest.raises(InvalidField) as caught:
        pages.parse(size, token)

    assert {violation.field for violation in caught.value.violations} == fields


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("host_id", "no_host"),
        ("incarnation", 0),
        ("sequence", 0),
        ("agent_instance_id", "x" * 65),
        ("echoed_nonce", "x" * 129),
        ("config_version", -1),
        ("store_generation", -1),
        ("boot_time", Duration(seconds=-1)),
        ("boot_time", Duration(seconds=101 * 366 * 86_400)),
        ("vms", [heartbeat_pb2.VmEpoch(vm_id="x")]),
        ("vms", [heartbeat_pb2.VmEpoch(vm_id=UUID, epoch=-1)]),
        ("vms", [heartbeat_pb2.VmEpoch(vm_id=UUID)] * (validate_session.MAX_VMS + 1)),
    ],
)
def test_the_quick_look_at_a_heartbeat_overlooks_nothing(field: str, wrong: Any) -> None:
    """Each field alone, in a host's own heartbeat and in one that it carries."""
    bad = beat(**{field: wrong})
    for path, message in (
        (f"heartbeat.own.{field}", ms.AgentHeartbeat(own=bad)),
        (f"heartbeat.forwarded[1].{field}", ms.AgentHeartbeat(own=beat(), forwarded=[beat(), bad])),
    ):
        with pytest.raises(InvalidField) as caught:
            validate_session.heartbeats(message)
        assert all(violation.field.startswith(path) for violation in caught.value.violations)


def test_a_full_heartbeat_is_taken() -> None:
    """Every bound itself is allowed."""
    full = beat(
        agent_instance_id="x" * 64,
        echoed_nonce="x" * 128,
        boot_time=Duration(seconds=3),
        vms=[heartbeat_pb2.VmEpoch(vm_id=UUID, epoch=1)] * validate_session.MAX_VMS,
    )
    validate_session.heartbeats(ms.AgentHeartbeat(own=full, forwarded=[full] * validate_session.MAX_FORWARDED))
