"""The network between the simulated machines: who reaches whom, what gets lost, and how long the way takes.

Nodes are host ids, "manager/<i>", "evac", "store" and "fence". What is between two hosts goes over the plane of the peers, all
else over the management plane. Faults outlast whatever happens to the machines; only `heal` and `heal_all` end them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

Plane = Literal["all", "management", "peers"]
PLANES: Final = ("management", "peers")
BASE_LATENCY_S: Final = 0.0003
JITTER_S: Final = 0.0002
MANAGEMENT: Final = "management"
"""In sides and links: all managers, the evacuator, the store and the fence devices."""
FENCE: Final = "fence"
_OTHERS: Final = ("evac", "store", FENCE)


class Network:
    """The network of one simulated site.

    Args:
        hosts: The host ids.
        managers: How many managers there are.
        dice: Loses messages and spreads latencies.
    """

    def __init__(self, hosts: Sequence[str], managers: int, dice: random.Random) -> None:
        self._hosts = frozenset(hosts)
        self._management = (*(f"manager/{i}" for i in range(managers)), *_OTHERS)
        self._dice = dice
        self._isolated: dict[str, set[str]] = {plane: set() for plane in PLANES}
        self._side: dict[str, int] = {}
        self._losses: dict[tuple[str, str], float] = {}
        self._known: dict[tuple[str, str], float] = {}
        self._clear: dict[tuple[str, str], bool] = {}
        self.listeners: list[Callable[[], None]] = []
        """Told after each change of faults."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """Every node."""
        return (*sorted(self._hosts), *self._management)

    @property
    def whole(self) -> bool:
        """Whether no fault stands: everybody reaches everybody, and nothing gets lost."""
        return not any(self._isolated.values()) and not self._losses and len(set(self._side.values())) < 2

    # Ways

    def loss(self, source: str, target: str) -> float:
        """The share of what goes this way that gets lost; 1.0: the way is cut."""
        known = self._known.get((source, target))
        if known is None:
            known = self._known[source, target] = self._loss(source, target)
        return known

    def passes(self, source: str, target: str) -> bool:
        """Whether one message, sent now, arrives; where there is loss that is a throw of the dice."""
        loss = self.loss(source, target)
        return loss <= 0.0 or (loss < 1.0 and self._dice.random() >= loss)

    def carries(self, source: str, target: str) -> bool:
        """Whether anything at all goes both ways."""
        return self.loss(source, target) < 1.0 and self.loss(target, source) < 1.0

    def exchange(self, source: str, target: str) -> bool:
        """Whether a question and its answer, sent now, both arrive."""
        ends = (source, target)
        clear = self._clear.get(ends)
        if clear is None:
            clear = self._clear[ends] = self.loss(source, target) <= 0.0 and self.loss(target, source) <= 0.0
        return clear or (self.passes(source, target) and self.passes(target, source))

    def latency_s(self) -> float:
        """One way, this time."""
        return BASE_LATENCY_S + JITTER_S * self._dice.random()

    def up_to_s(self, span_s: float) -> float:
        """Some part of a span, this time."""
        return span_s * self._dice.random()

    def _loss(self, source: str, target: str) -> float:
        if source == target:
            return 0.0
        plane = "peers" if source in self._hosts and target in self._hosts else "management"
        isolated = self._isolated[plane]
        if source in isolated or target in isolated:
            return 1.0
        side = self._side
        if source in side and target in side and side[source] != side[target]:
            return 1.0
        return self._losses.get((source, target), 0.0)

    # Faults

    def isolate(self, nodes: Iterable[str], plane: Plane = "all") -> None:
        """Cut each node from everything on a plane, the other named ones included."""
        for one in _planes(plane):
            self._isolated[one].update(nodes)
        self._changed()

    def heal(self, nodes: Iterable[str], plane: Plane = "all") -> None:
        """End the isolation of these on a plane; on all planes also their losses and their part in a partition."""
        named = set(nodes)
        for one in _planes(plane):
            self._isolated[one] -= named
        if plane == "all":
            self._side = {node: side for node, side in self._side.items() if node not in named}
            self._losses = {ends: loss for ends, loss in self._losses.items() if not named.intersection(ends)}
        self._changed()

    def partition(self, sides: Iterable[Iterable[str]]) -> None:
        """Those in different sides don't reach each other; replaces the partition before. Who is in no side reaches everyone."""
        self._side = {node: number for number, side in enumerate(sides) for name in side for node in self.named(name)}
        self._changed()

    def link(self, source: str, target: str, loss: float) -> None:
        """Lose this share (0 to 1) of what goes from source to target."""
        for one in self.named(source):
            for other in self.named(target):
                if loss > 0.0:
                    self._losses[one, other] = loss
                else:
                    self._losses.pop((one, other), None)
        self._changed()

    def heal_all(self) -> None:
        """End every fault."""
        for isolated in self._isolated.values():
            isolated.clear()
        self._side.clear()
        self._losses.clear()
        self._changed()

    def named(self, name: str) -> tuple[str, ...]:
        """The nodes that a name of a scenario stands for."""
        return self._management if name == MANAGEMENT else (name,)

    def _changed(self) -> None:
        self._known.clear()
        self._clear.clear()
        for listener in list(self.listeners):
            listener()


def _planes(plane: Plane) -> tuple[str, ...]:
    return PLANES if plane == "all" else (plane,)
