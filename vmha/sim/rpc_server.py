"""gRPC without sockets, the server's side: runs the real servicers under the real CallGuard."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Never

import grpc

from vmha.rpc.interceptors import CallGuard
from vmha.rpc.server import Servicer
from vmha.sim.process import Process
from vmha.sim.wire import End, Wire

if TYPE_CHECKING:
    from vmha.sim.rpc_call import SimCall

_OVER: Final = "RPC already finished."


class SimServer:
    """The server of one process at one address; is a `vmha.rpc.server.Serving`."""

    def __init__(self, wire: Wire, process: Process, target: str, servicers: Sequence[Servicer]) -> None:
        self._wire, self.process, self._target = wire, process, target
        self.handlers: dict[str, Any] = {}
        self._guard = CallGuard()
        self._guarded: dict[str, Any] = {}
        self._calls: dict[ServerCall, None] = {}
        self._ends: dict[End, None] = {}
        self.serving = True
        for add, servicer, _ in servicers:
            add(servicer, self)  # type: ignore[arg-type]  # it asks for the two methods below
        process.at_end.append(self._killed)

    # What add_XServicer_to_server uses

    def add_generic_rpc_handlers(self, _handlers: Sequence[Any]) -> None:
        """The registered ones are enough."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """The methods of a service."""
        self.handlers.update({f"/{service}/{name}": handler for name, handler in handlers.items()})

    # Serving

    async def start(self) -> int:
        """Listen."""
        self._wire.listen(self._target, self)
        return int(self._target.rpartition(":")[2])

    async def set_serving(self, serving: bool) -> None:
        """Only remembered: nobody asks for health here."""
        self.serving = serving

    async def stop(self, grace_s: float = 5.0) -> None:
        """Take no more connections, and cut every call: whoever streams has ended by itself before."""
        self._wire.deafen(self._target, self)
        for call in list(self._calls):
            call.cut()
        for end in list(self._ends):
            end.close()

    def _killed(self) -> None:
        self._wire.deafen(self._target, self)

    # Connections and calls

    def accepted(self, end: End) -> None:
        """See `wire.Listener`."""
        self._ends[end] = None
        end.lost = lambda _why: self._lost(end)

    def _lost(self, end: End) -> None:
        self._ends.pop(end, None)
        for call in [call for call in self._calls if call.end is end]:
            call.cancelled_by_peer(None)

    # Calls

    def opened(self, call: ServerCall) -> None:
        """A call has arrived."""
        self._calls[call] = None

    def closed(self, call: ServerCall) -> None:
        """A call is over."""
        self._calls.pop(call, None)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Whose time it is on."""
        return self._wire.loop

    async def handler(self, method: str) -> Any:
        """The guarded handler of a method; None without one."""
        guarded = self._guarded.get(method)
        if guarded is None and method in self.handlers:

            async def continuation(_details: Any) -> Any:
                return self.handlers[method]

            details = _CallDetails(method, ())
            guarded = self._guarded[method] = await self._guard.intercept_service(continuation, details)
        return guarded


class _CallDetails(grpc.HandlerCallDetails):
    def __init__(self, method: str, metadata: Any) -> None:
        self.method, self.invocation_metadata = method, metadata


class ServerCall:
    """One call as its server sees it; is the handler's ServicerContext, too."""

    def __init__(
        self, server: SimServer, near: SimCall, end: End, method: str, until: float | None, metadata: tuple[Any, ...]
    ) -> None:
        self._server, self._near, self.end, self._method = server, near, end, method
        self._until, self._metadata = until, metadata
        self._handler: Any = None
        self._requests: deque[bytes] = deque()
        self._no_more = False
        self._reader: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._over = False
        self._callbacks: list[Any] = []
        self._code, self._details = grpc.StatusCode.OK, ""
        self._trailing: Any = ()

    # From the other side

    def opened(self, request: bytes | None) -> None:
        """It begins, with its only request or without one."""
        server = self._server
        if request is not None:
            self._requests.append(request)
            self._no_more = True
        if not server.process.alive:
            return
        server.opened(self)
        self._task = server.process.start(self._serve(), self._method)
        if self._until is not None:
            remaining = max(0.0, self._until - server.loop.time())
            self._deadline = server.loop.call_later(remaining, self.cancelled_by_peer, None)

    def message(self, content: bytes) -> None:
        """A request arrived."""
        self._requests.append(content)
        self._wake()

    def half_close(self, _: None) -> None:
        """No more requests."""
        self._no_more = True
        self._wake()

    def cancelled_by_peer(self, _: None) -> None:
        """Nobody waits for its answer any more."""
        if self._over:
            return
        self._finish()
        self._no_more = True
        self._wake()
        if self._task is not None:
            self._task.cancel()

    def cut(self) -> None:
        """The server stops."""
        if not self._over:
            self.end.send(self._near.end, (grpc.StatusCode.UNAVAILABLE, "server shutdown", grpc.aio.Metadata()))
            self.cancelled_by_peer(None)

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None and not reader.done():
            reader.set_result(None)

    # Serving it

    async def _serve(self) -> None:
        try:
            self._handler = handler = await self._server.handler(self._method)
            if handler is None:
                self._end_with(grpc.StatusCode.UNIMPLEMENTED, "Method not found!", ())
                return
            await self._call(handler)
        except grpc.aio.AbortError:
            pass
        except asyncio.CancelledError:
            self._end_with(grpc.StatusCode.CANCELLED, "cancelled on the server", ())
            raise
        except Exception as error:
            self._end_with(grpc.StatusCode.UNKNOWN, f"Unexpected {type(error)}: {error}", ())
        else:
            self._end_with(self._code, self._details, self._trailing)

    async def _call(self, handler: Any) -> None:
        if handler.request_streaming:
            request = self._stream()
        else:
            request = await self._next()
            if request is None:
                return
        if not handler.response_streaming:
            inner = handler.stream_unary if handler.request_streaming else handler.unary_unary
            self._answer(await inner(request, self))
            return
        inner = handler.stream_stream if handler.request_streaming else handler.unary_stream
        answer = inner(request, self)
        if inspect.isawaitable(answer):
            await answer
            return
        async for message in answer:
            await self.write(message)

    def _answer(self, message: Any) -> None:
        if self._over:
            return
        content = self._handler.response_serializer(message)
        if self._code is grpc.StatusCode.OK and not self._trailing:
            self.end.send(self._near.answer, content)
            self._finish()
        else:
            self.end.send(self._near.message, content)

    async def _stream(self) -> AsyncIterator[Any]:
        while (request := await self._next()) is not None:
            yield request

    async def _next(self) -> Any:
        while not self._requests:
            if self._no_more:
                return None
            self._reader = self._server.loop.create_future()
            await self._reader
        return self._handler.request_deserializer(self._requests.popleft())

    def _end_with(self, code: grpc.StatusCode, details: str, trailing: Any) -> None:
        if not self._over:
            self.end.send(self._near.end, (code, details, grpc.aio.Metadata(*trailing)))
            self._finish()

    def _finish(self) -> None:
        self._over = True
        self._server.closed(self)
        if self._deadline is not None:
            self._deadline.cancel()
        for callback in self._callbacks:
            callback(self)

    # What handlers use of their context

    async def write(self, message: Any) -> None:
        """Send a message of the answer."""
        self._server.process.require_alive()
        if self._over:
            raise grpc.aio.UsageError(_OVER)
        self.end.send(self._near.message, self._handler.response_serializer(message))

    async def read(self) -> Any:
        """The next request, or EOF."""
        request = await self._next()
        return grpc.aio.EOF if request is None else request

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> Never:
        """End it with a status."""
        if self._over:
            raise grpc.aio.UsageError(_OVER)
        self._end_with(code, details, trailing_metadata)
        raise grpc.aio.AbortError("Locally aborted.")

    def set_code(self, code: grpc.StatusCode) -> None:
        """The status at the end."""
        self._code = code

    def set_details(self, details: str) -> None:
        """What is said with it."""
        self._details = details

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """What comes with it."""
        self._trailing = trailing_metadata

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Nobody reads it here."""

    def invocation_metadata(self) -> tuple[Any, ...]:
        """What the caller sent along."""
        return self._metadata

    def peer(self) -> str:
        """Who calls."""
        return f"sim:{self._near.caller}"

    def auth_context(self) -> dict[str, Any]:
        """There is no TLS here."""
        return {}

    def time_remaining(self) -> float | None:
        """Until its deadline; None without one."""
        return None if self._until is None else max(0.0, self._until - self._server.loop.time())

    def cancelled(self) -> bool:
        """Whether nobody waits for the answer."""
        return self._over

    def done(self) -> bool:
        """Whether it is over."""
        return self._over

    def add_done_callback(self, callback: Any) -> None:
        """Call this when it is over."""
        self._callbacks.append(callback)
