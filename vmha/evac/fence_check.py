"""Asks a host's fence device for its status outside any evacuation: does it work before it is needed? Switches nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from vmha.clock import Clock
from vmha.evac.fencing import FenceDevice, FenceFailed, Power
from vmha.evac.reasons import ProofReason
from vmha.model import FenceConfig
from vmha.store import Store

AT_ONCE: Final = 8
"""Fence agents are processes, and a device may serve several hosts: checks above this number wait for their turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceAnswer:
    """What the device said.

    Attributes:
        power: None without an answer that counts; `reason` says why then.
        message: For people, without secrets.
        agent: Empty when the host has no fence device.
        took_s: Without the wait for its turn.
    """

    power: Power | None
    reason: ProofReason | None
    message: str
    agent: str
    took_s: float = 0.0


class FenceCheck:
    """Checks devices."""

    def __init__(self, store: Store, device: FenceDevice, clock: Clock) -> None:
        self._store, self._device, self._clock = store, device, clock
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def check(self, cluster_id: str, host_id: str) -> FenceAnswer:
        """Reads a host's power once, within fence_timeout_s.

        Raises:
            NotFound: CLUSTER_UNKNOWN, HOST_UNKNOWN.
            Unavailable: STORE_UNAVAILABLE.
        """
        timers = (await self._store.clusters.get(cluster_id)).config.timers
        fence = (await self._store.hosts.get(cluster_id, host_id)).config.fence
        if fence is None:
            message = "the host has no fence device configured"
            return FenceAnswer(power=None, reason=ProofReason.FENCE_NOT_CONFIGURED, message=message, agent="")
        async with self._turn:
            began = self._clock.now()
            power, reason, message = await self._read(fence, timers.fence_timeout_s)
            took_s = self._clock.now() - began
        return FenceAnswer(power=power, reason=reason, message=message, agent=fence.agent, took_s=took_s)

    async def _read(self, fence: FenceConfig, timeout_s: float) -> tuple[Power | None, ProofReason | None, str]:
        try:
            power = await self._device.read(fence, timeout_s)
        except FenceFailed as error:
            return None, error.reason, str(error)
        return power, None, f"{fence.agent} reads {power.lower()}"
