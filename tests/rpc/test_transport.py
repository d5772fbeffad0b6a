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

from vmha.rpc.channel import open_channel

SERVER = """
import asyncio
from vmha.rpc.server import Server

async def main():
    server = Server([], "127.0.0.1:0")
    print(await server.start(), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@asynccontextmanager
async def server_process() -> AsyncIterator[tuple[int, int]]:
    """(pid, port) of a server in a process of its own."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVER, stdout=asyncio.subprocess.PIPE)
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
            sys.executable, "-c", SERVER.replace("127.0.0.1:0", f"127.0.0.1:{port}"), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        try:
            await asyncio.wait_for(process.stdout.readline(), 30)
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=10, wait_for_ready=True)
        finally:
            process.kill()
            await process.wait()
