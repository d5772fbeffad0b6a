"""ClusterService's methods on hosts."""

from __future__ import annotations

import uuid

from vmha.manager.explain import explain_host
from vmha.manager.operations import Context, Operations, operator_of, version_of
from vmha.rpc import convert, pages, validate
from vmha.v1 import cluster_service_pb2 as cs
from vmha.v1 import cluster_service_pb2_grpc as cs_grpc


class HostMethods(cs_grpc.ClusterServiceServicer):
    """See the contract for each method."""

    _operations: Operations

    async def GetHost(self, request: cs.GetHostRequest, context: Context) -> cs.GetHostResponse:  # noqa: N802
        """One host."""
        validate.names_host(request)
        await self._operations.store.clusters.get(request.cluster_id)
        record = await self._operations.store.hosts.get(request.cluster_id, request.host_id)
        return cs.GetHostResponse(host=await self._operations.host_message(record))

    async def ListHosts(self, request: cs.ListHostsRequest, context: Context) -> cs.ListHostsResponse:  # noqa: N802
        """The hosts of a cluster, by page."""
        validate.names_cluster(request)
        records = await self._operations.store.hosts.list(request.cluster_id)
        page, token = pages.cut(records, request.page_size, request.page_token)
        hosts = await self._operations.host_messages(request.cluster_id, page)
        return cs.ListHostsResponse(hosts=hosts, next_page_token=token)

    async def CreateHost(self, request: cs.CreateHostRequest, context: Context) -> cs.CreateHostResponse:  # noqa: N802
        """Add a host."""
        validate.host_settings(request)
        cluster_id, host_id, config = request.cluster_id, request.host_id, convert.host_config_from_proto(request.config)
        async with self._operations.act(cluster_id, "CreateHost", f"{cluster_id}/{host_id}", operator_of(context)):
            record = await self._operations.store.hosts.create(cluster_id, host_id, config)
        return cs.CreateHostResponse(host=await self._operations.host_message(record))

    async def UpdateHost(self, request: cs.UpdateHostRequest, context: Context) -> cs.UpdateHostResponse:  # noqa: N802
        """Replace a host's settings."""
        validate.host_settings(request)
        cluster_id, host_id, config = request.cluster_id, request.host_id, convert.host_config_from_proto(request.config)
        async with self._operations.act(cluster_id, "UpdateHost", f"{cluster_id}/{host_id}", operator_of(context)):
            record = await self._operations.store.hosts.update(cluster_id, host_id, config, version_of(request.etag))
        return cs.UpdateHostResponse(host=await self._operations.host_message(record))

    async def DeleteHost(self, request: cs.DeleteHostRequest, context: Context) -> cs.DeleteHostResponse:  # noqa: N802
        """Remove a host."""
        validate.names_host(request)
        subject = f"{request.cluster_id}/{request.host_id}"
        async with self._operations.act(request.cluster_id, "DeleteHost", subject, operator_of(context)):
            await self._operations.store.hosts.delete(request.cluster_id, request.host_id, version_of(request.etag))
        return cs.DeleteHostResponse()

    async def StartHostMaintenance(  # noqa: N802
        self, request: cs.StartHostMaintenanceRequest, context: Context
    ) -> cs.StartHostMaintenanceResponse:
        """Take a host out of service."""
        validate.names_host(request)
        cluster_id, host_id = request.cluster_id, request.host_id
        subject, who = f"{cluster_id}/{host_id}", operator_of(context)
        async with self._operations.act(cluster_id, "StartHostMaintenance", subject, who, request.reason[:1024]):
            version = version_of(request.etag)
            record = await self._operations.store.hosts.set_maintenance(cluster_id, host_id, True, version)
        return cs.StartHostMaintenanceResponse(host=await self._operations.host_message(record))

    async def EndHostMaintenance(  # noqa: N802
        self, request: cs.EndHostMaintenanceRequest, context: Context
    ) -> cs.EndHostMaintenanceResponse:
        """Take it back."""
        validate.names_host(request)
        cluster_id, host_id = request.cluster_id, request.host_id
        async with self._operations.act(cluster_id, "EndHostMaintenance", f"{cluster_id}/{host_id}", operator_of(context)):
            version = version_of(request.etag)
            record = await self._operations.store.hosts.set_maintenance(cluster_id, host_id, False, version)
        return cs.EndHostMaintenanceResponse(host=await self._operations.host_message(record))

    async def StartHostDrain(self, request: cs.StartHostDrainRequest, context: Context) -> cs.StartHostDrainResponse:  # noqa: N802
        """Take a host out of service and move its VMs away (S14)."""
        validate.names_host(request)
        cluster_id, host_id, who = request.cluster_id, request.host_id, operator_of(context)
        comment = "stopping what cannot be migrated" if request.stop_vms else ""
        async with self._operations.act(cluster_id, "StartHostDrain", f"{cluster_id}/{host_id}", who, comment):
            version = version_of(request.etag)
            record = await self._operations.store.hosts.drain(cluster_id, host_id, str(uuid.uuid4()), request.stop_vms, version)
        return cs.StartHostDrainResponse(host=await self._operations.host_message(record))

    async def CancelHostDrain(self, request: cs.CancelHostDrainRequest, context: Context) -> cs.CancelHostDrainResponse:  # noqa: N802
        """End it."""
        validate.names_host(request)
        cluster_id, host_id = request.cluster_id, request.host_id
        async with self._operations.act(cluster_id, "CancelHostDrain", f"{cluster_id}/{host_id}", operator_of(context)):
            record = await self._operations.store.hosts.undrain(cluster_id, host_id, version_of(request.etag))
        return cs.CancelHostDrainResponse(host=await self._operations.host_message(record))

    async def ConfirmHostOff(self, request: cs.ConfirmHostOffRequest, context: Context) -> cs.ConfirmHostOffResponse:  # noqa: N802
        """An operator's word that a host is off (design section 5.3, rung 3)."""
        validate.confirm_host_off(request)
        cluster_id, host_id, who = request.cluster_id, request.host_id, request.operator
        async with self._operations.act(cluster_id, "ConfirmHostOff", f"{cluster_id}/{host_id}", who, request.comment):
            record = await self._operations.confirm_off(cluster_id, host_id, request.fence_epoch, who)
        return cs.ConfirmHostOffResponse(host=await self._operations.host_message(record))

    async def ExplainHost(self, request: cs.ExplainHostRequest, context: Context) -> cs.ExplainHostResponse:  # noqa: N802
        """Why a host is in its state (B5)."""
        validate.names_host(request)
        return cs.ExplainHostResponse(explanation=await explain_host(self._operations, request.cluster_id, request.host_id))
