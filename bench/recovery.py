"""Recovery times: power cut -> suspect -> confirmed -> fenced -> first and last beat, beside the floor measured in the same run.

Real hosts of the lab, real libvirtd and QEMU, the product's own processes, the lab's fence device through Debian's fence_redfish.
The floor (bench.floor) is what libvirt and QEMU alone need for the same guests: no detection, proof, journal or placement.

    python -m bench.recovery [--rounds 10] [--guests 1,10] [--profile fast] [--no-fence]

With --no-fence the hosts have no fence device: the proof is the end of the lease, T_wait after the last heartbeat.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from bench.floor import Floor
from bench.floor import measure as measure_floor
from lab import Lab
from lab.stack import Stack, running
from vmha.model import FAST_TIMERS

VICTIM = "host1"
WAIT_S = {"fast": 60.0, "standard": 300.0}
PHASES = ("suspect", "confirmed", "fenced", "first beat", "last beat")
FENCED_AIM_S = {"fast": 4.0, "standard": 190.0}
WITHOUT_FENCE_AIM_S = {"fast": FAST_TIMERS.wait_duration_s + 2.0, "standard": 190.0}
"""Cut to first beat where only the lease proves a death: T_wait and what starting takes."""
THREADS = {"fast": 4, "standard": 1}
"""Starts at a time on one target, ours by the profile and the floor's alike."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """Seconds from the power cut to each of PHASES."""

    at: tuple[float, ...]

    @property
    def after_fenced(self) -> tuple[float, float]:
        """Seconds from "fenced" to the first and to the last beat."""
        return self.at[3] - self.at[2], self.at[4] - self.at[2]


def main() -> int:
    """Run the benchmark; returns the exit code: 0 where the aims hold."""
    parser = argparse.ArgumentParser(prog="python -m bench.recovery", description="Recovery times beside the floor.")
    parser.add_argument("--rounds", type=int, default=10, help="power cuts for each number of guests (default %(default)s)")
    parser.add_argument("--guests", default="1,10", help="numbers of guests on the dead host (default %(default)s)")
    parser.add_argument("--profile", choices=sorted(WAIT_S), default="fast")
    parser.add_argument("--no-fence", action="store_true", help="the hosts have no fence device: the lease decides")
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    held = True
    for guests in (int(number) for number in arguments.guests.split(",")):
        floors = measure_floor(guests, arguments.rounds, threads_per_host=THREADS[arguments.profile])
        recoveries = measure(console, guests, arguments.rounds, arguments.profile, fence=not arguments.no_fence)
        aim_s = WITHOUT_FENCE_AIM_S[arguments.profile] if arguments.no_fence else FENCED_AIM_S[arguments.profile]
        held &= show(console, guests, arguments.profile, recoveries, floors, aim_s)
    return 0 if held else 1


def measure(console: Console, guests: int, rounds: int, profile: str, *, fence: bool) -> list[Recovery]:
    """Cut the victim's power `rounds` times, each time with that many new guests on it."""
    taken = []
    with Lab() as lab, running(Stack(lab=lab, profile=profile, fence=fence)) as stack:
        for number in range(1, rounds + 1):
            names = [f"r{number}g{i}" for i in range(guests)]
            stack.create_guests(dict.fromkeys(names, VICTIM))
            stack.wait_settled(guests, 400)
            taken.append(_recover(stack, lab, names, WAIT_S[profile]))
            console.print(f"[dim]{guests} guests, round {number}: " + _figures(taken[-1].at) + "[/]")
            _tidy(stack, lab, names)
        lab.beats.check()
    return taken


def _recover(stack: Stack, lab: Lab, names: Sequence[str], timeout_s: float) -> Recovery:
    cut = time.monotonic()
    lab.host(VICTIM).kill()
    beats = lab.beats.wait_after(names, cut, timeout_s)
    stack.wait_state(VICTIM, "EVACUATED", 60)
    phases = [stack.events.host_state_at(VICTIM, state, cut) for state in ("SUSPECT", "DOWN", "FENCED")]
    firsts = sorted(beat.at for beat in beats.values())
    return Recovery(tuple((at if at is not None else float("nan")) - cut for at in (*phases, firsts[0], firsts[-1])))


def _tidy(stack: Stack, lab: Lab, names: Sequence[str]) -> None:
    """The victim comes back and gives up its stale domains; then the guests go."""
    lab.host(VICTIM).on()
    stack.wait_state(VICTIM, "HEALTHY", 60)
    stack.wait(lambda: not lab.host(VICTIM).virsh("list", "--all", "--name").strip(), 60, "the stale domains are gone")
    for name, owner in ((name, vm.owner_host_id) for name, vm in stack.vms().items() if name in names):
        lab.host(owner).virsh(f"destroy {name} ; undefine {name}")
    stack.wait(lambda: not stack.vms(), 30, "the guests are forgotten")


def show(
    console: Console, guests: int, profile: str, recoveries: Sequence[Recovery], floors: Sequence[Floor], aim_s: float
) -> bool:
    """Print the figures; returns whether the aims hold: cut to first beat below aim_s, the rest below 1.3 times the floor."""
    table = Table(title=f"{guests} guests, profile {profile}, {len(recoveries)} power cuts: seconds from the cut")
    for heading in ("", "min", "median", "max"):
        table.add_column(heading, justify="left" if not heading else "right")
    for index, phase in enumerate(PHASES):
        table.add_row(phase, *_spread([recovery.at[index] for recovery in recoveries]))
    table.add_section()
    ours = [recovery.after_fenced for recovery in recoveries]
    table.add_row("fenced -> first beat", *_spread([first for first, _ in ours]))
    table.add_row("fenced -> last beat", *_spread([last for _, last in ours]))
    table.add_row("floor: first beat", *_spread([floor.first_s for floor in floors]))
    table.add_row("floor: last beat", *_spread([floor.last_s for floor in floors]))
    console.print(table)
    ratio = statistics.median(last for _, last in ours) / statistics.median(floor.last_s for floor in floors)
    first = statistics.median(recovery.at[3] for recovery in recoveries)
    console.print(
        f"last beat after fenced: {ratio:.2f} times the floor (aim 1.3); cut -> first beat: {first:.2f} s (aim {aim_s:.1f})\n"
    )
    return first < aim_s and (profile != "fast" or ratio < 1.3)


def _spread(seconds: Sequence[float]) -> tuple[str, str, str]:
    return f"{min(seconds):.2f}", f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}"


def _figures(at: Sequence[float]) -> str:
    return ", ".join(f"{phase} {second:.2f}" for phase, second in zip(PHASES, at, strict=True))


if __name__ == "__main__":
    sys.exit(main())
