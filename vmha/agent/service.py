"""AgentService: the contract's messages on one side, `vmha.agent.admission` on the other."""

from __future__ import annotations

from typing import Any

import grpc

from vmha.agent.admission import Admission
from vmha.agent.keeper import Keeper
from vmha.agent.relay_desk import RelayDesk
from vmha.rpc import validate, validate_session
from vmha.rpc.scalars import enum_to_proto
from vmha.v1 import agent_service_pb2 as pb
from vmha.v1 import agent_service_pb2_grpc as pb_grpc
from vmha.v1 import manager_service_pb2 as ms
from vmha.v1 import vm_pb2

Context = grpc.aio.ServicerContext
SERVICE_NAME = "vmha.v1.AgentService"


class AgentServicer(pb_grpc.AgentServiceServicer):
    """Answers evacuators and peers."""

    def __init__(self, admission: Admission, relays: RelayDesk, keeper: Keeper) -> None:
        self._admission = admission
        self._relays = relays
        self._keeper = keeper

    async def AdmitVm(  # noqa: N802 - the contract's name
        self, request: pb.AdmitVmRequest, context: Context[Any, Any]
    ) -> pb.AdmitVmResponse:
        """Lets a domain execute."""
        validate.admit_vm(request)
        self._keeper.look()
        state = await self._admission.admit(request)
        return pb.AdmitVmResponse(state=enum_to_proto(vm_pb2.VmState, state))

    async def RelayHeartbeat(  # noqa: N802
        self, request: pb.RelayHeartbeatRequest, context: Context[Any, Any]
    ) -> pb.RelayHeartbeatResponse:
        """Carries a peer's heartbeat, or says for how long this agent has had no ack."""
        validate.relay_heartbeat(request)
        validate_session.heartbeats(ms.AgentHeartbeat(own=request.heartbeat))
        self._keeper.look()
        return await self._relays.relay(request, context.time_remaining())
