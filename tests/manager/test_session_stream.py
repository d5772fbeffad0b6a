"""One call from hello to its end, over a real gRPC server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from vmha.errors import Aborted, PreconditionFailed, VmhaError
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


class PatientDoor(ms_grpc.ManagerServiceServicer):
    """Opens a session, and remembers it and what ended it."""

    def __init__(self, write_within_s: float) -> None:
        self._stalls = Stalls(write_within_s)
        self.opened: asyncio.Future[Session] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[VmhaError | None] = asyncio.get_running_loop().create_future()

    async def ReportHealth(self, request_iterator: AsyncIterator[Any], context: Any) -> None:  # type: ignore[override]  # noqa: N802
        try:
            await SessionStream(self, context, self._stalls).serve()
        except VmhaError as error:
            self.ended.set_result(error)
            raise
        self.ended.set_result(None)

    async def GetPeers(self, request: Any, context: Any) -> ms.GetPeersResponse:  # noqa: N802
        raise AssertionError

    async def open(self, hello: ms.AgentHello) -> tuple[Session, Any]:
        self.opened.set_result(session := Session("c1", hello))
        return session, self

    def handle(self, session: Session, message: ms.ReportHealthRequest) -> None:
        for number in range(2):
            session.send(_revoked(f"{message.goodbye.reason}.{number}"))

    def close(self, session: Session) -> None:
        pass


def _revoked(reason: str) -> ms.ReportHealthResponse:
    return ms.ReportHealthResponse(revoked=ms.IncarnationRevoked(incarnation=1, reason=reason))


@asynccontextmanager
async def session_with(door: PatientDoor) -> AsyncIterator[tuple[Any, Session]]:
    """A call of an agent that has said hello, and its session."""
    add = ms_grpc.add_ManagerServiceServicer_to_server
    server = Server([(add, door, "vmha.v1.ManagerService")], "127.0.0.1:0")
    port = await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel, asyncio.timeout(30):
        stub: Any = ms_grpc.ManagerServiceStub(channel)
        call = stub.ReportHealth()
        await call.write(ms.ReportHealthRequest(hello=ms.AgentHello(host_id="hv1")))
        yield call, await door.opened
    await server.stop(0)


async def test_what_others_send_reaches_an_agent_that_says_nothing() -> None:
    """In the order in which it was sent, also between the answers to what the agent says."""
    async with session_with(PatientDoor(10.0)) as (call, session):
        for round_number in range(20):
            for number in range(3):
                session.send(_revoked(f"others {number}"))
            assert [(await call.read()).revoked.reason for _ in range(3)] == [f"others {n}" for n in range(3)]
            session.send(_revoked("before"))
            goodbye = ms.AgentGoodbye(reason=ms.GOODBYE_REASON_HOST_SHUTTING_DOWN)
            await call.write(ms.ReportHealthRequest(goodbye=goodbye))
            said = [(await call.read()).revoked.reason for _ in range(3)]
            assert said == ["before", f"{goodbye.reason}.0", f"{goodbye.reason}.1"], f"round {round_number}"


@pytest.mark.parametrize("speaks", [False, True])
async def test_an_agent_that_takes_nothing_loses_its_session(speaks: bool) -> None:
    """A write that does not end is noticed, whether the agent's own messages led to it or not."""
    door = PatientDoor(0.3)
    async with session_with(door) as (call, session):
        if speaks:
            await call.write(ms.ReportHealthRequest(goodbye=ms.AgentGoodbye()))
        for _ in range(20):
            session.send(_revoked("x" * 2**20))
        error = await door.ended

    assert error is not None and (error.reason, error.code) == ("OUTBOX_FULL", "RESOURCE_EXHAUSTED")


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
