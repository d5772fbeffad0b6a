"""Who may start next: VMs that wait for a slot, by priority, under a limit for all and one for each target. Pure."""

from __future__ import annotations

from collections import Counter
from heapq import heappop, heappush


class StartQueue:
    """VMs that have a target and wait, and those that hold a slot.

    The highest priority goes first; among equals the one that was put in first. A VM whose target is busy does not block those
    behind it, and no VM ever takes a slot that one of higher priority could use.

    A target's limit begins at one and doubles with each start that ends, up to `parallel_per_target`: the most important VM
    is not slowed by others that start beside it, and a target that refuses is found out with one VM (docs/decisions/007).
    """

    def __init__(self, parallel: int, parallel_per_target: int) -> None:
        if parallel < 1 or parallel_per_target < 1:
            raise ValueError("limits must be at least 1")
        self._parallel, self._per_target = parallel, parallel_per_target
        self._waiting: dict[str, list[tuple[int, int, str]]] = {}
        self._holders: dict[str, str] = {}
        self._on_target: Counter[str] = Counter()
        self._window: dict[str, int] = {}
        self._put_in = 0

    def put(self, vm_id: str, target: str, priority: int) -> None:
        """Lets a VM wait for a slot on its target."""
        self._put_in += 1
        heappush(self._waiting.setdefault(target, []), (-priority, self._put_in, vm_id))

    def take(self) -> list[str]:
        """Gives out the free slots; returns who got one."""
        taken: list[str] = []
        while len(self._holders) < self._parallel:
            heads = [
                (heap[0], target)
                for target, heap in self._waiting.items()
                if self._on_target[target] < self._window.get(target, 1)
            ]
            if not heads:
                break
            _, target = min(heads)
            taken.append(self._pop(target))
            self._holders[taken[-1]] = target
            self._on_target[target] += 1
        return taken

    def _pop(self, target: str) -> str:
        heap = self._waiting[target]
        vm_id = heappop(heap)[2]
        if not heap:
            del self._waiting[target]
        return vm_id

    def hold(self, vm_id: str, target: str) -> None:
        """Gives a slot to a VM that has begun already, be there one or not."""
        if vm_id not in self._holders:
            self._holders[vm_id] = target
            self._on_target[target] += 1

    def give_back(self, vm_id: str) -> None:
        """Frees the slot of a VM, if it holds one."""
        target = self._holders.pop(vm_id, None)
        if target is not None:
            self._on_target[target] -= 1
            self._window[target] = min(self._per_target, 2 * self._window.get(target, 1))

    def drop(self, target: str) -> list[str]:
        """Takes out all that wait for a target."""
        return [vm_id for _, _, vm_id in sorted(self._waiting.pop(target, []))]

    def drop_all(self) -> list[str]:
        """Takes out all that wait."""
        return [vm_id for target in list(self._waiting) for vm_id in self.drop(target)]
