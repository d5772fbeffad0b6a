"""Simulated gRPC: the real servicers and stubs, and connections that end as TCP's do under grpc's keepalive."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import grpc
import pytest

from vmha.errors import PreconditionFailed
from vmha.rpc.errors import from_rpc_error
from vmha.sim.clock import SimClock
from vmha.sim.network import Network
from vmha.sim.process import Machine, Process
from vmha.sim.rpc import SimChannel
from vmha.sim.rpc_server import SimServer
from vmha.sim.timeloop import VirtualLoop
from vmha.sim.wire import Wire
from vmha.v1 import manager_service_pb2 as ms
from vmha.v1.manager_service_pb2_grpc import ManagerServiceServicer, ManagerServiceStub, add_ManagerServiceServicer_to_server

TARGET = "m:7400"


@dataclass
class Echo(ManagerServiceServicer):
    """Answers what was asked; says how its streams ended."""

    ended: list[str] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)
    wait_s: float = 0.0

    async def GetPeers(self, request: ms.GetPeersRequest, context: Any) -> ms.GetPeersResponse:  # noqa: N802
        if request.host_id == "refused":
            raise PreconditionFailed("NOT_LEADER", "somebody else leads", {"leader": "m2:7400"})
        if request.host_id == "broken":
            raise RuntimeError("a secret")
        await asyncio.sleep(self.wait_s)
        return ms.GetPeersResponse(assignment_version=request.host_id)

    async def ReportHealth(  # noqa: N802
        self, request_iterator: AsyncIterator[ms.ReportHealthRequest], context: Any
    ) -> AsyncIterator[ms.ReportHealthResponse]:
        try:
            async for request in request_iterator:
                self.heard.append(request.applied_nonce)
                yield ms.ReportHealthResponse(report_ack=ms.ReportAck(sequence=int(request.applied_nonce)))
            self.ended.append("half-closed")
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise


class Rig:
    """A host and a manager."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.network = Network(["h1"], 1, random.Random(1))
        self.wire = Wire(self.loop, self.network)
        self.host, self.plane = (Machine(node, SimClock(self.loop)) for node in ("h1", "manager/0"))
        self.wire.machines.update({"h1": self.host, "manager/0": self.plane})
        self.wire.addresses[TARGET] = "manager/0"
        self.agent, self.manager = self.process(self.host, "agent"), self.process(self.plane, "manager")
        self.echo = Echo()
        self.server = SimServer(self.wire, self.manager, TARGET, [(add_ManagerServiceServicer_to_server, self.echo, "s")])
        self.channel = SimChannel(self.wire, self.agent, TARGET)
        self.stub: Any = ManagerServiceStub(cast("grpc.aio.Channel", self.channel))

    def process(self, machine: Machine, name: str) -> Process:
        process = Process(self.loop, machine, name)
        process.at_end.append(lambda: self.wire.killed(process))
        return process

    def ask(self, host_id: str = "h1", timeout: float | None = None) -> Any:
        """One unary call, to its end."""

        async def call() -> Any:
            return await self.stub.GetPeers(ms.GetPeersRequest(host_id=host_id), timeout=timeout)

        return self.loop.run_until(call())

    def failure(self, host_id: str = "h1", timeout: float | None = None) -> grpc.aio.AioRpcError:
        """As `ask`, which must fail."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            self.ask(host_id, timeout)
        return caught.value

    def stream(self) -> Any:
        """A stream that has said 1 and heard it."""
        call = self.stub.ReportHealth()

        async def greet() -> None:
            await call.write(ms.ReportHealthRequest(applied_nonce="1"))
            assert (await call.read()).report_ack.sequence == 1

        self.loop.run_until(greet())
        return call

    def end_of(self, call: Any) -> tuple[grpc.StatusCode, float]:
        """How a call ends, and how long that takes."""
        began = self.loop.time()
        code = self.loop.run_until(call.code())
        return code, self.loop.time() - began

    def say(self, call: Any, number: int) -> None:
        """Write one message."""
        self.loop.run_until(call.write(ms.ReportHealthRequest(applied_nonce=str(number))))


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    made.loop.run_until(made.server.start())
    yield made
    made.loop.set_exception_handler(lambda *_: None)
    made.loop.shut_down()


def test_a_unary_call_is_answered_by_the_real_servicer(rig: Rig) -> None:
    """Within a few milliseconds of virtual time."""
    assert rig.ask("h7").assignment_version == "h7"
    assert rig.loop.time() < 0.01


def test_errors_keep_their_code_reason_and_metadata(rig: Rig) -> None:
    """The real CallGuard maps them; what a handler did not mean to say stays inside."""
    error = from_rpc_error(rig.failure("refused"))
    assert (error.code, error.reason, error.metadata["leader"]) == ("FAILED_PRECONDITION", "NOT_LEADER", "m2:7400")

    broken = rig.failure("broken")
    assert broken.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(broken)


def test_messages_are_copies(rig: Rig) -> None:
    """What is changed after it was sent has been sent as it was."""
    call = rig.stub.ReportHealth()
    message = ms.ReportHealthRequest(applied_nonce="7")

    async def exchange() -> int:
        await call.write(message)
        message.applied_nonce = "8"
        return int((await call.read()).report_ack.sequence)

    assert rig.loop.run_until(exchange()) == 7


def test_a_stream_ends_when_its_caller_half_closes(rig: Rig) -> None:
    """Read says EOF, and the status is OK."""
    call = rig.stream()

    async def leave() -> Any:
        await call.done_writing()
        return await call.read(), await call.code()

    assert rig.loop.run_until(leave()) == (grpc.aio.EOF, grpc.StatusCode.OK)
    assert rig.echo.ended == ["half-closed"]


def test_a_cancelled_call_cancels_its_handler(rig: Rig) -> None:
    """And its reader gets CancelledError."""
    call = rig.stream()
    call.cancel()
    rig.loop.run_for(0.1)

    assert rig.echo.ended == ["cancelled"]
    with pytest.raises(asyncio.CancelledError):
        rig.loop.run_until(call.read())


def test_a_deadline_is_kept_on_both_sides(rig: Rig) -> None:
    """DEADLINE_EXCEEDED at its time; the handler is cancelled."""
    rig.echo.wait_s = 60.0

    assert rig.failure(timeout=2.0).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert rig.loop.time() == pytest.approx(2.0, abs=0.01)


def test_nobody_listens_on_a_live_host(rig: Rig) -> None:
    """UNAVAILABLE at once."""
    rig.loop.run_until(rig.server.stop())

    assert rig.failure().code() is grpc.StatusCode.UNAVAILABLE
    assert rig.loop.time() < 0.05


def test_a_host_that_cannot_be_reached_costs_the_time_of_an_attempt(rig: Rig) -> None:
    """UNAVAILABLE after 2 s; the channel finds its way when the host is back."""
    rig.network.isolate(["h1"])
    assert rig.failure().code() is grpc.StatusCode.UNAVAILABLE
    assert rig.loop.time() == pytest.approx(2.0, abs=0.01)

    rig.network.heal_all()
    rig.loop.run_for(1.0)
    assert rig.ask().assignment_version == "h1"


def test_a_killed_process_resets_its_connections_at_once(rig: Rig) -> None:
    """Its host is up: the caller learns it within milliseconds."""
    call = rig.stream()
    rig.manager.kill()
    code, took = rig.end_of(call)

    assert (code, took < 0.01) == (grpc.StatusCode.UNAVAILABLE, True)


def test_a_killed_caller_cancels_its_handlers(rig: Rig) -> None:
    """The other way round."""
    rig.stream()
    rig.agent.kill()
    rig.loop.run_for(0.1)

    assert rig.echo.ended == ["cancelled"]


def test_a_host_without_power_says_nothing(rig: Rig) -> None:
    """A caller that is silent finds out with its ping, one that sends 5 s after its first word."""
    call, other = rig.stream(), Rig()
    other.loop.run_until(other.server.start())
    speaking = other.stream()
    for one in (rig, other):
        one.plane.up = False
        one.manager.kill()
        one.wire.look()
    other.say(speaking, 2)

    code, took = rig.end_of(call)
    assert code is grpc.StatusCode.UNAVAILABLE
    assert took == pytest.approx(15.0, abs=0.1)
    code, took = other.end_of(speaking)
    assert code is grpc.StatusCode.UNAVAILABLE
    assert took == pytest.approx(5.0, abs=0.1)
    other.loop.shut_down()


def test_what_was_sent_into_a_short_cut_arrives_once_and_in_order(rig: Rig) -> None:
    """TCP sends it again when the way is back."""
    call = rig.stream()
    rig.network.isolate(["h1"])
    for number in (2, 3, 4):
        rig.say(call, number)
    rig.loop.run_for(3.0)
    assert rig.echo.heard == ["1"]

    rig.network.heal_all()
    rig.loop.run_for(0.5)
    assert rig.echo.heard == ["1", "2", "3", "4"]


def test_a_long_cut_breaks_the_connection_on_both_sides(rig: Rig) -> None:
    """UNAVAILABLE here, cancelled there; nothing is delivered afterwards."""
    call = rig.stream()
    rig.network.isolate(["h1"])
    rig.say(call, 2)
    assert rig.end_of(call)[0] is grpc.StatusCode.UNAVAILABLE
    rig.loop.run_for(20.0)
    rig.network.heal_all()
    rig.loop.run_for(5.0)

    assert rig.echo.ended == ["cancelled"]
    assert rig.echo.heard == ["1"]


def test_one_way_loss_delivers_one_way(rig: Rig) -> None:
    """What the caller says arrives, though nothing comes back; then the connection breaks for want of acknowledgement."""
    call = rig.stream()
    rig.network.link("manager/0", "h1", 1.0)
    rig.say(call, 2)
    rig.loop.run_for(1.0)
    assert rig.echo.heard == ["1", "2"]

    assert rig.end_of(call)[0] is grpc.StatusCode.UNAVAILABLE


def test_loss_delays_and_keeps_the_order(rig: Rig) -> None:
    """A third gets lost: everything arrives, later, and in order."""
    call = rig.stream()
    rig.network.link("h1", "manager/0", 0.33)
    for number in range(2, 20):
        rig.say(call, number)
    rig.loop.run_for(5.0)

    assert rig.echo.heard == [str(number) for number in range(1, 20)]


def test_a_dead_process_calls_nobody(rig: Rig) -> None:
    """Whatever of it still runs is ended at its edges."""
    rig.ask()
    rig.agent.kill()
    with pytest.raises(asyncio.CancelledError):
        rig.stub.GetPeers(ms.GetPeersRequest())
