"""ClusterService: operators' view of clusters, hosts, groups and VMs. Each method: validate, call, encode."""

from __future__ import annotations

from vmha.errors import PreconditionFailed
from vmha.manager.examination import check_cluster, examine, finding_to_proto
from vmha.manager.group_methods import GroupMethods
from vmha.manager.host_methods import HostMethods
from vmha.manager.operations import Context, Operations, operator_of, version_of
from vmha.manager.vm_methods import VmMethods
from vmha.rpc import convert, pages, validate
from vmha.v1 import cluster_service_pb2 as cs
from vmha.v1 import cluster_service_pb2_grpc as cs_grpc


class ClusterService(HostMethods, GroupMethods, VmMethods, cs_grpc.ClusterServiceServicer):
    """The service; see the contract for each method."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def GetCluster(self, request: cs.GetClusterRequest, context: Context) -> cs.GetClusterResponse:  # noqa: N802
        """One cluster."""
        validate.names_cluster(request)
        return cs.GetClusterResponse(cluster=await self._operations.cluster(request.cluster_id))

    async def ListClusters(self, request: cs.ListClustersRequest, context: Context) -> cs.ListClustersResponse:  # noqa: N802
        """All clusters, by page."""
        ids = await self._operations.store.clusters.list_ids()
        page, token = pages.cut(ids, request.page_size, request.page_token)
        clusters = [await self._operations.cluster(cluster_id) for cluster_id in page]
        return cs.ListClustersResponse(clusters=clusters, next_page_token=token)

    async def CreateCluster(self, request: cs.CreateClusterRequest, context: Context) -> cs.CreateClusterResponse:  # noqa: N802
        """S9: protection is switched on in a second step."""
        validate.cluster_settings(request)
        cluster_id = request.cluster_id
        async with self._operations.act(cluster_id, "CreateCluster", cluster_id, operator_of(context)):
            if request.enable_ha:
                raise PreconditionFailed(
                    "HA_AT_CREATION", "VM HA cannot be enabled while a cluster is being created; enable it when it has hosts."
                )
            await self._operations.store.clusters.create(cluster_id, convert.cluster_config_from_proto(request.config))
        return cs.CreateClusterResponse(cluster=await self._operations.cluster(cluster_id))

    async def UpdateCluster(self, request: cs.UpdateClusterRequest, context: Context) -> cs.UpdateClusterResponse:  # noqa: N802
        """Replace a cluster's settings."""
        validate.cluster_settings(request)
        cluster_id, config = request.cluster_id, convert.cluster_config_from_proto(request.config)
        async with self._operations.act(cluster_id, "UpdateCluster", cluster_id, operator_of(context)):
            await self._operations.store.clusters.update(cluster_id, config, version_of(request.etag))
        return cs.UpdateClusterResponse(cluster=await self._operations.cluster(cluster_id))

    async def DeleteCluster(self, request: cs.DeleteClusterRequest, context: Context) -> cs.DeleteClusterResponse:  # noqa: N802
        """Delete a cluster."""
        validate.names_cluster(request)
        async with self._operations.act(request.cluster_id, "DeleteCluster", request.cluster_id, operator_of(context)):
            await self._operations.store.clusters.delete(request.cluster_id, version_of(request.etag))
        return cs.DeleteClusterResponse()

    async def EnableCluster(self, request: cs.EnableClusterRequest, context: Context) -> cs.EnableClusterResponse:  # noqa: N802
        """S10, S11, S13, S26: refused with every prerequisite that refuses; the others come as warnings."""
        validate.names_cluster(request)
        cluster_id = request.cluster_id
        async with self._operations.act(cluster_id, "EnableCluster", cluster_id, operator_of(context)):
            seen = await examine(self._operations, cluster_id)
            if not seen.snapshot.cluster.ha_enabled:
                seen.require()
            await self._operations.store.clusters.set_ha(cluster_id, True, version_of(request.etag))
        warnings = [finding_to_proto(finding) for finding in seen.told]
        return cs.EnableClusterResponse(cluster=await self._operations.cluster(cluster_id), warnings=warnings)

    async def CheckCluster(self, request: cs.CheckClusterRequest, context: Context) -> cs.CheckClusterResponse:  # noqa: N802
        """Every prerequisite, and what only the running system knows."""
        validate.names_cluster(request)
        return await check_cluster(self._operations, request.cluster_id)

    async def DisableCluster(self, request: cs.DisableClusterRequest, context: Context) -> cs.DisableClusterResponse:  # noqa: N802
        """Switch protection off."""
        validate.names_cluster(request)
        cluster_id = request.cluster_id
        async with self._operations.act(cluster_id, "DisableCluster", cluster_id, operator_of(context)):
            await self._operations.store.clusters.set_ha(cluster_id, False, version_of(request.etag))
        return cs.DisableClusterResponse(cluster=await self._operations.cluster(cluster_id))
