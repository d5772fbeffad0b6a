"""One question to a host: does its libvirt exporter answer? Used by agents and by the manager.

The answer keeps apart what a single "no" would mix up: REFUSED and DEGRADED need a living kernel, TIMEOUT is silence. A fault of
our own side (name service, file descriptors, a local firewall) is DEGRADED, never TIMEOUT: it is no evidence against the host.
"""

from __future__ import annotations

import asyncio
import errno
import re
from dataclasses import dataclass
from typing import Final, Protocol

import aiohttp

from vmha.model import PeerVerdict

MAX_BODY_BYTES: Final = 8 * 1024 * 1024
"""Where reading a scrape stops: some 10,000 domains."""
_MAX_PARALLEL: Final = 256
_UP: Final = re.compile(rb"^libvirt_up(?:\{[^}\n]*\})?[ \t]+(\S+)", re.MULTILINE)
_OUR_OWN_FAULT: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """What one probe saw.

    Attributes:
        round_trip_s: From the request to the whole answer; None when there was none.
        detail: For people and logs: what exactly went wrong. Empty for OK.
    """

    verdict: PeerVerdict
    round_trip_s: float | None = None
    detail: str = ""


class ExporterProbe(Protocol):
    """Asks one exporter, once."""

    async def probe(self, target: str, timeout_s: float) -> ProbeResult:
        """Never raises for anything that the host or the network does. `target` is `host:port`."""
        ...


class HttpExporterProbe:
    """The real one: a new connection for every probe, so that a dead host cannot be alive in a pool."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def probe(self, target: str, timeout_s: float) -> ProbeResult:
        """See `ExporterProbe`. Takes at most three times `timeout_s`: name, connection, answer."""
        if self._session is None:
            self._session = open_session()
        return await probe(self._session, target, timeout_s)

    async def close(self) -> None:
        """Give the sockets back."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def open_session() -> aiohttp.ClientSession:
    """A session whose connections are used once. Close it."""
    connector = aiohttp.TCPConnector(force_close=True, limit=_MAX_PARALLEL, use_dns_cache=False)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept": "text/plain", "Accept-Encoding": "identity", "User-Agent": "vmha-probe"},
        trust_env=False,
    )


async def probe(session: aiohttp.ClientSession, target: str, timeout_s: float) -> ProbeResult:
    """GET http://`target`/metrics. Connecting, and each wait for an answer, may take `timeout_s`; in all three times that."""
    started = asyncio.get_running_loop().time()
    # A limit on the whole also counts looking up the name, so it leaves room for a full connect phase after that.
    limits = aiohttp.ClientTimeout(total=3 * timeout_s, sock_connect=timeout_s, sock_read=timeout_s)
    try:
        async with session.get(f"http://{target}/metrics", timeout=limits, allow_redirects=False) as response:
            body = await _bounded_body(response)
            verdict, detail = _judge(response.status, body)
    except aiohttp.ConnectionTimeoutError:
        return ProbeResult(verdict=PeerVerdict.TIMEOUT, detail=f"no connection within {timeout_s:g} s")
    except aiohttp.ClientConnectorDNSError:
        return ProbeResult(verdict=PeerVerdict.DEGRADED, detail="its name could not be resolved")
    except aiohttp.ClientConnectorError as error:
        return _connect_failed(error.os_error)
    except TimeoutError:
        return ProbeResult(verdict=PeerVerdict.DEGRADED, detail=f"connected, but no full answer within {timeout_s:g} s")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return ProbeResult(verdict=PeerVerdict.DEGRADED, detail=f"connected, but no usable answer: {type(error).__name__}")
    return ProbeResult(verdict=verdict, round_trip_s=asyncio.get_running_loop().time() - started, detail=detail)


async def _bounded_body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(65536):
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            break
    return bytes(body)


def _judge(status: int, body: bytes) -> tuple[PeerVerdict, str]:
    if status != 200:
        return PeerVerdict.DEGRADED, f"the exporter answered HTTP {status}"
    found = _UP.search(body)
    if found is None:
        return PeerVerdict.DEGRADED, "no libvirt_up in the scrape"
    try:
        up = float(found[1]) == 1.0
    except ValueError:
        up = False
    return (PeerVerdict.OK, "") if up else (PeerVerdict.DEGRADED, f"libvirt_up {found[1][:20].decode(errors='replace')}")


def _connect_failed(error: OSError) -> ProbeResult:
    name = errno.errorcode.get(error.errno or 0, "connect failed")
    if error.errno == errno.ECONNREFUSED:
        return ProbeResult(verdict=PeerVerdict.REFUSED, detail="connection refused")
    if error.errno == errno.ECONNRESET:
        return ProbeResult(verdict=PeerVerdict.DEGRADED, detail="connection reset")
    if error.errno in _OUR_OWN_FAULT:
        return ProbeResult(verdict=PeerVerdict.DEGRADED, detail=f"not sent by this host: {name}")
    return ProbeResult(verdict=PeerVerdict.TIMEOUT, detail=name)
