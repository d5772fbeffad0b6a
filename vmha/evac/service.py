"""EvacuationService: the contract's messages on one side, `vmha.evac.orders` on the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from vmha.clock import Clock
from vmha.evac.explaining import Explaining
from vmha.evac.fence_check import FenceAnswer, FenceCheck
from vmha.evac.orders import Orders
from vmha.evac.outlook_messages import host_loss, vm_placement
from vmha.messages import evacuation_event, evacuation_to_proto, vm_entry_to_proto
from vmha.rpc import pages, validate
from vmha.rpc.scalars import duration, enum_to_proto, seconds
from vmha.store import Store
from vmha.v1 import evacuation_service_pb2 as pb
from vmha.v1 import evacuation_service_pb2_grpc as pb_grpc

Context = grpc.aio.ServicerContext
SERVICE_NAME = "vmha.v1.EvacuationService"


class EvacuationServicer(pb_grpc.EvacuationServiceServicer):
    """Answers managers and operators."""

    def __init__(self, store: Store, orders: Orders, fences: FenceCheck, explaining: Explaining, clock: Clock) -> None:
        self._store, self._orders, self._fences, self._explaining, self._clock = store, orders, fences, explaining, clock

    async def Evacuate(  # noqa: N802 - the contract's name
        self, request: pb.EvacuateRequest, context: Context[Any, Any]
    ) -> AsyncIterator[pb.EvacuateResponse]:
        """Starts or joins, then streams; the first message is where it stands."""
        validate.evacuate(request)
        if request.validate_only:
            async for event in self._preview(request):
                yield pb.EvacuateResponse(event=event)
            return
        lease = _in_words(request.lease_proof) if request.HasField("lease_proof") else ""
        failure = request.cluster_id, request.host_id, request.request_id, request.fence_epoch
        record = await self._orders.start(*failure, request.leader_term, lease)
        async for step in self._orders.follow(record.cluster_id, record.evacuation_id, max(0, record.sequence - 1)):
            yield pb.EvacuateResponse(event=evacuation_event(*step))

    async def _preview(self, request: pb.EvacuateRequest) -> AsyncIterator[pb.EvacuationEvent]:
        record, entries = await self._explaining.preview(request.cluster_id, request.host_id)
        for sequence, entry in enumerate(entries, 1):
            yield evacuation_event(sequence, self._clock.wall(), record, entry)

    async def WatchEvacuation(  # noqa: N802
        self, request: pb.WatchEvacuationRequest, context: Context[Any, Any]
    ) -> AsyncIterator[pb.WatchEvacuationResponse]:
        """Streams from after_sequence on."""
        validate.watch_evacuation(request)
        async for step in self._orders.follow(request.cluster_id, request.evacuation_id, request.after_sequence):
            yield pb.WatchEvacuationResponse(event=evacuation_event(*step))

    async def GetEvacuation(  # noqa: N802
        self, request: pb.GetEvacuationRequest, context: Context[Any, Any]
    ) -> pb.GetEvacuationResponse:
        """One evacuation with its VMs."""
        validate.get_evacuation(request)
        record = await self._store.evacuations.get(request.cluster_id, request.evacuation_id)
        entries = await self._store.evacuations.entries(request.cluster_id, request.evacuation_id)
        return pb.GetEvacuationResponse(
            evacuation=evacuation_to_proto(record), vms=[vm_entry_to_proto(entry) for entry in entries]
        )

    async def ListEvacuations(  # noqa: N802
        self, request: pb.ListEvacuationsRequest, context: Context[Any, Any]
    ) -> pb.ListEvacuationsResponse:
        """A page, the newest first."""
        validate.list_evacuations(request)
        offset, limit = pages.parse(request.page_size, request.page_token)
        await self._store.clusters.get(request.cluster_id)
        found = await self._store.evacuations.list(request.cluster_id, request.host_id, offset=offset, limit=limit + 1)
        page = [evacuation_to_proto(record) for record in found[:limit]]
        token = pages.next_token(offset, len(page), more=len(found) > limit)
        return pb.ListEvacuationsResponse(evacuations=page, next_page_token=token)

    async def CancelEvacuation(  # noqa: N802
        self, request: pb.CancelEvacuationRequest, context: Context[Any, Any]
    ) -> pb.CancelEvacuationResponse:
        """Asks for its end."""
        validate.cancel_evacuation(request)
        record = await self._orders.cancel(request.cluster_id, request.evacuation_id, request.reason)
        return pb.CancelEvacuationResponse(evacuation=evacuation_to_proto(record))

    async def CheckFence(  # noqa: N802
        self, request: pb.CheckFenceRequest, context: Context[Any, Any]
    ) -> pb.CheckFenceResponse:
        """Asks a fence device for its status."""
        validate.names_host(request)
        return _fence_answer(await self._fences.check(request.cluster_id, request.host_id))

    async def ExplainVmPlacement(  # noqa: N802
        self, request: pb.ExplainVmPlacementRequest, context: Context[Any, Any]
    ) -> pb.ExplainVmPlacementResponse:
        """Where a VM could go now, and why not elsewhere."""
        validate.explain_vm(request)
        outlook = await self._explaining.vm(request.cluster_id, request.vm_id)
        return pb.ExplainVmPlacementResponse(placement=vm_placement(outlook))

    async def ExplainHostLoss(  # noqa: N802
        self, request: pb.ExplainHostLossRequest, context: Context[Any, Any]
    ) -> pb.ExplainHostLossResponse:
        """What would become of a host's VMs."""
        validate.names_host(request)
        return pb.ExplainHostLossResponse(loss=host_loss(await self._explaining.host(request.cluster_id, request.host_id)))


def _fence_answer(answer: FenceAnswer) -> pb.CheckFenceResponse:
    return pb.CheckFenceResponse(
        power=enum_to_proto(pb.FencePower, answer.power) if answer.power else pb.FENCE_POWER_UNSPECIFIED,
        reason=answer.reason or "",
        message=answer.message,
        agent=answer.agent,
        duration=duration(answer.took_s),
    )


def _in_words(proof: pb.LeaseProof) -> str:
    return (
        f"silent for {seconds(proof.silent_for):.1f} s, its leases end within {seconds(proof.waited):g} s;"
        f" {proof.hosts_in_contact} voters in contact for {seconds(proof.in_contact_for):.1f} s,"
        f" it takes {proof.evacuation_quorum}"
    )
