"""Simulated processes and the machines that they run on.

A process that is killed does nothing more: its tasks are cancelled, its edges (store, network, hypervisor, files) end whoever
still calls them, and whatever it had on the wire stays there.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from vmha.sim.clock import SimClock
from vmha.sim.timeloop import OWNER, VirtualLoop

T = TypeVar("T")
SWEEPS: Final = 20
"""A killed process's last words may start new tasks; so often they are looked for."""


@dataclass(eq=False, slots=True)
class Machine:
    """What processes run on. `node`: its name in the network. `boots`: counts up with each boot."""

    node: str
    clock: SimClock
    up: bool = True
    boots: int = 1
    processes: list[Process] = field(default_factory=list)


class Process:
    """One run of one program.

    Attributes:
        alive: Until it is killed.
        context: In which all that it does runs.
        at_end: Called when it is killed, before its tasks are.
    """

    def __init__(self, loop: VirtualLoop, machine: Machine, name: str) -> None:
        self.loop = loop
        self.machine = machine
        self.name = name
        self.alive = True
        self.context = contextvars.Context()
        self.context.run(OWNER.set, self)
        self.at_end: list[Callable[[], None]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        machine.processes.append(self)

    def __repr__(self) -> str:
        return f"<Process {self.name} {'alive' if self.alive else 'dead'}>"

    @property
    def node(self) -> str:
        """Where it is in the network."""
        return self.machine.node

    def start(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run this as one of its tasks."""
        task = self.loop.create_task(work, name=name, context=self.context.copy())
        # A loop knows its tasks only weakly: one that waits for what only it knows would be collected.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def within(self, make: Callable[[], T]) -> T:
        """Call this as code of the process."""
        return self.context.copy().run(make)

    def require_alive(self) -> bool:
        """True. What a dead process still does at its edges is over here.

        Raises:
            CancelledError: It is dead.
        """
        if not self.alive:
            raise asyncio.CancelledError
        return True

    def kill(self) -> None:
        """End it at once."""
        if self.alive:
            self.die()
            self._sweep(SWEEPS)

    def die(self) -> None:
        """It is dead, and its edges know; its tasks are left to whoever ends the loop."""
        if not self.alive:
            return
        self.alive = False
        self.machine.processes.remove(self)
        for tell in self.at_end:
            tell()
        self.at_end.clear()

    def _sweep(self, left: int) -> None:
        if self.loop.kill(self) and left:
            self.loop.call_soon(self._sweep, left - 1, context=contextvars.Context())
