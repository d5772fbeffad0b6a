"""Brings what agents say of their VMs into the store, one message after the other, and survives a store that is away.

Inventories wait in a bounded queue of each session, so that heartbeats behind them in the stream are never held up. An
inventory counts only under the incarnation in force: it waits for the registration.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from vmha.domain_xml import parse_domain
from vmha.errors import Aborted, FieldViolation, InvalidField, NotFound, Unavailable, VmhaError
from vmha.facts import HostFacts
from vmha.manager import metrics
from vmha.manager.alarms import AlarmSink
from vmha.manager.memory import ClusterMemory
from vmha.manager.sessions import Session, Sessions
from vmha.model import REASON_SELF_FENCED, VmState
from vmha.rpc.convert import host_facts_from_proto, vm_facts_from_proto
from vmha.rpc.scalars import enum_from_proto
from vmha.store import Store
from vmha.store.records import Leftover, ObserveResult, VmObservation, VmRecord
from vmha.v1 import manager_service_pb2 as ms
from vmha.v1 import vm_pb2

QUEUE_BYTES: Final = 8 * 1024 * 1024
"""Inventory of one session that may wait; what comes beyond is asked for again when the store is back."""
RETRY_S: Final = 0.5
EXECUTING: Final = frozenset({VmState.RUNNING, VmState.PAUSED})


@dataclass(slots=True, kw_only=True)
class Seen:
    """What an inventory has shown so far.

    Attributes:
        off: What is shut off, and nobody had stopped it; whether the guard's end did.
        owned: What the store says the host owns, where it was read after all that was shown; None where it was not.
        withheld: A VM is to be started by its owner that was not told so when it registered (R22).
    """

    states: dict[str, VmState] = field(default_factory=dict)
    off: dict[str, bool] = field(default_factory=dict)
    foreign: dict[str, VmRecord] = field(default_factory=dict)
    owners_changed: bool = False
    owned: list[VmRecord] | None = None
    withheld: bool = False

    def note(self, observations: list[VmObservation], result: ObserveResult) -> None:
        """Add what a part of it has shown."""
        self.owned = None
        self.states.update((seen.vm_id, seen.state) for seen in observations)
        self.off.update((seen.vm_id, seen.state_reason == REASON_SELF_FENCED) for seen in observations if _is_off(seen))
        self.foreign.update((record.vm_id, record) for record in result.foreign)
        self.owners_changed |= bool(result.adopted or result.moved)
        self.withheld |= any(record.withheld for record in (*result.updated, *result.foreign))


Done = Callable[[Session, Seen, bool], Awaitable[None]]
"""Called with what a message (or a whole full inventory: True) has shown, when it is in the store."""


class InventoryDesk:
    """Stores the inventories of one session.

    Args:
        done: Told after each message; computes what the host owns and must give up.
        store_away: Told when Redis does not answer.
        all_told: Whether the store knows all that executes in the cluster (R20).
        turns: Has a place for each inventory that is stored at this moment.
    """

    def __init__(
        self,
        store: Store,
        memory: ClusterMemory,
        sessions: Sessions,
        session: Session,
        *,
        done: Done,
        alarms: AlarmSink,
        store_away: Callable[[], None],
        all_told: Callable[[], bool],
        turns: asyncio.Semaphore,
    ) -> None:
        self._store = store
        self._memory = memory
        self._sessions = sessions
        self._session = session
        self._done = done
        self._alarms = alarms
        self._store_away = store_away
        self._all_told = all_told
        self._turns = turns
        self._waiting: list[ms.InventoryReport] = []
        self._waiting_bytes = 0
        self._dropped = False
        self._full_came = False
        self._registered = False
        self._registration: asyncio.Future[None] | None = None
        self._seen = Seen()
        self._task: asyncio.Task[None] | None = None

    def put(self, message: ms.InventoryReport) -> None:
        """Queue a message; one that was stored already is acknowledged again."""
        session = self._session
        if message.sequence <= self._sessions.last_stored(session.host_id, session.instance_id):
            self._sessions.acknowledge(session, message.sequence)
            return
        size = message.ByteSize()
        if self._waiting_bytes + size > QUEUE_BYTES and self._waiting_bytes:
            self._dropped = True
            return
        self._full_came |= message.full
        self._waiting_bytes += size
        self._waiting.append(message)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"inventory {self._session.host_id}")

    def registered(self, registered: bool) -> None:
        """Whether the session speaks for the incarnation in force: nothing is stored before."""
        self._registered = registered
        if not registered:
            self._full_came = False
        elif self._registration is not None and not self._registration.done():
            self._registration.set_result(None)

    @property
    def has_full(self) -> bool:
        """Whether a full inventory has come since the agent last (re)opened or asked to register."""
        return self._full_came

    async def close(self) -> None:
        """Stop; what waits is not acknowledged, so the agent sends it again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while self._waiting:
            message = self._waiting.pop(0)
            try:
                await self._process(message)
            except VmhaError as error:
                self._session.end(error)
                return
            except Exception as error:
                self._session.log.exception("inventory failed")
                self._session.end(VmhaError("INTERNAL_ERROR", type(error).__name__))
                return
            self._waiting_bytes -= message.ByteSize()
            if self._dropped and not self._waiting:
                self._dropped = False
                self._ask("INVENTORY_DROPPED")
        self._task = None

    async def _process(self, message: ms.InventoryReport) -> None:
        observations = _observations(message)
        while True:
            await self._registers()
            try:
                async with self._turns:
                    if self._sessions.is_current(self._session):
                        await self._store_one(message, observations)
                return
            except Unavailable:
                self._store_away()
                await asyncio.sleep(RETRY_S)
            except Aborted as error:
                # Revoked meanwhile: it counts, if at all, after the next registration.
                self._session.log.info("inventory waits for a registration", reason=error.reason)
                self._registered = False
            except NotFound:
                # The store came back empty and is being restored, or the host was deleted: then the session ends.
                await asyncio.sleep(RETRY_S)

    async def _registers(self) -> None:
        # An asyncio.Event would do it, at 700 bytes a session.
        while not self._registered:
            self._registration = asyncio.get_running_loop().create_future()
            await self._registration
        self._registration = None

    async def _store_one(self, message: ms.InventoryReport, observations: list[VmObservation]) -> None:
        session, cluster_id = self._session, self._memory.cluster.cluster_id
        if message.HasField("host"):
            await self._put_facts(host_facts_from_proto(message.host))
        if message.full and message.HasField("host"):
            self._seen = Seen()
        seen = self._seen if message.full else Seen()
        seen.note(observations, await self._observe(observations))
        whole = message.full and not message.more
        if whole:
            await self._settle_absent(seen)
            self._seen = Seen()
        await self._done(session, seen, whole)
        self._sessions.mark_stored(session, message.sequence)
        metrics.INVENTORIES.labels(cluster_id).inc()

    async def _put_facts(self, facts: HostFacts) -> None:
        known = self._memory.hosts.get(self._session.host_id)
        if known is None or known.facts != facts:
            cluster_id = self._memory.cluster.cluster_id
            self._memory.put_host(await self._store.hosts.put_facts(cluster_id, self._session.host_id, facts))

    async def _observe(self, observations: list[VmObservation]) -> ObserveResult:
        session = self._session
        return await self._store.vms.observe(
            self._memory.cluster.cluster_id,
            session.host_id,
            session.incarnation,
            observations,
            full=False,
            planned_shutdown=self._memory.planned_boots.get(session.host_id) == session.boot_id,
            orphans=self._all_told(),
        )

    async def _settle_absent(self, seen: Seen) -> None:
        """What the host owns, or had said that it executes, and a full inventory does not name is gone from it.

        Unless it names nothing at all: a libvirt that lists nothing is a fault, not a fact. After a new registration it is one.
        """
        host_id = self._session.host_id
        seen.owned = owned = await self._store.vms.list(self._memory.cluster.cluster_id, host_id)
        gone = [record for record in owned if record.vm_id not in seen.states and record.state is not VmState.ABSENT]
        running = sum(record.state is VmState.RUNNING for record in gone)
        if running and not seen.states and host_id not in self._memory.undelivered:
            message = f"{host_id} lists no VM, but {running} that it owns ran there; nothing is changed"
            self._alarms.raise_alarm("EMPTY_INVENTORY", host_id, message)
            return
        self._alarms.clear_alarm("EMPTY_INVENTORY", host_id)
        left = [
            Leftover(vm_id=vm_id, fenced=fenced, owner_silent=self._is_silent(seen.foreign[vm_id].owner_host_id))
            for vm_id, fenced in seen.off.items()
            if vm_id in seen.foreign
        ]
        cluster_id, incarnation = self._memory.cluster.cluster_id, self._session.incarnation
        believed = seen.states or host_id in self._memory.undelivered
        if await self._store.vms.told_whole(cluster_id, host_id, incarnation, seen.states.keys() if believed else None, left):
            seen.withheld = True
        if gone:
            absent = [VmObservation(vm_id=record.vm_id, name=record.name, state=VmState.ABSENT) for record in gone]
            seen.note(absent, await self._observe(absent))

    def _is_silent(self, host_id: str) -> bool:
        """Whether a host has not said yet what it runs now, and will say it when it is back."""
        session = self._sessions.get(host_id)
        return session is None or not session.registered or host_id in self._memory.undelivered

    def _ask(self, reason: str) -> None:
        self._session.send(ms.ReportHealthResponse(inventory_request=ms.InventoryRequest(reason=reason)))


def _is_off(seen: VmObservation) -> bool:
    return seen.state is VmState.SHUTOFF and seen.state_reason in {"", "unknown", REASON_SELF_FENCED}


def _observations(message: ms.InventoryReport) -> list[VmObservation]:
    """The model's view of a message.

    Raises:
        InvalidField: DOMAIN_XML_MALFORMED, naming each VM whose XML is none.
    """
    wrong: list[FieldViolation] = []
    seen = []
    for number, vm in enumerate(message.vms):
        if vm.domain_xml:
            try:
                parse_domain(vm.domain_xml)
            except InvalidField as error:
                wrong.append(FieldViolation(f"inventory.vms[{number}].domain_xml", error.message))
        seen.append(
            VmObservation(
                vm_id=vm.vm_id,
                name=vm.name,
                state=enum_from_proto(VmState, vm_pb2.VmState, vm.state, VmState.UNSPECIFIED),
                state_reason=vm.state_reason,
                domain_xml=vm.domain_xml,
                facts=vm_facts_from_proto(vm.facts) if vm.HasField("facts") else None,
                epoch=vm.epoch,
                autostart=vm.autostart,
                claim_epoch=vm.claim_epoch,
            )
        )
    if wrong:
        raise InvalidField(wrong, reason="DOMAIN_XML_MALFORMED", metadata={"fields": ",".join(v.field for v in wrong)})
    return seen
