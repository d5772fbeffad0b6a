"""Connections to managers, behind a Protocol so that the simulator can put its own network in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import grpc

from vmha.rpc.channel import open_channel
from vmha.rpc.tls import TlsFiles
from vmha.v1.manager_service_pb2_grpc import ManagerServiceStub

if TYPE_CHECKING:
    from vmha.v1.manager_service_pb2_grpc import ManagerServiceAsyncStub


class ManagerConnection(Protocol):
    """One connection to one manager; it need not be established yet."""

    @property
    def stub(self) -> ManagerServiceAsyncStub:
        """ManagerService at its other end."""
        ...

    async def close(self) -> None:
        """Give it up, with every call on it."""
        ...


class Managers(Protocol):
    """The way to managers."""

    def connect(self, target: str) -> ManagerConnection:
        """A new connection to `host:port`. A fresh one each time: an old one would wait out its own backoff first."""
        ...


class GrpcManagers:
    """Over gRPC."""

    def __init__(self, tls: TlsFiles | None = None) -> None:
        self._tls = tls

    def connect(self, target: str) -> ManagerConnection:
        """Opens a channel."""
        return _GrpcConnection(open_channel(target, self._tls))


class _GrpcConnection:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self.stub = ManagerServiceStub(channel)

    async def close(self) -> None:
        await self._channel.close()
