"""One lock for each VM: an admission and a release of the same VM never overlap."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary


class VmLocks:
    """Locks that exist while somebody holds or waits for them."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __call__(self, vm_id: str) -> asyncio.Lock:
        """The lock of a VM. Keep it in a variable while it is used."""
        lock = self._locks.get(vm_id)
        if lock is None:
            lock = self._locks[vm_id] = asyncio.Lock()
        return lock
