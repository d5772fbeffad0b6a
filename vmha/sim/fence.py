"""Simulated fence devices: they read and switch a host's power, as long as the evacuator reaches them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from vmha.evac.fencing import FenceFailed, Power
from vmha.evac.reasons import ProofReason
from vmha.model import FenceConfig
from vmha.sim.network import FENCE, Network
from vmha.sim.process import Process

AGENT: Final = "fence_sim"
ANSWER_S: Final = 0.05
SWITCH_S: Final = 0.2
"""From the order to a host without power."""


class Powered(Protocol):
    """A host's power."""

    @property
    def powered(self) -> bool:
        """Whether it is on."""
        ...


def config_of(host_id: str) -> FenceConfig:
    """How a host's device is configured."""
    return FenceConfig(agent=AGENT, parameters={"plug": host_id})


class SimFence:
    """See `FenceDevice`.

    Args:
        failing: Hosts whose device gives no answer.
        cut: Takes a host's power away.
    """

    def __init__(
        self, process: Process, network: Network, hosts: Mapping[str, Powered], failing: set[str], cut: Callable[[str], None]
    ) -> None:
        self._process, self._network, self._hosts, self._failing, self._cut = process, network, hosts, failing, cut

    async def read(self, config: FenceConfig, timeout_s: float) -> Power:
        """See `FenceDevice`."""
        host_id = await self._reach(config, timeout_s, ANSWER_S)
        return Power.ON if self._hosts[host_id].powered else Power.OFF

    async def order_off(self, config: FenceConfig, timeout_s: float) -> None:
        """See `FenceDevice`."""
        self._cut(await self._reach(config, timeout_s, SWITCH_S))

    async def _reach(self, config: FenceConfig, timeout_s: float, span_s: float) -> str:
        self._process.require_alive()
        host_id = config.parameters.get("plug", "")
        if host_id not in self._hosts or not self._network.exchange(self._process.node, FENCE):
            await asyncio.sleep(timeout_s)
            raise FenceFailed(ProofReason.FENCE_TIMEOUT, f"{config.agent} gave no answer within {timeout_s:g} s")
        await asyncio.sleep(min(span_s, timeout_s))
        self._process.require_alive()
        if host_id in self._failing:
            raise FenceFailed(ProofReason.FENCE_FAILED, f"{config.agent} ended with 1: the simulated device does not answer")
        return host_id
