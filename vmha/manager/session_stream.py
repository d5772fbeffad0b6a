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
    """Serves one call from hello to its end."""

    def __init__(self, door: Door, context: Context, *, hello_within_s: float = HELLO_WITHIN_S) -> None:
        self._door = door
        self._context = context
        self._hello_within_s = hello_within_s
        self._opened: tuple[Session, Desk] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._writing = False
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def serve(self, requests: AsyncIterator[ms.ReportHealthRequest]) -> None:
        """Returns when the agent has half-closed, or is gone: the two look the same.

        Raises:
            VmhaError: What ended the session.
        """
        late = asyncio.get_running_loop().call_later(self._hello_within_s, self._hello_is_late)
        reader = asyncio.create_task(self._read(requests), name="session reader")
        reader.add_done_callback(self._reader_done)
        try:
            await self._over
        finally:
            late.cancel()
            await self._stop(reader)
            if self._over.done() and not self._over.cancelled():
                self._over.exception()
            if self._opened is not None:
                session, desk = self._opened
                desk.close(session)
                # Its end was handed on by this call; nobody else retrieves it.
                session.end()
                session.ended.exception()

    async def _stop(self, reader: asyncio.Task[None]) -> None:
        tasks = [reader]
        reader.cancel()
        if self._writer is not None:
            tasks.append(self._writer)
            if self._writing:
                await asyncio.wait([self._writer], timeout=LAST_WRITE_WITHIN_S)
            self._writer.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

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
                    continue
                with bound(host_id=session.host_id, cluster_id=session.cluster_id):
                    desk.handle(session, message)

    async def _open(self, message: ms.ReportHealthRequest) -> None:
        if message.WhichOneof("payload") != "hello":
            raise PreconditionFailed("HELLO_EXPECTED", "the first message of a session must be hello")
        self._opened = session, _ = await self._door.open(message.hello)
        session.ended.add_done_callback(self._session_ended)
        self._writer = asyncio.create_task(self._write(session), name=f"session writer {session.host_id}")

    async def _write(self, session: Session) -> None:
        try:
            while not self._over.done():
                message = await session.outbox.get()
                self._writing = True
                await self._context.write(message)
                self._writing = False
        except (grpc.aio.InternalError, grpc.aio.UsageError, asyncio.InvalidStateError):
            self._finish(None)

    def _hello_is_late(self) -> None:
        if self._opened is None:
            self._finish(PreconditionFailed("HELLO_EXPECTED", f"no hello within {self._hello_within_s:g} s"))

    def _session_ended(self, ended: asyncio.Future[None]) -> None:
        error = ended.exception()
        self._finish(error)

    def _reader_done(self, reader: asyncio.Task[None]) -> None:
        error = None if reader.cancelled() else reader.exception()
        if error is not None and not isinstance(error, VmhaError):
            _log.error("session failed", exc_info=error)
        self._finish(error)

    def _finish(self, error: BaseException | None) -> None:
        if self._over.done():
            return
        if error is None:
            self._over.set_result(None)
        else:
            self._over.set_exception(error)
