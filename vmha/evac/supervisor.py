"""Keeps a runner on every evacuation that this process is to run, until it has ended: after a lost lock, a store that was away,
or an error of our own, the next run goes on from the journal."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable
from weakref import WeakValueDictionary

import structlog

from vmha.clock import Clock
from vmha.errors import Aborted, NotFound, VmhaError
from vmha.evac.metrics import Metrics
from vmha.evac.operations import Edges
from vmha.evac.runner import Runner, RunnerSettings, Superseded
from vmha.log import bound
from vmha.store.records import EvacuationRecord

BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Waits after a run that failed; the last one repeats."""


class Bell:
    """Tells those who stream an evacuation that its journal has grown."""

    def __init__(self) -> None:
        # Only those who wait keep an event alive.
        self._waiting: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()

    def ring(self, evacuation_id: str) -> None:
        """Wakes all that wait for this evacuation."""
        event = self._waiting.pop(evacuation_id, None)
        if event is not None:
            event.set()

    def ring_all(self) -> None:
        """Wakes everybody."""
        for evacuation_id in list(self._waiting):
            self.ring(evacuation_id)

    def next(self, evacuation_id: str) -> asyncio.Event:
        """Set at the next ring after this call. Taken before the journal is read, no step is missed."""
        event = self._waiting.get(evacuation_id)
        if event is None:
            event = self._waiting[evacuation_id] = asyncio.Event()
        return event

    @staticmethod
    async def wait(event: asyncio.Event, timeout_s: float) -> None:
        """Returns when it rang, or after timeout_s: another process may be writing."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await event.wait()


class Supervisor:
    """The evacuations of this process. `new_runner_id` makes the name under which each run holds its lock."""

    def __init__(
        self,
        edges: Edges,
        settings: RunnerSettings,
        clock: Clock,
        metrics: Metrics,
        *,
        new_runner_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self._edges, self._settings, self._clock, self._metrics = edges, settings, clock, metrics
        self._new_runner_id = new_runner_id
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._runners: dict[str, Runner] = {}
        self._log = structlog.get_logger("vmha.evac")
        self.bell = Bell()
        self.draining = False

    def ensure(self, record: EvacuationRecord) -> None:
        """Sees to it that the evacuation is run."""
        running = self._tasks.get(record.evacuation_id)
        if self.draining or record.state.is_terminal or (running is not None and not running.done()):
            return
        name = f"evacuation {record.evacuation_id}"
        self._tasks[record.evacuation_id] = asyncio.create_task(self._keep_running(record), name=name)

    def cancel(self, evacuation_id: str, reason: str) -> None:
        """Tells the runner at once, when it is in this process."""
        runner = self._runners.get(evacuation_id)
        if runner is not None:
            runner.cancel_requested(reason)

    def prove_again(self, evacuation_id: str) -> None:
        """Tells the runner that a proof was brought, when it is in this process; another one looks by itself."""
        runner = self._runners.get(evacuation_id)
        if runner is not None:
            runner.prove_again()

    async def resume(self) -> int:
        """Takes up every evacuation that has not ended, of all clusters. Returns how many."""
        store, found = self._edges.store, 0
        for cluster_id in await store.clusters.list_ids():
            for record in await store.evacuations.unfinished(cluster_id):
                self.ensure(record)
                found += 1
        return found

    async def drain(self) -> None:
        """Stops all runners at their next step's border; the journal lets any evacuator go on."""
        self.draining = True
        self.bell.ring_all()
        for runner in self._runners.values():
            runner.drain()
        tasks = list(self._tasks.values())
        if tasks:
            await asyncio.wait(tasks, timeout=self._settings.drain_s + 1.0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_running(self, record: EvacuationRecord) -> None:
        failures = 0
        with bound(cluster_id=record.cluster_id, host_id=record.host_id, incident_id=record.evacuation_id):
            try:
                while not self.draining and not await self._attempt(record):
                    await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
                    failures += 1
            finally:
                self._tasks.pop(record.evacuation_id, None)
                self.bell.ring(record.evacuation_id)

    async def _attempt(self, record: EvacuationRecord) -> bool:
        """One run. True when there is nothing left to do here."""
        evacuations, key = self._edges.store.evacuations, (record.cluster_id, record.evacuation_id)
        runner_id = self._new_runner_id()
        try:
            if not await evacuations.acquire(*key, runner_id, self._settings.runner_ttl_s):
                return (await evacuations.get(*key)).state.is_terminal
            try:
                return await self._run(record, runner_id)
            finally:
                with contextlib.suppress(VmhaError):
                    await evacuations.release(*key, runner_id)
        except (Superseded, Aborted) as error:
            self._log.warning("run_superseded", error=str(error))
        except NotFound as error:
            self._log.warning("evacuation_gone", reason=error.reason)
            return error.reason in {"EVACUATION_UNKNOWN", "CLUSTER_UNKNOWN"}
        except VmhaError as error:
            self._log.warning("run_failed", reason=error.reason, error=error.message)
        except Exception:
            self._log.exception("run_failed")
        return False

    async def _run(self, record: EvacuationRecord, runner_id: str) -> bool:
        runner = Runner(
            self._edges,
            record,
            runner_id,
            self._settings,
            self._clock,
            self._metrics,
            written=lambda: self.bell.ring(record.evacuation_id),
        )
        self._runners[record.evacuation_id] = runner
        self._metrics.began()
        try:
            return await runner.run()
        finally:
            self._metrics.ended()
            del self._runners[record.evacuation_id]
