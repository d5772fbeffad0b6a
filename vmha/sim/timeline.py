"""Carries out a scenario's timeline on a simulated world, and collects what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from vmha.errors import VmhaError
from vmha.sim.history import Fact, History, Refused
from vmha.sim.scenario import Act, Scenario


class Stage(Protocol):
    """What the timeline needs of a world."""

    history: History

    @property
    def t(self) -> float:
        """Virtual seconds since the settled start."""
        ...

    async def perform(self, act: Act) -> None:
        """Does an entry of the timeline; raises Refused or a VmhaError when it is refused."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An act that was refused, at `t`."""

    t: float
    do: str
    arguments: Mapping[str, Any]
    reason: str
    message: str

    def event(self) -> dict[str, Any]:
        """As an event of RESULT, without its type; VM and host are where events have them."""
        named = {key: self.arguments[key] for key in ("host", "vm") if key in self.arguments}
        return {"t": self.t, "do": self.do, "reason": self.reason, "message": self.message, **named}


async def perform(scenario: Scenario, world: Stage) -> list[Refusal]:
    """Carries out every act at its time and goes on until the scenario's end; the acts that were refused.

    An act that has to wait for the product's answer keeps no later one waiting.
    """
    under_way: list[asyncio.Task[Refusal | None]] = []
    for act in scenario.timeline:
        await _sleep_until(world, act.at)
        under_way.append(asyncio.create_task(apply(world, act)))
        await asyncio.sleep(0)
    await _sleep_until(world, scenario.until)
    for task in under_way:
        task.cancel()  # those without an answer at the end were neither done nor refused
    answers = await asyncio.gather(*under_way, return_exceptions=True)
    unexpected = [answer for answer in answers if isinstance(answer, Exception)]
    if unexpected:
        raise unexpected[0]
    return [answer for answer in answers if isinstance(answer, Refusal)]


async def _sleep_until(world: Stage, at: float) -> None:
    while (left := at - world.t) > 0:  # noqa: ASYNC110 - a sum of floats may fall short of the instant
        await asyncio.sleep(left)


async def apply(world: Stage, act: Act) -> Refusal | None:
    """Carries out one act; says when it was refused."""
    world.history.note(
        Fact.ACT,
        host=str(act.arguments.get("host", "")),
        vm=str(act.arguments.get("vm", "")),
        cause=act.do,
        **{key: value for key, value in act.arguments.items() if key not in {"host", "vm"}},
    )
    try:
        await world.perform(act)
    except Refused as error:
        return Refusal(t=world.t, do=act.do, arguments=act.arguments, reason=error.reason, message=error.message)
    except VmhaError as error:
        return Refusal(t=world.t, do=act.do, arguments=act.arguments, reason=error.reason, message=str(error))
    return None
