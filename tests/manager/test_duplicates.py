"""Tests of vmha.manager.duplicates: a second copy that a store's blink must not hide."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from tests.support.waiting import until
from vmha.errors import Unavailable
from vmha.manager.duplicates import Duplicates
from vmha.manager.inventory import Seen
from vmha.model import VmState


class Store:
    """Away for the first questions; then h1 owns the VM, and it runs there."""

    def __init__(self, away: int) -> None:
        self.vms = self
        self.away = away
        self.asked = 0

    async def get(self, cluster_id: str, vm_id: str) -> Any:
        self.asked += 1
        if self.asked <= self.away:
            raise Unavailable("STORE_UNAVAILABLE", "away")
        return SimpleNamespace(owner_host_id="h1", state=VmState.RUNNING, name="one")


class Alarms:
    def __init__(self) -> None:
        self.raised: list[tuple[str, str, str]] = []

    def raise_alarm(self, reason: str, host_id: str, message: str, vm_id: str = "") -> None:
        self.raised.append((reason, host_id, vm_id))

    def clear_alarm(self, reason: str, host_id: str, vm_id: str = "") -> None:
        pass


async def test_a_copy_that_was_looked_at_while_the_store_was_away_is_looked_at_again() -> None:
    """The host's inventory names only what changes: it would not be seen for a long time."""
    store, alarms = Store(away=2), Alarms()
    duplicates = Duplicates(cast(Any, store), "c1", alarms, lasts_s=0.01)
    seen = Seen(states={"v": VmState.RUNNING}, foreign={"v": cast(Any, None)})
    duplicates.note("h2", seen, whole=True)
    await until(lambda: alarms.raised)
    assert alarms.raised == [("DUPLICATE_VM", "h2", "v")]
    assert store.asked == 3


async def test_nothing_is_looked_at_after_the_end() -> None:
    """Not even what waited for the store."""
    store = Store(away=1000)
    duplicates = Duplicates(cast(Any, store), "c1", Alarms(), lasts_s=0.01)
    duplicates.note("h2", Seen(states={"v": VmState.RUNNING}, foreign={"v": cast(Any, None)}), whole=True)
    await until(lambda: store.asked)
    duplicates.close()
    asked = store.asked
    await asyncio.sleep(0.05)
    assert store.asked == asked
