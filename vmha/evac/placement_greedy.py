"""The first try: one VM after the other onto the host with the most free memory, groups as one. Pure; it ends here nearly always.

Soft groups are kept as if they were hard; what finds no place so is left to `placement_search`. Hosts are kept in heaps by
free memory, one for each shape of VMs, whose entries are brought up to date when they come up: room only ever shrinks here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush, heapreplace

from vmha.evac.placement_problem import Item, Problem
from vmha.evac.placement_rooms import page_size


class Greedy:
    """Places what it can; takes the room of what it places."""

    def __init__(self, problem: Problem) -> None:
        self._problem, self._rooms = problem, problem.rooms
        self._heaps: dict[int, list[tuple[float, str]]] = {}
        self._taken: list[set[str]] = [set() for _ in problem.bindings]
        self.places: dict[int, str] = {}

    def run(self) -> dict[int, str]:
        """Number of an item -> host_id, for those that found one."""
        for block in self._blocks():
            first = block[0]
            simple = len(block) == 1 and not first.groups and not first.demand.refused_by and not first.demand.planned
            if simple and not self._rooms.pages:
                self._place_plain(first)
            else:
                self._place(block)
        return self.places

    def _blocks(self) -> Iterable[tuple[Item, ...]]:
        """VMs that affinity holds together come as one, with the first of them."""
        items, bindings = self._problem.items, self._problem.bindings
        seen: set[int] = set()
        for item in items:
            if item.number in seen:
                continue
            block = {item.number}
            waiting = [number for number in item.groups if bindings[number].affine]
            while waiting:
                for member in bindings[waiting.pop()].members:
                    if member not in block:
                        block.add(member)
                        waiting += [number for number in items[member].groups if bindings[number].affine]
            seen |= block
            yield tuple(items[number] for number in sorted(block)) if len(block) > 1 else (item,)

    def _heap(self, shape: int) -> list[tuple[float, str]]:
        heap = self._heaps.get(shape)
        if heap is None:
            free = self._rooms.free
            heap = self._heaps[shape] = [(-free[host_id][0], host_id) for host_id in self._problem.hosts_of(shape)]
            heapify(heap)
        return heap

    def _place_plain(self, item: Item) -> None:
        """The usual case: no group, no history, no huge pages."""
        heap = self._heaps.get(item.shape) or self._heap(item.shape)
        free, aside = self._rooms.free, []
        memory_mib, vcpus = item.memory_mib, item.vcpus
        while heap:
            negative, host_id = heap[0]
            memory_left, vcpus_left = free[host_id]
            if memory_left != -negative:
                heapreplace(heap, (-memory_left, host_id))
            elif memory_left < memory_mib:
                break
            elif vcpus_left < vcpus:
                aside.append(heappop(heap))
            else:
                memory_left -= memory_mib
                free[host_id] = (memory_left, vcpus_left - vcpus)
                heapreplace(heap, (-memory_left, host_id))
                self.places[item.number] = host_id
                break
        for entry in aside:
            heappush(heap, entry)

    def _place(self, block: Sequence[Item]) -> None:
        host_id = self._find(block)
        if not host_id:
            return
        for item in block:
            self._rooms.take(host_id, item.demand.facts)
            self.places[item.number] = host_id
            for number in item.groups:
                self._taken[number].add(host_id)

    def _find(self, block: Sequence[Item]) -> str:
        pins = self._pins(block)
        free = self._rooms.free
        if pins is not None or block[0].demand.planned:
            planned = [host_id for host_id in (block[0].demand.planned,) if host_id in free and (pins is None or host_id in pins)]
            ordered = [*planned, *sorted(pins or (), key=lambda host_id: (-free[host_id][0], host_id))]
            host_id = next((host_id for host_id in ordered if self._takes(block, host_id)), "")
            if host_id or pins is not None:
                return host_id
        return self._find_any(block)

    def _find_any(self, block: Sequence[Item]) -> str:
        heap, free = self._heap(block[0].shape), self._rooms.free
        memory_mib, found, aside = sum(item.memory_mib for item in block), "", []
        while heap and not found:
            negative, host_id = heap[0]
            memory_left = free[host_id][0]
            if memory_left != -negative:
                heapreplace(heap, (-memory_left, host_id))
            elif memory_left < memory_mib:
                break
            elif self._takes(block, host_id):
                found = host_id
            else:
                aside.append(heappop(heap))
        for entry in aside:
            heappush(heap, entry)
        return found

    def _pins(self, block: Sequence[Item]) -> frozenset[str] | None:
        pins: frozenset[str] | None = None
        for number in {number for item in block for number in item.groups}:
            more = self._problem.bindings[number].pins
            if more is not None:
                pins = more if pins is None else pins & more
        return pins

    def _takes(self, block: Sequence[Item], host_id: str) -> bool:
        memory_left, vcpus_left = self._rooms.free[host_id]
        pages = dict(self._rooms.pages.get(host_id, ()))
        for item in block:
            memory_left, vcpus_left = memory_left - item.memory_mib, vcpus_left - item.vcpus
            if memory_left < 0 or vcpus_left < 0 or self._problem.refusal(item, host_id) is not None:
                return False
            if pages:
                size = page_size(item.hugepage_kib, pages)
                pages[size] = pages.get(size, 0.0) - item.memory_mib
                if pages[size] < 0:
                    return False
        return self._groups_let(block, host_id)

    def _groups_let(self, block: Sequence[Item], host_id: str) -> bool:
        for item in block:
            for number in item.groups:
                binding = self._problem.bindings[number]
                if not binding.lets(host_id) or (not binding.affine and host_id in self._taken[number]):
                    return False
                if not binding.affine and sum(number in other.groups for other in block) > 1:
                    return False  # one group wants them together, another apart
        return True
