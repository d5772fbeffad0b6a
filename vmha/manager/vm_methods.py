"""ClusterService's methods on VMs."""

from __future__ import annotations

from vmha.manager.explain import explain_vm
from vmha.manager.operations import Context, Operations
from vmha.messages import vm_to_proto
from vmha.rpc import pages, validate
from vmha.v1 import cluster_service_pb2 as cs
from vmha.v1 import cluster_service_pb2_grpc as cs_grpc


class VmMethods(cs_grpc.ClusterServiceServicer):
    """See the contract for each method."""

    _operations: Operations

    async def ListVms(self, request: cs.ListVmsRequest, context: Context) -> cs.ListVmsResponse:  # noqa: N802
        """The VMs of a cluster or host, by page."""
        validate.list_vms(request)
        await self._operations.store.clusters.get(request.cluster_id)
        records = await self._operations.store.vms.list(request.cluster_id, request.host_id)
        page, token = pages.cut(records, request.page_size, request.page_token)
        return cs.ListVmsResponse(vms=[vm_to_proto(record, request.cluster_id) for record in page], next_page_token=token)

    async def ExplainVm(self, request: cs.ExplainVmRequest, context: Context) -> cs.ExplainVmResponse:  # noqa: N802
        """Why a VM is where it is (B5)."""
        validate.explain_vm(request)
        return cs.ExplainVmResponse(explanation=await explain_vm(self._operations, request.cluster_id, request.vm_id))
