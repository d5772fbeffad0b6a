"""One call from hello to its end, over a real gRPC server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from vmha.errors import Aborted, PreconditionFailed
from vmha.manager.session_stream import SessionStream, Stalls
from vmha.manager.sessions import Session
from vmha.rpc.channel import open_channel
from vmha.rpc.errors import from_rpc_error
from vmha.rpc.server import Server
from vmha.v1 import manager_service_pb2 as ms
from vmha.v1 import manager_service_pb2_grpc as ms_grpc


class HastyDoor(ms_grpc.ManagerServiceServicer):
    """Opens a session, and ends it while its welcome is being written."""

    async def ReportHealth(self, request_iterator: AsyncIterator[Any], context: Any) -> None:  # type: ignore[override]  # noqa: N802
        await SessionStream(self, context, Stalls()).serve()

    async def GetPeers(self, request: Any, context: Any) -> ms.GetPeersResponse:  # noqa: N802
        raise AssertionError

    async def open(self, hello: ms.AgentHello) -> tuple[Session, Any]:
        session = Session("c1", hello)
        session.send(ms.ReportHealthResponse(welcome=ms.SessionWelcome(cluster_id="c1")))
        loop = asyncio.get_running_loop()
        # Behind the writer's first step, which begins in the next turn of the loop.
        loop.call_soon(loop.call_soon, session.end, Aborted("SESSION_SUPERSEDED", "a newer session of this host was opened"))
        return session, self

    def handle(self, session: Session, message: ms.ReportHealthRequest) -> None:
        raise AssertionError

    def close(self, session: Session) -> None:
        pass


async def test_an_end_during_the_first_write_tells_its_reason() -> None:
    """A status that is sent while the welcome is under way is refused by grpc (call error 8), and the agent hears nothing."""
    add = ms_grpc.add_ManagerServiceServicer_to_server
    server = Server([(add, HastyDoor(), "vmha.v1.ManagerService")], "127.0.0.1:0")
    port = await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel, asyncio.timeout(20):
        stub: Any = ms_grpc.ManagerServiceStub(channel)
        for _ in range(20):
            call = stub.ReportHealth()
            await call.write(ms.ReportHealthRequest(hello=ms.AgentHello(host_id="hv1")))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                while await call.read() is not grpc.aio.EOF:
                    pass
            assert from_rpc_error(caught.value).reason == "SESSION_SUPERSEDED"
    await server.stop(0)


async def test_sessions_that_end_for_one_reason_share_no_error() -> None:
    """An error that a hundred handlers raise would collect a hundred tracebacks, and its log line their text."""
    error = PreconditionFailed("NOT_LEADER", "another replica leads", {"leader": "m2:1"})
    sessions = [Session("c1", ms.AgentHello(host_id=f"hv{number}")) for number in range(2)]
    for session in sessions:
        session.end(error)

    first, second = (session.ended.exception() for session in sessions)
    assert first is not second and first is not error
    for told in (first, second):
        assert isinstance(told, PreconditionFailed) and str(told) == str(error)
        assert (told.reason, told.metadata) == (error.reason, error.metadata)
