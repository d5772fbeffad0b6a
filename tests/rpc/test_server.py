"""A real server and channel: error mapping for every kind of handler, deadlines, health, reflection, ports."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2, health_pb2_grpc

from vmha.errors import Aborted, NotFound, Unavailable, VmhaError
from vmha.rpc.channel import open_channel
from vmha.rpc.errors import from_rpc_error
from vmha.rpc.server import Server

SERVICE = "vmha.test.Probe"
SECRET = "redis://:hunter2@db:6379"
Context = Any


def fail(name: str) -> None:
    if name == "known":
        raise NotFound("HOST_UNKNOWN", "no host h9", {"host_id": "h9"})
    if name == "bug":
        raise KeyError(SECRET)
    if name == "group":
        raise ExceptionGroup("tasks", [NotFound("HOST_UNKNOWN", "no host h9", {"host_id": "h9"})])
    if name == "mixed group":
        raise ExceptionGroup("tasks", [NotFound("HOST_UNKNOWN", "no host h9"), KeyError(SECRET)])
    if name == "missing":
        raise NotImplementedError("Method not implemented!")


async def _misbehave(name: str, context: Context) -> None:
    if name == "abort":
        await context.abort(grpc.StatusCode.DATA_LOSS, "by hand")
    if name == "slow":
        await asyncio.sleep(30)
    fail(name)


async def unary_unary(request: StringValue, context: Context) -> StringValue:
    await _misbehave(request.value, context)
    return request


async def stream_unary(requests: AsyncIterator[StringValue], context: Context) -> StringValue:
    last = StringValue()
    async for last in requests:
        await _misbehave(last.value, context)
    return last


async def unary_stream(request: StringValue, context: Context) -> AsyncIterator[StringValue]:
    await _misbehave(request.value, context)
    yield request


async def unary_write(request: StringValue, context: Context) -> None:
    await _misbehave(request.value, context)
    await context.write(request)


async def stream_stream(requests: AsyncIterator[StringValue], context: Context) -> AsyncIterator[StringValue]:
    async for request in requests:
        await _misbehave(request.value, context)
        yield request


async def stream_write(requests: AsyncIterator[StringValue], context: Context) -> None:
    async for request in requests:
        await _misbehave(request.value, context)
        await context.write(request)


HANDLERS: dict[str, tuple[str, Callable[..., Any]]] = {
    "UnaryUnary": ("unary_unary", unary_unary),
    "StreamUnary": ("stream_unary", stream_unary),
    "UnaryStream": ("unary_stream", unary_stream),
    "UnaryWrite": ("unary_stream", unary_write),
    "StreamStream": ("stream_stream", stream_stream),
    "StreamWrite": ("stream_stream", stream_write),
}


def add(servicer: object, server: grpc.aio.Server) -> None:
    make = {
        name: getattr(grpc, f"{kind}_rpc_method_handler")(handler, StringValue.FromString, StringValue.SerializeToString)
        for name, (kind, handler) in HANDLERS.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, make),))


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[Server, grpc.aio.Channel]]:
    server = Server([(add, object(), SERVICE)], "127.0.0.1:0", **options)
    port = await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        yield server, channel
    await server.stop(0)


async def call(channel: grpc.aio.Channel, name: str, value: str, timeout_s: float | None = 5) -> list[str]:
    kind, _ = HANDLERS[name]
    method = getattr(channel, kind)(f"/{SERVICE}/{name}", StringValue.SerializeToString, StringValue.FromString)

    async def requests() -> AsyncIterator[StringValue]:
        yield StringValue(value=value)

    running = method(requests() if kind.startswith("stream") else StringValue(value=value), timeout=timeout_s)
    if kind.endswith("_unary"):
        return [(await running).value]
    return [answer.value async for answer in running]


async def refused(channel: grpc.aio.Channel, name: str, value: str, timeout_s: float | None = 5) -> VmhaError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, name, value, timeout_s)
    return from_rpc_error(caught.value)


@pytest.mark.parametrize("name", HANDLERS)
async def test_a_call_that_works_is_left_alone(name: str) -> None:
    """The guard around a handler changes nothing of its answer, whatever its kind."""
    async with serving() as (_, channel):
        assert await call(channel, name, "hello") == ["hello"]


@pytest.mark.parametrize("name", HANDLERS)
@pytest.mark.parametrize("way", ["known", "group"])
async def test_a_vmha_error_arrives_with_its_reason(name: str, way: str) -> None:
    """All kinds of handlers, and both styles of streaming ones, are wrapped; out of a TaskGroup, too."""
    async with serving() as (_, channel):
        error = await refused(channel, name, way)

    assert isinstance(error, NotFound)
    assert (error.reason, error.message, error.metadata) == ("HOST_UNKNOWN", "no host h9", {"host_id": "h9"})


@pytest.mark.parametrize("name", HANDLERS)
@pytest.mark.parametrize("way", ["bug", "mixed group"])
async def test_a_bug_leaks_nothing(name: str, way: str) -> None:
    """An unexpected exception is INTERNAL without its text: it may hold a password."""
    async with serving() as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, name, way)

    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "hunter2" not in repr(caught.value)
    assert from_rpc_error(caught.value).reason == "INTERNAL_ERROR"


@pytest.mark.parametrize("name", HANDLERS)
async def test_a_handlers_own_abort_passes(name: str) -> None:
    """AbortError is an Exception; a broad except around it would turn every abort into INTERNAL."""
    async with serving() as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, name, "abort")

    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.DATA_LOSS, "by hand")


@pytest.mark.parametrize("name", HANDLERS)
async def test_a_method_without_body_is_unimplemented(name: str) -> None:
    """What the generated servicer raises does not reach the client as UNKNOWN."""
    async with serving() as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, name, "missing")

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "NotImplementedError" not in (caught.value.details() or "")


async def test_a_unary_call_without_deadline_gets_one() -> None:
    """A caller that set no deadline does not hold a handler for ever."""
    async with serving(unary_deadline_s=0.1) as (_, channel):
        error = await refused(channel, "UnaryUnary", "slow", timeout_s=None)

    assert error.reason == "DEADLINE_EXCEEDED"


async def test_a_stream_gets_no_deadline() -> None:
    """Watches last until their caller ends them."""
    async with serving(unary_deadline_s=0.05) as (_, channel):
        call_: Any = channel.stream_stream(f"/{SERVICE}/StreamStream", StringValue.SerializeToString, StringValue.FromString)()
        await call_.write(StringValue(value="a"))
        assert (await call_.read()).value == "a"
        await asyncio.sleep(0.15)
        await call_.write(StringValue(value="b"))
        assert (await call_.read()).value == "b"
        call_.cancel()


async def test_an_oversized_message_is_refused() -> None:
    """More than max_receive_bytes never reaches a handler."""
    async with serving(max_receive_bytes=1000) as (_, channel):
        error = await refused(channel, "UnaryUnary", "x" * 2000)

    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")


async def test_a_second_server_on_a_port_fails() -> None:
    """Without so_reuseport=0 it would start, and the kernel would split the agents between two managers."""
    async with serving() as (server, _):
        with pytest.raises(Unavailable) as caught:
            await Server([], f"127.0.0.1:{server.port}").start()

    assert caught.value.reason == "LISTEN_FAILED"


async def test_a_taken_stream_ends_with_its_reason() -> None:
    """An error after the first answers arrives, too."""

    async def superseded(request: StringValue, context: Context) -> AsyncIterator[StringValue]:
        yield StringValue(value="welcome")
        raise Aborted("SESSION_SUPERSEDED", "a newer session of the host took over")

    HANDLERS["Superseded"] = ("unary_stream", superseded)
    try:
        async with serving() as (_, channel):
            error = await refused(channel, "Superseded", "")
    finally:
        del HANDLERS["Superseded"]

    assert error.reason == "SESSION_SUPERSEDED"


async def test_cancelled_handlers_are_cancelled() -> None:
    """A watch whose caller went away ends at once; a guard that ate the cancellation would leak it."""
    ended = asyncio.Event()

    async def watch(request: StringValue, context: Context) -> AsyncIterator[StringValue]:
        try:
            yield StringValue(value="one")
            await asyncio.sleep(30)
        finally:
            ended.set()

    HANDLERS["Watch"] = ("unary_stream", watch)
    try:
        async with serving() as (_, channel):
            method = channel.unary_stream(f"/{SERVICE}/Watch", StringValue.SerializeToString, StringValue.FromString)
            running: Any = method(StringValue())
            assert (await running.read()).value == "one"
            running.cancel()
            async with asyncio.timeout(5):
                await ended.wait()
    finally:
        del HANDLERS["Watch"]


async def health_of(channel: grpc.aio.Channel, service: str) -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
    return int(answer.status)


async def test_liveness_does_not_follow_the_store() -> None:
    """Redis away: the services say NOT_SERVING, the process says it lives, so that nobody restarts it."""
    async with serving() as (server, channel):
        assert await health_of(channel, SERVICE) == health_pb2.HealthCheckResponse.SERVING

        await server.set_serving(False)

        assert await health_of(channel, SERVICE) == health_pb2.HealthCheckResponse.NOT_SERVING
        assert await health_of(channel, "") == health_pb2.HealthCheckResponse.SERVING


async def test_a_health_watch_works_through_the_guard() -> None:
    """Health.Watch is a coroutine that writes, not a generator: a guard for generators alone would break it."""
    async with serving() as (server, channel):
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        await server.set_serving(False)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()


async def test_unknown_methods_are_unimplemented() -> None:
    """grpc's own answer passes the guard."""
    async with serving() as (_, channel):
        method = channel.unary_unary(f"/{SERVICE}/Nothing", StringValue.SerializeToString, StringValue.FromString)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(StringValue(), timeout=5)

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
