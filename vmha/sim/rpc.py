"""gRPC without sockets, the client's side: what generated stubs and the services use of a grpc.aio channel and its calls.

    channel = SimChannel(wire, process, "m0:7400")
    stub = ManagerServiceStub(channel)

Messages go over `vmha.sim.wire` in their serialised form, so that nobody shares anything; `vmha.sim.rpc_server` is the other
side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import grpc

from vmha.rpc.options import channel_options
from vmha.sim.process import Process
from vmha.sim.rpc_call import NO_METADATA, SimCall, UnaryCall
from vmha.sim.rpc_server import SimServer
from vmha.sim.wire import CONNECT_TIMEOUT_S, End, Wire

_OPTIONS: Final = dict(channel_options())
FIRST_BACKOFF_S: Final = int(_OPTIONS["grpc.initial_reconnect_backoff_ms"]) / 1000
MAX_BACKOFF_S: Final = int(_OPTIONS["grpc.max_reconnect_backoff_ms"]) / 1000
SYN_AGAIN_S: Final = 1.0
BACKOFF_FACTOR: Final = 1.6
State = grpc.ChannelConnectivity


class SimChannel:
    """A channel to one address; connects when it is first used, and again by itself."""

    def __init__(self, wire: Wire, process: Process, target: str) -> None:
        self._wire, self._process, self._target = wire, process, target
        self._state = State.IDLE
        self._end: End | None = None
        self._server: SimServer | None = None
        self._calls: dict[SimCall, None] = {}
        self._waiting: dict[SimCall, None] = {}
        self._backoff_s = FIRST_BACKOFF_S
        self._timer: asyncio.TimerHandle | None = None
        self._changed: list[asyncio.Future[None]] = []
        self._last_failure = "not connected"
        process.at_end.append(self._killed)

    # What stubs use

    def unary_unary(self, method: str, request_serializer: Any, response_deserializer: Any, **_: Any) -> Callable[..., Any]:
        """A unary method."""
        return self._method(UnaryCall, method, request_serializer, response_deserializer)

    def unary_stream(self, method: str, request_serializer: Any, response_deserializer: Any, **_: Any) -> Callable[..., Any]:
        """A method that streams its answer."""
        return self._method(SimCall, method, request_serializer, response_deserializer)

    def stream_stream(self, method: str, request_serializer: Any, response_deserializer: Any, **_: Any) -> Callable[..., Any]:
        """A method that streams both ways."""
        return self._method(SimCall, method, request_serializer, response_deserializer)

    def _method(self, kind: type[SimCall], method: str, pack: Any, unpack: Any) -> Callable[..., Any]:
        def call(request: Any = None, *, timeout: float | None = None, metadata: Any = None, **_: Any) -> SimCall:
            made = kind(self, method, pack, unpack)
            made.begin(request, timeout, tuple(metadata or ()))
            return made

        return call

    # What services use

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Whether it is connected."""
        if try_to_connect and self._state is State.IDLE:
            self._connect()
        return self._state

    async def channel_ready(self) -> None:
        """Returns when it is connected."""
        while self.get_state(try_to_connect=True) is not State.READY:
            await self.wait_for_state_change(self._state)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Returns when the state is another."""
        while self._state is last_observed_state:
            self._process.require_alive()
            future = self._wire.loop.create_future()
            self._changed.append(future)
            await future

    async def close(self, grace: float | None = None) -> None:
        """Ends every call and the connection."""
        self._shut(grpc.StatusCode.CANCELLED, "Channel closed.")
        if self._killed in self._process.at_end:
            self._process.at_end.remove(self._killed)

    async def __aenter__(self) -> SimChannel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # The connection

    def carry(self, call: SimCall) -> None:
        """A call begins: over the connection, or when there is one."""
        self._process.require_alive()
        if self._state is State.IDLE:
            self._connect()
        if self._end is not None and self._server is not None:
            self._calls[call] = None
            call.connected(self._end, self._server)
        elif self._state is State.CONNECTING:
            self._waiting[call] = None
        else:
            call.fail_soon((grpc.StatusCode.UNAVAILABLE, self._last_failure))

    def forget(self, call: SimCall) -> None:
        """A call is over."""
        self._calls.pop(call, None)
        self._waiting.pop(call, None)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Whose time it is on."""
        return self._wire.loop

    @property
    def process(self) -> Process:
        """Whose channel it is."""
        return self._process

    @property
    def target(self) -> str:
        """Where it goes."""
        return self._target

    def _connect(self) -> None:
        if self._state is not State.TRANSIENT_FAILURE:
            self._set(State.CONNECTING)
        self._attempt(self._wire.loop.time() + CONNECT_TIMEOUT_S)

    def _attempt(self, until: float) -> None:
        """One SYN; where nothing comes back, again after a second."""
        wire, now = self._wire, self._wire.loop.time()
        if wire.reaches(self._process.node, self._target):
            self._timer = self._later(3 * wire.network.latency_s(), self._answered)
        elif now + SYN_AGAIN_S < until:
            self._timer = self._later(SYN_AGAIN_S, self._attempt, until)
        else:
            self._timer = self._later(max(0.0, until - now), self._failed, "connection timed out")

    def _answered(self) -> None:
        listener = self._wire.listener(self._target)
        if listener is None or not isinstance(listener, SimServer):
            self._failed("connection refused")
            return
        self._server = listener
        self._end = end = self._wire.join(self._process, listener)
        end.lost = self._lost
        self._backoff_s = FIRST_BACKOFF_S
        self._set(State.READY)
        waiting, self._waiting = self._waiting, {}
        for call in waiting:
            self._calls[call] = None
            call.connected(end, listener)

    def _failed(self, why: str) -> None:
        self._last_failure = f"failed to connect to {self._target}: {why}"
        self._set(State.TRANSIENT_FAILURE)
        spread = 0.8 + self._wire.network.up_to_s(0.4)
        self._timer = self._later(self._backoff_s * spread, self._connect)
        self._backoff_s = min(self._backoff_s * BACKOFF_FACTOR, MAX_BACKOFF_S)
        waiting, self._waiting = self._waiting, {}
        for call in waiting:
            call.end((grpc.StatusCode.UNAVAILABLE, self._last_failure, NO_METADATA))

    def _lost(self, why: str) -> None:
        """The connection broke under its calls; the next call makes a new one."""
        self._end = None
        self._last_failure = f"connection to {self._target} lost: {why}"
        self._set(State.IDLE)
        calls, self._calls = self._calls, {}
        for call in calls:
            call.end((grpc.StatusCode.UNAVAILABLE, self._last_failure, NO_METADATA))

    def _killed(self) -> None:
        self._set(State.SHUTDOWN)
        if self._timer is not None:
            self._timer.cancel()
        self._end = None

    def _shut(self, code: grpc.StatusCode, why: str) -> None:
        for call in [*self._calls, *self._waiting]:
            call.cancel_with(code, why)
        end = self._end
        self._killed()
        if end is not None:
            end.close()

    def _later(self, span_s: float, act: Callable[..., None], *arguments: Any) -> asyncio.TimerHandle:
        return self._wire.loop.call_later(span_s, act, *arguments, context=self._wire.context)

    def _set(self, state: grpc.ChannelConnectivity) -> None:
        if self._state is not State.SHUTDOWN and state is not self._state:
            self._state = state
            changed, self._changed = self._changed, []
            for future in changed:
                if not future.done():
                    future.set_result(None)
