"""Probes of simulated exporters: what a prober sees of a host through the network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from vmha.model import PeerVerdict
from vmha.probe import ProbeResult
from vmha.sim.network import BASE_LATENCY_S, Network

PORT: Final = 9177
_OK: Final = ProbeResult(verdict=PeerVerdict.OK, round_trip_s=4 * BASE_LATENCY_S)
_REFUSED: Final = ProbeResult(verdict=PeerVerdict.REFUSED, detail="connection refused")
_LIES: Final = {"up": _OK, "down": ProbeResult(verdict=PeerVerdict.TIMEOUT, detail="a lie")}


class Probed(Protocol):
    """A host, as a prober finds it."""

    @property
    def powered(self) -> bool:
        """Its kernel runs."""
        ...

    @property
    def exporter_up(self) -> bool:
        """Its exporter listens."""
        ...

    @property
    def libvirt_answers(self) -> bool:
        """Its exporter gets what it asks for."""
        ...


@dataclass(slots=True)
class Lie:
    """What a host's agent says of others, whatever it saw: `says` is "up" or "down"."""

    says: str
    of: frozenset[str]


class SimProbe:
    """See `ExporterProbe`.

    Args:
        node: Where it is asked from.
        hosts: By host_id.
        alive: Raises CancelledError when the process is dead.
        lie: What this prober lies about now; None: it tells the truth.
    """

    def __init__(
        self,
        node: str,
        network: Network,
        hosts: Mapping[str, Probed],
        alive: Callable[[], bool],
        lie: Callable[[], Lie | None] = lambda: None,
    ) -> None:
        self._node, self._network, self._hosts, self._alive, self._lie = node, network, hosts, alive, lie

    async def probe(self, target: str, timeout_s: float) -> ProbeResult:
        """See `ExporterProbe`."""
        host_id = target.rpartition(":")[0]
        self._alive()
        lie = self._lie()
        if lie is not None and host_id in lie.of:
            return _LIES[lie.says]
        host = self._hosts.get(host_id)
        if host is None or not host.powered or not self._network.exchange(self._node, host_id):
            # A SYN that is lost is sent again after a second: later than most timeouts.
            await asyncio.sleep(timeout_s)
            return ProbeResult(verdict=PeerVerdict.TIMEOUT, detail=f"no connection within {timeout_s:g} s")
        if not host.exporter_up:
            return _REFUSED
        if not host.libvirt_answers or not self._network.exchange(self._node, host_id):
            await asyncio.sleep(timeout_s)
            detail = f"connected, but no full answer within {timeout_s:g} s"
            return ProbeResult(verdict=PeerVerdict.DEGRADED, detail=detail)
        return _OK
