"""One run of the command line: its global options, its connections, and how a command ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, TypeVar

import grpc
import typer

from vmha.cli import exits, output
from vmha.cli.exits import Exit
from vmha.errors import FieldViolation, InvalidField, NotFound, Unavailable, VmhaError
from vmha.rpc.channel import open_channel
from vmha.rpc.checks import valid_target
from vmha.rpc.errors import from_rpc_error
from vmha.rpc.tls import TlsFiles
from vmha.v1 import cluster_service_pb2 as cs
from vmha.v1 import cluster_service_pb2_grpc, evacuation_service_pb2_grpc, event_service_pb2_grpc

R = TypeVar("R")
T_co = TypeVar("T_co", covariant=True)


class Stream(Protocol[T_co]):
    """A server's stream of messages."""

    def __aiter__(self) -> AsyncIterator[T_co]: ...

    def cancel(self) -> bool:
        """End the call."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The global options."""

    manager: str
    evac: str
    cluster: str
    output: output.Format
    timeout_s: float
    tls: TlsFiles | None

    @property
    def json(self) -> bool:
        """Whether a program reads the output."""
        return self.output is output.Format.JSON


class Connection:
    """The services that a command talks to; connects when first used."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._manager = open_channel(options.manager, options.tls)
        self._evac = open_channel(options.evac, options.tls)
        self.clusters = cluster_service_pb2_grpc.ClusterServiceStub(self._manager)
        self.events = event_service_pb2_grpc.EventServiceStub(self._manager)
        self.evacuations = evacuation_service_pb2_grpc.EvacuationServiceStub(self._evac)
        self._leaders: dict[str, grpc.aio.Channel] = {}

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._manager.close()
        await self._evac.close()
        for channel in self._leaders.values():
            await channel.close()

    async def ask(self, method: Callable[..., Awaitable[R]], request: object, timeout_s: float | None = None) -> R:
        """One unary call, within --timeout. What only a cluster's leader can do is asked of the leader then, once.

        Args:
            timeout_s: Instead of --timeout, for a call that is known to take longer.

        Raises:
            VmhaError: What the server answered, or Unavailable.
        """
        timeout_s = timeout_s or self.options.timeout_s
        try:
            return await method(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            refused = self._named(error, timeout_s)
        again = self._at_leader(method, refused)
        if again is None:
            raise refused
        try:
            return await again(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise self._named(error, timeout_s) from None

    def _at_leader(self, method: Callable[..., Awaitable[R]], refused: VmhaError) -> Callable[..., Awaitable[R]] | None:
        leader = refused.metadata.get("leader", "")
        name = next((name for name, known in vars(self.clusters).items() if known is method), None)
        if refused.reason != "NOT_LEADER" or name is None or not valid_target(leader):
            return None
        if leader not in self._leaders:
            self._leaders[leader] = open_channel(leader, self.options.tls)
        found: Callable[..., Awaitable[R]] = getattr(cluster_service_pb2_grpc.ClusterServiceStub(self._leaders[leader]), name)
        return found

    async def read(self, stream: Stream[R]) -> AsyncIterator[R]:
        """A stream's messages; the call is cancelled when the reader stops.

        Raises:
            VmhaError: As `ask`.
        """
        try:
            async for message in stream:
                yield message
        except grpc.aio.AioRpcError as error:
            raise self._named(error, self.options.timeout_s) from None
        finally:
            stream.cancel()

    async def cluster_id(self) -> str:
        """The cluster that the command is about: --cluster, or the only one there is.

        Raises:
            NotFound: CLUSTER_UNKNOWN, there is none.
            InvalidField: There are several.
        """
        if self.options.cluster:
            return self.options.cluster
        page = await self.ask(self.clusters.ListClusters, cs.ListClustersRequest(page_size=10))
        names = [cluster.cluster_id for cluster in page.clusters]
        if not names:
            raise NotFound("CLUSTER_UNKNOWN", "there is no cluster yet: vmha apply -f cluster.yaml")
        if len(names) > 1:
            raise InvalidField([FieldViolation("--cluster", f"is required: there are {', '.join(names)}")])
        return names[0]

    def _named(self, error: grpc.aio.AioRpcError, timeout_s: float) -> VmhaError:
        mapped = from_rpc_error(error)
        if mapped.reason == "PEER_UNREACHABLE":
            # grpc says a lot before it names the address and what happened there.
            return Unavailable(mapped.reason, f"no connection: {(error.details() or '').rpartition('last error: ')[2]}")
        if mapped.reason == "DEADLINE_EXCEEDED":
            return Unavailable(mapped.reason, f"no answer within {timeout_s:g} s")
        return mapped


async def pages(
    connection: Connection, method: Callable[..., Awaitable[Any]], make: Callable[[str], object], field: str
) -> list[Any]:
    """All items of a paginated list; `make` builds the request for a page token."""
    found: list[Any] = []
    token = ""
    while True:
        page = await connection.ask(method, make(token))
        found.extend(getattr(page, field))
        token = page.next_page_token
        if not token:
            return found


Work = Callable[[Connection], Awaitable[Exit | None]]


def execute(context: typer.Context, work: Work) -> None:
    """Run a command to its end. Never shows a traceback for what a server or a network does.

    Raises:
        typer.Exit: Always, with the exit code.
    """
    options: Options = context.obj

    async def run() -> Exit | None:
        async with Connection(options) as connection:
            return await work(connection)

    try:
        code = asyncio.run(run()) or Exit.OK
    except VmhaError as error:
        output.complain(error)
        code = exits.of(error)
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    raise typer.Exit(int(code))


def rows_or_json(
    connection: Connection, items: Sequence[Any], field: str, columns: Sequence[str], row: Callable[[Any], Any]
) -> None:
    """Print a list, as a table or as one JSON document {field: [...]}."""
    if connection.options.json:
        output.json_document({field: [output.as_dict(item) for item in items]})
    else:
        output.table(columns, [row(item) for item in items])
