"""What the channel arguments do. Unknown keys are ignored in silence, so their effect is measured."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from vmha.errors import PreconditionFailed
from vmha.rpc.channel import open_channel
from vmha.rpc.errors import from_rpc_error
from vmha.rpc.server import Server
from vmha.v1 import manager_service_pb2 as ms
from vmha.v1 import manager_service_pb2_grpc as ms_grpc

SERVER = """
import asyncio, sys, time
from vmha.rpc.server import Server

async def main():
    server = Server([], "127.0.0.1:0")
    print(await server.start(), flush=True)
    time.sleep(float(sys.argv[1]))  # the loop stands still
    await asyncio.Event().wait()

asyncio.run(main())
"""


@asynccontextmanager
async def server_process(busy_s: float = 0.0) -> AsyncIterator[tuple[int, int]]:
    """(pid, port) of a server in a process of its own, which takes up no call for the first while."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVER, str(busy_s), stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield process.pid, int(await asyncio.wait_for(process.stdout.readline(), 30))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
            process.kill()
        await process.wait()


async def test_a_frozen_peer_is_noticed_on_a_quiet_stream() -> None:
    """Ten seconds of silence, five for the ping: without ping_timeout_ms it takes a minute."""
    async with server_process() as (pid, port), open_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=""))
        await watch.read()
        os.kill(pid, signal.SIGSTOP)
        frozen = asyncio.get_running_loop().time()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.read()

        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert asyncio.get_running_loop().time() - frozen < 25


async def test_calls_wait_for_a_server_that_is_busy() -> None:
    """Thousands of agents call at once when they have lost their manager: with 1,000 waiting grpc would begin to reject."""
    async with server_process(busy_s=3.0) as (_, port), open_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answers = await asyncio.gather(*(stub.Check(health_pb2.HealthCheckRequest(service=""), timeout=40) for _ in range(3_000)))

    assert {answer.status for answer in answers} == {health_pb2.HealthCheckResponse.SERVING}


@pytest.mark.slow
async def test_the_server_bears_the_clients_pings() -> None:
    """A quiet stream with a ping each 10 s lives on; grpc's defaults would answer the third with GOAWAY."""
    async with server_process() as (_, port), open_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=""))
        await watch.read()
        reading = asyncio.create_task(watch.read())
        done, _ = await asyncio.wait({reading}, timeout=45)

        assert not done
        watch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading


async def test_a_killed_servers_port_is_found_again() -> None:
    """Reconnecting is quick: a manager that restarts is used within seconds."""
    async with server_process() as (pid, port), open_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SERVER.replace("127.0.0.1:0", f"127.0.0.1:{port}"), "0", stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        try:
            await asyncio.wait_for(process.stdout.readline(), 30)
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=10, wait_for_ready=True)
        finally:
            process.kill()
            await process.wait()


class Closes(ms_grpc.ManagerServiceServicer):
    """Ends each session soon after its first message."""

    async def GetPeers(self, request: Any, context: Any) -> ms.GetPeersResponse:  # noqa: N802
        raise AssertionError

    async def ReportHealth(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[ms.ReportHealthResponse]:  # noqa: N802
        async for _ in requests:
            await asyncio.sleep(0.05)
            raise PreconditionFailed("NOT_LEADER", "another replica leads")
            yield ms.ReportHealthResponse()


async def write_until_it_ends(call: Any) -> None:
    hello = ms.ReportHealthRequest(hello=ms.AgentHello(host_id="hv1"))
    with contextlib.suppress(asyncio.InvalidStateError):
        while True:
            await call.write(hello)
            await asyncio.sleep(0)


async def test_a_session_that_ends_under_a_write_is_no_bug() -> None:
    """grpc calls a stream INTERNAL, for good, whose end it met while it wrote: the reason is lost, but nothing is broken."""
    server = Server([(ms_grpc.add_ManagerServiceServicer_to_server, Closes(), "vmha.v1.ManagerService")], "127.0.0.1:0")
    port, codes, reasons = await server.start(), set(), set()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = ms_grpc.ManagerServiceStub(channel)
        for _ in range(100):
            call = stub.ReportHealth()
            with contextlib.suppress(grpc.aio.AioRpcError):
                await write_until_it_ends(call)
            code = await call.code()
            ended = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), await call.trailing_metadata(), await call.details())
            codes.add(code)
            reasons.add(from_rpc_error(ended).reason)
            if grpc.StatusCode.INTERNAL in codes and len(codes) > 1:
                break
    await server.stop(0)

    assert grpc.StatusCode.INTERNAL in codes, "grpc keeps the reason now: the rule in vmha.rpc.errors can go"
    assert reasons <= {"NOT_LEADER", "PEER_UNREACHABLE"}
