"""What the machines of an evacuation and of a drain have in common: how they begin and end, and what they make of their outcomes.

Pure; each keeps its own table of events.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from typing import Generic, TypeVar

from vmha.evac import effects as fx
from vmha.evac import events as ev
from vmha.evac.startqueue import StartQueue
from vmha.model import EvacuationState, ProofKind, VmOutcome
from vmha.store.records import VmEntry

E = TypeVar("E")


class Machine(ABC, Generic[E]):
    """A state machine over a journal. The first event is Restored; `ended` is set with the last AdvanceState."""

    def __init__(self, state: EvacuationState, parallel: int, parallel_per_target: int) -> None:
        self._state = state
        self._queue = StartQueue(parallel, parallel_per_target)
        self._not_answering: dict[str, float] = {}
        self._restored = self._planning = self._cancelling = False
        self.ended = False

    @property
    def state(self) -> EvacuationState:
        """Where it stands."""
        return self._state

    @abstractmethod
    def entries(self) -> list[VmEntry]:
        """The journal as the machine sees it."""

    @abstractmethod
    def deadline(self) -> float | None:
        """When `tick` has something to do; None when only an event can help."""

    @abstractmethod
    def tick(self, now: float) -> list[E]:
        """Does what is due."""

    @abstractmethod
    def _on(self, x: ev.Event, now: float) -> list[E]:
        """What an event changes, and orders at once."""

    @abstractmethod
    def _progress(self, now: float) -> list[E]:
        """What can begin now, and the state that all has come to."""

    def event(self, x: ev.Event, now: float) -> list[E]:
        """Takes an event in; returns what to do, in order."""
        if self.ended:
            return []
        if isinstance(x, ev.Restored) == self._restored:
            raise ValueError(f"{type(x).__name__} out of order")
        return self._on(x, now) + self._progress(now)

    def _take_up(self, x: ev.Restored) -> None:
        self._restored, self._state = True, x.record.state
        self._cancelling, self.ended = x.record.cancel_requested, x.record.state.is_terminal

    def _silent_hosts(self, now: float) -> frozenset[str]:
        return frozenset(host_id for host_id, until in self._not_answering.items() if until > now)

    def _advance(
        self, state: EvacuationState, reason: str = "", message: str = "", proof: ProofKind | None = None
    ) -> list[fx.AdvanceState]:
        if state is self._state:
            return []
        self._state, self.ended = state, state.is_terminal
        return [fx.AdvanceState(state=state, reason=reason, message=message, proof=proof)]


def final_state(entries: Iterable[VmEntry]) -> EvacuationState:
    """What it has come to when each VM has its outcome."""
    outcomes = Counter(entry.outcome for entry in entries)
    if not outcomes[VmOutcome.FAILED]:
        return EvacuationState.SUCCEEDED
    moved = outcomes[VmOutcome.MOVED] + outcomes[VmOutcome.REBUILT] + outcomes[VmOutcome.RESTARTED]
    return EvacuationState.PARTIALLY_FAILED if moved else EvacuationState.FAILED
