"""`make demo`: a real host is lost, and its guests come up on the others, before your eyes.

Sets up three hosts with six guests, Redis, manager, evacuator and agents; loses one host; shows what each service sees and does;
ends with a table of every guest that had to move, by the guests' own beats; takes everything down. Exit 0 only when all that is
true.

SCENARIO=power cuts the host's power, and its fence device proves it. SCENARIO=isolation cuts both its cables, and there is no
fence device at all: the host lives on, alone, with its guests, until it stops them itself; only then do they start elsewhere.
SCENARIO=rules gives the host guests of every kind (lab.demo_rules).
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lab import Lab, LabError, demo_rules, missing_for_a_lab
from lab.narrate import Narrator
from lab.paper import PaperLab, missing_for_paper
from lab.stack import Stack, StackError, running
from lab.system import command_of, pids

GUESTS_PER_HOST = 2
HOSTS = 3
VICTIM = "host1"
SCENARIOS = {
    "power": f"power of {VICTIM} is cut",
    "rules": f"power of {VICTIM} is cut; each of its guests has rules of its own",
    "isolation": f"both cables of {VICTIM} are cut; its guests run on, nobody can reach it, and it has no fence device",
}
SETTLE_S = {"fast": 60, "standard": 400}
RECOVER_S = {"fast": 60, "standard": 260}


@dataclass(frozen=True, slots=True)
class Moved:
    """One guest's way, by its own beats: the last one where it was, and the first one where it is now."""

    name: str
    source: str
    target: str
    last_beat: str
    first_beat: str
    last_at: float
    first_at: float


def main() -> int:
    """Run the demo; returns the exit code."""
    arguments = _arguments()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    try:
        with _lab(console) as lab:
            if arguments.scenario != "power" and not isinstance(lab, Lab):
                raise LabError(f"{arguments.scenario} needs real hosts: libvirt's test driver has neither cables nor disks")
            if arguments.scenario == "rules" and isinstance(lab, Lab):
                code = demo_rules.run(console, lab, arguments.profile)
            else:
                code = _run(console, lab, arguments.profile, arguments.scenario)
        return code or _nothing_is_left(console, str(lab.directory))
    except (LabError, StackError) as error:
        console.print(f"[red]demo: {error}[/]")
        return 1
    except KeyboardInterrupt:
        console.print("[yellow]interrupted; everything was taken down[/]")
        return 130


def _lab(console: Console) -> Lab | PaperLab:
    missing = missing_for_a_lab()
    if missing is None:
        return Lab()
    console.print(f"[yellow]No real hosts here: {missing}.[/]")
    if missing := missing_for_paper():
        raise LabError(f"not on libvirt's test driver either: {missing}")
    console.print("[yellow]The same on libvirt's test driver, which pretends to run guests: hosts are loopback addresses.[/]")
    return PaperLab()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description="Lose a host, watch its VMs come up elsewhere.")
    parser.add_argument("--profile", choices=sorted(RECOVER_S), default="fast", help="timers: fast, or the reference's figures")
    parser.add_argument("--scenario", choices=list(SCENARIOS), default="power", help="how the host is lost")
    return parser.parse_args()


def _run(console: Console, lab: Lab | PaperLab, profile: str, scenario: str) -> int:
    started = time.monotonic()
    fence = scenario == "power"
    device = "a fence device" if fence else "no fence device"
    console.print(
        f"[bold]vmha demo[/]: {HOSTS} hosts with libvirtd, QEMU and an agent each; Redis, manager, evacuator; {device};"
        f" profile {profile}"
    )
    placed = {f"vm{i + 1}": f"host{i // GUESTS_PER_HOST + 1}" for i in range(HOSTS * GUESTS_PER_HOST)}
    with running(Stack(lab=lab, hosts=HOSTS, profile=profile, fence=fence)) as stack:
        stack.create_guests(placed)
        console.print(f"{len(placed)} guests beat: " + ", ".join(f"{vm} on {host}" for vm, host in placed.items()))
        console.print("waiting until the manager has learnt the cluster (it confirms nothing before) ...")
        stack.wait_settled(len(placed), SETTLE_S[profile])
        console.print(f"settled {time.monotonic() - started:.0f} s after the start; HA is active\n")
        moved = _lose_a_host(console, stack, placed, RECOVER_S[profile], scenario)
        lab.beats.check()
    _show(console, moved, beats=isinstance(lab, Lab))
    return 0


def _nothing_is_left(console: Console, directory: str) -> int:
    """Look for what the demo may have left behind: processes and mounts that name its directory."""
    left = [f"process {pid}" for pid in pids() if any(directory in word for word in command_of(pid))]
    left += [f"mount {line.split()[1]}" for line in Path("/proc/mounts").read_text().splitlines() if directory in line]
    if left:
        console.print(f"[red]left behind: {', '.join(left)}[/]")
        return 1
    console.print("everything was taken down")
    return 0


def _lose_a_host(console: Console, stack: Stack, placed: dict[str, str], timeout_s: float, scenario: str) -> list[Moved]:
    victims = [name for name, host in placed.items() if host == VICTIM]
    cut_at = time.monotonic()
    with Narrator(console, stack, cut_at):
        console.print(f"[bold red]+0.00 s  {SCENARIOS[scenario]}[/] (running there: {', '.join(victims)})")
        if scenario == "isolation" and isinstance(stack.lab, Lab):
            stack.lab.host(VICTIM).cut()
        else:
            stack.lab.host(VICTIM).kill()
        stack.wait(lambda: all(stack.lab.beats.after(name, cut_at) for name in victims), timeout_s, "every guest beats elsewhere")
        stack.wait_state(VICTIM, "EVACUATED", 30)
        # Its event is the last line of the story.
        told = stack.events.host_state_at
        stack.wait(lambda: told(VICTIM, "EVACUATED", cut_at) is not None, 5, "the events are told")
    owners = {name: vm.owner_host_id for name, vm in stack.vms().items()}
    others = [name for name in placed if name not in victims and owners[name] != placed[name]]
    if others:
        raise StackError(f"guests of healthy hosts were moved: {', '.join(others)}")
    moved = [_moved(stack, name, owners[name], cut_at) for name in victims]
    if scenario == "isolation":
        lived_s = max(row.last_at for row in moved) - cut_at
        first_s = min(row.first_at for row in moved) - cut_at
        console.print(
            f"\n{VICTIM} kept its guests for {lived_s:.1f} s and then stopped them itself: neither the manager nor a majority of"
            f" its peers had answered.\nThe first one beat elsewhere {first_s - lived_s:.1f} s later."
        )
    return moved


def _moved(stack: Stack, name: str, target: str, cut_at: float) -> Moved:
    after = stack.lab.beats.after(name, cut_at)
    earlier = [beat for beat in stack.lab.beats.of(name) if after is not None and beat.gen < after.gen]
    before = earlier[-1] if earlier else None
    if before is None or after is None:
        raise StackError(f"{name} has no beat before or after the cut")
    if target == VICTIM:
        raise StackError(f"{name} beats, but the store says that {VICTIM} owns it")
    return Moved(
        name, VICTIM, target, f"boot {before.gen} beat {before.beat}", f"boot {after.gen} beat {after.beat}", before.at, after.at
    )


def _show(console: Console, moved: list[Moved], *, beats: bool) -> None:
    table = Table(title="\nEvery guest of the dead host, " + ("by its own beats" if beats else "by libvirt's word"))
    for heading in ("VM", "from", "to", "last beat before", "first beat after"):
        table.add_column(heading)
    table.add_column("outage", justify="right")
    for row in moved:
        table.add_row(row.name, row.source, row.target, row.last_beat, row.first_beat, f"{row.first_at - row.last_at:.2f} s")
    console.print(table)
    console.print("none ran twice: no guest's beat went backwards, no two boots of one guest interleave")


if __name__ == "__main__":
    sys.exit(main())
