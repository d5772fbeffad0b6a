"""ClusterService's methods on groups."""

from __future__ import annotations

from vmha.manager.operations import Context, Operations, operator_of
from vmha.rpc import convert, pages, validate
from vmha.v1 import cluster_service_pb2 as cs
from vmha.v1 import cluster_service_pb2_grpc as cs_grpc


class GroupMethods(cs_grpc.ClusterServiceServicer):
    """See the contract for each method."""

    _operations: Operations

    async def GetGroup(self, request: cs.GetGroupRequest, context: Context) -> cs.GetGroupResponse:  # noqa: N802
        """One group."""
        validate.names_group(request)
        await self._operations.store.clusters.get(request.cluster_id)
        group = await self._operations.store.groups.get(request.cluster_id, request.group_id)
        return cs.GetGroupResponse(group=convert.group_to_proto(group))

    async def ListGroups(self, request: cs.ListGroupsRequest, context: Context) -> cs.ListGroupsResponse:  # noqa: N802
        """The groups of a cluster, by page."""
        validate.names_cluster(request)
        await self._operations.store.clusters.get(request.cluster_id)
        groups = await self._operations.store.groups.list(request.cluster_id)
        page, token = pages.cut(groups, request.page_size, request.page_token)
        return cs.ListGroupsResponse(groups=[convert.group_to_proto(group) for group in page], next_page_token=token)

    async def CreateGroup(self, request: cs.CreateGroupRequest, context: Context) -> cs.CreateGroupResponse:  # noqa: N802
        """Make a group."""
        validate.group_settings(request)
        subject = f"{request.cluster_id}/{request.group.group_id}"
        async with self._operations.act(request.cluster_id, "CreateGroup", subject, operator_of(context)):
            group = await self._operations.store.groups.create(request.cluster_id, convert.group_from_proto(request.group))
        return cs.CreateGroupResponse(group=convert.group_to_proto(group))

    async def UpdateGroup(self, request: cs.UpdateGroupRequest, context: Context) -> cs.UpdateGroupResponse:  # noqa: N802
        """Replace a group."""
        validate.group_settings(request)
        cluster_id, wanted = request.cluster_id, convert.group_from_proto(request.group)
        async with self._operations.act(cluster_id, "UpdateGroup", f"{cluster_id}/{wanted.group_id}", operator_of(context)):
            group = await self._operations.store.groups.update(cluster_id, wanted, request.group.etag or None)
        return cs.UpdateGroupResponse(group=convert.group_to_proto(group))

    async def DeleteGroup(self, request: cs.DeleteGroupRequest, context: Context) -> cs.DeleteGroupResponse:  # noqa: N802
        """Delete a group."""
        validate.names_group(request)
        subject = f"{request.cluster_id}/{request.group_id}"
        async with self._operations.act(request.cluster_id, "DeleteGroup", subject, operator_of(context)):
            await self._operations.store.groups.delete(request.cluster_id, request.group_id, request.etag or None)
        return cs.DeleteGroupResponse()
