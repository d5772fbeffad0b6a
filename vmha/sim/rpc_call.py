"""One call of a simulated channel, with what services use of a grpc.aio call."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator
from typing import TYPE_CHECKING, Any, Final

import grpc

from vmha.sim.rpc_server import ServerCall, SimServer
from vmha.sim.wire import End

if TYPE_CHECKING:
    from vmha.sim.rpc import SimChannel

NO_METADATA: Final = grpc.aio.Metadata()
Status = tuple[grpc.StatusCode, str, grpc.aio.Metadata]
Failure = tuple[grpc.StatusCode, str]
_GOOD: Final[Status] = (grpc.StatusCode.OK, "", NO_METADATA)


class SimCall:
    """A call whose answer is a stream; with a request, or with a stream of them."""

    def __init__(self, channel: SimChannel, method: str, pack: Any, unpack: Any) -> None:
        self._channel, self._method, self._pack, self._unpack = channel, method, pack, unpack
        self._loop = channel.loop
        self._end: End | None = None
        self._far: ServerCall | None = None
        self._request: bytes | None = None
        self._unsent: list[tuple[str, Any]] = []
        self._arrived: deque[bytes] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._status: Status | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._done_callbacks: list[Callable[[Any], None]] = []
        self._locally_cancelled = False
        self._half_closed = False
        self._deadline: asyncio.TimerHandle | None = None
        self._until: float | None = None
        self._metadata: tuple[Any, ...] = ()

    def begin(self, request: Any, timeout_s: float | None, metadata: tuple[Any, ...]) -> None:
        """Called once by the channel's method."""
        self._metadata = metadata
        if timeout_s is not None:
            self._until = self._loop.time() + timeout_s
            self._deadline = self._loop.call_later(timeout_s, self._expired)
        if request is not None:
            self._request = self._pack(request)
            self._half_closed = True
        self._channel.carry(self)

    # From the channel and from the other side

    def connected(self, end: End, server: SimServer) -> None:
        """There is a connection."""
        if self._status is not None:
            return
        self._end = end
        self._far = far = ServerCall(server, self, end.other, self._method, self._until, self._metadata)
        end.send(far.opened, self._request)
        unsent, self._unsent = self._unsent, []
        for kind, content in unsent:
            end.send(getattr(far, kind), content)

    @property
    def caller(self) -> str:
        """Whose call it is."""
        return self._channel.process.name

    def message(self, content: bytes) -> None:
        """A message of the answer arrived."""
        if self._status is None:
            self._arrived.append(content)
            self._wake_reader()

    def answer(self, content: bytes) -> None:
        """The one answer of a unary call, and its good end."""
        self.message(content)
        self.end(_GOOD)

    def end(self, status: Status) -> None:
        """It is over."""
        if self._status is not None:
            return
        self._status = status
        self._channel.forget(self)
        if self._deadline is not None:
            self._deadline.cancel()
        self._wake_reader()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        for callback in self._done_callbacks:
            callback(self)

    def fail_soon(self, failure: Failure) -> None:
        """It failed before it was sent."""
        self._loop.call_soon(self.end, (*failure, NO_METADATA))

    def cancel_with(self, code: grpc.StatusCode, why: str) -> None:
        """End it from this side, and tell the other."""
        if self._status is not None:
            return
        if self._end is not None and self._far is not None:
            self._end.send(self._far.cancelled_by_peer, None)
        self.end((code, why, NO_METADATA))

    def _expired(self) -> None:
        self.cancel_with(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def _wake_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None and not reader.done():
            reader.set_result(None)

    # What callers use

    async def read(self) -> Any:
        """The next message, or EOF.

        Raises:
            AioRpcError: It ended with another status than OK.
        """
        while not self._arrived:
            if self._status is not None:
                self._raise_for_status()
                return grpc.aio.EOF
            self._reader = self._loop.create_future()
            try:
                await self._reader
            except asyncio.CancelledError:
                self.cancel()
                raise
        return self._unpack(self._arrived.popleft())

    async def write(self, message: Any) -> None:
        """Send one."""
        self._may_write()
        self._send("message", self._pack(message))

    async def done_writing(self) -> None:
        """Send no more."""
        if self._status is None and not self._half_closed:
            self._half_closed = True
            self._send("half_close", None)

    def _may_write(self) -> None:
        self._channel.process.require_alive()
        if self._status is not None:
            raise asyncio.InvalidStateError("RPC already finished.")
        if self._half_closed:
            raise asyncio.InvalidStateError("RPC is half closed after calling done_writing().")

    def _send(self, kind: str, content: Any) -> None:
        if self._end is None:
            self._unsent.append((kind, content))
        else:
            self._end.send(getattr(self._far, kind), content)

    def cancel(self) -> bool:
        """End it; False when it is over already."""
        if self._status is not None:
            return False
        self._locally_cancelled = True
        self.cancel_with(grpc.StatusCode.CANCELLED, "Locally cancelled by application!")
        return True

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._status is not None and self._status[0] is grpc.StatusCode.CANCELLED

    def done(self) -> bool:
        """Whether it is over."""
        return self._status is not None

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call this when it is over."""
        if self._status is not None:
            callback(self)
        else:
            self._done_callbacks.append(callback)

    async def code(self) -> grpc.StatusCode:
        """Its status, when it is over."""
        return (await self._ended())[0]

    async def details(self) -> str:
        """What was said with it."""
        return (await self._ended())[1]

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        """What came with it."""
        return (await self._ended())[2]

    async def initial_metadata(self) -> grpc.aio.Metadata:
        """None is ever sent."""
        return NO_METADATA

    async def wait_for_connection(self) -> None:
        """Nothing waits here for metadata."""

    async def _ended(self) -> Status:
        while self._status is None:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter
        return self._status

    def _raise_for_status(self) -> None:
        assert self._status is not None
        code, details, trailing = self._status
        if self._locally_cancelled:
            raise asyncio.CancelledError
        if code is not grpc.StatusCode.OK:
            raise grpc.aio.AioRpcError(code, NO_METADATA, trailing, details)

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (message := await self.read()) is not grpc.aio.EOF:
            yield message


class UnaryCall(SimCall):
    """A call with one request and one answer."""

    def __await__(self) -> Generator[Any, None, Any]:
        answer = yield from self.read().__await__()
        if answer is grpc.aio.EOF:
            raise grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, NO_METADATA, NO_METADATA, "no answer before the status")
        yield from self._ended().__await__()
        self._raise_for_status()
        return answer
