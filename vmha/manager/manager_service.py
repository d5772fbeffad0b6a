"""ManagerService: what agents call."""

from __future__ import annotations

from collections.abc import AsyncIterator

from vmha.errors import Unavailable
from vmha.manager.discovery import Discovery
from vmha.manager.session_stream import HELLO_WITHIN_S, Context, SessionStream, Stalls
from vmha.rpc import validate
from vmha.v1 import manager_service_pb2 as ms
from vmha.v1 import manager_service_pb2_grpc as ms_grpc


class ManagerService(ms_grpc.ManagerServiceServicer):
    """See the contract for each method."""

    def __init__(self, discovery: Discovery, *, hello_within_s: float = HELLO_WITHIN_S) -> None:
        self._discovery = discovery
        self._hello_within_s = hello_within_s
        self._stalls = Stalls()
        self.draining = False

    async def GetPeers(self, request: ms.GetPeersRequest, context: Context) -> ms.GetPeersResponse:  # noqa: N802
        """The peers of this round."""
        validate.get_peers(request)
        assignment = (await self._discovery.find(request.host_id)).assignment(request.host_id)
        return ms.GetPeersResponse(
            peers=assignment.peers,
            assignment_version=assignment.assignment_version,
            refresh_interval=assignment.peer_refresh_interval,
        )

    # The stubs know generators only; the session reads and writes by its context.
    async def ReportHealth(  # type: ignore[override]  # noqa: N802
        self, request_iterator: AsyncIterator[ms.ReportHealthRequest], context: Context
    ) -> None:
        """An agent's session."""
        if self.draining:
            raise Unavailable("DRAINING", "This replica is going away; open the session at another.")
        await SessionStream(self._discovery, context, self._stalls, hello_within_s=self._hello_within_s).serve()
