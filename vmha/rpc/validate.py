"""What a request must look like, one function for each; they look at the message alone, not at the store.

Each raises InvalidField that names every wrong field by its path. Messages of the agent's session are in `validate_session`.
"""

from __future__ import annotations

from typing import Final, Protocol

from vmha.rpc import convert
from vmha.rpc.checks import Checks
from vmha.rpc.scalars import seconds
from vmha.v1 import agent_service_pb2 as agent
from vmha.v1 import cluster_service_pb2 as cluster
from vmha.v1 import evacuation_service_pb2 as evacuation
from vmha.v1 import event_service_pb2 as event
from vmha.v1 import host_pb2, manager_service_pb2

MAX_LIST: Final = 1000
ROLES: Final = frozenset({"hypervisor", "block-storage", "image-library"})


class _NamesCluster(Protocol):
    @property
    def cluster_id(self) -> str: ...


class _NamesHost(_NamesCluster, Protocol):
    @property
    def host_id(self) -> str: ...


class _NamesGroup(_NamesCluster, Protocol):
    @property
    def group_id(self) -> str: ...


def names_cluster(request: _NamesCluster) -> None:
    """Get-, Delete-, Enable-, Disable-, CheckCluster, ListHosts, ListGroups."""
    with Checks() as wrong:
        wrong.identifier("cluster_id", request.cluster_id)


def names_host(request: _NamesHost) -> None:
    """Get-, Delete-, ExplainHost, maintenance, drain, CheckFence, ExplainHostLoss."""
    with Checks() as wrong:
        wrong.identifier("cluster_id", request.cluster_id)
        wrong.identifier("host_id", request.host_id)


def names_group(request: _NamesGroup) -> None:
    """GetGroup, DeleteGroup."""
    with Checks() as wrong:
        wrong.identifier("cluster_id", request.cluster_id)
        wrong.identifier("group_id", request.group_id)


def get_peers(request: manager_service_pb2.GetPeersRequest) -> None:
    """GetPeers."""
    with Checks() as wrong:
        wrong.identifier("host_id", request.host_id)


def cluster_settings(request: cluster.CreateClusterRequest | cluster.UpdateClusterRequest) -> None:
    """CreateCluster, UpdateCluster: the identifier, and settings within bounds."""
    names_cluster(request)
    convert.cluster_config_from_proto(request.config)


def host_settings(request: cluster.CreateHostRequest | cluster.UpdateHostRequest) -> None:
    """CreateHost, UpdateHost."""
    with Checks() as wrong:
        wrong.identifier("cluster_id", request.cluster_id)
        wrong.identifier("host_id", request.host_id)
        _host_config(wrong, request.config)


def _host_config(wrong: Checks, config: host_pb2.HostConfig) -> None:
    wrong.target("config.probe_target", config.probe_target)
    wrong.target("config.agent_target", config.agent_target)
    wrong.text("config.libvirt_uri", config.libvirt_uri, required=True)
    wrong.that(":" in config.libvirt_uri or not config.libvirt_uri, "config.libvirt_uri", "must be a libvirt URI")
    wrong.text("config.rack", config.rack, limit=63)
    wrong.count("config.aggregates", len(config.aggregates), MAX_LIST)
    for number, name in enumerate(config.aggregates):
        wrong.text(f"config.aggregates[{number}]", name, required=True, limit=255)
    for number, role in enumerate(config.roles):
        wrong.that(role in ROLES, f"config.roles[{number}]", f"must be one of {', '.join(sorted(ROLES))}")
    if config.HasField("fence"):
        _fence(wrong, config.fence)


def _fence(wrong: Checks, fence: host_pb2.FenceConfig) -> None:
    wrong.text("config.fence.agent", fence.agent, required=True, limit=255)
    for name in fence.parameters:
        # They reach the fence agent as lines of its standard input: one more line would be one more parameter.
        path = f"config.fence.parameters.{name}"
        wrong.that(name.isidentifier() or name.replace("-", "_").isidentifier(), path, "must be a parameter's name")
        wrong.text(path, fence.parameters[name])
        wrong.that("\n" not in fence.parameters[name], path, "must be one line")
    for name in fence.secret_files:
        path = f"config.fence.secret_files.{name}"
        wrong.that(name.replace("-", "_").isidentifier(), path, "must be a parameter's name")
        wrong.that(fence.secret_files[name].startswith("/"), path, "must be the full path of a file")
        wrong.that(name not in fence.parameters, path, "is in parameters, too")


def confirm_host_off(request: cluster.ConfirmHostOffRequest) -> None:
    """ConfirmHostOff."""
    with Checks() as wrong:
        wrong.identifier("cluster_id", request.cluster_id)
        wrong.identifier("host_id", request.host_id)
        wrong.not_negative("fence_epoch", request.fence_epoch)
        wrong.text("operator", request.operator, required=True, limit=255)
        wrong.text("comment", request.comment)


def list_vms(request: cluster.ListVmsRequest) -> None:
    """ListVms."""
    with Checks() as wrong:
        wrong.identifier("cluster_id", request.cluster_id)
        wrong.identifier("host_id", request.host_id, optional=True)


def explain_vm(request: cluster.ExplainVmRequest | evacuation.ExplainVmPlacementRequest) -> None:
    """ExplainVm, ExplainVmPlacement."""
    with Checks() as wrong:
        wrong.identifier("cluster_id", request.cluster_id)
        wrong.uuid("vm_id", request.vm_id)


def group_settings(request: cluster.CreateGroupRequest | cluster.UpdateGroupRequest) -> None:
    """CreateGroup, UpdateGroup."""
    group = request.group
    with Checks() as wrong:
        wrong.identifier("cluster_id", request.cluster_id)
        wrong.identifier("group.group_id", group.group_id)
        wrong.that(group.policy in cluster.GroupPolicy.values()[1:], "group.policy", "must be AFFINITY or ANTI_AFFINITY")
        wrong.that(group.mode in cluster.GroupMode.values()[1:], "group.mode", "must be SOFT or HARD")
        wrong.count("group.vm_ids", len(group.vm_ids), MAX_LIST)
        wrong.distinct("group.vm_ids", group.vm_ids)
        for number, vm_id in enumerate(group.vm_ids[:MAX_LIST]):
            wrong.uuid(f"group.vm_ids[{number}]", vm_id)


def watch_events(request: event.WatchEventsRequest) -> None:
    """WatchEvents."""
    with Checks() as wrong:
        wrong.identifier("cluster_id", request.cluster_id)
        wrong.that(request.after_revision >= -1, "after_revision", "must be -1, 0 or a revision")


def evacuate(request: evacuation.EvacuateRequest) -> None:
    """Evacuate. A dry run needs neither request_id nor fence_epoch."""
    with Checks() as wrong:
        wrong.identifier("cluster_id", request.cluster_id)
        wrong.identifier("host_id", request.host_id)
        wrong.uuid("request_id", request.request_id, optional=request.validate_only)
        wrong.that(request.validate_only or request.fence_epoch >= 1, "fence_epoch", "is required and counts from 1")
        wrong.not_negative("leader_term", request.leader_term)
        if request.HasField("lease_proof"):
            proof = request.lease_proof
            wrong.that(request.leader_term >= 1, "leader_term", "is required with lease_proof: only a cluster's leader can tell")
            wrong.that(seconds(proof.waited) > 0, "lease_proof.waited", "is required")
            wrong.that(seconds(proof.silent_for) > seconds(proof.waited), "lease_proof.silent_for", "must be longer than waited")
            enough = proof.hosts_in_contact >= proof.evacuation_quorum >= 1
            wrong.that(enough, "lease_proof.hosts_in_contact", "must be at least evacuation_quorum")


def watch_evacuation(request: evacuation.WatchEvacuationRequest) -> None:
    """WatchEvacuation."""
    with Checks() as wrong:
        wrong.identifier("cluster_id", request.cluster_id)
        wrong.uuid("evacuation_id", request.evacuation_id)
        wrong.not_negative("after_sequence", request.after_sequence)


def get_evacuation(request: evacuation.GetEvacuationRequest) -> None:
    """GetEvacuation."""
    with Checks() as wrong:
        wrong.identifier("cluster_id", request.cluster_id)
        wrong.uuid("evacuation_id", request.evacuation_id)


def list_evacuations(request: evacuation.ListEvacuationsRequest) -> None:
    """ListEvacuations."""
    with Checks() as wrong:
        wrong.identifier("cluster_id", request.cluster_id)
        wrong.identifier("host_id", request.host_id, optional=True)


def cancel_evacuation(request: evacuation.CancelEvacuationRequest) -> None:
    """CancelEvacuation."""
    with Checks() as wrong:
        wrong.identifier("cluster_id", request.cluster_id)
        wrong.uuid("evacuation_id", request.evacuation_id)
        wrong.text("reason", request.reason)


def admit_vm(request: agent.AdmitVmRequest) -> None:
    """AdmitVm."""
    with Checks() as wrong:
        wrong.identifier("cluster_id", request.cluster_id)
        wrong.identifier("host_id", request.host_id)
        wrong.positive("incarnation", request.incarnation)
        wrong.uuid("vm_id", request.vm_id)
        wrong.positive("epoch", request.epoch)
        wrong.text("evacuation_id", request.evacuation_id, limit=64)


def relay_heartbeat(request: agent.RelayHeartbeatRequest) -> None:
    """RelayHeartbeat."""
    with Checks() as wrong:
        wrong.identifier("cluster_id", request.cluster_id)
        wrong.identifier("heartbeat.host_id", request.heartbeat.host_id)
        wrong.text("request_nonce", request.request_nonce, required=True, limit=128)
