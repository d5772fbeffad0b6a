"""TCP between simulated processes, as grpc's channels and servers see it with the keepalive of vmha.rpc.options.

What is sent arrives once, in order and late; while the way is cut it waits. A connection ends
- when its process is killed, or closes it, on a machine that is up: the other side learns it as soon as the way carries;
- 5 s after a side sent what is not acknowledged (TCP_USER_TIMEOUT); 5 s after a ping, sent when it had heard nothing for 10 s.
A machine that loses power says nothing: its peers find out in these ways, or when it is up again and does not know them.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from vmha.rpc.options import channel_options
from vmha.sim.network import Network
from vmha.sim.process import Machine, Process
from vmha.sim.timeloop import VirtualLoop

_OPTIONS: Final = dict(channel_options())
PING_AFTER_S: Final = int(_OPTIONS["grpc.keepalive_time_ms"]) / 1000
UNACKED_S: Final = int(_OPTIONS["grpc.keepalive_timeout_ms"]) / 1000
PING_TIMEOUT_S: Final = int(_OPTIONS["grpc.http2.ping_timeout_ms"]) / 1000
CONNECT_TIMEOUT_S: Final = int(_OPTIONS["grpc.min_reconnect_backoff_ms"]) / 1000
RETRANSMIT_S: Final = 0.2
"""A segment that was lost is sent again after this; then after twice as long, and so on."""

Frame = Callable[[Any], None]


class Listener(Protocol):
    """A server's socket."""

    process: Process

    def accepted(self, end: End) -> None:
        """A connection is there."""
        ...


class End:
    """One end of a connection.

    Attributes:
        alive: Until it is closed, broken, or its process is killed.
        lost: Called once when the connection is over without this side's doing; with what to say of it.
    """

    __slots__ = ("_armed", "_heard_at", "_held", "_next_at", "alive", "lost", "node", "other", "process", "wire")

    def __init__(self, wire: Wire, process: Process) -> None:
        self.wire = wire
        self.process = process
        self.node = process.node
        self.alive = True
        self.other: End = self
        self.lost: Callable[[str], None] | None = None
        self._held: deque[tuple[Frame, Any]] = deque()
        self._next_at = 0.0
        self._heard_at = wire.loop.time()
        self._armed: asyncio.TimerHandle | None = None

    def send(self, frame: Frame, argument: Any) -> None:
        """Let `frame(argument)` be called on the other side."""
        if not self.alive:
            return
        wire = self.wire
        other = self.other
        source, target = self.node, other.node
        network = wire.network
        loss = network.loss(source, target)
        if self._held or loss >= 1.0 or not other.process.machine.up:
            self._held.append((frame, argument))
            self._arm(UNACKED_S)
            return
        if network.loss(target, source) >= 1.0:
            self._arm(UNACKED_S)
        delay = network.latency_s()
        if loss > 0.0:
            delay = wire.delay_s(source, target)
            if delay > UNACKED_S:
                self._arm(UNACKED_S)
        at = wire.loop.time() + delay
        self._next_at = at if at > self._next_at else self._next_at
        wire.loop.call_at(self._next_at, other._arrive, frame, argument, context=wire.context)

    def close(self) -> None:
        """Close this side; what was sent before still arrives."""
        if self.alive:
            self._die()
            self._tell_other()

    def _arrive(self, frame: Frame, argument: Any) -> None:
        if self.alive:
            self._heard_at = self.wire.loop.time()
            frame(argument)

    def _die(self) -> None:
        self.alive = False
        self._held.clear()
        self._disarm()
        self.wire.forget(self)

    def _break(self, why: str) -> None:
        """The connection is over; this side did not want that."""
        if self.alive:
            self._die()
            lost, self.lost = self.lost, None
            if lost is not None and self.process.alive:
                lost(why)
            self._tell_other()

    def _tell_other(self) -> None:
        """A reset, or a FIN behind what was sent. Where the way is cut it is lost; the next packet is answered with a reset."""
        other, wire = self.other, self.wire
        if not other.alive or not self.process.machine.up:
            return
        source, target = self.process.node, other.process.node
        if wire.network.loss(source, target) < 1.0:
            at = max(self._next_at, wire.loop.time() + wire.network.latency_s())
            wire.loop.call_at(at, other._break, "connection reset by peer", context=wire.context)

    # While the way is cut

    def _arm(self, span_s: float) -> None:
        if self._armed is None:
            self._armed = self.wire.loop.call_later(span_s, self._expired, context=self.wire.context)
        elif self._armed.when() > self.wire.loop.time() + span_s:
            self._armed.cancel()
            self._armed = self.wire.loop.call_later(span_s, self._expired, context=self.wire.context)

    def _disarm(self) -> None:
        if self._armed is not None:
            self._armed.cancel()
            self._armed = None

    def _expired(self) -> None:
        self._armed = None
        self._break("connection timed out")

    def look(self) -> None:
        """The network, or the other side's machine, has changed."""
        wire, other = self.wire, self.other
        if not self.alive:
            return
        reached = other.process.machine.up and wire.network.carries(self.process.node, other.process.node)
        if not reached:
            now = wire.loop.time()
            self._arm(max(now, self._heard_at + PING_AFTER_S) + PING_TIMEOUT_S - now)
            return
        self._disarm()
        if not other.alive:
            delay = wire.network.latency_s() + wire.network.up_to_s(RETRANSMIT_S)
            wire.loop.call_later(delay, self._break, "connection reset by peer", context=wire.context)
        elif self._held:
            self._flush()

    def _flush(self) -> None:
        wire = self.wire
        held, self._held = self._held, deque()
        at = wire.loop.time() + wire.network.latency_s() + wire.network.up_to_s(RETRANSMIT_S)
        self._next_at = max(self._next_at, at)
        for frame, argument in held:
            wire.loop.call_at(self._next_at, self.other._arrive, frame, argument, context=wire.context)


class Wire:
    """Every connection of the simulation.

    Attributes:
        machines: By node.
        addresses: "host:port" to the node that has this address, whether anybody listens there or not.
        context: In which deliveries run: they belong to no process.
    """

    def __init__(self, loop: VirtualLoop, network: Network) -> None:
        self.loop = loop
        self.network = network
        self.context = contextvars.Context()
        self.machines: dict[str, Machine] = {}
        self.addresses: dict[str, str] = {}
        self._listeners: dict[str, Listener] = {}
        self._ends: dict[End, None] = {}
        network.listeners.append(self.look)

    def listen(self, target: str, listener: Listener) -> None:
        """Take connections at an address."""
        self._listeners[target] = listener

    def deafen(self, target: str, listener: Listener) -> None:
        """Take no more."""
        if self._listeners.get(target) is listener:
            del self._listeners[target]

    def listener(self, target: str) -> Listener | None:
        """Who listens at an address."""
        return self._listeners.get(target)

    def reaches(self, node: str, target: str) -> bool:
        """Whether packets go from a node to an address, and back, now."""
        other = self.addresses.get(target, "")
        return other in self.machines and self.machines[other].up and self.network.carries(node, other)

    def join(self, process: Process, listener: Listener) -> End:
        """A connection between them; the caller's end."""
        near, far = End(self, process), End(self, listener.process)
        near.other, far.other = far, near
        self._ends[near] = self._ends[far] = None
        listener.accepted(far)
        return near

    def forget(self, end: End) -> None:
        """It is closed."""
        self._ends.pop(end, None)

    def look(self) -> None:
        """The network or a machine's power has changed."""
        for end in list(self._ends):
            end.look()

    def killed(self, process: Process) -> None:
        """The process ended: its machine's kernel closes its connections, if it still has power."""
        for end in [end for end in self._ends if end.process is process]:
            end.close()

    def delay_s(self, source: str, target: str) -> float:
        """How long one message takes on a way that loses some."""
        span, again = self.network.latency_s(), RETRANSMIT_S
        while span < 2 * UNACKED_S and not self.network.passes(source, target):
            span, again = span + again, again * 2
        return span
