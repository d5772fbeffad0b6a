"""The floor of bench.manager: a bare grpc.aio server that answers the same messages with as many bytes, and decides nothing."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from typing import Any

from vmha.rpc.scalars import duration
from vmha.rpc.server import Server
from vmha.v1 import heartbeat_pb2
from vmha.v1 import manager_service_pb2 as ms
from vmha.v1 import manager_service_pb2_grpc as ms_grpc

LEASE_S = 100.0


class Echo(ms_grpc.ManagerServiceServicer):
    """Welcomes everybody, acks every heartbeat."""

    def __init__(self, heartbeat_s: float) -> None:
        self._heartbeat_s = heartbeat_s
        self._count = 0

    async def GetPeers(self, request: ms.GetPeersRequest, context: Any) -> ms.GetPeersResponse:  # noqa: N802
        """Nobody."""
        return ms.GetPeersResponse()

    async def ReportHealth(  # noqa: N802
        self, requests: AsyncIterator[ms.ReportHealthRequest], context: Any
    ) -> AsyncIterator[ms.ReportHealthResponse]:
        """One session."""
        async for message in requests:
            kind = message.WhichOneof("payload")
            if kind == "hello":
                yield self._welcome()
            elif kind == "registration":
                offer = ms.RegistrationOffer(boot_token=message.registration.boot_token, incarnation=1)
                yield ms.ReportHealthResponse(offer=offer)
            elif kind == "heartbeat":
                yield self._ack(message.heartbeat.own)

    def _welcome(self) -> ms.ReportHealthResponse:
        timers = ms.SafetyTimers(lease_duration=duration(LEASE_S))
        config = ms.AgentConfig(version=1, protection_enabled=True, self_fencing=True, certificate_quorum=1, timers=timers)
        assignment = ms.SessionAssignment(heartbeat_interval=duration(self._heartbeat_s))
        welcome = ms.SessionWelcome(assignment=assignment, config=config, registration_required=True, cluster_id="c")
        return ms.ReportHealthResponse(welcome=welcome)

    def _ack(self, own: heartbeat_pb2.Heartbeat) -> ms.ReportHealthResponse:
        self._count += 1
        ack = heartbeat_pb2.HeartbeatAck(
            host_id=own.host_id,
            incarnation=own.incarnation,
            sequence=own.sequence,
            nonce=f"0123456789abcdef-{self._count}",
            config_version=1,
            store_generation=1,
        )
        return ms.ReportHealthResponse(heartbeat_acks=ms.HeartbeatAcks(acks=[ack]))


async def main(listen: str, heartbeat_s: float) -> None:
    """Serve until killed."""
    servicer = (ms_grpc.add_ManagerServiceServicer_to_server, Echo(heartbeat_s), "vmha.v1.ManagerService")
    server = Server([servicer], listen)
    await server.start()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
