"""A gRPC server with health, reflection and the guard around every handler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from vmha.errors import Unavailable
from vmha.rpc.authz import Gate
from vmha.rpc.interceptors import UNARY_DEADLINE_S, CallGuard
from vmha.rpc.options import MIB, server_options
from vmha.rpc.tls import TlsFiles

Servicer = tuple[Callable[[Any, grpc.aio.Server], None], object, str]
"""`add_XServicer_to_server`, the servicer, and the service's full name as "vmha.v1.ClusterService"."""


class Serving(Protocol):
    """What a service needs of the server that it is served by; `Server` is the real one, the simulator has another."""

    async def start(self) -> int:
        """Listen and serve. Returns the port. Raises Unavailable(LISTEN_FAILED)."""
        ...

    async def set_serving(self, serving: bool) -> None:
        """Say whether the services can do their work."""
        ...

    async def stop(self, grace_s: float = 5.0) -> None:
        """Take no more calls, and cut those that run after `grace_s`."""
        ...


MakeServer = Callable[[Sequence[Servicer]], Serving]
"""Makes the server of a process, which does not listen yet."""


class Server:
    """One listening port.

    Health: "" is the process and always SERVING while it lives, whatever Redis does; each service by its name follows
    `set_serving`.
    """

    def __init__(
        self,
        servicers: Sequence[Servicer],
        listen: str,
        *,
        tls: TlsFiles | None = None,
        reflection: bool = True,
        max_receive_bytes: int = MIB,
        unary_deadline_s: float = UNARY_DEADLINE_S,
    ) -> None:
        self._servicers = list(servicers)
        self._listen = listen
        self._tls = tls
        self._reflection = reflection
        self._max_receive_bytes = max_receive_bytes
        self._unary_deadline_s = unary_deadline_s
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None
        self.port = 0

    async def start(self) -> int:
        """Listen and serve. Returns the port, which the system chose when `listen` ends in ":0".

        Raises:
            Unavailable: LISTEN_FAILED, the address is taken or not ours.
            InvalidField: A TLS file cannot be read.
        """
        options = cast("list[tuple[str, object]]", server_options(self._max_receive_bytes))
        interceptors: list[grpc.aio.ServerInterceptor] = [CallGuard(unary_deadline_s=self._unary_deadline_s)]
        if self._tls is not None:
            interceptors.append(Gate())
        server = grpc.aio.server(interceptors=interceptors, options=options)
        for add, servicer, _ in self._servicers:
            add(servicer, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if self._reflection:
            names = [*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME]
            reflection.enable_server_reflection(names, server)
        try:
            if self._tls is None:
                self.port = server.add_insecure_port(self._listen)
            else:
                self.port = server.add_secure_port(self._listen, self._tls.server_credentials())
        except RuntimeError:
            raise Unavailable("LISTEN_FAILED", f"cannot listen on {self._listen}", {"listen": self._listen}) from None
        self._server = server
        await server.start()
        await self.set_serving(True)
        return self.port

    async def set_serving(self, serving: bool) -> None:
        """Say in grpc.health.v1 whether the services can do their work; liveness ("") is not touched."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in self._names:
            await self._health.set(name, status)

    async def stop(self, grace_s: float = 5.0) -> None:
        """Take no more calls, give running ones `grace_s` to end, then cut them.

        grpc tells handlers nothing before the grace ends: whoever streams must watch its own draining event.
        """
        await self.set_serving(False)
        if self._server is not None:
            await self._server.stop(grace_s)

    @property
    def _names(self) -> list[str]:
        return [name for _, _, name in self._servicers]
