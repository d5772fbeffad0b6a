"""The events that wait while the detector works on one. Evidence alone may be given up, and then it counts as a stall (R21)."""

from __future__ import annotations

from collections import deque
from typing import Final

import structlog

from vmha.manager import events as ev
from vmha.manager import metrics
from vmha.manager.guard import LAG_LIMIT_S

LONGEST: Final = 10_000
"""Events that may wait; beyond it evidence is given up. All else is kept: it comes from effects that answer at once."""
EVIDENCE: Final = (ev.ReportReceived, ev.ProbeEnded)
"""What is said again soon. Never a heartbeat, which was acknowledged (R1), nor an answer of the store."""

_log = structlog.get_logger("vmha.manager")


class WaitingEvents:
    """The events of one cluster that wait, in order."""

    def __init__(self, cluster_id: str) -> None:
        self._cluster_id = cluster_id
        self._waiting: deque[ev.Event] = deque()
        self._missed = False

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, event: ev.Event) -> None:
        """Take one in, behind all others."""
        if len(self._waiting) >= LONGEST and isinstance(event, EVIDENCE):
            self._give_up()
        else:
            self._waiting.append(event)

    def put_first(self, event: ev.Event) -> None:
        """Take one in that comes before whatever waits."""
        self._waiting.appendleft(event)

    def take(self) -> ev.Event:
        """The next one. IndexError when none waits."""
        event = self._waiting.popleft()
        self._missed = self._missed and bool(self._waiting)
        return event

    def clear(self) -> None:
        """Forget them: nobody decides here any more."""
        self._waiting.clear()
        self._missed = False

    def _give_up(self) -> None:
        metrics.DROPPED.labels(self._cluster_id, "event").inc()
        if self._missed:
            return
        self._missed = True
        _log.error("too many events wait for the detector; evidence is given up, and what is known so far proves nothing")
        # What was not heard proves nothing, as if this process had stood still.
        self.put_first(ev.LoopLagged(lag_s=2 * LAG_LIMIT_S))
