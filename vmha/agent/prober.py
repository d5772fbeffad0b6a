"""Executes the probe plan: one task for each probe, a bounded number at a time, and nothing else waits for them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import structlog

from vmha.agent.metrics import Metrics
from vmha.agent.probe_plan import Assigned, Effect, PeerTarget, ProbeEnded, ProbePlan, StartProbe, VerdictChanged
from vmha.clock import Clock
from vmha.model import Observation, PeerVerdict
from vmha.probe import ExporterProbe, ProbeResult

MAX_PARALLEL: Final = 64
"""Probes under way at a time. Agents watch some five peers; a committee's scouts are not many more."""

LATE_S: Final = 0.25
"""A probe ends within three times its timeout (vmha.probe). One that ends this much later was held up by this process itself."""

_log = structlog.get_logger("vmha.agent")


class Prober:
    """Probes the assigned peers for ever, and others when asked (scouts)."""

    def __init__(self, probe: ExporterProbe, clock: Clock, metrics: Metrics, *, max_parallel: int = MAX_PARALLEL) -> None:
        self._probe = probe
        self._clock = clock
        self._metrics = metrics
        self._plan = ProbePlan()
        self._assigned = Assigned(version="", peers=(), probe_interval_s=5.0, probe_timeout_s=1.0, probe_misses=3)
        self._room = asyncio.Semaphore(max_parallel)
        self._timer: asyncio.TimerHandle | None = None
        self._sleeps_until = math.inf
        self._probes: dict[int, asyncio.Task[None]] = {}
        self._broken: asyncio.Future[None] | None = None
        self.listener: Callable[[], None] = lambda: None
        """Called when a verdict has changed."""

    @property
    def version(self) -> str:
        """The drawing that is probed."""
        return self._plan.version

    def assign(self, assigned: Assigned) -> None:
        """Probe these from now on. Known peers go on as they were."""
        gone = set(self._plan.peers)
        if assigned == self._assigned:
            return
        self._assigned = assigned
        self._carry_out(self._plan.event(assigned, self._clock.now()))
        for host_id in gone - set(self._plan.peers):
            self._metrics.forget_peer(host_id)
        _log.info("peers_assigned", peers=list(self._plan.peers), version=assigned.version)
        self._come_again()

    def assign_peers(self, version: str, peers: Sequence[PeerTarget]) -> None:
        """Probe these, in the same rhythm as before."""
        now = self._assigned
        self.assign(
            Assigned(
                version=version,
                peers=tuple(peers),
                probe_interval_s=now.probe_interval_s,
                probe_timeout_s=now.probe_timeout_s,
                probe_misses=now.probe_misses,
            )
        )

    def observations(self) -> list[Observation]:
        """What is thought of each peer now."""
        return self._plan.observations(self._clock.now())

    async def scout(self, peers: Iterable[PeerTarget]) -> list[Observation]:
        """Probe these now. Like the plan it takes `probe_misses` timeouts in a row to say TIMEOUT; anything else says itself."""
        seen = await asyncio.gather(*(self._scout(peer) for peer in peers))
        return [observation for observation in seen if observation is not None]

    async def run(self) -> None:
        """Probe until cancelled."""
        self._broken = asyncio.get_running_loop().create_future()
        self._come_again()
        try:
            await self._broken
        finally:
            self._broken = None
            if self._timer is not None:
                self._timer.cancel()
            tasks = list(self._probes.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _come_again(self) -> None:
        """When the plan is due next; a timer and no task, which every probe would have to wake."""
        if self._broken is None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._plan.deadline()
        self._sleeps_until = math.inf if due is None else due
        if due is not None:
            self._timer = self._broken.get_loop().call_later(max(0.0, due - self._clock.now()), self._turn, self._broken)

    def _turn(self, broken: asyncio.Future[None]) -> None:
        try:
            self._carry_out(self._plan.tick(self._clock.now()))
            self._come_again()
        except Exception as error:
            if not broken.done():
                broken.set_exception(error)  # `run` ends with it

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, StartProbe):
                self._probes[effect.number] = asyncio.create_task(self._probe_once(effect), name=f"probe {effect.host_id}")
            else:
                self._tell(effect)

    def _tell(self, changed: VerdictChanged) -> None:
        _log.info("peer_verdict_changed", peer=changed.host_id, old=str(changed.old or "UNKNOWN"), new=str(changed.new))
        self.listener()

    async def _probe_once(self, start: StartProbe) -> None:
        try:
            result = await self._ask(start.host_id, start.target, start.timeout_s)
        finally:
            self._probes.pop(start.number, None)
        ended = ProbeEnded(
            host_id=start.host_id,
            number=start.number,
            verdict=None if result is None else result.verdict,
            round_trip_s=None if result is None else result.round_trip_s,
        )
        self._carry_out(self._plan.event(ended, self._clock.now()))
        due = self._plan.deadline()
        if due is not None and due < self._sleeps_until:
            self._come_again()

    async def _ask(self, host_id: str, target: str, timeout_s: float) -> ProbeResult | None:
        """Probe once. None: a timeout that came so late that this process was standing still; it says nothing about the peer."""
        try:
            async with self._room:
                began = self._clock.now()
                result = await self._probe.probe(target, timeout_s)
                took = self._clock.now() - began
        except Exception as error:
            # A fault of this process is no evidence against the peer.
            _log.exception("probe_failed", peer=host_id, target=target)
            result = ProbeResult(verdict=PeerVerdict.DEGRADED, detail=f"the probe itself failed: {type(error).__name__}")
            took = 0.0
        self._metrics.probed(host_id, result)
        if result.verdict is PeerVerdict.TIMEOUT and took > 3 * timeout_s + LATE_S:
            _log.warning("probe_void", peer=host_id, took_s=round(took, 3))
            return None
        if result.detail:
            _log.debug("probe", peer=host_id, verdict=str(result.verdict), detail=result.detail)
        return result

    async def _scout(self, peer: PeerTarget) -> Observation | None:
        misses, count, ended = max(1, self._assigned.probe_misses), 0, 0.0
        for _ in range(2 * misses):
            result = await self._ask(peer.host_id, peer.probe_target, self._assigned.probe_timeout_s)
            if result is None:
                continue
            ended, count = self._clock.now(), count + 1
            if result.verdict is not PeerVerdict.TIMEOUT:
                count = 1
                break
            if count == misses:
                break
        else:
            return None
        return Observation(
            host_id=peer.host_id,
            verdict=result.verdict,
            consecutive_count=count,
            age_s=max(0.0, self._clock.now() - ended),
            round_trip_s=result.round_trip_s,
        )
