"""What every cluster's loop is given: the edges of the process, made once in app.py."""

from __future__ import annotations

import asyncio
import random
import secrets
from dataclasses import dataclass, field, replace
from typing import Final

from vmha.clock import Clock
from vmha.manager.evac_client import Evacuator
from vmha.manager.heartbeats import Nonces
from vmha.manager.lag import LagGuard
from vmha.manager.store_watch import StoreWatch
from vmha.probe import ExporterProbe
from vmha.store import Store

INVENTORIES_AT_ONCE: Final = 8
"""After a take-over every agent sends its inventory at the same time; heartbeats and what is decided come first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The edges.

    Attributes:
        term: Of the leadership that a loop acts under; 0 outside loops.
        inventories: Has a place for each inventory that is stored at this moment.
        random: Draws the watch graph.
        run_id: Names this run of the manager, in nonces and drawings.
    """

    store: Store
    clock: Clock
    probe: ExporterProbe
    evacuator: Evacuator
    store_watch: StoreWatch
    lag: LagGuard
    manager_id: str
    term: int = 0
    inventories: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(INVENTORIES_AT_ONCE))
    random: random.Random = field(default_factory=random.Random)
    run_id: str = field(default_factory=lambda: secrets.token_hex(8))
    nonces: Nonces = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "nonces", Nonces(self.run_id))

    def under(self, term: int) -> Parts:
        """The edges for one term of leadership: what the store is told carries it, and nonces of other terms mean nothing."""
        return replace(self, term=term, store=self.store.under(term), run_id=f"{self.run_id}-{term}")
