"""What a cluster's loop acts under: one term of leadership, as long as it holds (R19)."""

from __future__ import annotations

from typing import Protocol


class Mandate(Protocol):
    """One term's leadership of one cluster."""

    @property
    def term(self) -> int:
        """Greater than that of every earlier leader."""
        ...

    @property
    def settled_s(self) -> float:
        """From when on no earlier leader can acknowledge any more, in seconds on the manager's clock.

        A window of silence or contact that begins before may overlook what an earlier leader heard.
        """
        ...

    def holds(self) -> bool:
        """Whether it holds at this moment. Asked after a message was read and before it is answered, never remembered."""
        ...
