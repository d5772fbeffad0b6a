"""One ReportHealth call: its task reads, and writes what the reading gave; what others send has a task for that long."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

import grpc
import structlog

from vmha.errors import Exhausted, PreconditionFailed, VmhaError
from vmha.log import bound
from vmha.manager.sessions import Session
from vmha.v1 import manager_service_pb2 as ms

HELLO_WITHIN_S: Final = 5.0
LAST_WRITE_WITHIN_S: Final = 1.0
"""How long an end waits for the write that is under way: grpc can send no status before it, and the agent would not hear why."""
WRITE_WITHIN_S: Final = 10.0
"""How long one write may take, up to twice this: an agent that takes nothing for so long reads no more."""

Context = grpc.aio.ServicerContext[Any, Any]
_log = structlog.get_logger("vmha.manager")


class Desk(Protocol):
    """Who serves a session that was opened."""

    def handle(self, session: Session, message: ms.ReportHealthRequest) -> None:
        """Take in one message after hello. Never waits.

        Raises:
            VmhaError: Ends the session.
        """
        ...

    def close(self, session: Session) -> None:
        """The stream has ended."""
        ...


class Door(Protocol):
    """Who opens sessions."""

    async def open(self, hello: ms.AgentHello) -> tuple[Session, Desk]:
        """Open the session of the host that hello names.

        Raises:
            VmhaError: The host is unknown, the hello is wrong, or the store is needed and away.
        """
        ...


class Stalls:
    """Ends the sessions of agents that take nothing. One look at all: a timer for each write would cost as much as the write."""

    def __init__(self, write_within_s: float = WRITE_WITHIN_S) -> None:
        self._write_within_s = write_within_s
        self._open: dict[SessionStream, int | None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def opened(self, stream: SessionStream) -> None:
        """A stream has begun."""
        self._open[stream] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._write_within_s, self._look)

    def closed(self, stream: SessionStream) -> None:
        """It is over."""
        self._open.pop(stream, None)

    def _look(self) -> None:
        self._timer = None
        for stream, before in list(self._open.items()):
            under_way = stream.write_under_way
            if under_way is not None and under_way == before:
                stream.stalled(self._write_within_s)
            self._open[stream] = under_way
        if self._open:
            self._timer = asyncio.get_running_loop().call_later(self._write_within_s, self._look)


class SessionStream:
    """Serves one call from hello to its end.

    The call's own task does nearly everything, for a task costs a kilobyte of each of 10,000 sessions, and a turn of the loop of
    each of their messages; whatever else ends the session cancels it.
    """

    __slots__ = (
        "_context",
        "_cut",
        "_door",
        "_error",
        "_hello_within_s",
        "_opened",
        "_over",
        "_reading",
        "_stalls",
        "_task",
        "_writer",
        "_writes",
        "_writing",
    )

    def __init__(self, door: Door, context: Context, stalls: Stalls, *, hello_within_s: float = HELLO_WITHIN_S) -> None:
        self._door = door
        self._context = context
        self._stalls = stalls
        self._hello_within_s = hello_within_s
        self._opened: tuple[Session, Desk] | None = None
        self._task: asyncio.Task[Any] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._reading = False
        self._writing = False
        self._writes = 0
        self._over = False
        self._cut: asyncio.TimerHandle | None = None
        self._error: BaseException | None = None

    async def serve(self) -> None:
        """Returns when the agent has half-closed, or is gone: the two look the same.

        Raises:
            VmhaError: What ended the session.
        """
        self._task = task = asyncio.current_task()
        assert task is not None
        late = asyncio.get_running_loop().call_later(self._hello_within_s, self._hello_is_late)
        self._stalls.opened(self)
        try:
            await self._converse()
        except asyncio.CancelledError:
            if not self._over or task.uncancel():
                raise  # the call itself was cancelled
        except VmhaError:
            raise
        except Exception as error:
            _log.error("session failed", exc_info=error)
            raise
        finally:
            self._over = True
            self._stalls.closed(self)
            late.cancel()
            if self._cut is not None:
                self._cut.cancel()
            try:
                await self._stop_writing()
            finally:
                self._leave()
        if self._error is not None:
            raise self._error

    async def _stop_writing(self) -> None:
        writer = self._writer
        if writer is not None:
            try:
                if self._writing:
                    await asyncio.wait([writer], timeout=LAST_WRITE_WITHIN_S)
            finally:
                writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    def _leave(self) -> None:
        if self._opened is not None:
            session, desk = self._opened
            session.outbox.on_put = None
            desk.close(session)
            # Its end was handed on by this call; nobody else retrieves it.
            session.end()
            session.ended.exception()

    async def _converse(self) -> None:
        while not self._over:
            self._reading = True
            message = await self._context.read()
            self._reading = False
            if message is grpc.aio.EOF:
                return
            if self._opened is None:
                await self._open(message)
            else:
                self._take(*self._opened, message)
            # Of each session one would be kept until the next arrives.
            del message
            if not self._writing:
                await self._write()

    def _take(self, session: Session, desk: Desk, message: ms.ReportHealthRequest) -> None:
        kind = message.WhichOneof("payload")
        if kind == "hello":
            raise PreconditionFailed("HELLO_REPEATED", "hello was sent already; it opens a session only once")
        if kind == "heartbeat":
            # Far more often than all others together: not even the log's context is set for it.
            desk.handle(session, message)
        else:
            with bound(host_id=session.host_id, cluster_id=session.cluster_id):
                desk.handle(session, message)

    async def _open(self, message: ms.ReportHealthRequest) -> None:
        if message.WhichOneof("payload") != "hello":
            raise PreconditionFailed("HELLO_EXPECTED", "the first message of a session must be hello")
        self._opened = session, _ = await self._door.open(message.hello)
        session.ended.add_done_callback(self._session_ended)
        session.outbox.on_put = self._wake

    def _wake(self) -> None:
        # What is sent while the call's task handles a message is written by it.
        if self._reading and not self._writing:
            assert self._opened is not None
            self._writing = True
            self._writer = asyncio.create_task(self._write(), name=f"session writer {self._opened[0].host_id}")

    async def _write(self) -> None:
        assert self._opened is not None
        outbox = self._opened[0].outbox
        self._writing = True
        try:
            while not self._over and not outbox.empty():
                self._writes += 1
                await self._context.write(outbox.get_nowait())
        except (grpc.aio.InternalError, grpc.aio.UsageError, asyncio.InvalidStateError):
            self._finish(None)
        finally:
            self._writing = False

    @property
    def write_under_way(self) -> int | None:
        """The number of the write that is under way."""
        return self._writes if self._writing else None

    def stalled(self, write_within_s: float) -> None:
        """A write takes too long."""
        message = f"the agent has taken nothing for {write_within_s:g} s"
        self._finish(Exhausted("OUTBOX_FULL", message), at_once=True)

    def _hello_is_late(self) -> None:
        if self._opened is None:
            self._finish(PreconditionFailed("HELLO_EXPECTED", f"no hello within {self._hello_within_s:g} s"))

    def _session_ended(self, ended: asyncio.Future[None]) -> None:
        self._finish(ended.exception())

    def _finish(self, error: BaseException | None, *, at_once: bool = False) -> None:
        if self._over:
            return
        self._over, self._error = True, error
        assert self._task is not None
        if self._reading or self._opened is None or at_once:
            self._task.cancel()
        else:
            # It writes, and looks by itself whether all is over; a status has to wait for that write.
            self._cut = asyncio.get_running_loop().call_later(LAST_WRITE_WITHIN_S, self._task.cancel)
