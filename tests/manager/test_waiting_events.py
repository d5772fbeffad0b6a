"""Events that wait for the detector: in order, and nothing is lost that somebody relies on."""

from __future__ import annotations

from structlog.testing import capture_logs

from vmha.manager import events as ev
from vmha.manager import metrics
from vmha.manager.guard import LAG_LIMIT_S
from vmha.manager.waiting_events import LONGEST, WaitingEvents
from vmha.model import PeerVerdict


def probe(number: int) -> ev.ProbeEnded:
    return ev.ProbeEnded(host_id=f"h{number}", verdict=PeerVerdict.OK)


def full() -> WaitingEvents:
    waiting = WaitingEvents("c1")
    for number in range(LONGEST):
        waiting.put(probe(number))
    return waiting


def drain(waiting: WaitingEvents) -> list[ev.Event]:
    return [waiting.take() for _ in iter(lambda: bool(waiting), False)]


def test_events_come_in_their_order_but_for_those_that_come_first() -> None:
    """A stall's end is older than whatever waits."""
    waiting = WaitingEvents("c1")
    waiting.put(probe(1))
    waiting.put(probe(2))
    waiting.put_first(ev.LoopLagged(lag_s=2.0))

    assert drain(waiting) == [ev.LoopLagged(lag_s=2.0), probe(1), probe(2)]


def test_what_is_given_up_counts_as_a_stall() -> None:
    """R21: the detector is told, before anything that waits, that it has missed something; once, and with one line in the log."""
    waiting = full()
    before = metrics.DROPPED.labels("c1", "event")._value.get()
    with capture_logs() as logs:
        for number in range(20):
            waiting.put(probe(LONGEST + number))
    found = drain(waiting)

    assert isinstance(found[0], ev.LoopLagged) and found[0].lag_s > LAG_LIMIT_S
    assert found[1:] == [probe(number) for number in range(LONGEST)]
    assert len(logs) == 1 and metrics.DROPPED.labels("c1", "event")._value.get() == before + 20


def test_nothing_that_somebody_relies_on_is_given_up() -> None:
    """A heartbeat was acknowledged, a confirmation is on record, a stall has ended: they find room, and push out nothing."""
    waiting = full()
    beat = ev.HeartbeatReceived(host_id="h1", boot_id="b")
    ended = ev.ConfirmEnded(host_id="h1", incident_id="i1")
    waiting.put_first(ev.LoopLagged(lag_s=2.0))
    waiting.put(beat)
    waiting.put(ended)

    found = drain(waiting)
    assert found[0] == ev.LoopLagged(lag_s=2.0) and found[1] == probe(0) and found[-2:] == [beat, ended]
    assert len(found) == LONGEST + 3


def test_the_next_time_is_told_again() -> None:
    """An episode ends when nothing waits any more."""
    waiting = full()
    waiting.put(probe(1))
    drain(waiting)
    for number in range(LONGEST + 1):
        waiting.put(probe(number))

    assert isinstance(drain(waiting)[0], ev.LoopLagged)
