"""One ReportHealth call: a reader, one writer on a bounded outbox, and the end of both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, Protocol

import grpc
import structlog

from vmha.errors import PreconditionFailed, VmhaError
from vmha.log import bound
from vmha.manager.sessions import Session
from vmha.v1 import manager_service_pb2 as ms

HELLO_WITHIN_S: Final = 5.0
LAST_WRITE_WITHIN_S: Final = 1.0
"""How long an end waits for the write that is under way: grpc can send no status before it, and the agent would not hear why."""

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


class SessionStream:
    """Serves one call from hello to its end.

    The call's own task reads, for a task costs a kilobyte of each of 10,000 sessions; whatever else ends the session cancels it.
    """

    def __init__(self, door: Door, context: Context, *, hello_within_s: float = HELLO_WITHIN_S) -> None:
        self._door = door
        self._context = context
        self._hello_within_s = hello_within_s
        self._opened: tuple[Session, Desk] | None = None
        self._task: asyncio.Task[Any] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._writing = False
        self._over = False
        self._error: BaseException | None = None

    async def serve(self, requests: AsyncIterator[ms.ReportHealthRequest]) -> None:
        """Returns when the agent has half-closed, or is gone: the two look the same.

        Raises:
            VmhaError: What ended the session.
        """
        self._task = task = asyncio.current_task()
        assert task is not None
        late = asyncio.get_running_loop().call_later(self._hello_within_s, self._hello_is_late)
        try:
            await self._read(requests)
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
            late.cancel()
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
            desk.close(session)
            # Its end was handed on by this call; nobody else retrieves it.
            session.end()
            session.ended.exception()

    async def _read(self, requests: AsyncIterator[ms.ReportHealthRequest]) -> None:
        async for message in requests:
            if self._opened is None:
                await self._open(message)
            elif (kind := message.WhichOneof("payload")) == "hello":
                raise PreconditionFailed("HELLO_REPEATED", "hello was sent already; it opens a session only once")
            else:
                session, desk = self._opened
                if kind == "heartbeat":
                    # Far more often than all others together: not even the log's context is set for it.
                    desk.handle(session, message)
                else:
                    with bound(host_id=session.host_id, cluster_id=session.cluster_id):
                        desk.handle(session, message)
            # Of each session one would be kept until the next arrives.
            del message

    async def _open(self, message: ms.ReportHealthRequest) -> None:
        if message.WhichOneof("payload") != "hello":
            raise PreconditionFailed("HELLO_EXPECTED", "the first message of a session must be hello")
        self._opened = session, _ = await self._door.open(message.hello)
        session.ended.add_done_callback(self._session_ended)
        self._writer = asyncio.create_task(self._write(session), name=f"session writer {session.host_id}")

    async def _write(self, session: Session) -> None:
        try:
            while not self._over:
                message = await session.outbox.get()
                self._writing = True
                await self._context.write(message)
                self._writing = False
                del message
        except (grpc.aio.InternalError, grpc.aio.UsageError, asyncio.InvalidStateError):
            self._finish(None)

    def _hello_is_late(self) -> None:
        if self._opened is None:
            self._finish(PreconditionFailed("HELLO_EXPECTED", f"no hello within {self._hello_within_s:g} s"))

    def _session_ended(self, ended: asyncio.Future[None]) -> None:
        self._finish(ended.exception())

    def _finish(self, error: BaseException | None) -> None:
        if not self._over:
            self._over, self._error = True, error
            assert self._task is not None
            self._task.cancel()
