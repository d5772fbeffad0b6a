"""Breadth-first search over a model: the shortest run to a broken state, or the proof that there is none."""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S", bound=Hashable)


@dataclass(frozen=True)
class Found(Generic[S]):
    """What a search found.

    Attributes:
        states: States that were reached.
        trace: The shortest run to a broken state; None when no reachable state is broken.
    """

    states: int
    trace: list[str] | None
    last: S | None = None


def search(
    starts: Iterable[S],
    successors: Callable[[S], Iterable[tuple[str, S]]],
    broken: Callable[[S], bool],
    limit: int = 5_000_000,
) -> Found[S]:
    """Every reachable state, nearest first, until one is broken.

    Raises:
        MemoryError: More than `limit` states: not a proof.
    """
    # Millions of tuples and no cycle among them: looking for some takes a fifth of the time.
    gc.disable()
    try:
        return _search(starts, successors, broken, limit)
    finally:
        gc.enable()


def _search(
    starts: Iterable[S], successors: Callable[[S], Iterable[tuple[str, S]]], broken: Callable[[S], bool], limit: int
) -> Found[S]:
    seen: dict[S, tuple[S, str] | None] = dict.fromkeys(starts)
    layer = list(seen)
    while layer:
        further: list[S] = []
        for state in layer:
            for step, after in successors(state):
                if after in seen:
                    continue
                seen[after] = (state, step)
                if broken(after):
                    return Found(len(seen), _trace(seen, after), after)
                further.append(after)
        if len(seen) > limit:
            raise MemoryError(f"more than {limit} states")
        layer = further
    return Found(len(seen), None)


def _trace(seen: dict[S, tuple[S, str] | None], state: S) -> list[str]:
    steps = []
    while (came := seen[state]) is not None:
        state, step = came
        steps.append(step)
    return steps[::-1]
