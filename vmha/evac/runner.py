"""Runs one evacuation or drain: gives its machine its events, executes the effects, and holds its lock meanwhile.

A run may end anywhere, by a crash, a lost lock or a store that is away: the journal says how far it came; the next run goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import structlog

from vmha.clock import Clock
from vmha.errors import NotFound, Unavailable
from vmha.evac import drain_plan
from vmha.evac import effects as fx
from vmha.evac import events as ev
from vmha.evac.drain import Drain, DrainLimits
from vmha.evac.drain_operations import DrainOperations, DrainSpans
from vmha.evac.metrics import Metrics
from vmha.evac.operations import Edges, Operations
from vmha.evac.vmwork import Limits
from vmha.evac.workflow import Workflow
from vmha.model import ClusterConfig, EvacuationKind, ProofKind
from vmha.store.records import EvacuationRecord

DRAIN_AT_ONCE = 4
"""VMs that leave one host at a time, at most: they share its network."""
EVENTS_KEPT = 10_000
"""Bound of the queue between operations and workflow; there are never more operations than VMs."""


class Superseded(Exception):
    """Another runner holds the evacuation, or may hold it: this one must write and start nothing more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerSettings:
    """How a runner holds its lock, how often VMs without a target are tried again; seconds.

    Attributes:
        drain_s: How long a runner that is told to stop waits for what is under way.
        migrate_timeout_s: How long a live migration may take.
        stop_grace_s: How long a guest that is shut down may take before it is ended.
    """

    runner_ttl_s: float = 10.0
    pending_retry_s: float = 2.0
    drain_s: float = 10.0
    migrate_timeout_s: float = 600.0
    stop_grace_s: float = 60.0


class Runner:
    """One run of one evacuation under one lock.

    `written` is called after each change of the journal.
    """

    def __init__(
        self,
        edges: Edges,
        record: EvacuationRecord,
        runner_id: str,
        settings: RunnerSettings,
        clock: Clock,
        metrics: Metrics,
        written: Callable[[], None],
    ) -> None:
        self._edges, self._record, self._runner_id = edges, record, runner_id
        self._settings, self._clock, self._metrics, self._written = settings, clock, metrics, written
        self._id = (record.cluster_id, record.evacuation_id)
        self._operations = self._make_operations()
        self._events: asyncio.Queue[ev.Event | BaseException | None] = asyncio.Queue(EVENTS_KEPT)
        self._tasks: dict[asyncio.Task[None], fx.AnyEffect] = {}
        self._draining = asyncio.Event()
        self._operator_told = False
        self._log = structlog.get_logger("vmha.evac")  # the supervisor has bound cluster, host and incident

    def _make_operations(self) -> Operations:
        parts = (self._edges, self._record, self._runner_id, self._clock, self._written)
        if self._record.kind is EvacuationKind.EVACUATION:
            return Operations(*parts)
        settings = self._settings
        return DrainOperations(*parts, DrainSpans(settings.migrate_timeout_s, settings.stop_grace_s), self._put)

    async def run(self) -> bool:
        """Runs until the evacuation has ended (True) or the runner was told to drain (False). The lock is held already.

        Raises:
            Superseded: The lock is lost.
            VmhaError: The store refuses or does not answer.
        """
        keeper = asyncio.create_task(self._keep_lock(), name=f"lock {self._record.evacuation_id}")
        keeper.add_done_callback(self._failed)
        try:
            return await self._work(*await self._restore())
        finally:
            keeper.cancel()
            await self._stop_tasks()
            await asyncio.gather(keeper, return_exceptions=True)

    def cancel_requested(self, reason: str) -> None:
        """CancelEvacuation was called in this process; others are seen with the next renewal."""
        self._put(ev.CancelRequested(reason=reason))

    def prove_again(self) -> None:
        """A proof was brought: look for it now."""
        self._put(ev.ProofOffered())

    def drain(self) -> None:
        """Stop at the next step's border."""
        self._draining.set()
        self._put(None)

    def _machine(self, config: ClusterConfig) -> Workflow | Drain:
        settings = self._settings
        if self._record.kind is EvacuationKind.DRAIN:
            return Drain(
                DrainLimits(
                    parallel=min(config.parallel, DRAIN_AT_ONCE),
                    parallel_per_target=config.parallel_per_target,
                    pending_retry_s=settings.pending_retry_s,
                    migrate_timeout_s=settings.migrate_timeout_s,
                )
            )
        return Workflow(
            Limits(
                parallel=config.parallel,
                parallel_per_target=config.parallel_per_target,
                fence_retry_s=config.timers.fence_retry_s,
                pending_retry_s=settings.pending_retry_s,
            )
        )

    async def _restore(self) -> tuple[Workflow | Drain, ev.Restored]:
        store, cluster_id = self._edges.store, self._record.cluster_id
        cluster = await self._operations.stored(lambda: store.clusters.get(cluster_id))
        record = await self._operations.stored(lambda: store.evacuations.get(*self._id))
        entries = await self._operations.stored(lambda: store.evacuations.entries(*self._id))
        vms = await self._operations.stored(lambda: store.vms.list(cluster_id)) if entries else []
        if record.kind is EvacuationKind.DRAIN:
            entries = drain_plan.resumed(record, entries, vms)
        machine = self._machine(cluster.config)
        priorities = {vm.vm_id: vm.facts.priority for vm in vms}
        if entries:
            self._log.info("evacuation_resumed", state=record.state.value, vms=len(entries))
        return machine, ev.Restored(record=record, entries=tuple(entries), priorities=priorities)

    async def _work(self, machine: Workflow | Drain, restored: ev.Restored) -> bool:
        # Not by the queue: a cancel or a word that came while the journal was read would be in it before.
        if not self._draining.is_set():
            for effect in machine.event(restored, self._clock.now()):
                await self._execute(effect)
        while not machine.ended:
            if self._draining.is_set():
                await self._finish_steps()
                return False
            event = await self._next(machine.deadline())
            now = self._clock.now()
            effects = machine.tick(now) if event is None else machine.event(event, now)
            for effect in effects:
                await self._execute(effect)
        return True

    async def _next(self, deadline: float | None) -> ev.Event | None:
        timeout_s = None if deadline is None else max(0.0, deadline - self._clock.now())
        try:
            async with asyncio.timeout(timeout_s):
                event = await self._events.get()
        except TimeoutError:
            return None
        if isinstance(event, BaseException):
            raise event
        return event

    async def _execute(self, effect: fx.AnyEffect) -> None:
        match effect:
            case fx.AdvanceState():
                await self._advance(effect)
            case fx.JournalVm(entry=entry, alarm=alarm):
                await self._operations.journal(entry, alarm.value if alarm else None)
                self._metrics.settled(entry)
                self._log.warning("vm_set_back", vm_id=entry.vm_id, reason=entry.reason, message=entry.message)
            case fx.StopProving():
                for task in [task for task, running in self._tasks.items() if isinstance(running, fx.ProveDeath)]:
                    task.cancel()
            case fx.Prepare():
                self._spawn(effect, self._prepare())
            case fx.AbortMigration(entry=entry):
                assert isinstance(self._operations, DrainOperations)
                self._spawn(effect, self._operations.abort(entry))
            case fx.SpareVm(entry=entry):
                assert isinstance(self._operations, DrainOperations)
                self._operations.spare(entry)
            case _:
                self._spawn(effect, self._operate(effect))

    async def _advance(self, effect: fx.AdvanceState) -> None:
        evacuations = self._edges.store.evacuations
        record = await self._operations.stored(
            lambda: evacuations.advance(
                *self._id,
                self._runner_id,
                effect.state,
                reason=effect.reason,
                message=effect.message,
                proof=effect.proof,
            )
        )
        self._written()
        self._metrics.advanced(record.state)
        self._record = record
        self._log.info("evacuation", state=record.state.value, reason=record.reason, message=record.message)

    def _spawn(self, effect: fx.AnyEffect, work: Coroutine[Any, Any, None]) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work, name=type(effect).__name__)
        self._tasks[task] = effect
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        self._failed(task)

    def _failed(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._put(error)

    def _put(self, event: ev.Event | BaseException | None) -> None:
        self._events.put_nowait(event)

    async def _operate(self, operation: fx.AnyOperation) -> None:
        began = self._clock.now()
        event = await self._operations.run(operation)
        self._metrics.operated(operation, event, self._clock.now() - began)
        self._put(event)

    async def _prepare(self) -> None:
        try:
            await self._operations.prepare()
        except Unavailable as error:
            self._log.warning("not_prepared", reason=error.reason)

    async def _keep_lock(self) -> None:
        """Renews the lock, and looks for what others wrote: a cancel, an operator's word."""
        ttl_s = self._settings.runner_ttl_s
        held_until = self._clock.now() + ttl_s
        while True:
            await asyncio.sleep(ttl_s / 4)
            asked = self._clock.now()
            try:
                if not await self._edges.store.evacuations.renew(*self._id, self._runner_id, ttl_s):
                    raise Superseded
                held_until = asked + ttl_s
                await self._look_around()
            except Unavailable:
                if self._clock.now() >= held_until:
                    raise Superseded from None

    async def _look_around(self) -> None:
        record = await self._edges.store.evacuations.get(*self._id)
        if record.cancel_requested:
            self._put(ev.CancelRequested(reason=record.message))
        if record.kind is EvacuationKind.DRAIN:
            return
        try:
            host = await self._edges.store.hosts.get(record.cluster_id, record.host_id)
        except NotFound:
            return  # deleted; its VMs are moved all the same
        confirmed = bool(host.confirmed_off_by) and host.confirmed_off_epoch == record.fence_epoch
        if confirmed and not self._operator_told and record.state.is_proven and record.proof is not ProofKind.OPERATOR:
            self._operator_told = True
            self._put(ev.OperatorConfirmed())

    async def _finish_steps(self) -> None:
        steps = [t for t, effect in self._tasks.items() if not isinstance(effect, fx.ProveDeath | fx.Prepare)]
        if steps:
            await asyncio.wait(steps, timeout=self._settings.drain_s)

    async def _stop_tasks(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
