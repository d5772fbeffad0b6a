"""Core: what holds a confirmation back although the evidence is there (design section 5.5). Each reason goes away by itself."""

from __future__ import annotations

from dataclasses import dataclass

from vmha.model import HostState

COUNTED_DOWN = frozenset(
    {
        HostState.SUSPECT,
        HostState.COOLDOWN,
        HostState.DOWN,
        HostState.FENCING,
        HostState.FENCE_PENDING,
        HostState.FENCED,
        HostState.EVACUATING,
    }
)
LAG_LIMIT_S = 1.0
"""A process that stood still for longer has not heard what it judges by (safety.md R21)."""


@dataclass(slots=True)
class Guard:
    """Holds confirmations back.

    Attributes:
        learning_until: Monotonic seconds; nothing is confirmed before.
        safe_mode: The store was lost, and not every host has said yet what it runs (R20).
    """

    learning_until: float
    enabled: bool = False
    store_reachable: bool = True
    safe_mode: bool = False
    max_down_fraction: float = 1 / 3

    def learn(self, now: float, learning_s: float) -> None:
        """Begin to learn anew: the manager started, stood still, or lost its store."""
        self.learning_until = max(self.learning_until, now + learning_s)

    def limit(self, members: int) -> int:
        """Hosts that may be down at once."""
        return max(1, int(self.max_down_fraction * members + 1e-9)) if members > 2 else 1

    def held(self, down: int, members: int, now: float) -> str:
        """Why nothing is confirmed now; empty when nothing stands against it.

        Args:
            down: Hosts that count as down, from SUSPECT on, the one in question included.
            members: Hosts of the cluster without the evacuated ones.
            now: Seconds, monotonic.
        """
        if not self.enabled or members < 2:
            return "PROTECTION_OFF"
        if not self.store_reachable:
            return "STORE_UNAVAILABLE"
        if self.safe_mode:
            return "SAFE_MODE"
        if now < self.learning_until:
            return "LEARNING"
        return "MASS_FAILURE_HELD" if down > self.limit(members) else ""
