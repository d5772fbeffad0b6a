"""Carries out what a detector wants done, in order for each host, and answers with events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from itertools import count
from typing import Final, Protocol

import structlog

from vmha.errors import Unavailable
from vmha.manager import effects as fx
from vmha.manager import events as ev
from vmha.manager import metrics
from vmha.manager.alarms import Alarms
from vmha.manager.evac_client import Progress
from vmha.manager.host_queues import HostQueues
from vmha.manager.memory import ClusterMemory
from vmha.manager.parts import Parts
from vmha.manager.session_messages import peer
from vmha.manager.sessions import Sessions
from vmha.rpc.scalars import enum_to_proto
from vmha.store.records import Incident
from vmha.v1 import host_pb2
from vmha.v1 import manager_service_pb2 as ms

SUSPICION_OUTLIVES_S: Final = 60.0
"""A suspicion's record lives this much longer than twice its cooldown: its absence only ever cancels."""
CONFIRM_WITHIN_S: Final = 2.0
"""A confirmation that waited longer than this for its turn is not asked for: its evidence is old. A word does not age."""
RETRY_S: Final = 0.5
PROBES: Final = 64

_log = structlog.get_logger("vmha.manager")


class Answers(Protocol):
    """Who takes the events that effects lead to."""

    def feed(self, event: ev.Event) -> None:
        """Tell the detector."""
        ...

    def permit(self, host_id: str) -> None:
        """A host may register."""
        ...

    def settled(self, host_id: str) -> None:
        """A host's new state is durable."""
        ...

    def decided(self, host_id: str) -> None:
        """A confirmation has ended, either way: heartbeats that were held back may be looked at."""
        ...


class Executor:
    """Executes the effects of one cluster's detector."""

    def __init__(
        self, parts: Parts, memory: ClusterMemory, sessions: Sessions, queues: HostQueues, alarms: Alarms, answers: Answers
    ) -> None:
        self._parts = parts
        self._memory = memory
        self._sessions = sessions
        self._queues = queues
        self._alarms = alarms
        self._answers = answers
        self._asks = count(1)
        self._probes: dict[str, asyncio.Task[None]] = {}
        self._probe_slots = asyncio.Semaphore(PROBES)
        self._acts: dict[type, Callable[..., None]] = {
            fx.ProbeHost: self._probe_host,
            fx.SendScouts: self._send_scouts,
            fx.RecordSuspect: self._record_suspect,
            fx.ClearSuspect: self._clear_suspect,
            fx.ConfirmDown: self._confirm_down,
            fx.OrderEvacuation: self._order_evacuation,
            fx.CancelEvacuation: self._cancel_evacuation,
            fx.TellNoProof: self._tell_no_proof,
            fx.RecordAgent: self._record_agent,
            fx.RecordClock: self._record_clock,
            fx.RecordFlap: self._record_flap,
            fx.RecordCalm: self._record_calm,
            fx.CloseIncident: self._close_incident,
            fx.PermitRegistration: lambda effect: self._answers.permit(effect.host_id),
            fx.ChangeState: self._change_state,
            fx.RaiseAlarm: lambda effect: self._alarms.raise_alarm(effect.reason, effect.host_id, effect.message),
            fx.ClearAlarm: lambda effect: self._alarms.clear_alarm(effect.reason, effect.host_id),
        }

    def run(self, effects: Iterable[fx.Effect]) -> None:
        """Carry them out. Never waits: what takes time goes on by itself."""
        for effect in effects:
            try:
                self._acts[type(effect)](effect)
            except Exception:
                # One that fails must not take the others with it.
                metrics.CORE_ERRORS.labels(self._cluster_id).inc()
                _log.exception("effect failed", cluster_id=self._cluster_id, effect=type(effect).__name__)

    async def close(self) -> None:
        """Stop; what is under way is dropped."""
        probes = list(self._probes.values())
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)

    @property
    def _cluster_id(self) -> str:
        return self._memory.cluster.cluster_id

    # Evidence

    def _probe_host(self, effect: fx.ProbeHost) -> None:
        host_id = effect.host_id
        if host_id not in self._probes:
            self._probes[host_id] = asyncio.create_task(self._probe(host_id), name=f"probe {host_id}")

    async def _probe(self, host_id: str) -> None:
        try:
            host = self._memory.hosts.get(host_id)
            if host is None:
                return
            async with self._probe_slots:
                timeout_s = self._memory.cluster.config.timers.probe_timeout_s
                result = await self._parts.probe.probe(host.config.probe_target, timeout_s)
        finally:
            self._probes.pop(host_id, None)
        _log.debug("probed", cluster_id=self._cluster_id, host_id=host_id, verdict=result.verdict, detail=result.detail)
        self._answers.feed(ev.ProbeEnded(host_id=host_id, verdict=result.verdict))

    def _send_scouts(self, effect: fx.SendScouts) -> None:
        host = self._memory.hosts.get(effect.host_id)
        if host is None:
            return
        request = ms.ReportHealthResponse(scout=ms.ScoutRequest(scout_id=effect.scout_id, peers=[peer(host)]))
        for reporter in effect.reporters:
            session = self._sessions.get(reporter)
            if session is not None:
                session.send(request)

    # Suspicion and confirmation

    def _record_suspect(self, effect: fx.RecordSuspect) -> None:
        ttl_s = 2 * effect.cooldown_s + SUSPICION_OUTLIVES_S

        async def record() -> None:
            suspect = await self._parts.store.incidents.suspect(
                self._cluster_id,
                effect.host_id,
                effect.boot_id,
                effect.cooldown_s,
                ttl_s,
                effect.reason,
                effect.evidence,
            )
            self._answers.feed(ev.SuspectRecorded(host_id=effect.host_id, confirm_in_s=suspect.confirm_in_s))

        self._queues.put(effect.host_id, record, until_done=False)

    def _clear_suspect(self, effect: fx.ClearSuspect) -> None:
        async def clear() -> None:
            await self._parts.store.incidents.clear_suspect(self._cluster_id, effect.host_id)

        self._queues.put(effect.host_id, clear, until_done=True, fact="suspicion")

    def _confirm_down(self, effect: fx.ConfirmDown) -> None:
        # From here until the store's answer is known no heartbeat of the host is acknowledged (R17).
        self._memory.deciding.add(effect.host_id)
        asked_s = self._parts.clock.now()

        async def confirm() -> None:
            incident = None
            try:
                if effect.operator or self._parts.clock.now() - asked_s <= CONFIRM_WITHIN_S:
                    incident = await self._confirm(effect)
            finally:
                self._end_confirm(effect.host_id, incident, asked_s)

        self._queues.put(effect.host_id, confirm, until_done=False)

    async def _confirm(self, effect: fx.ConfirmDown) -> Incident | None:
        while True:
            ask = next(self._asks)
            try:
                return await self._parts.store.incidents.confirm(
                    self._cluster_id,
                    effect.host_id,
                    effect.boot_id,
                    effect.evidence,
                    operator=effect.operator,
                    fence_decides=effect.fence_decides,
                    ask=ask,
                )
            except Unavailable:
                self._parts.store_watch.away()
                incident = await self._resolve(effect.host_id, ask)
                if incident is not None or not effect.operator:
                    return incident
                # An operator's word does not age, and was accepted.

    async def _resolve(self, host_id: str, ask: int) -> Incident | None:
        """What became of a confirmation that Redis did not answer; a late one must not contradict a "no"."""
        while True:
            try:
                return await self._parts.store.incidents.refuse(self._cluster_id, host_id, ask)
            except Unavailable:
                await asyncio.sleep(RETRY_S)

    def _end_confirm(self, host_id: str, incident: Incident | None, asked_s: float) -> None:
        self._memory.deciding.discard(host_id)
        if incident is None:
            self._answers.feed(ev.ConfirmEnded(host_id=host_id, incident_id=None))
        else:
            metrics.CONFIRM_LATENCY_S.observe(max(0.0, self._parts.clock.now() - asked_s))
            metrics.INCIDENTS.labels(self._cluster_id).inc()
            self._memory.put_incident(incident)
            metrics.INCIDENTS_OPEN.labels(self._cluster_id).set(len(self._memory.incidents))
            session = self._sessions.get(host_id)
            if session is not None:
                session.revoke(incident.incarnation, "CONFIRMED_DOWN")
            self._answers.feed(
                ev.ConfirmEnded(host_id=host_id, incident_id=incident.incident_id, fence_epoch=incident.fence_epoch)
            )
        self._answers.decided(host_id)

    # Evacuation

    def _order_evacuation(self, effect: fx.OrderEvacuation) -> None:
        incident = self._memory.incidents.get(effect.host_id)
        if incident is not None and incident.incident_id == effect.incident_id:
            self._parts.evacuator.order(
                self._cluster_id,
                incident,
                self._advanced,
                leader_term=self._parts.term,
                lease_proof=effect.lease_proof,
            )

    def _cancel_evacuation(self, effect: fx.CancelEvacuation) -> None:
        incident = self._memory.incidents.get(effect.host_id)
        if incident is not None and incident.incident_id == effect.incident_id:
            self._parts.evacuator.cancel(self._cluster_id, incident, effect.reason, self._advanced, leader_term=self._parts.term)

    def _advanced(self, progress: Progress) -> None:
        event = ev.EvacuationAdvanced(
            host_id=progress.host_id,
            incident_id=progress.incident_id,
            state=progress.state,
            proof=progress.proof,
            reason=progress.reason,
            message=progress.message,
        )
        self._answers.feed(event)

    def _close_incident(self, effect: fx.CloseIncident) -> None:
        self._parts.evacuator.release(effect.incident_id)
        incident = self._memory.incidents.get(effect.host_id)
        if incident is not None and incident.incident_id == effect.incident_id:
            del self._memory.incidents[effect.host_id]
        metrics.INCIDENTS_OPEN.labels(self._cluster_id).set(len(self._memory.incidents))

        async def close() -> None:
            await self._parts.store.incidents.close(self._cluster_id, effect.host_id, effect.incident_id)

        self._queues.put(effect.host_id, close, until_done=True)

    def _tell_no_proof(self, effect: fx.TellNoProof) -> None:
        _log.info(
            "no lease proof", cluster_id=self._cluster_id, host_id=effect.host_id, reason=effect.reason, message=effect.message
        )

    # What outlives this run

    def _record_agent(self, effect: fx.RecordAgent) -> None:
        async def record() -> None:
            record = await self._parts.store.hosts.note(
                self._cluster_id,
                effect.host_id,
                agent_gone=effect.gone,
                self_fencing=effect.self_fencing,
                watchdog=effect.watchdog,
            )
            self._memory.put_host(record)

        self._queues.put(effect.host_id, record, until_done=True, fact="agent")

    def _record_clock(self, effect: fx.RecordClock) -> None:
        async def record() -> None:
            hosts = self._parts.store.hosts
            self._memory.put_host(await hosts.note_clock(self._cluster_id, effect.host_id, suspect=effect.suspect))

        self._queues.put(effect.host_id, record, until_done=True, fact="clock")

    def _record_flap(self, effect: fx.RecordFlap) -> None:
        async def record() -> None:
            await self._parts.store.incidents.note_flap(self._cluster_id, effect.host_id)

        self._queues.put(effect.host_id, record, until_done=True, tells=True)

    def _record_calm(self, effect: fx.RecordCalm) -> None:
        async def record() -> None:
            await self._parts.store.hosts.set_state(self._cluster_id, effect.host_id, effect.state, "HEARTBEAT", "")

        self._queues.put(effect.host_id, record, until_done=True, fact="state")

    # Telling

    def _change_state(self, effect: fx.ChangeState) -> None:
        metrics.set_host_state(self._cluster_id, effect.host_id, effect.new)
        _log.info(
            "host state",
            cluster_id=self._cluster_id,
            host_id=effect.host_id,
            incident_id=effect.incident_id,
            old=effect.old.value,
            new=effect.new.value,
            reason=effect.reason,
            message=effect.message,
        )
        detail = {
            "host_id": effect.host_id,
            "old_state": host_pb2.HostState.Name(enum_to_proto(host_pb2.HostState, effect.old)),
            "new_state": host_pb2.HostState.Name(enum_to_proto(host_pb2.HostState, effect.new)),
            "reason": effect.reason,
            "message": effect.message,
        }

        async def write() -> None:
            record = await self._parts.store.hosts.set_state(
                self._cluster_id, effect.host_id, effect.new, effect.reason, effect.message
            )
            self._memory.put_host(record)
            self._answers.settled(effect.host_id)

        async def tell() -> None:
            await self._parts.store.events.tell_host_state(
                self._cluster_id, effect.host_id, effect.new, detail, incident_id=effect.incident_id
            )

        self._queues.put(effect.host_id, write, until_done=True, fact="state")
        self._queues.put(effect.host_id, tell, until_done=True, tells=True)
