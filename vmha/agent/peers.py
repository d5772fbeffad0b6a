"""Connections to the agents of other hosts, behind a Protocol so that the simulator can put its own network in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import grpc

from vmha.rpc.channel import open_channel
from vmha.rpc.tls import TlsFiles
from vmha.v1.agent_service_pb2_grpc import AgentServiceStub

if TYPE_CHECKING:
    from vmha.v1.agent_service_pb2_grpc import AgentServiceAsyncStub


class PeerConnection(Protocol):
    """One connection to one peer's agent; it need not be established yet."""

    @property
    def stub(self) -> AgentServiceAsyncStub:
        """AgentService at its other end."""
        ...

    async def close(self) -> None:
        """Give it up, with every call on it."""
        ...


class Peers(Protocol):
    """The way to peers."""

    def connect(self, host_id: str, agent_target: str) -> PeerConnection:
        """A new connection to that host's agent at `host:port`."""
        ...


class GrpcPeers:
    """Over gRPC; with TLS nobody else's word is taken for the host's (R24)."""

    def __init__(self, tls: TlsFiles | None = None) -> None:
        self._tls = tls

    def connect(self, host_id: str, agent_target: str) -> PeerConnection:
        """Opens a channel."""
        return _GrpcConnection(open_channel(agent_target, self._tls, host_id=host_id))


class _GrpcConnection:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self.stub: AgentServiceAsyncStub = AgentServiceStub(channel)

    async def close(self) -> None:
        await self._channel.close()
