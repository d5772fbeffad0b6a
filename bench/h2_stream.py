"""One gRPC stream on a connection of its own, as cheap as it can be: what measures a server must not cost more than the server.

HTTP/2 as RFC 9113 has it, as far as one bidirectional call needs it: no flow control of ours (the windows are opened wide at the
start, and what is sent is small), no priorities, no push. A grpc.aio channel costs 3 ms of processor time to open, this 0.2.
"""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import Callable, Iterable
from typing import Final

import grpc
import hpack

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
ACK, END_STREAM, END_HEADERS, PADDED = 1, 1, 4, 8
INITIAL_WINDOW_SIZE: Final = 4
WIDEST: Final = 2**31 - 1
DEFAULT_WINDOW: Final = 65_535
STREAM: Final = 1
CONNECT_WITHIN_S: Final = 5.0
UNREACHABLE: Final = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "no connection")


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """RFC 9113, section 4.1."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def opening(authority: str, path: str) -> bytes:
    """Preface, settings, a wide window for the connection, and the headers of the call."""
    fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", authority)]
    block = hpack.Encoder().encode([*fields, ("content-type", "application/grpc"), ("te", "trailers")], huffman=False)
    settings = struct.pack(">HI", INITIAL_WINDOW_SIZE, WIDEST)
    return (
        PREFACE
        + frame(SETTINGS, 0, 0, settings)
        + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WIDEST - DEFAULT_WINDOW))
        + frame(HEADERS, END_HEADERS, STREAM, block)
    )


class H2Stream(asyncio.Protocol):
    """See the module.

    Args:
        take: Called with each message of the server.

    Attributes:
        ended: How the call ended, once: None is OK. A connection that breaks is UNAVAILABLE.
    """

    def __init__(self, take: Callable[[H2Stream, bytes], None]) -> None:
        self._take = take
        self._headers = hpack.Decoder()
        self._buffer = bytearray()
        self._messages = bytearray()
        self._transport: asyncio.Transport | None = None
        self.ended: asyncio.Future[grpc.aio.AioRpcError | None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(cls, target: str, path: str, take: Callable[[H2Stream, bytes], None]) -> H2Stream | None:
        """Connect and begin the call; None where nobody listens."""
        host, _, port = target.rpartition(":")
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                _, stream = await asyncio.get_running_loop().create_connection(lambda: cls(take), host, int(port))
        except (OSError, TimeoutError):
            return None
        stream._write(opening(target, path))
        return stream

    def send(self, message: bytes) -> None:
        """One message to the server; after the end it goes nowhere."""
        self._write(frame(DATA, 0, STREAM, struct.pack(">BI", 0, len(message)) + message))

    def close(self) -> None:
        """Give up the connection."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """The server went away."""
        self._transport = None
        self._end(UNREACHABLE)

    def data_received(self, data: bytes) -> None:
        """Any part of any frames."""
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= 9:
            length = int.from_bytes(buffer[at : at + 3], "big")
            end = at + 9 + length
            if len(buffer) < end:
                break
            self._frame(buffer[at + 3], buffer[at + 4], bytes(buffer[at + 9 : end]))
            at = end
        del buffer[:at]

    def _frame(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == DATA:
            self._on_content(payload)
        elif kind == HEADERS:
            assert flags & END_HEADERS and not flags & PADDED, "grpc-core sends small header blocks in one frame"
            fields = self._headers.decode(payload)
            if flags & END_STREAM:
                self._end(_status(fields))
        elif kind == SETTINGS and not flags & ACK:
            self._write(frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self._write(frame(PING, ACK, 0, payload))
        elif kind in {RST_STREAM, GOAWAY}:
            self._end(UNREACHABLE)

    def _on_content(self, payload: bytes) -> None:
        messages = self._messages
        messages += payload
        while len(messages) >= 5:
            end = 5 + int.from_bytes(messages[1:5], "big")
            if len(messages) < end:
                return
            message = bytes(messages[5:end])
            del messages[:end]
            self._take(self, message)

    def _write(self, frames: bytes) -> None:
        if self._transport is not None:
            self._transport.write(frames)

    def _end(self, error: grpc.aio.AioRpcError | None) -> None:
        if not self.ended.done():
            self.ended.set_result(error)


def _status(fields: Iterable[hpack.HeaderTuple]) -> grpc.aio.AioRpcError | None:
    """The error of trailers; None for OK."""
    texts = {str(name): str(value) for name, value in fields}
    number = int(texts.get("grpc-status", "2"))
    code = next(code for code in grpc.StatusCode if code.value[0] == number)
    if code is grpc.StatusCode.OK:
        return None
    trailing = grpc.aio.Metadata(*((name, _value(name, value)) for name, value in texts.items()))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, texts.get("grpc-message", ""))


def _value(name: str, value: str) -> str | bytes:
    return base64.b64decode(value + "=" * (-len(value) % 4)) if name.endswith("-bin") else value
