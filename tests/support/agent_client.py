"""An agent that does what a test says: it speaks the contract's session and keeps what the manager answers."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import grpc

from vmha.errors import VmhaError
from vmha.model import PeerVerdict
from vmha.rpc.errors import from_rpc_error
from vmha.rpc.scalars import duration, enum_to_proto
from vmha.v1 import heartbeat_pb2, host_pb2, vm_pb2
from vmha.v1 import manager_service_pb2 as ms
from vmha.v1 import manager_service_pb2_grpc as ms_grpc

WAIT_S = 10.0

FACTS = host_pb2.HostFacts(vcpus=8, memory_mib=16384, operating_system="debian-12")
XML = "<domain type='kvm'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>64</memory><vcpu>1</vcpu></domain>"
RUNNING, SHUTOFF = vm_pb2.VmState.VM_STATE_RUNNING, vm_pb2.VmState.VM_STATE_SHUTOFF
ABSENT = vm_pb2.VmState.VM_STATE_ABSENT


def vm_id(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def vm_report(number: int, state: vm_pb2.VmState = RUNNING, *, reason: str = "", xml: bool = True, epoch: int = 0) -> ms.VmReport:
    name = f"vm{number}"
    report = ms.VmReport(vm_id=vm_id(number), name=name, state=state, state_reason=reason, epoch=epoch)
    if xml:
        report.domain_xml = XML.format(name=name, uuid=vm_id(number))
        report.facts.CopyFrom(vm_pb2.VmFacts(vcpus=1, memory_mib=64, ha_enabled=True))
    return report


class Agent:
    """One agent process on one boot of a host; `connect` may be called again after a session ended."""

    def __init__(self, channel: grpc.aio.Channel, host_id: str, *, boot_id: str = "", incarnation: int = 0) -> None:
        self._stub = ms_grpc.ManagerServiceStub(channel)
        self.host_id = host_id
        self.boot_id = boot_id or f"boot-{host_id}-1"
        self.instance_id = uuid.uuid4().hex
        self.incarnation = incarnation
        self.sequence = 0
        self.beat = 0
        self.nonce = ""
        self.config = ms.AgentConfig()
        self.self_fencing = False
        self.watchdog = False
        self.generation = 0
        self.acks: list[heartbeat_pb2.HeartbeatAck] = []
        self.received: list[ms.ReportHealthResponse] = []
        self.error: VmhaError | None = None
        self._news = asyncio.Condition()
        self._writing = asyncio.Lock()
        self._call: Any = None
        self._reader: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None

    # The stream

    async def open(self) -> None:
        """Open the call; says nothing yet."""
        self.error, self.received = None, []
        self._call = self._stub.ReportHealth()
        self._reader = asyncio.create_task(self._read(self._call))

    async def hello(self) -> ms.SessionWelcome:
        await self.send(hello=self.hello_message())
        return (await self.next("welcome")).welcome

    async def connect(self) -> ms.SessionWelcome:
        """Open the call and say hello."""
        await self.open()
        return await self.hello()

    def hello_message(self) -> ms.AgentHello:
        return ms.AgentHello(
            host_id=self.host_id,
            boot_id=self.boot_id,
            agent_instance_id=self.instance_id,
            incarnation=self.incarnation,
            config_version=self.config.version,
            store_generation=self.generation,
            self_fencing=self.self_fencing,
            watchdog=self.watchdog,
        )

    async def send(self, **payload: Any) -> None:
        """One message. Where the stream ends under it, `error` tells what the manager said.

        Raises:
            grpc.aio.AioRpcError: The call has ended with an error before.
            asyncio.InvalidStateError: It has ended without one.
        """
        message = ms.ReportHealthRequest(**payload).SerializeToString()
        # A test and its beating task both send, and grpc.aio takes one write at a time.
        async with self._writing:
            await self._call.wait_for_connection()
            if self._call.done():
                raise asyncio.InvalidStateError("the call has ended")
            # Not `write`: it puts an error of its own in the place of the manager's status when the stream ends under it.
            with contextlib.suppress(grpc.aio.InternalError):
                await self._call._cython_call.send_serialized_message(message)

    async def next(self, kind: str, where: Callable[[Any], bool] = lambda _: True) -> ms.ReportHealthResponse:
        """The first message of a kind that was not taken yet."""

        def found() -> ms.ReportHealthResponse | None:
            return next((m for m in self.received if m.WhichOneof("payload") == kind and where(getattr(m, kind))), None)

        async with asyncio.timeout(WAIT_S), self._news:
            await self._news.wait_for(lambda: found() is not None or self.error is not None)
        message = found()
        assert message is not None, f"waited for {kind}, but the session ended: {self.error and self.error.reason}"
        self.received.remove(message)
        return message

    async def ended(self) -> VmhaError:
        """Waits for the manager to end the session with an error."""
        async with asyncio.timeout(WAIT_S), self._news:
            await self._news.wait_for(lambda: self.error is not None)
        assert self.error is not None
        return self.error

    async def vanish(self) -> None:
        """The process is gone: no goodbye."""
        for task in (self._beating, self._reader):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        self._beating = self._reader = None
        if self._call is not None:
            self._call.cancel()

    async def half_close(self) -> None:
        await self._call.done_writing()

    async def _read(self, call: Any) -> None:
        try:
            async for message in call:
                if message.WhichOneof("payload") == "heartbeat_acks":
                    self.acks += message.heartbeat_acks.acks
                    self.nonce = message.heartbeat_acks.acks[-1].nonce
                    self.generation = max(self.generation, message.heartbeat_acks.acks[-1].store_generation)
                if message.HasField("config"):
                    self.config = message.config
                elif message.HasField("welcome") and message.welcome.HasField("config"):
                    self.config = message.welcome.config
                await self._note(message)
        except grpc.aio.AioRpcError as error:
            self.error = from_rpc_error(error)
            await self._note(None)

    async def _note(self, message: ms.ReportHealthResponse | None) -> None:
        async with self._news:
            if message is not None and message.WhichOneof("payload") != "heartbeat_acks":
                self.received.append(message)
            self._news.notify_all()

    # What agents do

    async def register(self, vms: Iterable[ms.VmReport] = (), *, facts: host_pb2.HostFacts = FACTS) -> ms.OwnershipUpdate:
        """Registration, inventory, the offer, its first heartbeat, and what the manager says the host owns."""
        listed = list(vms)
        await self.send(registration=ms.AgentRegistration(boot_token=uuid.uuid4().hex))
        await self.inventory(listed, facts=facts)
        self.incarnation = (await self.next("offer")).offer.incarnation
        await self.heartbeat()
        return (await self.next("ownership", lambda m: m.incarnation == self.incarnation)).ownership

    async def inventory(
        self, vms: Iterable[ms.VmReport], *, full: bool = True, more: bool = False, facts: host_pb2.HostFacts | None = FACTS
    ) -> int:
        self.sequence += 1
        sequence = self.sequence
        host = facts if full else None
        report = ms.InventoryReport(sequence=sequence, full=full, more=more, host=host, vms=list(vms))
        await self.send(inventory=report)
        return sequence

    async def acked(self, sequence: int) -> None:
        await self.next("report_ack", lambda ack: ack.sequence == sequence)

    async def report(self, verdicts: dict[str, PeerVerdict], *, scout_id: str = "") -> int:
        self.sequence += 1
        sequence = self.sequence
        observations = [
            ms.PeerObservation(
                host_id=host_id,
                verdict=enum_to_proto(host_pb2.PeerVerdict, verdict),
                consecutive_count=3,
                age=duration(0.0),
            )
            for host_id, verdict in verdicts.items()
        ]
        await self.send(report=ms.HealthReport(sequence=sequence, observations=observations, scout_id=scout_id))
        return sequence

    def own_heartbeat(self, *, config_version: int | None = None) -> heartbeat_pb2.Heartbeat:
        self.beat += 1
        return heartbeat_pb2.Heartbeat(
            config_version=self.config.version if config_version is None else config_version,
            store_generation=self.generation,
            self_fencing=self.self_fencing,
            host_id=self.host_id,
            incarnation=self.incarnation,
            sequence=self.beat,
            agent_instance_id=self.instance_id,
            echoed_nonce=self.nonce,
        )

    async def heartbeat(self, *, config_version: int | None = None) -> int:
        await self.send(heartbeat=ms.AgentHeartbeat(own=self.own_heartbeat(config_version=config_version)))
        return self.beat

    def keep_beating(self, interval_s: float = 0.05, verdicts: Callable[[], dict[str, PeerVerdict]] | None = None) -> None:
        """Heartbeats, and reports of what `verdicts` says, until the session ends or the agent vanishes."""

        async def beats() -> None:
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                while True:
                    await self.heartbeat()
                    if verdicts is not None and (seen := verdicts()):
                        await self.report(seen)
                    await asyncio.sleep(interval_s)

        self._beating = asyncio.create_task(beats())

    async def fall_silent(self) -> None:
        """No more heartbeats; the stream stays open, so no write may be cut short: grpc.aio would end the call with it."""
        assert self._beating is not None
        async with self._writing:
            self._beating.cancel()


@contextlib.asynccontextmanager
async def many(agents: list[Agent]) -> AsyncIterator[list[Agent]]:
    """Agents that vanish at the end of a test, whatever happens."""
    try:
        yield agents
    finally:
        for agent in agents:
            await agent.vanish()
