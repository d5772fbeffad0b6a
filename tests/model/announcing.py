"""The lease protocol with hosts whose VMs run before any lease: a first installation, or a registration with running VMs.

Such a guard is empty and cannot end, so nothing stops the VM. What keeps it single is that the host does not announce
self-fencing before its first ack, and that the manager believes its newest heartbeat (docs/decisions/012, 013, 014).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.model.protocol import EMPTY, LATCHED, Model, Rules, State, Step, initial


class Announcing(Model):
    """`own`, which no voter needs here, holds what is announced: T_f + 2 x (the manager was told) + (the heartbeat says).

    Args:
        rules: As for the lease protocol.
        believed: Whether the manager asks for the announcement.
    """

    def __init__(self, rules: Rules, *, believed: bool = True) -> None:
        super().__init__(rules)
        self._believed = believed
        self._silent = rules.contact_ttl

    def starts(self) -> list[State]:
        """As before, and a host that was adopted with its VM."""
        running, fresh = initial(self.rules)
        adopted: State = (*fresh[:3], 1, *fresh[4:])
        return [self._says(running, told=True, flag=True), self._says(fresh), self._says(adopted)]

    def _says(self, state: State, *, told: bool = False, flag: bool = False) -> State:
        return (*state[:8], self._silent + 2 * told + flag, state[9])

    def _tick(self, state: State, host: int, manager: int, slipping: int, own: int) -> State:
        after = super()._tick(state, host, manager, slipping, own)
        return (*after[:8], state[8], after[9])

    def _host(self, state: State) -> Iterator[Step]:
        flag = state[4] != EMPTY
        if state[4] != LATCHED:
            told = state[8] - self._silent >= 2
            yield "the host sends a heartbeat", self._says((*state[:6], 0, *state[7:]), told=told, flag=flag)
        yield from ((step, after) for step, after in super()._host(state) if step != "the host sends a heartbeat")
        if state[3] and not state[1]:
            # Its agent was away when the guard ended, or the registration was revoked for a false alarm.
            empty = tuple((*v[:4], 0, self._no_cert) for v in state[9])
            anew: State = (0, 0, state[2], 1, EMPTY, self._no_lease, self._none, self._none, state[8], empty)
            yield "the host registers anew, with its VM running", self._says(anew)

    def _manager(self, state: State) -> Iterator[Step]:
        flag = (state[8] - self._silent) % 2 == 1
        told = state[8] - self._silent >= 2
        for step, after in super()._manager(state):
            if step != "the manager evacuates the host":
                yield step, self._says(after, told=flag, flag=flag)
            elif told or not self._believed:
                yield step, after
        if state[6] < self._none and not state[1] and told != flag:
            yield "the manager takes a heartbeat again", self._says((0, *state[1:]), told=flag, flag=flag)

    def _faults(self, state: State) -> Iterator[Step]:
        for step, after in super()._faults(state):
            yield step, self._says(after) if step == "the host reboots and registers" else after


QUICK = replace(Rules(drift=False, wait=3), slow_contact=False)
