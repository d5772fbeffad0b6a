"""The simulated Redis with an ear on it: events, leaders and incidents as they become durable, before anybody can lose them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from vmha.sim.process import Process
from vmha.sim.redis_double import SimRedis, SimRedisServer
from vmha.store.events import _event
from vmha.store.records import EventRecord

_LEADER: Final = b":leader"
_EVENTS: Final = b":events"
_INCIDENTS: Final = b":incidents"
Row = dict[str, str]


class TappedRedis(SimRedisServer):
    """See `SimRedisServer`.

    Attributes:
        seen_event: Told of each event that is appended.
        seen_leader: Told of each lease that is written: manager_id, term.
        seen_incident: Told of each incident that is opened: host_id, the process that wrote it.
        leader: Whose lease was written last: manager_id and term; "" and 0 before.
        acting_term: The term under which the script at hand runs; 0: an operator, an agent or the evacuator acts.
        caller: The process whose command is carried out.
        lease_held: Whether a lease is on record at this moment.
        wall: Its machine's wall clock.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        super().__init__(wall)
        self.seen_event: Callable[[EventRecord], None] = lambda _: None
        self.seen_leader: Callable[[str, int], None] = lambda _manager, _term: None
        self.seen_incident: Callable[[str, str], None] = lambda _host, _process: None
        self.leader = ("", 0)
        self.acting_term = 0
        self.lease_held = False
        self.caller = ""
        self.wall = wall

    def _plain(self, arguments: Any) -> Any:
        reply = super()._plain(arguments)
        name = arguments[0]
        if name == b"XADD":
            if arguments[1].endswith(_EVENTS):
                self._tell_event(arguments, reply)
        elif name == b"HSET":
            key = arguments[1]
            if key.endswith(_LEADER):
                self._tell_leader(_pairs(arguments[2:]))
            elif key.endswith(_INCIDENTS):
                lease = key.removesuffix(_INCIDENTS) + _LEADER
                self.lease_held = super()._plain([b"EXISTS", lease]) == 1
                self.seen_incident(arguments[2].decode(), self.caller)
        return reply

    def _evalsha(self, arguments: Any) -> Any:
        first = int(arguments[1]) + 2
        term = arguments[first] if len(arguments) > first else b"0"
        self.acting_term = int(term) if term.isdigit() else 0
        return super()._evalsha(arguments)

    def _tell_event(self, arguments: Any, reply: Any) -> None:
        words = [word.decode() for word in arguments[2:]]
        start = words.index(reply.decode() if isinstance(reply, bytes) else str(reply)) + 1
        row = dict(zip(words[start::2], words[start + 1 :: 2], strict=True))
        cluster_id = arguments[1].decode().partition("{")[2].partition("}")[0]
        self.seen_event(_event(cluster_id, words[start - 1], row))

    def _tell_leader(self, row: Row) -> None:
        now = (row.get("manager_id", ""), int(row.get("term", "0")))
        if now != self.leader:
            self.leader = now
            self.seen_leader(*now)


class ProcessRedis(SimRedis):
    """The client of one process: what was sent arrives, whatever becomes of it; a dead one sends nothing."""

    def __init__(self, server: TappedRedis, process: Process, reachable: Callable[[], bool]) -> None:
        super().__init__(server, reachable)
        self._tapped, self._process = server, process

    def _carry(self, act: Callable[[], Any]) -> asyncio.Future[Any]:
        self._process.require_alive()
        return super()._carry(act)

    def _answer(self, wire: list[bytes]) -> Any:
        self._tapped.caller = self._process.name
        return super()._answer(wire)


def _pairs(words: Any) -> Row:
    texts = [word.decode() for word in words]
    return dict(zip(texts[::2], texts[1::2], strict=True))
