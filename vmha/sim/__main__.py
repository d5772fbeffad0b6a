"""`python -m vmha.sim run|chaos|replay` (docs/simulator.md).

Exit codes: 0 it ran (`chaos`: and nothing broke), 1 `chaos` found a violation, 2 the scenario or the command line is wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from vmha.errors import InvalidField, VmhaError

RAN: Final = 0
BROKEN: Final = 1
WRONG: Final = 2
HASH_SEED: Final = "0"
"""Of Python's hash of text: sets of texts must iterate alike in every run."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; its exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        code: int = chosen.command(chosen)
    except InvalidField as error:
        for wrong in error.violations:
            print(f"{wrong.field}: {wrong.description}", file=sys.stderr)  # noqa: T201
        return WRONG
    except VmhaError as error:
        print(error.message, file=sys.stderr)  # noqa: T201
        return WRONG
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m vmha.sim", description="A whole cluster in one process, on virtual time.")
    commands = parser.add_subparsers(required=True, metavar="run|chaos|replay")
    run = commands.add_parser("run", help="run a scenario and write what happened")
    run.add_argument("scenario", type=Path)
    run.add_argument("--out", type=Path, help="where RESULT is written; left out: standard output")
    run.set_defaults(command=_run)
    replay = commands.add_parser("replay", help="run a scenario and tell what happened, line by line")
    replay.add_argument("scenario", type=Path)
    replay.add_argument("--explain", action="store_true", help="with every step of every VM, and what the leader knew")
    replay.set_defaults(command=_replay)
    chaos = commands.add_parser("chaos", help="run random scenarios until an invariant breaks")
    chaos.add_argument("--runs", type=int, default=100)
    chaos.add_argument("--seed", type=int, default=1)
    chaos.add_argument("--first", type=int, default=0, help="number of the first run")
    chaos.add_argument("--jobs", type=int, default=2, help="processes")
    chaos.add_argument("--mutant", default="", metavar="RULE", help="switch a rule off; see docs/safety.md")
    chaos.add_argument("--heal", action="store_true", help="mend everything at the end of each run, and see the cluster recover")
    chaos.add_argument("--keep-going", action="store_true", help="collect violations instead of stopping at the first")
    chaos.add_argument("--no-shrink", action="store_true", help="write a scenario as it was found")
    chaos.add_argument("--out", type=Path, default=Path("chaos-found"), help="folder for scenarios that break an invariant")
    chaos.set_defaults(command=_chaos)
    return parser


def _run(chosen: argparse.Namespace) -> int:
    from vmha.sim import scenario  # noqa: PLC0415 - a command loads what it needs

    checked = scenario.load(chosen.scenario)
    from vmha.sim.runner import run  # noqa: PLC0415 - the whole product

    text = run(checked).text
    if chosen.out is None:
        sys.stdout.write(text)
        return RAN
    try:
        chosen.out.write_text(text, encoding="utf-8")
    except OSError as error:
        print(f"--out: {chosen.out} cannot be written: {error.strerror}", file=sys.stderr)  # noqa: T201
        return WRONG
    return RAN


def _replay(chosen: argparse.Namespace) -> int:
    from vmha.sim import scenario  # noqa: PLC0415

    checked = scenario.load(chosen.scenario)
    from vmha.sim.explain import account  # noqa: PLC0415
    from vmha.sim.runner import run  # noqa: PLC0415

    sys.stdout.write(account(run(checked), full=chosen.explain))
    return RAN


def _chaos(chosen: argparse.Namespace) -> int:
    from vmha.sim.campaign import main as campaign  # noqa: PLC0415

    return BROKEN if campaign(chosen) else RAN


def _fixed_hash() -> None:
    """Starts over with a fixed hash of text, once."""
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:
        os.environ["PYTHONHASHSEED"] = HASH_SEED
        os.execv(sys.executable, [sys.executable, "-m", "vmha.sim", *sys.argv[1:]])  # noqa: S606


if __name__ == "__main__":
    _fixed_hash()
    sys.exit(main())
