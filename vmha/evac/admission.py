"""Asks a target's agent to let a VM execute (R12). One channel for each agent, kept open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import grpc

from vmha.errors import VmhaError
from vmha.model import VmState
from vmha.rpc.channel import open_channel
from vmha.rpc.errors import from_rpc_error
from vmha.rpc.tls import TlsFiles
from vmha.store.records import EvacuationRecord, HostRecord, VmEntry
from vmha.v1 import agent_service_pb2, agent_service_pb2_grpc, vm_pb2

CONNECT_TIMEOUT_S = 5.0
CHANNELS_KEPT = 512


class AgentNotReached(Exception):
    """There was no connection to the agent: it was asked nothing."""


class Admission(Protocol):
    """The agents of a cluster, as the evacuator sees them."""

    async def admit(self, host: HostRecord, evacuation: EvacuationRecord, entry: VmEntry, timeout_s: float) -> VmState:
        """Lets it execute; safe to repeat.

        Raises:
            AgentNotReached: It was asked nothing.
            Unavailable: Nobody knows whether it was done.
            VmhaError: The agent refused.
        """
        ...

    async def connect(self, host: HostRecord) -> None:
        """Opens the connection, so that the first VM does not wait for it; never raises for a host that is away."""
        ...


class GrpcAdmission:
    """AgentService.AdmitVm over gRPC. `connect` makes the channel to a host's agent; None: a real one, with `tls`."""

    def __init__(self, tls: TlsFiles | None = None, connect: Callable[[str, str], grpc.aio.Channel] | None = None) -> None:
        self._open = connect or (lambda host_id, target: open_channel(target, tls, host_id=host_id))
        self._channels: dict[tuple[str, str], grpc.aio.Channel] = {}

    async def admit(self, host: HostRecord, evacuation: EvacuationRecord, entry: VmEntry, timeout_s: float) -> VmState:
        """Calls AdmitVm, once."""
        channel = await self._connected(host, min(timeout_s, CONNECT_TIMEOUT_S))
        request = agent_service_pb2.AdmitVmRequest(
            cluster_id=evacuation.cluster_id,
            host_id=host.host_id,
            incarnation=entry.target_incarnation,
            vm_id=entry.vm_id,
            epoch=entry.epoch,
            evacuation_id=evacuation.evacuation_id,
        )
        stub = agent_service_pb2_grpc.AgentServiceStub(channel)
        try:
            answer = await stub.AdmitVm(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        name = vm_pb2.VmState.Name(answer.state).removeprefix("VM_STATE_")
        return VmState(name) if name in VmState.__members__ else VmState.UNSPECIFIED

    async def connect(self, host: HostRecord) -> None:
        """Opens the channel."""
        try:
            await self._connected(host, CONNECT_TIMEOUT_S)
        except (AgentNotReached, VmhaError):
            return  # it is asked again when a VM is to start there

    async def _connected(self, host: HostRecord, timeout_s: float) -> grpc.aio.Channel:
        agent = host.host_id, host.config.agent_target
        channel = self._channels.get(agent)
        if channel is None:
            if len(self._channels) >= CHANNELS_KEPT:
                await self._channels.pop(next(iter(self._channels))).close(CONNECT_TIMEOUT_S)
            channel = self._channels[agent] = self._open(*agent)
        if channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
            return channel
        try:
            async with asyncio.timeout(timeout_s):
                await channel.channel_ready()
        except TimeoutError:
            raise AgentNotReached(f"the agent of {host.host_id} cannot be reached") from None
        return channel

    async def close(self) -> None:
        """Closes all channels."""
        channels, self._channels = list(self._channels.values()), {}
        await asyncio.gather(*(channel.close() for channel in channels))
