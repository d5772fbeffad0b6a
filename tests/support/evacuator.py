"""An evacuator that does what a test says, behind real gRPC."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from vmha.errors import NotFound
from vmha.model import EvacuationState, ProofKind
from vmha.rpc.scalars import enum_to_proto
from vmha.rpc.server import Server
from vmha.v1 import evacuation_service_pb2 as ev
from vmha.v1 import evacuation_service_pb2_grpc as ev_grpc


class ScriptedEvacuator(ev_grpc.EvacuationServiceServicer):
    """Keeps the orders that it got; every evacuation stands where `advance` put it last."""

    def __init__(self) -> None:
        self.orders: list[ev.EvacuateRequest] = []
        self.cancels: list[ev.CancelEvacuationRequest] = []
        self._evacuations: dict[str, ev.Evacuation] = {}
        self._news = asyncio.Condition()
        self._server: Server | None = None
        self.target = ""

    async def start(self, listen: str = "127.0.0.1:0") -> None:
        add = ev_grpc.add_EvacuationServiceServicer_to_server
        self._server = Server([(add, self, "vmha.v1.EvacuationService")], listen)
        self.target = f"127.0.0.1:{await self._server.start()}"

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    async def ordered(self, count: int = 1) -> ev.EvacuateRequest:
        """The count-th order."""
        async with asyncio.timeout(10), self._news:
            await self._news.wait_for(lambda: len(self.orders) >= count)
        return self.orders[count - 1]

    async def cancelled(self) -> ev.CancelEvacuationRequest:
        async with asyncio.timeout(10), self._news:
            await self._news.wait_for(lambda: bool(self.cancels))
        return self.cancels[0]

    async def advance(self, evacuation_id: str, state: EvacuationState, proof: ProofKind = ProofKind.UNPROVEN) -> None:
        async with self._news:
            evacuation = self._evacuations[evacuation_id]
            evacuation.state = enum_to_proto(ev.EvacuationState, state)
            evacuation.proof = enum_to_proto(ev.ProofKind, proof)
            self._news.notify_all()

    async def Evacuate(self, request: ev.EvacuateRequest, context: Any) -> Any:  # noqa: N802
        async with self._news:
            self.orders.append(request)
            self._evacuations.setdefault(
                request.request_id,
                ev.Evacuation(
                    evacuation_id=request.request_id,
                    cluster_id=request.cluster_id,
                    host_id=request.host_id,
                    state=enum_to_proto(ev.EvacuationState, EvacuationState.VERIFYING),
                    fence_epoch=request.fence_epoch,
                ),
            )
            self._news.notify_all()
        sequence, last = 0, None
        while True:
            evacuation = self._evacuations[request.request_id]
            if evacuation.state != last:
                last, sequence = evacuation.state, sequence + 1
                shown = ev.Evacuation()
                shown.CopyFrom(evacuation)
                yield ev.EvacuateResponse(event=ev.EvacuationEvent(sequence=sequence, evacuation=shown))
                if last >= ev.EvacuationState.EVACUATION_STATE_SUCCEEDED:
                    return
            async with self._news:
                await self._news.wait_for(lambda: self._evacuations[request.request_id].state != last)  # noqa: B023

    async def CancelEvacuation(  # noqa: N802
        self, request: ev.CancelEvacuationRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> ev.CancelEvacuationResponse:
        async with self._news:
            self.cancels.append(request)
            self._news.notify_all()
        if request.evacuation_id not in self._evacuations:
            raise NotFound("EVACUATION_UNKNOWN", "There is no such evacuation.")
        evacuation = self._evacuations[request.evacuation_id]
        if evacuation.state in {1, 2}:
            await self.advance(request.evacuation_id, EvacuationState.CANCELLED)
        return ev.CancelEvacuationResponse(evacuation=evacuation)

    async def GetEvacuation(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise NotImplementedError

    async def ListEvacuations(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise NotImplementedError

    def WatchEvacuation(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise NotImplementedError

    async def CheckFence(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise NotImplementedError

    async def ExplainVmPlacement(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise NotImplementedError

    async def ExplainHostLoss(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise NotImplementedError
