"""The probe against real sockets on loopback."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest

from vmha import probe as probe_module
from vmha.model import PeerVerdict
from vmha.probe import HttpExporterProbe, ProbeResult, open_session, probe

TIMEOUT_S = 0.3
UP = b"# TYPE libvirt_up gauge\nlibvirt_domain_info 3\nlibvirt_up 1\n"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def exporter(handler: Handler) -> AsyncIterator[str]:
    handled: list[asyncio.Task[None]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handled.append(asyncio.create_task(handle(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    await asyncio.wait_for(asyncio.gather(*handled), 5)


def answering(body: bytes, status: str = "200 OK") -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    return handle


async def ask(target: str) -> ProbeResult:
    async with open_session() as session:
        return await probe(session, target, TIMEOUT_S)


async def ask_exporter(handler: Handler) -> ProbeResult:
    async with exporter(handler) as target:
        return await ask(target)


async def test_a_working_exporter_is_ok() -> None:
    """An answer with libvirt_up 1 is OK and carries the round trip."""
    result = await ask_exporter(answering(UP))

    assert result.verdict is PeerVerdict.OK
    assert result.round_trip_s is not None and 0 < result.round_trip_s < TIMEOUT_S * 3


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"libvirt_up 0\n", "200 OK"),
        (b"libvirt_up NaN\n", "200 OK"),
        (b"libvirt_up one\n", "200 OK"),
        (b"# libvirt_up 1\nnot_libvirt_up 1\n", "200 OK"),
        (b"", "200 OK"),
        (UP, "500 Internal Server Error"),
        (UP, "302 Found"),
    ],
)
async def test_an_answer_that_says_no_is_degraded(body: bytes, status: str) -> None:
    """Whatever a living host answers wrongly, its kernel took the connection: DEGRADED, never a vote for down."""
    assert (await ask_exporter(answering(body, status))).verdict is PeerVerdict.DEGRADED


async def test_labels_on_libvirt_up_are_read_over() -> None:
    """Exporters may put labels on libvirt_up."""
    assert (await ask_exporter(answering(b'libvirt_up{uri="qemu:///system"} 1\n'))).verdict is PeerVerdict.OK


async def test_an_exporter_that_hangs_after_accepting_is_degraded() -> None:
    """One hanging guest makes a scrape take 30 s: the host is alive."""

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    result = await ask_exporter(hang)

    assert result.verdict is PeerVerdict.DEGRADED
    assert result.round_trip_s is None


async def test_a_frozen_exporter_is_degraded() -> None:
    """A process that is stopped accepts nothing, but its kernel completes the handshake."""
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        assert (await ask(f"127.0.0.1:{frozen.getsockname()[1]}")).verdict is PeerVerdict.DEGRADED


async def test_an_answer_in_drops_is_cut_off() -> None:
    """A byte at a time keeps every single wait short; the whole is bounded nevertheless."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(b"#")
            await writer.drain()
            await asyncio.sleep(TIMEOUT_S / 5)

    started = asyncio.get_running_loop().time()
    result = await ask_exporter(drip)

    assert result.verdict is PeerVerdict.DEGRADED
    assert asyncio.get_running_loop().time() - started < TIMEOUT_S * 5


async def test_a_closed_port_is_refused() -> None:
    """A refused connection is an answer of a living kernel, and kept apart."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{closed.getsockname()[1]}"

    result = await ask(target)

    assert result.verdict is PeerVerdict.REFUSED


async def test_a_reset_connection_is_degraded() -> None:
    """Who resets a connection is alive."""

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()

    assert (await ask_exporter(reset)).verdict is PeerVerdict.DEGRADED


async def test_something_that_speaks_no_http_is_degraded() -> None:
    """Another service on the port is not the host's death."""

    async def ssh(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await writer.drain()
        writer.close()

    assert (await ask_exporter(ssh)).verdict is PeerVerdict.DEGRADED


async def test_an_endless_answer_is_read_to_a_bound_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape without end costs bounded memory and is DEGRADED when libvirt_up was not among what was read."""
    monkeypatch.setattr(probe_module, "MAX_BODY_BYTES", 200_000)
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while True:
            writer.write(b"x 1\n" * 10_000)
            await writer.drain()
            sent += 40_000

    result = await ask_exporter(flood)

    assert result.verdict is PeerVerdict.DEGRADED
    assert sent < 20_000_000


async def test_a_black_hole_is_a_timeout() -> None:
    """Nothing answers the SYN: the one result that counts as silence. A full backlog drops SYNs without a word."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        fillers = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(address)
            fillers.append(filler)
        try:
            result = await ask(f"127.0.0.1:{address[1]}")
        finally:
            for filler in fillers:
                filler.close()

    assert result.verdict is PeerVerdict.TIMEOUT
    assert result.round_trip_s is None


async def test_a_name_that_does_not_resolve_is_our_own_fault() -> None:
    """A broken resolver must not bury all hosts at once."""
    assert (await ask("no-such-host.invalid:9177")).verdict is PeerVerdict.DEGRADED


async def test_a_target_that_is_no_target_is_degraded() -> None:
    """A broken configuration is no evidence either."""
    assert (await ask("not a target")).verdict is PeerVerdict.DEGRADED


async def test_every_probe_makes_a_new_connection() -> None:
    """A host that died must not look alive through a pooled connection."""
    connections = 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await answering(UP)(reader, writer)

    async with exporter(count) as target:
        prober = HttpExporterProbe()
        for _ in range(3):
            assert (await prober.probe(target, TIMEOUT_S)).verdict is PeerVerdict.OK
        await prober.close()

    assert connections == 3


async def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would answer for a dead host."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    assert (await ask_exporter(answering(UP))).verdict is PeerVerdict.OK


def test_connect_timeouts_have_a_type_of_their_own() -> None:
    """The probe tells the connect phase from the answer by aiohttp's exception types."""
    assert issubclass(aiohttp.ConnectionTimeoutError, TimeoutError)
    assert not issubclass(aiohttp.SocketTimeoutError, aiohttp.ConnectionTimeoutError)
