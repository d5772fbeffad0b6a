"""Doubles of the evacuator's edges: a hypervisor in memory, agents that admit over real gRPC, an obedient fence device."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc

from vmha.errors import NotFound, PreconditionFailed, Unsupported
from vmha.evac.fencing import FenceFailed, Power
from vmha.evac.hypervisor import Busy, LockHeld, NotReached, OutcomeUnknown, Refused, TargetNotReached
from vmha.evac.reasons import ProofReason
from vmha.model import FenceConfig, VmState
from vmha.rpc.scalars import enum_to_proto
from vmha.rpc.server import Server
from vmha.v1 import agent_service_pb2 as pb
from vmha.v1 import agent_service_pb2_grpc as pb_grpc
from vmha.v1 import vm_pb2

_UUID = re.compile(r"<uuid>([^<]*)</uuid>")


@dataclass
class FakeHypervisor:
    """Domains in memory. The sets hold vm_ids, or "*" for every VM.

    A migration takes `migrate_s`, and goes on when nobody waits for it any more. `at` gives the hypervisor of another URI.
    """

    domains: dict[str, VmState] = field(default_factory=dict)
    refuses: set[str] = field(default_factory=set)
    locked: set[str] = field(default_factory=set)
    hangs: set[str] = field(default_factory=set)
    starts_then_hangs: set[str] = field(default_factory=set)
    unreachable: bool = False
    started: list[str] = field(default_factory=list)
    xml: dict[str, str] = field(default_factory=dict)
    images: set[str] = field(default_factory=set)
    rebuilt: list[tuple[str, str]] = field(default_factory=list)
    delay_s: float = 0.0
    at_once: int = 0
    most_at_once: int = 0
    at: Callable[[str], FakeHypervisor | None] = lambda _: None
    migrate_s: float = 0.0
    migrates_not: set[str] = field(default_factory=set)
    busy: set[str] = field(default_factory=set)
    deaf: set[str] = field(default_factory=set)
    answers_lost: set[str] = field(default_factory=set)
    leaving: dict[str, asyncio.Task[str]] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)
    incoming: set[str] = field(default_factory=set)
    asked_to_stop: set[str] = field(default_factory=set)

    def _reach(self) -> None:
        if self.unreachable:
            raise NotReached("connection refused")

    async def connect(self, timeout_s: float) -> None:
        self._reach()

    async def start_paused(self, vm_id: str, domain_xml: str, timeout_s: float) -> VmState:
        self._reach()
        if (said := _UUID.search(domain_xml)) is None or said[1] != vm_id:
            raise Refused("the XML defines another UUID")
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.delay_s)
        finally:
            self.at_once -= 1
        if _among(vm_id, self.hangs):
            raise OutcomeUnknown("no answer")
        if self.domains.get(vm_id) in {VmState.RUNNING, VmState.PAUSED}:
            return self.domains[vm_id]
        if _among(vm_id, self.locked):
            self.domains.pop(vm_id, None)
            raise LockHeld('Failed to get "write" lock')
        if _among(vm_id, self.refuses):
            self.domains.pop(vm_id, None)
            raise Refused("no such machine type")
        self.started.append(vm_id)
        self.xml[vm_id] = domain_xml
        self.domains[vm_id] = VmState.PAUSED
        if _among(vm_id, self.starts_then_hangs):
            raise OutcomeUnknown("the connection broke")
        return VmState.PAUSED

    async def rebuild_disk(self, vm_id: str, domain_xml: str, image_path: str, timeout_s: float) -> None:
        self._reach()
        if self.domains.get(vm_id) in {VmState.RUNNING, VmState.PAUSED}:
            return
        if image_path not in self.images:
            raise Refused(f"there is no image {image_path}")
        self.rebuilt.append((vm_id, image_path))

    async def state(self, vm_id: str, timeout_s: float) -> VmState:
        self._reach()
        return self.domains.get(vm_id, VmState.ABSENT)

    async def remove(self, vm_id: str, timeout_s: float) -> None:
        self._reach()
        self.domains.pop(vm_id, None)

    async def list(self, timeout_s: float) -> Mapping[str, VmState]:
        self._reach()
        return dict(self.domains)

    async def migrate(self, vm_id: str, target_uri: str, timeout_s: float) -> None:
        self._reach()
        target = self.at(target_uri)
        if self.domains.get(vm_id) not in {VmState.RUNNING, VmState.PAUSED}:
            raise Refused("the domain is not active")
        if vm_id in self.busy or vm_id in self.leaving:
            raise Busy("domain has active job")
        if target is None or target.unreachable:
            raise TargetNotReached("unable to connect to server")
        self.sent.append(vm_id)
        move = self.leaving[vm_id] = asyncio.create_task(self._leave(vm_id, target))
        if _among(vm_id, self.answers_lost):
            raise OutcomeUnknown("the connection broke")
        async with asyncio.timeout(timeout_s):
            refused = await asyncio.shield(move)
        if refused:
            raise Refused(refused)

    async def _leave(self, vm_id: str, target: FakeHypervisor) -> str:
        target.domains[vm_id] = VmState.PAUSED
        target.incoming.add(vm_id)
        try:
            await asyncio.sleep(self.migrate_s)
            if _among(vm_id, self.migrates_not):
                raise asyncio.CancelledError
            target.incoming.remove(vm_id)
            target.domains[vm_id] = self.domains.pop(vm_id)
        except asyncio.CancelledError:
            await target.drop_incoming(vm_id, 0.0)
            return "the migration failed"
        finally:
            del self.leaving[vm_id]
        return ""

    async def is_migrating(self, vm_id: str, timeout_s: float) -> bool:
        self._reach()
        return vm_id in self.leaving or vm_id in self.busy

    async def abort_migration(self, vm_id: str, timeout_s: float) -> None:
        self._reach()
        if vm_id in self.leaving:
            self.leaving[vm_id].cancel()

    async def drop_incoming(self, vm_id: str, timeout_s: float) -> None:
        if vm_id in self.incoming:
            self.incoming.remove(vm_id)
            del self.domains[vm_id]

    async def shut_down(self, vm_id: str, timeout_s: float) -> None:
        self._reach()
        self.asked_to_stop.add(vm_id)
        if vm_id in self.domains and not _among(vm_id, self.deaf):
            self.domains[vm_id] = VmState.SHUTOFF

    async def stop(self, vm_id: str, timeout_s: float) -> None:
        self._reach()
        if vm_id in self.domains:
            self.domains[vm_id] = VmState.SHUTOFF

    def close(self) -> None:
        for move in list(self.leaving.values()):
            move.cancel()

    def resume(self, vm_id: str) -> VmState:
        if vm_id not in self.domains:
            raise NotFound("DOMAIN_UNKNOWN", "no such domain")
        self.domains[vm_id] = VmState.RUNNING
        return VmState.RUNNING


def _among(vm_id: str, chosen: set[str]) -> bool:
    return vm_id in chosen or "*" in chosen


@dataclass
class FakeDevice:
    """A fence device. `answers` come first, in order; then the power as it is."""

    power: Power = Power.ON
    answers: list[Power | ProofReason] = field(default_factory=list)
    orders: int = 0
    reads: int = 0
    works: bool = True
    gate: asyncio.Event | None = None

    async def read(self, config: FenceConfig, timeout_s: float) -> Power:
        self.reads += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, ProofReason):
                raise FenceFailed(answer, "as told")
            return answer
        if not self.works:
            raise FenceFailed(ProofReason.FENCE_FAILED, "device away")
        return self.power

    async def order_off(self, config: FenceConfig, timeout_s: float) -> None:
        self.orders += 1
        if not self.works:
            raise FenceFailed(ProofReason.FENCE_FAILED, "device away")
        self.power = Power.OFF


class AgentDouble(pb_grpc.AgentServiceServicer):
    """One server that answers for the agents of many hosts. `resume(host_id, vm_id)` lets the domain execute."""

    def __init__(self, resume: Callable[[str, str], VmState]) -> None:
        self._resume = resume
        self.incarnations: dict[str, int] = {}
        self.refuses: dict[str, str] = {}
        self.epochs: dict[str, int] = {}
        self.admitted: list[tuple[str, str, int]] = []
        self._server: Server | None = None

    async def start(self) -> int:
        self._server = Server(
            [(pb_grpc.add_AgentServiceServicer_to_server, self, "vmha.v1.AgentService")], "127.0.0.1:0", reflection=False
        )
        return await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)

    async def AdmitVm(  # noqa: N802
        self, request: pb.AdmitVmRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.AdmitVmResponse:
        reason = self.refuses.get(request.host_id) or self.refuses.get(request.vm_id)
        if reason is None and request.incarnation != self.incarnations.get(request.host_id, request.incarnation):
            reason = "INCARNATION_MISMATCH"
        if reason is None and request.epoch < self.epochs.get(request.vm_id, 0):
            reason = "STALE_VM_EPOCH"
        if reason is not None:
            raise PreconditionFailed(reason, "as told")
        self.epochs[request.vm_id] = request.epoch
        state = self._resume(request.host_id, request.vm_id)
        self.admitted.append((request.host_id, request.vm_id, request.epoch))
        return pb.AdmitVmResponse(state=enum_to_proto(vm_pb2.VmState, state))

    async def RelayHeartbeat(  # noqa: N802
        self, request: pb.RelayHeartbeatRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RelayHeartbeatResponse:
        raise Unsupported("RELAY_NOT_SUPPORTED", "no relay")
