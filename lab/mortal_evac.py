"""An evacuator that dies by SIGKILL right after it journaled a given step. A composition for tests: no product code knows it.

python -m lab.mortal_evac STEP evac.yaml      STEP: an EvacuationState or a VmStep
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from vmha.config import EvacSettings, load
from vmha.evac.app import run
from vmha.store.evacuations import Evacuations


def dying(method: Callable[..., Awaitable[Any]], step: str) -> Callable[..., Awaitable[Any]]:
    """The journal's method, fatal when what it wrote names the step."""

    async def write(*arguments: Any, **named: Any) -> Any:
        written = await method(*arguments, **named)
        if any(_names(thing) == step for argument in (*arguments, *named.values(), written) for thing in _things(argument)):
            os.kill(os.getpid(), signal.SIGKILL)
        return written

    return write


def _things(argument: Any) -> list[Any]:
    return list(argument) if isinstance(argument, list | tuple) else [argument]


def _names(thing: Any) -> str:
    return str(getattr(thing, "step", thing)) if not isinstance(thing, str) or thing.isupper() else ""


def main() -> None:
    """Run the evacuator of a configuration file until it has journaled the step."""
    step, path = sys.argv[1:]
    for name in ("advance", "plan", "step", "claim", "reclaim"):
        setattr(Evacuations, name, dying(getattr(Evacuations, name), step))
    asyncio.run(run(load(EvacSettings, Path(path))))


if __name__ == "__main__":
    main()
