"""A small management plane of the real contract, in memory: what the command line is tested against."""
# ruff: noqa: N802 - grpc names methods as the contract does

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from vmha.errors import Aborted, AlreadyExists, BrokenRule, EnablementRefused, NotFound, PreconditionFailed, Unavailable
from vmha.rpc import pages, validate
from vmha.rpc.server import Server
from vmha.v1 import (
    cluster_pb2,
    cluster_service_pb2_grpc,
    evacuation_service_pb2_grpc,
    event_service_pb2_grpc,
    host_pb2,
    vm_pb2,
)
from vmha.v1 import cluster_service_pb2 as cs
from vmha.v1 import evacuation_service_pb2 as ev
from vmha.v1 import event_service_pb2 as es

SMALL_PAGE = 2
VM = "11111111-2222-3333-4444-55555555555"
EVACUATION = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
T0 = 1_800_000_000
Context = Any

_ClusterBase: Any = cluster_service_pb2_grpc.ClusterServiceServicer
_EventBase: Any = event_service_pb2_grpc.EventServiceServicer
_EvacuationBase: Any = evacuation_service_pb2_grpc.EvacuationServiceServicer


class Plane(_ClusterBase, _EventBase, _EvacuationBase):  # type: ignore[misc]
    """Clusters, events and evacuations. `calls` are the mutations that it was asked for, in order."""

    def __init__(self) -> None:
        self.clusters: dict[str, cluster_pb2.Cluster] = {}
        self.hosts: dict[str, host_pb2.Host] = {}
        self.groups: dict[str, cs.Group] = {}
        self.vms: list[vm_pb2.Vm] = []
        self.events: list[es.Event] = []
        self.evacuations: list[ev.Evacuation] = []
        self.evacuation_events: list[ev.EvacuationEvent] = []
        self.calls: list[str] = []
        self.refuse_enable = False
        self.findings: list[cs.Finding] = []
        self.clocks: list[cs.HostClock] = []
        self.fences: dict[str, ev.CheckFenceResponse] = {}
        self.placements: dict[str, ev.VmPlacement] = {}
        self.losses: dict[str, ev.HostLoss] = {}
        self.leader: str | None = None
        self.store_away = False
        self.hang = False
        self.cut_watch_after = 0

    # ClusterService

    async def ListClusters(self, request: cs.ListClustersRequest, context: Context) -> cs.ListClustersResponse:
        await self._before()
        page, token = pages.cut(list(self.clusters.values()), SMALL_PAGE, request.page_token)
        return cs.ListClustersResponse(clusters=page, next_page_token=token)

    async def GetCluster(self, request: cs.GetClusterRequest, context: Context) -> cs.GetClusterResponse:
        await self._before()
        return cs.GetClusterResponse(cluster=self._cluster(request.cluster_id))

    async def CreateCluster(self, request: cs.CreateClusterRequest, context: Context) -> cs.CreateClusterResponse:
        validate.cluster_settings(request)
        assert not request.enable_ha
        self.calls.append(f"CreateCluster {request.cluster_id}")
        state = cluster_pb2.PROTECTION_STATE_DISABLED
        cluster = cluster_pb2.Cluster(cluster_id=request.cluster_id, config=request.config, protection_state=state, etag='"1"')
        self.clusters[request.cluster_id] = cluster
        return cs.CreateClusterResponse(cluster=cluster)

    async def UpdateCluster(self, request: cs.UpdateClusterRequest, context: Context) -> cs.UpdateClusterResponse:
        validate.cluster_settings(request)
        self.calls.append(f"UpdateCluster {request.cluster_id} {request.etag}")
        self._cluster(request.cluster_id).config.CopyFrom(request.config)
        return cs.UpdateClusterResponse(cluster=self._cluster(request.cluster_id))

    async def EnableCluster(self, request: cs.EnableClusterRequest, context: Context) -> cs.EnableClusterResponse:
        if self.refuse_enable:
            raise EnablementRefused(
                [
                    BrokenRule("MIN_HOSTS", "clusters/c1", "At least two hosts are required to enable VM HA."),
                    BrokenRule("AGGREGATES", "clusters/c1", "VM HA cannot be enabled because of aggregates."),
                ]
            )
        self.calls.append(f"EnableCluster {request.cluster_id}")
        self._cluster(request.cluster_id).protection_state = cluster_pb2.PROTECTION_STATE_ACTIVE
        return cs.EnableClusterResponse(cluster=self._cluster(request.cluster_id), warnings=self.findings)

    async def CheckCluster(self, request: cs.CheckClusterRequest, context: Context) -> cs.CheckClusterResponse:
        await self._before()
        fine = cs.PassedCheck(type="MIN_HOSTS", description="there are two hypervisor hosts")
        return cs.CheckClusterResponse(
            cluster=self._cluster(request.cluster_id),
            findings=self.findings,
            passed=[fine],
            clocks=self.clocks,
            manager_version="0.1.0",
            unknown_types=["VTPM_STATE", "CPU_INCOMPATIBLE"],
        )

    async def DisableCluster(self, request: cs.DisableClusterRequest, context: Context) -> cs.DisableClusterResponse:
        self.calls.append(f"DisableCluster {request.cluster_id}")
        self._cluster(request.cluster_id).protection_state = cluster_pb2.PROTECTION_STATE_DISABLED
        return cs.DisableClusterResponse(cluster=self._cluster(request.cluster_id))

    async def ListHosts(self, request: cs.ListHostsRequest, context: Context) -> cs.ListHostsResponse:
        self._cluster(request.cluster_id)
        page, token = pages.cut(list(self.hosts.values()), SMALL_PAGE, request.page_token)
        return cs.ListHostsResponse(hosts=page, next_page_token=token)

    async def GetHost(self, request: cs.GetHostRequest, context: Context) -> cs.GetHostResponse:
        return cs.GetHostResponse(host=self._host(request.host_id))

    async def CreateHost(self, request: cs.CreateHostRequest, context: Context) -> cs.CreateHostResponse:
        validate.host_settings(request)
        if request.host_id in self.hosts:
            raise AlreadyExists("HOST_EXISTS", f"{request.host_id} exists")
        self.calls.append(f"CreateHost {request.host_id}")
        host = host_pb2.Host(host_id=request.host_id, cluster_id=request.cluster_id, config=request.config, etag='"1"')
        host.state = host_pb2.HOST_STATE_UNKNOWN
        self.hosts[request.host_id] = host
        return cs.CreateHostResponse(host=self.hosts[request.host_id])

    async def UpdateHost(self, request: cs.UpdateHostRequest, context: Context) -> cs.UpdateHostResponse:
        validate.host_settings(request)
        self.calls.append(f"UpdateHost {request.host_id} {request.etag}")
        self._host(request.host_id).config.CopyFrom(request.config)
        return cs.UpdateHostResponse(host=self._host(request.host_id))

    async def StartHostMaintenance(self, request: cs.StartHostMaintenanceRequest, context: Context) -> Any:
        self.calls.append(f"StartHostMaintenance {request.host_id} {request.reason}")
        self._host(request.host_id).in_maintenance = True
        return cs.StartHostMaintenanceResponse(host=self._host(request.host_id))

    async def EndHostMaintenance(self, request: cs.EndHostMaintenanceRequest, context: Context) -> Any:
        self.calls.append(f"EndHostMaintenance {request.host_id}")
        self._host(request.host_id).in_maintenance = False
        return cs.EndHostMaintenanceResponse(host=self._host(request.host_id))

    async def StartHostDrain(self, request: cs.StartHostDrainRequest, context: Context) -> cs.StartHostDrainResponse:
        self.calls.append(f"StartHostDrain {request.host_id} {request.stop_vms}")
        host = self._host(request.host_id)
        host.in_maintenance, host.drain_id = True, EVACUATION
        return cs.StartHostDrainResponse(host=host)

    async def CancelHostDrain(self, request: cs.CancelHostDrainRequest, context: Context) -> cs.CancelHostDrainResponse:
        self.calls.append(f"CancelHostDrain {request.host_id}")
        self._host(request.host_id).in_maintenance = False
        return cs.CancelHostDrainResponse(host=self._host(request.host_id))

    async def ConfirmHostOff(self, request: cs.ConfirmHostOffRequest, context: Context) -> cs.ConfirmHostOffResponse:
        validate.confirm_host_off(request)
        host = self._host(request.host_id)
        if host.agent_connected:
            raise PreconditionFailed("HOST_ALIVE", f"{host.host_id} sent a heartbeat 0.3 s ago")
        if host.fence_epoch != request.fence_epoch:
            raise Aborted("STALE_FENCE_EPOCH", f"the fence epoch is {host.fence_epoch}")
        self.calls.append(f"ConfirmHostOff {host.host_id} {request.fence_epoch} {request.operator}")
        return cs.ConfirmHostOffResponse(host=host)

    async def ExplainHost(self, request: cs.ExplainHostRequest, context: Context) -> cs.ExplainHostResponse:
        if self.leader is not None:
            raise PreconditionFailed("NOT_LEADER", "This replica does not lead cluster c1.", {"leader": self.leader})
        explanation = cs.HostExplanation(host=self._host(request.host_id), summary="its stream is fresh", quorum=2)
        vote = explanation.votes.add(reporter_host_id="h2", credible=False, discredit_reason="VOTE_STALE")
        vote.observation.host_id, vote.observation.verdict = request.host_id, host_pb2.PEER_VERDICT_TIMEOUT
        explanation.history.append("10:00 HEALTHY")
        return cs.ExplainHostResponse(explanation=explanation)

    async def ListVms(self, request: cs.ListVmsRequest, context: Context) -> cs.ListVmsResponse:
        found = [vm for vm in self.vms if request.host_id in ("", vm.owner_host_id)]
        page, token = pages.cut(found, SMALL_PAGE, request.page_token)
        return cs.ListVmsResponse(vms=page, next_page_token=token)

    async def ExplainVm(self, request: cs.ExplainVmRequest, context: Context) -> cs.ExplainVmResponse:
        for vm in self.vms:
            if vm.vm_id == request.vm_id:
                return cs.ExplainVmResponse(explanation=cs.VmExplanation(vm=vm, summary="it runs where it belongs"))
        raise NotFound("VM_UNKNOWN", f"no VM {request.vm_id}")

    async def ListGroups(self, request: cs.ListGroupsRequest, context: Context) -> cs.ListGroupsResponse:
        page, token = pages.cut(list(self.groups.values()), SMALL_PAGE, request.page_token)
        return cs.ListGroupsResponse(groups=page, next_page_token=token)

    async def CreateGroup(self, request: cs.CreateGroupRequest, context: Context) -> cs.CreateGroupResponse:
        validate.group_settings(request)
        self.calls.append(f"CreateGroup {request.group.group_id}")
        self.groups[request.group.group_id] = request.group
        return cs.CreateGroupResponse(group=request.group)

    async def UpdateGroup(self, request: cs.UpdateGroupRequest, context: Context) -> cs.UpdateGroupResponse:
        self.calls.append(f"UpdateGroup {request.group.group_id}")
        self.groups[request.group.group_id] = request.group
        return cs.UpdateGroupResponse(group=request.group)

    # EventService

    async def WatchEvents(self, request: es.WatchEventsRequest, context: Context) -> AsyncIterator[es.WatchEventsResponse]:
        self._cluster(request.cluster_id)
        after = len(self.events) if request.after_revision == -1 else request.after_revision
        yield es.WatchEventsResponse(revision=after, bookmark=es.Bookmark())
        revision = after
        while True:
            for event in self.events[revision:]:
                revision += 1
                yield es.WatchEventsResponse(revision=revision, event=event)
            await asyncio.sleep(0.02)

    # EvacuationService

    async def ListEvacuations(self, request: ev.ListEvacuationsRequest, context: Context) -> ev.ListEvacuationsResponse:
        page, token = pages.cut(self.evacuations, SMALL_PAGE, request.page_token)
        return ev.ListEvacuationsResponse(evacuations=page, next_page_token=token)

    async def GetEvacuation(self, request: ev.GetEvacuationRequest, context: Context) -> ev.GetEvacuationResponse:
        vms = {event.vm.vm_id: event.vm for event in self.evacuation_events if event.HasField("vm")}
        return ev.GetEvacuationResponse(evacuation=self._evacuation(request.evacuation_id), vms=list(vms.values()))

    async def WatchEvacuation(self, request: ev.WatchEvacuationRequest, context: Context) -> AsyncIterator[Any]:
        self._evacuation(request.evacuation_id)
        for event in self.evacuation_events[request.after_sequence :]:
            if self.cut_watch_after and event.sequence > self.cut_watch_after:
                self.cut_watch_after = 0
                raise Unavailable("DRAINING", "this replica is going away")
            yield ev.WatchEvacuationResponse(event=event)

    async def Evacuate(self, request: ev.EvacuateRequest, context: Context) -> AsyncIterator[ev.EvacuateResponse]:
        validate.evacuate(request)
        assert request.validate_only
        self._host(request.host_id)
        for event in self.evacuation_events:
            if event.HasField("vm") and event.vm.step == ev.VM_STEP_PLANNED:
                yield ev.EvacuateResponse(event=event)

    async def CancelEvacuation(self, request: ev.CancelEvacuationRequest, context: Context) -> ev.CancelEvacuationResponse:
        self.calls.append(f"CancelEvacuation {request.evacuation_id} {request.reason}")
        evacuation = self._evacuation(request.evacuation_id)
        evacuation.state = ev.EVACUATION_STATE_CANCELLED
        return ev.CancelEvacuationResponse(evacuation=evacuation)

    async def CheckFence(self, request: ev.CheckFenceRequest, context: Context) -> ev.CheckFenceResponse:
        if request.host_id not in self.fences:
            raise Unavailable("STORE_UNAVAILABLE", "Redis does not answer")
        return self.fences[request.host_id]

    async def ExplainVmPlacement(self, request: ev.ExplainVmPlacementRequest, context: Context) -> Any:
        validate.explain_vm(request)
        if request.vm_id not in self.placements:
            raise Unavailable("STORE_UNAVAILABLE", "Redis does not answer")
        return ev.ExplainVmPlacementResponse(placement=self.placements[request.vm_id])

    async def ExplainHostLoss(self, request: ev.ExplainHostLossRequest, context: Context) -> ev.ExplainHostLossResponse:
        validate.names_host(request)
        if request.host_id not in self.losses:
            raise Unavailable("STORE_UNAVAILABLE", "Redis does not answer")
        return ev.ExplainHostLossResponse(loss=self.losses[request.host_id])

    # What the tests set up

    def settle(self) -> None:
        """One protected cluster with three hosts and three VMs."""
        self.clusters["c1"] = cluster_pb2.Cluster(
            cluster_id="c1", protection_state=cluster_pb2.PROTECTION_STATE_ACTIVE, host_count=3
        )
        for number in (1, 2, 3):
            self.hosts[f"h{number}"] = host_pb2.Host(
                host_id=f"h{number}", cluster_id="c1", state=host_pb2.HOST_STATE_HEALTHY, agent_connected=True, fence_epoch=7
            )
            self.vms.append(
                vm_pb2.Vm(
                    vm_id=f"{VM}{number}",
                    name=f"web-{number}",
                    cluster_id="c1",
                    owner_host_id=f"h{number}",
                    state=vm_pb2.VM_STATE_RUNNING,
                    desired_state=vm_pb2.VM_STATE_RUNNING,
                    facts=vm_pb2.VmFacts(ha_enabled=True),
                )
            )

    def evacuated(self, last: ev.EvacuationState, failed: int = 0) -> None:
        """An evacuation of h1 with its history."""
        evacuation = ev.Evacuation(
            evacuation_id=EVACUATION, cluster_id="c1", host_id="h1", state=last, total_count=2, moved_count=2 - failed,
            failed_count=failed, proof=ev.PROOF_KIND_FENCE, start_time=Timestamp(seconds=T0),
        )  # fmt: skip
        self.evacuations.append(evacuation)
        running = ev.Evacuation(evacuation_id=EVACUATION, cluster_id="c1", host_id="h1", state=ev.EVACUATION_STATE_RUNNING)
        outcomes = [ev.VM_OUTCOME_MOVED, ev.VM_OUTCOME_FAILED if failed else ev.VM_OUTCOME_MOVED]
        for number, outcome in enumerate(outcomes, 1):
            for step in (ev.VM_STEP_PLANNED, ev.VM_STEP_SETTLED):
                vm = ev.VmEvacuation(vm_id=f"{VM}{number}", vm_name=f"web-{number}", target_host_id="h2", step=step)
                if step == ev.VM_STEP_SETTLED:
                    vm.outcome = outcome
                self._append(running, vm)
        self._append(evacuation, None)

    def _append(self, evacuation: ev.Evacuation, vm: ev.VmEvacuation | None) -> None:
        sequence = len(self.evacuation_events) + 1
        moment = Timestamp(seconds=T0 + sequence)
        event = ev.EvacuationEvent(sequence=sequence, event_time=moment, evacuation=evacuation, vm=vm)
        self.evacuation_events.append(event)

    async def _before(self) -> None:
        if self.store_away:
            raise Unavailable("STORE_UNAVAILABLE", "Redis does not answer")
        if self.hang:
            await asyncio.sleep(30)

    def _cluster(self, cluster_id: str) -> cluster_pb2.Cluster:
        if cluster_id not in self.clusters:
            raise NotFound("CLUSTER_UNKNOWN", f"no cluster {cluster_id}", {"cluster_id": cluster_id})
        return self.clusters[cluster_id]

    def _host(self, host_id: str) -> host_pb2.Host:
        if host_id not in self.hosts:
            raise NotFound("HOST_UNKNOWN", f"no host {host_id}", {"host_id": host_id})
        return self.hosts[host_id]

    def _evacuation(self, evacuation_id: str) -> ev.Evacuation:
        for evacuation in self.evacuations:
            if evacuation.evacuation_id == evacuation_id:
                return evacuation
        raise NotFound("EVACUATION_UNKNOWN", f"no evacuation {evacuation_id}")


def serve(plane: Plane) -> Server:
    """A server of all that the command line talks to."""
    return Server(
        [
            (cluster_service_pb2_grpc.add_ClusterServiceServicer_to_server, plane, "vmha.v1.ClusterService"),
            (event_service_pb2_grpc.add_EventServiceServicer_to_server, plane, "vmha.v1.EventService"),
            (evacuation_service_pb2_grpc.add_EvacuationServiceServicer_to_server, plane, "vmha.v1.EvacuationService"),
        ],
        "127.0.0.1:0",
    )
